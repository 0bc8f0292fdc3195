"""The configuration: a KubeVirt CR, its fragment, our own selectors; what is wrong with one."""

import pytest

from launcher_hook.deviceplugin.configfile import read_selection
from launcher_hook.deviceplugin.selection import MdevSelector, PciSelector
from launcher_hook.deviceplugin.setup import make_selection, parse_vendors
from launcher_hook.errors import InputError
from launcher_hook.pci import PciAddress

FRAGMENT = """
pciHostDevices:
- pciVendorSelector: "10DE:1f08"
  resourceName: nvidia.com/TU106
  externalResourceProvider: true
- {pciVendorSelector: 8086:10c9, resourceName: intel.com/qat whatever}
mediatedDevices:
- {mdevNameSelector: GRID T4-1Q, resourceName: nvidia.com/T4, externalResourceProvider: true}
"""


def indent(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())


FORMS = {
    "fragment": FRAGMENT,
    "permittedHostDevices": f"permittedHostDevices:\n{indent(FRAGMENT, 2)}\n  usb: [{{a: b}}]\n",
    "KubeVirt": "apiVersion: kubevirt.io/v1\nkind: KubeVirt\nmetadata: {name: kubevirt}\nspec:\n"
    "  imagePullPolicy: Always\n  configuration:\n    developerConfiguration: {}\n"
    f"    permittedHostDevices:\n{indent(FRAGMENT, 6)}\n      usb: []\nstatus: {{}}\n",
    "list of one KubeVirt": "apiVersion: v1\nkind: List\nitems:\n- kind: KubeVirt\n  spec:\n"
    f"    configuration:\n      permittedHostDevices:\n{indent(FRAGMENT, 8)}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_kubevirts_own_words_are_taken_in_every_form_that_they_come_in(form: str) -> None:
    selection = read_selection(FORMS[form].encode(), "f.yaml")
    assert selection.pci == (
        PciSelector("f.yaml: pciHostDevices[0]", "nvidia.com/TU106", 0x10DE, 0x1F08),
        PciSelector(
            "f.yaml: pciHostDevices[1]", "intel.com/qat whatever", 0x8086, 0x10C9, external=False
        ),
    )
    assert selection.mdev == (
        MdevSelector("f.yaml: mediatedDevices[0]", "nvidia.com/T4", "GRID_T4-1Q"),
    )
    assert list(selection.left_to_kubevirt()) == [
        ("f.yaml: pciHostDevices[1]", "intel.com/qat whatever")
    ]


def test_our_own_selectors_say_more_and_count_first() -> None:
    text = (
        FORMS["KubeVirt"]
        + """
selectors:
- {resourceName: a.com/x, address: "0000:3B:00.0"}
- {resourceName: a.com/y, vendor: 15b3:101e, class: "0x0200", driver: mlx5_vfio_pci, numaNode: 1}
- {vendor: 10DE}
idsPerGroup: all
"""
    )
    selection = read_selection(text.encode(), "f")
    assert selection.pci[:3] == (
        PciSelector("f: selectors[0]", "a.com/x", address=PciAddress.parse("0000:3b:00.0")),
        PciSelector("f: selectors[1]", "a.com/y", 0x15B3, 0x101E, "0200",
                    driver="mlx5_vfio_pci", numa_node=1),
        PciSelector("f: selectors[2]", None, 0x10DE),
    )  # fmt: skip
    assert selection.ids_per_group == "all"
    assert selection.vendors is None  # an address may be of any vendor


def test_a_later_kubevirts_fields_in_a_cr_are_none_of_ours() -> None:
    text = FORMS["KubeVirt"].replace("resourceName: nvidia.com/TU106", "newField: 1\n        "
                                     "resourceName: nvidia.com/TU106")  # fmt: skip
    assert read_selection(text.encode(), "f").pci[0].resource == "nvidia.com/TU106"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"f: \[\] is not a mapping; give a KubeVirt CR"),
        ("{", "f: it is not YAML"),
        ("kind: Pod", "f: kind: 'Pod' is not KubeVirt; give a KubeVirt CR"),
        ("items: []", "f: it is a list of other than one KubeVirt"),
        ("kind: KubeVirt\npermittedHostDevices: x\nspec: 5", "f: spec: '5' is not a map"),
        ("permittedHostDevices: [a]", "f: permittedHostDevices: .* is not a mapping"),
        ("pciHostDevice: []", "f: pciHostDevice: there is no such key; write 'pciHostDevices'"),
        ("pciHostDevices: [{resourceName: a.com/x}]",
         r"f: pciHostDevices\[0\].pciVendorSelector: it is missing; write it"),
        ("pciHostDevices: [{pciVendorSelector: 10de, resourceName: a.com/x}]",
         "'10de' is no vendor and device id; write 4 and 4 hexadecimal digits, e.g. 10DE:1F08"),
        ("pciHostDevices: [{pciVendorSelector: '10DE:1F08', externalResourceProvider: true, "
         "resourceName: nvidia.com/GeForce RTX 2060 Rev. A}]",
         r"f: pciHostDevices\[0\].resourceName: 'nvidia.com/GeForce RTX 2060 Rev. A' .*; "
         r"write e.g. nvidia.com/GeForce_RTX_2060_Rev._A"),
        ("pciHostDevices: [{pciVendorSelector: '10DE:1F08', externalResourceProvider: perhaps, "
         "resourceName: a.com/x}]", r"externalResourceProvider: 'perhaps': .*boolean"),
        ("selectors: [{resourceName: a.com/x}]",
         r"f: selectors\[0\]: it says nothing about the device; give one of vendor"),
        ("selectors: [{resourceName: a b, vendor: 10de}]", "resourceName: 'a b' has no domain"),
        ("selectors: [{vendor: 10}]", "'10' is no vendor; write e.g. 10de"),
        ("selectors: [{class: 3}]", "'3' is no class; write 2, 4 or 6"),
        ("selectors: [{address: 3b:00.0}]", "'3b:00.0' is not a PCI address; write domain:bus"),
        ("selectors: [{numaNode: -1}]", "numaNode: '-1': .*greater than or equal to 0"),
        ("slots: {}", "f: slots: that is the hook's configuration, not the device plugin's; give "
         "it to render, plan or serve; the keys here are permittedHostDevices, pciHostDevices, "
         "mediatedDevices, selectors, idsPerGroup$"),
        ("nothing: 1", "nothing: there is no such key; the keys are permittedHostDevices, pciHost"
         "Devices, mediatedDevices, selectors, idsPerGroup$"),
        ("selectors: [{zzz: x}]", r"selectors\[0\].zzz: there is no such key; the keys are resource"
         "Name, vendor, class, address, driver, numaNode$"),
        ("selectors: [{drivers: x}]", "there is no such key; write 'driver'"),
        ("idsPerGroup: two", "idsPerGroup: 'two' is not allowed; write 'one' or 'all'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_what_to_do(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_selection(text.encode(), "f")


def test_the_command_line_says_whose_functions_without_a_config() -> None:
    selection = make_selection(None, ["1002", "1AF4=example.com"], ["0302"], "all")
    assert {s.vendor_id for s in selection.pci} == {0x1002, 0x1AF4}
    assert {s.class_digits for s in selection.pci} == {"0302"}
    assert selection.domains[0x1AF4] == "example.com"
    assert selection.ids_per_group == "all"
    assert selection.vendors == {0x1002, 0x1AF4}


@pytest.mark.parametrize(
    ("vendor", "message"),
    [
        ("nvidia", "--vendor nvidia: 'nvidia' is no vendor id; write 4 hexadecimal digits"),
        ("1af4", "--vendor 1af4: no domain is known for its resources; write e.g. 1af4=example"),
        ("1af4=a b", "--vendor 1af4=a b: 'a b' is no domain"),
    ],
)
def test_a_vendor_that_cannot_be_meant_is_refused(vendor: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_vendors([vendor])


def test_config_and_vendor_together_are_refused() -> None:
    with pytest.raises(InputError, match="--vendor: --config says already what is offered"):
        make_selection("f", ["10de"], [], None)


def test_entries_at_two_places_are_refused() -> None:
    """One of the two lists would be lost."""
    text = b"pciHostDevices: []\npermittedHostDevices: {pciHostDevices: []}\n"
    with pytest.raises(InputError, match="f: pciHostDevices: it is written below permittedHostDev"):
        read_selection(text, "f")
