"""What virt-launcher does to a domain between two calls of a hook, by KubeVirt 1.9's rules.

libvirt's inactive XML goes through KubeVirt's Go struct, which keeps what it has fields for; only
``<devices>`` is taken from it, interfaces lose their address, and the last pass brings empty root
ports for hotplug (../shared/kubevirt-contract.md, section 3). ``driver`` is dropped whole here, as
KubeVirt before 1.9 does it; 1.9 keeps its ``iommufd``.
"""

from copy import deepcopy

from lxml import etree

_DROPPED_CHILDREN = {
    "hostdev": ("rom", "driver", "teaming"),
    "controller": ("model",),
}
_DROPPED_ATTRIBUTES = {
    "address": ("multifunction",),
    "source": ("writeFiltering", "startupPolicy"),
    "target": ("chassis", "port", "hotplug"),
}


_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def next_pass(
    sent: bytes, read_back: bytes, spare_ports: int = 0, *, keeps_commandline: bool = True
) -> bytes:
    """The domain that the hook is given next.

    ``qemu:override`` never comes back. ``qemu:commandline`` does in a launcher that reads it out of
    the hook's answer (kubevirt pkg/virt-launcher/virtwrap/converter/translate,
    TransferQEMUCommandline), and is gone in pass 3 of others.

    Args:
        sent: What libvirt was given.
        read_back: What libvirt made of it.
        spare_ports: How many empty root ports without address are added (pass 3).
        keeps_commandline: Whether the hook's own ``qemu:commandline`` comes back.
    """
    domain = etree.fromstring(sent)
    for lost in ("override",) if keeps_commandline else ("override", "commandline"):
        for element in domain.findall(f"{_QEMU}{lost}"):
            domain.remove(element)
    devices = deepcopy(etree.fromstring(read_back).find("devices"))
    assert devices is not None
    for device in devices.iterfind("*"):
        for tag in _DROPPED_CHILDREN.get(str(device.tag), ()):
            for child in device.findall(tag):
                device.remove(child)
        for child in device:
            if child.tag == "target" and device.tag != "controller":
                continue
            for name in _DROPPED_ATTRIBUTES.get(str(child.tag), ()):
                child.attrib.pop(name, None)
        if device.tag == "interface":
            for address in device.findall("address"):
                device.remove(address)
    indexes = [int(i) for i in devices.xpath("controller[@type='pci']/@index")]
    for index in range(max(indexes, default=0) + 1, max(indexes, default=0) + 1 + spare_ports):
        etree.SubElement(
            devices, "controller", type="pci", index=str(index), model="pcie-root-port"
        )
    old = domain.find("devices")
    assert old is not None
    domain.replace(old, devices)
    return etree.tostring(domain)
