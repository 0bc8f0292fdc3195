"""JSON Schema of the configuration, made from its keys: an editor completes and checks with it."""

from typing import Any

from launcher_hook.configkeys import KEYS, default_of
from launcher_hook.keys import describe_keys

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def describe_configuration() -> dict[str, Any]:
    """Give the JSON Schema of --config's file and of the VMI's annotation."""
    schema = describe_keys(KEYS)
    for name, described in schema["properties"].items():
        described["default"] = default_of(name)
    return {
        "$schema": DIALECT,
        "title": "launcher-hook --config, passthrough.launcher-hook.io/config",
        **schema,
        "type": ["object", "null"],  # an empty file
    }
