"""Options that the libvirt which is checked against does not know: the VM's owner must act."""

from collections.abc import Mapping, Sequence

from launcher_hook.domain.inspect import alias_of
from launcher_hook.domain.options import add_options, key_at
from launcher_hook.errors import PlanError
from launcher_hook.schema.checks import our_parts
from launcher_hook.schema.fault import Element
from launcher_hook.schema.sets import SchemaSet
from launcher_hook.settings import DeviceOptions


def check_options(
    written: Sequence[Element], options: Mapping[str, DeviceOptions], schemas: SchemaSet
) -> None:
    """Check what is asked of single devices, apart from all else in their hostdevs.

    libvirt overlooks what it does not know, so that the guest would go without.

    Raises:
        PlanError: The schema has no such thing.
    """
    if not options:
        return
    for element in written:
        alias = alias_of(element) or ""
        asked = options.get(alias)
        if asked is None or element.tag != "hostdev":
            continue
        copy = our_parts(element)
        add_options(copy, asked)
        for fault in schemas.fragment_faults(copy, "hostdev"):
            raise PlanError(
                f"devices.{alias}.{key_at(fault.path)}",
                f"{schemas.name} does not know it: {fault.what}",
                "take it out; if the launcher's libvirt is newer and knows it, check against that "
                "one's schemas: render and doctor take --schema-version, an image has those that "
                "are pinned in schemas/manifest.toml",
            )
