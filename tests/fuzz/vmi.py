"""Any bytes as a VMI, JSON or YAML: read, and its devices given to a domain."""

from dataclasses import replace

from fuzz.domain import SCHEMAS, check_refusal, check_rendered
from fuzz.target import CASES, REPOSITORY, SHARED_DOMAINS, Target, case_files

from launcher_hook.assign import is_user_alias
from launcher_hook.config import read_settings
from launcher_hook.domain.document import parse_domain
from launcher_hook.domain.inspect import passed_hostdevs, read_hostdev
from launcher_hook.env import parse_allocations
from launcher_hook.errors import HookError, SchemaError
from launcher_hook.render import Inputs, render_domain
from launcher_hook.vmi import CONFIG_ANNOTATION, parse_vmi

DOMAIN = (CASES / "no-devices" / "domain.xml").read_bytes()
ALLOCATIONS = parse_allocations(
    {
        "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A": "0000:86:00.0,0000:af:00.0",
        "PCI_RESOURCE_A_B": "0000:01:00.0,0000:01:00.1",
        "MDEV_PCI_RESOURCE_A_B": "4b20d080-1b54-4048-85b3-a6a62d165c01",
    }
)


def check(data: bytes) -> None:
    """Refused in one sentence; or every name in it has become an alias that libvirt keeps."""
    try:
        vmi = parse_vmi(data, "VMI")
        settings = read_settings(None, vmi.config_source)
        inputs = Inputs(
            DOMAIN, vmi=vmi, allocations=ALLOCATIONS, settings=settings, devices=vmi.reported
        )
        xml = render_domain(inputs, SCHEMAS).xml
    except SchemaError:
        raise
    except HookError as error:
        check_refusal(error)
        return
    root = parse_domain(xml).getroot()
    hostdevs = [read_hostdev(hostdev, "") for hostdev in passed_hostdevs(root)]
    sources = {source for allocation in ALLOCATIONS.values() for source in allocation.sources}
    sources |= {device.source for device in vmi.reported.values() if device.source is not None}
    assert {h.source for h in hostdevs} == sources
    assert len(hostdevs) == len(sources)
    assert all(h.alias is not None and is_user_alias(h.alias) for h in hostdevs)
    assert len({h.alias for h in hostdevs}) == len(hostdevs)
    check_rendered(inputs, xml)
    assert render_domain(replace(inputs, domain_xml=xml), SCHEMAS).xml == xml


def seeds() -> list[bytes]:
    """Fixtures and what a launcher really sends."""
    manifests = [path.read_bytes() for path in sorted((REPOSITORY / "fixtures/vmis").glob("*"))]
    if SHARED_DOMAINS.is_dir():
        manifests += [path.read_bytes() for path in sorted(SHARED_DOMAINS.glob("*.vmi.json"))]
    gpus = [
        b'{"spec":{"domain":{"devices":{"gpus":[{"name":"g","deviceName":"a/b"}],'
        b'"hostDevices":[{"name":"a.b","deviceName":"a.b"},{"name":"c","claimName":"d"}]}}}}',
        b'{"spec":{"resourceClaims":[{"name":"d","resourceClaimName":"o"}],"domain":{"devices":{'
        b'"gpus":[{"name":"g","claimName":"d","requestName":"r"},{"name":"g","deviceName":"a/b"}]}}'
        b'},"status":{"deviceStatus":{"gpuStatuses":[{"name":"g","deviceResourceClaimStatus":{'
        b'"attributes":{"pciAddress":"0000:3b:00.0"}}}]}}}',
    ]
    return case_files("vmi.json") + manifests + gpus


WORDS = [
    *(
        word.encode()
        for word in (
            '{"name":"g","deviceName":"a/b"},',
            '{"name":"a.b","deviceName":"a/b"},',
            '"name":',
            '"deviceName":',
            '"claimName":"c","requestName":"r"',
            '"resourceClaims":[{"name":"c","resourceClaimName":"o"}],',
            '"deviceStatus":{"gpuStatuses":[{"name":"g","deviceResourceClaimStatus":{"attributes":',
            '"pciAddress":"0000:3b:00.0"',
            '"mDevUUID":"4b20d080-1b54-4048-85b3-a6a62d165c02"',
            '"gpus":[',
            '"hostDevices":[',
            '"spec":{',
            '"domain":{',
            '"devices":{',
            '"kind":"VirtualMachine",',
            '"template":{',
            '"metadata":{',
            f'"annotations":{{"{CONFIG_ANNOTATION}":"layout: root-bus"}},',
            f'"{CONFIG_ANNOTATION}":"slots: {{g: \\"0000:20:00.0\\"}}"',
            '"virtualGPUOptions":{"display":{"enabled":false,"ramFB":{"enabled":false}}}',
            '"status":{"phase":"Running","migrationState":{"targetNode":"n"}},',
            "\\ud800",
            "\\u0000",
            "\\n",
            "null",
            "true",
            "[",
            "{",
            "]",
            "}",
            "1e999",
            "NaN",
            "-",
            "&a ",
            "*a",
            "<<: ",
            "!!python/none ",
            "!!timestamp ",
            "!!binary ",
            "? ",
            "| \n",
            "> \n",
            "---\n",
            "2001-99-99",
            "0x",
            "%YAML 1.1\n",
            "\ufeff",
            "\u2028",
            "\U0001f600",
        )
    ),
    b"\xff",
    b"\0",
]

TARGET = Target("vmi", check, seeds, WORDS, ("vmi", "claims", "assign", "config", "configkeys"))
