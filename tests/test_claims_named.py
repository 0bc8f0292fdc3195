"""The devices that a user names for entries, beside those that others tell."""

from pathlib import Path

import pytest
from metadata import PCI, both, device, write

from launcher_hook.claims.named import NamedDevice, name_devices, parse_device
from launcher_hook.claims.sources import read_devices
from launcher_hook.errors import InputError
from launcher_hook.model import ClaimRequest, DeviceRequest, EntryDevice
from launcher_hook.pci import PciAddress

A, B = (PciAddress.parse(f"0000:{bus}:00.0") for bus in ("86", "af"))
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
OF_CLAIM = DeviceRequest("gpu", "g", None, "gpus[0]", claim=ClaimRequest("c", "r"))
OF_RESOURCE = DeviceRequest("hostdevice", "h", "x/A", "hostDevices[0]")
REQUESTS = [OF_CLAIM, OF_RESOURCE]


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("g=0000:86:00.0", "g", A),
        ("g=0000:AF:00.0", "g", B),
        (f"g={UUID.upper()}", "g", UUID),
        ("a=b=0000:86:00.0", "a=b", A),
    ],
)
def test_an_option_is_a_name_and_an_address_or_a_uuid(
    text: str, name: str, source: PciAddress | str
) -> None:
    assert parse_device(text) == NamedDevice(name, source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "g",
            "--device 'g': it is not NAME=ADDRESS or NAME=UUID; write --device gpu0=0000:3b:00.0",
        ),
        ("=0000:86:00.0", "it is not NAME=ADDRESS"),
        ("g=", "'' is not a UUID; write e.g. 4b20d080"),
        ("g=86:00.0", "'86:00.0' is not a PCI address; write domain:bus:slot.function"),
        ("g=0000:86:20.0", "PCI slot 0x20 is not in 0 to 0x1f; write --device gpu0="),
    ],
)
def test_what_is_neither_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_device(text)


@pytest.mark.parametrize("name", ["g", "dra-gpu-g", "ua-dra-gpu-g"])
def test_an_entry_is_named_by_its_name_or_its_alias(name: str) -> None:
    found = name_devices([NamedDevice(name, A)], REQUESTS, {})
    assert found == {"gpus[0]": EntryDevice(A, f"--device {name}=0000:86:00.0", is_demand=True)}


def test_a_name_goes_before_an_alias() -> None:
    of_that_name = DeviceRequest("gpu", "dra-gpu-g", "x/A", "gpus[1]")
    found = name_devices([NamedDevice("dra-gpu-g", A)], [OF_CLAIM, of_that_name], {})
    assert list(found) == ["gpus[1]"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([NamedDevice("x", A)], "--device x=0000:86:00.0: no entry of gpus or hostDevices is named "
         "'x'; write one of 'g', 'h'$"),
        ([NamedDevice("g", A), NamedDevice("dra-gpu-g", A)], "--device dra-gpu-g=0000:86:00.0: "
         "--device g=0000:86:00.0 is for the same entry; leave one of them out"),
        ([NamedDevice("h", A)], r"--device h=0000:86:00.0: status says that hostDevices\[0\] has "
         "0000:af:00.0; leave one of them out"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused(named: list[NamedDevice], message: str) -> None:
    others = {"hostDevices[0]": EntryDevice(B, "status")}
    with pytest.raises(InputError, match=message):
        name_devices(named, REQUESTS, others)


def test_a_name_of_two_entries_is_refused_with_their_aliases() -> None:
    twin = DeviceRequest("gpu", "g", "x/A", "gpus[1]")
    with pytest.raises(InputError, match=r"'g' is the name of gpus\[0\] and of gpus\[1\]; write "
                       "dra-gpu-g or gpu-g instead"):  # fmt: skip
        name_devices([NamedDevice("g", A)], [OF_CLAIM, twin], {})


def test_without_entries_the_vmi_is_asked_for() -> None:
    with pytest.raises(InputError, match="is named 'g'; give the VMI that has it by --vmi"):
        name_devices([NamedDevice("g", A)], [], {})


def test_metadata_goes_before_the_status_and_the_option_must_agree(tmp_path: Path) -> None:
    write(tmp_path, "resourceclaims/c/r", both({"r": [device(**{PCI: str(A)})]}))
    reported = {"gpus[0]": EntryDevice(B, "status")}
    found = read_devices([], tmp_path, REQUESTS, {}, reported)
    assert found["gpus[0]"].source == A
    assert read_devices([f"g={A}"], tmp_path, REQUESTS, {}, reported)["gpus[0]"].is_demand
    with pytest.raises(InputError, match=r"metadata.json says that gpus\[0\] has 0000:86:00.0"):
        read_devices([f"g={B}"], tmp_path, REQUESTS, {}, reported)


def test_the_status_stands_in_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "resourceclaims").mkdir()
    reported = {"gpus[0]": EntryDevice(B, "status")}
    assert read_devices([], tmp_path, REQUESTS, {}, reported) == reported
    assert read_devices([], tmp_path, REQUESTS, {}, {})["gpus[0]"].fault is not None
    assert read_devices([f"g={A}"], tmp_path, REQUESTS, {}, {})["gpus[0]"].source == A
