"""Each fuzz target for some seconds, without the fuzzer; and what the fuzzer has found."""

import json
import logging
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from fuzz.server import fuzz as fuzz_server
from fuzz.target import CASES, EDITS, NAMES, REPOSITORY, edit, load_target
from hypothesis import given, settings
from hypothesis import strategies as st

ALONE, STOCK, TWO, ROOT_BUS, EIGHT, MDEV, GPU, PINNED, MOVING, MIRROR, NUMA, HOLE, OPTIONS = range(
    13
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without the log, which would be most of the time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", NAMES)
def test_a_targets_seeds_have_nothing_against_the_program(name: str) -> None:
    target = load_target(name)
    for seed in target.seeds():
        target.check(seed)


@pytest.mark.parametrize("name", NAMES)
def test_no_change_to_a_seed_does_what_the_program_may_not(name: str) -> None:
    target = load_target(name)
    fractions = st.floats(0, 1, allow_nan=False)
    words = st.sampled_from(target.words) | st.binary(min_size=1, max_size=4)
    edits = st.lists(st.tuples(st.sampled_from(EDITS), fractions, fractions, words), max_size=6)

    @settings(max_examples=100 if name == "faults" else 300)
    @given(st.sampled_from(target.seeds()), edits)
    def check(seed: bytes, edits: list[tuple[str, float, float, bytes]]) -> None:
        target.check(edit(seed, edits))

    check()


def test_a_running_sidecar_takes_hostile_calls(tmp_path: Path) -> None:
    facts = fuzz_server(3, tmp_path, tmp_path)
    assert facts.findings == []
    assert facts.calls > 30


def test_the_fuzzer_is_locked_and_of_no_set_up_but_its_own() -> None:
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    assert all("atheris" in package for package in groups["fuzz"])
    assert "atheris==" in (REPOSITORY / ".ci/fuzz.lock").read_text()
    assert "atheris" not in (REPOSITORY / "requirements.lock").read_text()


def test_a_target_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tests/fuzz/run.py", "nothing"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no target nothing" in done.stderr
    assert all(name in done.stderr for name in (*NAMES, "server"))


@settings(max_examples=300)
@given(st.sampled_from(load_target("domain").seeds()), st.integers(0))
def test_no_change_to_a_domains_elements_does_what_the_program_may_not(
    seed: bytes, number: int
) -> None:
    target = load_target("domain")
    assert target.change is not None
    target.check(target.change(seed, Random(number)))


# What the fuzzer has found, each as small as it still did it.


def domain(*devices: str, machine: str = "q35", arch: str = "x86_64") -> bytes:
    text = (
        f"<domain type='kvm'><name>x</name><memory>1</memory><os><type arch='{arch}'"
        f" machine='{machine}'>hvm</type></os><devices>{''.join(devices)}</devices></domain>"
    )
    return text.encode()


def hostdev(*parts: str, source: str = "", bus: str = "0x86", attributes: str = "") -> str:
    address = f"<address domain='0x0000' bus='{bus}' slot='0x00' function='0x0'/>"
    return (
        f"<hostdev mode='subsystem' type='pci' managed='yes'{attributes}>"
        f"<source>{address}{source}</source>{''.join(parts)}</hostdev>"
    )


AT_9 = "<address type='pci' domain='0x0000' bus='0x09' slot='0x00' function='0x0'/>"
AT_SLOT_16 = "<address type='pci' domain='0x0000' bus='0x00' slot='0x10' function='0x0'/>"
PORT = (
    f"<controller type='pci' index='24' model='pcie-root-port'{{0}}>{AT_SLOT_16}{{1}}</controller>"
)
AT_24 = "<address type='pci' domain='0x0000' bus='0x18' slot='0x00' function='0x0'{0}/>"

EXPANDER = (
    "<controller type='pci' index='24' model='pcie-expander-bus'><target busNr='{0}'>"
    f"<node>{{1}}</node></target>{AT_SLOT_16}</controller>"
)

WIDE_HOLE = (
    "<controller type='pci' index='0' model='pcie-root'>"
    "<pcihole64 unit='KiB'>268435456</pcihole64></controller>"
)
TOLD_OTHERWISE = (
    b"<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader></os>"
    b"<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
    b"<qemu:arg value='-fw'/><qemu:arg value='name=opt/ovmf/X-PciMmio64Mb,string=262144'/>"
    b"</qemu:commandline>"
)

FOUND: dict[str, tuple[int, bytes]] = {
    "line feeds that a regular expression looked at in every way": (ALONE, b"\n" * 40 + b"."),
    "text in a hostdev that came in": (ALONE, domain(hostdev("text"))),
    "text behind the source of a hostdev": (TWO, domain(hostdev(source="text"))),
    "an element that nobody knows in a source": (ALONE, domain(hostdev(source="<x/>"))),
    "text in an address": (
        TWO, domain(hostdev(AT_24.format("").replace("/>", ">x</address>")), PORT.format("", "")),
    ),
    "text in a root port that came in": (
        TWO, domain(PORT.format("", "text"), hostdev(AT_24.format(""))),
    ),
    "an attribute of a root port that nobody knows": (
        TWO, domain(PORT.format(" x='y'", ""), hostdev(AT_24.format(""))),
    ),
    "an attribute of a root port's target that nobody knows": (
        TWO, domain(PORT.format("", "<target ptype='1'/>"), hostdev(AT_24.format(""))),
    ),
    "companions beside a function on a bus that no controller has": (GPU, domain(hostdev(AT_9))),
    "text among the devices, which stood twice afterwards": (
        TWO, domain("<hostdev type='usb'/>", "\ntext", hostdev(), "\ntext\n", "<rng/>"),
    ),
    "an address that is none, on a machine that we do not lay out": (
        GPU, domain(hostdev("<address typu='pci' slot='5x0'/>"), machine="x", arch="s390x"),
    ),
    "a root port that says it is the root bus": (
        EIGHT, domain("<controller type='pci' index='0' model='pcie-root-port'/>", hostdev()),
    ),
    "a root port with an address of no known type": (
        TWO,
        domain(
            PORT.format("", "").replace("'pci' domain", "'x' domain"), hostdev(AT_24.format(""))
        ),
    ),
    "a root port with a strange target and no address": (
        TWO,
        domain(
            "<controller type='pci' index='24' model='pcie-root-port'><target chassis='24I'/>"
            "<addr/></controller>",
            hostdev(AT_24.format("")),
        ),
    ),
    "a hostdev of a mode that there is not": (
        TWO, domain(hostdev().replace("'subsystem'", "'s'"), hostdev(bus="0xaf")),
    ),
    "a model of a mediated device that there is not": (
        MDEV,
        domain(
            "<hostdev mode='subsystem' type='mdev' model='x'><source>"
            "<address uuid='4b20d080-1b54-4048-85b3-a6a62d165c01'/></source></hostdev>"
        ),
    ),
    "a bus number that there is not": (
        TWO, domain(EXPANDER.format("661", "0"), hostdev()),
    ),
    "a NUMA cell that is no number": (TWO, domain(EXPANDER.format("254", "x"), hostdev())),
    "a root bus without a model, and a size for it": (
        HOLE, domain("<controller type='pci' index='0'/>", hostdev()),
    ),
    "a root bus without an index, which another has": (
        HOLE,
        domain(
            "<controller type='pci' model='pcie-root'/>", "<controller type='pci' index='0'/>",
            hostdev(),
        ),
    ),
    "an argument for OVMF behind another option, beside ours": (
        HOLE, TOLD_OTHERWISE.join(domain(WIDE_HOLE, hostdev()).split(b"</os>", 1)),
    ),
    "an argument for OVMF behind what is no argument": (
        HOLE,
        TOLD_OTHERWISE.replace(b"arg value='-fw'", b"abg value='-fw_cfg'").join(
            domain(WIDE_HOLE, hostdev()).split(b"</os>", 1)
        ),
    ),
    "aliases without a name, one of them a root port's": (
        ROOT_BUS,
        domain(
            PORT.format("", "<alias x='y'/>"), hostdev(AT_24.format("")), "<rng><alias/></rng>",
            "<rng><alias/></rng>",
        ),
    ),
    "an index that is not decimal": (
        HOLE, domain("<controller type='pci' index='0x00' model='pcie-root'/>", hostdev()),
    ),
    "a root bus's controller with an address and more that it cannot have": (
        HOLE,
        domain(
            "<controller type='pci' index='0' x='y'><x/>"
            "<address type='pci' slot='9' x='2'/></controller>",
            hostdev(),
        ),
    ),
    "a hole with an attribute that it cannot have": (
        HOLE,
        domain(
            "<controller type='pci' index='0' model='pcie-root'><pcihole64 x='y'>1</pcihole64>"
            "</controller>",
            hostdev(),
        ),
    ),
    "a root port on its own bus": (
        ALONE,
        domain(
            "<controller type='pci' index='24' model='pcie-root-port'>"
            "<address type='pci' bus='24' multifunction='on'/></controller>",
            hostdev(AT_24.format("").replace("function='0x0'", "function='0x1'")),
        ),
    ),
    "two controllers of index 0": (
        TWO,
        domain(
            "<controller type='pci' index='0' model='pcie-root-port'/>",
            "<controller type='pci' index='0'/>", hostdev(),
        ),
    ),
    "a root bus's controller with an empty model": (
        HOLE, domain("<controller type='pci' index='0' model=''/>", hostdev()),
    ),
    "a hostdev that says it is the root bus": (
        TWO, domain(hostdev("text", attributes=" model='pcie-root'")),
    ),
    "an index that is octal, and none of it": (
        TWO, domain(PORT.format("", "").replace("'24'", "'09'"), hostdev(AT_24.format(""))),
    ),
    "text in the root bus's controller, which gets a hole": (
        HOLE,
        domain("\n <controller type='pci' index='0' model='pcie-root'>x</controller>", hostdev()),
    ),
    "two guest addresses in a device that is not ours": (
        TWO, domain(f"<rng>{AT_9}{AT_SLOT_16}</rng>", hostdev()),
    ),
    "devices in two places": (
        TWO, domain(PORT.format("", ""), hostdev(AT_24.format(""), bus="0xa6")).replace(
            b"<devices>", b"<devices/><devices>"
        ),
    ),
    "two guest addresses in one hostdev": (
        ROOT_BUS, domain(hostdev(AT_24.format(" multifunction='on'"), AT_9)),
    ),
    "multifunction on a machine that we do not lay out": (
        TWO,
        domain(
            hostdev(AT_24.format(" multifunction='on'")),
            hostdev(AT_24.format("").replace("function='0x0'", "function='0x1'"), bus="0x87"),
            machine="x",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_in_a_domain_is_so_no_more(what: str) -> None:
    situation, data = FOUND[what]
    load_target("domain").check(bytes([situation]) + data)


@pytest.mark.parametrize("name", ["inputs", "hostdevs", "controllers"])
def test_what_grew_with_the_square_does_so_no_more(name: str) -> None:
    make: dict[str, Callable[[], bytes]] = {
        "inputs": lambda: b"l" + domain("<input type='x'/>" * 4_000),
        "hostdevs": lambda: b"l" + domain("<hostdev type='usb'/>" * 4_000),
        "controllers": lambda: b"l" + domain("<controller type='pci' index='1'/>" * 4_000),
    }
    load_target("faults").check(make[name]())  # pytest's own limit is the only one


def test_a_vmi_with_very_many_odd_names_is_read_in_time() -> None:
    gpus = [{"name": f"{n}.x", "deviceName": "a.b"} for n in range(1_000)]
    vmi = {"kind": "VirtualMachineInstance", "spec": {"domain": {"devices": {"gpus": gpus}}}}
    load_target("vmi").check(json.dumps(vmi).encode())
    assert (CASES / "no-devices").is_dir()
