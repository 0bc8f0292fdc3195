"""The files of a pod's claims: where each entry's is, and what is refused."""

import os
from pathlib import Path

import pytest
from metadata import MDEV, NEWEST, OLDER, PCI, both, device, write

from launcher_hook.claims.directory import DIRECTORY, MAX_FILES, read_directory
from launcher_hook.claims.metadata import MAX_METADATA_BYTES
from launcher_hook.errors import InputError
from launcher_hook.model import ClaimRequest, DeviceRequest, EntryDevice, HostSource, PodClaim
from launcher_hook.pci import PciAddress

A, B = (PciAddress.parse(f"0000:{bus}:00.0") for bus in ("86", "af"))
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
CLAIM, TEMPLATE = PodClaim(claim="shared"), PodClaim(template="t")


def entry(claim: str = "c", request: str = "gpu", index: int = 0) -> DeviceRequest:
    return DeviceRequest(
        "gpu", f"g{index}", None, f"gpus[{index}]", claim=ClaimRequest(claim, request)
    )


def gpus(name: str = "gpu", source: HostSource = A) -> bytes:
    return both({name: [device(**{PCI if isinstance(source, PciAddress) else MDEV: str(source)})]})


def read(base: Path, *requests: DeviceRequest, **claims: PodClaim) -> dict[str, EntryDevice]:
    return read_directory(base, requests or [entry()], claims)


def source(base: Path, request: DeviceRequest, **claims: PodClaim) -> HostSource | None:
    return read(base, request, **claims)[request.path].source


def test_a_claim_is_found_by_its_own_name_and_that_of_a_template_by_the_pods(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, "resourceclaims/shared/gpu", gpus())
    write(tmp_path, "resourceclaimtemplates/c/gpu", gpus(source=UUID))
    told = EntryDevice(A, str(file), versions=(NEWEST, OLDER))
    assert read(tmp_path, entry("c"), c=CLAIM) == {"gpus[0]": told}
    assert source(tmp_path, entry("c"), c=TEMPLATE) == UUID


def test_entries_that_share_a_claim_have_a_file_for_each_request(tmp_path: Path) -> None:
    write(tmp_path, "resourceclaims/shared/one", gpus("one"))
    write(tmp_path, "resourceclaims/shared/two", gpus("two", B))
    found = read(tmp_path, entry(request="one"), entry(request="two", index=1), c=CLAIM)
    assert [each.source for each in found.values()] == [A, B]


def test_a_request_may_have_been_met_by_a_subrequest(tmp_path: Path) -> None:
    """Its file has the request's name, and in it stands request/subrequest."""
    write(tmp_path, "resourceclaimtemplates/c/gpu", gpus("gpu/large"))
    assert source(tmp_path, entry(request="gpu"), c=TEMPLATE) == A
    assert source(tmp_path, entry(request="gpu/large"), c=TEMPLATE) == A
    with pytest.raises(InputError, match="it has no request 'gpu/small'; there is 'gpu/large'"):
        read(tmp_path, entry(request="gpu/small"), c=TEMPLATE)


def test_a_claim_that_the_vmi_does_not_list_may_be_of_either_kind(tmp_path: Path) -> None:
    write(tmp_path, "resourceclaims/c/gpu", gpus())
    write(tmp_path, "resourceclaimtemplates/d/gpu", gpus(source=B))
    assert (source(tmp_path, entry("c")), source(tmp_path, entry("d"))) == (A, B)


def test_the_directory_may_be_the_one_above(tmp_path: Path) -> None:
    write(tmp_path / "dra-device-attributes", "resourceclaims/c/gpu", gpus())
    assert source(tmp_path, entry()) == A


def test_entries_of_resources_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "resourceclaims").mkdir()
    assert read(tmp_path, DeviceRequest("gpu", "g", "x/A", "gpus[0]")) == {}


def test_an_entry_without_a_file_is_refused_where_its_device_is_needed(tmp_path: Path) -> None:
    (tmp_path / "resourceclaims").mkdir()
    found = read(tmp_path, entry(), entry("d", index=1), c=CLAIM)
    assert all(each.source is None for each in found.values())
    assert str(found["gpus[0]"].fault) == (
        f"gpus[0] ('g0'): there is no {tmp_path}/resourceclaims/shared/gpu/*-metadata.json; give a "
        f"copy of {DIRECTORY} of the compute container, or name the device by --device "
        "g0=0000:3b:00.0; a driver that writes no such file does not work with KubeVirt 1.8 and "
        "newer"
    )
    assert "and spec.resourceClaims has no 'd'; " in str(found["gpus[1]"].fault)


def test_links_within_the_directory_are_followed(tmp_path: Path) -> None:
    """As kubelet writes what it projects: a link to a directory that it replaces at once."""
    file = write(tmp_path, "resourceclaims/..data/c/gpu", gpus())
    (tmp_path / "resourceclaims/c").symlink_to("..data/c")
    assert source(tmp_path, entry()) == A
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert source(tmp_path, entry()) == A


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real", "resourceclaims/c/gpu", gpus())
    (tmp_path / "link").symlink_to("real")
    assert source(tmp_path / "link", entry()) == A


def test_no_link_leads_out_of_the_directory(tmp_path: Path) -> None:
    base = tmp_path / "copy"
    file = write(base, "resourceclaims/c/gpu", gpus())
    outside = tmp_path / "outside"
    file.rename(outside)
    file.symlink_to(outside)
    with pytest.raises(
        InputError, match=f"gpu.example.com-metadata.json: it is a link out of {base}; "
    ):
        read(base)


@pytest.mark.parametrize(
    ("claim", "request_", "pod_claim"),
    [("..", "gpu", TEMPLATE), ("c", "..", TEMPLATE), ("a/b", "gpu", None), ("c", "\0", None),
     ("c", "gpu", PodClaim(claim="../../etc")), (".hidden", "gpu", None), ("c", "x" * 254, None)],
)  # fmt: skip
def test_no_name_of_the_vmi_leads_out_of_the_directory(
    tmp_path: Path, claim: str, request_: str, pod_claim: PodClaim | None
) -> None:
    (tmp_path / "resourceclaims").mkdir()
    claims = {} if pod_claim is None else {claim: pod_claim}
    with pytest.raises(InputError, match="is no name of Kubernetes'; write its name"):
        read_directory(tmp_path, [entry(claim, request_)], claims)


def test_an_entry_without_a_request_is_refused(tmp_path: Path) -> None:
    (tmp_path / "resourceclaims").mkdir()
    with pytest.raises(InputError, match="it has no requestName; write the name of the claim's"):
        read(tmp_path, entry(request=""))


def test_more_than_one_driver_for_a_request_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "resourceclaims/shared/gpu", gpus())
    write(tmp_path, "resourceclaims/shared/gpu", gpus(), driver="a.example.com")
    files = "resourceclaims/shared/gpu/a.example.com-metadata.json, resourceclaims/shared/gpu/gpu"
    message = f"there are 2 metadata files for its request: {files}"
    with pytest.raises(InputError, match=message):
        read(tmp_path, c=CLAIM)


def test_files_of_other_names_are_none(tmp_path: Path) -> None:
    write(tmp_path, "resourceclaims/shared/gpu", gpus())
    (tmp_path / "resourceclaims/shared/gpu/notes.txt").write_text("?")
    assert source(tmp_path, entry(), c=CLAIM) == A


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    file = write(tmp_path, "resourceclaims/c/gpu", b"")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match="it is no regular file"):
        read(tmp_path)


def test_a_file_of_any_size_and_a_directory_of_any_number_end_soon(tmp_path: Path) -> None:
    file = write(tmp_path, "resourceclaims/c/gpu", b" " * (MAX_METADATA_BYTES + 1))
    with pytest.raises(InputError, match="it is larger than 2097152 bytes"):
        read(tmp_path)
    for number in range(2 * MAX_FILES):
        (file.parent / f"{number}-metadata.json").touch()
    with pytest.raises(InputError, match=f"there are {MAX_FILES} metadata files for its request"):
        read(tmp_path)


def test_a_directory_that_is_not_there_or_is_another_is_refused(tmp_path: Path) -> None:
    fix = f"give a copy of {DIRECTORY} of the compute container"
    with pytest.raises(InputError, match=f"--dra-metadata .*/x: there is no such directory; {fix}"):
        read(tmp_path / "x")
    with pytest.raises(
        InputError, match="it has neither resourceclaims nor resourceclaimtemplates"
    ):
        read(tmp_path)
