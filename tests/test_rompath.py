"""Which files a VM's owner may have QEMU read: each way out of the allowed directory is tried."""

from pathlib import Path

import pytest

from launcher_hook.errors import InputError
from launcher_hook.rompath import check_directories, check_rom_file

ROMS = ("/var/run/roms", "/srv/more")


@pytest.mark.parametrize(
    "path", ["/var/run/roms/a.rom", "/var/run/roms/b/c d,e.rom", "/srv/more/x"]
)
def test_a_file_in_an_allowed_directory_is_allowed(path: str) -> None:
    check_rom_file(path, ROMS, "w")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x.rom",
        "var/run/roms/x.rom",
        "./x.rom",
        "/var/run/roms/../../../etc/shadow",
        "/var/run/roms/..",
        "/var/run/roms/./x.rom",
        "/var/run/roms//x.rom",
        "//var/run/roms/x.rom",
        "/var/run/roms/",
        "/var/run/roms/x.rom/",
        "/var/run/roms/x\n.rom",
        "/var/run/roms/x\0.rom",
        "/var/run/roms/\u202ex.rom",
        "/var/run/roms/" + "a/" * 2040 + "abcdefghijklmno",
        "file:///var/run/roms/x.rom",
        "~/x.rom",
        r"C:\roms\x.rom",
    ],
)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="^w: .* is not a plain path; write an absolute path"):
        check_rom_file(path, ROMS, "w")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/var/run/roms",
        "/var/run/romsx.rom",
        "/var/run/roms-of-others/x.rom",
        "/VAR/run/roms/x.rom",
        "/var/run/x/var/run/roms/x.rom",
        "/var/run/%72oms/x.rom",
        "/",
    ],
)
def test_a_file_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="is in no directory that this deployment allows .*srv/mo"):
        check_rom_file(path, ROMS, "w")


def test_nothing_is_allowed_by_default() -> None:
    with pytest.raises(InputError, match=r"allows \(none\); add --rom-dir DIRECTORY to the hook"):
        check_rom_file("/var/run/roms/x.rom", (), "w")


def test_a_link_out_of_the_directory_is_refused_where_it_can_be_seen(tmp_path: Path) -> None:
    roms, secret = tmp_path / "roms", tmp_path / "secret"
    roms.mkdir()
    secret.write_text("")
    (roms / "link.rom").symlink_to(secret)
    (roms / "up").symlink_to("..")
    (roms / "real.rom").write_text("")
    (roms / "inside.rom").symlink_to("real.rom")
    for name in ("link.rom", "up/secret", "up/up/x"):
        with pytest.raises(InputError, match="is a link that leads to .*; put the file itself"):
            check_rom_file(f"{roms}/{name}", [str(roms)], "w")
    for name in ("real.rom", "inside.rom", "not-there.rom"):
        check_rom_file(f"{roms}/{name}", [str(roms)], "w")


def test_an_allowed_directory_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "roms").symlink_to("real")
    (tmp_path / "real/x.rom").write_text("")
    check_rom_file(f"{tmp_path}/roms/x.rom", [f"{tmp_path}/roms"], "w")


@pytest.mark.parametrize("directory", ["", "roms", "/", "/var/../etc", "/roms/", "//roms", "/a\nb"])
def test_a_directory_to_be_allowed_is_plain_and_not_everything(directory: str) -> None:
    with pytest.raises(InputError, match="is no directory to be allowed; write an absolute path"):
        check_directories(["/var/run/roms", directory])


def test_a_plain_directory_is_given_back() -> None:
    assert check_directories(["/var/run/roms", "/opt"]) == ("/var/run/roms", "/opt")
