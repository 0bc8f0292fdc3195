"""schemas/debian.py: what does not need an archive."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "schemas"))

import debian


@pytest.mark.parametrize(
    ("targets", "archive"),
    [
        (
            "DEP-11|Debian|main|file:/wrong/\n"
            "Packages|Debian-Security|main|file:/security/\n"
            "Packages|Debian|contrib|file:/contrib/\n"
            "Packages|Debian|main|file:/first/\n"
            "Packages|Debian|main|file:/second/\n",
            "file:/first/",
        ),
        ("Packages|Ubuntu|main|file:/ubuntu/\n", None),
        ("", None),
    ],
    ids=["debian", "ubuntu", "no-lists"],
)
def test_archive_is_debians_main(targets: str, archive: str | None) -> None:
    """Security, other components and other distributions do not carry the suites."""
    assert debian.parse_archive(targets) == archive


def test_a_source_is_debians_main_part_under_debians_own_key() -> None:
    signed = f"[signed-by={debian.KEYRING}] " if debian.KEYRING.exists() else ""
    assert debian.deb_line("file:/d/", "trixie") == f"deb {signed}file:/d/ trixie main"
    assert debian.deb_line("file:/d/", "sid", "deb-src") == f"deb-src {signed}file:/d/ sid main"


@pytest.mark.parametrize(
    ("user", "begins"), [(0, ["unshare", "--mount", "mmdebstrap"]), (1000, ["mmdebstrap"])]
)
def test_what_mmdebstrap_mounts_as_root_goes_with_it(
    user: int, begins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, it leaves no mount in the clone; who is not root has no mount to leave."""
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert debian.mmdebstrap("trixie", "/srv") == [*begins, "--quiet", "trixie", "/srv"]


def test_a_download_is_tried_three_times(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    answers = iter([debian.FetchError("no route"), OSError("reset"), None])

    def ask() -> str:
        answer = next(answers)
        if answer is not None:
            raise answer
        return "there"

    assert debian.keep_trying(ask) == "there"
    assert "no route; trying again\napt: reset; trying again" in capfd.readouterr().err
