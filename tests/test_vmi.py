"""The VMI: what is read of it, in which forms it comes, and what is refused."""

import json
from typing import Any

import pytest

from launcher_hook.errors import InputError
from launcher_hook.model import ClaimRequest, PodClaim
from launcher_hook.vmi import parse_vmi

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def manifest(devices: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm", "namespace": "default", **metadata},
        "spec": {"domain": {"devices": devices or {}}},
    }


def parse(document: Any) -> Any:
    return parse_vmi(json.dumps(document).encode(), "vmi.json")


def test_gpus_come_before_host_devices_each_in_their_order() -> None:
    vmi = parse(
        manifest(
            {
                "hostDevices": [{"name": "n", "deviceName": "intel.com/qat"}],
                "gpus": [{"name": "b", "deviceName": "x/B"}, {"name": "a", "deviceName": "x/A"}],
            }
        )
    )
    assert [(r.kind, r.name, r.resource) for r in vmi.requests] == [
        ("gpu", "b", "x/B"),
        ("gpu", "a", "x/A"),
        ("hostdevice", "n", "intel.com/qat"),
    ]
    assert vmi.requests[1].path == "spec.domain.devices.gpus[1]"


@pytest.mark.parametrize(
    ("options", "display", "ramfb"),
    [
        ({}, None, None),
        ({"virtualGPUOptions": {}}, None, None),
        ({"virtualGPUOptions": {"display": {}}}, True, None),
        ({"virtualGPUOptions": {"display": {"enabled": False}}}, False, None),
        ({"virtualGPUOptions": {"display": {"enabled": True, "ramFB": {"enabled": False}}}},
         True, False),
    ],
)  # fmt: skip
def test_what_the_vmi_says_of_a_vgpus_display_is_read(
    options: dict[str, Any], display: bool | None, ramfb: bool | None
) -> None:
    vmi = parse(manifest({"gpus": [{"name": "v", "deviceName": "x/V", **options}]}))
    assert (vmi.requests[0].display, vmi.requests[0].ramfb) == (display, ramfb)


def test_a_virtual_machine_is_read_through_its_template() -> None:
    template = manifest({"gpus": [{"name": "g", "deviceName": "x/G"}]}, annotations={"a": "b"})
    vmi = parse({"kind": "VirtualMachine", "spec": {"template": template}})
    assert vmi.requests[0].name == "g"
    assert vmi.annotations == {"a": "b"}


def test_yaml_is_read_and_other_documents_are_passed_over() -> None:
    text = (
        b"kind: Secret\n---\nkind: VirtualMachineInstance\nmetadata:\n  name: y\n  annotations:\n"
        b"    passthrough.launcher-hook.io/config: |\n      layout: root-bus\n"
    )
    vmi = parse_vmi(text, "vmi.yaml")
    assert (vmi.name, vmi.config) == ("y", "layout: root-bus\n")


def test_a_name_that_no_object_has_gets_into_no_log() -> None:
    metadata = {"name": "x" * 254, "namespace": "y" * 253}
    document = {"kind": "VirtualMachineInstance", "metadata": metadata, "spec": {}}
    vmi = parse_vmi(json.dumps(document).encode(), "v")
    assert (vmi.name, vmi.namespace) == ("", "y" * 253)


def test_an_interface_with_an_address_of_its_own_is_named_by_its_alias() -> None:
    interfaces = [
        {"name": "default", "masquerade": {}, "pciAddress": "0000:01:00.0"},
        {"name": "sr1", "sriov": {}},
        {"name": "sr2", "sriov": {}, "pciAddress": "0000:09:00.0"},
        "nonsense",
    ]
    spec = {"domain": {"devices": {"interfaces": interfaces}}}
    document = {"kind": "VirtualMachineInstance", "spec": spec}
    assert parse_vmi(json.dumps(document).encode(), "v").placed == {"ua-sriov-sr2"}


def test_a_dra_claim_has_no_resource() -> None:
    vmi = parse(manifest({"gpus": [{"name": "g", "claimName": "c", "requestName": "r"}]}))
    assert vmi.requests[0].resource is None
    assert vmi.requests[0].claim == ClaimRequest("c", "r")


@pytest.mark.parametrize(
    ("entry", "resource", "claim"),
    [
        ({"deviceName": "", "claimName": "c", "requestName": "r"}, None, ClaimRequest("c", "r")),
        (
            {"deviceName": "x/G", "claimName": "c", "requestName": "r"},
            "x/G",
            ClaimRequest("c", "r"),
        ),
        ({"deviceName": "x/G", "claimName": None}, "x/G", None),
        ({"claimName": "c"}, None, ClaimRequest("c", "")),
    ],
    ids=["empty resource", "both", "resource", "no request"],
)
def test_an_entry_is_a_claims_as_kubevirt_reads_it(
    entry: dict[str, str], resource: str | None, claim: ClaimRequest | None
) -> None:
    """KubeVirt's IsGPUDRA: no deviceName, or an empty one."""
    (request,) = parse(manifest({"gpus": [{"name": "g", **entry}]})).requests
    assert (request.resource, request.claim) == (resource, claim)
    assert request.launcher_alias == ("gpu-g" if resource else "dra-gpu-g")


def test_the_vmis_claims_are_read_by_name() -> None:
    claims = [
        {"name": "a", "resourceClaimName": "shared"},
        {"name": "b", "resourceClaimTemplateName": "t", "resourceClaimName": ""},
        {"name": "c"},
        {"resourceClaimName": "nameless"},
        "nonsense",
    ]
    document = {"kind": "VirtualMachineInstance", "spec": {"resourceClaims": claims}}
    assert parse(document).claims == {
        "a": PodClaim(claim="shared"),
        "b": PodClaim(template="t"),
        "c": PodClaim(),
    }
    assert parse({**document, "spec": {"resourceClaims": "x"}}).claims == {}


def status_of(name: str, **attributes: object) -> dict[str, object]:
    return {"name": name, "deviceResourceClaimStatus": {"name": "d", "attributes": attributes}}


def test_the_status_of_kubevirt_1_6_and_1_7_has_the_devices_of_claims() -> None:
    entries = [{"name": name, "claimName": "c", "requestName": name} for name in ("a", "b")]
    document = {
        **manifest(
            {"gpus": [*entries, {"name": "p", "deviceName": "x/G"}], "hostDevices": entries}
        ),
        "status": {
            "deviceStatus": {
                "gpuStatuses": [
                    status_of("b", pciAddress="0000:86:00.0", mDevUUID=UUID),
                    status_of("a", mDevUUID=UUID),
                    status_of("p", pciAddress="0000:87:00.0"),
                    {"name": "a"},
                    7,
                ],
                "hostDeviceStatuses": [
                    status_of("a", pciAddress="0000:af:00.0"),
                    status_of("b", pciAddress="pci0000:00"),
                    status_of("c", pciAddress="0000:01:00.0"),
                ],
            }
        },
    }
    reported = parse(document).reported
    place = "spec.domain.devices"
    assert {path: str(device.source) for path, device in reported.items()} == {
        f"{place}.gpus[0]": UUID,
        f"{place}.gpus[1]": "0000:86:00.0",
        f"{place}.hostDevices[0]": "0000:af:00.0",
        f"{place}.hostDevices[1]": "None",
    }
    assert str(reported[f"{place}.hostDevices[1]"].fault).startswith(
        "vmi.json: status.deviceStatus.hostDeviceStatuses[1].pciAddress: 'pci0000:00' is not a PCI "
    )
    assert parse({**document, "status": {"deviceStatus": {"gpuStatuses": 1}}}).reported == {}


def test_an_entry_of_a_resource_and_a_claims_may_have_one_name() -> None:
    entries = [{"name": "g", "deviceName": "x/G"}, {"name": "g", "claimName": "c"}]
    requests = parse(manifest({"hostDevices": entries, "gpus": entries})).requests
    assert [request.launcher_alias for request in requests] == [
        "gpu-g",
        "dra-gpu-g",
        "hostdevice-g",
        "dra-hostdevice-g",
    ]


def test_fields_that_are_null_are_not_there() -> None:
    assert parse({"kind": "VirtualMachineInstance", "metadata": None, "spec": None}).requests == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it holds nothing; give a manifest of kind VirtualMachineInstance"),
        (b"{", "it is not JSON: .*; give the output of 'kubectl get vmi -o json'"),
        (b"a: [", "it is not YAML: .*; give a VirtualMachineInstance manifest"),
        (b"\xff\xfe", "byte 0 is not UTF-8; give a manifest in UTF-8"),
        (b"just words", "it holds only 'just words'; give a manifest of kind"),
        (b"[1]", "it holds a list; give a manifest of kind"),
        (b"a: 1", "it holds an object without kind; give a manifest of kind"),
        (b"~", "it holds nothing; give a manifest of kind"),
        (b" <domain type='kvm'>", "it looks like XML; give a VirtualMachineInstance manifest here, "
         "and a domain by --domain$"),
        (b"a: b: c", "it is not YAML: mapping values are not allowed here, in line 1, column 5; "),
        (b"kind: VirtualMachine\n---\nkind: Secret\n---\nkind: VirtualMachineInstance",
         "it holds 2 of kind VirtualMachineInstance or VirtualMachine; give one of them$"),
        (b'{"kind": "Pod"}', "it holds 'Pod'; give a manifest of kind VirtualMachineInstance"),
        (b"[" * 50_000, "it is not JSON"),
        (b"[" + b"{}," * 25_001, "it has 50003 values; give a manifest of at most 50000"),
        (b"- " * 100_000, "it is not YAML: maximum recursion depth"),
        (b"a: !!timestamp foo", "it is not YAML"),
        (b"a: !!float ''", "it is not YAML"),
        (b"a0: &a0 [x]\n" + b"".join(
            b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 9)
        ) + b"kind: *a8", "it holds "),
        (b" " * (1024 * 1024 + 1), "it has 1048577 bytes; give one manifest of at most"),
        (b'{"kind": "VirtualMachineInstance", "spec":{"domain":{"devices":{"gpus":[{"name": "a",'
         b'"deviceName": "' + b"x" * 318 + b'"}]}}}}',
         r".*devices.gpus\[0\]: its deviceName is 'x+\.\.\.x+'; write a resource, vendor/NAME"),
        (b'{"spec":{"domain":{"devices":{"gpus":[' + b"1," * 1024 + b"1]}}}}",
         "spec.domain.devices.gpus: it has 1025 entries; give at most 1024"),
    ],
    ids=["empty", "json", "yaml", "encoding", "words", "list", "object", "null", "xml", "place",
         "two", "kind", "nesting", "values",
         "yaml-nesting",
         "timestamp", "float", "aliases", "size", "resource", "entries"],
)  # fmt: skip
def test_what_is_no_vmi_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"vmi: {message}"):
        parse_vmi(data, "vmi")


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ({"gpus": "x"}, "spec.domain.devices.gpus: 'x' is not a list; write '- name: ...'"),
        ({"gpus": ["x"]}, r"gpus\[0\]: 'x' is not a mapping; write name and deviceName"),
        ({"gpus": [{"deviceName": "x/G"}]}, r"gpus\[0\]: its name is None; give the device a name"),
        ({"gpus": [{"name": "g"}]}, "'g' has no deviceName; write deviceName: vendor/NAME, or "
         "claimName and requestName$"),
        ({"gpus": [{"name": "g", "requestName": "r"}]}, "'g' has no deviceName; write "),
        ({"gpus": [{"name": "g", "claimName": ["c"]}]}, r"claimName is \['c'\]; write a name of "),
        ({"gpus": [{"name": "g", "claimName": "c", "requestName": 7}]}, "its requestName is 7; "),
        ({"gpus": [{"name": "g", "claimName": "c"}] * 2},
         r"gpus\[1\]: the name 'g' is that of spec.domain.devices.gpus\[0\]; rename one"),
        ({"gpus": [{"name": "g", "deviceName": 7}]}, "its deviceName is 7; write a resource"),
        ({"gpus": [{"name": "g", "deviceName": "x/G"}] * 2},
         r"gpus\[1\]: the name 'g' is that of spec.domain.devices.gpus\[0\]; rename one"),
        ({"gpus": [{"name": "g", "deviceName": "x/G", "virtualGPUOptions": 1}]},
         "virtualGPUOptions: 1 is not a mapping; see the VMI's API"),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_read_is_named_with_its_path(
    devices: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse(manifest(devices))


def test_a_configuration_that_is_no_text_is_refused() -> None:
    annotations = {"passthrough.launcher-hook.io/config": {"layout": "root-bus"}}
    with pytest.raises(InputError, match="is not a string; put the YAML into quotes"):
        parse(manifest(annotations=annotations))


def test_a_manifest_with_a_key_twice_is_refused() -> None:
    text = b"kind: VirtualMachineInstance\nspec: {}\nspec: {domain: {}}\n"
    with pytest.raises(InputError, match="key 'spec' is written twice, in line 3, column 1"):
        parse_vmi(text, "vmi.yaml")
