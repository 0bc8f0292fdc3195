"""The keys below ``devices.NAME``: what can be asked of a single device."""

from typing import Any

from launcher_hook.cpuset import CPUSET_PATTERN, MAX_MEMBER, parse_cpuset
from launcher_hook.keys import (
    Key,
    check_keys,
    check_mapping,
    choice,
    describe_keys,
    number,
    refusal,
    text,
)
from launcher_hook.settings import DeviceOptions

_EXAMPLE = "{gpu0: {bootOrder: 1}}"
_ON_OFF = ("on", "off")


def check_devices(value: Any, where: str) -> dict[str, DeviceOptions]:
    """Check options by device.

    Raises:
        InputError: A key is not known, or a value is not allowed.
    """
    devices = check_mapping(value, where, _EXAMPLE)
    return {name: _check_options(options, f"{where}.{name}") for name, options in devices.items()}


def _check_options(value: Any, where: str) -> DeviceOptions:
    options = check_keys(check_mapping(value, where, "{bootOrder: 1}"), DEVICE_KEYS, where)
    for group in ("rom", "driver"):
        inner = options.pop(group, {})
        options |= {f"{group}_{name}": given for name, given in inner.items()}
    return DeviceOptions(**options)


def _group(keys: dict[str, Key], example: str, meaning: str) -> Key:
    """A mapping of keys of its own."""

    def check(value: Any, where: str) -> dict[str, Any]:
        return check_keys(check_mapping(value, where, example), keys, where)

    return Key("{" + ", ".join(f"{name}: {key.values}" for name, key in keys.items()) + "}",
               meaning, check, describe_keys(keys))  # fmt: skip


def _nodeset(value: Any, where: str) -> str:
    try:
        if isinstance(value, str) and parse_cpuset(value) and " " not in value:
            return value
    except ValueError:
        pass
    raise refusal(where, value, "is no set of NUMA cells", "write e.g. 0-1 or 0,2")


_ROM = {
    "bar": choice(_ON_OFF, "Whether the guest sees the ROM."),
    "file": text(
        r"/.*",
        "path",
        "A file that stands for it.",
        "write an absolute path in the compute container, e.g. /var/run/roms/gpu.rom",
    ),
}
_DRIVER = {
    "name": choice(("vfio",), "libvirt's driver."),
    "model": text(
        r"[a-zA-Z0-9_+-]{1,64}",
        "host driver",
        "The host driver.",
        "write a driver's name, e.g. mlx5_vfio_pci",
    ),
    "iommufd": choice(("yes", "no"), "Whether it is opened through /dev/iommu."),
}

DEVICE_KEYS = {
    "rom": _group(
        _ROM,
        "{bar: off}",
        "The option ROM: bar says whether the guest sees one, file is one for it (in the compute "
        "container, in a directory that `--rom-dir` of the deployment allows).",
    ),
    "driver": _group(
        _DRIVER,
        "{name: vfio}",
        "libvirt's driver of a PCI function: model (libvirt 11.3 has it, 9.0 not) is vfio-pci or a "
        "variant of it, and wins over what `managed` chooses; iommufd (12.8 has it, 11.3 not) "
        "opens it, and what comes along with it, through /dev/iommu.",
    ),
    "bootOrder": number(1, 65535, "Place in the boot order; no other device may have it."),
    "xVga": choice(
        _ON_OFF,
        "QEMU's x-vga: the legacy VGA ranges go to this VGA function. Written as a "
        "`qemu:override`, which taints the domain.",
    ),
    "p2pClique": number(
        0,
        15,
        "NVIDIA GPUs of one clique do DMA to each other (x-nv-gpudirect-clique); not GeForce. "
        "Written as a `qemu:override`, which taints the domain.",
    ),
    "display": choice(
        _ON_OFF,
        "Whether QEMU shows the screen of a vGPU: a mediated device, or (libvirt 11.3 has it, "
        "9.0 not) a vGPU's virtual function.",
    ),
    "ramfb": choice(_ON_OFF, "A boot framebuffer for that screen; needs display: on."),
    "acpiNodeset": Key(
        "cells, e.g. 0-1",
        "Guest NUMA cells that are the device's own memory (libvirt 12.8 has it, 11.3 not).",
        _nodeset,
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_MEMBER},
                {"type": "string", "pattern": CPUSET_PATTERN},
            ]
        },
    ),
}
