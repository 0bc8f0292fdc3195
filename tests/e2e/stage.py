"""On level 1: what is done for each kind of case, and what is observed then.

Whether that is as expected is decided on level 0, by ``cases.judge``.
"""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from apart import on_host
from kubelet import Plugin, running_plugin
from lxml import etree

from e2e import chain, node
from e2e.cases import (
    DOMAIN,
    KINDS,
    VFIO_AT_START,
    Boot,
    Case,
    Health,
    Offers,
    Refused,
    SideBySide,
    resource_of,
)
from e2e.chain import Pod, guest_addresses
from e2e.claims import ClaimEntry, write_metadata
from e2e.node import QEMU_USER, WAIT_S
from e2e.topology import IDS
from e2e.vm import (
    Libvirt,
    LibvirtRefusedError,
    read_linux,
    say_topology,
    seen_by_linux,
)
from launcher_hook.env import variable_of

OUT = Path("/out")
CONFIG = OUT / "device-plugin.yaml"
NATIVE_MODULES = ("e1000e", "bochs", "snd_hda_intel", "nvme")
Observed = dict[str, str]

OVMF_S, OVMF_POLL_S = 1100, 8
"""Limit for OVMF to find the devices, and how often it is asked. Emulated twice, it takes ten times
as long as SeaBIOS; each question is a virsh, which takes a second of a processor."""


class Stage:
    """Level 1 made ready, and a method for each kind of case."""

    def __init__(self, say: Callable[[str], None], stack: ExitStack) -> None:
        modules = ("vfio-pci", "vfio_iommu_type1", *NATIVE_MODULES)
        subprocess.run(["modprobe", "-a", *modules], check=True)
        Path("/dev/net/tun").chmod(0o666)  # as udev does
        self.roles = node.make_functions()
        self.by_bdf = {bdf: role for role, bdf in self.roles.items()}
        for role in VFIO_AT_START:
            node.bind(self.roles[role], node.VFIO)
        self._libvirts = {False: Libvirt(), True: Libvirt(QEMU_USER)}
        self._libvirts[False].start()
        self._session_runs = False
        self._lock = threading.Lock()
        say("libvirt runs")
        CONFIG.write_text(json.dumps(_kubevirt_cr()))
        self.plugin: Plugin = stack.enter_context(
            running_plugin(Path("/sys"), Path("/dev"), "--config", CONFIG, "--rescan", "5s")
        )
        for kind in ("gpu", "edu", "nvme"):
            self.plugin.kubelet.wait_for_resource(f"{DOMAIN}/{kind}")
        say("the device plugin is registered")

    def observe(self, case: Case) -> Observed:
        """Go through one case, and leave level 1 as it was."""
        match case:
            case Boot():
                return self._boot(case)
            case SideBySide():
                return self._side_by_side(case)
            case Refused():
                return self._refused(case)
            case Offers():
                return self._offers()
            case Health():
                return self._health(case)
        raise TypeError(case)

    # What the node offers

    def _offers(self) -> Observed:
        text = subprocess.run(
            ["launcher-hook", "discover", "--config", CONFIG, "--output", "json"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        found = json.loads(text)
        observed = {}
        for resource, devices in found["resources"].items():
            kind = resource.partition("/")[2]
            observed[f"discover {kind}"] = self._say_roles(device["id"] for device in devices)
        left = (device["id"] for device in found["notOffered"] if device["selected"])
        observed["not offered"] = self._say_roles(left)
        for resource, endpoint in self.plugin.kubelet.endpoints.items():
            numa = endpoint.numa()
            observed[f"registered {resource.partition('/')[2]}"] = " ".join(
                sorted(f"{self.by_bdf[i]}@{','.join(map(str, numa[i]))}" for i in endpoint.devices)
            )
        return observed

    def _say_roles(self, bdfs: Iterable[str]) -> str:
        return " ".join(sorted(self.by_bdf[bdf] for bdf in bdfs))

    # A VM from Allocate to its end

    def _boot(self, case: Boot) -> Observed:
        before = self._drivers(case)
        variables, allocated = self._allocate(case.devices, by_hand=case.by_hand)
        pod = self._pod(case, variables)
        if pod.claims:
            write_metadata(pod.metadata, pod.claims)
            allocated = "by claims"
        libvirt = self._libvirt(case.session, case.devices.values())
        observed: Observed = {}
        passes = ""
        try:
            with chain.sidecar(pod) as launcher:
                xml, passes = chain.define(pod, launcher, libvirt)
                (OUT / f"{pod.name}.xml").write_bytes(xml)
                if pod.claims:
                    observed = self._compare_claims(pod, xml)
                libvirt.begin(pod.domain_name)
                observed |= self._look_into(pod, libvirt, self._aliases(xml))
                libvirt.end(pod.domain_name)
        except LibvirtRefusedError as refusal:
            observed["libvirt refuses"] = node.by_role(str(refusal), self.roles)
        finally:
            libvirt.keep_logs(pod.domain_name)
            libvirt.end(pod.domain_name)
        observed |= {"allocated": allocated, "passes": passes}
        observed["drivers after"] = self._compare(case, before)
        return observed

    def _compare_claims(self, pod: Pod, xml: bytes) -> Observed:
        """The hostdevs that virt-launcher wrote, beside what is planned without any."""
        addresses = guest_addresses(xml)
        scratch = Path(f"/tmp/{pod.name}")
        scratch.mkdir()
        (scratch / "domain.xml").write_bytes(pod.domain(hostdevs=False))
        (scratch / "vmi.json").write_bytes(pod.vmi())
        rendered = subprocess.run(
            ["launcher-hook", "render", "--domain", scratch / "domain.xml", "--vmi",
             scratch / "vmi.json", "--sysfs", "/sys", "--dra-metadata", pod.metadata],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        offline = guest_addresses(rendered)
        return {
            "aliases": " ".join(sorted(alias for alias in addresses if "-dra-" in alias)),
            "planned by --dra-metadata": (
                "the same addresses" if offline == addresses else f"{offline}, not {addresses}"
            ),
        }

    def _look_into(self, pod: Pod, libvirt: Libvirt, aliases: Mapping[str, str]) -> Observed:
        """What a guest shows of our functions while it runs."""
        limits = (OVMF_S, OVMF_POLL_S) if pod.uefi else (WAIT_S,)
        found = libvirt.functions(pod.domain_name, set(aliases), *limits)
        observed = {}
        for alias, role in aliases.items():
            seen = found.get(alias)
            observed[role] = f"{seen.path} {seen.device}" if seen else "not in the guest"
            bound = node.driver(self.roles[role])
            if bound != node.VFIO:
                observed[f"driver of {role} while it runs"] = bound
        if pod.linux:
            paths = {found[alias].path: r for alias, r in aliases.items() if alias in found}
            console = libvirt.wait_for_console(pod.domain_name, "guest-done")
            guest = seen_by_linux(console, paths)
            guest = {role: guest[role] for role in paths.values() if role in guest}
            observed |= {"Linux sees": " ".join(guest), **read_linux(console)}
            if pod.cells:
                host = {role: on_host(Path("/sys"), self.roles[role]) for role in guest}
                observed |= say_topology(host, guest)
        return observed

    def _pod(self, case: Boot | Refused, variables: Mapping[str, str]) -> Pod:
        name = re.sub(r"[^a-z0-9]+", "-", case.name.lower()).strip("-")
        entries = {entry: resource_of(role) for entry, role in case.devices.items()}
        if isinstance(case, Refused):
            return Pod(name, "q35", entries, variables, case.config, disk_address=case.taken)
        return Pod(
            name, case.machine, entries, variables, case.config, case.told, case.linux, case.cells,
            claims=[
                ClaimEntry(entry, "gpus" if IDS[role] == KINDS["gpu"] else "hostDevices",
                           self.roles[role])
                for entry, role in case.claims.items()
            ],
            uefi=case.uefi,
        )  # fmt: skip

    def _allocate(
        self, devices: Mapping[str, str], by_hand: bool = False
    ) -> tuple[dict[str, str], str]:
        """Have the device plugin allocate, as kubelet would; the variables, and them by role."""
        wanted: dict[str, list[str]] = {}
        for role in devices.values():
            wanted.setdefault(resource_of(role), []).append(self.roles[role])
        if by_hand:
            return {variable_of(r): ",".join(ids) for r, ids in wanted.items()}, "by hand"
        variables: dict[str, str] = {}
        kubelet = self.plugin.kubelet
        for resource, ids in wanted.items():
            kubelet.wait_for(
                lambda r=resource, i=ids: all(
                    kubelet.endpoints[r].health().get(bdf) == "Healthy" for bdf in i
                ),
                f"{ids} are not healthy",
            )
            (answer,) = kubelet.allocate(resource, ids)
            variables |= dict(answer.envs)
            for spec in answer.devices:
                if not Path(spec.host_path).exists():
                    raise FileNotFoundError(spec.host_path)
        said = []
        for resource in wanted:
            bdfs = variables[variable_of(resource)].split(",")
            said.append(",".join(self.by_bdf[bdf] for bdf in bdfs))
        return variables, "; ".join(said)

    def _libvirt(self, session: bool, roles: Iterable[str]) -> Libvirt:
        if session:
            # As in a pod: the nodes of the groups that are there are its user's.
            for role in roles:
                group = Path(f"/dev/vfio/{node.group(self.roles[role])}")
                if group.exists():
                    shutil.chown(group, QEMU_USER, QEMU_USER)
            with self._lock:
                if not self._session_runs:
                    self._libvirts[True].start()
                    self._session_runs = True
        return self._libvirts[session]

    def _aliases(self, xml: bytes) -> dict[str, str]:
        """Role of each PCI function that the domain is given, by alias."""
        aliases = {}
        for hostdev in etree.fromstring(xml).iterfind("devices/hostdev[@type='pci']"):
            parts = hostdev.find("source/address").attrib
            numbers = [int(parts[key], 0) for key in ("domain", "bus", "slot", "function")]
            bdf = "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers)
            aliases[hostdev.find("alias").get("name")] = self.by_bdf.get(bdf, bdf)
        return aliases

    def _drivers(self, case: Case) -> dict[str, str]:
        return {role: node.driver(self.roles[role]) for role in sorted(case.touches)}

    def _compare(self, case: Case, before: Mapping[str, str]) -> str:
        """Give libvirt its time to bind the native drivers again."""
        try:
            node.wait_until(lambda: self._drivers(case) == before, "drivers", 60)
        except TimeoutError:
            now = self._drivers(case)
            return ", ".join(
                f"{role}: {was} -> {now[role]}" for role, was in before.items() if now[role] != was
            )
        return "as before"

    # Several VMs

    def _side_by_side(self, case: SideBySide) -> Observed:
        observed = {}
        libvirt = self._libvirts[False]
        pods = {}
        try:
            for name, role in zip(("first", "second"), case.roles, strict=True):
                pods[name] = self._start(name, role)
            for name, role in zip(("first", "second"), case.roles, strict=True):
                observed[name] = self._path_in(pods[name], role)
            libvirt.end(pods["first"].domain_name)
            pods["third"] = self._start("third", case.roles[0])
            observed["third, while the second runs"] = self._path_in(pods["third"], case.roles[0])
            try:
                pods["fourth"] = self._start("fourth", case.roles[0])
                observed["the first's function for a fourth"] = "started"
            except LibvirtRefusedError as refusal:
                observed["the first's function for a fourth"] = node.by_role(
                    str(refusal), self.roles
                )
        finally:
            for name in ("first", "second", "third", "fourth"):
                libvirt.keep_logs(f"default_{name}")
                libvirt.end(f"default_{name}")
        return observed

    def _start(self, name: str, role: str) -> Pod:
        variables, _ = self._allocate({"gpu": role})
        pod = Pod(name, "q35", {"gpu": resource_of(role)}, variables)
        with chain.sidecar(pod) as launcher:
            chain.define(pod, launcher, self._libvirts[False])
        self._libvirts[False].begin(pod.domain_name)
        return pod

    def _path_in(self, pod: Pod, role: str) -> str:
        found = self._libvirts[False].functions(pod.domain_name, {"ua-gpu-gpu"})
        seen = found.get("ua-gpu-gpu")
        return f"{role} {seen.path}" if seen else "not in the guest"

    # Refusals

    def _refused(self, case: Refused) -> Observed:
        with self._made_wrong(case):
            variables, _ = self._allocate(case.devices, by_hand=True)
            return {
                "ours": node.by_role(self._our_refusal(case, variables), self.roles),
                "libvirt's": node.by_role(self._libvirts_refusal(case, variables), self.roles),
            }

    @contextmanager
    def _made_wrong(self, case: Refused) -> Iterator[None]:
        before = self._drivers(case)
        if not case.at_allocate:  # kubelet has a list, and the driver changes just then
            for role, name in case.drivers.items():
                node.bind(self.roles[role], name)
        for role in case.removed:
            node.remove(self.roles[role])
        try:
            yield
        finally:
            if case.removed:
                node.rescan()
            for role in case.drivers:
                node.bind(self.roles[role], before[role])
            node.wait_until(lambda: self._drivers(case) == before, f"drivers: {before}")

    def _our_refusal(self, case: Refused, variables: Mapping[str, str]) -> str:
        if case.at_allocate:
            return self._refusal_of_allocate(case)
        pod = self._pod(case, variables)
        with chain.sidecar(pod) as launcher:
            try:
                launcher.on_define_domain(pod.domain(), pod.vmi())
            except grpc.RpcError as error:
                return f"{error.code().name}: {error.details()}"
        return "nothing"

    def _refusal_of_allocate(self, case: Refused) -> str:
        ((resource, role),) = {(resource_of(role), role) for role in case.devices.values()}
        for changed, name in case.drivers.items():
            node.bind(self.roles[changed], name)
        try:
            self.plugin.kubelet.allocate(resource, [self.roles[role]])
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "nothing"

    def _libvirts_refusal(self, case: Refused, variables: Mapping[str, str]) -> str:
        """Without a hook: the launcher's hostdev as a user of libvirt would write it."""
        pod = self._pod(case, variables)
        domain = etree.fromstring(pod.domain())
        for hostdev in domain.iterfind("devices/hostdev"):
            hostdev.set("mode", "subsystem")
            hostdev.set("managed", case.libvirts_managed)
            source = hostdev.find("source")
            source.find("address").attrib.pop("type")
            if case.libvirts_model:
                source.addnext(etree.Element("driver", name="vfio", model=case.libvirts_model))
            if case.taken:
                hostdev.append(chain.address_element(case.taken))
        libvirt = self._libvirts[False]
        try:
            libvirt.define(etree.tostring(domain))
            libvirt.begin(pod.domain_name)
        except LibvirtRefusedError as refusal:
            return str(refusal)
        finally:
            libvirt.end(pod.domain_name)
        return "nothing"

    # Health

    def _health(self, case: Health) -> Observed:
        kubelet, bdf = self.plugin.kubelet, self.roles[case.role]
        resource = resource_of(case.role)
        observed: Observed = {}

        def wait_for(step: str, state: str) -> None:
            def now() -> str:
                endpoint = kubelet.endpoints.get(resource)
                return endpoint.health().get(bdf, "gone") if endpoint else "gone"

            with suppress(AssertionError):
                kubelet.wait_for(lambda: now() == state)
            observed[step] = now()

        wait_for("before", "Healthy")
        node.unbind(bdf)
        wait_for("unbound from vfio-pci", "Unhealthy")
        node.bind(bdf, node.VFIO)
        wait_for("bound to it again", "Healthy")
        node.remove(bdf)
        wait_for("removed from the node", "gone")
        node.rescan()
        node.bind(bdf, node.VFIO)
        wait_for("rescanned, bound again", "Healthy")
        _, observed["its allocation then"] = self._allocate({"device": case.role})
        return observed


def _kubevirt_cr() -> dict[str, Any]:
    devices = [
        {"pciVendorSelector": ids, "resourceName": f"{DOMAIN}/{kind}",
         "externalResourceProvider": True}
        for kind, ids in KINDS.items()
    ]  # fmt: skip
    return {"permittedHostDevices": {"pciHostDevices": devices}, "idsPerGroup": "all"}
