"""Which functions libvirt is to bind to vfio-pci, and which it must leave on their driver."""

from dataclasses import replace
from pathlib import Path

import pytest
from hosttree import HostDevice, build_host_tree
from lxml import etree

from launcher_hook.binding import binding_warnings, decide_binding, take_asked_driver
from launcher_hook.config import read_settings
from launcher_hook.errors import PlanError
from launcher_hook.model import Assignment, HostFunction, PresentHostdev
from launcher_hook.pci import PciAddress
from launcher_hook.render import Inputs, Rendered, render_domain
from launcher_hook.schema import load_schemas
from launcher_hook.settings import Managed, Settings
from launcher_hook.sysfs import HostTree

VF = PciAddress.parse("0000:86:00.1")
VARIANTS = (
    "mlx5_vfio_pci", "nvgrace_gpu_vfio_pci", "hisi_acc_vfio_pci", "virtio_vfio_pci",
    "qat_vfio_pci", "xe-vfio-pci",
)  # fmt: skip
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def on(driver: str | None, **others: object) -> HostFunction:
    return replace(HostFunction(VF, driver=driver), **others)  # type: ignore[arg-type]


def written(managed: str | None = "no", **others: object) -> Assignment:
    """The assignment of a hostdev that the launcher wrote."""
    present = PresentHostdev(VF, "ua-gpu-vf", None, managed, **others)  # type: ignore[arg-type]
    return Assignment(VF, "ua-gpu-vf", "test", present=present)


def decided(
    assignment: Assignment, function: HostFunction | None, managed: Managed = "yes"
) -> tuple[str, str | None]:
    result = decide_binding(assignment, function, Settings(managed=managed))
    return result.managed, result.driver_model


@pytest.mark.parametrize("driver", ["vfio-pci", "nouveau", "", None])
def test_a_managed_function_is_bound_to_vfio_pci_and_to_no_variant(driver: str | None) -> None:
    assert decided(written(), on(driver)) == ("yes", "vfio-pci")


def test_a_function_of_a_node_that_is_not_known_as_well() -> None:
    assert decided(written(), None) == ("yes", "vfio-pci")


@pytest.mark.parametrize("managed", ["yes", "no", "keep"])
@pytest.mark.parametrize("driver", VARIANTS)
def test_a_function_on_a_variant_stays_there(driver: str, managed: Managed) -> None:
    assert decided(written(), on(driver), managed) == ("no", None)
    assert decided(written("yes"), on(driver), managed) == ("no", None)


def test_a_function_whose_native_driver_provides_vfio_stays_there() -> None:
    result = decide_binding(written(), on("nvidia", vfio_device="vfio7"), Settings())
    assert (result.managed, result.driver_model, result.keep_driver) == ("no", None, True)


def test_managed_no_names_no_driver() -> None:
    assert decided(written(), on("vfio-pci"), "no") == ("no", None)


@pytest.mark.parametrize(
    ("by_launcher", "expected"),
    [("no", ("no", None)), ("yes", ("yes", "vfio-pci")), (None, ("yes", "vfio-pci"))],
)
def test_managed_keep_leaves_what_is_written(
    by_launcher: str | None, expected: tuple[str, str | None]
) -> None:
    assert decided(written(by_launcher), on("vfio-pci"), "keep") == expected


@pytest.mark.parametrize("managed", ["yes", "no"])
def test_under_managed_keep_a_companion_is_written_as_its_function(managed: str) -> None:
    settings = Settings(managed="keep")
    function = decide_binding(written(managed), on("vfio-pci"), settings)
    companion = Assignment(VF.with_function(2), "ua-pci-x", "test", is_companion=True)
    beside = HostFunction(VF.with_function(2), driver="vfio-pci")
    assert decide_binding(companion, beside, settings, function).managed == managed


@pytest.mark.parametrize(("by_launcher", "expected"), [("no", "no"), ("yes", "yes"), (None, "no")])
def test_what_virt_launcher_unplugs_by_itself_stays_as_written(
    by_launcher: str | None, expected: str
) -> None:
    nic = replace(written(by_launcher), unplugged_by_launcher=True)
    assert decided(nic, on("vfio-pci")) == (expected, None)


@pytest.mark.parametrize(
    "driver", [{"driver_name": "kvm"}, {"driver_name": "vfio", "driver_model": "mlx5_vfio_pci"}]
)
def test_a_driver_that_the_launcher_has_chosen_stays(driver: dict[str, str]) -> None:
    assert decided(written(**driver), on("vfio-pci")) == ("yes", None)


def test_a_mediated_device_comes_back_as_it_is() -> None:
    vgpu = Assignment(UUID, "ua-gpu-vgpu", "test")
    assert decide_binding(vgpu, None, Settings(managed="no")) is vgpu


@pytest.mark.parametrize(
    ("bound", "asked", "setting", "managed"),
    [
        ("mlx5_vfio_pci", "mlx5_vfio_pci", "yes", "no"),
        ("xe-vfio-pci", "xe_vfio_pci", "yes", "no"),
        ("mlx5_vfio_pci", "vfio-pci", "yes", "yes"),
        ("mlx5_vfio_pci", "vfio-pci", "no", "no"),
        ("mlx5_vfio_pci", "vfio-pci", "keep", "no"),
        ("vfio-pci", "mlx5_vfio_pci", "yes", "yes"),
        ("mlx5_core", "mlx5_vfio_pci", "yes", "yes"),
    ],
)
def test_the_configurations_own_model_wins(
    bound: str, asked: str, setting: Managed, managed: str
) -> None:
    settings = Settings(managed=setting)
    assignment = decide_binding(written(), on(bound), settings)
    result = take_asked_driver(assignment, asked, on(bound), settings)
    assert (result.managed, result.driver_model) == (managed, None)


def test_a_warning_says_which_libvirt_cannot_start_a_variant() -> None:
    function = on("mlx5_vfio_pci")
    assignment = decide_binding(written(), function, Settings())
    (warning,) = binding_warnings(assignment, function, Settings())
    assert warning == (
        "0000:86:00.1 (ua-gpu-vf): it is bound to 'mlx5_vfio_pci', and managed='yes' would have "
        "libvirt take it off that driver; managed='no' is written, with which libvirt 11.3 starts "
        "the VM and 9.0 does not: for 9.0 bind it to vfio-pci"
    )
    assert binding_warnings(assignment, function, Settings(managed="no")) == ()
    assert binding_warnings(assignment, on("vfio-pci"), Settings()) == ()


# A whole domain ------------------------------------------------------------------------------

DOMAIN = """<domain type='kvm'><name>vm</name><memory>1</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
{hostdevs}
</devices></domain>"""
SOURCE = "<source><address domain='0x0000' bus='0x86' slot='0x00' function='0x{n}'/></source>"


def hostdev(n: int, driver: str = "", alias: str = "ua-hostdevice-vf{n}") -> str:
    return (
        f"<hostdev mode='subsystem' type='pci' managed='no'>{SOURCE.format(n=n)}{driver}"
        f"<alias name='{alias.format(n=n)}'/></hostdev>"
    )


def render(
    scratch: Path,
    *hostdevs: str,
    config: str = "",
    version: str | None = None,
    drivers: tuple[str, ...] = ("vfio-pci",) * 3,
) -> Rendered:
    """Render VFs 0000:86:00.1 and above, each in a group of its own on its driver."""
    functions = [
        HostDevice(f"0000:86:00.{n}", 0x15B3, 0x101E, group=n, driver=driver, physfn="0000:86:00.0")
        for n, driver in enumerate(drivers, start=1)
    ]
    if not (scratch / "sys").exists():
        physical = HostDevice("0000:86:00.0", 0x15B3, 0x1021, group=40, driver="mlx5_core")
        build_host_tree(scratch / "sys", [physical, *functions])
    inputs = Inputs(
        domain_xml=DOMAIN.format(hostdevs="\n".join(hostdevs)).encode(),
        host=HostTree(scratch / "sys"),
        settings=read_settings(("config.yaml", config.encode()) if config else None, None),
    )
    return render_domain(inputs, load_schemas(version), explain=True)


def drivers_of(rendered: Rendered) -> list[str]:
    root = etree.fromstring(rendered.xml)
    return [
        " ".join(f"{name}={value}" for name, value in driver.attrib.items())
        for driver in root.iterfind("devices/hostdev/driver")
    ]


def test_the_driver_stands_behind_the_source(tmp_path: Path) -> None:
    root = etree.fromstring(render(tmp_path, hostdev(1)).xml)
    (device,) = root.iterfind("devices/hostdev")
    assert [child.tag for child in device] == ["source", "driver", "alias", "address"]


@pytest.mark.parametrize("version", ["9.0.0", "11.3.0", None])
def test_a_libvirt_that_knows_no_model_is_no_reason_to_refuse(
    version: str | None, tmp_path: Path, libvirt_schemas: None
) -> None:
    rendered = render(tmp_path, hostdev(1), version=version)
    assert drivers_of(rendered) == ["name=vfio model=vfio-pci"]
    assert rendered.warnings == ()


@pytest.mark.parametrize("model", ["vfio-pci", "mlx5_vfio_pci"])
def test_a_model_that_was_asked_for_and_is_not_known_is_refused(
    model: str, tmp_path: Path, libvirt_schemas: None
) -> None:
    config = f"devices: {{ua-hostdevice-vf1: {{driver: {{model: {model}}}}}}}"
    with pytest.raises(PlanError, match=r"vf1.driver.model: libvirt 9.0.0 does not know it"):
        render(tmp_path, hostdev(1), config=config, version="9.0.0")
    rendered = render(tmp_path, hostdev(1), config=config, version="11.3.0")
    assert drivers_of(rendered) == [f"model={model}"]


def test_what_the_launcher_wrote_into_the_driver_stays(
    tmp_path: Path, libvirt_schemas: None
) -> None:
    devices = (
        hostdev(1, "<driver iommufd='yes'/>"),
        hostdev(2, "<driver name='kvm'/>"),
        hostdev(3, "<driver iommufd='yes'/>", alias="ua-sriov-net{n}"),
    )
    rendered = render(tmp_path, *devices)
    assert drivers_of(rendered) == [
        "iommufd=yes name=vfio model=vfio-pci", "name=kvm", "iommufd=yes",
    ]  # fmt: skip
    assert b'<hostdev mode="subsystem" type="pci" managed="no"' in rendered.xml


def test_what_comes_along_opened_through_iommufd_is_bound_as_well(
    tmp_path: Path, libvirt_schemas: None
) -> None:
    config = "devices: {ua-hostdevice-vf1: {driver: {iommufd: yes}}}"
    rendered = render(tmp_path, hostdev(1), config=config)
    assert drivers_of(rendered) == ["name=vfio model=vfio-pci iommufd=yes"]


def test_a_render_on_another_driver_than_the_last_one_leaves_it_alone(tmp_path: Path) -> None:
    first = hostdev(1, "<driver name='vfio' model='vfio-pci'/>").replace("'no'", "'yes'")
    rendered = render(tmp_path, first, drivers=("mlx5_vfio_pci",))
    assert b'managed="no"' in rendered.xml
    assert len(rendered.decision.plan.warnings) == 1
