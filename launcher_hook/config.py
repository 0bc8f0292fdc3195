"""The configuration: four sources laid over each other.

The sources, the later ones winning: the defaults, a file, the VMI's annotation, ``--set``. The
keys stand in ``configkeys``.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from launcher_hook.configkeys import KEYS, check_values
from launcher_hook.devicekeys import DEVICE_KEYS
from launcher_hook.errors import InputError, shorten
from launcher_hook.settings import Settings

MAX_CONFIG_BYTES = 1024 * 1024

PLUGIN_KEYS = (
    "permittedHostDevices",
    "pciHostDevices",
    "mediatedDevices",
    "selectors",
    "idsPerGroup",
)
"""The keys of `device-plugin --config`, which is another file."""

MAX_ANNOTATION_CHARACTERS = 16 * 1024
"""700 slots. Kubernetes lets a VM's owner write 256 KiB, which as YAML may be 90 MB in memory and
3 s of CPU, of the 64 MB and 0.2 cores that a hook has."""


def read_settings(
    file: tuple[str, bytes] | None = None,
    annotation: tuple[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> Settings:
    """Merge the sources and check the result.

    A mapping such as ``slots`` is merged key by key; every other value is replaced.

    Args:
        file: Name and content of a YAML file.
        annotation: Name and content of the VMI's annotation, YAML or JSON.
        assignments: ``key=value`` or ``key.key=value``; a value is read as YAML.

    Raises:
        InputError: A source is not YAML, a key is not known, a value is not allowed.
    """
    return _read(file, annotation, tuple(assignments))


@lru_cache(maxsize=8)  # a hook is asked three times for one VM
def _read(
    file: tuple[str, bytes] | None, annotation: tuple[str, str] | None, assignments: tuple[str, ...]
) -> Settings:
    layers: list[tuple[str, dict[str, Any]]] = []
    if annotation is not None and len(annotation[1]) > MAX_ANNOTATION_CHARACTERS:
        raise InputError(
            annotation[0],
            f"it has {len(annotation[1])} characters",
            f"give at most {MAX_ANNOTATION_CHARACTERS}, or a file by --config",
        )
    for source in (file, annotation):
        if source is not None:
            layers.append((source[0], _parse_layer(*source)))
    for where, layer in layers:
        _check_whose(layer, where)
    layers.extend((f"--set {text}", _parse_set(text)) for text in assignments)
    merged: dict[str, Any] = {}
    for where, layer in layers:
        check_values(layer, where)  # here, where the message can name the source
        _merge(merged, layer)
    return check_values(merged, "configuration")


def _parse_layer(where: str, content: str | bytes) -> dict[str, Any]:
    if len(content) > MAX_CONFIG_BYTES:
        raise InputError(where, f"it has {len(content)} bytes", "give a configuration below 1 MiB")
    layer = parse_yaml(content, where)
    if layer is None:
        return {}
    if not isinstance(layer, dict):
        raise InputError(where, f"{shorten(layer)} is not a mapping", "write lines of 'key: value'")
    return layer


def _check_whose(layer: Mapping[str, Any], where: str) -> None:
    """Refuse another file in its own name: the nearest key of ours would lead astray."""
    if "apiVersion" in layer and layer.get("kind") != "KubeVirt":
        raise InputError(
            where,
            f"it is a manifest of kind {shorten(layer.get('kind'))}, not the hook's configuration",
            "give a VMI by --vmi; the keys here are " + ", ".join(KEYS),
        )
    for key in layer:
        if key in PLUGIN_KEYS or (key == "kind" and layer[key] == "KubeVirt"):
            raise InputError(
                f"{where}: {key}",
                "that is the device plugin's configuration, not the hook's",
                "give it to device-plugin, discover or doctor --plugin-config; the keys here are "
                + ", ".join(KEYS),
            )


def _parse_set(text: str) -> dict[str, Any]:
    where = f"--set {text}"
    path, equals, value = text.partition("=")
    keys = path.split(".", 1) if equals else []  # a BDF or a device name may hold a dot itself
    if not keys or not all(keys):
        raise InputError(where, f"{text!r} is not key=value", "write e.g. --set layout=root-bus")
    layer: Any = parse_yaml(value, where)
    if keys[0] == "devices" and len(keys) == 2:
        keys[1:] = _split_option(keys[1], isinstance(layer, dict))
    for key in reversed(keys):
        layer = {key: layer}
    assert isinstance(layer, dict)
    return layer


def _split_option(path: str, is_mapping: bool) -> list[str]:
    """Split ``0000:86:00.0.rom.bar``: a mapping may be a device's options or one of its options."""
    name, _, option = path.rpartition(".")
    if not name or (is_mapping and option not in DEVICE_KEYS):
        return [path]
    above, _, group = name.rpartition(".")
    return [above, group, option] if above and group in ("rom", "driver") else [name, option]


def parse_yaml(content: str | bytes, where: str) -> Any:
    """Read YAML in which every scalar but null is text.

    Raises:
        InputError: It is not YAML, or has aliases.
    """
    import yaml

    from launcher_hook.yamlfault import explain_yaml, refuse_double_keys

    class _Loader(refuse_double_keys(yaml.SafeLoader)):  # type: ignore[misc]
        """YAML in which every scalar but null is text, and which has no aliases.

        ``managed: yes`` is no boolean here, ``0000:00:08`` no number of minutes; and nine lines
        of aliases of aliases cannot unfold into gigabytes.
        """

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not taken; write the value out")
            return super().compose_node(parent, index)

    # Text, lists, mappings and null; no !!int, !!timestamp and what they raise.
    kept = [None, *(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map", "null"))]
    _Loader.yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in kept}
    _Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(content, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = f"it is not YAML: {explain_yaml(error)}"
        raise InputError(where, what, "mend the YAML") from None


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value
