"""Every domain of libvirt's own test corpus that its schema accepts, with 0, 1 and 8 functions."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from canonical import canonical_without_ours
from corpus import Source, read_sources
from lxml import etree
from tables import write_table

from launcher_hook.env import parse_allocations
from launcher_hook.errors import HookError, SchemaError
from launcher_hook.model import Allocation
from launcher_hook.render import Inputs, render_domain
from launcher_hook.schema import SchemaSet, find_versions, load_schemas

SOURCES = read_sources()
FUNCTIONS = {
    0: "",
    1: "0000:a6:00.0",
    8: ",".join(f"0000:{bus:02x}:00.0" for bus in range(0xA0, 0xA8)),
}


@dataclass
class Tally:
    """What became of a corpus with one number of functions."""

    files: int = 0
    rendered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def report() -> Iterator[dict[tuple[str, int], Tally]]:
    """Collects the tallies of all tests and prints them as one table in the end."""
    tallies: dict[tuple[str, int], Tally] = {}
    yield tallies
    write_table(
        "corpus",
        "libvirt's own test domains, rendered",
        ["corpus", "functions", "accepted by its schema", "rendered", "refused", "faults"],
        [
            [f"libvirt {version}", count, t.files, t.rendered, t.refused.total(), len(t.faults)]
            for (version, count), t in tallies.items()
        ],
    )
    reasons = Counter[str]()
    for tally in tallies.values():
        reasons += tally.refused
    write_table("corpus-refusals", "Why they were refused", ["reason", "times"],
                reasons.most_common())  # fmt: skip


@pytest.mark.parametrize("count", FUNCTIONS, ids=lambda count: f"{count}-functions")
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.version)
def test_libvirts_own_domains_are_rendered_whole(
    source: Source, count: int, report: dict[tuple[str, int], Tally]
) -> None:
    if not source.is_there:
        reason = f"libvirt {source.version}'s test corpus is not here: make conformance"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    own = load_schemas(source.version)
    others = [load_schemas(version) for version in find_versions() if version != source.version]
    allocations = parse_allocations({"PCI_RESOURCE_X": FUNCTIONS[count]} if count else {})
    tally = report.setdefault((source.version, count), Tally())
    for file in source.domains():
        try:
            root = etree.parse(file).getroot()
        except etree.XMLSyntaxError:
            continue  # not even XML, on purpose
        if root.tag == "domain" and own.document_valid(root):
            tally.files += 1
            tally.faults += check(file, allocations, own, others, tally)
    assert not tally.faults, "\n".join(tally.faults)


def check(
    file: Path,
    allocations: dict[str, Allocation],
    own: SchemaSet,
    others: list[SchemaSet],
    tally: Tally,
) -> Iterator[str]:
    """Render one domain in every way that the hook could, and say what does not hold."""
    name = f"{file.parent.name}/{file.name}"
    inputs = Inputs(domain_xml=file.read_bytes(), where=file.name, allocations=allocations)
    try:
        once = render_domain(inputs, own).xml
    except SchemaError as error:
        yield f"{name}: what we wrote is not valid: {error}"
        return
    except HookError as error:
        tally.refused[reason_of(error)] += 1
        return
    tally.rendered += 1
    root, before = etree.fromstring(once), etree.fromstring(inputs.domain_xml)
    present = passed_through(before)
    if not allocations and not present and once != inputs.domain_xml:
        yield f"{name}: with nothing to do, it is changed"
    if len(passed_through(root)) != len(present) + sum(
        len(a.sources) for a in allocations.values()
    ):
        yield f"{name}: not every device is there"
    if render_domain(replace(inputs, domain_xml=once), own).xml != once:
        yield f"{name}: a second run changes it"
    if canonical_without_ours(once, inputs.domain_xml) != canonical_without_ours(
        inputs.domain_xml, inputs.domain_xml
    ):
        yield f"{name}: something that is not ours is changed"
    if not is_valid(root, own):
        yield f"{name}: it was valid and is not any more"
    for schemas in others:
        # Another version's schema may not know what was there before; what we write it must know.
        try:
            if render_domain(inputs, schemas).xml != once:
                yield f"{name}: rendered differently with {schemas.name}"
        except SchemaError as error:
            yield f"{name}: what we wrote is not valid with {schemas.name}: {error}"
        if schemas.document_valid(before) and not is_valid(root, schemas):
            yield f"{name}: it was valid with {schemas.name} and is not any more"


def is_valid(root: etree._Element, schemas: SchemaSet) -> bool:
    """Whether a domain of ours fits; 9.0 has no driver model in its schema, and overlooks it."""
    if schemas.name in ("libvirt 9.0.0", "libvirt (system)"):
        root = deepcopy(root)
        for driver in root.iterfind("devices/hostdev/driver[@model='vfio-pci']"):
            del driver.attrib["model"]
    return schemas.document_valid(root)


def passed_through(root: etree._Element) -> list[etree._Element]:
    return root.xpath(
        "devices/hostdev[not(@mode) or @mode='subsystem'][@type='pci' or @type='mdev']"
    )


def reason_of(error: HookError) -> str:
    """A refusal without the numbers and names that differ from file to file."""
    text = f"{type(error).__name__}: {error.what}"
    return re.sub(r"'[^']*'|0x[0-9a-f]+|\b[0-9a-f]{4}:[0-9a-f:.]+|\d+", "…", text)
