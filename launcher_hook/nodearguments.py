"""The command line's words for a node's devices: device-plugin and discover."""

import argparse
from pathlib import Path

DEVICE_PLUGIN = "offer the node's PCI functions and mediated devices to kubelet"

DISCOVER = "show what device-plugin would offer, and why it would not offer the rest"

SELECTION_HELP = """\
Without --config, functions of NVIDIA's display class that are bound to
vfio-pci are offered, and NVIDIA's mediated devices, each under the name that
NVIDIA's own plugin gives it. The configuration is a KubeVirt CR, its
permittedHostDevices (entries with externalResourceProvider: true are ours), or
selectors of our own."""

SERVING_HELP = (
    SELECTION_HELP
    + """

It writes in kubelet's directory (root's) and looks at /sys and /dev/vfio.
Devices, drivers and kubelet may come and go while it runs."""
)


def add_device_plugin(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``device-plugin``."""
    parser.add_argument(
        "--kubelet-dir",
        type=Path,
        default=Path("/var/lib/kubelet/device-plugins"),
        metavar="DIR",
        help="kubelet's plugin directory (default: /var/lib/kubelet/device-plugins)",
    )
    _add_node(parser)
    parser.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        help="serve /metrics for Prometheus and /healthz, e.g. on :9100",
    )
    parser.add_argument(
        "--rescan",
        type=parse_duration,
        default=30.0,
        metavar="TIME",
        help="how often to look at everything, e.g. 30s or 1m (default: 30s)",
    )
    parser.add_argument(
        "--log-format", choices=("json", "text"), default="json", help="(default: json)"
    )


def add_discover(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``discover``."""
    _add_node(parser)
    parser.add_argument(
        "--output", choices=("table", "json"), default="table", help="(default: table)"
    )
    parser.add_argument(
        "--snapshot",
        type=Path,
        metavar="FILE",
        help="write the node's PCI facts to one JSON file, which --sysfs takes everywhere",
    )


def _add_node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="what to offer, YAML")
    add_vendors(parser, "--config")
    parser.add_argument(
        "--ids-per-group",
        choices=("one", "all"),
        help="offer one function of an IOMMU group, with which the others come along, or all; "
        "only one VM can open a group (default: what --config says, or one)",
    )
    add_sysfs(parser)
    parser.add_argument(
        "--dev", type=Path, metavar="DIR", help="the node's /dev (default: /dev, or the snapshot's)"
    )
    add_pci_ids(parser)


def add_vendors(parser: argparse._ActionsContainer, instead_of: str) -> None:
    """Add what is selected where there is no configuration."""
    parser.add_argument(
        "--vendor",
        action="append",
        default=[],
        metavar="ID[=DOMAIN]",
        help=f"without {instead_of}: whose functions, e.g. 1002 or 1af4=example.com; may be "
        "repeated (default: 10de=nvidia.com)",
    )
    parser.add_argument(
        "--class",
        action="append",
        default=[],
        dest="classes",
        metavar="HEX",
        help=f"without {instead_of}: first digits of the class code, e.g. 0302 or 0680; may be "
        "repeated (default: 03)",
    )


def add_sysfs(parser: argparse.ArgumentParser) -> None:
    """Add where a command that runs on a node reads it."""
    parser.add_argument(
        "--sysfs",
        type=Path,
        default=Path("/sys"),
        metavar="ROOT",
        help="the node's /sys, or a snapshot (default: /sys)",
    )


def add_pci_ids(parser: argparse._ActionsContainer) -> None:
    """Add where names come from."""
    parser.add_argument(
        "--pci-ids", type=Path, metavar="FILE", help="device names (default: the system's pci.ids)"
    )


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def parse_duration(text: str) -> float:
    """Read ``30s``, ``500ms``, ``1m``; seconds where there is no unit.

    Raises:
        ArgumentTypeError: It is no time, or less than 50 ms.
    """
    number = text.rstrip("hms")
    unit = _UNITS.get(text[len(number) :])
    try:
        seconds = float(number) * (unit or 0)
    except ValueError:
        seconds = 0
    if not 0.05 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no time from 50ms to 24h; write e.g. 30s")
    return seconds
