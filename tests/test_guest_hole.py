"""A guest's own firmware maps every BAR in the hole that was planned.

In the place of each passed-through function stands an emulated one with a BAR of the same size.
Without being told, OVMF finds no room for the second of two GPUs with 64 GiB. Of four it leaves one
out where what it keeps in each of the guest's ports is not counted.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from cases import read_case
from guest_firmware import emulated, enumerate_by_firmware, find_ovmf
from hosttree import HostDevice, bridge, build_host_tree
from libvirt_driver import LibvirtDriver
from libvirt_trials import Trial, trial
from lxml import etree
from topology_trials import two_cells

from launcher_hook.env import parse_allocations
from launcher_hook.render import Inputs
from launcher_hook.settings import Layout, Settings
from launcher_hook.sizes import GIB, MIB
from launcher_hook.sysfs import HostTree
from launcher_hook.windows import windows_of

BUSES = ("86", "af", "b0", "b1", "b2", "b3", "b4", "b5")


@pytest.mark.parametrize(
    ("case", "gpus", "size"),
    [("hole-auto", 2, 64 * GIB), ("hole-auto", 4, 16 * GIB), ("hole-auto-bios", 2, 64 * GIB)],
    ids=["OVMF, 2 GPUs", "OVMF, 4 GPUs", "SeaBIOS, 2 GPUs"],
)
def test_firmware_maps_every_bar_in_the_hole(
    case: str, gpus: int, size: int, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    sizes = bars_of(BUSES[:gpus], size)
    t = trial(case, with_gpus(read_case(case, tmp_path / "case"), sizes, tmp_path / "sys"))
    code = find_ovmf() if b"pflash" in t.ours else None
    check_all_are_mapped(t, sizes, libvirt, code)


@pytest.mark.parametrize("layout", ["root-port", "root-bus", "numa", "mirror"])
def test_ovmf_of_2025_maps_every_bar_in_each_layout(
    layout: Layout, libvirt: LibvirtDriver, tmp_path: Path
) -> None:
    """Expander buses too, behind which OVMF of 2022 maps none."""
    sizes = bars_of(("17", "98"), 64 * GIB)
    inputs = Inputs(
        domain_xml=with_uefi(two_cells()),
        where="two sockets",
        allocations=parse_allocations({"PCI_RESOURCE_GPU": "0000:17:00.0,0000:98:00.0"}),
        host=HostTree(two_sockets_with(sizes, tmp_path / "sys")),
        settings=Settings(layout=layout, pci_hole64="auto"),
    )
    check_all_are_mapped(trial(layout, inputs), sizes, libvirt, find_ovmf("trixie"))


def check_all_are_mapped(
    t: Trial, sizes: dict[str, int], libvirt: LibvirtDriver, code: Path | None
) -> None:
    arguments = libvirt.qemu_argv(t.ours)
    decision = t.rendered.decision
    names = {p.assignment.alias for p in decision.plan.placements}
    assert len(names) == len(sizes)
    ports = windows_of(decision.plan, decision.topology, {}).ports
    assert len(ports) == sum('"pcie-root-port"' in argument for argument in arguments)
    assert enumerate_by_firmware(emulated(arguments, sizes), names, code).keys() == names


def bars_of(buses: tuple[str, ...], size: int) -> dict[str, int]:
    """A large and a small BAR a GPU, each of a function of its own."""
    return {
        f"0000:{bus}:00.{function}": bar
        for bus in buses
        for function, bar in enumerate((size, 32 * MIB))
    }


def with_gpus(inputs: Inputs, sizes: dict[str, int], root: Path) -> Inputs:
    """A case with other GPUs, on a node that has them."""
    functions = [
        HostDevice(bdf, group=int(bdf[5:7], 16), driver="vfio-pci", bars=(size,))
        for bdf, size in sizes.items()
    ]
    (variable,) = inputs.allocations
    gpus = ",".join(bdf for bdf in sizes if bdf.endswith(".0"))
    return replace(
        inputs,
        allocations=parse_allocations({variable: gpus}),
        host=HostTree(build_host_tree(root, functions)),
    )


def two_sockets_with(sizes: dict[str, int], root: Path) -> Path:
    """Functions behind a root port of each socket."""
    ports = {"17": "0000:16:01.0", "98": "0000:97:01.0"}
    numa = {"17": 0, "98": 1}
    return build_host_tree(
        root,
        [
            *(bridge(port, numa=numa[bus]) for bus, port in ports.items()),
            *(
                HostDevice(bdf, group=int(bdf[5:7], 16), numa=numa[bdf[5:7]], driver="vfio-pci",
                           parent=ports[bdf[5:7]], bars=(size,))
                for bdf, size in sizes.items()
            ),
        ],
    )  # fmt: skip


def with_uefi(domain_xml: bytes) -> bytes:
    domain = etree.fromstring(domain_xml)
    place = domain.find("os")
    assert place is not None
    loader = etree.SubElement(place, "loader", readonly="yes", secure="no", type="pflash")
    loader.text = "/usr/share/OVMF/OVMF_CODE.fd"
    if domain.find("features/acpi") is None:
        etree.SubElement(etree.SubElement(domain, "features"), "acpi")
    return etree.tostring(domain)
