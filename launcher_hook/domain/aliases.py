"""What libvirt calls the passed-through devices of a domain, and what names them by that.

libvirt drops an alias that is no user's, and numbers the devices without one: hostdev0, hostdev1,
first the ``<interface type='hostdev'>``, then the hostdevs of every kind (qemu_alias.c,
qemuAssignDeviceAliases, the same in 9.0 and 11.3). An ``<interface type='network'>`` counts too
where its network passes functions through; only libvirt knows its networks, so it does not here.

``qemu:override`` names devices so. When a hostdev gets an alias, the numbers behind it change, and
each override follows its device.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import count

from launcher_hook.assign import is_user_alias
from launcher_hook.domain.document import Element
from launcher_hook.domain.inspect import alias_of
from launcher_hook.domain.qemu import overridden_devices
from launcher_hook.errors import shorten

_NUMBERED = re.compile("hostdev[0-9]+")


def name_devices(root: Element) -> dict[Element, str]:
    """Give libvirt's name of each passed-through device."""
    numbers = count()
    names = {}
    for path in ("./devices/interface[@type='hostdev']", "./devices/hostdev"):
        for device in root.iterfind(path):
            alias = alias_of(device) or ""
            names[device] = alias if is_user_alias(alias) else f"hostdev{next(numbers)}"
    return names


def read_names(root: Element) -> dict[str, Element]:
    """Find the device that each name means; also by an alias that libvirt drops."""
    names = name_devices(root)
    dropped = {alias: device for device in names if (alias := alias_of(device))}
    return {**dropped, **{name: device for device, name in names.items()}}


def follow_aliases(root: Element, before: Mapping[str, Element]) -> None:
    """Write the present name of its device into each override.

    Args:
        root: The domain, in which devices have got aliases.
        before: What each name meant before.
    """
    after = name_devices(root)
    for override in overridden_devices(root):
        device = before.get(override.get("alias", ""))
        if device is not None:
            override.set("alias", after[device])


def find_lost_overrides(root: Element) -> Iterator[str]:
    """A sentence for each override of a hostdev that the domain does not have."""
    if root.find("./devices/interface[@type='network']") is not None:
        return  # it may have a number
    names = read_names(root)
    for override in overridden_devices(root):
        alias = override.get("alias", "")
        if alias not in names and _NUMBERED.fullmatch(alias):
            yield (
                f"qemu:override: {shorten(alias)} is the name of no device in this domain; write "
                "the device's alias"
            )
