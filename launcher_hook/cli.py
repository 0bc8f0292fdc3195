"""The command line. Exit status: 0 done, 2 bad input, 3 node or plan, 4 faults found or ours."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from launcher_hook import __version__
from launcher_hook.env import (
    merge_environments,
    parse_allocations,
    parse_assignment,
    parse_env_file,
)
from launcher_hook.errors import HookError, InputError
from launcher_hook.files import read_file, write_file
from launcher_hook.model import Settings
from launcher_hook.sysfs import HostTree
from launcher_hook.vmi import CONFIG_ANNOTATION, MAX_VMI_BYTES, Vmi, parse_vmi

if TYPE_CHECKING:
    from launcher_hook.render import Inputs

MAX_ENV_BYTES = 1024 * 1024

_INPUTS_HELP = """\
The devices come from PCI_RESOURCE_* and MDEV_PCI_RESOURCE_* variables: the process's own, then
those of --env-file, then those of --env; a later one replaces an earlier one of the same name.
Without any, the hostdevs that stand in the domain are the devices.

The configuration comes from --config, then the VMI's annotation
passthrough.launcher-hook.io/config, then --set. Its keys:
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give its exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=(logging.WARNING, logging.INFO, logging.DEBUG)[min(arguments.verbose, 2)],
        format="%(levelname)s %(message)s",
        force=True,
    )
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        status = command(arguments)
        sys.stdout.flush()
    except HookError as error:
        print(f"launcher-hook: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_status
    except BrokenPipeError:
        # The reader has gone, e.g. `| head`; the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


class _Parser(argparse.ArgumentParser):
    """Makes its last words when they are asked for: they need the configuration's model."""

    last_words: Callable[[], str] = str

    def format_help(self) -> str:
        self.epilog = self.epilog or self.last_words()
        return super().format_help()


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _parser() -> _Parser:
    parser = _Parser(
        prog="launcher-hook",
        description="Give KubeVirt VMs their passed-through PCI devices, where you want them.",
        epilog="exit status: 0 done; 2 bad input; 3 the node or the guest does not allow it; "
        "4 faults were found (validate), or what we wrote is not valid",
    )
    parser.add_argument("--version", action="version", version=f"launcher-hook {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_render(commands)
    _add_plan(commands)
    _add_validate(commands)
    return parser


def _add_command(
    commands: _Commands,
    name: str,
    help_text: str,
    last_words: Callable[[], str],
    command: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say on stderr what is decided and why; twice for debugging",
    )
    parser.set_defaults(command=command)
    parser.last_words = last_words
    return parser


def _add_render(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "render",
        "give a domain its passed-through devices, as the hook would, and print it",
        lambda: _inputs_epilog(
            "launcher-hook render --domain vm.xml --vmi vmi.yaml --diff \\\n"
            "    --env PCI_RESOURCE_NVIDIA_COM_GH100=0000:86:00.0,0000:af:00.0"
        ),
        _render,
    )
    _add_inputs(parser)
    parser.add_argument(
        "-o", dest="output", metavar="OUT", help="write the XML here, whole or not at all"
    )
    parser.add_argument(
        "--diff", action="store_true", help="print a unified diff of what changed, not the XML"
    )
    _add_schema_version(parser)


def _add_plan(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "plan",
        "show where each device would go in the guest, and why; change nothing",
        lambda: _inputs_epilog("launcher-hook plan --domain vm.xml --sysfs /sys --output tree"),
        _plan,
    )
    _add_inputs(parser)
    parser.add_argument(
        "--output",
        choices=("table", "tree", "json"),
        default="table",
        help="a line a device, the guest's PCI tree, or JSON (default: table)",
    )
    parser.add_argument(
        "--pci-ids", type=Path, metavar="FILE", help="device names (default: the system's pci.ids)"
    )


def _add_validate(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "validate",
        "check domain XML and name each fault, what is wrong and what to do",
        lambda: (
            "Checks libvirt's RELAX NG schema and the rules about PCI addresses, aliases and\n"
            "sources that a schema cannot say. Exit status 0: clean; 4: faults.\n"
            "A domain that virt-launcher wrote has faults of the launcher's that libvirt overlooks."
        ),
        _validate,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="domain XML; - is stdin")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="check the passed-through devices against passthrough.xsd too, which says what the "
        "hook may write",
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="(default: text)"
    )
    _add_schema_version(parser)


def _inputs_epilog(example: str) -> str:
    from launcher_hook.config import describe_keys

    width = 66
    lines = []
    for key, default, meaning in describe_keys():
        text = f"{meaning} Default: {default}."
        lines.extend(_wrap(f"  {key}", text, width))
    return _INPUTS_HELP + "\n".join(lines) + f"\n\nexample:\n  {example}"


def _wrap(head: str, text: str, width: int) -> list[str]:
    from textwrap import wrap

    body = wrap(text, width)
    return [f"{head:<14}{body[0]}", *(f"{'':14}{line}" for line in body[1:])]


def _add_schema_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schema-version",
        metavar="V",
        help="libvirt's schemas to check against, e.g. 9.0.0 (default: the newest there is)",
    )


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--domain", required=True, metavar="FILE", help="the domain XML; - is stdin"
    )
    parser.add_argument(
        "--vmi", metavar="FILE", help="the VMI or VirtualMachine, JSON or YAML; - is stdin"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the compute container; may be repeated",
    )
    parser.add_argument(
        "--env-file", metavar="FILE", help="variables, NAME=VALUE a line, as 'env' prints them"
    )
    parser.add_argument(
        "--sysfs",
        type=Path,
        metavar="ROOT",
        help="the node's /sys, or a copy; without it nothing is known of the node",
    )
    parser.add_argument("--config", metavar="FILE", help="the configuration, YAML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one configuration key, e.g. layout=root-bus or slots.gpu0=0000:00:08.0",
    )


# The commands. What only one of them needs is imported in it: `--help` stays quick.


def _render(arguments: argparse.Namespace) -> int:
    from launcher_hook.domain.document import diff_domains
    from launcher_hook.render import render_domain
    from launcher_hook.schema import load_schemas

    inputs = _read_inputs(arguments)
    schemas = load_schemas(arguments.schema_version)
    rendered = render_domain(inputs, schemas, explain=arguments.verbose > 0)
    log = logging.getLogger(__name__)
    log.info("what we wrote is valid, checked against %s", schemas.name)
    for warning in rendered.warnings:
        log.info("was there before: %s", warning)
    if arguments.output is not None:
        write_file(Path(arguments.output), rendered.xml)
    if arguments.diff:
        _print(diff_domains(inputs.domain_xml, rendered.xml))
    elif arguments.output is None:
        sys.stdout.buffer.write(rendered.xml)
        sys.stdout.buffer.flush()
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from launcher_hook import report
    from launcher_hook.pciids import load_names
    from launcher_hook.render import plan_domain

    printers = {"table": report.print_table, "tree": report.print_tree, "json": report.print_json}
    decision = plan_domain(_read_inputs(arguments))
    _print(printers[arguments.output](decision, load_names(arguments.pci_ids)))
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from launcher_hook.schema import load_schemas
    from launcher_hook.validate import print_verdicts, validate_domain

    schemas = load_schemas(arguments.schema_version)
    verdicts = [
        validate_domain(_read_domain(name), _where(name), schemas, explain=arguments.explain)
        for name in arguments.files
    ]
    _print(print_verdicts(verdicts, schemas.name, arguments.output))
    return 4 if any(verdict.faults for verdict in verdicts) else 0


def _print(text: str) -> None:
    sys.stdout.write(text)


def _where(name: str) -> str:
    return "stdin" if name == "-" else name


def _read_domain(name: str) -> bytes:
    from launcher_hook.domain.document import MAX_DOMAIN_BYTES

    return read_file(name, MAX_DOMAIN_BYTES)


def _read_inputs(arguments: argparse.Namespace) -> "Inputs":
    from launcher_hook.render import Inputs

    if arguments.domain == "-" and arguments.vmi == "-":
        raise InputError("--vmi -", "stdin is the domain already", "give one of the two as a file")
    vmi = Vmi()
    if arguments.vmi is not None:
        vmi = parse_vmi(read_file(arguments.vmi, MAX_VMI_BYTES), _where(arguments.vmi))
    if arguments.sysfs is not None and not HostTree(arguments.sysfs).known:
        raise InputError(
            f"--sysfs {arguments.sysfs}",
            "there is no bus/pci/devices below it",
            "give a node's /sys or a copy of it, or leave the option out",
        )
    return Inputs(
        domain_xml=_read_domain(arguments.domain),
        where=_where(arguments.domain),
        vmi=vmi,
        allocations=parse_allocations(_read_environment(arguments)),
        host=HostTree(arguments.sysfs),
        settings=_read_settings(arguments, vmi),
    )


def _read_environment(arguments: argparse.Namespace) -> Mapping[str, str]:
    layers: list[Mapping[str, str]] = [os.environ]
    if arguments.env_file is not None:
        text = read_file(arguments.env_file, MAX_ENV_BYTES).decode("utf-8", "replace")
        layers.append(parse_env_file(text.splitlines(), arguments.env_file))
    layers.append(dict(parse_assignment(text, f"--env {text}") for text in arguments.env))
    return merge_environments(layers)


def _read_settings(arguments: argparse.Namespace, vmi: Vmi) -> Settings:
    from launcher_hook.config import MAX_CONFIG_BYTES, read_settings

    file = None
    if arguments.config is not None:
        file = (arguments.config, read_file(arguments.config, MAX_CONFIG_BYTES))
    annotation = None
    if vmi.config is not None:
        annotation = (f"annotation {CONFIG_ANNOTATION}", vmi.config)
    return read_settings(file, annotation, arguments.set)
