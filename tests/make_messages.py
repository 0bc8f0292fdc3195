"""Makes the message classes of launcher_hook/proto from its .proto files: ``make proto``.

protoc reads the files; what it makes of them for the protobuf package is too heavy for a hook's
container (launcher_hook/proto/wire.py), so that we print classes of our own from its description.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

PROTO = Path(__file__).parent.parent / "launcher_hook" / "proto"
PROTOS = sorted(PROTO.glob("*.proto"))

_KINDS = {
    FieldDescriptorProto.TYPE_BYTES: ("bytes", "bytes", 'b""'),
    FieldDescriptorProto.TYPE_STRING: ("string", "str", '""'),
    FieldDescriptorProto.TYPE_BOOL: ("bool", "bool", "False"),
    FieldDescriptorProto.TYPE_INT32: ("int32", "int", "0"),
    FieldDescriptorProto.TYPE_INT64: ("int64", "int", "0"),
}


def describe(proto: Path, scratch: Path) -> FileDescriptorProto:
    """What protoc understands of a file."""
    out = scratch / f"{proto.stem}.pb"
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-I{proto.parent}",
            f"-I{well_known}",
            f"--descriptor_set_out={out}",
            proto.name,
        ]
    )
    assert status == 0, f"{proto}: protoc refuses it"
    return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def module_text(file: FileDescriptorProto) -> str:
    """The module for one file; its messages in the file's order, used ones first."""
    messages = list(_used_first(file))
    body = [line for message in messages for line in _class_lines(message)]
    lists = any("Iterable" in line for line in body)
    maps = any("Mapping" in line for line in body)
    kinds = [name for name, used in (("Iterable", lists), ("Mapping", maps)) if used]
    head = [f'"""Made from {file.name} by ``make proto``: change that, not this."""', ""]
    if kinds:
        head += [f"from collections.abc import {', '.join(kinds)}", ""]
    fields = any(message.field for message in messages)
    head += [f"from launcher_hook.proto.wire import {'Field, ' if fields else ''}Message"]
    return "\n".join([*head, *body]) + "\n"


def _used_first(file: FileDescriptorProto) -> Iterator[DescriptorProto]:
    waiting = {f".{file.package}.{message.name}": message for message in file.message_type}
    while waiting:
        ready = (n for n, m in waiting.items() if not any(f.type_name in waiting for f in m.field))
        yield waiting.pop(next(ready))  # StopIteration: a message that holds itself


def _class_lines(message: DescriptorProto) -> list[str]:
    fields = sorted(message.field, key=lambda field: field.number)
    lines = ["", "", f"class {message.name}(Message):"]
    if not fields:
        return [*lines, "    __slots__ = ()"]
    comma = "," if len(fields) == 1 else ""
    names = ", ".join(f'"{field.name}"' for field in fields)
    lines += [f"    __slots__ = ({names}{comma})", "    FIELDS = ("]
    parameters, body = [], []
    for field in fields:
        kind, hint, default = _kind(field)
        repeated = field.label == FieldDescriptorProto.LABEL_REPEATED and kind != '"map"'
        more = ", repeated=True" if repeated else ""
        lines.append(f'        Field({field.number}, "{field.name}", {kind}{more}),')
        value, attribute = field.name, ""
        if repeated:
            hint, default, value, attribute = (
                f"Iterable[{hint}]", "()", f"list({value})", f": list[{hint}]",
            )  # fmt: skip
        elif kind == '"map"':
            default, value, attribute = "()", f"dict({value})", ": dict[str, str]"
            hint = "Mapping[str, str] | Iterable[tuple[str, str]]"
        parameters.append(f"        {field.name}: {hint} = {default},")
        body.append(f"        self.{field.name}{attribute} = {value}")
    return [*lines, "    )", "", "    def __init__(", "        self,", *parameters,
            "    ) -> None:", *body]  # fmt: skip


def _kind(field: FieldDescriptorProto) -> tuple[str, str, str]:
    """Give ``Field.kind``, the type's name and the default, as they are printed."""
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        name = field.type_name.rpartition(".")[2]
        if name.endswith("Entry"):
            return '"map"', "", ""
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return name, name, ""
        return name, f"{name} | None", "None"
    kind, hint, default = _KINDS[field.type]
    return f'"{kind}"', hint, default


def main() -> int:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        for proto in PROTOS:
            path = proto.with_suffix(".py")
            path.write_text(module_text(describe(proto, Path(scratch))))
            print(f"{path.name} from {proto.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
