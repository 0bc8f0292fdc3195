"""A running sidecar under hostile calls on its real socket: its memory, its time, its answers.

Not guided by coverage, which ends at a process; its inputs are those that the other targets have
found interesting, changed once more, and some that are as large as may be.
"""

import os
import random
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from fuzz.target import CASES, REPOSITORY, edit, load_target, random_edits
from launcher import Sidecar, running_sidecar
from processmemory import peak_bytes

from launcher_hook.domain.document import MAX_DOMAIN_BYTES, MOST_ATTRIBUTES, MOST_TAGS
from launcher_hook.fields import MAX_VALUES
from launcher_hook.proto import hooks_plugins_v1alpha1, hooks_v1alpha3
from launcher_hook.vmi import MAX_VMI_BYTES

MOST_BYTES = 64_000_000
MOST_CPU_S = 1.0

CASE = CASES / "stock-sidecar"
DOMAIN, VMI, EXPECTED = (
    (CASE / name).read_bytes() for name in ("domain.xml", "vmi.json", "expected.xml")
)

DEFINE = "kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain"
MUTATE = "kubevirt.hooks.plugins.v1alpha1.DomainHookService/MutateDomain"
METHODS = (
    DEFINE,
    MUTATE,
    "kubevirt.hooks.info.Info/Info",
    "kubevirt.hooks.v1alpha1.Callbacks/OnDefineDomain",
    "kubevirt.hooks.v1alpha2.Callbacks/PreCloudInitIso",
    "kubevirt.hooks.v1alpha3.Callbacks/PreCloudInitIso",
    "kubevirt.hooks.v1alpha3.Callbacks/NoSuchMethod",
)

_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
)


@dataclass
class Facts:
    """What came of it."""

    calls: int = 0
    seconds: float = 0.0
    corpus: int = 0
    slowest_s: float = 0.0
    peak_mb: float = 0.0
    findings: list[str] = field(default_factory=list)


def giants() -> Iterator[tuple[str, bytes, bytes]]:
    """Domains and VMIs that go to a limit each, and to several at once; by name."""

    def within(*parts: bytes) -> bytes:
        return DOMAIN.replace(b"<devices>", b"<devices>" + b"".join(parts))

    room = MAX_DOMAIN_BYTES - len(DOMAIN) - 20
    tags, attributes = MOST_TAGS - 200, MOST_ATTRIBUTES - 200
    yield "comment", within(b"<!--", b"x" * room, b"-->"), VMI
    yield "text", within("\u00e9".encode() * (room // 2)), VMI
    yield "references", within(b"&lt;" * (room // 4)), VMI
    yield "elements", within(b"<a/>" * tags), VMI
    yield "instructions", within(b"<?a?>" * tags), VMI
    yield (
        "attributes",
        within(b"<a ", b" ".join(b'a%x=""' % n for n in range(attributes)), b"/>"),
        VMI,
    )
    yield (
        "namespaces",
        within(b"<a ", b" ".join(b'xmlns:a%x="%x"' % (n, n) for n in range(attributes)), b"/>"),
        VMI,
    )
    odd = b" ".join(b'x%d=""' % n for n in range(attributes))
    yield "attributes of a hostdev", DOMAIN.replace(b"<hostdev ", b"<hostdev %b " % odd, 1), VMI
    strange = b"".join(b"<x%d/>" % n for n in range(tags))
    yield "elements in a hostdev", DOMAIN.replace(b"<source>", strange + b"<source>", 1), VMI
    source = b"<source><address bus='%d' slot='%d' function='%d'/></source>"
    one = b"<hostdev type='pci'>" + source + b"</hostdev>"
    many = b"".join(one % (1 + n // 256, n // 8 % 32, n % 8) for n in range(1024))
    yield "hostdevs", within(many), VMI
    most = b"".join(one % (1 + n // 256, n // 8 % 32, n % 8) for n in range(1000))
    mainframe = within(most).replace(b"q35", b"s390-ccw-virtio").replace(b"x86_64", b"s390x")
    yield "hostdevs that find a place", mainframe, VMI
    port = b"<controller type='pci' model='pcie-root-port'/>"
    yield "controllers", within(port * (attributes // 2)), VMI
    same = b"<rng><address type='pci' bus='1'/></rng>" * (attributes // 2 - 10)
    yield "one address", within(same, b"<rng><address type='pci' bus='1' function='1'/></rng>"), VMI
    every = b" ".join(b'a%x=""' % n for n in range(attributes - 100))
    all_of_it = within(b"<a/>" * (tags - 100), b"<a ", every, b"/>")
    all_of_it += b"<!--" + b"x" * (MAX_DOMAIN_BYTES - len(all_of_it) - 10) + b"-->"
    yield "all of it", all_of_it, VMI

    def with_values(values: bytes) -> bytes:
        return VMI.rstrip()[:-1] + b', "x": [' + values + b"1]}"

    left = MAX_VMI_BYTES - len(VMI) - 20
    yield "VMI of lists", DOMAIN, with_values(b"[]," * (MAX_VALUES // 2 - 1000))
    yield "VMI of mappings", DOMAIN, with_values(b'{"ab":{}},' * (MAX_VALUES // 3 - 1000))
    words = b"".join(b'"%x",' % n for n in range(MAX_VALUES - 2000))
    yield "VMI of words", DOMAIN, with_values(words)
    yield "VMI of one word", DOMAIN, with_values(b'"' + b"x" * (left - 10) + b'",')
    yield (
        "VMI of wide characters",
        DOMAIN,
        with_values(b'"' + "\U0001f600".encode() + b"x" * (left - 10) + b'",'),
    )
    entry = b'{"name":"%d","deviceName":"a/b"},'
    entries = b"".join(entry % n for n in range(1000))
    gpus = (
        b'{"spec":{"domain":{"devices":{"gpus":['
        + entries
        + b'{"name":"x","deviceName":"a/b"}]}}}}'
    )
    wide = with_values(b'"' + "\U0001f600".encode() + b"x" * (left - 10) + b'",')
    yield "VMI of wide characters, with all of it", all_of_it, wide
    yield "VMI of GPUs", DOMAIN, gpus
    key = b'"passthrough.launcher-hook.io/config":'
    slots = b",".join(b"a%d: '0000:20:00.0'" % n for n in range(700))
    annotated = VMI.replace(
        b'"metadata": {', b'"metadata": {"annotations":{' + key + b'"slots: {' + slots + b'}"},', 1
    )
    assert annotated != VMI
    yield "annotation", DOMAIN, annotated
    nested = VMI.replace(
        b'"metadata": {',
        b'"metadata": {"annotations":{' + key + b'"' + b"[],[]," * 2600 + b'"},',
        1,
    )
    yield "annotation of lists", DOMAIN, nested
    remark = b'"# ' + "\U0001f600".encode() + b"x" * (left - 1000) + b'"},'
    remarked = VMI.replace(b'"metadata": {', b'"metadata": {"annotations":{' + key + remark, 1)
    yield "annotation of wide characters", DOMAIN, remarked
    yield "annotation of wide characters, with all of it", all_of_it, remarked
    smile = "\U0001f600".encode()
    wide_text = smile + b"x" * (left - 1000)
    resource = VMI.replace(b"nvidia.com/TU106_GEFORCE_RTX_2060_REV__A", wide_text, 1)
    yield "wide resource", DOMAIN, resource
    yield "wide resource, with all of it", all_of_it, resource
    yield "wide namespace", DOMAIN, VMI.replace(b'"default"', b'"' + wide_text + b'"', 1)
    wide_index = b"<controller type='pci' index='" + smile + b"x" * (room - 100) + b"'/>"
    yield "wide index", within(wide_index), VMI
    wide_alias = b"<alias name='" + smile + b"x" * (room - 100) + b"'/>"
    yield "wide aliases", within(b"<rng>" + wide_alias + b"</rng>"), VMI
    yield "YAML", DOMAIN, b"a: [" + b"[]," * 300_000 + b"]"
    yield "too much", within(b"<!--", b"x" * (4 << 20), b"-->"), VMI
    yield "just not too much", within(b"<!--", b"x" * ((2 << 20) + 50_000), b"-->"), VMI


def image_environment() -> dict[str, str]:
    """What the image sets for malloc."""
    containerfile = (REPOSITORY / "sidecar-image" / "Containerfile").read_text()
    (line,) = re.findall(r"^ENV (PATH=.*)", containerfile, re.MULTILINE)
    pairs = dict(word.split("=", 1) for word in line.split())
    return {name: value for name, value in pairs.items() if name.startswith("MALLOC_")}


class Calls:
    """Calls one sidecar, and looks at it after each."""

    def __init__(self, sidecar: Sidecar, plugin: Path, facts: Facts) -> None:
        self.sidecar = sidecar
        self._plugin = plugin
        self.facts = facts
        self._findings: set[str] = set()

    def define(self, domain: bytes, vmi: bytes) -> grpc.StatusCode:
        request = hooks_v1alpha3.OnDefineDomainParams(domainXML=domain, vmi=vmi)
        return self.call(DEFINE, request.encode())

    def mutate(self, domain: bytes, vmi: bytes, context: str) -> grpc.StatusCode:
        messages = hooks_plugins_v1alpha1
        sidecar = messages.SidecarContext(invocation_context=context)
        request = messages.MutateDomainRequest(domain=domain, vmi=vmi, sidecar_context=sidecar)
        return self.call(MUTATE, request.encode())

    def call(self, method: str, data: bytes) -> grpc.StatusCode:
        """Make a call; whatever it is answered with must be a refusal of ours, or an answer."""
        path = self._plugin if method == MUTATE else self.sidecar.socket
        before = self.cpu_s()
        code, details = grpc.StatusCode.OK, ""
        with grpc.insecure_channel(f"unix:{path}") as channel:
            try:
                channel.unary_unary(f"/{method}")(data, timeout=60)
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
        cpu_s = self.cpu_s() - before
        self.facts.calls += 1
        self.facts.slowest_s = max(self.facts.slowest_s, cpu_s)
        if code not in (grpc.StatusCode.OK, *_REFUSALS):
            self.note(f"{code.name}: {re.sub('[0-9]+', 'N', str(details))[:120]}", method, data)
        if cpu_s > MOST_CPU_S:
            self.note("more than a second of CPU", method, data)
        if self.peak_bytes() > MOST_BYTES:
            self.note("more than 64 MB", method, data)
        return code

    def note(self, what: str, method: str = "", data: bytes = b"") -> None:
        if what not in self._findings:
            self._findings.add(what)
            self.facts.findings.append(f"{what} ({method}, {len(data)} bytes)")
            self.found(data)

    def found(self, data: bytes) -> None:
        """Keep an input; where nothing is kept, nothing."""

    def garbage(self, data: bytes) -> None:
        """Bytes that are no HTTP/2, or the beginning of it."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.sidecar.socket))
            client.sendall(data)

    def cpu_s(self) -> float:
        """What the server has taken so far."""
        fields = Path(f"/proc/{self.sidecar.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """The most memory that the server has had."""
        return peak_bytes(self.sidecar.pid)

    def check_health(self) -> None:
        """It still answers as if nothing had been, and has had no defect."""
        assert self.sidecar.define(DOMAIN, VMI) == EXPECTED
        for event in self.sidecar.events():
            if "exception" in event:
                self.note(f"a defect: {event['exception'].splitlines()[-1][:200]}")


def inputs_of(name: str, corpus: Path) -> list[bytes]:
    """A target's seeds, and what its fuzzer has kept."""
    kept = sorted((corpus / name).iterdir()) if (corpus / name).is_dir() else []
    return [*load_target(name).seeds(), *(path.read_bytes() for path in kept)]


def grow(data: bytes, most_bytes: int, source: random.Random) -> bytes:
    """Repeat a part of it as often as fits."""
    start = source.randrange(len(data) + 1)
    part = data[start : start + source.choice((3, 10, 50, 200, 1000))]
    times = source.choice((10, 100, 1000, 100_000))
    times = min(times, (most_bytes - len(data)) // max(len(part), 1))
    return data[:start] + part * max(times, 0) + data[start:]


def fuzz(seconds: float, corpus: Path, findings: Path, seed: int = 0) -> Facts:
    """Call for so long; giants first."""
    facts, source = Facts(), random.Random(seed)
    words = {name: load_target(name).words for name in ("domain", "vmi", "messages")}
    inputs = {name: inputs_of(name, corpus) for name in words}
    facts.corpus = sum(map(len, inputs.values()))

    def some(name: str, most_bytes: int) -> bytes:
        data = source.choice(inputs[name])
        data = data[1:] if name == "domain" else data
        if source.random() < 0.7:
            data = edit(data, random_edits(source, words[name]))
        return grow(data, most_bytes, source) if source.random() < 0.3 else data

    with tempfile.TemporaryDirectory(prefix="lh", dir="/tmp") as scratch:
        plugin = Path(scratch) / "x.sock"
        options = ("--sysfs", "/nonexistent", "--plugin-socket", plugin)
        with running_sidecar(*options, variables=image_environment()) as sidecar:
            calls = Calls(sidecar, plugin, facts)
            calls.found = lambda data: keep(findings, data)  # type: ignore[method-assign]
            start = time.monotonic()
            for name, domain, vmi in giants():
                before = len(facts.findings)
                calls.define(domain, vmi)
                facts.findings[before:] = [f"{text}: {name}" for text in facts.findings[before:]]
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                kind = source.random()
                if kind < 0.5:
                    calls.define(some("domain", MAX_DOMAIN_BYTES), some("vmi", MAX_VMI_BYTES))
                elif kind < 0.6:
                    calls.define(some("domain", MAX_DOMAIN_BYTES), VMI)
                elif kind < 0.7:
                    context = source.choice(("Boot", "MigrationTarget", "\u2028"))
                    calls.mutate(
                        some("domain", MAX_DOMAIN_BYTES), some("vmi", MAX_VMI_BYTES), context
                    )
                elif kind < 0.95:
                    calls.call(source.choice(METHODS), some("messages", 4 << 20)[1:])
                else:
                    preface = source.choice((b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
                    calls.garbage(preface + source.randbytes(source.randrange(4000)))
                if facts.calls % 500 == 0:
                    calls.check_health()
            calls.check_health()
            facts.peak_mb = calls.peak_bytes() / 1e6
            facts.seconds = time.monotonic() - start
    return facts


def keep(findings: Path, data: bytes) -> None:
    """Keep what did it."""
    (findings / f"call-{len(list(findings.iterdir()))}.bin").write_bytes(data)
