"""The message classes are what the .proto files say, and speak protobuf's wire format."""

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError as ProtobufError
from hypothesis import given
from hypothesis import strategies as st
from make_messages import PROTO, PROTOS, describe, module_text

from launcher_hook.proto.wire import DecodeError, Message

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = {
    "bytes": st.binary(max_size=200),
    "string": WORDS,
    "bool": st.booleans(),
    "int32": st.integers(-(1 << 31), (1 << 31) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "map": st.dictionaries(WORDS, WORDS, max_size=3),
}

# A message with every kind of field that the wire module knows, whether a protocol uses it or not.
EVERY_KIND = """
syntax = "proto3";
package every.kind;
message Inner { string text = 1; int64 number = 2; }
message Outer {
  string text = 1; bytes raw = 2; bool on = 3; int32 small = 4; int64 big = 5;
  Inner one = 6; repeated Inner many = 7; repeated string words = 8; map<string, string> named = 16;
}
"""


def _pairs() -> Iterator[tuple[type[Message], type[Any]]]:
    """Each class of ours with protobuf's own class for the same message."""
    with tempfile.TemporaryDirectory() as scratch:
        every = Path(scratch) / "every_kind.proto"
        every.write_text(EVERY_KIND)
        files = [describe(proto, Path(scratch)) for proto in (*PROTOS, every)]
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
        if file.name == "every_kind.proto":
            ours: dict[str, Any] = {}
            exec(module_text(file), ours)
        else:
            ours = vars(importlib.import_module(f"launcher_hook.proto.{Path(file.name).stem}"))
        for message in file.message_type:
            described = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
            yield ours[message.name], message_factory.GetMessageClass(described)


PAIRS = list(_pairs())
OUTER = next(pair for pair in PAIRS if pair[0].__name__ == "Outer")


@st.composite
def _messages(draw: st.DrawFn, kind: type[Message]) -> Message:
    values = {}
    for field in kind.FIELDS:
        one = VALUES[field.kind] if isinstance(field.kind, str) else _messages(field.kind)
        optional = one if isinstance(field.kind, str) else st.none() | one
        values[field.name] = draw(st.lists(one, max_size=3) if field.repeated else optional)
    return kind(**values)


def _has_map(kind: type[Message]) -> bool:
    return any(
        f.kind == "map" if isinstance(f.kind, str) else _has_map(f.kind) for f in kind.FIELDS
    )


def _same(ours: Message, theirs: Any) -> bool:
    """Whether protobuf's message says the same, field by field."""
    return ours == type(ours).decode(theirs.SerializeToString())


@pytest.mark.parametrize("proto", PROTOS, ids=lambda proto: proto.stem)
def test_the_classes_are_made_from_the_proto_files(proto: Path, tmp_path: Path) -> None:
    made = module_text(describe(proto, tmp_path))
    assert proto.with_suffix(".py").read_text() == made, "run: make proto"


def test_every_module_of_messages_has_its_proto_file() -> None:
    others = {"__init__.py", "wire.py"}
    modules = {path.stem for path in PROTO.glob("*.py") if path.name not in others}
    assert modules == {proto.stem for proto in PROTOS}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].DESCRIPTOR.full_name)
@given(data=st.data())
def test_protobuf_reads_what_we_write(
    pair: tuple[type[Message], type[Any]], data: st.DataObject
) -> None:
    ours = data.draw(_messages(pair[0]))
    theirs = pair[1].FromString(ours.encode())
    assert _same(ours, theirs)
    if not _has_map(pair[0]):  # its entries have no order
        assert theirs.SerializeToString(deterministic=True) == ours.encode()


@given(st.data(), st.binary(max_size=40), st.integers(0, 60))
def test_what_is_broken_is_broken_for_protobuf_too(
    data: st.DataObject, noise: bytes, at: int
) -> None:
    whole = data.draw(_messages(OUTER[0])).encode()
    broken = whole[:at] + noise + whole[at:]
    try:
        theirs = OUTER[1].FromString(broken)
    except ProtobufError:
        with pytest.raises(DecodeError):
            OUTER[0].decode(broken)
    else:
        assert _same(OUTER[0].decode(broken), theirs)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05ab", "field 1 is broken off"),
        (b"\x0a", "a number is broken off or too long"),
        (b"\xff" * 11, "a number is broken off or too long"),
        (b"\x00\x00", "there is no field 0"),
        (b"\x0f", "field 1 has wire type 7"),
        (b"\x0c", "field 1 has wire type 4"),
        (b"\xa3\x06", "group 100 is broken off"),
        (b"\xa3\x06" * 200, "field 100 has wire type 3"),
        (b"\x0a\x01\xff", "a string is not UTF-8"),
    ],
)
def test_a_message_that_cannot_be_read_says_why(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        OUTER[0].decode(data)


def test_fields_that_a_later_version_has_are_passed_over() -> None:
    later = b"\x98\x06\x01" + b"\xa3\x06\x08\x01\xa4\x06" + b"\xa9\x06" + bytes(8) + b"\x0a\x01x"
    assert OUTER[0].decode(later).text == "x"  # type: ignore[attr-defined]


def test_numbers_are_the_wire_contracts() -> None:
    from launcher_hook.proto import hooks_info as info
    from launcher_hook.proto import hooks_plugins_v1alpha1 as plugins
    from launcher_hook.proto import hooks_v1alpha3 as hooks

    def numbers(message: type[Message]) -> dict[str, int]:
        return {field.name: field.number for field in message.FIELDS}

    assert numbers(info.InfoResult) == {"name": 1, "hookPoints": 3, "versions": 4}
    assert numbers(info.HookPoint) == {"name": 1, "priority": 2}
    assert numbers(hooks.OnDefineDomainParams) == {"domainXML": 1, "vmi": 2}
    assert numbers(hooks.OnDefineDomainResult) == {"domainXML": 1}
    assert numbers(hooks.PreCloudInitIsoParams) == {
        "cloudInitNoCloudSource": 1, "vmi": 2, "cloudInitData": 3,
    }  # fmt: skip
    assert numbers(hooks.PreCloudInitIsoResult) == {"cloudInitNoCloudSource": 1, "cloudInitData": 3}
    assert numbers(plugins.MutateDomainRequest) == {
        "domain_type": 1, "domain": 2, "vmi": 3, "sidecar_context": 4,
    }  # fmt: skip
    assert numbers(plugins.MutateDomainResponse) == {"domain": 1}


def test_numbers_of_the_device_plugin_api_are_kubernetess() -> None:
    from launcher_hook.proto import deviceplugin_v1beta1 as api

    def numbers(message: type[Message]) -> list[tuple[str, int]]:
        return [(field.name, field.number) for field in message.FIELDS]

    for message, names in {
        api.DevicePluginOptions: "pre_start_required get_preferred_allocation_available",
        api.RegisterRequest: "version endpoint resource_name options",
        api.ListAndWatchResponse: "devices",
        api.Device: "ID health topology",
        api.TopologyInfo: "nodes",
        api.NUMANode: "ID",
        api.PreferredAllocationRequest: "container_requests",
        api.ContainerPreferredAllocationRequest: (
            "available_deviceIDs must_include_deviceIDs allocation_size"
        ),
        api.PreferredAllocationResponse: "container_responses",
        api.ContainerPreferredAllocationResponse: "deviceIDs",
        api.AllocateRequest: "container_requests",
        api.ContainerAllocateRequest: "devices_ids",
        api.AllocateResponse: "container_responses",
        api.ContainerAllocateResponse: "envs mounts devices annotations cdi_devices",
        api.Mount: "container_path host_path read_only",
        api.DeviceSpec: "container_path host_path permissions",
        api.CDIDevice: "name",
        api.PreStartContainerRequest: "devices_ids",
    }.items():
        assert numbers(message) == [(n, i) for i, n in enumerate(names.split(), start=1)]
