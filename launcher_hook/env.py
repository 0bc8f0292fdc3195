"""``PCI_RESOURCE_*`` and ``MDEV_PCI_RESOURCE_*``: what kubelet's device plugins gave the pod."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from launcher_hook.errors import InputError
from launcher_hook.mdev import parse_mdev_uuid
from launcher_hook.model import Allocation, HostSource
from launcher_hook.pci import BDF_EXAMPLE, PciAddress

# kubevirt pkg/util/util.go: ResourceNameToEnvVar; pkg/virt-handler/device-manager/common.go.
PCI_PREFIX = "PCI_RESOURCE_"
MDEV_PREFIX = "MDEV_PCI_RESOURCE_"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def variable_of(resource: str, prefix: str = PCI_PREFIX) -> str:
    """Name the variable of an extended resource.

    Only ``/`` and ``.`` are replaced; a hyphen stays. Two resources can have one variable, so
    the mapping has no inverse.
    """
    return prefix + resource.upper().replace("/", "_").replace(".", "_")


def find_allocations(resource: str, allocations: Mapping[str, Allocation]) -> list[Allocation]:
    """Find what was allocated of a resource: functions, then mediated devices."""
    names = [variable_of(resource, prefix) for prefix in (PCI_PREFIX, MDEV_PREFIX)]
    return [allocations[name] for name in names if name in allocations]


def parse_allocations(environ: Mapping[str, str]) -> Mapping[str, Allocation]:
    """Pick the device variables out of an environment, by variable name.

    Raises:
        InputError: A value holds something that is not an address (a UUID), or one twice.
    """
    allocations = {}
    for variable in sorted(environ):
        if variable.startswith(PCI_PREFIX):
            allocations[variable] = _parse(variable, environ[variable], PciAddress.parse)
        elif variable.startswith(MDEV_PREFIX):
            allocations[variable] = _parse(variable, environ[variable], parse_mdev_uuid)
    return allocations


def _parse(variable: str, value: str, parse_item: Callable[[str], HostSource]) -> Allocation:
    items = value.split(",")
    if not items[-1].strip():
        items.pop()  # NVIDIA's plugin and KubeVirt's leave one comma behind
    sources: dict[HostSource, int] = {}
    for position, item in enumerate(items, start=1):
        where = f"{variable}, item {position} of {len(items)}"
        text = item.strip()
        if not text:
            raise InputError(where, "'' is empty", "take the extra comma out")
        try:
            source = parse_item(text)
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            raise InputError(
                where, f"{text!r}: {what}" if not fix else what, fix or BDF_EXAMPLE
            ) from None
        first = sources.setdefault(source, position)
        if first != position:
            raise InputError(where, f"{text!r} is item {first} already", "name each device once")
    return Allocation(variable, tuple(sources))


def parse_assignment(text: str, where: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``.

    Raises:
        InputError: There is no ``=``, or the name is none of a variable.
    """
    name, equals, value = text.partition("=")
    if not equals or _NAME.fullmatch(name) is None:
        raise InputError(
            where, f"{text!r} is not NAME=VALUE", f"write {PCI_PREFIX}...=0000:3b:00.0"
        )
    return name, value


def parse_env_file(lines: Iterable[str], where: str) -> Mapping[str, str]:
    """Read ``NAME=VALUE`` lines, as ``env`` prints them; ``#`` begins a comment line.

    Lines of other variables may be anything: a value that spans lines is none of ours.

    Raises:
        InputError: A line that begins like one of our variables is not ``NAME=VALUE``, or no line
            at all is: then it is some other file.
    """
    variables = {}
    is_env = False
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix("export ").lstrip()
        if text.startswith((PCI_PREFIX, MDEV_PREFIX)):
            name, value = parse_assignment(text, f"{where}:{number}")
            variables[name] = value.strip("\"'")
        head, equals, _ = text.partition("=")
        is_env = is_env or (bool(equals) and _NAME.fullmatch(head) is not None)
    if not is_env:
        raise InputError(
            where, "it holds no NAME=VALUE", "give what 'env' prints in the compute container"
        )
    return variables


def merge_environments(layers: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """Lay environments over each other; a later one wins."""
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(layer)
    return merged
