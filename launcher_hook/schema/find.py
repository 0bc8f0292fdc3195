"""Find the schemas that are installed, newest first."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from launcher_hook.errors import InputError
from launcher_hook.schema.sets import LibvirtSchemas, SchemaSet
from launcher_hook.schema.xsd import XSD_NAME, PassthroughSchema

SYSTEM = "system"

_PACKAGE = Path(__file__).resolve().parent.parent / "schemas"  # in a wheel
_CHECKOUT = Path(__file__).resolve().parent.parent.parent / "schemas"
# libvirt-common on Debian, libvirt-libs on Fedora.
_SYSTEM = Path("/usr/share/libvirt/schemas")

DEFAULT_ROOTS = (_PACKAGE, _CHECKOUT, _SYSTEM)


def load_schemas(version: str | None = None, roots: Sequence[Path] | None = None) -> SchemaSet:
    """Choose the schemas to check against; called twice, the same object.

    Args:
        version: ``11.3.0``, or ``system`` for the machine's own; None is the newest by number,
            then the machine's own, then our XSD.
        roots: Directories that hold ``libvirt/<version>/domain.rng``, or ``domain.rng`` itself
            (libvirt's own installation).  The first that has a version provides it.

    Raises:
        InputError: There are no schemas of that version.
    """
    return _load(version, tuple(DEFAULT_ROOTS if roots is None else roots))


def find_versions(roots: Sequence[Path] = DEFAULT_ROOTS) -> dict[str, Path]:
    """Directory by version, newest first, ``system`` last; empty where nothing is installed."""
    found: dict[str, Path] = {}
    for root in roots:
        for schema in sorted(root.glob("libvirt/*/domain.rng")):
            found.setdefault(schema.parent.name, schema.parent)
        if (root / "domain.rng").is_file():
            found.setdefault(SYSTEM, root)
    return dict(sorted(found.items(), key=lambda item: _order(item[0]), reverse=True))


def passthrough_xsd() -> Path:
    """Our own XSD, which is always there."""
    return next(root / XSD_NAME for root in (_PACKAGE, _CHECKOUT) if (root / XSD_NAME).is_file())


@lru_cache(maxsize=8)
def _load(version: str | None, roots: tuple[Path, ...]) -> SchemaSet:
    found = find_versions(roots)
    if version is None:
        if not found:
            return PassthroughSchema(passthrough_xsd())
        version = next(iter(found))
    if version not in found:
        there = ", ".join(found) or "none"
        fix = f"choose one of those installed: {there}" if found else "none are installed"
        raise InputError("schemas", f"there are no libvirt schemas of version {version!r}", fix)
    return LibvirtSchemas(found[version], version)


def _order(version: str) -> tuple[int, ...]:
    """11.10.0 is newer than 11.3.0; a name without numbers is older than any."""
    return tuple(int(number) for number in re.findall(r"\d+", version))
