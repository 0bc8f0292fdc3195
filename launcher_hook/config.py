"""The configuration: one model, four sources laid over each other.

The sources, the later ones winning: the defaults, a file, the VMI's annotation, ``--set``.
pydantic costs the hook server some 10 MB, so it is loaded only when a source says something.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from launcher_hook.errors import InputError, shorten
from launcher_hook.model import Settings

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_CONFIG_BYTES = 1024 * 1024


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
    layers: list[tuple[str, dict[str, Any]]] = []
    for source in (file, annotation):
        if source is not None:
            layers.append((source[0], _parse_layer(*source)))
    layers.extend((f"--set {text}", _parse_set(text)) for text in assignments)
    merged: dict[str, Any] = {}
    for where, layer in layers:
        _check(layer, where)
        _merge(merged, layer)
    return _check(merged, "configuration") if merged else Settings()


def _parse_layer(where: str, content: str | bytes) -> dict[str, Any]:
    if len(content) > MAX_CONFIG_BYTES:
        raise InputError(where, f"it has {len(content)} bytes", "give a configuration below 1 MiB")
    layer = _parse_yaml(content, where)
    if layer is None:
        return {}
    if not isinstance(layer, dict):
        raise InputError(where, f"{shorten(layer)} is not a mapping", "write lines of 'key: value'")
    return layer


def _parse_set(text: str) -> dict[str, Any]:
    where = f"--set {text}"
    path, equals, value = text.partition("=")
    keys = path.split(".", 1) if equals else []  # a BDF or a device name may hold a dot itself
    if not keys or not all(keys):
        raise InputError(where, f"{text!r} is not key=value", "write e.g. --set layout=root-bus")
    layer: Any = _parse_yaml(value, where)
    for key in reversed(keys):
        layer = {key: layer}
    assert isinstance(layer, dict)
    return layer


def _parse_yaml(content: str | bytes, where: str) -> Any:
    import yaml

    class _Loader(yaml.SafeLoader):
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
        problem = " ".join(str(error).split())
        raise InputError(where, f"it is not YAML: {problem}", "mend the YAML") from None


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def _check(values: Mapping[str, Any], where: str) -> Settings:
    from pydantic import ValidationError

    from launcher_hook.configmodel import Config

    try:
        return Config.model_validate(values).settings()
    except ValidationError as error:
        raise _input_error(error, where, tuple(Config.model_fields)) from None


def _input_error(error: "ValidationError", where: str, known: Sequence[str]) -> InputError:
    """Turn pydantic's first finding into ours."""
    from difflib import get_close_matches

    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    given = first.get("input")
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, known, n=1, cutoff=0.4)
        fix = f"write {near[0]!r}" if near else f"the keys are {', '.join(known)}"
        return InputError(f"{where}: {key}", "there is no such key", fix)
    what, _, fix = first["msg"].removeprefix("Value error, ").partition("; ")
    if first["type"] == "literal_error":
        what, fix = f"{shorten(given)} is not allowed", f"write {first['ctx']['expected']}"
    return InputError(f"{where}: {key}" if key else where, what, fix or "mend the value")


def describe_keys() -> Iterator[tuple[str, str, str]]:
    """Give each key with its default and its meaning, for help texts and the README."""
    from launcher_hook.configmodel import Config

    for key, model_field in Config.model_fields.items():
        yield (
            key,
            str(model_field.get_default(call_default_factory=True)),
            (model_field.description or ""),
        )
