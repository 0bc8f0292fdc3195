"""Runs the installed command as a user does."""

import os
import subprocess
import sys
from pathlib import Path

from cases import CASES

COMMAND = str(Path(sys.executable).with_name("launcher-hook"))
README = CASES / "readme"
VARIABLE = "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A"
DEVICES = f"{VARIABLE}=0000:86:00.0,0000:af:00.0"


def run(
    *arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    environ = {name: value for name, value in os.environ.items() if "PCI_RESOURCE" not in name}
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**environ, **(env or {})},
        check=False,
        timeout=120,
    )


def inputs(*more: str | Path) -> list[str | Path]:
    return ["--domain", README / "domain.xml", "--vmi", README / "vmi.json", *more]
