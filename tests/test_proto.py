"""The generated code is what protoc makes of our .proto files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROTOS = sorted((ROOT / "launcher_hook" / "proto").glob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=lambda proto: proto.stem)
def test_the_generated_code_is_protocs(proto: Path, tmp_path: Path) -> None:
    name = proto.relative_to(ROOT)
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"--python_out={tmp_path}",
         f"--pyi_out={tmp_path}", str(name)],
        cwd=ROOT, check=True,
    )  # fmt: skip
    for suffix in ("_pb2.py", "_pb2.pyi"):
        made = tmp_path / name.with_name(proto.stem + suffix)
        assert made.read_text() == (ROOT / name.with_name(proto.stem + suffix)).read_text()


def test_numbers_are_the_wire_contracts() -> None:
    from launcher_hook.proto import hooks_info_pb2 as info
    from launcher_hook.proto import hooks_plugins_v1alpha1_pb2 as plugins
    from launcher_hook.proto import hooks_v1alpha3_pb2 as hooks

    def numbers(message: object) -> dict[str, int]:
        return {field.name: field.number for field in message.DESCRIPTOR.fields}  # type: ignore[attr-defined]

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
