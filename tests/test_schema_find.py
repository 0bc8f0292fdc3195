"""Which schemas are chosen: newest by number, bundled before the machine's own, then our XSD."""

import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from launcher_hook.errors import InputError
from launcher_hook.schema import find_versions, load_schemas


def install(root: Path, *versions: str) -> Path:
    for version in versions:
        directory = root / "libvirt" / version
        directory.mkdir(parents=True)
        (directory / "domain.rng").touch()
    return root


def install_system(root: Path) -> Path:
    root.mkdir(parents=True)
    (root / "domain.rng").touch()
    return root


def test_versions_are_ordered_by_number(tmp_path: Path) -> None:
    root = install(tmp_path, "9.0.0", "11.10.0", "11.3.0")
    assert list(find_versions([root])) == ["11.10.0", "11.3.0", "9.0.0"]
    assert load_schemas(roots=[root]).name == "libvirt 11.10.0"


def test_bundled_schemas_go_before_the_machines_own(tmp_path: Path) -> None:
    bundled = install(tmp_path / "bundled", "9.0.0")
    system = install_system(tmp_path / "system")
    assert load_schemas(roots=[system, bundled]).name == "libvirt 9.0.0"
    assert load_schemas(roots=[system]).name == "libvirt (system)"
    assert load_schemas("system", roots=[system, bundled]).name == "libvirt (system)"


def test_the_first_root_that_has_a_version_provides_it(tmp_path: Path) -> None:
    first, second = install(tmp_path / "1", "9.0.0"), install(tmp_path / "2", "9.0.0")
    assert find_versions([first, second]) == {"9.0.0": first / "libvirt" / "9.0.0"}


def test_an_unknown_version_is_answered_with_those_there_are(tmp_path: Path) -> None:
    root = install(tmp_path, "9.0.0", "11.3.0")
    with pytest.raises(
        InputError, match=r"'8\.0\.0'; choose one of those installed: 11.3.0, 9.0.0"
    ):
        load_schemas("8.0.0", roots=[root])
    with pytest.raises(InputError, match="none are installed"):
        load_schemas("8.0.0", roots=[])


def test_without_libvirt_schemas_there_is_our_xsd(tmp_path: Path) -> None:
    schemas = load_schemas(roots=[tmp_path])
    assert schemas.name == "passthrough.xsd (no libvirt schemas installed)"
    assert schemas.fragment_faults(etree.XML("<hostdev mode='subsystem' type='pci'/>"))


def test_a_set_is_loaded_once(tmp_path: Path) -> None:
    roots = [install(tmp_path, "9.0.0")]
    assert load_schemas(roots=roots) is load_schemas(roots=list(roots))


def test_directories_may_have_any_name(tmp_path: Path) -> None:
    root = install(tmp_path / "with space & ü%20", "1.0.0")
    (root / "libvirt" / "1.0.0" / "domain.rng").write_text(
        "<grammar xmlns='http://relaxng.org/ns/structure/1.0'><start><ref name='domain'/></start>"
        "<define name='domain'><element name='domain'><empty/></element></define>"
        "<define name='hostdev'><element name='hostdev'><empty/></element></define>"
        "<define name='controller'><element name='controller'><empty/></element></define>"
        "</grammar>"
    )
    assert load_schemas(roots=[root]).document_valid(etree.XML("<domain/>"))


def test_the_server_never_loads_xmlschema() -> None:
    program = "import sys, launcher_hook.schema; sys.exit('xmlschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
