"""What a domain says of its guest's address space: memory, firmware, CPU, the hole for PCI."""

from contextlib import suppress

from launcher_hook.domain.address import parse_number
from launcher_hook.domain.document import Element
from launcher_hook.domain.inspect import root_controllers
from launcher_hook.domain.qemu import told_to_ovmf
from launcher_hook.mmio import AddressSpace
from launcher_hook.sizes import GIB, scale

_QEMUS_BITS = 40
"""Of every CPU model that is told nothing else (target/i386/cpu.c, TCG_PHYS_ADDR_BITS), and of all
of them without KVM (QEMU 7.2: host-phys-bits changes nothing there)."""

_NODES_CPU = ("host-passthrough", "maximum")
"""QEMU's host and max, which have host-phys-bits switched on (target/i386/host-cpu.c)."""

_ALIASES = ("", "q35", "pc")
"""Machine types that stand for a newest one, of QEMU's or of a distribution's."""

_UEFI_NAMES = ("ovmf", "aavmf", "edk2")
_UEFI_ONLY = ("sev-snp", "tdx")


def read_space(root: Element) -> AddressSpace:
    """Read what the hole's size depends on; what cannot be read counts as absent."""
    memory = _size(root.find("./memory")) or 0
    most = root.find("./maxMemory")
    slots = 0
    if most is not None:
        with suppress(ValueError):
            slots = parse_number(most.get("slots", "0"))
    grows = max(0, (_size(most) or 0) - memory)
    return AddressSpace(
        is_uefi=_is_uefi(root),
        memory_bytes=memory,
        hotplug_bytes=grows + slots * GIB if grows else 0,  # hw/i386/pc.c: 1 GiB a slot
        phys_bits=_phys_bits(root),
        phys_bits_said=root.find("./cpu/maxphysaddr") is not None,
        hole_bytes=_hole(root),
        told_mib=tuple(told_to_ovmf(root)),
    )


def _is_uefi(root: Element) -> bool:
    firmware = root.find("./os")
    if firmware is not None and firmware.get("firmware") == "efi":
        return True
    # SEV-SNP and TDX have their OVMF as a ROM (kubevirt converter/compute/os.go), which SeaBIOS,
    # bios-256k.bin, is too.
    security = root.find("./launchSecurity")
    if security is not None and security.get("type") in _UEFI_ONLY:
        return True
    loader = root.find("./os/loader")
    if loader is None:
        return False
    name = (loader.text or "").strip().rpartition("/")[2].lower()
    return loader.get("type") == "pflash" or any(part in name for part in _UEFI_NAMES)


def _phys_bits(root: Element) -> int | None:
    """Physical address bits as configured; None where they are the node's, or not known."""
    said = root.find("./cpu/maxphysaddr")
    if said is not None:
        limit = said.get("bits" if said.get("mode") == "emulate" else "limit")
        with suppress(ValueError):
            return parse_number(limit) if limit else None
        return None
    if root.get("type") == "qemu":
        return _QEMUS_BITS
    cpu, os_type = root.find("./cpu"), root.find("./os/type")
    machine = os_type.get("machine", "") if os_type is not None else ""
    # Red Hat's machine types have host-phys-bits switched on.
    if (
        "rhel" in machine
        or machine in _ALIASES
        or (cpu is not None and cpu.get("mode") in _NODES_CPU)
    ):
        return None
    return _QEMUS_BITS


def _hole(root: Element) -> int | None:
    for controller in root_controllers(root):
        hole = controller.find("./pcihole64")
        if hole is not None:
            return _size(hole)
    return None


def _size(element: Element | None) -> int | None:
    if element is None:
        return None
    return scale((element.text or "").strip(), element.get("unit", "KiB"))
