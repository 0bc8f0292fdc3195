"""Which device can have which option, and in which guest."""

from dataclasses import replace

import pytest

from launcher_hook.errors import PlanError
from launcher_hook.model import Assignment, HostFacts, HostFunction, PresentHostdev
from launcher_hook.options import GuestParts, resolve_options, take_for_vgpu
from launcher_hook.pci import PciAddress
from launcher_hook.settings import DeviceOptions

UUID = "4fac1d3e-6f3a-4d43-8f0e-9d1a4e6b2c10"
GPU, AUDIO, VF = (PciAddress.parse(f"0000:86:00.{function}") for function in (0, 1, 4))

ASSIGNED = (
    Assignment(GPU, "ua-gpu-gpu0", "", name="gpu0"),
    Assignment(AUDIO, "ua-pci-audio", "", is_companion=True),
    Assignment(VF, "ua-gpu-vgpu", "", name="vgpu"),
    Assignment(UUID, "ua-gpu-mdev", "", name="mdev"),
)
FACTS = HostFacts(
    known=True,
    functions={
        GPU: HostFunction(GPU, 0x10DE, 0x1F08, 0x030000, driver="vfio-pci"),
        AUDIO: HostFunction(AUDIO, 0x10DE, 0x10F9, 0x040300, driver="vfio-pci"),
        VF: HostFunction(VF, 0x10DE, 0x2236, 0x030200, driver="nvidia", vfio_device="vfio3"),
    },
)
GUEST = GuestParts(boot_orders={1: "disk ua-root"}, has_graphics=True, cells=frozenset({0, 1}))


def resolve(
    facts: HostFacts = FACTS,
    guest: GuestParts = GUEST,
    assigned: tuple[Assignment, ...] = ASSIGNED,
    name: str | None = None,
    **asked: DeviceOptions,
) -> tuple[dict[str, DeviceOptions], tuple[str, ...]]:
    return resolve_options(asked, assigned, facts, guest, ["/roms"], lambda _: name)


def test_options_are_found_by_alias() -> None:
    options = DeviceOptions(boot_order=2, x_vga="on", acpi_nodeset="0-1", rom_file="/roms/x")
    assert resolve(gpu0=options) == ({"ua-gpu-gpu0": options}, ())


@pytest.mark.parametrize("name", ["vgpu", "mdev"])
def test_a_vgpu_has_a_screen(name: str) -> None:
    options = DeviceOptions(display="on", ramfb="on")
    assert resolve(**{name: options})[0] == {f"ua-gpu-{name}": options}


def test_a_framebuffer_goes_with_the_display_that_the_launcher_wrote() -> None:
    shown = PresentHostdev(UUID, "ua-gpu-mdev", None, display="on")
    assigned = (replace(ASSIGNED[3], present=shown),)
    assert resolve(assigned=assigned, mdev=DeviceOptions(ramfb="on"))[1] == ()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpu0", DeviceOptions(display="on"), "gpu0.display: .* and this is a whole function"),
        ("gpu0", DeviceOptions(display="off"), "gpu0.display: .* and this is a whole function"),
        ("gpu0", DeviceOptions(ramfb="on"), "gpu0.ramfb: .* and this is a whole function"),
        ("mdev", DeviceOptions(ramfb="on"), "mdev.ramfb: .*; write display: on too"),
        ("vgpu", DeviceOptions(ramfb="on", display="off"), "vgpu.ramfb: .*write display: on too"),
        ("mdev", DeviceOptions(rom_bar="on"), "mdev.rom.bar: .* it is a mediated device"),
        ("mdev", DeviceOptions(rom_file="/roms/x"), "mdev.rom.file: .* it is a mediated device"),
        ("mdev", DeviceOptions(driver_name="vfio"), "mdev.driver.name: .* it is a mediated dev"),
        ("mdev", DeviceOptions(driver_model="x"), "mdev.driver.model: .* it is a mediated dev"),
        ("mdev", DeviceOptions(driver_iommufd="yes"), "mdev.driver.iommufd: .* it is a mediated"),
        ("mdev", DeviceOptions(boot_order=3), "mdev.bootOrder: .* it is a mediated device"),
        ("mdev", DeviceOptions(x_vga="on"), "mdev.xVga: .* it is a mediated device"),
        ("mdev", DeviceOptions(p2p_clique=0), "mdev.p2pClique: .* it is a mediated device"),
        ("mdev", DeviceOptions(acpi_nodeset="0"), "mdev.acpiNodeset: .* it is a mediated device"),
        ("vgpu", DeviceOptions(x_vga="on"), r"vgpu.xVga: .* class is 030200, not VGA \(0300\)"),
        ("gpu0", DeviceOptions(boot_order=1), "gpu0.bootOrder: 1 is the place of disk ua-root too"),
        (
            "gpu0",
            DeviceOptions(acpi_nodeset="1-2"),
            "gpu0.acpiNodeset: .* no NUMA cell 2; its cells are: 0, 1",
        ),
    ],
)
def test_what_libvirt_or_qemu_would_refuse_or_overlook_is_refused(
    name: str, options: DeviceOptions, message: str
) -> None:
    with pytest.raises(PlanError, match=f"^devices.{message}"):
        resolve(**{name: options})


def test_what_is_not_known_of_a_device_is_not_refused() -> None:
    options = DeviceOptions(display="on", x_vga="on", p2p_clique=1)
    assert resolve(facts=HostFacts(), gpu0=options) == ({"ua-gpu-gpu0": options}, ())


def test_a_guest_without_graphics_shows_no_screen() -> None:
    with pytest.raises(PlanError, match="mdev.display: .* no graphics device to show it; let it"):
        resolve(guest=GuestParts(), mdev=DeviceOptions(display="on"))
    assert resolve(guest=GuestParts(), mdev=DeviceOptions(display="off"))[1] == ()


def test_a_place_in_the_boot_order_excludes_booting_by_kind() -> None:
    with pytest.raises(PlanError, match="bootOrder: .*<os><boot dev=...>.*; give its other dev"):
        resolve(guest=GuestParts(boots_by_kind=True), gpu0=DeviceOptions(boot_order=2))


def test_a_place_of_an_earlier_pass_is_ones_own() -> None:
    guest = GuestParts(our_boot_orders={GPU: 2, VF: 3})
    assert resolve(guest=guest, gpu0=DeviceOptions(boot_order=2))[1] == ()
    with pytest.raises(PlanError, match="gpu0.bootOrder: 3 is the place of ua-gpu-vgpu too"):
        resolve(guest=guest, gpu0=DeviceOptions(boot_order=3))
    # It has moved on itself.
    moved = DeviceOptions(boot_order=4)
    assert resolve(guest=guest, gpu0=DeviceOptions(boot_order=3), vgpu=moved)[1] == ()


def test_a_geforce_in_a_clique_is_warned_of() -> None:
    _, (warning,) = resolve(name="TU106 [GeForce RTX 2060]", gpu0=DeviceOptions(p2p_clique=0))
    assert "gpu0.p2pClique: TU106 [GeForce RTX 2060] is a GeForce" in warning
    assert resolve(name="GH100 [H100 SXM5 80GB]", gpu0=DeviceOptions(p2p_clique=0))[1] == ()
    assert resolve(name=None, gpu0=DeviceOptions(p2p_clique=0))[1] == ()


def test_a_function_with_a_display_is_a_vgpus_and_keeps_its_driver() -> None:
    shown = DeviceOptions(display="off")
    vgpu = take_for_vgpu(ASSIGNED[2], shown)
    assert (vgpu.managed, vgpu.keep_driver) == ("no", True)
    assert take_for_vgpu(ASSIGNED[2], DeviceOptions(rom_bar="on")) is ASSIGNED[2]
    assert take_for_vgpu(ASSIGNED[3], shown) is ASSIGNED[3]


def test_what_comes_along_is_opened_in_the_same_way() -> None:
    found, _ = resolve(gpu0=DeviceOptions(driver_iommufd="yes", boot_order=2))
    assert found == {
        "ua-gpu-gpu0": DeviceOptions(driver_iommufd="yes", boot_order=2),
        "ua-pci-audio": DeviceOptions(driver_iommufd="yes"),
    }
    there = PresentHostdev(AUDIO, "ua-pci-audio", None)  # of an earlier pass
    again = (ASSIGNED[0], Assignment(AUDIO, "ua-pci-audio", "", present=there))
    found, _ = resolve(assigned=again, gpu0=DeviceOptions(driver_iommufd="yes"))
    assert found["ua-pci-audio"] == DeviceOptions(driver_iommufd="yes")
    own = {"ua-pci-audio": DeviceOptions(driver_iommufd="no", rom_bar="off")}
    found, _ = resolve(gpu0=DeviceOptions(driver_iommufd="yes"), **own)
    assert found["ua-pci-audio"] == own["ua-pci-audio"]
