"""Put the schemas into what is built: hatchling's hook, named in pyproject.toml.

libvirt's are not in the repository, so they cannot be listed there: a build without them is a
good build whose user brings schemas, or goes by passthrough.xsd. Only pinned sets are taken,
and by their sums, so that the same commit gives the same wheel.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SchemasHook(BuildHookInterface[Any]):
    """Adds ``launcher_hook/schemas/`` to a wheel, libvirt's part of ``schemas/`` to an sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable install needs none, its code finds the repository's."""
        if version == "editable":
            return
        schemas = Path(self.root, "schemas")
        taken = []
        for entry in tomllib.loads((schemas / "manifest.toml").read_text(encoding="utf-8"))["set"]:
            folder = schemas / "libvirt" / entry.get("version", "")
            sums = entry.get("sha256", {})
            if "version" in entry and self._is_pinned(folder, sums):
                taken += [folder / name for name in (*sums, "COPYING.libvirt")]
            elif "version" in entry:
                self.app.display_warning(
                    f"without libvirt {entry['version']}'s schemas: run make setup"
                )
        into = "schemas"
        if self.target_name == "wheel":
            into = "launcher_hook/schemas"
            taken += [schemas / "manifest.toml", *schemas.glob("*.xsd")]
        for path in taken:
            build_data["force_include"][str(path)] = f"{into}/{path.relative_to(schemas)}"

    @staticmethod
    def _is_pinned(folder: Path, sums: Mapping[str, str]) -> bool:
        """Say whether all of a set is there and what the manifest says it is."""
        return (folder / "COPYING.libvirt").is_file() and all(
            (folder / name).is_file()
            and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
            for name, digest in sums.items()
        )
