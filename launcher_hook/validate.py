"""Checks a domain that somebody else wrote, and says what is wrong with it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from launcher_hook.domain.document import parse_domain
from launcher_hook.domain.inspect import passed_hostdevs
from launcher_hook.errors import InputError
from launcher_hook.schema import Fault, SchemaSet, rule_faults


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one document; no faults means clean.

    Attributes:
        is_domain: False for what could not be read as a domain at all.
    """

    where: str
    faults: tuple[Fault, ...]
    is_domain: bool = True

    @classmethod
    def unreadable(cls, where: str, error: InputError) -> "Verdict":
        """The verdict on what is no domain at all: one fault."""
        line = error.where.removeprefix(f"{where}:")
        number = int(line) if line.isdigit() else None
        return cls(where, (Fault("/", number, error.what, error.fix),), is_domain=False)


def validate_domain(
    data: bytes, where: str, schemas: SchemaSet, *, explain: bool = False
) -> Verdict:
    """Check one document against libvirt's schema and the rules that no schema can say.

    Args:
        data: The document.
        where: Its name.
        schemas: Of one libvirt version.
        explain: Also check the passed-through devices against ``passthrough.xsd``.

    Returns:
        The verdict; a document that is no domain at all is a verdict too.
    """
    try:
        root = parse_domain(data, where).getroot()
    except InputError as error:
        return Verdict.unreadable(where, error)
    faults = [*schemas.document_faults(root), *rule_faults(root)]
    if explain:
        from launcher_hook.schema.explain import explain as explain_element

        for hostdev in passed_hostdevs(root):
            faults.extend(explain_element(hostdev))
    faults.sort(key=lambda fault: (fault.line or 0, fault.path))
    return Verdict(where, tuple(faults))


def print_verdicts(verdicts: Sequence[Verdict], schemas: str, output: str) -> str:
    """Print ``file:line: path: what; what to do`` a line, or JSON; say what it was checked with."""
    if output == "json":
        document = {
            "schemas": schemas,
            "files": [
                {
                    "file": verdict.where,
                    "faults": [
                        {"line": f.line, "path": f.path, "what": f.what, "fix": f.fix}
                        for f in verdict.faults
                    ],
                }
                for verdict in verdicts
            ],
        }
        return json.dumps(document, indent=2) + "\n"
    lines = []
    for verdict in verdicts:
        for fault in verdict.faults:
            place = f"{verdict.where}:{fault.line}" if fault.line is not None else verdict.where
            lines.append(f"{place}: {fault.path}: {fault.what}; {fault.fix}")
        if not verdict.faults:
            lines.append(f"{verdict.where}: valid")
    if verdicts:
        lines.append(f"checked against {schemas}\n")
    return "\n".join(lines)
