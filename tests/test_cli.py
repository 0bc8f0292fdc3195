"""The commands as a user runs them: exit status, what is on stdout, what is on stderr."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from cases import CASES
from commandline import COMMAND, DEVICES, README, VARIABLE, inputs, run
from hosttree import add_mdev, build_host_tree, gpu
from metadata import PCI, both, device, write


def test_render_prints_the_domain_and_nothing_else() -> None:
    done = run("render", *inputs("--env", DEVICES))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (README / "expected.xml").read_bytes()


def test_the_processs_own_variables_count() -> None:
    done = run("render", *inputs(), env=dict([DEVICES.split("=")]))
    assert done.stdout == (README / "expected.xml").read_bytes()


def test_variables_are_laid_over_each_other(tmp_path: Path) -> None:
    file = tmp_path / "pod.env"
    file.write_text(f"PATH=/bin\n{VARIABLE}=0000:01:00.0\n")
    done = run(
        "plan", *inputs("--env-file", file, "--env", DEVICES, "--output", "json"),
        env={VARIABLE: "0000:02:00.0"},
    )  # fmt: skip
    assert [d["host"] for d in json.loads(done.stdout)["devices"]] == [
        "0000:86:00.0",
        "0000:af:00.0",
    ]


def claims_vmi(tmp_path: Path) -> list[str | Path]:
    """A domain without hostdevs, and a VMI with two entries of one claim."""
    entries = [{"name": f"gpu{i}", "claimName": "c", "requestName": f"r{i}"} for i in range(2)]
    manifest = tmp_path / "vmi.yaml"
    spec = {
        "domain": {"devices": {"gpus": entries}},
        "resourceClaims": [{"name": "c", "resourceClaimName": "shared"}],
    }
    manifest.write_text(yaml.safe_dump({"kind": "VirtualMachineInstance", "spec": spec}))
    return ["--domain", CASES / "no-devices/domain.xml", "--vmi", manifest]


def test_the_devices_of_claims_come_from_metadata_and_from_options(tmp_path: Path) -> None:
    arguments = [*claims_vmi(tmp_path), "--dra-metadata", tmp_path]
    place = "resourceclaims/shared"
    write(tmp_path, f"{place}/r0", both({"r0": [device(**{PCI: "0000:86:00.0"})]}))
    options = ["--device", "gpu1=0000:af:00.0"]
    done = run("plan", *arguments, *options, "--output", "json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert {d["alias"]: d["host"] for d in json.loads(done.stdout)["devices"]} == {
        "ua-dra-gpu-gpu0": "0000:86:00.0",
        "ua-dra-gpu-gpu1": "0000:af:00.0",
    }
    done = run("render", *arguments)
    assert done.returncode == 2
    assert b"gpus[1] ('gpu1'): there is no " in done.stderr
    write(tmp_path, f"{place}/r1", b"x")
    done = run("render", *arguments, *options)
    assert done.returncode == 2
    assert b"resourceclaims/shared/r1/gpu.example.com-metadata.json: it is not JSON" in done.stderr
    assert run("render", *arguments[:4], *options, "--device", "gpu0=0000:86:00.0").returncode == 0


def test_a_domain_that_has_another_device_than_the_metadata_counts(tmp_path: Path) -> None:
    case = CASES / "claim-launcher-counts"
    files = ["--domain", case / "domain.xml", "--vmi", case / "vmi.json"]
    done = run("plan", *files, "--dra-metadata", case / "dra-metadata", "--output", "json")
    assert [d["host"] for d in json.loads(done.stdout)["devices"]] == ["0000:86:00.0"]
    assert b"has 0000:86:00.0, as the launcher wrote it, and 0000:af:00.0 by " in done.stderr


def test_stdin_can_be_the_domain() -> None:
    arguments = ["--vmi", README / "vmi.json", "--env", DEVICES]
    done = run("render", "--domain", "-", *arguments, stdin=(README / "domain.xml").read_bytes())
    assert done.stdout == (README / "expected.xml").read_bytes()


def test_a_vmi_may_be_yaml(tmp_path: Path) -> None:
    manifest = tmp_path / "vmi.yaml"
    manifest.write_text(yaml.safe_dump(json.loads((README / "vmi.json").read_text())))
    done = run("render", "--domain", README / "domain.xml", "--vmi", manifest, "--env", DEVICES)
    assert done.stdout == (README / "expected.xml").read_bytes()


def test_a_domain_of_another_vm_is_a_warning(tmp_path: Path) -> None:
    manifest = tmp_path / "vmi.json"
    text = (README / "vmi.json").read_text()
    manifest.write_text(text.replace('"name": "vm"', '"name": "other"'))
    arguments = ["--domain", README / "domain.xml", "--vmi", manifest, "--env", DEVICES]
    for command in ("render", "plan"):
        done = run(command, *arguments)
        assert done.returncode == 0
        assert done.stderr.decode() == (
            f"WARNING {README / 'domain.xml'} is the domain 'default_vm', and that of the VMI is "
            "'default_other': see that both are of one VM\n"
        )
    manifest.write_text(text.replace('"name": "vm",', "").replace('"name": "vm"', '"uid": "x"'))
    assert run("plan", *arguments).stderr == b""


def test_the_configuration_comes_from_file_and_set(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("layout: root-bus\nslots: {gpu1: '0000:00:10.0'}\n")
    done = run(
        "plan", *inputs("--env", DEVICES, "--config", config, "--set", "slots.gpu0=0000:00:0f.0",
                        "--output", "json")
    )  # fmt: skip
    assert [d["guest"] for d in json.loads(done.stdout)["devices"]] == [
        "0000:00:0f.0",
        "0000:00:10.0",
    ]


def test_a_diff_shows_what_changed_and_the_file_gets_the_domain(tmp_path: Path) -> None:
    out = tmp_path / "out.xml"
    done = run("render", *inputs("--env", DEVICES, "--diff", "-o", out))
    assert done.stdout.startswith(b"--- before\n+++ after\n@@")
    assert b'+\t\t<hostdev mode="subsystem" type="pci" managed="yes">' in done.stdout
    assert out.read_bytes() == (README / "expected.xml").read_bytes()


def test_verbose_says_on_stderr_what_was_decided() -> None:
    done = run("render", *inputs("--env", DEVICES, "-v"))
    assert done.stdout == (README / "expected.xml").read_bytes()
    assert b"ua-gpu-gpu0 0000:86:00.0 at 0000:18:00.0" in done.stderr
    assert b"what we wrote is valid, checked against" in done.stderr


def test_the_plan_is_a_table_with_what_sysfs_knows(tmp_path: Path) -> None:
    node = build_host_tree(tmp_path / "sys", gpu("0000:86:00.0", group=42, numa=1))
    ids = tmp_path / "pci.ids"
    ids.write_text("10de  NVIDIA\n\t1f08  TU106 [GeForce RTX 2060 Rev. A]\n")
    options = ["--env", f"{VARIABLE}=0000:86:00.0", "--sysfs", node, "--pci-ids", ids]
    done = run("plan", "--domain", README / "domain.xml", *options)
    header, first, *others = done.stdout.decode().splitlines()
    assert header.split() == [
        "device",
        "alias",
        "host",
        "class",
        "name",
        "group",
        "numa",
        "guest",
        "why",
    ]
    for cell in ("0000:86:00.0", "VGA compatible controller", "TU106 [GeForce RTX 2060 Rev. A]",
                 "42", "1", "0000:18:00.0"):  # fmt: skip
        assert cell in first
    assert len(others) == 3
    assert all("companion of 0000:86:00.0" in line for line in others)


def test_a_pci_ids_file_that_is_named_must_be_there() -> None:
    done = run("plan", *inputs("--env", DEVICES, "--pci-ids", "/nonexistent"))
    assert done.returncode == 2
    assert b"/nonexistent: it cannot be read" in done.stderr


def test_the_plan_is_a_tree_as_lspci_draws_it() -> None:
    done = run("plan", *inputs("--env", DEVICES, "--output", "tree"))
    assert done.stdout.decode().splitlines() == [
        r"-[0000:00 q35]-+-10.0-[18]---00.0  ua-gpu-gpu0 = 0000:86:00.0",
        r"               \-10.1-[19]---00.0  ua-gpu-gpu1 = 0000:af:00.0",
        "Nothing is known of the node: give its /sys with --sysfs.",
    ]


def test_the_tree_shows_the_other_devices_that_have_an_address() -> None:
    case = CASES / "second-pass"
    done = run("plan", "--domain", case / "domain.xml", "--output", "tree")
    assert done.stdout.decode().splitlines() == [
        r"-[0000:00 q35]-+-02.0-[01]--",
        r"               +-02.1-[02]--",
        r"               +-02.2-[03]--",
        r"               +-10.0-[18]-+-00.0  ua-gpu-gpu0 = 0000:86:00.0",
        r"               |           \-00.1  ua-pci-0000-86-00-1 = 0000:86:00.1",
        r"               \-10.1-[19]---00.0  ua-gpu-gpu1 = 0000:af:00.0",
        "Nothing is known of the node: give its /sys with --sysfs.",
    ]


@pytest.mark.parametrize(("columns", "beside"), [("200", True), ("80", False)])
def test_the_nodes_tree_is_beside_the_guests_where_columns_allow_it(
    tmp_path: Path, columns: str, beside: bool
) -> None:
    node = build_host_tree(tmp_path / "sys", gpu("0000:86:00.0", group=42, numa=1))
    options = ["--env", f"{VARIABLE}=0000:86:00.0", "--sysfs", node, "--output", "tree"]
    done = run(
        "plan", "--domain", README / "domain.xml", *options, env={"COLUMNS": columns}
    )  # fmt: skip
    first = done.stdout.decode().splitlines()[0]
    assert (done.returncode, done.stderr) == (0, b"")
    assert first.split() == (["node:", "guest:"] if beside else ["node:"])


@pytest.mark.parametrize(("output", "start"), [("svg", b"<svg "), ("dot", b"digraph plan {")])
def test_a_picture_is_all_that_is_printed(output: str, start: bytes) -> None:
    done = run("plan", *inputs("--env", DEVICES, "--output", output))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(start)
    assert b"0000:af:00.0" in done.stdout


@pytest.mark.parametrize("output", ["svg", "dot", "json"])
def test_a_plan_that_is_refused_is_no_picture(output: str) -> None:
    done = run("plan", *inputs("--env", f"{VARIABLE}=86:00.0", "--output", output))
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_mediated_device_is_where_its_function_is_under_every_layout(tmp_path: Path) -> None:
    node = build_host_tree(tmp_path / "sys", gpu("0000:86:00.0", group=42, numa=1))
    add_mdev(node, "4b20d080-1b54-4048-85b3-a6a62d165c01", "0000:86:00.0", 90)
    variable = "MDEV_PCI_RESOURCE_X=4b20d080-1b54-4048-85b3-a6a62d165c01"
    options = ["--env", variable, "--sysfs", node, "--output", "json"]
    done = run("plan", "--domain", CASES / "nothing-to-do" / "domain.xml", *options)
    assert json.loads(done.stdout)["distances"]["host"] == [["X"]]
    done = run(
        "plan", "--domain", CASES / "nothing-to-do" / "domain.xml", *options[:-1], "tree"
    )  # fmt: skip
    assert b"-[0000:86]---00.0---4b20d080" in done.stdout


@pytest.mark.parametrize("output", ["table", "tree"])
def test_a_plan_of_nothing_says_so(output: str) -> None:
    done = run("plan", "--domain", CASES / "nothing-to-do" / "domain.xml", "--output", output)
    assert (done.returncode, done.stdout) == (0, b"no devices\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--env", f"{VARIABLE}=86:00.0"], 2, "item 1 of 1: '86:00.0' is not a PCI address"),
        (["--env", "nonsense"], 2, "--env nonsense: 'nonsense' is not NAME=VALUE"),
        (["--env-file", "/nonexistent"], 2, "/nonexistent: it cannot be read: No such file"),
        (["--config", "/nonexistent"], 2, "/nonexistent: it cannot be read: No such file"),
        (["--vmi", "/nonexistent"], 2, "/nonexistent: it cannot be read: No such file"),
        (["--domain", "/"], 2, "/: it cannot be read: Is a directory"),
        (["--sysfs", "/nonexistent"], 2, "there is no bus/pci/devices below it; give a node's"),
        (["--rom-dir", "roms"], 2, "--rom-dir roms: 'roms' is no directory to be allowed"),
        (["--schema-version", "1.0"], 2, "there are no libvirt schemas of version '1.0'"),
        (["--env", DEVICES, "-o", "/nonexistent/x"], 2, "-o /nonexistent/x: it cannot be written"),
        (["--domain", "-", "--vmi", "-"], 2, "--vmi -: stdin is --domain already"),
        (["--domain", "-", "--config", "-"], 2, "--config -: stdin is --domain already"),
        (["--vmi", "-", "--env-file", "-"], 2, "--env-file -: stdin is --vmi already"),
        (["--env", DEVICES, "--set", "slots.gpu0=0000:00:1f.0"], 3, "is reserved for the ICH9"),
    ],
)
def test_a_refusal_has_its_exit_status_one_line_and_no_output(
    arguments: list[str], status: int, message: str
) -> None:
    done = run("render", *inputs(*arguments))
    assert (done.returncode, done.stdout) == (status, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("launcher-hook: ")
    assert message in lines[0]


def test_a_failure_leaves_the_old_file_whole(tmp_path: Path) -> None:
    old = tmp_path / "out.xml"
    old.write_text("old")
    done = run("render", *inputs("--env", f"{VARIABLE}=x", "-o", old))
    assert (done.returncode, old.read_text()) == (2, "old")
    assert list(tmp_path.iterdir()) == [old]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    old = tmp_path / "out.xml"
    old.write_text("old")
    limited = f"ulimit -f 1; exec '{COMMAND}' render --domain '{README / 'domain.xml'}' -o '{old}'"
    done = subprocess.run(
        ["bash", "-c", limited],
        env={**os.environ, **dict([DEVICES.split("=")])},
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert old.read_text() == "old"


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    out = tmp_path / "out.xml"
    out.touch(mode=0o640)
    run("render", *inputs("--env", DEVICES, "-o", out))
    assert out.stat().st_mode & 0o777 == 0o640


def test_output_to_a_pipe_that_is_closed_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{COMMAND}' render --domain '{README / 'domain.xml'}' | true"],
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("redirection", "message"),
    [(">/dev/full", "stdout: it cannot be written: No space left"), (">&-", "stdout: it is clos")],
)
@pytest.mark.parametrize("command", ["render", "plan"])
def test_a_stdout_that_cannot_be_written_is_said(
    command: str, redirection: str, message: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{COMMAND}' {command} --domain '{README / 'domain.xml'}' {redirection}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"launcher-hook: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_stdin_and_a_loop_of_links_are_said(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{COMMAND}' render --domain - <&-"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "launcher-hook: -: it cannot be read: stdin is closed" in done.stderr
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    done = run("render", *inputs("--env", DEVICES, "-o", loop))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_message_stays_on_one_line_whatever_the_input() -> None:
    done = run("render", "--domain", "no\x1b[31mpe\nx")
    assert done.stderr.startswith(b"launcher-hook: no\\x1b[31mpe\\nx: it cannot be read")


def test_a_name_outside_ascii_is_no_trouble_for_an_ascii_terminal(tmp_path: Path) -> None:
    vmi = tmp_path / "vmi.json"
    entry = {"name": "größe", "deviceName": "x/A"}
    spec = {"domain": {"devices": {"gpus": [entry]}}}
    vmi.write_text(json.dumps({"kind": "VirtualMachineInstance", "spec": spec}))
    options = ["--vmi", vmi, "--env", "PCI_RESOURCE_X_A=0000:86:00.0"]
    environ = {"PYTHONIOENCODING": "ascii"}
    done = run("plan", "--domain", README / "domain.xml", *options, env=environ)
    assert done.returncode == 0
    assert b"gr\\xf6\\xdfe" in done.stdout


def test_an_environment_of_proc_is_read(tmp_path: Path) -> None:
    file = tmp_path / "environ"
    file.write_bytes(b"HOME=/\0" + DEVICES.encode() + b"\0")
    done = run("render", *inputs("--env-file", file))
    assert done.stdout == (README / "expected.xml").read_bytes()


def test_standard_output_may_be_named(tmp_path: Path) -> None:
    for name in ("-", "/dev/stdout"):
        done = run("render", *inputs("--env", DEVICES, "-o", name))
        assert done.stdout == (README / "expected.xml").read_bytes()


def test_a_domain_full_of_foreign_elements_takes_no_minutes(tmp_path: Path) -> None:
    full = tmp_path / "full.xml"
    text = (README / "domain.xml").read_text()
    full.write_text(text.replace("</metadata>", "<x/>" * 15_000 + "</metadata>"))
    done = run("render", "--domain", full, "--env", DEVICES, "-v")
    assert done.returncode == 0
    assert b"more than 10000 elements: only our part was checked" in done.stderr


def test_a_disk_with_an_impossible_name_is_no_trouble(tmp_path: Path) -> None:
    odd = tmp_path / "odd.xml"
    disk = '<disk device="disk"><target bus="sata" dev="subsystem"/></disk>'
    odd.write_text((README / "domain.xml").read_text().replace("<devices>", f"<devices>{disk}"))
    assert run("render", "--domain", odd, "--env", DEVICES).returncode == 0


def test_an_unclaimed_device_is_attached_and_said_so_without_being_asked() -> None:
    done = run("render", *inputs("--env", f"{DEVICES},0000:b0:00.0"))
    assert done.returncode == 0
    assert b"0000:b0:00.0 at 0000:1a:00.0" in done.stderr
    assert b"claimed by no entry of the VMI" in done.stderr


def test_a_name_that_would_garble_a_terminal_is_refused(tmp_path: Path) -> None:
    for name in ("a\nb", "a\x1b[2Jb", "a\ud800b", "x" * 300):
        vmi = tmp_path / "vmi.json"
        entry = {"name": name, "deviceName": "x/A"}
        spec = {"domain": {"devices": {"gpus": [entry]}}}
        vmi.write_text(json.dumps({"kind": "VirtualMachineInstance", "spec": spec}))
        done = run("plan", "--domain", README / "domain.xml", "--vmi", vmi,
                   "--env", "PCI_RESOURCE_X_A=0000:86:00.0")  # fmt: skip
        assert done.returncode == 2
        assert b"is no name; give it one of at most 253 printable characters" in done.stderr
