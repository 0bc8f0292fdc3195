"""Tells from a VMI whether its launcher prepares to receive the running VM. Pure.

A hook is called on the target of a live migration to prepare the target's pod, and for nothing
else. The launcher drops the answer, and an error ends the migration (kubevirt
pkg/virt-launcher/virtwrap/live-migration-target.go: prepareMigrationTarget). A hook sidecar sees
the VMI only; source, target and an ordinary start see the same VMI at different times. So the VMI
must show that no ordinary start can be what happens: a VM that starts gets its devices.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

# pkg/virt-handler/controller.go, isMigrationInProgress: with it, and until the migration completes,
# virt-handler starts no VM. KubeVirt 1.6 and newer set it for a migration between clusters.
_RECEIVING_ANNOTATION = "kubevirt.io/create-migration-target"

# A VM migrates when it runs, and SyncVMI (manager.go) starts QEMU for no VMI in phase Running. In
# these phases a VMI starts that was created with an old status, say from a backup.
_PHASES_BEFORE_RUNNING = ("Pending", "Scheduling", "Scheduled")

_MAX_STATE_CHARACTERS = 64 * 1024
"""Of a migrationState in a VMI that is too large to be parsed whole; a real one has about 2,000."""

# A quote within a JSON string has a backslash before it, so that this matches keys only.
_STATE_KEY = re.compile(r'(?<!\\)"migrationState"\s*:\s*(?=\{)')


def is_migration_target(manifest: Mapping[str, Any]) -> bool:
    """Say whether a launcher that sends this VMI prepares to receive the VM.

    Fields of a wrong type count as absent: no fault in a VMI is an error here.
    """
    status = _mapping(manifest.get("status"))
    state = _mapping(status.get("migrationState"))
    if state.get("completed"):
        return False
    annotations = _mapping(_mapping(manifest.get("metadata")).get("annotations"))
    if state and annotations.get(_RECEIVING_ANNOTATION) == "true":
        return True
    if status.get("phase") in _PHASES_BEFORE_RUNNING:
        return False
    return _is_being_prepared(state)


def is_migrating(manifest: Mapping[str, Any]) -> bool:
    """Say whether a running VM's migration is under way, as far as its VMI tells.

    A launcher whose domain has none of the VMI's devices then is a target's: an ordinary start
    has them all (manager.go: generateConverterContext).
    """
    status = _mapping(manifest.get("status"))
    state = _mapping(status.get("migrationState"))
    ended = state.get("completed") or state.get("failed")
    return bool(state) and not ended and status.get("phase") not in _PHASES_BEFORE_RUNNING


def find_migration_target(vmi_json: bytes, *, parse_whole: bool = True) -> bool:
    """Say the same of a VMI that the hook cannot read, as far as its text tells.

    Args:
        vmi_json: As the launcher sent it; it may be anything.
        parse_whole: Whether it is small enough for that.
    """
    text = vmi_json.decode("utf-8-sig", "replace")
    if parse_whole:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            pass  # a part of it may be legible
        else:
            return isinstance(document, dict) and is_migration_target(document)
    state = _find_last_state(text)
    return not state.get("completed") and _is_being_prepared(state)


def _is_being_prepared(state: Mapping[str, Any]) -> bool:
    """Say whether a migration has its target and has not begun.

    virt-controller names the target when it hands the target's pod over (migration.go:
    handleTargetPodHandoff). Once the migration has begun virt-handler prepares nothing more
    (migration-target.go: processVMI), and a VMI keeps the state of its last migration.
    """
    if state.get("failed") or state.get("startTimestamp"):
        return False
    return bool(state.get("targetNode") or state.get("targetPod"))


def _find_last_state(text: str) -> Mapping[str, Any]:
    """Parse the last migrationState alone: a launcher writes the VMI's status at the end."""
    end = -1
    for match in _STATE_KEY.finditer(text):
        end = match.end()
    if end < 0:
        return {}
    try:
        state, _ = json.JSONDecoder().raw_decode(text[end : end + _MAX_STATE_CHARACTERS])
    except (ValueError, RecursionError):
        return {}
    return _mapping(state)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
