"""The annotation of hook sidecars: its place, its form as KubeVirt reads it, what of it is ours."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from launcher_hook.doctor.finding import Finding
from launcher_hook.doctor.sidecars import (
    HOOK_SIDECARS,
    INJECT_LABEL,
    check_annotation,
    check_placement,
    parse_sidecars,
)
from launcher_hook.doctor.vmfacts import VmFacts
from launcher_hook.vmi import CONFIG_ANNOTATION

OURS = '[{"image": "registry/launcher-hook:0.1.0", "args": ["--set", "layout=root-bus"]}]'


def takes_all(_words: Sequence[str]) -> str | None:
    return None


def check(annotation: Any) -> list[Finding]:
    return list(check_annotation(VmFacts("vm", annotations={HOOK_SIDECARS: annotation}), takes_all))


def test_our_sidecar_is_found_by_its_image() -> None:
    (finding,) = check(OURS)
    assert finding.severity == "ok"
    assert finding.what == "1 sidecar; ours is 'registry/launcher-hook:0.1.0'"
    (finding,) = check('[{"image": "python", "command": ["launcher-hook", "serve"]}]')
    assert finding.what == "1 sidecar; ours is 'launcher-hook'"


def test_keys_are_taken_in_either_case_and_null_is_nothing_as_in_go() -> None:
    (sidecar,), findings = parse_sidecars('[{"IMAGE": "x", "Args": null, "pvc": null}]', "here")
    assert (sidecar.image, sidecar.args, sidecar.runs_script) == ("x", (), False)
    assert not findings
    assert parse_sidecars("null", "here") == ((), ())


@pytest.mark.parametrize(
    ("annotation", "what", "fix"),
    [
        ("", "'' is not JSON", "write a JSON list, e.g. ["),
        ("- image: x", "'- image: x' is not JSON", "write a JSON list"),
        ("['x']", "is not JSON", "write a JSON list"),
        ("[NaN]", "is not JSON: NaN is none of its values", "write a JSON list"),
        ("[" * 100_000, "is not JSON", "write a JSON list"),
        ('{"image": "x"}', "is JSON, but not a list", "write e.g. ["),
        ('["x"]', "'x' is not an object", "write e.g. ["),
        ([{"image": "x"}], "is not text", "put the JSON into quotes"),
        ('[{"image": 1}]', "1 is not text", "put it into quotes"),
        ('[{"image": "x", "args": "--v"}]', "'--v' is not a list of texts", 'write ["a", "b"]'),
        ('[{"image": "x", "args": [1]}]', "[1] is not a list of texts", 'write ["a", "b"]'),
        (
            '[{"image": "x", "imagePullPolicy": "Sometimes"}]',
            "'Sometimes' is no pull policy",
            "write Always, IfNotPresent or Never",
        ),
        ('[{"configMap": {"name": "x"}}]', "lacks key and hookPath", "write them"),
        ('[{"pvc": "x"}]', "'x' lacks name and volumePath", "write them"),
    ],
)
def test_what_kubevirt_cannot_use_is_an_error(annotation: Any, what: str, fix: str) -> None:
    errors = [finding for finding in check(annotation) if finding.severity == "error"]
    assert len(errors) == 1
    assert what in errors[0].what
    assert errors[0].fix.startswith(fix)


def test_a_key_that_kubevirt_overlooks_is_told_with_the_nearest() -> None:
    warning, _ = check('[{"image": "a/launcher-hook", "arguments": []}]')
    assert (warning.severity, warning.fix) == ("warning", "write 'args'")
    warning, _ = check('[{"image": "a/launcher-hook", "zzz": 1}]')
    assert warning.fix.startswith("the keys are image, imagePullPolicy,")


def test_an_entry_without_image_or_script_starts_nothing_of_ours() -> None:
    severities = [(f.severity, f.what.partition(",")[0]) for f in check('[{"args": []}]')]
    assert severities[0] == ("warning", "it names no image")
    (finding,) = check('[{"configMap": {"name": "a", "key": "b", "hookPath": "c"}}]')
    assert finding.severity == "ok"
    assert "it runs a script" in finding.what


def test_sidecars_of_which_none_is_ours_or_several_are_told() -> None:
    (finding,) = check('[{"image": "other"}]')
    assert finding.severity == "warning"
    assert "none of its 1 sidecar is named launcher-hook: 'other'" in finding.what
    _, finding = check(json.dumps([{"image": "a/launcher-hook"}, {"image": "b/launcher-hook"}]))
    assert (finding.severity, finding.fix) == ("warning", "keep one")


def test_an_image_without_registry_is_where_nobody_has_put_it() -> None:
    finding, fine = check('[{"image": "launcher-hook:0.1.0"}]')
    assert (finding.severity, fine.severity) == ("warning", "ok")
    assert finding.what == (
        "'launcher-hook:0.1.0' names no registry, so nodes look for "
        "docker.io/library/launcher-hook:0.1.0"
    )
    assert finding.fix.endswith("e.g. registry.example/me/launcher-hook:0.1.0")
    (fine,) = check('[{"image": "launcher-hook:0.1.0", "imagePullPolicy": "Never"}]')
    assert fine.severity == "ok"


def test_arguments_that_serve_does_not_take_are_an_error() -> None:
    vm = VmFacts("vm", annotations={HOOK_SIDECARS: OURS})
    (finding,) = check_annotation(vm, lambda words: f"not {words[0]}")
    assert (finding.severity, finding.what) == ("error", "not --set")
    assert finding.where.endswith("[0].args")


def test_a_command_takes_the_place_of_the_images_entry_point() -> None:
    def options(**entry: list[str]) -> tuple[str, ...] | None:
        (sidecar,), _ = parse_sidecars(json.dumps([{"image": "launcher-hook", **entry}]), "here")
        return sidecar.options

    assert options(args=["-v"]) == ("-v",)
    assert options(command=["/usr/bin/launcher-hook", "serve"], args=["-v"]) == ("-v",)
    assert options(command=["launcher-hook"], args=["serve", "-v"]) == ("-v",)
    assert options(command=["sh", "-c"], args=["launcher-hook serve"]) is None


def test_the_annotations_of_a_virtual_machine_stand_on_its_template() -> None:
    place = "spec.template.metadata.annotations"
    vm = VmFacts("virtualmachine/vm", place, outer={HOOK_SIDECARS: OURS, CONFIG_ANNOTATION: ""})
    findings = list(check_placement(vm))
    assert [finding.severity for finding in findings] == ["error", "error"]
    assert findings[0].fix == f"move it to {place}, and start the VM anew"
    assert not list(check_annotation(vm, takes_all))  # said once
    right = VmFacts("vm", place, annotations={HOOK_SIDECARS: OURS}, outer={HOOK_SIDECARS: OURS})
    assert not list(check_placement(right))


def test_a_misspelt_annotation_is_found() -> None:
    (finding,) = check_placement(VmFacts("vm", annotations={"hooks.kubevirt.io/hookSidecar": OURS}))
    assert (finding.severity, finding.fix) == ("error", f"write {HOOK_SIDECARS!r}")


def test_without_the_annotation_the_label_of_the_plugin_counts() -> None:
    (finding,) = check_annotation(VmFacts("vm", labels={INJECT_LABEL: "true"}), takes_all)
    assert finding.severity == "ok"
    (finding,) = check_annotation(VmFacts("vm", labels={INJECT_LABEL: "yes"}), takes_all)
    assert (finding.severity, finding.fix) == ("error", f'write {INJECT_LABEL}: "true"')
    (finding,) = check_annotation(VmFacts("vm"), takes_all)
    assert finding.severity == "error"
    assert "nothing starts the hook" in finding.what
