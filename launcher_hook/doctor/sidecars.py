"""The annotation that has KubeVirt start the hook: its place, its form, what it starts. Pure."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from launcher_hook.doctor.finding import Finding, counted, fail, fine, listed, warn
from launcher_hook.doctor.vmfacts import VmFacts
from launcher_hook.errors import shorten
from launcher_hook.vmi import CONFIG_ANNOTATION

# kubevirt pkg/hooks/hooks.go: HookSidecarListAnnotationName, HookSidecar.
HOOK_SIDECARS = "hooks.kubevirt.io/hookSidecars"

INJECT_LABEL = "passthrough.launcher-hook.io/inject"
"""Of a VM that gets the hook by KubeVirt 1.9's plugin API: sidecar-image/manifests/plugin.yaml."""

_PROGRAM = "launcher-hook"
_EXAMPLE = '[{"image": "REGISTRY/launcher-hook:TAG"}]'
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_TEXTS = ("image", "imagePullPolicy")
_LISTS = ("command", "args")
_MAPPINGS: Mapping[str, tuple[str, ...]] = {
    "configMap": ("name", "key", "hookPath"),
    "pvc": ("name", "volumePath"),
}
_KEYS = (*_TEXTS, *_LISTS, *_MAPPINGS)

CheckArguments = Callable[[Sequence[str]], str | None]
"""Says why ``launcher-hook serve`` does not take some arguments; None where it does."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A container that the annotation asks for.

    Attributes:
        is_pulled: A node may fetch its image, rather than have it already.
    """

    index: int
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    runs_script: bool = False
    is_pulled: bool = True

    @property
    def name(self) -> str:
        """The word by which it is ours; "" where there is none."""
        words = (self.image, *self.command, *self.args)
        return next((word for word in words if _PROGRAM in word), "")

    @property
    def is_ours(self) -> bool:
        """Whether it starts this program, by what is written there."""
        return self.name != ""

    @property
    def options(self) -> tuple[str, ...] | None:
        """What it says to ``serve``; None where another program is started.

        The image's entry point is ``launcher-hook serve``, which a command replaces.
        """
        if not self.command:
            return self.args
        program, *words = (*self.command, *self.args)
        if program.rpartition("/")[2] == _PROGRAM and words[:1] == ["serve"]:
            return tuple(words[1:])
        return None


def check_placement(vm: VmFacts) -> Iterator[Finding]:
    """Annotations of a VirtualMachine itself are not those of its VMIs."""
    for name in (HOOK_SIDECARS, CONFIG_ANNOTATION):
        if name in vm.outer and name not in vm.annotations:
            yield fail(
                "annotation",
                f"{vm.where}: metadata.annotations",
                f"{name} stands on the VirtualMachine, whose VMIs do not get it",
                f"move it to {vm.place}, and start the VM anew",
            )
    near = {
        str(name): wanted
        for wanted in (HOOK_SIDECARS, CONFIG_ANNOTATION)
        if wanted not in vm.annotations
        for name in get_close_matches(wanted, map(str, vm.annotations), n=1, cutoff=0.85)
    }
    for name, wanted in near.items():
        yield fail(
            "annotation", f"{vm.where}: {vm.place}", f"{name!r} is none", f"write {wanted!r}"
        )


def check_annotation(vm: VmFacts, check_arguments: CheckArguments) -> Iterator[Finding]:
    """Its form, as KubeVirt reads it, and what of it is ours."""
    text = vm.annotations.get(HOOK_SIDECARS)
    where = f"{vm.where}: {vm.place}[{HOOK_SIDECARS}]"
    if text is None:
        yield from _check_absence(vm)
        return
    sidecars, findings = parse_sidecars(text, where)
    yield from findings
    if any(finding.severity == "error" for finding in findings):
        return
    ours = [sidecar for sidecar in sidecars if sidecar.is_ours]
    for sidecar in ours:
        fault = None if sidecar.options is None else check_arguments(sidecar.options)
        if fault is not None:
            yield fail("sidecar", f"{where}[{sidecar.index}].args", fault, "mend the arguments")
            return
    yield from _check_images(ours, where)
    if ours:
        named = shorten(ours[0].name)
        yield fine("sidecar", where, f"{counted(len(sidecars), 'sidecar')}; ours is {named}")
    elif any(sidecar.runs_script for sidecar in sidecars):
        yield fine("sidecar", where, "it runs a script, which must be onDefineDomain of ours")
    else:
        yield warn(
            "sidecar",
            where,
            f"none of its {counted(len(sidecars), 'sidecar')} is named {_PROGRAM}: "
            f"{listed(shorten(s.image) for s in sidecars) or 'there is none'}",
            f"write e.g. {_EXAMPLE}",
        )
    if len(ours) > 1:
        yield warn("sidecar", where, f"{len(ours)} of them are ours", "keep one")


def _check_images(sidecars: Sequence[Sidecar], where: str) -> Iterator[Finding]:
    """Without a registry an image of ours is looked for where nobody has put it."""
    for sidecar in sidecars:
        image = sidecar.image
        if _PROGRAM in image and "/" not in image and sidecar.is_pulled:
            yield warn(
                "sidecar",
                f"{where}[{sidecar.index}].image",
                f"{shorten(image)} names no registry, so nodes look for docker.io/library/{image}",
                f"write where it was pushed to, e.g. registry.example/me/{image}",
            )


def _check_absence(vm: VmFacts) -> Iterator[Finding]:
    if HOOK_SIDECARS in vm.outer:
        return  # in the wrong place: said already
    label = vm.labels.get(INJECT_LABEL)
    where = f"{vm.where}: {vm.place}"
    if label == "true":
        yield fine("sidecar", where, f"none; the label {INJECT_LABEL} asks for the plugin instead")
    elif label is not None:
        yield fail(
            "sidecar",
            f"{vm.where}: labels",
            f"{INJECT_LABEL} is {shorten(label)}",
            f'write {INJECT_LABEL}: "true"',
        )
    else:
        yield fail(
            "sidecar",
            where,
            f"there is neither {HOOK_SIDECARS} nor the label {INJECT_LABEL}: nothing starts the "
            "hook",
            f"write {HOOK_SIDECARS}: '{_EXAMPLE}' there",
        )


def parse_sidecars(text: Any, where: str) -> tuple[tuple[Sidecar, ...], tuple[Finding, ...]]:
    """Read the annotation as Go's encoding/json reads it into KubeVirt's struct.

    Keys may be in either case there, unknown ones are overlooked, and null is nothing.

    Returns:
        What it asks for, as far as it can be read; what is wrong with it.
    """
    if not isinstance(text, str):
        return (), (
            fail("sidecar", where, f"{shorten(text)} is not text", "put the JSON into quotes"),
        )
    try:
        entries = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return (), (
            fail(
                "sidecar",
                where,
                f"{shorten(text)} is not JSON: {error}",
                f"write a JSON list, e.g. {_EXAMPLE}",
            ),
        )
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        what = f"{shorten(text)} is JSON, but not a list"
        return (), (fail("sidecar", where, what, f"write e.g. {_EXAMPLE}"),)
    sidecars, findings = [], []
    for index, entry in enumerate(entries):
        place = f"{where}[{index}]"
        if not isinstance(entry, dict):
            what = f"{shorten(entry)} is not an object"
            findings.append(fail("sidecar", place, what, f"write e.g. {_EXAMPLE}"))
            continue
        values = {_key(key): value for key, value in entry.items() if value is not None}
        findings += _check_entry(values, place)
        sidecars.append(
            Sidecar(
                index,
                str(values.get("image") or ""),
                _words(values.get("command")),
                _words(values.get("args")),
                "configMap" in values or "pvc" in values,
                values.get("imagePullPolicy") != "Never",
            )
        )
    return tuple(sidecars), tuple(findings)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is none of its values")


def _key(key: str) -> str:
    """Go takes a key in either case."""
    return next((known for known in _KEYS if known.casefold() == key.casefold()), key)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _check_entry(values: Mapping[str, Any], where: str) -> Iterator[Finding]:
    for key, value in values.items():
        place = f"{where}.{key}"
        if key in _TEXTS:
            if not isinstance(value, str):
                yield fail("sidecar", place, f"{shorten(value)} is not text", "put it into quotes")
            elif key == "imagePullPolicy" and value and value not in _PULL_POLICIES:
                fix = f"write {', '.join(_PULL_POLICIES[:-1])} or {_PULL_POLICIES[-1]}"
                yield fail("sidecar", place, f"{shorten(value)} is no pull policy", fix)
        elif key in _LISTS:
            if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
                yield fail(
                    "sidecar", place, f"{shorten(value)} is not a list of texts", 'write ["a", "b"]'
                )
        elif key in _MAPPINGS:
            missing = [k for k in _MAPPINGS[key] if not isinstance(value, dict) or not value.get(k)]
            if missing:
                what = f"{shorten(value)} lacks {' and '.join(missing)}"
                yield fail("sidecar", place, what, "write them")
        else:
            near = get_close_matches(key, _KEYS, n=1, cutoff=0.5)
            fix = f"write {near[0]!r}" if near else f"the keys are {', '.join(_KEYS)}"
            yield warn("sidecar", place, "KubeVirt knows no such key and overlooks it", fix)
    if not values.get("image") and not {"configMap", "pvc"} & values.keys():
        yield warn(
            "sidecar",
            where,
            "it names no image, so it is KubeVirt's sidecar-shim, and gives that no script",
            'write "image": "REGISTRY/launcher-hook:TAG"',
        )
