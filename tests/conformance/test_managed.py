"""What each libvirt makes of `managed` and `<driver model=...>`, and of what we write.

The table stands in tests/README.md; a cell that is another today fails.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chroot import Chroot
from hosttree import HostDevice
from managed_trials import (
    NATIVE,
    PLACES,
    POD,
    VARIANT,
    VF_IDS,
    Outcome,
    Place,
    Trial,
    Trials,
    build_library,
)
from tables import write_table

from launcher_hook.config import read_settings
from launcher_hook.render import Inputs, render_domain
from launcher_hook.schema import load_schemas
from launcher_hook.sysfs import HostTree

README = Path(__file__).resolve().parents[1] / "README.md"
MARKS = ("<!-- managed: made by tests/conformance/test_managed.py -->\n", "<!-- end managed -->")

DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' index='0' model='none'/>
    <memballoon model='none'/>
    {hostdevs}
  </devices>
</domain>
"""
HOSTDEV = """<hostdev mode='subsystem' type='pci' managed='{managed}'>
  <source><address domain='0x0000' bus='0x{bus:02x}' slot='0x00' function='0x0'/></source>
  {driver}<alias name='ua-hostdevice-vf'/>
</hostdev>"""


@dataclass(frozen=True)
class Bound:
    """How a function is bound before the VM starts.

    Attributes:
        vfio_dev: As in HostDevice: "" is a kernel before 6.1, or a driver that has no vfio device.
    """

    text: str
    driver: str
    vfio_dev: str | None = None

    def function(self, bus: int) -> HostDevice:
        return HostDevice(
            f"0000:{bus:02x}:00.0", *VF_IDS, group=bus, driver=self.driver, vfio_dev=self.vfio_dev
        )


BOUND = (
    Bound("vfio-pci", "vfio-pci"),
    Bound(VARIANT, VARIANT),
    Bound("nvgrace_gpu_vfio_pci", "nvgrace_gpu_vfio_pci"),
    Bound(f"{VARIANT}, Linux before 6.1", VARIANT, vfio_dev=""),
    Bound("nvidia, a vGPU's function", "nvidia", vfio_dev="vfio7"),
    Bound(f"{NATIVE}, the native driver", NATIVE),
)
ASKED = (("yes", ""), ("yes", "vfio-pci"), ("yes", VARIANT), ("no", ""))
CELLS = [(bound, managed, model) for bound in BOUND for managed, model in ASKED]
CELLS.append((BOUND[1], "no", "vfio-pci"))  # of an earlier render, before it was bound anew
Table = dict[tuple[str, str, str], dict[str, str]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake kernel. Skips where a program is missing; in CI that is a failure."""
    missing = [name for name in ("gcc", "tini", "setpriv", "virsh") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        reason = f"needs root, and {', '.join(missing) or 'nothing else'}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return build_library(tmp_path_factory.mktemp("fake"))


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    """Every cell by its row and column; written at the end."""
    cells: Table = {}
    yield cells
    heads = list(dict.fromkeys(head for row in cells.values() for head in row))
    write_table(
        "managed",
        "managed and the driver, in real libvirts over a written /sys",
        ["bound to", "managed", "model", *heads],
        [[*key, *(row.get(head, "") for head in heads)] for key, row in cells.items()],
    )


def in_words(bound: Bound, outcome: Outcome) -> str:
    """A cell of the table."""
    if not outcome.started:
        assert not outcome.writes, outcome
        for words, pattern in (
            ("no modules.alias", r"Failed to open file .*/modules.alias"),
            ("not permitted", r"Failed to add driver .*: Permission denied"),
            ("no config space", r"Failed to open config space file .*: Permission denied"),
            ("not detached", r"Unmanaged PCI device .* must be manually detached"),
        ):
            if re.search(pattern, outcome.refusal):
                return f"refused: {words}"
        return f"refused: {outcome.refusal}"
    (used,), (after,) = outcome.drivers_for_qemu, outcome.drivers_after
    if used == after == bound.driver:
        assert not outcome.writes, outcome
        return "starts"
    return f"starts on {used}, then {after}"


def test_each_libvirt_does_what_the_table_says(
    chroot: Chroot | None, library: Path, table: Table, update_expected: bool
) -> None:
    trials = [
        Trial((bound.function(bus),), plain_domain(bus, managed, model))
        for bus, (bound, managed, model) in enumerate(CELLS, start=1)
    ]
    column: dict[tuple[str, str, str], dict[Place, str]] = {}
    with Trials(chroot, library) as runs:
        version = runs.version
        for place in PLACES:
            outcomes = runs.run(place, trials)
            for (bound, managed, model), outcome in zip(CELLS, outcomes, strict=True):
                key = (bound.text, managed, model or "none")
                column.setdefault(key, {})[place] = in_words(bound, outcome)
    for key, cells in column.items():
        for uid, user in ((0, "root"), (107, "uid 107")):
            with_alias, without = cells[Place(uid, True)], cells[Place(uid, False)]
            text = without if with_alias == without else f"{with_alias}; without the file {without}"
            table.setdefault(key, {})[f"{version}, {user}"] = text
    columns = [f"{version}, {user}" for user in ("root", "uid 107")]
    if update_expected:
        write_readme(table)
    known = read_readme()
    assert {key: {c: row[c] for c in columns} for key, row in table.items()} == {
        key: {c: row.get(c, "") for c in columns} for key, row in known.items()
    }


def plain_domain(bus: int, managed: str, model: str) -> Callable[[str, Path, Path], bytes]:
    """A domain with one hostdev as it is."""
    driver = f"<driver name='vfio' model='{model}'/>" if model else ""
    hostdev = HOSTDEV.format(bus=bus, managed=managed, driver=driver)
    return lambda name, emulator, _: DOMAIN.format(
        name=name, emulator=emulator, hostdevs=hostdev
    ).encode()


def rendered_domain(bus: int, config: str) -> Callable[[str, Path, Path], bytes]:
    """What we make of a launcher's domain with function 0 of a bus."""
    launchers = plain_domain(bus, "no", "")

    def render(name: str, emulator: Path, sysfs: Path) -> bytes:
        inputs = Inputs(
            domain_xml=launchers(name, emulator, sysfs),
            host=HostTree(sysfs),
            settings=read_settings(("config", config.encode()), None),
        )
        return render_domain(inputs, load_schemas()).xml

    return render


@dataclass(frozen=True)
class Written:
    """A slot whose function 0 the launcher was given, and what our configuration says.

    Attributes:
        drivers: Of its functions, all in one group.
        from_11: Whether libvirt 9.0 refuses it.
    """

    text: str
    drivers: tuple[str, ...]
    config: str = ""
    from_11: bool = False

    def functions(self, bus: int) -> tuple[HostDevice, ...]:
        return tuple(
            HostDevice(f"0000:{bus:02x}:00.{n}", *VF_IDS, group=bus, driver=driver,
                       vfio_dev="vfio7" if driver == "nvidia" else None)
            for n, driver in enumerate(self.drivers)
        )  # fmt: skip


WRITTEN = (
    Written("the default, on vfio-pci", ("vfio-pci",)),
    Written("with companions", ("vfio-pci", "vfio-pci", "vfio-pci")),
    Written("managed: keep, with companions", ("vfio-pci", "vfio-pci"), "managed: keep"),
    Written("managed: no, with companions", ("vfio-pci", "vfio-pci"), "managed: no"),
    Written("a variant", (VARIANT,), from_11=True),
    Written("a variant with a hyphen", ("xe-vfio-pci",), from_11=True),
    Written("a variant, its companion on vfio-pci", (VARIANT, "vfio-pci"), from_11=True),
    Written("vfio-pci, its companion on a variant", ("vfio-pci", VARIANT), from_11=True),
    Written("a vGPU's function", ("nvidia",), from_11=True),
)
NATIVE_DRIVER = Written("its native driver", (NATIVE,))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_we_write_starts_and_leaves_every_function_on_its_driver(
    chroot: Chroot | None, place: Place, library: Path
) -> None:
    written = (*WRITTEN, NATIVE_DRIVER)
    trials = [
        Trial(one.functions(bus), rendered_domain(bus, one.config))
        for bus, one in enumerate(written, start=1)
    ]
    with Trials(chroot, library, with_qemu=place == POD) as runs:
        outcomes = dict(zip(written, runs.run(place, trials), strict=True))
        is_9 = runs.version.startswith("9.")
    native = outcomes.pop(NATIVE_DRIVER)
    for one, outcome in outcomes.items():
        refused = is_9 and one.from_11
        assert outcome == Outcome(
            started=not refused,
            refusal=outcome.refusal,
            drivers_for_qemu=() if refused else one.drivers,
            drivers_after=one.drivers,
            writes=(),
        ), one
        if refused:
            assert "must be manually detached from the host" in outcome.refusal
    assert native.drivers_after == (NATIVE,)
    if place.uid == 0:  # taken from its driver, and given back
        assert native.drivers_for_qemu == ("vfio-pci",)
    else:
        assert "Permission denied" in native.refusal


def read_readme() -> Table:
    """The table of tests/README.md."""
    text = README.read_text(encoding="utf-8")
    lines = text.partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return {
        (row[0], row[1], row[2]): dict(zip(rows[0][3:], row[3:], strict=True)) for row in rows[2:]
    }


def write_readme(table: Table) -> None:
    """Put columns into the table of tests/README.md; those of other libvirts stay."""
    known = read_readme()
    merged = {key: known.get(key, {}) | row for key, row in table.items()}
    heads = sorted({head for row in merged.values() for head in row}, key=_version_and_user)
    lines = [["bound to", "managed", "model", *heads], ["---"] * (3 + len(heads))]
    lines += [[*key, *(row.get(head, "") for head in heads)] for key, row in merged.items()]
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    README.write_text(f"{before}{MARKS[0]}{body}{MARKS[1]}{after}", encoding="utf-8")


def _version_and_user(head: str) -> tuple[list[int], str]:
    version, user = head.split(", ")
    return [int(part) for part in version.split(".")], user
