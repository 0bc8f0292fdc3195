"""Names of resources and of their sockets."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from zlib import crc32

from launcher_hook.unixserver import MAX_PATH_BYTES

# kubernetes k8s.io/apimachinery/pkg/util/validation: IsQualifiedName, IsDNS1123Subdomain.
MAX_NAME = 63
_MAX_DOMAIN = 253
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# kubernetes pkg/apis/core/v1/helper: IsExtendedResourceName, with the "requests." that quotas need.
_QUOTA_PREFIX = "requests."
_NATIVE_DOMAIN = "kubernetes.io"


def name_device(pci_ids_name: str) -> str:
    """Name a function's resource as NVIDIA's plugin does (device_plugin.go: getDeviceName).

    ``TU106 [GeForce RTX 2060 Rev. A]`` is ``TU106_GEFORCE_RTX_2060_REV__A``.
    """
    name = pci_ids_name.strip().upper().replace("/", "_").replace(".", "_")
    return re.sub(r"[^A-Za-z0-9_]+", "", re.sub(r"\s+", "_", name))


def name_mdev_type(type_name: str) -> str:
    """Name a mediated device's as NVIDIA's plugin does: ``GRID T4-1Q`` is ``GRID_T4-1Q``."""
    return re.sub(r"\s+", "_", type_name.strip())


def check_resource(resource: str) -> None:
    """Refuse a name that kubelet would refuse.

    Raises:
        ValueError: With the nearest legal name, after a semicolon.
    """
    fault = _fault(resource)
    if fault is not None:
        raise ValueError(f"{resource!r} {fault}; write e.g. {nearest_legal(resource)}")


def nearest_legal(resource: str) -> str:
    """Change a name no more than it takes to make it a legal one."""
    domain, slash, name = resource.strip().rpartition("/")
    if not slash:
        domain = "example.com"
    domain = re.sub(r"[^a-z0-9.-]+", "-", domain.lower().replace("_", "-"))
    labels = [label.strip("-") for label in domain.split(".")]
    domain = ".".join(label for label in labels if label)[: _MAX_DOMAIN - len(_QUOTA_PREFIX)]
    while domain.startswith(_QUOTA_PREFIX):
        domain = domain.removeprefix(_QUOTA_PREFIX)
    domain = domain.strip(".-")
    if not domain or domain.endswith(_NATIVE_DOMAIN):
        domain = "example.com"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", re.sub(r"\s+", "_", name))
    name = name.lstrip("-_.")[:MAX_NAME].rstrip("-_.")
    return f"{domain}/{name or 'device'}"


def _fault(resource: str) -> str | None:
    domain, slash, name = resource.partition("/")
    if not slash:
        return "has no domain"
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters after the slash, and {MAX_NAME} are allowed"
    if _NAME.fullmatch(name) is None:
        return (
            "is not letters, digits, '-', '_' and '.' after the slash, with a letter or digit at "
            "both ends"
        )
    if len(domain) > _MAX_DOMAIN - len(_QUOTA_PREFIX) or _DOMAIN.fullmatch(domain) is None:
        return "has no lower-case DNS name before the slash"
    if domain.endswith(_NATIVE_DOMAIN) or domain.startswith(_QUOTA_PREFIX):
        return "is in a domain that Kubernetes keeps for itself"
    return None


def name_socket(resource: str, directory: Path, taken: Collection[str]) -> str:
    """Name a resource's socket in kubelet's directory: ``kubevirt-<NAME>.sock``, as NVIDIA's does.

    Where another vendor has that name, or the path would be longer than a socket's may be, the
    name has a hash of the resource in it.
    """
    name = resource.rpartition("/")[2]
    socket = f"kubevirt-{name}.sock"
    room = MAX_PATH_BYTES - len(os.fsencode(directory)) - 1
    if socket not in taken and len(socket) <= room:
        return socket
    mark = f"-{crc32(resource.encode()):08x}.sock"
    return f"kubevirt-{name}"[: max(room - len(mark), 1)] + mark
