"""`launcher-hook doctor` over a VM's resource claims: from its spec to the device."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from cases import CASES
from doctored import Findings, doctor, of  # noqa: F401
from metadata import NEWEST, OLDER, PCI, both, device, document, stream, write

from launcher_hook.cli import main

A, B = "0000:86:00.0", "0000:af:00.0"
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"

VMI: dict[str, Any] = {
    "kind": "VirtualMachineInstance",
    "metadata": {"name": "vm", "namespace": "default"},
    "spec": {
        "resourceClaims": [
            {"name": "gpus", "resourceClaimTemplateName": "two-gpus"},
            {"name": "disk", "resourceClaimName": "fast-disk"},
        ],
        "domain": {
            "devices": {
                "gpus": [{"name": "gpu0", "claimName": "gpus", "requestName": "whole"}],
                "hostDevices": [{"name": "nvme", "claimName": "disk", "requestName": "nvme"}],
            }
        },
    },
}
POD: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"name": "virt-launcher-vm-abcde", "namespace": "default"},
    "spec": {
        "resourceClaims": VMI["spec"]["resourceClaims"],
        "containers": [
            {
                "name": "compute",
                "resources": {
                    "claims": [
                        {"name": "gpus", "request": "whole"},
                        {"name": "disk", "request": "nvme"},
                    ]
                },
            },
            {"name": "hook-sidecar-0", "image": "launcher-hook:1"},
        ],
    },
    "status": {
        "resourceClaimStatuses": [{"name": "gpus", "resourceClaimName": "virt-launcher-vm-x2v5q"}]
    },
}


def claim(name: str, request: str, devices: list[str], **metadata: Any) -> dict[str, Any]:
    results = [
        {"request": request, "driver": "gpu.example.com", "pool": "node-1", "device": each}
        for each in devices
    ]
    base = request.partition("/")[0]
    return {
        "kind": "ResourceClaim",
        "apiVersion": "resource.k8s.io/v1",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"devices": {"requests": [{"name": base, "exactly": {"count": 1}}]}},
        "status": {
            "allocation": {"devices": {"results": results}},
            "reservedFor": [{"resource": "pods", "name": POD["metadata"]["name"], "uid": "1"}],
        },
    }


GPUS = claim(
    "virt-launcher-vm-x2v5q",
    "whole",
    ["gpu-0"],
    annotations={"resource.kubernetes.io/pod-claim-name": "gpus"},
    ownerReferences=[{"kind": "Pod", "name": "virt-launcher-vm-abcde"}],
)
DISK = claim("fast-disk", "nvme", ["nvme-0"])
SLICE: dict[str, Any] = {
    "kind": "ResourceSlice",
    "metadata": {"name": "node-1-gpu"},
    "spec": {
        "driver": "gpu.example.com",
        "pool": {"name": "node-1"},
        "devices": [
            {"name": "gpu-0", "attributes": {PCI: {"string": A}}},
            {"name": "nvme-0", "basic": {"attributes": {"mdevUUID": {"string": UUID}}}},
        ],
    },
}


def change(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with another value at a path such as ``spec.gpus.0.name``; None takes it out."""
    copy = deepcopy(document)
    *parts, last = path.split(".")
    place: Any = copy
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key: Any = int(last) if isinstance(place, list) else last
    if value is None:
        del place[key]
    else:
        place[key] = value
    return copy


@pytest.fixture
def claims(doctor: Any, tmp_path: Path) -> Any:  # noqa: F811
    """The findings of the check, what is fine left out."""

    def run(*options: str | Path, good: bool = False, **documents: object) -> Findings:
        files: Mapping[str, tuple[str, object]] = {
            "vmi": ("--vmi", VMI),
            "pod": ("--pod", POD),
            "claims": ("--resource-claims", [GPUS, DISK]),
            "slices": ("--resource-slices", [SLICE]),
            "kubevirt": ("--kubevirt-cr", None),
        }
        arguments: list[str | Path] = [*options]
        for name, (option, default) in files.items():
            content = documents.get(name, default)
            if content is None:
                continue
            if isinstance(content, list):
                content = {"kind": "List", "apiVersion": "v1", "items": content}
            file = tmp_path / f"{name}.json"
            file.write_text(json.dumps(content))
            arguments += [option, file]
        _, findings = doctor(*arguments)
        return [f for f in of(findings, "claims") if good or f["severity"] != "ok"]

    return run


def kubevirt(version: str) -> dict[str, Any]:
    return {
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "status": {"observedKubeVirtVersion": version},
    }


def test_what_is_in_order_is_followed_from_the_spec_to_the_device(claims: Any) -> None:
    found = claims(good=True)
    assert {(f["severity"], f["what"]) for f in found} == {
        ("ok", "it asks for gpu0 by gpus/whole, nvme by disk/nvme"),
        ("ok", "it has gpus/whole, disk/nvme"),
        ("ok", f"spec.domain.devices.gpus[0] has {A} (gpu.example.com/node-1/gpu-0)"),
        ("ok", f"spec.domain.devices.hostDevices[0] has {UUID} (gpu.example.com/node-1/nvme-0)"),
    }


def test_a_vm_without_claims_is_not_looked_at(claims: Any) -> None:
    assert claims(good=True, vmi=change(VMI, "spec.domain.devices", {})) == []


def test_what_is_not_given_is_asked_for(claims: Any) -> None:
    (finding,) = claims(claims=None)
    assert finding["severity"] == "not checked"
    assert finding["fix"] == "give --resource-claims (kubectl get resourceclaims -o yaml)"
    (finding,) = claims(slices=None)
    assert finding["fix"] == "give --resource-slices (kubectl get resourceslices -o yaml)"


GPU0 = "spec.domain.devices.gpus.0"


@pytest.mark.parametrize(
    ("vmi", "what", "fix"),
    [
        (change(VMI, f"{GPU0}.claimName", "gpu"),
         "its claimName 'gpu' is not in spec.resourceClaims; 'gpus' is near",
         "add {name: gpu, resourceClaimTemplateName: ...} to it"),
        (change(VMI, f"{GPU0}.requestName", None), "it has no requestName",
         "write the name of one of the claim's requests"),
        (change(VMI, f"{GPU0}.deviceName", "x/A"), "it has a deviceName, 'x/A', and a claimName, "
         "'gpus': KubeVirt asks for neither of them", "take one of the two out"),
        (change(change(VMI, f"{GPU0}.claimName", "disk"), f"{GPU0}.requestName", "nvme"),
         "disk/nvme is asked for by spec.domain.devices.gpus[0] already",
         "write a request of its own into the claim for each entry"),
        (change(VMI, "spec.resourceClaims.1.resourceClaimTemplateName", "t"),
         "'disk' has both of resourceClaimName and resourceClaimTemplateName",
         "write one of them"),
        (change(VMI, "spec.resourceClaims.1.resourceClaimName", None),
         "'disk' has neither of resourceClaimName and resourceClaimTemplateName",
         "write one of them"),
    ],
    ids=["claim", "request", "both", "twice", "both sources", "no source"],
)  # fmt: skip
def test_what_kubevirt_refuses_in_a_spec_is_an_error(
    claims: Any, vmi: dict[str, Any], what: str, fix: str
) -> None:
    (finding,) = [f for f in claims(vmi=vmi, pod=None, claims=None) if f["severity"] == "error"]
    assert (finding["what"], finding["fix"]) == (what, fix)


@pytest.mark.parametrize(
    ("version", "severity"), [("v1.9.0", "error"), ("v1.8.1", None), (None, "warning")]
)
def test_gpus_are_all_of_claims_or_all_of_resources(
    claims: Any, version: str | None, severity: str | None
) -> None:
    gpus = [*VMI["spec"]["domain"]["devices"]["gpus"], {"name": "p", "deviceName": "x/A"}]
    vmi = change(VMI, "spec.domain.devices.gpus", gpus)
    cr = None if version is None else kubevirt(version)
    found = claims(vmi=vmi, kubevirt=cr, pod=None, claims=None)
    mixed = [f for f in found if "some entries have a claim" in f["what"]]
    assert [f["severity"] for f in mixed] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("pod", "where", "what"),
    [
        (change(POD, "spec.containers.0.resources.claims.0", None), "pod/virt-launcher-vm-abcde: "
         "compute", "its resources.claims have no gpus/whole, for spec.domain.devices.gpus[0]; "
         "they have disk/nvme"),
        (change(POD, "spec.resourceClaims.1", None), "pod/virt-launcher-vm-abcde: "
         "spec.resourceClaims", "it has no 'disk'; there is gpus"),
        (change(POD, "spec.resourceClaims.1.resourceClaimName", "slow-disk"),
         "pod/virt-launcher-vm-abcde: spec.resourceClaims", "it has another 'disk'"),
    ],
    ids=["compute", "pod", "another"],
)  # fmt: skip
def test_a_pod_that_lacks_a_claim_is_an_error(
    claims: Any, pod: dict[str, Any], where: str, what: str
) -> None:
    (finding,) = claims(pod=pod)
    assert (finding["severity"], finding["where"], finding["what"]) == ("error", where, what)


def test_compute_may_have_all_requests_of_a_claim(claims: Any) -> None:
    assert claims(pod=change(POD, "spec.containers.0.resources.claims.0.request", None)) == []


def test_without_a_pod_a_claim_of_a_template_is_found_by_what_it_is_made_for(claims: Any) -> None:
    assert claims(pod=None) == []
    (finding,) = claims(pod=None, claims=[change(GPUS, "metadata.ownerReferences", []), DISK])
    assert finding["what"] == "no ResourceClaim for 'gpus' is among the 2 that were given"


def test_a_vms_template_needs_no_name(claims: Any) -> None:
    vm = {"kind": "VirtualMachine", "metadata": {"name": "vm"},
          "spec": {"template": {"spec": VMI["spec"]}}}  # fmt: skip
    assert claims(vmi=vm, pod=None) == []


def test_source_and_target_of_a_migration_have_each_their_own_claim(claims: Any) -> None:
    target = change(POD, "metadata.name", "virt-launcher-vm-fghij")
    target["status"]["resourceClaimStatuses"][0]["resourceClaimName"] = "virt-launcher-vm-9p8ql"
    own = change(GPUS, "metadata.name", "virt-launcher-vm-9p8ql")
    own["status"]["reservedFor"][0]["name"] = "virt-launcher-vm-fghij"
    own["status"]["allocation"]["devices"]["results"][0]["device"] = "gpu-1"
    shared = deepcopy(DISK)
    shared["status"]["reservedFor"] += own["status"]["reservedFor"]
    slices = deepcopy(SLICE)
    slices["spec"]["devices"].append({"name": "gpu-1", "attributes": {PCI: {"string": B}}})
    assert claims(pod=[POD, target], claims=[GPUS, own, shared], slices=[slices]) == []
    (finding,) = claims(pod=[POD, target], claims=[GPUS, own, DISK], slices=[slices])
    assert finding["what"].endswith("and not for pod virt-launcher-vm-fghij")


def test_a_pod_that_has_ended_is_not_looked_at(claims: Any) -> None:
    ended = change(POD, "metadata.name", "virt-launcher-vm-fghij")
    ended["status"] = {"phase": "Succeeded"}
    assert claims(pod=[POD, ended]) == []


def test_a_claim_of_another_namespace_is_another(claims: Any) -> None:
    (finding,) = claims(claims=[GPUS, change(DISK, "metadata.namespace", "other")])
    assert finding["what"] == "no ResourceClaim fast-disk is among the 1 that were given"


REQUEST = "spec.devices.requests.0"


@pytest.mark.parametrize(
    ("disk", "what"),
    [
        (change(DISK, "metadata.name", "slow"), "no ResourceClaim fast-disk is among the 2 that "
         "were given"),
        (change(DISK, "status.allocation", None), "the claim is not allocated"),
        (change(DISK, f"{REQUEST}.name", "nvmes"), "it has no request 'nvme', for "
         "spec.domain.devices.hostDevices[0]; 'nvmes' is near"),
        (change(DISK, f"{REQUEST}.exactly.count", 2), "it asks for 2 devices, and KubeVirt takes "
         "one a request"),
        (change(DISK, f"{REQUEST}.exactly", {"allocationMode": "All"}), "it asks for All devices, "
         "and KubeVirt takes one a request"),
        (change(DISK, REQUEST, {"name": "nvme", "count": 3}), "it asks for 3 devices, and KubeVirt "
         "takes one a request"),
        (claim("fast-disk", "nvme", []), "it has 0 devices (none), and KubeVirt takes one a "
         "request"),
        (claim("fast-disk", "nvme", ["nvme-0", "gpu-0"]), "it has 2 devices "
         "(gpu.example.com/node-1/nvme-0, gpu.example.com/node-1/gpu-0), and KubeVirt takes one a "
         "request"),
        (claim("fast-disk", "nvme/gen5", ["nvme-0"]), "subrequest 'nvme/gen5' was met, and "
         "KubeVirt finds no metadata of a request with firstAvailable"),
        (claim("fast-disk", "nvme", ["nvme-1"]), "its device gpu.example.com/node-1/nvme-1 is in "
         "no ResourceSlice that was given"),
        (change(DISK, "status.reservedFor.0.name", "other"), "it is reserved for other, and not "
         "for pod virt-launcher-vm-abcde"),
    ],
    ids=["missing", "unallocated", "request", "count", "all", "v1beta1", "none", "two",
         "subrequest", "slice", "reserved"],
)  # fmt: skip
def test_a_claim_that_has_not_one_device_for_the_entry_is_an_error(
    claims: Any, disk: dict[str, Any], what: str
) -> None:
    (finding,) = claims(claims=[GPUS, disk])
    assert (finding["severity"], finding["what"]) == ("error", what)
    assert finding["fix"]


def test_no_claims_at_all_are_an_error_and_no_wrong_file(claims: Any) -> None:
    """``kubectl get resourceclaims -o yaml`` prints an empty List then."""
    found = claims(claims=[])
    assert [f["severity"] for f in found] == ["error", "error"]
    found = claims(slices=[])
    assert all("is in no ResourceSlice that was given" in f["what"] for f in found)


@pytest.mark.parametrize(
    ("version", "severity"), [("v1.9.0", "warning"), ("v1.7.0", "error"), (None, "warning")]
)
def test_a_slice_without_the_address_matters_to_kubevirt_before_1_8(
    claims: Any, version: str | None, severity: str
) -> None:
    """Later ones read the driver's metadata."""
    cr = None if version is None else kubevirt(version)
    (finding,) = claims(slices=[change(SLICE, "spec.devices.0.attributes", {})], kubevirt=cr)
    assert finding["severity"] == severity
    assert "it has neither resource.kubernetes.io/pciBusID nor mdevUUID" in finding["what"]


def test_a_slice_with_a_bad_address_is_an_error(claims: Any) -> None:
    bad = change(SLICE, "spec.devices.0.attributes", {PCI: {"string": "x"}})
    (finding,) = claims(slices=[bad])
    assert "'x' is not a PCI address" in finding["what"]


def test_metadata_that_kubevirt_does_not_read_is_an_error(claims: Any, tmp_path: Path) -> None:
    place = "resourceclaimtemplates/gpus/whole"
    requests = {"whole": [device(**{PCI: A})]}
    write(tmp_path, place, both(requests))
    write(tmp_path, "resourceclaims/fast-disk/nvme", both({"nvme": [device(mdevUUID=UUID)]}))
    options = ["--dra-metadata", tmp_path]
    assert claims(*options) == []
    write(tmp_path, place, stream(document(requests)))
    (finding,) = claims(*options, kubevirt=kubevirt("v1.9.0"))
    assert finding["what"] == f"it has {NEWEST}, and KubeVirt 1.8 and 1.9 read {OLDER} only"
    write(tmp_path, place, both({"whole": [device(**{PCI: B})]}))
    (finding,) = claims(*options)
    assert "its device is not the same for all: 0000:af:00.0 (" in finding["what"]
    write(tmp_path, place, b"x")
    (finding,) = claims(*options)
    assert "it is not JSON" in finding["what"]
    (tmp_path / place / "gpu.example.com-metadata.json").unlink()
    (finding,) = claims(*options)
    assert finding["what"].startswith(f"there is no {tmp_path}/{place}/*-metadata.json")


def test_the_domain_has_the_allocated_device(claims: Any) -> None:
    domain = ["--domain", CASES / "claim/domain.xml"]
    slices = change(SLICE, "spec.devices.1", {"name": "nvme-0", "attributes": {PCI: {"string": B}}})
    (finding,) = claims(*domain, slices=[slices])
    assert finding["where"].endswith("spec.domain.devices.hostDevices[0]")
    assert "0000:3b:00.0 (the domain), 0000:af:00.0 (resourceslice/" in finding["what"]


@pytest.mark.parametrize("options", [["--device", "gpu0"], ["--dra-metadata", "/nowhere"]])
def test_an_option_that_cannot_be_read_is_no_finding(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--vmi", str(CASES / "claim/vmi.json"), *options]) == 2
    assert capsys.readouterr().err.startswith(f"launcher-hook: {options[0]}")


def test_an_option_that_contradicts_is_an_error(claims: Any) -> None:
    (finding,) = claims("--device", f"gpu1={A}")
    assert finding["what"] == "no entry of gpus or hostDevices is named 'gpu1'"
