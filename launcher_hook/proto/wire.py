"""Protocol Buffers' wire format, as far as the launcher's and kubelet's messages use it.

The protobuf package takes 70 ms of CPU to load and 7 MB, a quarter of what a hook's container has
to start with and a tenth of its memory, for a dozen messages of bytes and strings. The message
classes beside this module are made from the .proto files (``make proto``); tests/test_proto.py
compares them with protobuf itself, in both directions.

Source: https://protobuf.dev/programming-guides/encoding/. proto3 only; packed numbers, enums,
floats and oneofs are in none of the protocols.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Self

_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)

# Ten bytes of seven bits; what is above 64 bits is cut off.
_VARINT_BYTES = 10
_UINT64 = (1 << 64) - 1

# protobuf's own limit of nesting; groups are the one thing that nests without a type of ours.
_MAX_DEPTH = 100

_WIRE_TYPES = {"bool": _VARINT, "int32": _VARINT, "int64": _VARINT}


class DecodeError(ValueError):
    """The bytes are no such message; the text says why."""


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        kind: ``bytes``, ``string``, ``bool``, ``int32``, ``int64``, ``map`` (of string to string),
            or the class of a message.
        repeated: Whether it is a list. A map is none.
    """

    number: int
    name: str
    kind: "str | type[Message]"
    repeated: bool = False

    @property
    def wire_type(self) -> int:
        """How its value stands on the wire."""
        return _WIRE_TYPES.get(self.kind, _LENGTH) if isinstance(self.kind, str) else _LENGTH


class Message:
    """A message; its class has an attribute a field. Field order is number order.

    An attribute that was not on the wire has proto3's default: empty, 0, False; a message that was
    not there is None.
    """

    __slots__ = ()
    FIELDS: ClassVar[tuple[Field, ...]] = ()

    def encode(self) -> bytes:
        """Give the wire form; equal messages have equal bytes."""
        out = bytearray()
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if field.kind == "map":
                for item in sorted(value.items()):
                    _put_bytes(out, field.number, _encode_entry(item))
            elif field.repeated:
                for item in value:
                    _put(out, field, item)
            elif value if isinstance(field.kind, str) else value is not None:
                _put(out, field, value)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the wire form; fields that the class does not have are passed over.

        Raises:
            DecodeError: It is broken off, or no wire form at all.
        """
        message = cls()
        message._merge(data)
        return message

    def _merge(self, data: bytes) -> None:
        fields = {field.number: field for field in self.FIELDS}
        for number, wire_type, value in _read_fields(data):
            field = fields.get(number)
            if field is None or field.wire_type != wire_type:
                continue
            if field.kind == "map":
                key, text = _decode_entry(value)
                getattr(self, field.name)[key] = text
            elif field.repeated:
                getattr(self, field.name).append(_from_wire(field, value, None))
            else:
                setattr(self, field.name, _from_wire(field, value, getattr(self, field.name)))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in self.FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = (f"{field.name}={getattr(self, field.name)!r}" for field in self.FIELDS)
        return f"{type(self).__name__}({', '.join(values)})"


def _put(out: bytearray, field: Field, value: Any) -> None:
    if isinstance(value, Message | str):
        _put_bytes(out, field.number, value.encode())
    elif field.wire_type == _LENGTH:
        _put_bytes(out, field.number, value)
    else:
        _put_varint(out, field.number << 3 | _VARINT)
        _put_varint(out, int(value) & _UINT64)


def _put_bytes(out: bytearray, number: int, value: bytes) -> None:
    _put_varint(out, number << 3 | _LENGTH)
    _put_varint(out, len(value))
    out += value


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


# A map is a list of messages, each with a key and a value.
_KEY, _VALUE = Field(1, "key", "string"), Field(2, "value", "string")


def _encode_entry(item: tuple[str, str]) -> bytes:
    out = bytearray()
    _put(out, _KEY, item[0])
    _put(out, _VALUE, item[1])
    return bytes(out)


def _decode_entry(data: bytes) -> tuple[str, str]:
    entry = {1: "", 2: ""}
    for number, wire_type, value in _read_fields(data):
        if number in entry and wire_type == _LENGTH:
            entry[number] = _text(value)
    return entry[1], entry[2]


def _from_wire(field: Field, value: Any, present: Any) -> Any:
    """Make an attribute's value; a message that comes in two parts is put together."""
    kind = field.kind
    if not isinstance(kind, str):
        message = kind() if present is None else present
        message._merge(value)
        return message
    match kind:
        case "string":
            return _text(value)
        case "bool":
            return value != 0
        case "int32" | "int64":
            bits = int(kind.removeprefix("int"))
            value &= (1 << bits) - 1
            return value - (1 << bits) if value >> (bits - 1) else value
        case _:
            return value


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"a string is not UTF-8: {error}") from None


def _read_fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Give number, wire type and value of each field; groups are passed over."""
    at, end = 0, len(data)
    groups: list[int] = []
    while at < end:
        key, at = _read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        value: Any = None
        if not 0 < number < 1 << 29:
            raise DecodeError(f"there is no field {number}")
        if wire_type == _VARINT:
            value, at = _read_varint(data, at)
        elif wire_type == _LENGTH:
            length, at = _read_varint(data, at)
            value = data[at : at + length]
            at += length
        elif wire_type in (_FIXED64, _FIXED32):
            at += 8 if wire_type == _FIXED64 else 4
        elif wire_type == _GROUP and len(groups) < _MAX_DEPTH:
            groups.append(number)
        elif wire_type == _END_GROUP and groups and groups[-1] == number:
            groups.pop()
        else:
            raise DecodeError(f"field {number} has wire type {wire_type}")
        if at > end:
            raise DecodeError(f"field {number} is broken off")
        if not groups:
            yield number, wire_type, value
    if groups:
        raise DecodeError(f"group {groups[-1]} is broken off")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & _UINT64, at + index + 1
    raise DecodeError("a number is broken off or too long")
