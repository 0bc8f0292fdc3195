"""The command line's words: commands, options, help. What they do is in ``cli``."""

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from launcher_hook import __version__
from launcher_hook.doctorarguments import DOCTOR, DOCTOR_HELP, add_doctor
from launcher_hook.errors import InputError, one_line
from launcher_hook.nodearguments import (
    DEVICE_PLUGIN,
    DISCOVER,
    SELECTION_HELP,
    SERVING_HELP,
    add_device_plugin,
    add_discover,
    add_pci_ids,
    add_sysfs,
)

HOOKS_DIRECTORY = Path("/var/run/kubevirt-hooks")
"""Where virt-launcher mounts a hook sidecar's directory."""

_INPUTS_HELP = """\
The devices come from PCI_RESOURCE_* and MDEV_PCI_RESOURCE_* variables: the
process's own, then those of --env-file, then those of --env; a later one
replaces an earlier one of the same name. Without any, the hostdevs that stand
in the domain are the devices. The device of a resource claim (DRA) is in no
variable: where the domain does not have it, --device or --dra-metadata say
it. What the domain has counts.

The configuration comes from --config, then the VMI's annotation
passthrough.launcher-hook.io/config, then --set. Its keys:
"""


def complain(message: str) -> None:
    """Print one line on stderr."""
    print(f"launcher-hook: {one_line(message)}", file=sys.stderr)  # noqa: T201


class _Parser(argparse.ArgumentParser):
    """Makes its last words when they are asked for: they need the configuration's model.

    Attributes:
        fill: Adds its options when they are asked for: doctor's are 5 ms of a server's start.
        commands: Those that it has.
        given: The words that it was asked to parse.
    """

    last_words: Callable[[], str] = str
    fill: Callable[["_Parser"], None] | None = None
    commands: Collection[str] = ()
    given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override] # a subparser is only called like this
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, with the options there."""
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        self.given = sys.argv[1:] if args is None else args
        parsed, left = super().parse_known_args(args, namespace)
        if left:  # here, where it is known which command they were for
            self.error(f"{' '.join(map(repr, left))} cannot be taken")
        return parsed, left

    def error(self, message: str) -> NoReturn:
        from launcher_hook.usage import explain_usage

        said = explain_usage(message, self.given, self._option_string_actions, self.commands)
        place = "".join(f"{command}: " for command in self.prog.split()[1:])
        complain(f"{place}{said}; see '{self.prog} --help'")
        sys.exit(InputError.exit_status)

    def format_help(self) -> str:
        self.epilog = self.epilog or self.last_words()
        return super().format_help()


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser; the chosen command's name comes out as ``command``."""
    parser = _Parser(
        prog="launcher-hook",
        description="Give KubeVirt VMs their passed-through PCI devices, where you want them.",
        epilog="exit status: 0 done; 1 an error was found (doctor); 2 bad input; 3 the node or the "
        "guest does not allow it; 4 faults were found (validate), or what we wrote is not valid",
    )
    parser.add_argument("--version", action="version", version=f"launcher-hook {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    parser.commands = commands.choices
    _add_render(commands)
    _add_plan(commands)
    _add_validate(commands)
    _add_serve(commands)
    add_device_plugin(_add_command(commands, "device-plugin", DEVICE_PLUGIN, lambda: SERVING_HELP))
    add_discover(_add_command(commands, "discover", DISCOVER, lambda: SELECTION_HELP))
    _add_doctor(commands)
    _add_config_schema(commands)
    return parser


def _add_command(
    commands: _Commands,
    name: str,
    help_text: str,
    last_words: Callable[[], str],
) -> _Parser:
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
        help="say on stderr what is decided and why",
    )
    parser.set_defaults(command=name)
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
    )
    _add_inputs(parser)
    parser.add_argument(
        "-o", dest="output", metavar="OUT", help="write the XML here, whole or not at all"
    )
    parser.add_argument(
        "--check-with",
        metavar="URI",
        help="also have a libvirt define the result and forget it, e.g. qemu:///system; needs "
        "libvirt-python",
    )
    parser.add_argument(
        "--diff",
        action="store_true",
        help="print a unified diff of what changed, not the XML; for reading, not for patch",
    )
    _add_schema_version(parser)


def _add_plan(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "plan",
        "show where each device would go in the guest, and why; change nothing",
        lambda: _inputs_epilog("launcher-hook plan --domain vm.xml --sysfs /sys --output tree"),
    )
    _add_inputs(parser)
    parser.add_argument(
        "--output",
        choices=("table", "tree", "json", "svg", "dot"),
        default="table",
        help="table: a line a device, more on a narrow terminal; tree: the node's PCI tree and the "
        "guest's, beside each other where COLUMNS allows; json: everything, with the distance of "
        "every two devices; svg: both trees and the distances as a picture; dot: both trees for "
        "Graphviz (default: table)",
    )
    add_pci_ids(parser)


def _add_validate(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "validate",
        "check domain XML and name each fault, what is wrong and what to do",
        lambda: (
            "Checks libvirt's RELAX NG schema and the rules about PCI addresses, aliases\n"
            "and sources that a schema cannot say. Exit status 0: clean; 4: faults; 2: a\n"
            "file cannot be read. A domain that virt-launcher wrote has faults of the\n"
            "launcher's that libvirt overlooks."
        ),
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="domain XML; - is stdin")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="check the passed-through devices against passthrough.xsd too, which says what the "
        "hook may write",
    )
    parser.add_argument(
        "--libvirt",
        metavar="URI",
        help="also have a libvirt define each and forget it, e.g. qemu:///system; needs "
        "libvirt-python",
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="(default: text)"
    )
    _add_schema_version(parser)


def _add_serve(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "serve",
        "be the hook sidecar: answer virt-launcher on a unix socket",
        lambda: (
            "The socket is named after CONTAINER_NAME. It is there when the server can\n"
            "answer, and goes when the launcher says Shutdown or on SIGTERM. Environment\n"
            "and /sys are read anew on each call."
        ),
    )
    parser.add_argument(
        "--socket-dir",
        type=Path,
        metavar="DIR",
        help=f"where the launcher looks for it (default: {HOOKS_DIRECTORY}; with --plugin-socket: "
        "no hook socket)",
    )
    parser.add_argument(
        "--versions",
        default="v1alpha1,v1alpha2,v1alpha3",
        metavar="V,...",
        help="protocol versions to offer (default: v1alpha1,v1alpha2,v1alpha3)",
    )
    parser.add_argument(
        "--plugin-socket",
        type=Path,
        metavar="SOCKET",
        help="serve KubeVirt 1.9's plugin API here",
    )
    _add_configuration(parser)
    add_sysfs(parser)
    parser.add_argument(
        "--on-error",
        choices=("fail", "passthrough"),
        default="fail",
        help="what a refusal is: an error, which the VM does not start with, or the domain as it "
        "came (default: fail)",
    )
    parser.add_argument(
        "--log-format", choices=("json", "text"), default="json", help="(default: json)"
    )


def _add_doctor(commands: _Commands) -> None:
    parser = _add_command(commands, "doctor", DOCTOR, lambda: DOCTOR_HELP)
    parser.fill = _fill_doctor


def _fill_doctor(parser: argparse.ArgumentParser) -> None:
    add_doctor(parser)
    _add_devices(parser)
    _add_configuration(parser)
    _add_schema_version(parser)


def _add_config_schema(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "config-schema",
        "print the JSON Schema of the configuration, for an editor",
        lambda: (
            "Write it beside the configuration, and as that one's first line\n"
            "  # yaml-language-server: $schema=launcher-hook.schema.json"
        ),
    )
    parser.fill = _fill_config_schema


def _fill_config_schema(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device-plugin",
        action="store_true",
        help="that of `device-plugin --config` and `discover --config`",
    )


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the compute container; may be repeated",
    )
    parser.add_argument("--config", metavar="FILE", help="the configuration, YAML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one configuration key, e.g. layout=root-bus or slots.gpu0=0000:00:08.0",
    )
    parser.add_argument(
        "--rom-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="a directory of the compute container in which files for rom.file may be; may be "
        "repeated (default: none). No VM's owner may be able to write there",
    )


def _add_devices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="NAME=ADDRESS|UUID",
        help="the function, or the mediated device, that the entry of this name in gpus or "
        "hostDevices has; may be repeated",
    )
    parser.add_argument(
        "--dra-metadata",
        type=Path,
        metavar="DIR",
        help="a copy of /var/run/kubernetes.io/dra-device-attributes of the compute container, "
        "which has the devices of resource claims",
    )


def _inputs_epilog(example: str) -> str:
    from launcher_hook.configkeys import KEYS, print_default
    from launcher_hook.devicekeys import DEVICE_KEYS

    width = 65
    lines = []
    for name, key in KEYS.items():
        text = f"{key.meaning} Default: {print_default(name)}."
        lines.extend(_wrap(f"  {name}", text, width))
    lines.append("\nBelow devices.NAME:")
    for name, key in DEVICE_KEYS.items():
        lines.extend(_wrap(f"  {name}", f"{key.values}. {key.meaning}", width))
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
        "--env-file",
        metavar="FILE",
        help="variables, NAME=VALUE a line, as 'env' prints them, or a /proc/PID/environ",
    )
    _add_devices(parser)
    parser.add_argument(
        "--sysfs",
        type=Path,
        metavar="ROOT",
        help="the node's /sys, a copy, or a file that `discover --snapshot` wrote; without it "
        "nothing is known of the node",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="forget where the domain's passed-through devices are, and plan them as the VM's next "
        "start will; without it an address that a device has is kept, as in a launcher's later "
        "passes",
    )
    _add_configuration(parser)
