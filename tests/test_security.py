"""SECURITY.md: each threat has its test, and here are those that are nobody else's."""

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cases import CASES, case_names, read_case
from launcher import running_sidecar
from lxml import etree

from launcher_hook.assign import is_user_alias
from launcher_hook.config import read_settings
from launcher_hook.deviceplugin.names import name_device, name_socket
from launcher_hook.env import parse_allocations
from launcher_hook.errors import InputError
from launcher_hook.hook.call import DomainHook, HookOptions
from launcher_hook.render import Inputs, render_domain
from launcher_hook.schema import load_schemas
from launcher_hook.vmi import CONFIG_ANNOTATION, parse_vmi

REPOSITORY = Path(__file__).parent.parent
TEXT = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")

STOCK = CASES / "stock-sidecar"
DOMAIN, VMI = (STOCK / "domain.xml").read_bytes(), (STOCK / "vmi.json").read_bytes()


def threats() -> list[list[str]]:
    table = TEXT.partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return rows[1:]


@pytest.mark.parametrize("row", threats(), ids=lambda row: row[-1].strip("`").partition("::")[2])
def test_a_threat_has_its_test(row: list[str]) -> None:
    assert len(row) == 3
    file, _, name = row[2].strip("`").partition("::")
    assert f"\ndef {name}(" in (REPOSITORY / file).read_text(encoding="utf-8")


def test_every_test_of_a_threat_that_is_here_is_spoken_of_there() -> None:
    own = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(encoding="utf-8"), re.M))
    spoken_of = {row[2].strip("`").partition("::")[2] for row in threats()}
    assert {name for name in own if "threat" not in name} <= spoken_of


def test_a_vmis_status_gets_no_device() -> None:
    """Offline it is believed; a hook knows the launcher's hostdevs and variables only."""
    vmi = json.loads(VMI)
    entry = {"name": "gpu0", "claimName": "c", "requestName": "r"}
    vmi["spec"]["domain"]["devices"]["gpus"] = [entry]
    claim = {"attributes": {"pciAddress": "0000:99:00.0"}}
    status = {"name": "gpu0", "deviceResourceClaimStatus": claim}
    vmi["status"] = {"deviceStatus": {"gpuStatuses": [status]}}
    hook = DomainHook(HookOptions(), load_schemas(), dict)
    domain = (CASES / "no-devices/domain.xml").read_bytes()
    with pytest.raises(InputError, match="the domain has no hostdev 'ua-dra-gpu-gpu0'"):
        hook.define(domain, json.dumps(vmi).encode())


def with_annotation(config: str) -> bytes:
    vmi = json.loads(VMI)
    vmi["metadata"]["annotations"] = {CONFIG_ANNOTATION: config}
    return json.dumps(vmi).encode()


@pytest.mark.parametrize(
    "config",
    [
        'slots: {"0000:99:00.0": "0000:20:00.0"}',
        'devices: ["0000:99:00.0"]',
        "env: {PCI_RESOURCE_A: 0000:99:00.0}",
        "sysfs: /tmp/x",
        "companions: all",
    ],
)
def test_an_annotation_gets_no_device_that_was_not_allocated(config: str) -> None:
    vmi = parse_vmi(with_annotation(config), "VMI")

    def render() -> bytes:
        settings = read_settings(None, vmi.config_source)
        return render_domain(Inputs(DOMAIN, vmi=vmi, settings=settings), load_schemas()).xml

    with pytest.raises(InputError):
        render()


def test_a_domain_reads_no_file_and_calls_nobody(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("<hostdev>a secret</hostdev>")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        file = secret.as_uri()
        followed = [
            f'<x xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{target}"/></x>'
            for target in (file, url)
        ]
        followed.append(
            f'<x xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:schemaLocation="u {url}"'
            f' i:noNamespaceSchemaLocation="{url}" xml:base="{url}"/>'
        )
        domain = DOMAIN.replace(b"<devices>", f"{''.join(followed)}<devices>".encode())
        domain = f'<?xml-stylesheet href="{url}"?><?xml-model href="{file}"?>'.encode() + domain
        rendered = render_domain(Inputs(domain), load_schemas(), explain=True).xml
        assert b"a secret" not in rendered
        assert all(element.split(">")[0].encode() in rendered for element in followed)
        for doctype in (
            f'<!DOCTYPE domain SYSTEM "{url}">',
            f'<!DOCTYPE domain [<!ENTITY a SYSTEM "{file}">]>',
            f'<!DOCTYPE domain [<!ENTITY % a SYSTEM "{url}"> %a;]>',
        ):
            with pytest.raises(InputError, match="it has a DOCTYPE"):
                render_domain(Inputs(doctype.encode() + DOMAIN), load_schemas())
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):  # nobody has called
            server.accept()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [touch /tmp/owned]",
        "a: !!python/name:os.system",
        "layout: !!python/object/new:type [a]",
        "{layout: !!binary cm9vdC1idXM=}",
        "a: &a [x]\nb: *a",
    ],
)
def test_yaml_makes_nothing_but_text_lists_and_mappings(text: str) -> None:
    with pytest.raises(InputError, match="it is not YAML"):
        read_settings(None, ("annotation", text))
    if "!!python" in text:
        vmi = f"kind: VirtualMachineInstance\nspec: {{domain: {{devices: {{gpus: [{text}]}}}}}}"
        with pytest.raises(InputError):
            parse_vmi(vmi.encode(), "VMI")
    assert not Path("/tmp/owned").exists()


@pytest.mark.parametrize("name", [n for n in case_names() if not n.startswith("refused-")])
def test_what_we_write_names_no_file(name: str, tmp_path: Path) -> None:
    inputs = read_case(name, tmp_path)

    def paths(xml: bytes) -> set[str]:
        """Values that begin like a path or an address."""
        root = etree.fromstring(xml)
        values = [value for element in root.iter("*") for value in element.attrib.values()]
        values += [text.strip() for element in root.iter("*") for text in element.itertext()]
        return {value for value in values if "/" in value}

    rendered = render_domain(inputs, load_schemas()).xml
    for path in paths(rendered) - paths(inputs.domain_xml):
        # A size that OVMF is told, under a name of its own; an option ROM where they are allowed.
        told = re.fullmatch("name=opt/ovmf/X-PciMmio64Mb,string=[0-9]+", path)
        assert told or any(Path(path).is_relative_to(roms) for roms in inputs.rom_directories)


@pytest.mark.parametrize(
    "name",
    [
        "'/><evil/>",
        'a"b',
        "<!--",
        "]]>",
        "&lt;",
        "../../etc",
        "a b",
        "\u00e9",
        "ua-x",
        "x" * 253,
        "%s{0}",
    ],
)
def test_a_name_stays_a_name(name: str) -> None:
    gpus = [{"name": name, "deviceName": "a/b"}]
    vmi = parse_vmi(json.dumps({"spec": {"domain": {"devices": {"gpus": gpus}}}}).encode(), "VMI")
    allocations = parse_allocations({"PCI_RESOURCE_A_B": "0000:86:00.0"})
    domain = (CASES / "no-devices" / "domain.xml").read_bytes()
    inputs = Inputs(domain, vmi=vmi, allocations=allocations)
    rendered = render_domain(inputs, load_schemas()).xml
    (hostdev,) = etree.fromstring(rendered).findall("devices/hostdev")
    (alias,) = hostdev.findall("alias")
    assert is_user_alias(alias.get("name", ""))
    assert render_domain(replace(inputs, domain_xml=rendered), load_schemas()).xml == rendered


def test_names_forge_nothing_in_the_log() -> None:
    evil = 'x", "level": "fatal"}\n{"level": "forged\x1b[2J\u2028'
    vmi = json.loads(VMI)
    vmi["metadata"] |= {"name": evil, "namespace": evil, "uid": evil}
    with running_sidecar("--sysfs", "/nonexistent") as sidecar:
        sidecar.define(DOMAIN, json.dumps(vmi).encode())
        vmi["spec"]["domain"]["devices"]["gpus"][0]["name"] = evil
        with pytest.raises(grpc.RpcError) as caught:
            sidecar.define(DOMAIN, json.dumps(vmi).encode())
        assert caught.value.details().isprintable()
        events = sidecar.events()  # each line is JSON
    assert {event["level"] for event in events} == {"info", "error"}
    assert [event["name"] for event in events if "name" in event] == [evil]


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "..", "a\0b", "x" * 200])
def test_a_resource_is_no_path(name: str) -> None:
    directory = Path("/var/lib/kubelet/device-plugins")
    for resource in (f"a.com/{name_device(name)}", f"a.com/{name}"):
        socket_name = name_socket(resource, directory, ())
        assert "/" not in socket_name
        assert socket_name.startswith("kubevirt-")
