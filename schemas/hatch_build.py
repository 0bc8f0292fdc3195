"""Put the schemas into what is built: hatchling's hook, named in pyproject.toml.

libvirt's are not in the repository, so they cannot be listed there: a build without them is a
good build whose user brings schemas, or goes by passthrough.xsd. Only pinned sets are taken,
so that the same commit gives the same wheel.
"""

import tomllib
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
            names = [*entry.get("sha256", ()), "COPYING.libvirt"]
            if "version" in entry and all((folder / name).is_file() for name in names):
                taken += [folder / name for name in names]
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
