"""The command line's words for doctor."""

import argparse
from pathlib import Path

from launcher_hook.nodearguments import add_pci_ids, add_vendors

DOCTOR = "look at a node, a cluster or a VM, and say what is wrong and what to do"

DOCTOR_HELP = """\
It asks no cluster: give it files, as kubectl prints them, with -o yaml or -o
json; - is stdin. What could not be checked, for want of one, is listed last.

examples:
  on a node, and in a debug pod of one:
  launcher-hook doctor --node
  launcher-hook doctor --sysfs /host/sys --proc /host/proc --dev /host/dev

  of a cluster, and of a VM:
  kubectl -n kubevirt get kubevirt kubevirt -o yaml > kv.yaml
  kubectl get nodes -o yaml > nodes.yaml
  launcher-hook doctor --kubevirt-cr kv.yaml --node-object nodes.yaml
  kubectl get plugins.plugin.kubevirt.io -o yaml > plugins.yaml
  launcher-hook doctor --kubevirt-cr kv.yaml --plugin-object plugins.yaml
  kubectl get pod virt-launcher-VM-abcde -o yaml > pod.yaml
  launcher-hook doctor --kubevirt-cr kv.yaml --pod pod.yaml --vmi vm.yaml
  launcher-hook doctor --vmi vmi.yaml --domain vm.xml --env-file pod.env
  kubectl get resourceclaims,resourceslices -o yaml > dra.yaml
  launcher-hook doctor --kubevirt-cr kv.yaml --vmi vmi.yaml --pod pod.yaml \\
      --resource-claims dra.yaml --resource-slices dra.yaml

Exit status: 0 no error was found; 1 one was found; 2 a file cannot be read."""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``doctor`` that no other command has."""
    node = parser.add_argument_group("a node")
    node.add_argument(
        "--node", action="store_true", help="look at this node's /sys, /proc and /dev"
    )
    node.add_argument(
        "--sysfs",
        type=Path,
        metavar="ROOT",
        help="look at another /sys, a copy, or a file that `discover --snapshot` wrote",
    )
    node.add_argument(
        "--proc", type=Path, metavar="DIR", help="its /proc (default with --node: /proc)"
    )
    node.add_argument(
        "--dev",
        type=Path,
        metavar="DIR",
        help="its /dev (default with --node: /dev; or the snapshot's)",
    )
    node.add_argument(
        "--plugin-config",
        metavar="FILE",
        help="the device plugin's configuration, which says what is for VMs (default: the "
        "--kubevirt-cr)",
    )
    add_vendors(node, "--plugin-config and --kubevirt-cr")
    add_pci_ids(node)
    cluster = parser.add_argument_group("a cluster")
    cluster.add_argument(
        "--kubevirt-cr",
        metavar="FILE",
        help="kubectl -n kubevirt get kubevirt kubevirt -o yaml",
    )
    cluster.add_argument(
        "--node-object", metavar="FILE", help="kubectl get node NAME -o yaml, or of several"
    )
    cluster.add_argument(
        "--plugin-object",
        metavar="FILE",
        help="kubectl get plugins.plugin.kubevirt.io -o yaml, of KubeVirt 1.9 and newer; the "
        "file of --kubevirt-cr may have them too",
    )
    machine = parser.add_argument_group("a VM")
    machine.add_argument("--vmi", metavar="FILE", help="kubectl get vmi NAME -o yaml, or of its vm")
    machine.add_argument(
        "--pod", metavar="FILE", help="its launcher's: kubectl get pod virt-launcher-... -o yaml"
    )
    machine.add_argument(
        "--resource-claims",
        metavar="FILE",
        help="its resource claims: kubectl get resourceclaims -o yaml",
    )
    machine.add_argument(
        "--resource-slices",
        metavar="FILE",
        help="what DRA drivers offer: kubectl get resourceslices -o yaml",
    )
    machine.add_argument(
        "--domain", metavar="FILE", help="its domain XML; what `render` would refuse is found"
    )
    machine.add_argument(
        "--env-file",
        metavar="FILE",
        help="variables of its compute container, as for render",
    )
    parser.add_argument(
        "--output", choices=("table", "json"), default="table", help="(default: table)"
    )
