"""UUIDs of mediated devices. The only UUID pattern in the tree stands here."""

import re

from launcher_hook.errors import shorten

# Linux drivers/vfio/mdev/mdev_core.c names a device "%pUl" after its UUID: lower case.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def parse_mdev_uuid(text: str) -> str:
    """Read a mediated device's UUID, in either case; gives lower case.

    Raises:
        ValueError: The text is not a UUID.
    """
    if _UUID.fullmatch(text) is None:
        raise ValueError(
            f"{shorten(text)} is not a UUID; write e.g. 4b20d080-1b54-4048-85b3-a6a62d165c01"
        )
    return text.lower()


def is_mdev_uuid(name: str) -> bool:
    """Whether it is a UUID as the kernel writes one."""
    return _UUID.fullmatch(name) is not None and name == name.lower()
