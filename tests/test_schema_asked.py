"""Options that a libvirt does not know are refused with its version."""

from dataclasses import replace
from pathlib import Path

import pytest
from cases import pinned_schemas, read_case
from lxml import etree

from launcher_hook.config import read_settings
from launcher_hook.errors import PlanError
from launcher_hook.render import render_domain
from launcher_hook.schema import load_schemas
from launcher_hook.sysfs import HostTree

CELLS = b"<cpu><numa><cell id='0' cpus='0' memory='1'/></numa></cpu></domain>"


def render(scratch: Path, version: str, **options: str) -> bytes:
    inputs = read_case("readme", scratch)
    settings = read_settings(assignments=[f"devices.gpu0.{k}={v}" for k, v in options.items()])
    domain = inputs.domain_xml.replace(b"</domain>", CELLS)
    domain = domain.replace(b"<devices>", b"<devices><graphics type='vnc'/>")
    inputs = replace(inputs, domain_xml=domain, settings=settings, host=HostTree(None))
    return render_domain(inputs, pinned_schemas(version)).xml


UNKNOWN = [
    ("9.0.0", {"driver": "{iommufd: yes}"}, "driver.iommufd"),
    ("11.3.0", {"driver": "{iommufd: yes}"}, "driver.iommufd"),
    ("9.0.0", {"driver": "{name: vfio, model: mlx5_vfio_pci}"}, "driver.model"),
    ("9.0.0", {"acpiNodeset": "0"}, "acpiNodeset"),
    ("11.3.0", {"acpiNodeset": "0"}, "acpiNodeset"),
    ("9.0.0", {"display": "on"}, "display"),
]
IDS = [f"{version}-{key}" for version, _, key in UNKNOWN]


@pytest.mark.parametrize(("version", "options", "key"), UNKNOWN, ids=IDS)
def test_what_a_libvirt_does_not_know_is_refused_by_its_name(
    version: str, options: dict[str, str], key: str, tmp_path: Path
) -> None:
    message = rf"devices.ua-gpu-gpu0.{key}: libvirt {version} does not know it: .*; take it out; if"
    with pytest.raises(PlanError, match=message):
        render(tmp_path, version, **options)


@pytest.mark.parametrize(
    ("version", "options", "written"),
    [
        ("11.3.0", {"driver": "{model: mlx5_vfio_pci}"}, b'<driver model="mlx5_vfio_pci"/>'),
        ("11.3.0", {"display": "on", "ramfb": "on"}, b'managed="no" display="on" ramfb="on"'),
        ("9.0.0", {"driver": "{name: vfio}"}, b'<driver name="vfio" model="vfio-pci"/>'),
        ("9.0.0", {"rom": "{bar: off}", "bootOrder": "9"}, b'<boot order="9"/>'),
    ],
)
def test_what_it_knows_is_written(
    version: str, options: dict[str, str], written: bytes, tmp_path: Path
) -> None:
    assert written in render(tmp_path, version, **options)


@pytest.mark.parametrize(
    "options", [{"driver": "{iommufd: yes}"}, {"acpiNodeset": "0"}, {"display": "on"}]
)
def test_without_libvirts_schemas_our_own_knows_them_all(
    options: dict[str, str], tmp_path: Path
) -> None:
    inputs = read_case("readme", tmp_path)
    settings = read_settings(assignments=[f"devices.gpu0.{k}={v}" for k, v in options.items()])
    domain = inputs.domain_xml.replace(b"</domain>", CELLS)
    domain = domain.replace(b"<devices>", b"<devices><graphics type='vnc'/>")
    inputs = replace(inputs, domain_xml=domain, settings=settings, host=HostTree(None))
    xml = render_domain(inputs, load_schemas(roots=())).xml
    assert render_domain(replace(inputs, domain_xml=xml), load_schemas(roots=())).xml == xml


def test_a_driver_stands_beside_its_source_also_in_a_hostdev_that_was_there(tmp_path: Path) -> None:
    inputs = read_case("kept-parts", tmp_path)
    domain = inputs.domain_xml.replace(b'<driver name="vfio"></driver>', b"")
    settings = read_settings(assignments=["devices.gpu0.driver.name=vfio"])
    inputs = replace(inputs, domain_xml=domain, settings=settings)
    xml = render_domain(inputs, pinned_schemas("11.3.0")).xml
    hostdev = etree.fromstring(xml).find("devices/hostdev")
    assert hostdev is not None
    assert [child.tag for child in hostdev.iterchildren(tag=etree.Element)][:2] == [
        "source",
        "driver",
    ]
