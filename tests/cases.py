"""Reads ``fixtures/cases/<name>/`` and the launcher's own domains into the program's inputs.

A case holds domain.xml and, where it has one: vmi.json, env (NAME=VALUE lines), host.yaml (the
fields of ``hosttree.HostDevice``), config.yaml, rom-dirs (a directory a line), devices (a
``--device`` a line), dra-metadata (as a pod has it); and expected.xml or expected-error.txt.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hosttree import HostDevice, build_host_tree

from launcher_hook.claims.sources import read_devices
from launcher_hook.config import read_settings
from launcher_hook.env import parse_allocations, parse_env_file
from launcher_hook.errors import InputError
from launcher_hook.render import Inputs
from launcher_hook.schema import SchemaSet, load_schemas
from launcher_hook.sysfs import HostTree
from launcher_hook.vmi import Vmi, parse_vmi

CASES = Path(__file__).parent.parent / "fixtures" / "cases"
SHARED_DOMAINS = Path(__file__).parent.parent.parent / "shared" / "kubevirt-domains"


def case_names() -> list[str]:
    return sorted(path.name for path in CASES.iterdir() if path.is_dir())


def read_case(name: str, scratch: Path, domain_xml: bytes | None = None) -> Inputs:
    """The inputs of a case; with ``domain_xml``, of a later pass of it.

    Raises:
        HookError: An input is refused, as the command line would refuse it.
    """
    directory = CASES / name
    vmi = Vmi()
    if (directory / "vmi.json").exists():
        vmi = parse_vmi((directory / "vmi.json").read_bytes(), "vmi.json")
    variables: Mapping[str, str] = {}
    if (directory / "env").exists():
        variables = parse_env_file((directory / "env").read_text().splitlines(), "env")
    metadata = directory / "dra-metadata"
    file = None
    if (directory / "config.yaml").exists():
        file = ("config.yaml", (directory / "config.yaml").read_bytes())
    return Inputs(
        domain_xml=domain_xml or (directory / "domain.xml").read_bytes(),
        where="domain.xml",
        vmi=vmi,
        allocations=parse_allocations(variables),
        host=_host_tree(directory / "host.yaml", scratch / "sys"),
        settings=read_settings(file, vmi.config_source),
        rom_directories=_lines(directory / "rom-dirs"),
        devices=read_devices(
            _lines(directory / "devices"),
            metadata if metadata.is_dir() else None,
            vmi.requests,
            vmi.claims,
            vmi.reported,
        ),
    )


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(file.read_text().splitlines()) if file.exists() else ()


def _host_tree(file: Path, root: Path) -> HostTree:
    if not file.exists():
        return HostTree(None)
    if not root.exists():
        devices = yaml.safe_load(file.read_text())
        build_host_tree(root, [HostDevice(**device) for device in devices])
    return HostTree(root)


def pinned_schemas(version: str) -> SchemaSet:
    """libvirt's schemas of one version; in CI their absence is a failure, elsewhere a skip."""
    try:
        return load_schemas(version)
    except InputError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def shared_domains() -> list[Path]:
    """Every domain of the launcher's three passes; empty where the folder is not at hand."""
    return sorted(SHARED_DOMAINS.glob("*.xml")) if SHARED_DOMAINS.is_dir() else []


def vmi_of(domain: Path) -> Vmi:
    """The VMI that a launcher's domain was made from."""
    name = domain.stem.removeprefix("p2-").removeprefix("p3-")
    file = domain.with_name(f"{name}.vmi.json")
    return parse_vmi(file.read_bytes(), file.name)
