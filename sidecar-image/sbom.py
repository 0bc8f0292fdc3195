"""The image's bill of materials, CycloneDX 1.6 as JSON, read from the image and not from what it
was to be made of: Debian's packages from dpkg's stanzas, Python's from their metadata, libvirt's
schemas, and each program and library by its sum. The same image gives the same bytes.
"""

import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from archive import Entry, Image
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

STANZAS = "/var/lib/dpkg/status.d/"
APP = "/usr/lib/launcher-hook/"
LIBVIRT = f"{APP}launcher_hook/schemas/libvirt/"
NAMESPACE = uuid.UUID("5f0a3a40-6b27-4b7e-9a5c-2f6f4f7d1c55")  # of our own, drawn once

_SHORT_NAME = re.compile(r"^License: *([A-Za-z0-9][A-Za-z0-9.+ -]{0,60})$", re.MULTILINE)


def describe_image(image: Image, wheels: Iterable[Path], when: datetime) -> str:
    """Write the bill of materials.

    Args:
        image: What was built.
        wheels: The wheels that it was built of, for their sums.
        when: The time to put into it: the commit's.

    Raises:
        ValueError: What came of it is not valid by CycloneDX's own schema.
    """
    labels = image.document["config"].get("Labels", {})
    root = Component(
        name="launcher-hook",
        type=ComponentType.CONTAINER,
        version=labels.get("org.opencontainers.image.version"),
        bom_ref="image",
        licenses=_licences(labels.get("org.opencontainers.image.licenses", "")),
        hashes=[_sha256(image.digest.partition(":")[2])],
        properties=[
            Property(name="launcher-hook:revision", value=labels.get(
                "org.opencontainers.image.revision", "unknown"))
        ],
    )  # fmt: skip
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, image.digest))
    bom.metadata.timestamp = when
    bom.metadata.component = root
    parts = [*_debian(image), *_libvirt(image), *_binaries(image)]
    python = dict(_python(image, _sums(wheels)))
    for part in (*parts, *(component for component, _ in python.values())):
        bom.components.add(part)
    ours, _ = python["launcher-hook"]
    bom.register_dependency(root, [ours, *parts])
    for component, metadata in python.values():
        needed = (_key(text) for text in metadata.get_all("Requires-Dist", ()))
        bom.register_dependency(component, [python[name][0] for name in needed if name in python])
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise ValueError(f"the bill of materials is not valid: {fault}")
    return text


def _debian(image: Image) -> Iterator[Component]:
    release = _release(image)
    for entry in image.files(STANZAS):
        stanza = HeaderParser().parsestr(entry.content.decode())
        name, version = stanza["Package"], stanza["Version"]
        copyright_file = f"/usr/share/doc/{name}/copyright"
        qualifiers = {"arch": stanza["Architecture"], "distro": release}
        yield Component(
            name=name,
            type=ComponentType.LIBRARY,
            version=version,
            bom_ref=f"deb:{name}",
            purl=PackageURL("deb", "debian", name, version, qualifiers),
            supplier=OrganizationalEntity(name=stanza["Maintainer"]),
            licenses=_debian_licences(image.entries.get(copyright_file)),
            properties=[Property(name="launcher-hook:copyright", value=copyright_file)],
        )


def _release(image: Image) -> str:
    text = image.entries["/etc/os-release"].content.decode()
    facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return f"{facts['ID']}-{facts['VERSION_ID']}".replace('"', "")


def _debian_licences(entry: Entry | None) -> list[License]:
    """Short names of a machine-readable copyright file; another kind is for people to read."""
    text = entry.content.decode("utf-8", "replace") if entry is not None else ""
    if not text.startswith("Format:"):
        return []
    return [DisjunctiveLicense(name=name) for name in sorted(set(_SHORT_NAME.findall(text)))]


def _python(
    image: Image, sums: Mapping[str, str]
) -> Iterator[tuple[str, tuple[Component, Message]]]:
    for entry in image.files(APP):
        if not entry.name.endswith(".dist-info/METADATA"):
            continue
        metadata = HeaderParser().parsestr(entry.content.decode())
        name, version = _key(metadata["Name"]), metadata["Version"]
        licence = metadata["License-Expression"] or metadata["License"] or ""
        wheel = sums.get(f"{name}-{version}")
        yield (
            name,
            (
                Component(
                    name=name,
                    type=ComponentType.LIBRARY,
                    version=version,
                    bom_ref=f"pypi:{name}",
                    purl=PackageURL("pypi", None, name, version),
                    description=metadata["Summary"],
                    scope=ComponentScope.REQUIRED,
                    licenses=_licences(licence),
                    hashes=[_sha256(wheel)] if wheel is not None else [],
                ),
                metadata,
            ),
        )


def _key(text: str) -> str:
    """The name in front of a version or a condition, as PyPI compares it."""
    name = re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def _sums(wheels: Iterable[Path]) -> dict[str, str]:
    sums = {}
    for wheel in wheels:
        name, version, *_ = wheel.name.split("-")
        sums[f"{_key(name)}-{version}"] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return sums


def _libvirt(image: Image) -> Iterator[Component]:
    """libvirt's schemas, which come from Debian's packages and are no package here."""
    versions = {entry.name.removeprefix(LIBVIRT).split("/")[0] for entry in image.files(LIBVIRT)}
    for version in sorted(versions):
        yield Component(
            name="libvirt-schemas",
            type=ComponentType.DATA,
            version=version,
            bom_ref=f"libvirt-schemas:{version}",
            description="libvirt's RELAX NG schemas of domains",
            licenses=_licences("LGPL-2.1-or-later"),
            components=[_file(entry) for entry in image.files(f"{LIBVIRT}{version}/")],
        )


def _binaries(image: Image) -> Iterator[Component]:
    """Programs and libraries, which a scanner may know by their sum."""
    for entry in image.files():
        if entry.content.startswith(b"\x7fELF"):
            yield _file(entry)


def _file(entry: Entry) -> Component:
    return Component(
        name=str(PurePosixPath(entry.name)),
        type=ComponentType.FILE,
        bom_ref=BomRef(f"file:{entry.name}"),
        hashes=[_sha256(hashlib.sha256(entry.content).hexdigest())],
    )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _licences(text: str) -> list[License]:
    return [LicenseFactory().make_from_string(text)] if text else []
