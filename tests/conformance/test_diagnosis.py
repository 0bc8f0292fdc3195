"""Which faults `validate` names in the right place, and which virt-xml-validate does."""

import re
import subprocess
from pathlib import Path

from lxml import etree
from tables import write_table
from test_schema_culprit import DEVICES, MUTATIONS, domain_with, only_device
from test_schema_rules import BAD

from launcher_hook.schema import load_schemas, rule_faults

GOAL = 0.95

# libvirt's program, with the grammar of the libvirt that it comes with.
VERSION = "9.0.0"


def share(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)}"


def theirs(root: etree._Element, scratch: Path) -> str:
    """What virt-xml-validate says; "" where it finds the document valid."""
    file = scratch / "domain.xml"
    file.write_bytes(etree.tostring(root))
    done = subprocess.run(
        ["virt-xml-validate", str(file), "domain"], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def names(text: str, path: str) -> bool:
    """Whether a message names the path's element, and its attribute if it ends in one."""
    *_, element, attribute = ["", *path.split("/")] if "@" in path else [*path.split("/"), ""]
    name = re.sub(r"\[\d+\]$", "", element)
    about = re.search(rf"element {re.escape(name)}\b|<{re.escape(name)}\b", text)
    return bool(about) and (not attribute or attribute.removeprefix("@") in text)


def test_a_fault_is_named_where_libvirts_own_program_says_invalid(tmp_path: Path) -> None:
    schemas = load_schemas(VERSION)
    rows = []
    for device, old, new, place in MUTATIONS.values():
        root = domain_with(DEVICES[device].replace(old, new))
        path = f"/domain/devices/{only_device(root).tag}{place}"
        ours = {fault.path for fault in schemas.document_faults(root)} == {path}
        rows.append((ours, names(theirs(root, tmp_path), path)))
    rule_rows = []
    for rule, devices in BAD.values():
        root = domain_with(*devices)
        ours = rule in {fault.rule for fault in rule_faults(root)}
        said = theirs(root, tmp_path)
        paths = [fault.path for fault in rule_faults(root) if fault.rule == rule]
        rule_rows.append((ours, any(names(said, path) for path in paths)))
    kinds: dict[str, list[tuple[bool, bool]]] = {
        "wrong value, missing or unknown part, wrong nesting": rows,
        "double use, missing controller, what no schema can say": rule_rows,
    }
    write_table(
        "diagnosis",
        f"Faults named with the right element and attribute, libvirt {VERSION}",
        ["mutations of valid devices", "launcher-hook validate", "virt-xml-validate"],
        [
            [kind, share([a for a, _ in found]), share([b for _, b in found])]
            for kind, found in kinds.items()
        ],
    )
    every = [ours for found in kinds.values() for ours, _ in found]
    assert len(every) >= 60
    assert sum(every) / len(every) >= GOAL
