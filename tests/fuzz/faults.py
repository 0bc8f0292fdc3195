"""Any bytes as a domain XML that somebody asks to have explained: `validate --explain`."""

import json

from fuzz.domain import SCHEMAS, WORDS, change
from fuzz.target import CASES, Target, case_files

from launcher_hook.schema import load_schemas
from launcher_hook.schema.fault import MOST_FAULTS
from launcher_hook.validate import print_verdicts, validate_domain

XSD = load_schemas(roots=())


def check(data: bytes) -> None:
    """Faults with a place and something to do, whatever it is; libvirt's schemas and our own."""
    schemas = XSD if data[:1] == b"x" else SCHEMAS
    verdict = validate_domain(data[1:], "x.xml", schemas, explain=data[:1] == b"e")
    assert len(verdict.faults) <= 3 * (MOST_FAULTS + 1) or data[:1] != b"l"
    for fault in verdict.faults:
        assert fault.path.startswith("/")
        assert fault.what
        assert fault.fix
    for output in ("text", "json"):
        text = print_verdicts([verdict], schemas.name, output)
        text.encode()
        if output == "json":
            json.loads(text)


def seeds() -> list[bytes]:
    """A few fixtures: the fault finder is a hundred times slower than a render."""
    names = ("readme", "second-pass", "everything", "i440fx", "vgpu-function", "foreign-content")
    files = [CASES / name / "domain.xml" for name in names]
    domains = [file.read_bytes() for file in files if file.exists()] + case_files("domain.xml")[:4]
    small = (
        b"<domain type='kvm'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices>"
        b"<hostdev mode='subsystem' type='pci'><source><address bus='0x40'/></source></hostdev>"
        b"</devices></domain>"
    )
    return [kind + domain for domain in domains for kind in (b"l", b"x")] + [b"e" + small]


TARGET = Target("faults", check, seeds, WORDS, ("schema", "validate"), change)
