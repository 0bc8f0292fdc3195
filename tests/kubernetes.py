"""What KubeVirt and Kubernetes make of the manifests, as far as the tests need it."""

import re
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

HOOK_SIDECARS = "hooks.kubevirt.io/hookSidecars"


def uncommented(manifest: str) -> str:
    """With the lines that are for those who need them: # and no space behind it."""
    return re.sub(r"^( *)#(?=\S)", r"\1", manifest, flags=re.MULTILINE)


class _Strict(BaseModel):
    """KubeVirt overlooks a field that it does not know; whoever wrote it meant something."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ConfigMap(_Strict):
    name: str
    key: str
    hookPath: str  # noqa: N815 - KubeVirt's word


class Pvc(_Strict):
    name: str
    volumePath: str  # noqa: N815
    sharedComputePath: str = ""  # noqa: N815


class HookSidecar(_Strict):
    """One container of the annotation (kubevirt pkg/hooks/hooks.go)."""

    image: str = ""
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"]  # noqa: N815
    command: list[str] = []
    args: list[str] = []
    configMap: ConfigMap | None = None  # noqa: N815
    pvc: Pvc | None = None


_sidecars = TypeAdapter(list[HookSidecar])


def parse_hook_sidecars(annotation: str) -> list[HookSidecar]:
    return _sidecars.validate_json(annotation)


def parse_injected_container(expression: str) -> dict[str, Any]:
    """The container in a JSONPatch mutation: CEL's objects, less their types, are YAML's."""
    _, found, rest = expression.partition("value: Object.spec.initContainers{")
    assert found, expression
    depth, end = 1, 0
    while depth:
        depth += {"{": 1, "}": -1}.get(rest[end], 0)
        end += 1
    text = re.sub(r"Object\.[\w.]+\{", "{", "{" + rest[:end])
    container = yaml.safe_load(text)
    assert isinstance(container, dict)
    return container
