"""What a VMI says of resource claims, in its spec and in its status. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher_hook.errors import InputError, shorten
from launcher_hook.fields import list_mappings, read_name
from launcher_hook.mdev import parse_mdev_uuid
from launcher_hook.model import DeviceRequest, EntryDevice, HostSource, PodClaim
from launcher_hook.pci import PciAddress


def read_pod_claims(spec: Mapping[str, Any]) -> dict[str, PodClaim]:
    """Read ``spec.resourceClaims[]`` of a VMI or a pod, by name.

    What is no claim as Kubernetes has them is passed over: no domain depends on it.
    """
    return {
        name: PodClaim(
            read_name(claim, "resourceClaimName") or None,
            read_name(claim, "resourceClaimTemplateName") or None,
        )
        for claim in list_mappings(spec, "resourceClaims")
        if (name := read_name(claim, "name"))
    }


def read_reported(
    status: Mapping[str, Any], requests: Sequence[DeviceRequest], where: str
) -> dict[str, EntryDevice]:
    """Read the devices of claims in ``status.deviceStatus``, by the path of their entry.

    KubeVirt 1.6 and 1.7 write them there (pkg/virt-controller/watch/dra), and virt-launcher goes by
    them; later ones leave it empty. What is not as they write it is passed over, and a value that
    is no address counts only where the domain has no hostdev.
    """
    reported: dict[str, EntryDevice] = {}
    devices = status.get("deviceStatus")
    for key, kind in (("gpuStatuses", "gpu"), ("hostDeviceStatuses", "hostdevice")):
        entries = {r.name: r for r in requests if r.kind == kind and r.resource is None}
        for index, entry in enumerate(list_mappings(devices, key)):
            request = entries.get(read_name(entry, "name"))
            claim = entry.get("deviceResourceClaimStatus")
            attributes = claim.get("attributes") if isinstance(claim, dict) else None
            if request is None or not isinstance(attributes, dict):
                continue
            place = f"{where}: status.deviceStatus.{key}[{index}]"
            # virt-launcher's order: one with both is a function.
            for attribute in ("pciAddress", "mDevUUID"):
                if attributes.get(attribute):
                    device = _read_reported(attributes[attribute], attribute, place)
                    reported.setdefault(request.path, device)
                    break
    return reported


def _read_reported(value: Any, attribute: str, place: str) -> EntryDevice:
    parse: Callable[[str], HostSource] = PciAddress.parse
    if attribute == "mDevUUID":
        parse = parse_mdev_uuid
    try:
        return EntryDevice(parse(value if isinstance(value, str) else shorten(value)), place)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        fault = InputError(f"{place}.{attribute}", what, fix or "see what the DRA driver tells")
        return EntryDevice(None, place, fault=fault)
