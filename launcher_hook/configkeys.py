"""The configuration's keys: what each takes, its default and what it means.

Checked by hand and not by pydantic: a model of these few keys took 19 MB and 210 ms of CPU, of the
64 MB and 0.2 cores that a hook has while a VM waits for its domain.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from launcher_hook.errors import InputError, shorten
from launcher_hook.model import Companions, Layout, Managed, Settings
from launcher_hook.pci import BDF_EXAMPLE, PciAddress


@dataclass(frozen=True, slots=True)
class Key:
    """What one key of the configuration takes.

    Attributes:
        values: What it takes, in the README's words.
        meaning: One sentence or two.
        check: Turns a value as YAML has it (text, list, mapping or None) into that of Settings;
            its second argument is the value's place, for the InputError that it raises.
    """

    values: str
    meaning: str
    check: Callable[[Any, str], object]


def check_values(values: Mapping[str, Any], where: str) -> Settings:
    """Turn a configuration as YAML has it into settings.

    Raises:
        InputError: A key is not known, or a value is not allowed.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in KEYS:
            raise InputError(f"{where}: {name}", "there is no such key", _nearest(name))
        checked[name] = KEYS[name].check(value, f"{where}: {name}")
    return Settings(**checked)


def _nearest(name: object) -> str:
    from difflib import get_close_matches

    near = get_close_matches(str(name), KEYS, n=1, cutoff=0.4)
    return f"write {near[0]!r}" if near else f"the keys are {', '.join(KEYS)}"


def _choice(choices: tuple[str, ...], meaning: str) -> Key:
    *most, last = (repr(choice) for choice in choices)

    def check(value: Any, where: str) -> object:
        if value in choices:
            return value
        fix = f"write {', '.join(most)} or {last}"
        raise InputError(where, f"{shorten(value)} is not allowed", fix)

    return Key(", ".join(choices), meaning, check)


def _truth(value: Any, where: str) -> bool:
    if value not in ("true", "false"):
        raise InputError(where, f"{shorten(value)} is not allowed", "write true or false")
    return bool(value == "true")


def _guest_addresses(value: Any, where: str) -> dict[str, PciAddress]:
    if not isinstance(value, dict):
        raise InputError(
            where, f"{shorten(value)} is not a mapping", 'write e.g. {gpu0: "0000:00:08.0"}'
        )
    return {name: _guest_address(bdf, f"{where}.{name}") for name, bdf in value.items()}


def _guest_address(bdf: Any, where: str) -> PciAddress:
    if not isinstance(bdf, str):
        raise InputError(where, f"{shorten(bdf)} is not a guest address", BDF_EXAMPLE)
    try:
        return PciAddress.parse(bdf)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise InputError(where, what, fix or BDF_EXAMPLE) from None


KEYS = {
    "layout": _choice(
        get_args(Layout),
        "Where devices go in the guest: root-port puts each host slot behind a pcie-root-port of "
        "its own, root-bus puts it on bus 0; auto is root-port on q35 and virt, root-bus on "
        "i440fx. numa puts the ports of each guest NUMA cell on an expander bus of that cell; "
        "mirror repeats the host's root complexes and switches, so that every two devices are as "
        "far apart as on the node.",
    ),
    "strict": Key(
        "true, false",
        "Whether a device whose NUMA node the guest does not have (numa, mirror), or a distance "
        "that cannot be kept (mirror), is an error; otherwise it is a warning.",
        _truth,
    ),
    "companions": _choice(
        get_args(Companions),
        "Other functions of an allocated function's slot (GPU audio, USB, UCSI) that share its "
        "IOMMU group and are bound to vfio-pci: attach or ignore.",
    ),
    "managed": _choice(
        get_args(Managed),
        "libvirt's managed attribute: yes lets libvirt bind and reset the function, keep leaves "
        "what the launcher wrote.",
    ),
    "slots": Key(
        "name: guest address",
        "Guest addresses by device name, alias, host BDF or mdev UUID, e.g. "
        '{gpu0: "0000:00:08.0"}.',
        _guest_addresses,
    ),
}
