"""Any bytes as a metadata file of a pod's claim, and any names of claim and request beside it."""

from fuzz.domain import SCHEMAS, check_refusal, check_rendered
from fuzz.target import CASES, Target, scratch
from metadata import MDEV, NEWEST, OLDER, PCI, both, device, document, stream

from launcher_hook.claims.directory import read_directory
from launcher_hook.claims.metadata import MDEV_ATTRIBUTES, VERSIONS
from launcher_hook.errors import HookError, SchemaError
from launcher_hook.model import ClaimRequest, DeviceRequest, PodClaim
from launcher_hook.pci import PciAddress
from launcher_hook.render import Inputs, render_domain
from launcher_hook.vmi import Vmi

DOMAIN = (CASES / "no-devices" / "domain.xml").read_bytes()
BASE = scratch()
FILE = BASE / "resourceclaims/shared/gpu/gpu.example.com-metadata.json"
FILE.parent.mkdir(parents=True)
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


def check(data: bytes) -> None:
    """Refused in one sentence; or the one device of the entry stands in the file.

    The first line has the names: of claim, request and ResourceClaim.
    """
    line, _, content = data.partition(b"\n")
    names = line.decode("utf-8", "surrogateescape").split(" ")
    claim, request, pod_claim = [*names, "", "", ""][:3]
    entry = DeviceRequest("gpu", "g", None, "gpus[0]", claim=ClaimRequest(claim, request))
    FILE.write_bytes(content)
    try:
        devices = read_directory(BASE, [entry], {claim: PodClaim(pod_claim or None)})
        (found,) = devices.values()
        if found.source is not None:
            text = content.decode("utf-8-sig").lower()
            source = str(found.source)
            if isinstance(found.source, PciAddress):  # a file may have leading zeros
                source = source.partition(":")[2]
            assert source in text or "\\u" in text, f"{source} is not in the file"
        inputs = Inputs(DOMAIN, vmi=Vmi(requests=(entry,)), devices=devices)
        check_rendered(inputs, render_domain(inputs, SCHEMAS).xml)
    except SchemaError:
        raise
    except HookError as error:
        check_refusal(error)


def seeds() -> list[bytes]:
    """What Kubernetes' library writes, and what it would if a device, or a request, were others."""
    gpu = {"gpu": [device(**{PCI: "0000:86:00.0"})]}
    names = b"c gpu shared\n"
    return [
        names + both(gpu),
        names + stream(document(gpu, OLDER)),
        names + stream({"apiVersion": "metadata.resource.k8s.io/v2"}, document(gpu)),
        names + both({"gpu/large": [device(**{MDEV: UUID, PCI: "0000:86:00.0"})], "b": []}),
        names + both({"gpu": [device("a"), device("b")]}),
        b"c gpu/large shared\n" + both({"gpu/large": [device(**{MDEV: UUID})]}),
        b"shared gpu \n" + both(gpu),
        b"c gpu ../../etc\n" + both(gpu),
        *(names + file.read_bytes() for file in sorted(CASES.glob("*/dra-metadata/*/*/*/*.json"))),
    ]


WORDS = [
    *(word.encode() for word in (*MDEV_ATTRIBUTES, PCI, *VERSIONS, UUID, NEWEST)),
    *(
        word.encode()
        for word in (
            '"apiVersion":',
            '"kind":"DeviceMetadata",',
            '"requests":[',
            '"devices":[',
            '"attributes":{',
            '{"string":"0000:86:00.0"}',
            '{"strings":["a"]}',
            '{"name":"gpu/large"},',
            "0000:FF:1f.7",
            "..",
            "/",
            "\\ud800",
            "\\u0000",
            "1e999",
            "NaN",
            "9" * 5000,
            "[" * 1000,
            "{}",
            "null",
            "\ufeff",
            "\u2028",
        )
    ),
    b"\xff",
    b"\0",
    b"\n",
]

TARGET = Target("metadata", check, seeds, WORDS, ("claims",))
