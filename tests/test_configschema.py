"""What an editor is told of the configuration is what the program takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from launcher_hook.cli import main
from launcher_hook.config import read_settings
from launcher_hook.configkeys import KEYS
from launcher_hook.configschema import describe_configuration
from launcher_hook.devicekeys import DEVICE_KEYS
from launcher_hook.deviceplugin.configfile import describe_file, read_selection
from launcher_hook.errors import InputError

REPOSITORY = Path(__file__).parent.parent
CONFIGURATION = Draft202012Validator(describe_configuration())
PLUGIN = Draft202012Validator(describe_file())


def is_taken(document: Any) -> bool:
    try:
        read_settings(("f.yaml", json.dumps(document).encode()))
    except InputError:
        return False
    return True


def words(schema: Any) -> set[Any]:
    """Every word that a schema names, and some like them."""
    found = set(schema.get("enum", ())) if isinstance(schema, dict) else set()
    inner = schema.values() if isinstance(schema, dict) else ()
    return found.union(*(words(value) for value in inner if isinstance(value, dict)))


VALUES = st.one_of(
    st.sampled_from(sorted(words(describe_configuration()), key=str)),
    st.sampled_from(["Auto", "1", "off", "512G", "0000:00:08.0", "00:08.0", "0000:00:28.0", ""]),
    st.sampled_from([None, 1, [], {}]),
    st.dictionaries(
        st.sampled_from(["gpu0", "0000:86:00.0"]),
        st.sampled_from(
            ["0000:00:08.0", "0000:00:1F.7", "0000:00:20.0", "0000:00:08.8", "00:08.0", 8, None]
        ),
        max_size=2,
    ),
)


OPTION_VALUES = ["on", "off", "yes", "vfio", "1", 0, 1, 16, 70000, True, None, "0-1", "0-"]
OPTION_MAPPINGS: list[dict[str, Any]] = [
    {}, {"bar": "on"}, {"bar": "yes"}, {"file": "/a"}, {"file": "a"}, {"Bar": "on"},
    {"name": "vfio", "iommufd": "no"}, {"model": "mlx5_vfio_pci"}, {"model": "a b"},
]  # fmt: skip


@given(st.dictionaries(st.sampled_from([*KEYS, "lay-out"]), VALUES, max_size=3))
@example({"strict": True})
@example({"pciHole64": "512GiB"})
@example({"pciHole64": "64 gib"})
@example({"pciHole64": "64"})
@example({"pciHole64": "64Gb", "devices": {}})
@example({"pciHole64": "1 byte"})
@example({"pciHole64": "64 GiBs"})
@example({"layout": "mirror", "strict": "true", "slots": {"gpu0": "0000:00:08.0"}})
def test_an_editor_and_the_program_agree_on_what_is_right(document: dict[str, Any]) -> None:
    assert CONFIGURATION.is_valid(document) == is_taken(document), document


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.sampled_from(OPTION_VALUES), st.sampled_from(OPTION_MAPPINGS))
        for name in [*DEVICE_KEYS, "bootorder"]
    },
)


@given(st.dictionaries(st.sampled_from(["gpu0", "0000:86:00.1"]), OPTIONS, max_size=2))
@example({"gpu0": {"bootOrder": 1, "acpiNodeset": 0, "rom": {"bar": "off"}}})
@example({"gpu0": {"bootOrder": "1", "acpiNodeset": "0-1,3", "driver": {"iommufd": "yes"}}})
@example({"gpu0": None})
def test_an_editor_and_the_program_agree_on_options_of_devices(devices: dict[str, Any]) -> None:
    document = {"devices": devices}
    assert CONFIGURATION.is_valid(document) == is_taken(document), document


def test_every_key_says_what_it_takes_and_what_holds_without_it() -> None:
    Draft202012Validator.check_schema(describe_configuration())
    properties = describe_configuration()["properties"]
    assert properties.keys() == KEYS.keys()
    for name, schema in properties.items():
        assert schema.keys() > {"description", "default"}, f"{name}: give its Key a schema"
        assert CONFIGURATION.is_valid({name: schema["default"]}), name


def test_an_empty_file_is_right() -> None:
    assert CONFIGURATION.is_valid(yaml.safe_load(""))


def plugin_takes(document: dict[str, Any]) -> bool:
    try:
        read_selection(json.dumps(document).encode(), "f.yaml")
    except InputError:
        return False
    return True


PCI = {"pciVendorSelector": "10DE:1F08", "resourceName": "nvidia.com/X"}


@pytest.mark.parametrize(
    "document",
    [
        {"pciHostDevices": [PCI]},
        {"permittedHostDevices": {"pciHostDevices": [PCI], "usb": [{"a": "b"}]}},
        {"selectors": [{"address": "0000:3b:00.0", "numaNode": 1}], "idsPerGroup": "all"},
        {
            "kind": "KubeVirt",
            "spec": {"configuration": {"permittedHostDevices": {"pciHostDevices": [PCI]}}},
            "status": {},
        },
        {"kind": "Pod"},
        {"selector": []},
        {"selectors": [{"adress": "0000:3b:00.0"}]},
        {"selectors": [{"address": "3b:00.0"}]},
        {"pciHostDevices": [{"pciVendorSelector": "10DE:1F08"}]},
        {"permittedHostDevices": {"pciHostDevice": []}},
        {"idsPerGroup": "two"},
        {"kind": "KubeVirt", "idsPerGroup": "two"},
    ],
    ids=json.dumps,
)
def test_an_editor_and_the_device_plugin_agree(document: dict[str, Any]) -> None:
    assert PLUGIN.is_valid(document) == plugin_takes(document)


def test_the_configuration_of_the_manifests_is_right() -> None:
    text = (REPOSITORY / "sidecar-image/manifests/device-plugin/config.yaml").read_text()
    PLUGIN.validate(yaml.safe_load(text))


@pytest.mark.parametrize("options", [[], ["--device-plugin"]], ids=["hook", "device-plugin"])
def test_the_schema_is_printed(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config-schema", *options]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
