"""From what the command line says to what the plugin works with."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from launcher_hook.deviceplugin.names import check_resource
from launcher_hook.deviceplugin.scan import Node
from launcher_hook.deviceplugin.selection import (
    DISPLAY,
    NVIDIA,
    VENDOR_DOMAINS,
    IdsPerGroup,
    Selection,
    parse_class,
    select_by_vendor,
)
from launcher_hook.errors import InputError
from launcher_hook.files import read_file
from launcher_hook.pciids import MAX_PCI_IDS_BYTES, PciNames, load_names
from launcher_hook.snapshot import open_host, open_nodes

_VENDOR = re.compile(r"(?:0x)?([0-9a-f]{4})", re.IGNORECASE)


def open_names(pci_ids: Path | None) -> PciNames:
    """Open pci.ids; a file that is named must be there.

    Raises:
        InputError: It cannot be read.
    """
    if pci_ids is not None:
        read_file(str(pci_ids), MAX_PCI_IDS_BYTES)
    return load_names(pci_ids)


def open_node(sysfs: Path, dev: Path | None, selection: Selection, names: PciNames) -> Node:
    """Open a node: its ``/sys`` and ``/dev``, or a snapshot of both.

    Raises:
        InputError: ``sysfs`` is a file and no snapshot.
    """
    host = open_host(sysfs)
    return Node(host, open_nodes(host, dev), selection, names.device_name)


def make_selection(
    config: str | None,
    vendors: Sequence[str],
    classes: Sequence[str],
    ids_per_group: IdsPerGroup | None,
) -> Selection:
    """Read the configuration, or take NVIDIA's GPUs or what the command line says instead.

    Raises:
        InputError: It cannot be read, or something in it is wrong.
    """
    if config is None:
        selection = select_by_vendor(
            parse_vendors(vendors) or {NVIDIA: VENDOR_DOMAINS[NVIDIA]},
            tuple(map(_parse_class, classes)) or (DISPLAY,),
        )
        selection = replace(selection, is_default=not (vendors or classes))
    else:
        if vendors or classes:
            option = "--vendor" if vendors else "--class"
            raise InputError(
                option, "--config says already what is offered", "write it as a selector there"
            )
        from launcher_hook.deviceplugin.configfile import MAX_CONFIG_BYTES, read_selection

        selection = read_selection(read_file(config, MAX_CONFIG_BYTES), config)
    return selection if ids_per_group is None else replace(selection, ids_per_group=ids_per_group)


def parse_vendors(texts: Sequence[str]) -> Mapping[int, str]:
    """Read ``10de`` or ``1af4=example.com``: vendors with the domain of their resources.

    Raises:
        InputError: It is no vendor, or one whose domain must be given.
    """
    domains = {}
    for text in texts:
        digits, equals, domain = text.partition("=")
        match = _VENDOR.fullmatch(digits)
        if match is None:
            raise InputError(
                f"--vendor {text}",
                f"{digits!r} is no vendor id",
                "write 4 hexadecimal digits, e.g. 10de",
            )
        vendor = int(match[1], 16)
        known = domain if equals else VENDOR_DOMAINS.get(vendor)
        if known is None:
            raise InputError(
                f"--vendor {text}",
                "no domain is known for its resources",
                f"write e.g. {digits}=example.com",
            )
        try:
            check_resource(f"{known}/any")
        except ValueError:
            raise InputError(
                f"--vendor {text}", f"{known!r} is no domain", f"write e.g. {digits}=example.com"
            ) from None
        domains[vendor] = known
    return domains


def _parse_class(text: str) -> str:
    try:
        return parse_class(text)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise InputError(f"--class {text}", what, fix) from None
