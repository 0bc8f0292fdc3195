"""The wheel, as its users have it: built, installed, run far from the repository.

pip installs it into an empty virtual environment without its dependencies; those come from the
environment that runs the tests, which holds what requirements.lock pins, by a .pth file. That
is quick, needs no network and no warm cache, and cannot pass by the checkout: a folder that a
.pth file names has no .pth files read, so the editable install in there is not seen.
"""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from lxml import etree

REPOSITORY = Path(__file__).resolve().parents[1]

DOMAIN = """\
<domain type="kvm">
  <name>default_small</name>
  <uuid>5d307ca9-b3ef-428c-8861-06e72d69f223</uuid>
  <memory unit="KiB">4194304</memory>
  <vcpu>2</vcpu>
  <os><type arch="x86_64" machine="pc-q35-rhel9.6.0">hvm</type></os>
  <devices>
    <hostdev type="pci" managed="no">
      <source>
        <address type="pci" domain="0x0000" bus="0x86" slot="0x00" function="0x0"></address>
      </source>
      <alias name="ua-gpu-gpu1"></alias>
    </hostdev>
  </devices>
</domain>
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program as from a shell of somebody who has no checkout; give what it prints."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8"}
    result = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout."""
    into = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", into, cwd=REPOSITORY)
    (built,) = into.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a virtual environment with the wheel in it."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--isolated", "--no-cache-dir", "--python", python]
    run(*pip, "install", "-q", "--no-index", "--no-deps", wheel, cwd=home)
    (site,) = home.glob("lib/python*/site-packages")
    dependencies = sysconfig.get_path("purelib")
    (site / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    return home / "bin"


def need_libvirts_schemas() -> None:
    """Skip where they could not be fetched; CI has no such excuse."""
    here = (REPOSITORY / "schemas" / "libvirt" / "11.3.0" / "COPYING.libvirt").is_file()
    if not here and not os.environ.get("CI"):
        pytest.skip("libvirt's schemas are not here; run make setup")
    assert here


def test_wheel_carries_the_schemas_and_their_licence(wheel: Path) -> None:
    """Pinned sets only: what is in the wheel follows from the commit."""
    need_libvirts_schemas()
    names = set(zipfile.ZipFile(wheel).namelist())
    for version in ("9.0.0", "11.3.0"):
        for name in ("domain.rng", "domaincommon.rng", "COPYING.libvirt"):
            assert f"launcher_hook/schemas/libvirt/{version}/{name}" in names
    versions = {name.split("/")[3] for name in names if "/schemas/libvirt/" in name}
    assert versions == {"9.0.0", "11.3.0"}
    assert {"launcher_hook/schemas/manifest.toml", "launcher_hook/schemas/passthrough.xsd"} <= names
    assert "launcher_hook/py.typed" in names
    assert not any(
        name.startswith(("tests/", "schemas/")) or name.endswith(".md") for name in names
    )


def test_installed_package_loads_the_schemas_it_brought(installed: Path, tmp_path: Path) -> None:
    """libvirt's own grammar is used, and it is the wheel's, not the checkout's."""
    need_libvirts_schemas()
    program = (
        "import launcher_hook, launcher_hook.schema as schema\n"
        "print(schema.load_schemas().name)\n"
        "print(launcher_hook.__file__)\n"
    )
    name, place = run(installed / "python", "-c", program, cwd=tmp_path).splitlines()
    assert name.startswith("libvirt ")
    assert Path(place).is_relative_to(installed.parent)


def test_installed_command_renders(installed: Path, tmp_path: Path) -> None:
    """A domain goes in, a valid one with its device comes out."""
    (tmp_path / "domain.xml").write_text(DOMAIN, encoding="utf-8")
    written = run(
        installed / "launcher-hook",
        *("render", "--domain", "domain.xml", "--env", "PCI_RESOURCE_X=0000:86:00.0"),
        cwd=tmp_path,
    )
    (hostdev,) = etree.fromstring(written).findall("devices/hostdev")
    assert hostdev.get("mode") == "subsystem"
    (source,) = hostdev.findall("source/address")
    assert int(source.get("bus", ""), 16) == 0x86
