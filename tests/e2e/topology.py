"""Level 1's PCI devices: what QEMU is told on level 0, and where level 1 finds them by role.

A two-socket server: expander buses of two NUMA nodes, below them root ports and switches, so that
every distance occurs between two functions. Bus numbers and IOMMU groups are the kernel's to give,
so a role is found by the way to it: expander bus, then slot.function of each bridge, which are
written here.
"""

from pathlib import Path

_NODE_0 = 0x20
_ALSO_NODE_0 = 0x50
_NODE_1 = 0x80

# Role: expander bus, way. Vendor and device ids are what QEMU's models have.
FUNCTIONS: dict[str, tuple[int, tuple[str, ...]]] = {
    "gpu-a": (_NODE_0, ("00.0", "00.0")),
    "gpu-a-audio": (_NODE_0, ("00.0", "00.1")),
    "direct": (_NODE_0, ("01.0", "00.0")),
    "nic": (_NODE_0, ("02.0", "00.0")),
    "gpu-b": (_ALSO_NODE_0, ("00.0", "00.0")),
    "gpu-b-audio": (_ALSO_NODE_0, ("00.0", "00.1")),
    "switched": (_ALSO_NODE_0, ("01.0", "00.0", "00.0", "00.0")),
    "beside": (_ALSO_NODE_0, ("01.0", "00.0", "01.0", "00.0")),
    "cascaded": (_ALSO_NODE_0, ("01.0", "00.0", "02.0", "00.0", "00.0", "00.0")),
    "gpu-c": (_NODE_1, ("00.0", "00.0")),
    "gpu-c-audio": (_NODE_1, ("00.0", "00.1")),
    "nvme-sriov": (_NODE_1, ("01.0", "00.0")),
    "nvme": (_NODE_1, ("02.0", "00.0")),
}
VF_COUNT = 2
IDS = {
    "gpu-a": "1234:1111",
    "gpu-a-audio": "8086:293e",
    "gpu-b": "1234:1111",
    "gpu-b-audio": "8086:293e",
    "nic": "8086:10d3",
    "direct": "1234:11e8",
    "switched": "1234:11e8",
    "beside": "1234:11e8",
    "cascaded": "1234:11e8",
    "gpu-c": "1234:1111",
    "gpu-c-audio": "8086:293e",
    "nvme-sriov": "1b36:0010",
    "vf-0": "1b36:0010",
    "vf-1": "1b36:0010",
    "nvme": "1b36:0010",
}
ONE_GROUP = ("switched", "beside", "cascaded")
"""QEMU's switches have no ACS: what is behind them is one IOMMU group."""

NVME_TEXT = "launcher-hook e2e, block 0"
"""At the beginning of the nvme's only disk: what a guest reads by DMA."""


def qemu_devices(nvme_image: Path) -> list[str]:
    """QEMU's arguments for the devices."""
    text = f"""
    -device pxb-pcie,id=node0,bus=pcie.0,bus_nr=0x20,numa_node=0,addr=0x10
      -device pcie-root-port,id=a0,bus=node0,chassis=1,slot=1,addr=0x0
        -device bochs-display,bus=a0,addr=0.0,multifunction=on,romfile=
        -device ich9-intel-hda,bus=a0,addr=0.1
      -device pcie-root-port,id=a1,bus=node0,chassis=2,slot=2,addr=0x1
        -device edu,bus=a1
      -device pcie-root-port,id=a2,bus=node0,chassis=3,slot=3,addr=0x2
        -netdev user,id=net0,restrict=on
        -device e1000e,bus=a2,netdev=net0,mac=52:54:00:00:00:01,romfile=
    -device pxb-pcie,id=also0,bus=pcie.0,bus_nr=0x50,numa_node=0,addr=0x12
      -device pcie-root-port,id=c0,bus=also0,chassis=4,slot=4,addr=0x0
        -device bochs-display,bus=c0,addr=0.0,multifunction=on,romfile=
        -device ich9-intel-hda,bus=c0,addr=0.1
      -device pcie-root-port,id=c1,bus=also0,chassis=5,slot=5,addr=0x1
        -device x3130-upstream,id=switch,bus=c1
          -device xio3130-downstream,id=s0,bus=switch,chassis=6,slot=6,addr=0x0
            -device edu,bus=s0
          -device xio3130-downstream,id=s1,bus=switch,chassis=10,slot=10,addr=0x1
            -device edu,bus=s1
          -device xio3130-downstream,id=s2,bus=switch,chassis=11,slot=11,addr=0x2
            -device x3130-upstream,id=below,bus=s2
              -device xio3130-downstream,id=t0,bus=below,chassis=12,slot=12,addr=0x0
                -device edu,bus=t0
    -device pxb-pcie,id=node1,bus=pcie.0,bus_nr=0x80,numa_node=1,addr=0x11
      -device pcie-root-port,id=b0,bus=node1,chassis=7,slot=7,addr=0x0
        -device bochs-display,bus=b0,addr=0.0,multifunction=on,romfile=
        -device ich9-intel-hda,bus=b0,addr=0.1
      -device pcie-root-port,id=b1,bus=node1,chassis=8,slot=8,addr=0x1
        -device nvme-subsys,id=subsys0
        -device nvme,id=pf,bus=b1,serial=SRIOV,subsys=subsys0,sriov_max_vfs=4,sriov_vq_flexible=8,\
sriov_vi_flexible=4,max_ioqpairs=12,msix_qsize=9
      -device pcie-root-port,id=b2,bus=node1,chassis=9,slot=9,addr=0x2
        -drive file={nvme_image},if=none,id=disk,format=raw
        -device nvme,bus=b2,serial=PLAIN,drive=disk
    """
    return text.split()
