"""Devices that a guest does not find, since nobody has function 0 of their slot."""

import json
from dataclasses import replace

import pytest
from cases import CASES
from commandline import run
from slotplans import I440FX, Q35, address, device, plan

from launcher_hook.hidden import warn_of_hidden
from launcher_hook.model import GuestTopology

CASE = CASES / "function-1-alone"
WORDS = (
    "guest slot 0000:00:08 has function 1 but no function 0; number its functions from 0: a guest "
    "does not look at the others without it"
)
INPUTS = ("--domain", CASE / "domain.xml", "--vmi", CASE / "vmi.json")


@pytest.mark.parametrize("command", ["render", "plan"])
def test_render_and_plan_warn_of_it(command: str) -> None:
    done = run(command, *INPUTS)
    assert done.returncode == 0
    assert f"ua-hostdevice-x: {WORDS}\n" in done.stderr.decode()


def test_doctor_warns_of_it() -> None:
    done = run("doctor", *INPUTS, "--output", "json")
    findings = json.loads(done.stdout)["findings"]
    (found,) = [f for f in findings if f["check"] == "domain" and f["severity"] == "warning"]
    assert found["what"] == f"ua-hostdevice-x: {WORDS}"


def test_validate_says_it_in_the_same_words() -> None:
    done = run("validate", CASE / "expected.xml", "--output", "json")
    (document,) = json.loads(done.stdout)["files"]
    assert WORDS in [f"{fault['what']}; {fault['fix']}" for fault in document["faults"]]


@pytest.mark.parametrize(
    ("kept", "taken", "topology", "slots"),
    [
        (["0000:00:08.1"], {}, Q35, ["0000:00:08"]),
        (["0000:00:08.3", "0000:00:08.1"], {}, Q35, ["0000:00:08"]),
        (["0000:00:08.1", "0000:00:09.2"], {}, Q35, ["0000:00:08", "0000:00:09"]),
        (["0000:00:08.1"], {"0000:00:08.0": "disk vda"}, Q35, []),
        ([], {"0000:00:08.1": "disk vda"}, Q35, ["0000:00:08"]),
        ([], {"0000:00:02.1": "controller pci pcie-root-port 2"}, Q35, ["0000:00:02"]),
        (["0000:00:1f.7"], {}, Q35, []),
        (["0000:00:01.7"], {}, Q35, ["0000:00:01"]),
        (["0000:00:01.7"], {}, I440FX, []),
        ([], {"0000:00:1d.7": "controller usb ich9-ehci1 0"}, Q35, []),
    ],
    ids=[
        "alone", "two", "two-slots", "beside-a-disk", "a-disk", "a-port", "chipset-q35", "not-q35s",
        "chipset-i440fx", "libvirt-completes-it",
    ],
)  # fmt: skip
def test_every_slot_without_function_0_is_named(
    kept: list[str], taken: dict[str, str], topology: GuestTopology, slots: list[str]
) -> None:
    known = replace(topology, taken={address(bdf): owner for bdf, owner in taken.items()})
    devices = [device(f"0000:3{n}:00.1", f"g{n}", at) for n, at in enumerate(kept)]
    planned = plan(devices, known)
    warnings = list(warn_of_hidden(planned, known))
    assert [warning.partition("guest slot ")[2].split()[0] for warning in warnings] == slots


def test_a_companion_takes_the_function_0_that_is_free() -> None:
    planned = plan([device("0000:3b:00.1", "g", "0000:00:08.1"), device("0000:3b:00.0")])
    assert list(warn_of_hidden(planned, Q35)) == []


def test_a_device_that_was_asked_for_and_is_kept_from_the_guest_is_warned_of() -> None:
    held = device("0000:3b:00.0", "g", "0000:00:08.0")
    assert held.present is not None
    held = replace(
        held, present=replace(held.present, guest_address=None, address_type="unassigned")
    )
    nobodys = replace(held, name=None)
    assert list(warn_of_hidden(plan([nobodys]), Q35)) == []
    (warning,) = warn_of_hidden(plan([held]), Q35)
    assert warning.startswith("ua-gpu-g: the VM asks for it, and the domain keeps it from")


@pytest.mark.parametrize(
    ("output", "text"),
    [("table", "  none   "), ("tree", "  not in the guest: ua-held = 0000:86:00.0\n"),
     ("dot", "not in the guest"), ("svg", "not in the guest")],
)  # fmt: skip
def test_a_plan_says_what_is_not_in_the_guest(output: str, text: str) -> None:
    case = CASES / "unassigned"
    done = run(
        "plan", "--domain", case / "domain.xml", "--vmi", case / "vmi.json", "--output", output
    )
    assert done.returncode == 0
    assert text in done.stdout.decode()
