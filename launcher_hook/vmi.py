"""The part of a VirtualMachineInstance that we use.

Read by hand and not by pydantic: the hook server reads one on every call inside a 64 MB
container, and the handful of fields below does not pay for the megabytes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from launcher_hook.claims.manifest import read_pod_claims, read_reported
from launcher_hook.errors import InputError, shorten
from launcher_hook.fields import MAX_NAME, MAX_VALUES, count_values, list_mappings, read_name
from launcher_hook.migration import is_migrating, is_migration_target
from launcher_hook.model import (
    MOST_DEVICES,
    ClaimRequest,
    DeviceRequest,
    EntryDevice,
    PodClaim,
)

CONFIG_ANNOTATION = "passthrough.launcher-hook.io/config"

MAX_VMI_BYTES = 512 * 1024
"""Large ones have 50 KB, annotations 256 KiB at most (Kubernetes' TotalAnnotationSizeLimitB), and
a wide character makes each byte four in memory."""

# PyYAML lets out what a malformed value happens to raise in its constructors.
_RAISED_BY_CONSTRUCTORS = (ValueError, RecursionError, LookupError, AttributeError, TypeError)

# A byte order mark, and the white space of JSON.
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"

_LONGEST_RESOURCE = 253 + 1 + 63  # a qualified name: domain, slash, name

_KINDS = ("VirtualMachineInstance", "VirtualMachine")


@dataclass(frozen=True, slots=True)
class Vmi:
    """What a VMI (or the template of a VirtualMachine) says to us.

    Attributes:
        requests: ``gpus[]``, then ``hostDevices[]``, each in its own order, as the launcher goes.
        config: Text of our annotation, YAML or JSON; None where there is none.
        migration_target: Its launcher prepares to receive the running VM.
        migrating: A migration of it is under way; of its launchers the target's has no devices.
        placed: Aliases of the hostdevs whose guest address it says itself: SR-IOV interfaces with a
            pciAddress.
        claims: ``spec.resourceClaims[]`` by name.
        reported: The devices of claims, by the entry's path, as KubeVirt 1.6 and 1.7 write them
            into ``status.deviceStatus``; for offline use: a VM's owner may write a status.
    """

    namespace: str = ""
    name: str = ""
    uid: str = ""
    requests: tuple[DeviceRequest, ...] = ()
    config: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    migration_target: bool = False
    migrating: bool = False
    placed: frozenset[str] = frozenset()
    claims: Mapping[str, PodClaim] = field(default_factory=dict)
    reported: Mapping[str, EntryDevice] = field(default_factory=dict)

    @property
    def config_source(self) -> tuple[str, str] | None:
        """Our annotation as a source of the configuration: its name in messages, its text."""
        return None if self.config is None else (f"annotation {CONFIG_ANNOTATION}", self.config)


def parse_vmi(data: bytes, where: str, *, only_json: bool = False) -> Vmi:
    """Read a VMI or VirtualMachine manifest, JSON or YAML.

    Of several YAML documents the first of either kind counts.

    Args:
        data: The manifest.
        where: Its name in messages.
        only_json: Whether YAML is refused, which takes a hundred times the CPU and the memory.

    Raises:
        InputError: Not JSON or YAML, not one of the two kinds, or a field of the wrong type.
    """
    excess = find_excess(data)
    if excess is not None:
        raise InputError(where, *excess)
    documents = load_documents(data, where, only_json=only_json)
    return read_vmi(_pick(documents, where), where)


def find_excess(data: bytes) -> tuple[str, str] | None:
    """Say what a manifest has too much of to be parsed, and what to do; None where it is small."""
    if len(data) > MAX_VMI_BYTES:
        return f"it has {len(data)} bytes", f"give one manifest of at most {MAX_VMI_BYTES}"
    count = count_values(data)
    if count > MAX_VALUES:
        fix = f"give a manifest of at most {MAX_VALUES}; see what fills it"
        return f"it has {count} values", fix
    return None


def read_vmi(manifest: Mapping[str, Any], where: str) -> Vmi:
    """Read one that is parsed already, with its kind.

    Raises:
        InputError: A field has the wrong type.
    """
    if manifest["kind"] == "VirtualMachine":
        manifest = _mapping(_mapping(manifest, "spec", where), "template", f"{where}: spec")
        where = f"{where}: spec.template"
    metadata = _mapping(manifest, "metadata", where)
    annotations = _mapping(metadata, "annotations", f"{where}: metadata")
    config = annotations.get(CONFIG_ANNOTATION)
    if config is not None and not isinstance(config, str):
        raise InputError(
            f"{where}: metadata.annotations[{CONFIG_ANNOTATION}]",
            f"{shorten(config)} is not a string",
            "put the YAML into quotes or a block scalar",
        )
    devices = _devices(manifest, where)
    requests = tuple(_requests(devices, where))
    return Vmi(
        namespace=read_name(metadata, "namespace"),
        name=read_name(metadata, "name"),
        uid=read_name(metadata, "uid"),
        requests=requests,
        config=config,
        annotations=annotations,
        migration_target=is_migration_target(manifest),
        migrating=is_migrating(manifest),
        placed=frozenset(_placed(devices)),
        claims=read_pod_claims(_mapping(manifest, "spec", where)),
        reported=read_reported(_mapping(manifest, "status", where), requests, where),
    )


def load_documents(
    data: bytes,
    where: str,
    kind: str = "VirtualMachineInstance",
    command: str = "kubectl get vmi",
    *,
    only_json: bool = False,
) -> Iterator[Any]:
    """Parse the documents of a manifest, JSON or YAML.

    Args:
        data: The manifest.
        where: Its name in messages.
        kind: What it should hold, for messages.
        command: What prints such a one, for messages.
        only_json: Whether YAML is refused.

    Raises:
        InputError: It is neither JSON nor YAML.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            where, f"byte {error.start} is not UTF-8", "give a manifest in UTF-8"
        ) from None
    if text.lstrip().startswith("<"):
        raise InputError(
            where, "it looks like XML", f"give a {kind} manifest here, and a domain by --domain"
        )
    if only_json or data.lstrip(_BEFORE_JSON)[:1] in (b"{", b"["):
        try:
            yield json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                where, f"it is not JSON: {error}", f"give the output of '{command} -o json'"
            ) from None
        return
    import yaml  # here: a launcher always sends JSON

    from launcher_hook.yamlfault import explain_yaml, refuse_double_keys

    try:
        # Not libyaml's loader: it ends the process on deep nesting.
        yield from yaml.load_all(text, Loader=refuse_double_keys(yaml.SafeLoader))
    except (yaml.YAMLError, *_RAISED_BY_CONSTRUCTORS) as error:
        what = f"it is not YAML: {explain_yaml(error)}"
        raise InputError(where, what, f"give a {kind} manifest") from None


def name_kind(document: Any) -> str:
    """Name what a document is, for messages: its kind, or what it is instead of an object."""
    if isinstance(document, dict):
        kind = document.get("kind")
        return "an object without kind" if kind is None else shorten(kind)
    if document is None:
        return "nothing"
    return "a list" if isinstance(document, list) else f"only {shorten(document)}"


def _pick(documents: Iterator[Any], where: str) -> dict[str, Any]:
    found, others = [], []
    for document in documents:
        kind = document.get("kind") if isinstance(document, dict) else None
        # virt-launcher marshals its VMI with a kind; a bare spec of hand-made tests may lack it.
        if kind is None and isinstance(document, dict) and "spec" in document:
            found.append({**document, "kind": "VirtualMachineInstance"})
        elif kind in _KINDS:
            found.append(document)
        else:
            others.append(name_kind(document))
    kinds = " or ".join(_KINDS)
    if len(found) > 1:
        raise InputError(where, f"it holds {len(found)} of kind {kinds}", "give one of them")
    if not found:
        what = f"it holds {', '.join(others) or 'nothing'}"
        raise InputError(where, what, f"give a manifest of kind {kinds}")
    return found[0]


def _mapping(parent: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: {key}", f"{shorten(value)} is not a mapping", "see the VMI's API"
        )
    return value


def _devices(manifest: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    spec = _mapping(manifest, "spec", where)
    domain = _mapping(spec, "domain", f"{where}: spec")
    return _mapping(domain, "devices", f"{where}: spec.domain")


def _requests(devices: Mapping[str, Any], where: str) -> Iterator[DeviceRequest]:
    seen: dict[str, str] = {}
    kinds: tuple[tuple[str, Literal["gpu", "hostdevice"]], ...] = (
        ("gpus", "gpu"),
        ("hostDevices", "hostdevice"),
    )
    for key, kind in kinds:
        entries = devices.get(key) or []
        if not isinstance(entries, list):
            raise InputError(
                f"{where}: spec.domain.devices.{key}",
                f"{shorten(entries)} is not a list",
                "write '- name: ...' and 'deviceName: ...' for each device",
            )
        if len(entries) > MOST_DEVICES:
            raise InputError(
                f"{where}: spec.domain.devices.{key}",
                f"it has {len(entries)} entries",
                f"give at most {MOST_DEVICES}: no guest has room for more",
            )
        for index, entry in enumerate(entries):
            path = f"spec.domain.devices.{key}[{index}]"
            yield _request(entry, kind, path, f"{where}: {path}", seen)


def _placed(devices: Mapping[str, Any]) -> Iterator[str]:
    """As virt-launcher names them (pkg/virt-launcher/virtwrap/device/hostdevice/sriov)."""
    for interface in list_mappings(devices, "interfaces"):
        if "sriov" in interface and interface.get("pciAddress"):
            yield f"ua-sriov-{interface.get('name')}"


def _request(
    entry: Any,
    kind: Literal["gpu", "hostdevice"],
    path: str,
    where: str,
    seen: dict[str, str],
) -> DeviceRequest:
    if not isinstance(entry, dict):
        raise InputError(where, f"{shorten(entry)} is not a mapping", "write name and deviceName")
    name, resource = entry.get("name"), entry.get("deviceName")
    if resource == "":  # no deviceName, as KubeVirt reads it: only then the entry is a claim's
        resource = None
    if not isinstance(name, str) or not name:
        raise InputError(where, f"its name is {shorten(name)}", "give the device a name")
    if not name.isprintable() or len(name) > MAX_NAME:
        raise InputError(
            where,
            f"its name {shorten(name)} is no name",
            f"give it one of at most {MAX_NAME} printable characters",
        )
    if resource is not None and (
        not isinstance(resource, str) or len(resource) > _LONGEST_RESOURCE
    ):
        raise InputError(
            where, f"its deviceName is {shorten(resource)}", "write a resource, vendor/NAME"
        )
    claim = None
    if resource is None or isinstance(entry.get("claimName"), str):
        claim = _claim(entry, name, where)
    vgpu = _mapping(entry, "virtualGPUOptions", where)
    request = DeviceRequest(
        kind=kind,
        name=name,
        resource=resource,
        path=path,
        display=_enabled(vgpu, "display", where),
        ramfb=_enabled(_mapping(vgpu, "display", where), "ramFB", where),
        claim=claim,
    )
    first = seen.setdefault(request.launcher_alias, path)
    if first != path:
        raise InputError(where, f"the name {shorten(name)} is that of {first}", "rename one")
    return request


def _claim(entry: Mapping[str, Any], name: str, where: str) -> ClaimRequest:
    if entry.get("claimName") is None:
        raise InputError(
            where,
            f"{shorten(name)} has no deviceName",
            "write deviceName: vendor/NAME, or claimName and requestName",
        )
    texts = []
    for key, optional in (("claimName", False), ("requestName", True)):
        text = entry.get(key)
        if optional and text is None:
            text = ""
        elif not isinstance(text, str) or not 0 < len(text) <= MAX_NAME:
            raise InputError(
                where, f"its {key} is {shorten(text)}", f"write a name of at most {MAX_NAME}"
            )
        texts.append(text)
    return ClaimRequest(*texts)


def _enabled(options: Mapping[str, Any], name: str, where: str) -> bool | None:
    """KubeVirt's FeatureState: present without ``enabled`` means on."""
    if options.get(name) is None:
        return None
    return _mapping(options, name, where).get("enabled") is not False
