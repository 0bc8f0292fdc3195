"""The hook sidecar as a process on a real socket."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cases import CASES, shared_domains, vmi_of
from launcher import COMMAND, PLUGIN_CALLS, Sidecar, mutate, running_sidecar

from launcher_hook.hook.services import PLUGIN_APIS

NO_SYSFS = ("--sysfs", "/nonexistent")
CASE = CASES / "stock-sidecar"
DOMAIN = (CASE / "domain.xml").read_bytes()
VMI = (CASE / "vmi.json").read_bytes()
BARE = DOMAIN[: DOMAIN.index(b"\t\t<hostdev")] + DOMAIN[DOMAIN.rindex(b"</hostdev>") + 11 :]
EXPECTED = (CASE / "expected.xml").read_bytes()


@pytest.fixture(scope="module")
def sidecar() -> object:
    with running_sidecar(*NO_SYSFS) as running:
        yield running


def test_info_says_what_the_launcher_needs(sidecar: Sidecar) -> None:
    info = sidecar.info()
    assert list(info.versions) == ["v1alpha1", "v1alpha2", "v1alpha3"]
    assert [point.name for point in info.hookPoints] == ["OnDefineDomain", "Shutdown"]


def test_nothing_but_the_socket_is_in_the_directory(sidecar: Sidecar) -> None:
    assert [path.name for path in sidecar.directory.iterdir()] == ["hook-sidecar-0.sock"]


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3"])
def test_every_version_answers_what_render_gives(sidecar: Sidecar, version: str) -> None:
    assert sidecar.define(DOMAIN, VMI, version) == EXPECTED


@pytest.fixture(scope="module")
def plugin() -> Iterator[Path]:
    """The socket of a plugin, in a directory of its own as KubeVirt mounts it."""
    with tempfile.TemporaryDirectory(prefix="lhp", dir="/tmp") as directory:
        path = Path(directory) / "x.sock"
        with running_sidecar(*NO_SYSFS, "--plugin-socket", path):
            yield path


def test_every_name_of_the_plugin_api_is_tried_here() -> None:
    served = {f"{api.service}/{api.method}" for api in PLUGIN_APIS}
    assert served == {names.method for names in PLUGIN_CALLS.values()}


@pytest.mark.parametrize("version", PLUGIN_CALLS)
def test_the_plugin_api_answers_the_same(plugin: Path, version: str) -> None:
    assert mutate(plugin, DOMAIN, VMI, version=version) == EXPECTED


@pytest.mark.parametrize("version", PLUGIN_CALLS)
def test_the_plugin_api_gives_a_migration_target_anything_back(plugin: Path, version: str) -> None:
    for domain, vmi in ((DOMAIN, VMI), (b"<no domain", b"no VMI")):
        assert mutate(plugin, domain, vmi, "MigrationTarget", version) == domain


@pytest.mark.parametrize("version", PLUGIN_CALLS)
def test_the_plugin_api_refuses_in_words(plugin: Path, version: str) -> None:
    with pytest.raises(grpc.RpcError, match="domain XML: .*no domain|not well-formed") as caught:
        mutate(plugin, b"<no domain", VMI, version=version)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_the_deployment_says_where_rom_files_may_be() -> None:
    vmi = json.loads(VMI)
    asked = "devices: {gpu0: {rom: {file: /var/run/roms/x.rom}}}"
    annotations = vmi["metadata"].setdefault("annotations", {})
    annotations["passthrough.launcher-hook.io/config"] = asked
    with running_sidecar(*NO_SYSFS, "--rom-dir", "/var/run/roms") as allowing:
        answer = allowing.define(DOMAIN, json.dumps(vmi).encode())
    assert b'<rom file="/var/run/roms/x.rom"/>' in answer
    with (
        running_sidecar(*NO_SYSFS) as refusing,
        pytest.raises(grpc.RpcError, match=r"allows \(none\); add --rom-dir DIRECTORY"),
    ):
        refusing.define(DOMAIN, json.dumps(vmi).encode())


def test_the_shim_program_answers_the_same() -> None:
    program = str(Path(COMMAND).with_name("onDefineDomain"))
    done = subprocess.run(
        [program, "--vmi", VMI.decode(), "--domain", DOMAIN.decode()],
        capture_output=True, check=False,
    )  # fmt: skip
    # It reads this machine's /sys, which has none of these functions.
    assert done.stdout == EXPECTED or b"the node has no such function" in done.stderr


def test_the_shim_program_refuses_what_is_not_utf_8() -> None:
    program = str(Path(COMMAND).with_name("onDefineDomain"))
    done = subprocess.run(
        [program, "--vmi", VMI, "--domain", DOMAIN.replace(b"<name>", b"<name>\xff")],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"is not UTF-8; convert it to UTF-8" in done.stderr


def test_a_launchers_domains_are_answered(sidecar: Sidecar) -> None:
    for file in shared_domains():
        name = file.stem.removeprefix("p2-").removeprefix("p3-")
        vmi = file.with_name(f"{name}.vmi.json").read_bytes()
        answer = sidecar.define(file.read_bytes(), vmi)
        assert sidecar.define(answer, vmi) == answer
        assert len(vmi_of(file).requests) == 0 or b"<hostdev" in answer


@pytest.mark.parametrize(
    ("domain", "vmi", "code", "message"),
    [
        (b"", VMI, "INVALID_ARGUMENT", "domain XML: it is empty; give a libvirt domain"),
        (b"\x00\xff", VMI, "INVALID_ARGUMENT", "domain XML: it is "),
        (DOMAIN, b"{", "INVALID_ARGUMENT", "VMI: it is not JSON"),
        (DOMAIN.replace(b"<hostdev", b"<nothing").replace(b"</hostdev", b"</nothing"), VMI,
         "INVALID_ARGUMENT", "is not set, and the domain has no hostdev 'ua-gpu-gpu0'; have"),
    ],
    ids=["empty", "garbage", "vmi", "missing"],
)  # fmt: skip
def test_a_refusal_is_a_status_that_says_what_to_do(
    sidecar: Sidecar, domain: bytes, vmi: bytes, code: str, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        sidecar.define(domain, vmi)
    assert caught.value.code().name == code
    assert message in caught.value.details()
    assert sidecar.define(DOMAIN, VMI) == EXPECTED


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        ("a.com/x\nERROR forged", "'a.com/x\\nERROR forged' allocated to the pod, or give"),
        ("a.com/\ud800", "'a.com/\\ud800' allocated to the pod, or give"),
        ("a.com/" + "x" * 100_000, "write a resource, vendor/NAME"),
    ],
    ids=["line feed", "no character", "long"],
)
def test_a_refusal_is_one_short_line_whatever_it_quotes(
    sidecar: Sidecar, resource: str, message: str
) -> None:
    vmi = json.loads(VMI)
    vmi["spec"]["domain"]["devices"]["gpus"][0] = {"name": "a", "deviceName": resource}
    with pytest.raises(grpc.RpcError) as caught:
        sidecar.define(BARE, json.dumps(vmi).encode())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = caught.value.details()
    assert message in details
    assert details.startswith("launcher-hook ")
    assert details.isprintable()
    assert len(details) < 5000


def test_the_log_for_people_is_one_line_an_event_and_says_of_what_it_is() -> None:
    annotation = "passthrough.launcher-hook.io/config"
    vmi = json.loads(VMI)
    vmi["metadata"]["annotations"] = {annotation: '"a\\nERROR forged": 1'}
    with running_sidecar(*NO_SYSFS, "--log-format", "text") as running:
        running.define(DOMAIN, VMI)
        with pytest.raises(grpc.RpcError, match="there is no such key"):
            running.define(DOMAIN, json.dumps(vmi).encode())
        lines = running.log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["INFO", "INFO", "ERROR"]
    assert "devices=ua-gpu-gpu0=0000:86:00.0@0000:18:00.0,ua-gpu-gpu1=" in lines[1]


def test_a_request_that_is_too_big_is_refused_and_the_next_is_fine(sidecar: Sidecar) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        sidecar.define(b"<domain>" + b" " * (4 << 20) + b"</domain>", VMI)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sidecar.define(DOMAIN, VMI) == EXPECTED


def test_garbage_bytes_and_a_client_that_goes_away_do_no_harm(sidecar: Sidecar) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(sidecar.socket))
            client.sendall(os.urandom(2000))
    assert sidecar.define(DOMAIN, VMI) == EXPECTED


def test_calls_at_once_are_all_answered(sidecar: Sidecar) -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(sidecar.define(DOMAIN, VMI)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [EXPECTED] * 20


MOVING = VMI.rstrip()[:-1] + b', "status": {"migrationState": {"targetNode": "n2"}}}'


@pytest.mark.parametrize("domain", [BARE, DOMAIN, b"<no domain"], ids=["bare", "GPU", "broken"])
def test_a_migration_target_gets_its_domain_back(sidecar: Sidecar, domain: bytes) -> None:
    assert sidecar.define(domain, MOVING) == domain


@pytest.mark.parametrize("on_error", ["fail", "passthrough"])
def test_a_migration_target_is_logged_and_is_no_pass_of_the_vm(on_error: str) -> None:
    with running_sidecar(*NO_SYSFS, "--set", "layout=root-port", "--on-error", on_error) as running:
        for vmi in (MOVING, MOVING.replace(b'"gpus"', b'"gpus": 1, "gpus"')[:-1]):
            assert running.define(DOMAIN, vmi) == DOMAIN
        assert running.define(DOMAIN, VMI) == EXPECTED
        events = running.events()
    targets = [e for e in events if e["msg"] == "migration target, nothing to do"]
    assert len(targets) == 2
    assert [event["level"] for event in targets] == ["info", "info"]
    assert not [event for event in events if "passed through" in event["msg"]]
    assert [event["pass"] for event in events if event["msg"] == "domain defined"] == [1]


def test_a_migration_target_gets_its_domain_back_whatever_variables_there_are() -> None:
    variable = "PCI_RESOURCE_NVIDIA_COM_SOMETHING_ELSE=0000:99:00.0"
    with running_sidecar(*NO_SYSFS, "--env", variable) as sidecar:
        assert sidecar.define(BARE, MOVING) == BARE


def test_no_fault_in_a_configuration_keeps_a_running_vm_from_its_new_node(
    sidecar: Sidecar,
) -> None:
    bad = b'"metadata": {"annotations": {"passthrough.launcher-hook.io/config": "layout: x"}, '
    here, moving = (vmi.replace(b'"metadata": {', bad, 1) for vmi in (VMI, MOVING))
    with pytest.raises(grpc.RpcError, match="layout"):
        sidecar.define(DOMAIN, here)
    assert sidecar.define(BARE, moving) == BARE


def test_passthrough_gives_the_input_back_and_says_so_in_the_log() -> None:
    with running_sidecar(*NO_SYSFS, "--on-error", "passthrough") as running:
        assert running.define(b"<network/>", VMI) == b"<network/>"
        assert any(
            event["level"] == "error" and event["msg"].startswith("passed through unchanged: ")
            for event in running.events()
        )


@pytest.mark.parametrize("level", [(), ("-v",)], ids=["default", "verbose"])
def test_the_log_is_one_json_line_an_event_and_never_the_domain(level: tuple[str, ...]) -> None:
    """With hookSidecars the VM's owner writes the arguments, and others may read the log."""
    graphics = b"<graphics type='vnc' passwd='s3cret'/></devices>"
    domain = DOMAIN.replace(b"</devices>", graphics)
    vmi = VMI.replace(b'"spec"', b'"status": {"x": "pa55word"}, "spec"', 1)
    with running_sidecar(*NO_SYSFS, *level) as running:
        running.define(domain, vmi)
        running.define(EXPECTED, VMI)
        events = running.events()
    for event in events:
        assert {"component", "level", "msg", "timestamp", "pos"} <= set(event)
    defined = [event for event in events if event["msg"] == "domain defined"]
    assert [event["pass"] for event in defined] == [1, 2]
    assert defined[0]["devices"] == [
        "ua-gpu-gpu0=0000:86:00.0@0000:18:00.0",
        "ua-gpu-gpu1=0000:af:00.0@0000:19:00.0",
    ]
    assert (defined[0]["namespace"], defined[0]["name"]) == ("default", "vm")
    log = str(events)
    for private in ("<domain", "<hostdev", "s3cret", "pa55word", "warm-up", "0000:01:00.0"):
        assert private not in log


@pytest.mark.parametrize("how", ["Shutdown", "SIGTERM", "SIGINT"])
def test_it_ends_with_status_0_and_takes_its_socket_away(how: str) -> None:
    with running_sidecar(*NO_SYSFS) as running:
        if how == "Shutdown":
            running.shut_down()
        else:
            running.process.send_signal(getattr(signal, how))
        assert running.process.wait(60) == 0
        assert list(running.directory.iterdir()) == []


def test_the_socket_of_a_crashed_predecessor_is_replaced() -> None:
    with running_sidecar(*NO_SYSFS) as first:
        stale = first.kill()
        with running_sidecar(*NO_SYSFS, directory=first.directory, stale=stale) as second:
            assert second.info().name == "hook-sidecar-0"


def test_a_second_instance_on_a_live_socket_refuses_to_start(sidecar: Sidecar) -> None:
    done = subprocess.run(
        [COMMAND, "serve", "--socket-dir", str(sidecar.directory), *NO_SYSFS],
        env={**os.environ, "CONTAINER_NAME": "hook-sidecar-0"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "another server is alive on it; stop that one" in done.stderr
    assert sidecar.info().name == "hook-sidecar-0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--socket-dir", "/nonexistent"], "there is no such directory; mount it"),
        (["--versions", "v9"], "'v9' is not known; write some of v1alpha1,v1alpha2,v1alpha3"),
        (["--config", "/nonexistent"], "it cannot be read"),
        (["--socket-dir", "/tmp/" + "x" * 120], "give a path of at most 107 bytes"),
    ],
)
def test_what_it_cannot_start_with_is_said(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [COMMAND, "serve", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_the_server_has_not_loaded_what_is_too_heavy_for_its_container() -> None:
    every_import = {"PYTHONPROFILEIMPORTTIME": "1"}
    with running_sidecar(*NO_SYSFS, "--set", "layout=root-port", variables=every_import) as running:
        running.define(DOMAIN, VMI)
        with pytest.raises(grpc.RpcError):
            running.define(b"<domain>", VMI)
        imported = re.findall(r"^import time:.*\| +(\S+)$", running.log.read_text(), re.MULTILINE)
        maps = Path(f"/proc/{running.process.pid}/maps").read_text()
    top = {name.partition(".")[0] for name in imported}
    assert {"lxml", "grpc", "yaml"} <= top  # it is seen
    assert top.isdisjoint(
        {"pydantic", "pydantic_core", "xmlschema", "elementpath", "libvirt", "google", "asyncio",
         "ssl", "typing_extensions", "prometheus_client", "inotify_simple", "tempfile", "difflib"}
    )  # fmt: skip
    assert "libcrypto" not in maps
