"""Look through a built image for what must not be in one: build.py does, before anybody gets it."""

import re
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from archive import Entry, Image

CACHES = re.compile(r"/(var/cache|var/lib/apt|var/log|root|home|tmp|\.cache|\.git|wheels)(/|$)")
"""Whose content is left over from a build. Mount points may be there, empty."""

SECRET_NAMES = re.compile(
    r"/(\.netrc|\.pypirc|pip\.conf|\.npmrc|\.git-credentials|\.docker|\.ssh|id_(rsa|ed25519)|"
    r"auth\.json|[^/]+\.(key|p12|pfx))(/|$)"
)
SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|"
    rb"https?://[\w.~%-]+:[\w.~%+=!-]{8,}@[a-z0-9]|"
    rb"\b(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20}|pypi-AgEI\w{20})"
)
"""Keys, addresses with a password, tokens of AWS, GitHub, GitLab, PyPI."""

PROGRAMS = re.compile(r"(ba|da|k|z)?sh|busybox|apt(-get)?|dpkg|pip3?|gcc|cc|ld|wget|curl|sudo|su")


def find_faults(image: Image) -> Iterator[str]:
    """Give each fault: where, and what is wrong."""
    for name, entry in sorted(image.entries.items()):
        for fault in _faults_of(entry):
            yield f"{name}: {fault}"
    settings = image.document.get("config", {})
    if settings.get("User", "").split(":")[0] in ("", "0", "root"):
        yield f"configuration: it runs as {settings.get('User')!r}; give it a user"
    if SECRETS.search(repr(image.document).encode()):
        yield "configuration: there is a secret in it, or in the history of the build"


def _faults_of(entry: Entry) -> Iterator[str]:
    info, name = entry.info, entry.name
    if info.uid or info.gid:
        yield f"it belongs to {info.uid}:{info.gid}, and not to root"
    if not (info.isfile() or info.isdir() or info.issym() or info.islnk()):
        yield "it is neither file nor directory nor link"
    if not info.issym():
        if info.mode & (stat.S_ISUID | stat.S_ISGID):
            yield f"it is setuid or setgid ({info.mode:o})"
        if info.mode & stat.S_IWOTH:
            yield f"everybody may write it ({info.mode:o})"
        elif info.mode & stat.S_IWGRP:
            yield f"its group may write it ({info.mode:o})"
    if any(key.startswith(("SCHILY.xattr.security.capability",)) for key in info.pax_headers):
        yield "it has capabilities"
    if CACHES.search(name) and not info.isdir():
        yield "it is left over from a build"
    if SECRET_NAMES.search(name) or SECRETS.search(entry.content):
        yield "it looks like a secret"
    if info.mode & stat.S_IXUSR and not info.isdir() and _is_program(name):
        yield "nothing in the image needs this program"


def _is_program(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parent.name in ("bin", "sbin") and PROGRAMS.fullmatch(path.name) is not None
