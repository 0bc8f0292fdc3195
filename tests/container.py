"""Run a program as a container runtime does, with a root file system of its own; as root.

``python tests/container.py ROOT [--user N] [--bind SOURCE:TARGET]... -- PROGRAM ARGUMENT...``

Mounts of its own; ROOT read-only; /dev with four devices, /proc and /sys read-only; one user and
its group, 107 unless said, with no other group; no capability in any set, and none to be had. The
program replaces this process, so that its number is the one that the caller knows.
"""

import argparse
import ctypes
import os
import subprocess
from pathlib import Path

DEVICES = ("null", "zero", "random", "urandom")

# linux/sched.h, linux/prctl.h
CLONE_NEWNS = 0x20000
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 23, 24, 38

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--user", type=int, default=107)
    parser.add_argument("--bind", action="append", default=[], metavar="SOURCE:TARGET")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    enter(arguments.root, [bind.split(":") for bind in arguments.bind])
    give_up_privileges(arguments.user)
    os.execvp(arguments.command[0], arguments.command)


def enter(root: Path, binds: list[list[str]]) -> None:
    check(_libc.unshare(CLONE_NEWNS))
    mount("--make-rprivate", "/")
    mount("--bind", root, root)
    mount("-t", "tmpfs", "tmpfs", root / "dev")
    for name in DEVICES:
        (root / "dev" / name).touch()
        mount("--bind", f"/dev/{name}", root / "dev" / name)
    for name in ("proc", "sys"):
        mount("--rbind", f"/{name}", root / name)
        mount("-o", "remount,bind,ro", root / name)
    for source, target in binds:
        mount("--bind", source, root / target.lstrip("/"))
    mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir("/")


def give_up_privileges(user: int) -> None:
    number = 0
    while _libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        check(_libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
        number += 1
    check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL)


def check(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
