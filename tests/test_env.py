"""The variables: their names, their values, and where they come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pci import ADDRESSES

from launcher_hook.env import (
    MDEV_PREFIX,
    merge_environments,
    parse_allocations,
    parse_assignment,
    parse_env_file,
    variable_of,
)
from launcher_hook.errors import InputError
from launcher_hook.pci import PciAddress

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"


@pytest.mark.parametrize(
    ("resource", "variable"),
    [
        ("nvidia.com/GH100", "PCI_RESOURCE_NVIDIA_COM_GH100"),
        ("nvidia.com/TU106_GEFORCE_RTX_2060_REV__A",
         "PCI_RESOURCE_NVIDIA_COM_TU106_GEFORCE_RTX_2060_REV__A"),
        ("intel.com/qat-vf.x", "PCI_RESOURCE_INTEL_COM_QAT-VF_X"),
    ],
)  # fmt: skip
def test_a_variable_is_named_as_kubevirt_names_it(resource: str, variable: str) -> None:
    assert variable_of(resource) == variable
    assert variable_of(resource, MDEV_PREFIX) == f"MDEV_{variable}"


@given(st.lists(ADDRESSES, unique=True), st.booleans(), st.booleans())
def test_a_value_is_a_list_in_its_own_order(
    addresses: list[PciAddress], upper: bool, trailing: bool
) -> None:
    value = ",".join(map(str, addresses)) + ("," if trailing and addresses else "")
    allocations = parse_allocations({"PCI_RESOURCE_X": value.upper() if upper else value})
    assert allocations["PCI_RESOURCE_X"].sources == tuple(addresses)


def test_an_empty_value_is_an_allocation_of_nothing() -> None:
    assert parse_allocations({"PCI_RESOURCE_X": ""})["PCI_RESOURCE_X"].sources == ()
    assert parse_allocations({"PCI_RESOURCE_X": " "})["PCI_RESOURCE_X"].sources == ()


def test_mediated_devices_are_uuids_in_lower_case() -> None:
    allocations = parse_allocations({"MDEV_PCI_RESOURCE_X": UUID.upper()})
    assert allocations["MDEV_PCI_RESOURCE_X"].sources == (UUID,)


def test_other_variables_are_none_of_ours() -> None:
    assert parse_allocations({"PATH": "/bin", "PCIDEVICE_X": "?", "pci_resource_x": "?"}) == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("3b:00.1", r"PCI_RESOURCE_X, item 1 of 1: '3b:00.1' is not a PCI address; write domain"),
        (
            "0000:3b:20.0",
            r"item 1 of 1: '0000:3b:20.0': PCI slot 0x20 is not in 0 to 0x1f; write dom",
        ),
        ("0000:86:00.0,x", r"item 2 of 2: 'x' is not a PCI address; write domain:bus"),
        ("0000:86:00.0,,0000:af:00.0", r"item 2 of 3: '' is empty; take the extra comma out"),
        (",", r"item 1 of 1: '' is empty; take the extra comma out"),
        (",0000:86:00.0", r"item 1 of 2: '' is empty; take the extra comma out"),
        ("0000:86:00.0,,", r"item 2 of 2: '' is empty; take the extra comma out"),
        ("0000:AF:00.0,0000:af:00.0", r"item 2 of 2: .* is item 1 already; name each device once"),
    ],
)
def test_a_bad_item_is_named_with_its_place(value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_allocations({"PCI_RESOURCE_X": value})


def test_a_bad_uuid_is_named_with_an_example() -> None:
    with pytest.raises(
        InputError,
        match=r"^MDEV_PCI_RESOURCE_X, item 1 of 1: '4b20' is not a UUID; write e\.g\. 4b20d080-",
    ):
        parse_allocations({"MDEV_PCI_RESOURCE_X": "4b20"})


def test_an_env_file_is_what_env_prints() -> None:
    lines = ["# of the compute container", "", "PATH=/bin", "export PCI_RESOURCE_A='0000:86:00.0'",
             "PCI_RESOURCE_B=0000:af:00.0,", "SPANS=first", "second line",
             'export  PCI_RESOURCE_X="X"']  # fmt: skip
    assert parse_env_file(lines, "pod.env") == {
        "PCI_RESOURCE_A": "0000:86:00.0",
        "PCI_RESOURCE_B": "0000:af:00.0,",
        "PCI_RESOURCE_X": "X",
    }


def test_a_line_of_ours_that_assigns_nothing_is_refused_with_its_number() -> None:
    with pytest.raises(InputError, match=r"pod\.env:2: .* is not NAME=VALUE; write PCI_RESOURCE_"):
        parse_env_file(["", "PCI_RESOURCE_A 0000:86:00.0"], "pod.env")


def test_a_value_may_have_an_equals_sign_too() -> None:
    assert parse_env_file(["OPTIONS=a b=c"], "pod.env") == {}


@pytest.mark.parametrize(
    "text", ["", "# a comment", "<domain type='kvm'>\n</domain>", "kind: VirtualMachine", "=x"]
)
def test_a_file_without_any_assignment_is_some_other_file(text: str) -> None:
    with pytest.raises(InputError, match="^vm.xml: it holds no NAME=VALUE; give what 'env' prints"):
        parse_env_file(text.splitlines(), "vm.xml")


def test_a_file_of_other_variables_is_an_environment() -> None:
    assert parse_env_file(["spans lines", "<a b='c'>", "A.b-c="], "pod.env") == {}


@pytest.mark.parametrize("text", ["PCI_RESOURCE_X", "=0000:86:00.0", "A B=1"])
def test_an_assignment_needs_a_name_and_an_equals_sign(text: str) -> None:
    with pytest.raises(InputError, match="is not NAME=VALUE; write PCI_RESOURCE_"):
        parse_assignment(text, "--env")


def test_a_value_may_have_equals_signs_of_its_own() -> None:
    assert parse_assignment("A=b=c", "--env") == ("A", "b=c")


def test_a_later_environment_wins() -> None:
    assert merge_environments([{"A": "1", "B": "1"}, {"B": "2"}]) == {"A": "1", "B": "2"}
