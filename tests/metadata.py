"""Writes metadata files as Kubernetes' kubeletplugin library does (KEP-5304)."""

import json
from pathlib import Path
from typing import Any

NEWEST, OLDER = "metadata.resource.k8s.io/v1beta1", "metadata.resource.k8s.io/v1alpha1"
PCI, MDEV = "resource.kubernetes.io/pciBusID", "mdevUUID"


def device(name: str = "gpu-0", **attributes: str) -> dict[str, Any]:
    """A device; the attribute names are PCI and MDEV, or any."""
    return {
        "driver": "gpu.example.com",
        "pool": "node-1",
        "name": name,
        "attributes": {key: {"string": value} for key, value in attributes.items()},
    }


def document(requests: dict[str, list[dict[str, Any]]], version: str = NEWEST) -> dict[str, Any]:
    return {
        "kind": "DeviceMetadata",
        "apiVersion": version,
        "metadata": {"name": "claim", "namespace": "default", "generation": 1},
        "requests": [{"name": name, "devices": devices} for name, devices in requests.items()],
    }


def stream(*documents: Any) -> bytes:
    return "".join(json.dumps(each, indent=2) + "\n" for each in documents).encode()


def both(requests: dict[str, list[dict[str, Any]]]) -> bytes:
    """The same in both versions, the newest first."""
    return stream(document(requests), document(requests, OLDER))


def write(base: Path, place: str, data: bytes, driver: str = "gpu.example.com") -> Path:
    """Write a file of ``place``: ``resourceclaims/CLAIM/REQUEST``, or of a template."""
    file = base / place / f"{driver}-metadata.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file
