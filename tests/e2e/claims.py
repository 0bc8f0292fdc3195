"""Resource claims of a launcher pod: what a DRA driver writes, and what virt-launcher reads of it.

The files are those of KEP-5304, which kubelet's plugin library writes and the compute container
has mounted. virt-launcher looks up the claim of an entry, and takes the address of its request's
device (kubevirt pkg/dra).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import metadata

TEMPLATES, CLAIMS = "resourceclaimtemplates", "resourceclaims"


@dataclass(frozen=True)
class ClaimEntry:
    """An entry of a VMI that has its device from a resource claim.

    Attributes:
        name: Of the entry.
        kind: The list of the VMI's devices that it is in: ``gpus`` or ``hostDevices``.
        bdf: Host address of the function that the driver has allocated.
    """

    name: str
    kind: str
    bdf: str

    @property
    def claim(self) -> str:
        """Its claim's name in the pod."""
        return f"claim-{self.name}"

    @property
    def request(self) -> str:
        return f"one-{self.name}"

    @property
    def alias(self) -> str:
        """What virt-launcher calls its hostdev."""
        return f"ua-dra-{'gpu' if self.kind == 'gpus' else 'hostdevice'}-{self.name}"

    @property
    def pod_claim(self) -> dict[str, str]:
        """In the VMI's ``spec.resourceClaims``: GPUs of a template, others of a claim by name."""
        if self.kind == "gpus":
            return {"name": self.claim, "resourceClaimTemplateName": f"template-of-{self.name}"}
        return {"name": self.claim, "resourceClaimName": f"shared-{self.name}"}

    @property
    def place(self) -> str:
        """Its files' folder in the compute container."""
        if self.kind == "gpus":
            return f"{TEMPLATES}/{self.claim}/{self.request}"
        return f"{CLAIMS}/{self.pod_claim['resourceClaimName']}/{self.request}"


def write_metadata(directory: Path, entries: Iterable[ClaimEntry]) -> None:
    """Write the files as the driver's library does."""
    for entry in entries:
        device = metadata.device(**{metadata.PCI: entry.bdf})
        metadata.write(directory, entry.place, metadata.both({entry.request: [device]}))


def read_address(directory: Path, entry: ClaimEntry) -> str:
    """Read the host address of an entry's device as virt-launcher does."""
    (file,) = (directory / entry.place).glob("*-metadata.json")
    document, _ = json.JSONDecoder().raw_decode(file.read_text())
    (request,) = (r for r in document["requests"] if r["name"] == entry.request)
    (device,) = request["devices"]
    return str(device["attributes"][metadata.PCI]["string"])
