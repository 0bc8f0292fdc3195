"""A migration's target gets its domain back, byte for byte; every other call gives devices."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cases import CASES
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.errors import InputError
from launcher_hook.fields import MAX_VALUES
from launcher_hook.hook.call import MIGRATION_TARGET, DomainHook, HookOptions
from launcher_hook.migration import is_migration_target
from launcher_hook.schema import load_schemas
from launcher_hook.vmi import CONFIG_ANNOTATION, MAX_VMI_BYTES

CASE = CASES / "stock-sidecar"  # hostdevs are in the domain, as the gate VGPULiveMigration has it
DOMAIN = (CASE / "domain.xml").read_bytes()
VMI = json.loads((CASE / "vmi.json").read_bytes())
EXPECTED = (CASE / "expected.xml").read_bytes()
SCHEMAS = load_schemas()

# As KubeVirt 1.9.0's migration controller hands the target over, and what becomes of it.
HANDED_OVER = {
    "migrationUid": "42",
    "sourceNode": "node01",
    "sourcePod": "virt-launcher-vm-aaaaa",
    "targetNode": "node02",
    "targetPod": "virt-launcher-vm-bbbbb",
}
STARTED = {**HANDED_OVER, "targetNodeAddress": "10.1.2.3", "startTimestamp": "2026-11-29T01:00:00Z"}
ENDED = {**STARTED, "endTimestamp": "2026-11-29T01:00:09Z", "completed": True}
RECEIVING = {"kubevirt.io/create-migration-target": "true"}
BETWEEN_CLUSTERS = {
    **HANDED_OVER,
    "sourceState": {"node": "node01", "syncAddress": "10.9.9.9:9185"},
    "targetState": {"node": "node02", "pod": "virt-launcher-vm-bbbbb"},
}

TARGETS = {
    "prepared": ({"phase": "Running", "migrationState": HANDED_OVER}, {}),
    "no phase": ({"migrationState": {"targetNode": "node02"}}, {}),
    "pod only": ({"migrationState": {"targetPod": "virt-launcher-vm-bbbbb"}}, {}),
    "abort asked for": (
        {"phase": "Running", "migrationState": {**HANDED_OVER, "abortRequested": True}},
        {},
    ),
    "from another cluster": ({"phase": "Scheduled", "migrationState": BETWEEN_CLUSTERS}, RECEIVING),
    "from another cluster, waiting": (
        {"phase": "WaitingForSync", "migrationState": {"sourceState": {"node": "node01"}}},
        RECEIVING,
    ),
    "from another cluster, second try": (
        {
            "phase": "WaitingForSync",
            "migrationState": {**BETWEEN_CLUSTERS, "endTimestamp": "2026-11-29T01:00:09Z"},
        },
        RECEIVING,
    ),
}
NO_TARGETS: dict[str, tuple[Any, dict[str, str]]] = {
    "first start": ({"phase": "Scheduled"}, {}),
    "no status": (None, {}),
    "migrated before": ({"phase": "Running", "migrationState": ENDED}, {}),
    "migration failed": (
        {"phase": "Running", "migrationState": {**ENDED, "failed": True}},
        {},
    ),
    "failed only": ({"phase": "Running", "migrationState": {**HANDED_OVER, "failed": True}}, {}),
    "source": ({"phase": "Running", "migrationState": STARTED}, {}),
    "source, no target yet": ({"phase": "Running", "migrationState": {"migrationUid": "42"}}, {}),
    "started with the status of another": (
        {"phase": "Scheduled", "migrationState": HANDED_OVER},
        {},
    ),
    "restored from a backup of a target": (
        {"phase": "Pending", "migrationState": HANDED_OVER},
        {},
    ),
    "came from another cluster": (
        {"phase": "Running", "migrationState": {**BETWEEN_CLUSTERS, "completed": True}},
        RECEIVING,
    ),
    "annotation alone": ({"phase": "Scheduled"}, RECEIVING),
    "annotation without state": ({"phase": "Scheduled", "migrationState": {}}, RECEIVING),
    "annotation of another value": (
        {"phase": "Scheduled", "migrationState": BETWEEN_CLUSTERS},
        {"kubevirt.io/create-migration-target": "false"},
    ),
}


def vmi_with(status: Any, annotations: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    metadata = {**VMI["metadata"], "annotations": annotations or {}}
    return {**VMI, "metadata": metadata, "status": status, **more}


def encode(vmi: Any) -> bytes:
    return json.dumps(vmi).encode()


def hook(
    config: str = "", variables: dict[str, str] | None = None, sysfs: Path = Path("/nonexistent")
) -> DomainHook:
    options = HookOptions(("hook.yaml", config.encode()), (), variables or {}, sysfs)
    return DomainHook(options, SCHEMAS, dict)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_gets_its_domain_back_with_the_hostdevs_that_it_has(name: str) -> None:
    status, annotations = TARGETS[name]
    assert hook().define(DOMAIN, encode(vmi_with(status, annotations))) == DOMAIN


@pytest.mark.parametrize("name", NO_TARGETS)
def test_every_other_call_gives_the_vm_its_devices(name: str) -> None:
    status, annotations = NO_TARGETS[name]
    assert hook().define(DOMAIN, encode(vmi_with(status, annotations))) == EXPECTED


@pytest.mark.parametrize("name", ["source", "source, no target yet"])
def test_a_running_vm_whose_launcher_has_no_devices_is_a_targets(name: str) -> None:
    """Whatever its migrationState holds by then: an ordinary start has every device."""
    bare = b"<domain type='kvm'><name>vm</name><devices/></domain>"
    status, annotations = NO_TARGETS[name]
    assert hook().define(bare, encode(vmi_with(status, annotations))) == bare
    with pytest.raises(InputError, match="PCI_RESOURCE_"):
        hook().define(bare, encode(vmi_with({"phase": "Scheduled", "migrationState": STARTED})))


def unreadable() -> Iterator[tuple[str, bytes]]:
    """VMIs that the hook refuses, of a migration target."""
    target = vmi_with({"phase": "Running", "migrationState": HANDED_OVER})
    gpus = [{"name": "a", "deviceName": "x/A"}] * 2
    devices = {"domain": {"devices": {"gpus": gpus}}}
    yield "two devices of a name", encode({**target, "spec": devices})
    yield "spec of a wrong type", encode({**target, "spec": []})
    yield "another kind", encode({**target, "kind": "Pod"})
    config = {CONFIG_ANNOTATION: ["layout"]}
    yield "annotation of a wrong type", encode({**target, "metadata": {"annotations": config}})
    yield "metadata of a wrong type", encode({**target, "metadata": "x"})
    large = {"annotations": {"a": "x" * MAX_VMI_BYTES}}
    yield "too many bytes", encode({**target, "metadata": large})
    yield "too many values", encode({**target, "spec": [0] * MAX_VALUES})
    yield "cut off", encode(target)[:-2]
    names = [{"name": f"v{number}", "migrationState": {}} for number in range(20_000)]
    yield "many states", encode({**target, "spec": names, "status": target["status"]})
    yield "not UTF-8", encode(target).replace(b"node01", b"\xff")
    yield "deep", encode(target)[:-1] + b', "spec": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"


UNREADABLE = dict(unreadable())


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_vmi_that_cannot_be_read_is_no_error_on_a_target(name: str) -> None:
    assert hook().define(b"<no domain", UNREADABLE[name]) == b"<no domain"


@pytest.mark.parametrize("name", UNREADABLE)
def test_the_same_vmi_is_refused_where_the_vm_starts(name: str) -> None:
    started = UNREADABLE[name].replace(b'"targetNode"', b'"startTimestamp": "x", "targetNode"')
    with pytest.raises(InputError):
        hook().define(DOMAIN, started)


def test_a_text_that_looks_like_a_state_makes_no_target() -> None:
    """An annotation may hold a VMI's JSON; its quotes have backslashes."""
    inner = encode(vmi_with({"migrationState": HANDED_OVER})).decode()
    vmi = vmi_with({"phase": "Scheduled"}, {"kubectl.kubernetes.io/last-applied": inner})
    assert hook().define(DOMAIN, encode(vmi)) == EXPECTED
    with pytest.raises(InputError, match="JSON"):
        hook().define(DOMAIN, encode(vmi)[:-2])


@pytest.mark.parametrize("vmi", [b"", b"{", encode(VMI), *UNREADABLE.values()])
def test_the_plugin_api_says_itself_that_the_call_is_a_targets(vmi: bytes) -> None:
    assert hook("layout: x").define(b"<no domain", vmi, MIGRATION_TARGET) == b"<no domain"


@pytest.mark.parametrize("context", ["Boot", "MigrationSource"])
def test_what_the_plugin_api_says_counts_more_than_the_vmi(context: str) -> None:
    status, annotations = TARGETS["prepared"]
    assert hook().define(DOMAIN, encode(vmi_with(status, annotations)), context) == EXPECTED


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
VARIABLES = st.dictionaries(
    st.sampled_from(["PCI_RESOURCE_A", "MDEV_PCI_RESOURCE_A", "PCI_RESOURCE_", "PATH"]),
    st.sampled_from(["0000:86:00.0", "0000:99:00.0,0000:99:00.0", "x", ""]) | TEXT,
)


@given(
    domain=st.just(DOMAIN) | st.binary(max_size=60),
    config=TEXT | st.sampled_from(["layout: x", "slots: {a: b}", "strict: true\nlayout: mirror"]),
    annotation=JSON,
    spec=JSON,
    variables=VARIABLES,
    sysfs=st.sampled_from([Path("/nonexistent"), CASE, CASE / "domain.xml", Path("/proc/self")]),
    name=st.sampled_from([*TARGETS, MIGRATION_TARGET]),
)
def test_nothing_is_an_error_on_a_target(
    domain: bytes,
    config: str,
    annotation: Any,
    spec: Any,
    variables: dict[str, str],
    sysfs: Path,
    name: str,
) -> None:
    status, annotations = TARGETS.get(name, (None, {}))
    vmi = vmi_with(status, {**annotations, CONFIG_ANNOTATION: annotation}, spec=spec)
    context = name if name == MIGRATION_TARGET else ""
    answer = hook(config, variables, sysfs).define(domain, encode(vmi), context)
    assert answer == domain


STATES = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Scheduling", "Scheduled", "Running", 7]),
        "migrationState": st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(("completed", "failed"), st.booleans()),
                **dict.fromkeys(
                    ("startTimestamp", "endTimestamp", "targetNode", "targetPod", "sourceNode"),
                    st.sampled_from(["x", "", None]),
                ),
            },
        )
        | JSON,
    },
)


@given(STATES | JSON)
def test_only_a_migration_that_has_a_target_and_has_not_begun_makes_a_target(status: Any) -> None:
    if is_migration_target({"status": status}):
        state = status["migrationState"]
        assert state.get("targetNode") or state.get("targetPod")
        assert not any(map(state.get, ("completed", "failed", "startTimestamp")))
        assert status.get("phase") not in ("Pending", "Scheduling", "Scheduled")
    elif status is None or isinstance(status, dict):
        assert hook().define(DOMAIN, encode(vmi_with(status))) == EXPECTED
    else:  # no VMI: it may be refused, and is no target's
        with suppress(InputError):
            assert hook().define(DOMAIN, encode(vmi_with(status))) == EXPECTED


@given(JSON)
def test_any_manifest_is_looked_at(manifest: Any) -> None:
    is_migration_target(manifest if isinstance(manifest, dict) else {"metadata": manifest})
