"""A running VM's domain becomes what it was before its first start, as far as its devices go."""

from dataclasses import replace
from pathlib import Path

import pytest
from cases import CASES, SHARED_DOMAINS, case_names, read_case
from commandline import run
from nodes import hgx
from topology_trials import two_cells

from launcher_hook.domain.forget import forget_places
from launcher_hook.env import parse_allocations
from launcher_hook.errors import InputError
from launcher_hook.model import HostSource
from launcher_hook.pci import PciAddress
from launcher_hook.render import Inputs, plan_domain, render_domain
from launcher_hook.schema import load_schemas
from launcher_hook.settings import Layout, Settings
from launcher_hook.sysfs import HostTree
from launcher_hook.vmi import parse_vmi

SCHEMAS = load_schemas()
RENDERED = [name for name in case_names() if (CASES / name / "expected.xml").exists()]


def rendered(inputs: Inputs) -> bytes:
    return render_domain(inputs, SCHEMAS).xml


def places(inputs: Inputs) -> dict[HostSource, PciAddress | None]:
    placements = plan_domain(inputs).plan.placements
    return {p.assignment.source: p.guest_address for p in placements}


def planned(inputs: Inputs) -> tuple[object, ...]:
    plan = plan_domain(inputs).plan
    return places(inputs), plan.controllers, plan.hole


@pytest.mark.parametrize("name", RENDERED)
def test_planned_anew_every_device_comes_where_it_was_at_first(name: str, tmp_path: Path) -> None:
    inputs = read_case(name, tmp_path)
    inputs = replace(inputs, domain_xml=forget_places(inputs.domain_xml))
    anew = replace(inputs, domain_xml=forget_places(rendered(inputs)))
    assert planned(anew) == planned(inputs)


@pytest.mark.parametrize("layout", ["root-port", "root-bus", "numa", "mirror"])
def test_a_layout_that_a_devices_address_keeps_from_it_is_had_anew(
    layout: Layout, tmp_path: Path
) -> None:
    node = hgx()
    inputs = Inputs(
        two_cells(),
        allocations=parse_allocations({"PCI_RESOURCE_X": node.allocated}),
        host=HostTree(node.build(tmp_path / "sys")),
        settings=Settings(layout=layout),
    )
    wanted = rendered(inputs)
    running = rendered(replace(inputs, settings=Settings(layout="root-port")))
    assert rendered(replace(inputs, domain_xml=running)) == running
    assert rendered(replace(inputs, domain_xml=forget_places(running))) == wanted


def test_spare_ports_for_hotplug_which_come_later_than_ours_are_forgotten(tmp_path: Path) -> None:
    inputs = read_case("readme", tmp_path)
    inputs = replace(inputs, domain_xml=forget_places(inputs.domain_xml))
    spare = b"".join(
        b'<controller type="pci" index="%d" model="pcie-root-port">'
        b'<address type="pci" bus="0x00" slot="0x03" function="0x%d"/></controller>' % (26 + n, n)
        for n in range(6)
    )
    running = rendered(inputs).replace(b"</devices>", spare + b"</devices>")
    anew = replace(inputs, domain_xml=forget_places(running))
    assert planned(anew) == planned(inputs)


def test_what_is_not_on_a_passed_through_devices_behalf_stays() -> None:
    port = b'<controller type="pci" index="%d" model="pcie-root-port"/>'
    nic = b'<interface type="user"><address type="pci" bus="0x02"/></interface>'
    source = b'<source><address bus="0x86"/></source>'
    domain = b"<domain><devices>%s</devices></domain>"
    hostdev = b'<hostdev type="pci">%s%s</hostdev>'
    beside_it = b'<address type="pci" bus="0x02" function="0x1"/>'
    others = port % 1 + port % 2 + nic
    assert forget_places(domain % (others + hostdev % (source, beside_it))) == domain % (
        others + hostdev % (source, b"")
    )


def test_an_address_that_the_vmi_gives_stays() -> None:
    address = b'<address type="pci" bus="0x09"/>'
    hostdev = b'<hostdev type="pci"><alias name="ua-sriov-%s"/>%s</hostdev>'
    domain = b"<domain><devices>%s</devices></domain>"
    before = domain % (hostdev % (b"sr1", address) + hostdev % (b"sr2", address))
    assert forget_places(before, placed={"ua-sriov-sr2"}) == domain % (
        hostdev % (b"sr1", b"") + hostdev % (b"sr2", address)
    )


def test_nothing_to_forget_changes_no_byte() -> None:
    before = (CASES / "readme" / "domain.xml").read_bytes()
    assert forget_places(before) is before


def test_an_address_that_cannot_be_read_is_refused_with_its_line() -> None:
    bad = b"<domain>\n<devices><hostdev type='pci'><address type='pci' slot='x'/></hostdev></devices></domain>"  # noqa: E501
    with pytest.raises(InputError, match="vm.xml:2: hostdev"):
        forget_places(bad, "vm.xml")


def test_a_user_is_told_of_the_addresses_that_are_kept_and_how_to_plan_anew() -> None:
    arguments = ("plan", "--domain", CASES / "readme/expected.xml", "--set", "layout=root-bus")
    kept = run(*arguments)
    assert b"0000:18:00.0" in kept.stdout
    assert b"2 of 2 devices keep the guest address" in kept.stderr
    anew = run(*arguments, "--fresh")
    assert b"0000:00:08.0" in anew.stdout
    assert anew.stderr == b""


@pytest.mark.parametrize("layout", ["root-port", "root-bus"])
def test_a_running_vms_domain_is_planned_as_at_its_start(layout: Layout) -> None:
    """The launcher's own later passes, where they are at hand, as libvirt has filled them in."""
    for later in sorted(SHARED_DOMAINS.glob("p[23]-*.xml")):
        stem = later.stem.partition("-")[2]
        vmi = parse_vmi((SHARED_DOMAINS / f"{stem}.vmi.json").read_bytes(), stem)
        first = Inputs(b"", vmi=vmi, settings=Settings(layout=layout))
        running = forget_places(later.read_bytes(), placed=vmi.placed)
        assert places(replace(first, domain_xml=running)) == places(
            replace(first, domain_xml=(SHARED_DOMAINS / f"{stem}.xml").read_bytes())
        ), later.name
