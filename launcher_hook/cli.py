"""The command line.

Exit status: 0 done, 1 doctor found an error, 2 bad input, 3 node or plan, 4 faults found or ours.
"""

import argparse
import gc
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launcher_hook.arguments import HOOKS_DIRECTORY, complain, make_parser
from launcher_hook.env import (
    merge_environments,
    parse_allocations,
    parse_assignment,
    parse_env_file,
)
from launcher_hook.errors import HookError, InputError
from launcher_hook.files import check_stdin, read_file, write_file
from launcher_hook.lifecycle import end_on_signals, leave
from launcher_hook.settings import Settings
from launcher_hook.snapshot import check_known, open_host
from launcher_hook.vmi import MAX_VMI_BYTES, Vmi, parse_vmi

if TYPE_CHECKING:
    from launcher_hook.deviceplugin.scan import Node
    from launcher_hook.pciids import PciNames
    from launcher_hook.render import Decision, Inputs

MAX_ENV_BYTES = 1024 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=(logging.WARNING, logging.INFO, logging.DEBUG)[min(arguments.verbose, 2)],
        format="%(levelname)s %(message)s",
        force=True,
    )
    try:
        return _COMMANDS[arguments.command](arguments)
    except HookError as error:
        complain(str(error))
        return error.exit_status
    except BrokenPipeError:
        # The reader has gone, e.g. `| head`; the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


# What only one command needs is imported in it: `--help` stays quick, and the server lean.


def _render(arguments: argparse.Namespace) -> int:
    from launcher_hook.domain.document import diff_domains
    from launcher_hook.render import render_domain
    from launcher_hook.schema import load_schemas

    inputs = _read_inputs(arguments)
    schemas = load_schemas(arguments.schema_version)
    rendered = render_domain(inputs, schemas, explain=arguments.verbose > 0)
    log = logging.getLogger(__name__)
    level = logging.INFO if schemas.is_libvirts else logging.WARNING
    log.log(level, "what we wrote is valid, checked against %s", schemas.name)
    for warning in rendered.warnings:
        log.info("was there before: %s", warning)
    _say_what_is_kept(rendered.decision)
    if arguments.check_with is not None:
        from launcher_hook.libvirt_check import LibvirtCheck

        libvirt = LibvirtCheck(arguments.check_with)
        libvirt.check_rendered(inputs.domain_xml, rendered.xml)
        log.info("%s takes it", libvirt.name)
    if arguments.output == "-":
        arguments.output = None
    if arguments.output is not None:
        write_file(Path(arguments.output), rendered.xml)
    if arguments.diff:
        _print(diff_domains(inputs.domain_xml, rendered.xml))
    elif arguments.output is None:
        _print(rendered.xml)
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from launcher_hook.pciids import MAX_PCI_IDS_BYTES, load_names
    from launcher_hook.render import plan_domain
    from launcher_hook.report.forms import print_plan

    if arguments.pci_ids is not None:
        read_file(arguments.pci_ids, MAX_PCI_IDS_BYTES)  # one that is named must be there
    decision = plan_domain(_read_inputs(arguments))
    _say_what_is_kept(decision)
    _print(print_plan(arguments.output, decision, load_names(arguments.pci_ids)))
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from launcher_hook.schema import load_schemas, named_faults
    from launcher_hook.validate import Verdict, print_verdicts, validate_domain

    schemas = load_schemas(arguments.schema_version)
    libvirt = None
    if arguments.libvirt is not None:
        from launcher_hook.libvirt_check import LibvirtCheck

        libvirt = LibvirtCheck(arguments.libvirt)
    verdicts = []
    for name in arguments.files:
        try:
            data = _read_domain(name)
        except InputError as error:  # the others are still checked
            complain(str(error))
            continue
        verdict = validate_domain(data, _where(name), schemas, explain=arguments.explain)
        if libvirt is not None and verdict.is_domain:
            # Its own schema only where ours has nothing to say: that one names the place.
            more = libvirt.fault(data, validate=not verdict.faults)
            ours = verdict.faults if more else named_faults(verdict.faults)
            verdict = Verdict(verdict.where, (*ours, *more))
        verdicts.append(verdict)
    checkers = schemas.name if libvirt is None else f"{schemas.name}, and in {libvirt.name}"
    _print(print_verdicts(verdicts, checkers, arguments.output))
    if len(verdicts) < len(arguments.files):
        return InputError.exit_status
    return 4 if any(verdict.faults for verdict in verdicts) else 0


def _serve(arguments: argparse.Namespace) -> int:
    ended = end_on_signals()
    # What is loaded now stays: looking for garbage in it would be a tenth of the start.
    gc.disable()
    from launcher_hook.hook.call import HookOptions
    from launcher_hook.hook.serve import serve_hook

    _log_events(arguments.log_format, arguments.verbose)
    options = HookOptions(
        config=_read_config(arguments),
        assignments=arguments.set,
        variables=dict(parse_assignment(text, f"--env {text}") for text in arguments.env),
        rom_directories=_read_rom_directories(arguments),
        sysfs=arguments.sysfs,
        pass_through=arguments.on_error == "passthrough",
    )
    socket_dir = arguments.socket_dir
    if socket_dir is None and arguments.plugin_socket is None:
        socket_dir = HOOKS_DIRECTORY
    versions = arguments.versions.split(",")
    serve_hook(socket_dir, versions, options, ended, arguments.plugin_socket)
    leave(0)


def _device_plugin(arguments: argparse.Namespace) -> int:
    ended = end_on_signals()
    gc.disable()  # as for serve
    from launcher_hook.deviceplugin.lifecycle import serve_device_plugin

    _log_events(arguments.log_format, arguments.verbose)
    node, _ = _open_node(arguments)
    gc.freeze()
    gc.enable()
    serve_device_plugin(node, arguments.kubelet_dir, arguments.rescan, ended, arguments.metrics)
    leave(0)


def _discover(arguments: argparse.Namespace) -> int:
    from launcher_hook.deviceplugin import report
    from launcher_hook.snapshot import print_snapshot

    node, names = _open_node(arguments)
    check_known(node.host, arguments.sysfs)
    if arguments.snapshot is not None:
        write_file(arguments.snapshot, print_snapshot(node.host, node.nodes))
    printers = {"table": report.print_table, "json": report.print_json}
    inventory = node.take_inventory(every=True)
    _print(printers[arguments.output](inventory, names, node.nodes.all() is not None))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from launcher_hook.doctor import report
    from launcher_hook.doctor.examine import examine
    from launcher_hook.doctor.gather import Sources, gather

    if not arguments.verbose:  # what render says on the way is a finding here
        logging.getLogger("launcher_hook").setLevel(logging.ERROR)
    findings = examine(
        gather(
            Sources(
                node=arguments.node,
                sysfs=arguments.sysfs,
                proc=arguments.proc,
                dev=arguments.dev,
                pci_ids=arguments.pci_ids,
                plugin_config=arguments.plugin_config,
                vendors=arguments.vendor,
                classes=arguments.classes,
                kubevirt_cr=arguments.kubevirt_cr,
                node_object=arguments.node_object,
                plugin_object=arguments.plugin_object,
                vmi=arguments.vmi,
                pod=arguments.pod,
                domain=arguments.domain,
                environment=_read_environment(arguments),
                env=arguments.env,
                config=_read_config(arguments),
                set=arguments.set,
                rom_directories=_read_rom_directories(arguments),
                schema_version=arguments.schema_version,
                device=arguments.device,
                dra_metadata=arguments.dra_metadata,
                resource_claims=arguments.resource_claims,
                resource_slices=arguments.resource_slices,
            )
        )
    )
    printers = {"table": report.print_table, "json": report.print_json}
    _print(printers[arguments.output](findings))
    return 1 if report.has_errors(findings) else 0


def _config_schema(arguments: argparse.Namespace) -> int:
    import json

    from launcher_hook.configschema import DIALECT, describe_configuration

    if arguments.device_plugin:
        from launcher_hook.deviceplugin.configfile import describe_file

        schema = {"$schema": DIALECT, **describe_file()}
    else:
        schema = describe_configuration()
    _print(json.dumps(schema, indent=2) + "\n")
    return 0


def _open_node(arguments: argparse.Namespace) -> "tuple[Node, PciNames]":
    from launcher_hook.deviceplugin.setup import make_selection, open_names, open_node

    names = open_names(arguments.pci_ids)
    selection = make_selection(
        arguments.config, arguments.vendor, arguments.classes, arguments.ids_per_group
    )
    return open_node(arguments.sysfs, arguments.dev, selection, names), names


def _log_events(form: str, verbose: int) -> None:
    """A server tells its events by default; lines on stderr."""
    from launcher_hook.eventlog import JsonLines, TextLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("launcher_hook").setLevel(logging.DEBUG if verbose else logging.WARNING)


def _print(result: str | bytes) -> None:
    """Put a result on stdout, whole; bytes as they are."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        raise InputError("stdout", "it is closed", "open it, or give -o")
    try:
        if isinstance(result, str):
            sys.stdout.write(result)
        else:
            sys.stdout.buffer.write(result)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            "stdout", f"it cannot be written: {error.strerror}", "see whether the disk is full"
        ) from None


def _where(name: str) -> str:
    return "stdin" if name == "-" else name


def _read_domain(name: str) -> bytes:
    from launcher_hook.domain.document import MAX_DOMAIN_BYTES

    return read_file(name, MAX_DOMAIN_BYTES)


def _read_inputs(arguments: argparse.Namespace) -> "Inputs":
    from launcher_hook.claims.sources import read_devices
    from launcher_hook.render import Inputs

    check_stdin(
        {
            "--domain": arguments.domain,
            "--vmi": arguments.vmi,
            "--config": arguments.config,
            "--env-file": arguments.env_file,
        }
    )
    vmi = Vmi()
    if arguments.vmi is not None:
        vmi = parse_vmi(read_file(arguments.vmi, MAX_VMI_BYTES), _where(arguments.vmi))
    host = open_host(arguments.sysfs)
    if arguments.sysfs is not None:
        check_known(host, arguments.sysfs)
    where = _where(arguments.domain)
    domain_xml = _read_domain(arguments.domain)
    _say_whose_it_is(domain_xml, where, vmi)
    if arguments.fresh:
        from launcher_hook.domain.forget import forget_places

        domain_xml = forget_places(domain_xml, where, vmi.placed)
    return Inputs(
        domain_xml=domain_xml,
        where=where,
        vmi=vmi,
        allocations=parse_allocations(_read_environment(arguments)),
        host=host,
        settings=_read_settings(arguments, vmi),
        rom_directories=_read_rom_directories(arguments),
        devices=read_devices(
            arguments.device, arguments.dra_metadata, vmi.requests, vmi.claims, vmi.reported
        ),
    )


def _say_whose_it_is(domain_xml: bytes, where: str, vmi: Vmi) -> None:
    """A domain and a VMI that a user has put together may be of two VMs."""
    from launcher_hook.domain.document import parse_domain

    name = parse_domain(domain_xml, where).getroot().findtext("name")
    # kubevirt pkg/virt-launcher/virtwrap/api: VMINamespaceKeyFunc
    wanted = f"{vmi.namespace}_{vmi.name}"
    if name and vmi.namespace and vmi.name and name != wanted:
        logging.getLogger(__name__).warning(
            "%s is the domain %r, and that of the VMI is %r: see that both are of one VM",
            where,
            name,
            wanted,
        )


def _say_what_is_kept(decision: "Decision") -> None:
    """What a user of a running VM's domain must know: no layout moves a device in it."""
    placements = decision.plan.placements
    present = [p.assignment.present for p in placements if p.assignment.present is not None]
    kept = [hostdev for hostdev in present if hostdev.guest_address is not None]
    if kept:
        logging.getLogger(__name__).warning(
            "%d of %d devices keep the guest address that they have in this domain; "
            "--fresh plans them as the VM's next start will",
            len(kept),
            len(placements),
        )


def _read_environment(arguments: argparse.Namespace) -> Mapping[str, str]:
    layers: list[Mapping[str, str]] = [os.environ]
    if arguments.env_file is not None:
        text = read_file(arguments.env_file, MAX_ENV_BYTES).decode("utf-8", "replace")
        lines = text.replace("\0", "\n").splitlines()  # /proc/PID/environ has NULs
        layers.append(parse_env_file(lines, arguments.env_file))
    layers.append(dict(parse_assignment(text, f"--env {text}") for text in arguments.env))
    return merge_environments(layers)


def _read_settings(arguments: argparse.Namespace, vmi: Vmi) -> Settings:
    from launcher_hook.config import read_settings

    return read_settings(_read_config(arguments), vmi.config_source, arguments.set)


def _read_rom_directories(arguments: argparse.Namespace) -> tuple[str, ...]:
    from launcher_hook.rompath import check_directories

    return check_directories(arguments.rom_dir)


def _read_config(arguments: argparse.Namespace) -> tuple[str, bytes] | None:
    from launcher_hook.config import MAX_CONFIG_BYTES

    if arguments.config is None:
        return None
    return (arguments.config, read_file(arguments.config, MAX_CONFIG_BYTES))


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "render": _render,
    "plan": _plan,
    "validate": _validate,
    "serve": _serve,
    "device-plugin": _device_plugin,
    "discover": _discover,
    "doctor": _doctor,
    "config-schema": _config_schema,
}
