"""Plans to draw: decisions made by the program from small nodes, and made up ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cases import CASES
from hosttree import HostDevice, add_mdev, bridge, build_host_tree, gpu

from launcher_hook.env import parse_allocations, parse_env_file
from launcher_hook.model import (
    Assignment,
    GuestPlan,
    GuestTopology,
    HostFacts,
    HostFunction,
    Machine,
    Placement,
    PlannedController,
)
from launcher_hook.pci import PciAddress
from launcher_hook.pciids import PciNames, load_names
from launcher_hook.render import Decision, Inputs, plan_domain
from launcher_hook.settings import DeviceOptions, Settings
from launcher_hook.snapshot import open_host
from launcher_hook.sysfs import HostTree
from launcher_hook.vmi import Vmi, parse_vmi

PICTURES = Path(__file__).parent.parent / "fixtures" / "pictures"
HGX = PICTURES / "hgx"

T4 = ("4b20d080-1b54-4048-85b3-a6a62d165c01", "aa618089-8b16-4d01-a136-25a0f3c73123")

OPTIONS = Settings(
    pci_hole64=64 << 30, devices={"gpu0": DeviceOptions(rom_bar="off", boot_order=1)}
)
"""Of the first GPU, and of the guest."""

TWO_CARDS = (
    bridge("0000:80:01.0", group=30, numa=0),
    bridge("0000:ae:01.0", group=31, numa=1),
    *gpu("0000:86:00.0", group=42, numa=0, parent="0000:80:01.0")[:2],
    *gpu("0000:af:00.0", group=71, numa=1, parent="0000:ae:01.0")[:2],
)


@dataclass(frozen=True)
class Scene:
    """What is planned.

    Attributes:
        case: Whose domain and VMI; "" for the HGX node and its VM.
        env: Variables, a line each; the case's own where there are none.
        mdevs: By the function that they are a part of.
    """

    name: str
    case: str = ""
    env: str = ""
    devices: Sequence[HostDevice] = ()
    mdevs: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)

    def decide(self, scratch: Path) -> Decision:
        """Plan it."""
        directory = CASES / self.case if self.case else HGX
        vmi = next(iter(directory.glob("vmi.*")), None)
        env = self.env or next((f.read_text() for f in directory.glob("*env")), "")
        host = open_host(HGX / "node.json") if not self.case else HostTree(None)
        if self.devices:
            root = build_host_tree(scratch / "sys", self.devices)
            for number, uuid in enumerate(self.mdevs):
                add_mdev(root, uuid, self.devices[-1].bdf, 90 + number, "GRID T4-1Q")
            host = HostTree(root)
        return plan_domain(
            Inputs(
                domain_xml=(directory / "domain.xml").read_bytes(),
                vmi=Vmi() if vmi is None else parse_vmi(vmi.read_bytes(), vmi.name),
                allocations=parse_allocations(
                    parse_env_file(env.splitlines(), "env") if env else {}
                ),
                host=host,
                settings=self.settings,
            )
        )


def all_functions() -> tuple[HostDevice, ...]:
    """A workstation's card, all of its functions in one group with another card's NIC."""
    port = bridge("0000:00:01.0", numa=-1, group=1)
    nic = HostDevice("0000:02:00.0", group=1, driver="vfio-pci", parent="0000:00:02.0")
    return (
        port,
        bridge("0000:00:02.0", numa=-1, group=1),
        *gpu("0000:01:00.0", parent=port.bdf, group=1, numa=-1),
        nic,
    )


SCENES = (
    Scene("hgx-root-port", settings=Settings(layout="root-port")),
    Scene("hgx-numa", settings=Settings(layout="numa")),
    Scene("two-gpus", "readme", devices=TWO_CARDS),
    Scene(
        "companions-ignored", "readme", devices=TWO_CARDS, settings=Settings(companions="ignore")
    ),
    Scene("workstation", "nothing-to-do", "PCI_RESOURCE_GPU=0000:01:00.0", all_functions()),
    Scene(
        "order-changed",
        "readme",
        devices=TWO_CARDS,
        settings=Settings(slots={"gpu1": PciAddress(0, 0x18, 0, 0)}),
    ),
    Scene(
        "mediated",
        "nothing-to-do",
        f"MDEV_PCI_RESOURCE_NVIDIA_COM_GRID_T4-1Q={','.join(T4)}",
        (
            bridge("0000:3a:00.0", numa=0),
            HostDevice("0000:3b:00.0", 0x10DE, 0x1EB8, 0x030200, 40, 0, "nvidia", "0000:3a:00.0"),
        ),
        T4,
    ),
    Scene("root-bus", "readme-root-bus", devices=TWO_CARDS, settings=Settings(layout="root-bus")),
    Scene("node-not-known", "readme"),
    Scene("nothing", "nothing-to-do"),
)


def names(*lines: str, scratch: Path | None = None) -> PciNames:
    """Names of our own: those of a machine's pci.ids change with its packages."""
    if scratch is None:
        return load_names(HGX / "pci.ids")
    file = scratch / "pci.ids"
    file.write_text("".join(f"{line}\n" for line in lines))
    return load_names(file)


def made_up(
    devices: Sequence[str | None], *, machine: str = "q35", aliases: Sequence[str] = ()
) -> Decision:
    """As many functions, on a switch each three, in the guest behind root ports.

    Args:
        devices: The VMI's names, which nothing checks here.
        machine: The machine's type.
        aliases: Of the devices; numbered where there are none.
    """
    functions, placements, ports = [], [], []
    for number, name in enumerate(devices):
        bus, slot = divmod(number, 3)
        chain = (
            PciAddress(0, 0x10 + bus, 1, 0),
            PciAddress(0, 0x40 + bus, 0, 0),
            PciAddress(0, 0x70 + bus, slot, 0),
        )
        address = PciAddress(0, 0xA0 + bus, slot, 0)
        functions.append(
            HostFunction(address, 0x10DE, 0x2330, 0x030200, number // 2, bus % 3, "", bridges=chain)
        )
        alias = aliases[number] if aliases else f"ua-{number}"
        at = PciAddress(0, 24 + number, 0, 0)
        placements.append(
            Placement(Assignment(address, alias, "made up", name), at, False, "made up")
        )
        port = PciAddress(0, 0, 0x10 + number // 8, number % 8)
        ports.append(PlannedController(24 + number, "pcie-root-port", port))
    return Decision(
        GuestPlan(tuple(placements), tuple(ports), warnings=tuple(filter(None, devices))),
        GuestTopology(Machine.Q35, machine, {}, {}, 0, 0),
        HostFacts(True, {f.address: f for f in functions}),
    )
