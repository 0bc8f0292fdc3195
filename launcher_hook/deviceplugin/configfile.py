"""The configuration file: a KubeVirt CR, its ``permittedHostDevices``, or our own selectors.

Imported only where there is a file: pydantic is 10 MB of a plugin that needs 40.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from launcher_hook.config import parse_yaml
from launcher_hook.configkeys import KEYS
from launcher_hook.deviceplugin.names import check_resource
from launcher_hook.deviceplugin.selection import (
    IdsPerGroup,
    MdevSelector,
    PciSelector,
    Selection,
    parse_class,
    spell_type,
)
from launcher_hook.errors import InputError, shorten
from launcher_hook.pci import BDF_EXAMPLE, BDF_SCHEMA, PciAddress

MAX_CONFIG_BYTES = 4 << 20

_PERMITTED = "permittedHostDevices"
_IDS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}", re.IGNORECASE)
_VENDOR = re.compile(r"[0-9a-f]{4}(:[0-9a-f]{4})?", re.IGNORECASE)


def _ids(text: str) -> str:
    if _IDS.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} is no vendor and device id; write 4 and 4 hexadecimal digits, e.g. 10DE:1F08"
        )
    return text.lower()


def _vendor(text: str) -> str:
    if _VENDOR.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no vendor; write e.g. 10de, or 10de:1f08 with a device")
    return text.lower()


def _address(text: Any) -> Any:
    if not isinstance(text, str):
        raise ValueError(f"{shorten(text)} is not an address; {BDF_EXAMPLE}")
    return PciAddress.parse(text)


def _resource(text: str) -> str:
    check_resource(text)
    return text


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, frozen=True, alias_generator=to_camel
    )


class PciHostDevice(_Model):
    """KubeVirt's entry for a PCI device."""

    pci_vendor_selector: Annotated[str, AfterValidator(_ids)]
    resource_name: str
    external_resource_provider: bool = False


class MediatedHostDevice(_Model):
    """KubeVirt's entry for a mediated device."""

    mdev_name_selector: str
    resource_name: str
    external_resource_provider: bool = False


# The lists of permittedHostDevices that a PCI function can be in.
_LISTS: Mapping[str, type[PciHostDevice] | type[MediatedHostDevice]] = {
    "pciHostDevices": PciHostDevice,
    "mediatedDevices": MediatedHostDevice,
}


class OwnSelector(_Model):
    """Our entry for a PCI device: all that it says must be so."""

    resource_name: Annotated[str, AfterValidator(_resource)] | None = Field(
        default=None, description="The resource; without it the name is made from pci.ids."
    )
    vendor: Annotated[str, AfterValidator(_vendor)] | None = Field(
        default=None, description="Vendor, or vendor and device: `10de`, `10de:1f08`."
    )
    class_: Annotated[str, AfterValidator(parse_class)] | None = Field(
        default=None, alias="class", description="First digits of the class code: `03`, `0302`."
    )
    address: Annotated[PciAddress, BeforeValidator(_address), WithJsonSchema(BDF_SCHEMA)] | None = (
        Field(default=None, description="One function: `0000:3b:00.0`.")
    )
    driver: str | None = Field(
        default=None, description="The bound driver: `vfio-pci`, `mlx5_vfio_pci`, `nvidia` (vGPU)."
    )
    numa_node: int | None = Field(default=None, ge=0, description="The NUMA node: `0`.")


class PluginConfig(_Model):
    """What the file says, wherever in it KubeVirt's two lists stood."""

    pci_host_devices: list[PciHostDevice] = []
    mediated_devices: list[MediatedHostDevice] = []
    selectors: list[OwnSelector] = []
    ids_per_group: IdsPerGroup = "one"


def read_selection(content: bytes, where: str) -> Selection:
    """Read a configuration file.

    Raises:
        InputError: It is not YAML, a key is not known, a value is not allowed.
    """
    document = parse_yaml(content, where)
    if not isinstance(document, dict):
        raise InputError(
            where,
            f"{shorten(document)} is not a mapping",
            f"give a KubeVirt CR, {_PERMITTED}, or selectors",
        )
    values = _flatten(_only_item(document, where), where)
    try:
        config = PluginConfig.model_validate(values)
    except ValidationError as error:
        raise _input_error(error, where) from None
    return Selection(
        pci=(
            *(_own(entry, f"{where}: selectors[{i}]") for i, entry in enumerate(config.selectors)),
            *(
                _pci(e, f"{where}: pciHostDevices[{i}]")
                for i, e in enumerate(config.pci_host_devices)
            ),
        ),
        mdev=tuple(
            _mdev(e, f"{where}: mediatedDevices[{i}]")
            for i, e in enumerate(config.mediated_devices)
        ),
        ids_per_group=config.ids_per_group,
    )


def read_permitted(key: str, entry: Any, where: str) -> PciSelector | MdevSelector:
    """Read one entry of a KubeVirt CR's ``pciHostDevices`` or ``mediatedDevices``.

    Args:
        key: Which of the two lists.
        entry: As YAML has it.
        where: Its place, for messages.

    Raises:
        InputError: Something in it is wrong.
    """
    model = _LISTS[key]
    try:
        (known,) = _prune([entry], model)
        parsed = model.model_validate(known)
    except ValidationError as error:
        raise _input_error(error, where) from None
    if isinstance(parsed, PciHostDevice):
        return _pci(parsed, where)
    return _mdev(parsed, where)


def _only_item(document: dict[str, Any], where: str) -> dict[str, Any]:
    """``kubectl get kubevirt -A -o yaml`` gives a list, with one KubeVirt in it."""
    if "items" not in document:
        return document
    items = document["items"]
    if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], dict):
        raise InputError(where, "it is a list of other than one KubeVirt", "give the KubeVirt CR")
    return items[0]


def _flatten(document: dict[str, Any], where: str) -> dict[str, Any]:
    """Bring KubeVirt's two lists to the top, beside our own keys."""
    if document.get("kind") is None:
        fragment = dict(document)
        inner = _mapping(fragment.pop(_PERMITTED, None) or {}, f"{where}: {_PERMITTED}")
        inner.pop("usb", None)  # virt-handler's
        twice = next((key for key in inner if key in fragment), None)
        if twice is not None:
            raise InputError(
                f"{where}: {twice}",
                f"it is written below {_PERMITTED} too",
                "write all entries in one of the two places",
            )
        return {**inner, **fragment}
    if document["kind"] != "KubeVirt":
        raise InputError(
            f"{where}: kind",
            f"{shorten(document['kind'])} is not KubeVirt",
            f"give a KubeVirt CR, or its {_PERMITTED} alone",
        )
    permitted = document
    path = f"{where}: "
    for key in ("spec", "configuration", _PERMITTED):
        path += f".{key}"
        permitted = _mapping(permitted.get(key) or {}, path.replace(": .", ": "))
    # What a later KubeVirt has besides is none of ours, and the API server has checked it.
    own = {key: document[key] for key in ("selectors", "idsPerGroup") if key in document}
    return {
        key: _prune(permitted[key], model) for key, model in _LISTS.items() if permitted.get(key)
    } | own


def _prune(entries: Any, model: type[_Model]) -> Any:
    if not isinstance(entries, list):
        return entries
    known = {field.alias for field in model.model_fields.values()}
    return [
        {k: v for k, v in entry.items() if k in known} if isinstance(entry, dict) else entry
        for entry in entries
    ]


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(where, f"{shorten(value)} is not a mapping", "mend the YAML")
    return value


def _input_error(error: ValidationError, where: str) -> InputError:
    """Turn pydantic's first finding into ours."""
    from difflib import get_close_matches

    first = error.errors(include_url=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    where = f"{where}: {path.removeprefix('.')}"
    if first["type"] == "extra_forbidden":
        key, known = str(first["loc"][-1]), _keys_beside(first["loc"])
        if len(first["loc"]) == 1 and key in KEYS:
            return InputError(
                where,
                "that is the hook's configuration, not the device plugin's",
                f"give it to render, plan or serve; the keys here are {', '.join(known)}",
            )
        near = get_close_matches(key, known, n=1)
        fix = f"write {near[0]!r}" if near else f"the keys are {', '.join(known)}"
        return InputError(where, "there is no such key", fix)
    if first["type"] == "missing":
        return InputError(where, "it is missing", "write it")
    if first["type"] == "literal_error":
        what = f"{shorten(first.get('input'))} is not allowed"
        return InputError(where, what, f"write {first['ctx']['expected']}")
    what, _, fix = first["msg"].removeprefix("Value error, ").partition("; ")
    if not fix:
        what = f"{shorten(first.get('input'))}: {what}"
    return InputError(where, what, fix or "mend the value")


def _keys(model: type[_Model]) -> list[str]:
    return [field.alias or "" for field in model.model_fields.values()]


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    """The keys that there are where one was not known."""
    if len(place) == 1:
        return [_PERMITTED, *_keys(PluginConfig)]
    return _keys(_LISTS.get(str(place[0]), OwnSelector))


def _own(entry: OwnSelector, where: str) -> PciSelector:
    vendor, _, device = (entry.vendor or "").partition(":")
    selector = PciSelector(
        where,
        entry.resource_name,
        int(vendor, 16) if vendor else None,
        int(device, 16) if device else None,
        entry.class_,
        entry.address,
        entry.driver,
        entry.numa_node,
    )
    if selector == PciSelector(where, entry.resource_name):
        raise InputError(
            where,
            "it says nothing about the device",
            "give one of vendor, class, address, driver, numaNode",
        )
    return selector


def _pci(entry: PciHostDevice, where: str) -> PciSelector:
    vendor, _, device = entry.pci_vendor_selector.partition(":")
    return PciSelector(
        where,
        _checked_resource(entry, where),
        int(vendor, 16),
        int(device, 16),
        external=entry.external_resource_provider,
    )


def _mdev(entry: MediatedHostDevice, where: str) -> MdevSelector:
    return MdevSelector(
        where,
        _checked_resource(entry, where),
        spell_type(entry.mdev_name_selector),
        external=entry.external_resource_provider,
    )


def _checked_resource(entry: PciHostDevice | MediatedHostDevice, where: str) -> str:
    """Refuse a name that kubelet would refuse; one that is not ours is virt-handler's to refuse."""
    try:
        if entry.external_resource_provider:
            check_resource(entry.resource_name)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise InputError(f"{where}.resourceName", what, fix) from None
    return entry.resource_name


def describe_selector_keys() -> Mapping[str, str]:
    """Give our selectors' keys with their meaning, for the README."""
    return {f.alias or "": f.description or "" for f in OwnSelector.model_fields.values()}


def describe_file() -> dict[str, Any]:
    """Give the JSON Schema of the file, in each form that ``read_selection`` takes."""
    schema = PluginConfig.model_json_schema()
    keys = schema.pop("properties")
    lists = {key: keys[key] for key in ("pciHostDevices", "mediatedDevices")}
    permitted = {"type": "object", "properties": lists | {"usb": True}}
    own = {"properties": keys | {_PERMITTED: permitted | {"additionalProperties": False}}}
    resource = {"kind": {"enum": ["KubeVirt", "List"]}}
    ours = {key: keys[key] for key in ("selectors", "idsPerGroup")}
    del schema["additionalProperties"]
    return schema | {
        "title": "launcher-hook device-plugin --config",
        "description": f"A KubeVirt CR, its {_PERMITTED}, or selectors of our own.",
        "if": {"required": ["kind"]},
        "then": {"properties": resource | ours},
        "else": own | {"additionalProperties": False},
    }
