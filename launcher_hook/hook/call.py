"""One call: what the launcher sent in, the domain that it gets out."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher_hook.config import read_settings
from launcher_hook.env import merge_environments, parse_allocations
from launcher_hook.errors import HookError, InputError
from launcher_hook.migration import find_migration_target
from launcher_hook.render import Inputs, has_passed_devices, render_domain
from launcher_hook.schema import SchemaSet
from launcher_hook.snapshot import open_host
from launcher_hook.vmi import Vmi, find_excess, parse_vmi

log = logging.getLogger("launcher-hook")

MOST_REPLY_BYTES = 4 * 1024 * 1024 - 16
"""gRPC's default for what a client takes, to which the launcher keeps, less the message's frame."""

MIGRATION_TARGET = "MigrationTarget"
"""The plugin API's invocation context of a launcher that is to receive a running VM."""


@dataclass(frozen=True, slots=True)
class HookOptions:
    """What the container's command line says.

    Attributes:
        config: Name and content of the configuration file.
        assignments: ``--set``.
        variables: ``--env``, laid over the environment of each call.
        sysfs: The node's ``/sys``, or a snapshot.
        rom_directories: Where ROM files may be.
        pass_through: Give the input back where we refuse, instead of an error.
    """

    config: tuple[str, bytes] | None = None
    assignments: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    sysfs: Path = Path("/sys")
    rom_directories: Sequence[str] = ()
    pass_through: bool = False


class DomainHook:
    """Answers OnDefineDomain and MutateDomain; may be called from several threads.

    Nothing is kept from one call to the next but their number: environment and ``/sys`` are read
    anew, so that a later pass sees what is so then.
    """

    def __init__(
        self,
        options: HookOptions,
        schemas: SchemaSet,
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
    ) -> None:
        self._options = options
        self._schemas = schemas
        self._environ = environ
        self._vmi, self._passes = "", 0
        # The worst domain takes a third of the container's memory, and it has a fifth of a core.
        self._one_at_a_time = threading.Lock()

    def define(self, domain_xml: bytes, vmi_json: bytes, context: str = "") -> bytes:
        """Give the domain its devices; on a migration's target give it back as it is.

        Args:
            domain_xml: What libvirt would be given without us.
            vmi_json: The VMI; empty in tests by hand.
            context: The plugin API's invocation context, "" where the protocol has none.

        Raises:
            HookError: In one of its branches; its message is all that a VM's owner gets to see.
        """
        start = time.monotonic()
        vmi = Vmi()
        try:
            with self._one_at_a_time:
                # First of all: no fault in a configuration, a VMI or a domain may keep a running VM
                # from leaving its node.
                vmi, is_target = _read_vmi(vmi_json, context)
                maybe = not context and vmi.migrating
                if is_target or (maybe and not has_passed_devices(domain_xml)):
                    log.info("migration target, nothing to do", extra=_of(vmi, start))
                    return domain_xml
                return self._define(domain_xml, vmi, start)
        except Exception as error:
            defect = not isinstance(error, HookError)  # of ours: with where it happened
            if self._options.pass_through:
                what = "passed through unchanged: %s"
                log.error(what, error, extra=_of(vmi, start), exc_info=defect)
                return domain_xml
            if not defect:  # whoever serves logs a defect
                log.error("%s", error, extra=_of(vmi, start))
            raise

    def _define(self, domain_xml: bytes, vmi: Vmi, start: float) -> bytes:
        inputs = self._inputs(domain_xml, vmi)
        rendered = render_domain(inputs, self._schemas)
        if len(rendered.xml) > MOST_REPLY_BYTES:
            raise InputError(
                inputs.where,
                f"it has {len(rendered.xml)} bytes with its devices, and the launcher takes "
                f"{MOST_REPLY_BYTES}",
                "see what fills it; a domain has some thousands",
            )
        devices = [
            f"{p.assignment.alias}={p.assignment.source}@{p.guest_address}"
            for p in rendered.decision.plan.placements
        ]
        more = {"pass": self._pass_of(vmi), "devices": devices}
        log.info("domain defined", extra={**_of(vmi, start), **more})
        return rendered.xml

    def _inputs(self, domain_xml: bytes, vmi: Vmi) -> Inputs:
        options = self._options
        return Inputs(
            domain_xml=domain_xml,
            vmi=vmi,
            allocations=parse_allocations(merge_environments((self._environ(), options.variables))),
            host=open_host(options.sysfs),
            settings=read_settings(options.config, vmi.config_source, options.assignments),
            rom_directories=options.rom_directories,
        )

    def _pass_of(self, vmi: Vmi) -> int:
        """Number the calls for one VMI, the only one that a sidecar ever sees."""
        key = vmi.uid or f"{vmi.namespace}/{vmi.name}"
        self._vmi, self._passes = key, self._passes + 1 if key == self._vmi else 1
        return self._passes


def _read_vmi(vmi_json: bytes, context: str) -> tuple[Vmi, bool]:
    """Give the VMI, and whether the call is a migration target's: by the context, else by the VMI.

    Raises:
        InputError: The VMI cannot be read, and nothing shows that the call is a target's.
    """
    is_target = context == MIGRATION_TARGET
    try:
        vmi = parse_vmi(vmi_json, "VMI", only_json=True) if vmi_json.strip() else Vmi()
    except Exception:
        if not context:
            is_target = find_migration_target(vmi_json, parse_whole=find_excess(vmi_json) is None)
        if is_target:
            return Vmi(), True
        raise
    return vmi, is_target or (not context and vmi.migration_target)


def _of(vmi: Vmi, start: float) -> dict[str, object]:
    return {
        "namespace": vmi.namespace,
        "name_": vmi.name,
        "uid": vmi.uid,
        "duration_ms": round((time.monotonic() - start) * 1000, 2),
    }
