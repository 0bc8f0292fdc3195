"""One metadata file: which document counts, which attribute, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metadata import MDEV, NEWEST, OLDER, PCI, both, device, document, stream

from launcher_hook.claims.metadata import MAX_DOCUMENTS, Metadata, parse_metadata, read_source
from launcher_hook.errors import InputError
from launcher_hook.model import HostSource
from launcher_hook.pci import PciAddress

A = PciAddress.parse("0000:86:00.0")
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
GPU = {"gpu": [device(**{PCI: str(A)})]}


def parse(data: bytes) -> Metadata:
    return parse_metadata(data, "file")


def with_requests(requests: object) -> dict[str, object]:
    return {**document({}), "requests": requests}


def source(**attributes: str) -> HostSource | None:
    (found,) = parse(stream(document({"r": [device(**attributes)]}))).requests["r"]
    return found.source


def test_a_device_has_its_drivers_names_and_its_address() -> None:
    (found,) = parse(both(GPU)).requests["gpu"]
    assert (str(found), found.source) == ("gpu.example.com/node-1/gpu-0", A)


@pytest.mark.parametrize(
    ("documents", "version"),
    [
        ([document(GPU), document(GPU, OLDER)], NEWEST),
        ([document(GPU, OLDER)], OLDER),
        ([{"apiVersion": "metadata.resource.k8s.io/v1"}, document(GPU, OLDER)], OLDER),
    ],
    ids=["both", "older", "newer than known"],
)
def test_the_first_document_of_a_known_version_counts(
    documents: list[dict[str, object]], version: str
) -> None:
    found = parse(stream(*documents))
    assert found.version == version
    assert found.requests["gpu"][0].source == A


def test_documents_need_no_white_space_between_them_and_may_have_much() -> None:
    texts = [json.dumps(document(GPU, version)) for version in ("x/v9", NEWEST, OLDER)]
    for between in ("", "\n", " \t\r\n\n"):
        assert parse(f"{between}{between.join(texts)}{between}".encode()).version == NEWEST


def test_what_stands_behind_the_document_that_counts_does_not() -> None:
    """As for KubeVirt and Kubernetes, which stop there."""
    assert parse(stream(document(GPU)) + b"not json").version == NEWEST
    assert parse(stream(document(GPU), document(GPU, OLDER), 7)).versions == (NEWEST, OLDER)


@pytest.mark.parametrize(
    "name", ["mdevUUID", "resource.kubernetes.io/mdevUUID", "resource.kubernetes.io/mDevUUID"]
)
def test_a_uuid_goes_before_an_address_which_is_its_parents(name: str) -> None:
    assert source(**{PCI: str(A), name: UUID.upper()}) == UUID


def test_an_empty_attribute_is_none() -> None:
    assert source(**{MDEV: "", PCI: "0000:86:00.0"}) == A
    assert source(**{PCI: ""}) is None
    assert source(model="x") is None


@pytest.mark.parametrize(
    "attributes",
    [None, {}, {PCI: None}, {PCI: "0000:86:00.0"}, {PCI: {"int": 1}}, {PCI: {"strings": ["a"]}}],
)
def test_an_attribute_that_is_no_string_is_none(attributes: object) -> None:
    assert read_source(attributes, "device") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file: it is empty; give it as the DRA driver wrote it: JSON objects of kind "),
        (b" \n", "file: it is empty"),
        (b"{", "it is not JSON: Expecting property name"),
        (b"[" * 40_000, "it is not JSON: "),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"1", "it holds 1, and no object"),
        (b"{}", "its apiVersion is None"),
        (stream({"apiVersion": ""}), "its apiVersion is ''"),
        (stream({"apiVersion": NEWEST}), "its kind is None"),
        (stream(document(GPU, "a/v1")), f"it holds 'a/v1', and none of {NEWEST}, {OLDER}; have "
         "the driver write one of these too$"),
        (b"{}," * 25_001, "it has 50002 values, and may have 50000"),
        (b'{"apiVersion": "a"}' * (MAX_DOCUMENTS + 1), "it has more than 16 documents"),
        (stream(with_requests({})), "file: requests: {} is no list of objects"),
        (stream(with_requests([1])), r"file: requests: \[1\] is no list of objects"),
        (stream(with_requests([{}])), r"file: requests\[0\]: its name is None"),
        (stream(with_requests([{"name": "r"}] * 2)),
         r"requests\[1\]: the name 'r' is that of another request"),
        (stream(with_requests([{"name": "r", "devices": 1}])),
         r"requests\[0\]: devices: 1 is no list of objects"),
        (stream(document({"r": [{"attributes": 1}]})),
         r"requests\[0\].devices\[0\]: attributes: 1 is not a mapping"),
        (stream(document({"r": [device(**{PCI: "86:00.0"})]})),
         r"attributes\[resource.kubernetes.io/pciBusID\]: '86:00.0' is not a PCI address; have "
         "the DRA driver mended that tells it$"),
        (stream(document({"r": [device(**{MDEV: "x"})]})),
         r"attributes\[mdevUUID\]: 'x' is not a UUID; have the DRA driver mended"),
    ],
)  # fmt: skip
def test_what_is_no_metadata_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["requests", "kind", "apiVersion", "metadata"]), _JSON))
def test_any_object_is_read_or_refused(others: dict[str, object]) -> None:
    data = stream({**document(GPU), **others})
    try:
        found = parse(data)
    except InputError:
        return
    assert all(
        isinstance(each.source, PciAddress | str | None)
        for devices in found.requests.values()
        for each in devices
    )
