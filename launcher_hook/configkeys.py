"""The configuration's keys: what each takes, its default and what it means."""

from collections.abc import Mapping
from typing import Any, get_args

from launcher_hook.devicekeys import DEVICE_KEYS, check_devices
from launcher_hook.errors import InputError
from launcher_hook.keys import (
    Key,
    check_keys,
    check_mapping,
    choice,
    describe_keys,
    refusal,
    setting_of,
)
from launcher_hook.pci import BDF_EXAMPLE, BDF_SCHEMA, PciAddress
from launcher_hook.settings import MAX_HOLE_BYTES, Companions, Layout, Managed, PciHole64, Settings
from launcher_hook.sizes import MIB, SIZE_SCHEMA, parse_size, round_up


def check_values(values: Mapping[str, Any], where: str) -> Settings:
    """Turn a configuration as YAML has it into settings.

    Raises:
        InputError: A key is not known, or a value is not allowed.
    """
    return Settings(**check_keys(values, KEYS, where))


def default_of(key: str) -> object:
    """What holds where a key is not given."""
    return getattr(Settings(), setting_of(key))


def print_default(key: str) -> str:
    """The same, as it would be written."""
    default = default_of(key)
    return str(default).lower() if isinstance(default, bool) else str(default)


def _truth(value: Any, where: str) -> bool:
    # YAML's three spellings of a boolean (YAML 1.2, 10.3.2), which an editor takes for one.
    if value in ("true", "True", "TRUE"):
        return True
    if value in ("false", "False", "FALSE"):
        return False
    raise refusal(where, value, "is not allowed", "write true or false")


def _pci_hole(value: Any, where: str) -> PciHole64:
    if value in ("off", "auto"):
        return value  # type: ignore[no-any-return]
    fix = "write off, auto or a size from 1MiB to 16TiB, e.g. 512G"
    try:
        size_bytes = parse_size(value) if isinstance(value, str) else 0
    except ValueError as error:
        raise InputError(where, str(error).partition("; ")[0], fix) from None
    if not 0 < size_bytes <= MAX_HOLE_BYTES:
        raise refusal(where, value, "is not allowed", fix)
    return round_up(size_bytes, MIB)


def _guest_addresses(value: Any, where: str) -> dict[str, PciAddress]:
    slots = check_mapping(value, where, '{gpu0: "0000:00:08.0"}')
    return {name: _guest_address(bdf, f"{where}.{name}") for name, bdf in slots.items()}


def _guest_address(bdf: Any, where: str) -> PciAddress:
    if not isinstance(bdf, str):
        raise refusal(where, bdf, "is not a guest address", BDF_EXAMPLE)
    try:
        return PciAddress.parse(bdf)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise InputError(where, what, fix or BDF_EXAMPLE) from None


KEYS = {
    "layout": choice(
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
        {"enum": [True, False, "true", "false"]},
    ),
    "companions": choice(
        get_args(Companions),
        "Other functions of an allocated function's slot (GPU audio, USB, UCSI) that share its "
        "IOMMU group and are bound to vfio-pci: attach, always or ignore. attach leaves them out "
        "where iommufd opens the devices and the pod may lack their device nodes; always does not.",
    ),
    "managed": choice(
        get_args(Managed),
        "libvirt's managed attribute. yes: libvirt binds the function to vfio-pci (written as "
        "`<driver name='vfio' model='vfio-pci'/>`, without which libvirt 10.0 and newer look for "
        "a variant) and gives it back to its driver; a function on a variant of vfio-pci, or a "
        "vGPU's, keeps its driver and is written with no. no: the function stays on the vfio "
        "driver that it is bound to. keep: as the launcher wrote it, companions as their "
        "function. SR-IOV interfaces are always as the launcher wrote them.",
    ),
    "slots": Key(
        "name: guest address",
        "Guest addresses by device name, alias, host BDF or mdev UUID, e.g. "
        '{gpu0: "0000:00:08.0"}.',
        _guest_addresses,
        {"type": "object", "additionalProperties": BDF_SCHEMA},
    ),
    "pciHole64": Key(
        "off, auto, size",
        "Address space for 64-bit BARs, written as pcihole64 and, for a UEFI guest, told to OVMF "
        "(`qemu:commandline` with opt/ovmf/X-PciMmio64Mb, which taints the domain). auto is what "
        "the assigned functions' BARs need, from the node's /sys, with what OVMF keeps in each "
        "port; a size that is too small for them is a warning; off writes nothing and leaves what "
        "is there. KubeVirt's annotation kubevirt.io/disablePCIHole64 is for having none.",
        _pci_hole,
        {"anyOf": [{"enum": ["off", "auto"]}, SIZE_SCHEMA]},
    ),
    "devices": Key(
        "name: options",
        "What is asked of single devices, by the same names as slots; see below.",
        check_devices,
        {"type": "object", "additionalProperties": describe_keys(DEVICE_KEYS)},
    ),
}
