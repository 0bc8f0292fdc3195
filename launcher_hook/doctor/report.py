"""The findings for people and for programs."""

import json
from collections.abc import Sequence

from launcher_hook.doctor.finding import Finding, Severity, counted
from launcher_hook.errors import one_line

_ORDER: tuple[Severity, ...] = ("error", "warning", "ok", "not checked")
_INDENT = 2


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first; otherwise as they were made."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether anything must be mended."""
    return any(finding.severity == "error" for finding in findings)


def print_table(findings: Sequence[Finding]) -> str:
    """A line a finding, and below what is wrong what to do; last how many there are of each."""
    findings = in_order(findings)
    marks = max((len(finding.severity) for finding in findings), default=0)
    checks = max((len(finding.check) for finding in findings), default=0)
    below = " " * (marks + checks + 2 * _INDENT)
    lines = []
    for finding in findings:
        head = f"{finding.severity:<{marks}}  {finding.check:<{checks}}  "
        if finding.severity == "not checked":
            lines.append(f"{head}{one_line(finding.what)}: {one_line(finding.fix)}")
            continue
        lines.append(f"{head}{one_line(f'{finding.where}: {finding.what}')}")
        if finding.fix:
            lines.append(f"{below}-> {one_line(finding.fix)}")
    totals = [sum(finding.severity == severity for finding in findings) for severity in _ORDER]
    errors, warnings, right, unchecked = totals
    lines.append(
        f"{counted(errors, 'error')}, {counted(warnings, 'warning')}, {right} fine, "
        f"{unchecked} not checked"
    )
    return "\n".join(lines) + "\n"


def print_json(findings: Sequence[Finding]) -> str:
    """The table's facts, for programs."""
    findings = in_order(findings)
    document = {
        "findings": [
            {
                "check": finding.check,
                "severity": finding.severity,
                "where": finding.where,
                "what": finding.what,
                "fix": finding.fix or None,
            }
            for finding in findings
        ],
        "errors": sum(finding.severity == "error" for finding in findings),
        "warnings": sum(finding.severity == "warning" for finding in findings),
    }
    return json.dumps(document, indent=2) + "\n"
