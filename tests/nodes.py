"""Nodes as people buy them for GPUs: their ``/sys``, and what of it a VM is given.

Bridge chains as ``lspci -tv`` shows them on such machines; addresses are made up where the shape is
all that counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hosttree import HostDevice, add_node_cpus, bridge, build_host_tree, gpu

_GROUPS = count(1000)


@dataclass(frozen=True)
class Node:
    """A machine and an allocation on it.

    Attributes:
        allocated: What a variable would hold, comma-separated.
        sockets: How many NUMA nodes it has, of 16 CPUs each.
    """

    name: str
    devices: tuple[HostDevice, ...]
    allocated: str
    sockets: int = 1

    def build(self, root: Path) -> Path:
        """Write its ``/sys``."""
        build_host_tree(root, self.devices)
        for node in range(self.sockets if self.sockets > 1 else 0):
            add_node_cpus(root, node, f"{16 * node}-{16 * node + 15}")
        return root


def _endpoint(bdf: str, parent: str, numa: int, kind: str) -> HostDevice:
    vendor, device, cls = {
        "gpu": (0x10DE, 0x2330, 0x030200),
        "nic": (0x15B3, 0x1021, 0x020000),
    }[kind]
    return HostDevice(
        bdf, vendor, device, cls, next(_GROUPS), numa, "vfio-pci", parent, bars=(1 << 24, 1 << 37)
    )


def _switch(
    root_port: str, first_bus: int, numa: int, below: tuple[str, ...]
) -> Iterator[HostDevice]:
    """A switch behind a root port or a downstream port, a downstream port for each device."""
    up = f"0000:{first_bus:02x}:00.0"
    yield bridge(up, numa=numa, parent=root_port)
    for number, kind in enumerate(below):
        down = f"0000:{first_bus + 1:02x}:{number:02x}.0"
        yield bridge(down, numa=numa, parent=up)
        yield _endpoint(f"0000:{first_bus + 2 + number:02x}:00.0", down, numa, kind)


def hgx() -> Node:
    """HGX H100: 8 GPUs on 4 switches, two NICs at each, two switches a socket."""
    devices: list[HostDevice] = []
    allocated = []
    for number, root_bus in enumerate((0x15, 0x37, 0x97, 0xB7)):
        numa = number // 2
        root_port = f"0000:{root_bus:02x}:01.0"
        switch = list(_switch(root_port, root_bus + 1, numa, ("nic", "gpu", "gpu", "nic")))
        devices += [bridge(root_port, numa=numa), *switch]
        allocated += [d.bdf for d in switch if d.driver == "vfio-pci"]
    return Node("HGX, 8 GPUs and 8 NICs on 4 switches", tuple(devices), ",".join(allocated), 2)


def two_sockets() -> Node:
    """A PCIe server: 4 GPUs, each behind a root port; two of one host bridge, two of one socket."""
    devices: list[HostDevice] = []
    for port, numa in (
        ("0000:16:01.0", 0), ("0000:16:03.0", 0), ("0000:97:01.0", 1), ("0000:c9:01.0", 1)
    ):  # fmt: skip
        devices.append(bridge(port, numa=numa))
    ports = [device.bdf for device in devices]
    gpus = ("0000:17:00.0", "0000:18:00.0", "0000:98:00.0", "0000:ca:00.0")
    for number, (bdf, port) in enumerate(zip(gpus, ports, strict=True)):
        devices.append(_endpoint(bdf, port, number // 2, "gpu"))
    return Node("2 sockets, 4 GPUs", tuple(devices), ",".join(gpus), 2)


def workstation() -> Node:
    """One socket, one consumer GPU with its audio, USB and UCSI functions."""
    port = bridge("0000:00:01.0", numa=-1)
    card = gpu("0000:01:00.0", parent=port.bdf, group=next(_GROUPS), numa=-1)
    return Node("workstation, GPU of 4 functions", (port, *card), "0000:01:00.0")


def sriov() -> Node:
    """Two VFs of a NIC and a GPU behind one switch, another GPU behind the next root port."""
    numa = 0
    ports = [bridge("0000:3a:00.0", numa=numa), bridge("0000:3a:02.0", numa=numa)]
    switch = [bridge("0000:3b:00.0", numa=numa, parent=ports[0].bdf)]
    switch += [bridge(f"0000:3c:{n:02x}.0", numa=numa, parent="0000:3b:00.0") for n in range(2)]
    pf = HostDevice(
        "0000:3d:00.0", 0x15B3, 0x101D, 0x020000, next(_GROUPS), numa, "mlx5_core", "0000:3c:00.0"
    )
    vfs = [
        HostDevice(f"0000:3d:00.{n}", 0x15B3, 0x101E, 0x020000, next(_GROUPS), numa, "vfio-pci",
                   "0000:3c:00.0", pf.bdf)
        for n in (2, 3)
    ]  # fmt: skip
    gpus = [
        _endpoint("0000:3e:00.0", "0000:3c:01.0", numa, "gpu"),
        _endpoint("0000:4a:00.0", "0000:3a:02.0", numa, "gpu"),
    ]
    allocated = ",".join(device.bdf for device in (*vfs, *gpus))
    return Node("SR-IOV NIC beside a GPU", (*ports, *switch, pf, *vfs, *gpus), allocated, 2)


def cascade() -> Node:
    """A box of 8 GPUs on two switches that hang on a third, which has the NIC."""
    port = bridge("0000:80:01.0", numa=1)
    top = list(_switch(port.bdf, 0x81, 1, ("nic",)))
    devices = [port, *top]
    gpus = []
    for number in range(2):
        down = bridge(f"0000:82:{number + 8:02x}.0", numa=1, parent="0000:81:00.0")
        switch = list(_switch(down.bdf, 0x90 + 8 * number, 1, ("gpu",) * 4))
        devices += [down, *switch]
        gpus += [d.bdf for d in switch if d.driver == "vfio-pci"]
    return Node("8 GPUs on cascaded switches", tuple(devices), ",".join(("0000:83:00.0", *gpus)), 2)


def nodes() -> tuple[Node, ...]:
    """All of them."""
    return (hgx(), two_sockets(), workstation(), sriov(), cascade())
