"""The configuration: its sources in order, and a message for each thing that is not in it."""

from dataclasses import fields

import pytest
from pydantic.alias_generators import to_camel

from launcher_hook.config import PLUGIN_KEYS, read_settings
from launcher_hook.configkeys import KEYS
from launcher_hook.deviceplugin.configfile import PluginConfig
from launcher_hook.errors import InputError
from launcher_hook.keys import setting_of
from launcher_hook.pci import PciAddress
from launcher_hook.settings import DeviceOptions, Settings


def test_without_sources_the_defaults_hold() -> None:
    assert read_settings() == Settings(layout="auto", managed="yes", companions="attach", slots={})


def test_a_later_source_wins_and_slots_are_merged() -> None:
    settings = read_settings(
        ("file", b'layout: root-port\nmanaged: no\nslots: {a: "0000:00:08.0", b: 0000:00:09.0}'),
        ("annotation", '{"layout": "root-bus", "slots": {"b": "0000:00:0a.0"}}'),
        ["companions=ignore", "slots.c=0000:00:0B.0", "slots.0000:86:00.0=0000:40:00.0"],
    )
    assert settings == Settings(
        layout="root-bus",
        managed="no",
        companions="ignore",
        slots={
            "a": PciAddress(0, 0, 8, 0),
            "b": PciAddress(0, 0, 10, 0),
            "c": PciAddress(0, 0, 11, 0),
            "0000:86:00.0": PciAddress(0, 0x40, 0, 0),
        },
    )


def test_options_of_a_device_are_merged_key_by_key() -> None:
    settings = read_settings(
        ("file", b"pciHole64: 64GiB\ndevices: {a: {bootOrder: 1, rom: {bar: on}}}"),
        ("annotation", "devices: {a: {rom: {file: /x}}, b.c: {xVga: off}}"),
        ["devices.a.driver={name: vfio}", "devices.0000:86:00.0.rom.bar=off", "devices.b.c.xVga=on",
         "devices.0000:86:00.1={ramfb: on}", "pciHole64=auto"],
    )  # fmt: skip
    assert settings.pci_hole64 == "auto"
    assert settings.devices == {
        "a": DeviceOptions(boot_order=1, rom_bar="on", rom_file="/x", driver_name="vfio"),
        "b.c": DeviceOptions(x_vga="on"),
        "0000:86:00.0": DeviceOptions(rom_bar="off"),
        "0000:86:00.1": DeviceOptions(ramfb="on"),
    }


@pytest.mark.parametrize(("text", "mib"), [("64GiB", 65536), ("1b", 1), ("64GB", 61036)])
def test_a_hole_has_whole_mib(text: str, mib: int) -> None:
    assert read_settings(assignments=[f"pciHole64={text}"]).pci_hole64 == mib << 20


@pytest.mark.parametrize("content", [b"", b"# only words\n", b"{}"])
def test_an_empty_file_says_nothing(content: bytes) -> None:
    assert read_settings(("file", content)) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compannions=ignore", "compannions: there is no such key; write 'companions'"),
        (
            "zzz=1",
            "zzz: there is no such key; the keys are layout, strict, companions, managed, slots",
        ),
        (
            "layout=rootbus",
            "layout: 'rootbus' is not allowed; write 'auto', 'root-port', 'root-bus'",
        ),
        ("managed=maybe", "managed: 'maybe' is not allowed; write 'yes', 'no' or 'keep'"),
        ("slots=3", "slots: '3' is not a mapping; write e.g. {gpu0: "),
        ("slots.gpu0=0000:00:40.0", "slots.gpu0: PCI slot 0x40 is not in 0 to 0x1f; write domain"),
        ("slots.gpu0=08.0", "slots.gpu0: '08.0' is not a PCI address; write domain:bus:slot"),
        ("slots.gpu0=[1]", r"slots.gpu0: \['1'\] is not a guest address; write domain:bus"),
        ("slots.gpu0=", "slots.gpu0: it is empty; write domain:bus"),
        ("pciHole64=512", "pciHole64: '512' is not a size; write off, auto or a size from 1MiB"),
        ("pciHole64=0G", "pciHole64: '0G' is not allowed; write off, auto or a size"),
        ("pciHole64=16385G", "pciHole64: '16385G' is not allowed; write off, auto or a size"),
        ("pciHole64=[1]", r"pciHole64: \['1'\] is not allowed; write off, auto"),
        ("devices=3", "devices: '3' is not a mapping; write e.g. {gpu0: {bootOrder: 1}}"),
        ("devices={null: {bootOrder: 1}}", "devices: None is no name; write e.g. {gpu0: {boot"),
        ("slots={'': '0000:00:08.0'}", "slots: '' is no name; write e.g. {gpu0: "),
        ("devices.a={null: 1}", "devices.a: None is no name; write e.g. {bootOrder: 1}"),
        ("devices.a=3", "devices.a: '3' is not a mapping; write e.g. {bootOrder: 1}"),
        ("devices.a.rom=3", "devices.a: rom: '3' is not a mapping; write e.g. {bar: off}"),
        ("devices.a.bootorder=1", "devices.a: bootorder: there is no such key; write 'bootOrder'"),
        ("devices.a.rom.fil=/x", "devices.a: rom: fil: there is no such key; write 'file'"),
        ("devices.a.rom.file=x", "rom: file: 'x' is not allowed; write an absolute path"),
        ("devices.a.rom.bar=yes", "rom: bar: 'yes' is not allowed; write 'on' or 'off'"),
        ("devices.a.bootOrder=0", "bootOrder: '0' is not allowed; write a number from 1 to 65535"),
        ("devices.a.bootOrder=0x1", "bootOrder: '0x1' is not allowed; write a number from 1"),
        ("devices.a.p2pClique=16", "p2pClique: '16' is not allowed; write a number from 0 to 15"),
        ("devices.a.driver.name=kvm", "driver: name: 'kvm' is not allowed; write 'vfio'"),
        ("devices.a.driver.model=a/b", "driver: model: 'a/b' is not allowed; write a driver's"),
        ("devices.a.driver.iommufd=on", "driver: iommufd: 'on' is not allowed; write 'yes' or"),
        ("devices.a.acpiNodeset=1-", "acpiNodeset: '1-' is no set of NUMA cells; write e.g. 0-1"),
        ("devices.a.acpiNodeset=", "acpiNodeset: it is empty; write e.g. 0-1"),
        ("devices.gpu0=", "devices.gpu0: it is empty; write e.g. {bootOrder: 1}"),
        ("layout=", "layout: it is empty; write 'auto', 'root-port'"),
        ("strict=", "strict: it is empty; write true or false"),
        ("devices.a.bootOrder=", "bootOrder: it is empty; write a number from 1 to 65535"),
        ("layout", "'layout' is not key=value; write e.g. --set layout=root-bus"),
        ("=x", "is not key=value"),
        ("slots.=x", "is not key=value"),
        ("layout=!!int ''", "it is not YAML: .*could not determine a constructor"),
        ("layout=!!bool foo", "it is not YAML"),
        ("layout=[", "it is not YAML: .*; mend the YAML"),
    ],
)
def test_a_wrong_assignment_is_refused_with_what_is_right(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"--set .*{message}"):
        read_settings(assignments=[text])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"just words", "cfg: 'just words' is not a mapping; write lines of 'key: value'"),
        (b"- a", r"cfg: \['a'\] is not a mapping"),
        (b"a: &x 1\nb: *x", "aliases .* are not taken; write the value out"),
        (b"\xff", "cfg: it is not YAML"),
        (
            b"layout: numa\nslots: {a\n",
            "cfg: it is not YAML: while parsing a flow mapping, expected ',' or '}', but got "
            "'<stream end>', in line 3, column 1; mend the YAML$",
        ),
        (
            b"apiVersion: kubevirt.io/v1\nkind: VirtualMachine",
            "cfg: it is a manifest of kind 'VirtualMachine', not the hook's configuration; give a "
            "VMI by --vmi; the keys here are layout, strict",
        ),
        (b"devices: {gpu0: }", "cfg: devices.gpu0: it is empty; write e.g. {bootOrder: 1}"),
        (b" " * (1024 * 1024 + 1), "cfg: it has 1048577 bytes; give a configuration below 1 MiB"),
    ],
    ids=["words", "list", "alias", "encoding", "place", "manifest", "empty", "size"],
)
def test_a_file_that_is_no_configuration_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(("cfg", content))


@pytest.mark.parametrize("key", [*PLUGIN_KEYS, "kind"])
def test_the_device_plugins_configuration_is_called_what_it_is(key: str) -> None:
    with pytest.raises(
        InputError,
        match=f"cfg: {key}: that is the device plugin's configuration, not the hook's; give it to "
        "device-plugin, discover or doctor --plugin-config; the keys here are layout, strict",
    ):
        read_settings(("cfg", f"layout: auto\n{key}: KubeVirt".encode()))


def test_the_device_plugins_keys_are_those_that_it_has() -> None:
    assert set(PLUGIN_KEYS) == {"permittedHostDevices", *map(to_camel, PluginConfig.model_fields)}


def test_each_key_is_a_setting_and_described() -> None:
    assert {setting_of(key) for key in KEYS} == {field.name for field in fields(Settings)}
    assert all(key.meaning.endswith(".") for key in KEYS.values())


def test_a_source_that_was_wrong_is_read_again() -> None:
    for _ in range(2):
        with pytest.raises(InputError, match="cfg: layout: 'x' is not allowed"):
            read_settings(("cfg", b"layout: x"))


def test_an_annotation_that_would_fill_a_hooks_container_is_refused_unread() -> None:
    with pytest.raises(InputError, match="annotation: it has 200001 characters; give at most"):
        read_settings(annotation=("annotation", "[" + "a," * 100_000))


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "false", "False", "FALSE"])
def test_a_boolean_may_have_each_of_yamls_spellings(text: str) -> None:
    """An editor that goes by the published schema takes them all."""
    assert read_settings(("f", f"strict: {text}".encode())).strict is (text.lower() == "true")


@pytest.mark.parametrize("text", ["tRue", "yes", "on", "1", "y"])
def test_what_is_no_boolean_of_yaml_is_none_here(text: str) -> None:
    with pytest.raises(InputError, match="strict: .* is not allowed; write true or false"):
        read_settings(("f", f"strict: {text}".encode()))


@pytest.mark.parametrize(
    "text",
    [
        "layout: numa\nlayout: mirror",
        '{"layout": "numa", "layout": "numa"}',
        "slots:\n  gpu0: 0000:18:00.0\n  gpu0: 0000:19:00.0",
        "devices: {gpu0: {bootOrder: 1, bootOrder: 2}}",
    ],
)
def test_a_key_that_is_written_twice_is_refused(text: str) -> None:
    """YAML's reader would take the last one without a word."""
    with pytest.raises(
        InputError, match=r"^f: it is not YAML: key '\w+' is written twice, in line"
    ):
        read_settings(("f", text.encode()))
