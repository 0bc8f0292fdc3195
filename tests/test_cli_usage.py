"""Help, and what a command line that cannot be taken is answered."""

import pytest
from commandline import run

from launcher_hook.arguments import make_parser


@pytest.mark.parametrize("command", ["render", "plan", "validate"])
def test_help_says_what_there_is(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    text = done.stdout.decode()
    if command != "validate":
        assert "is a warning. Default: false." in " ".join(text.split())
        for word in ("layout", "companions", "managed", "slots", "PCI_RESOURCE_", "example"):
            assert word in text


@pytest.mark.parametrize("command", ["", *make_parser().commands])
def test_help_fits_a_terminal_of_80_columns(command: str) -> None:
    done = run(*command.split(), "--help", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert [line for line in done.stdout.decode().splitlines() if len(line) > 79] == []


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["render"], ["plan", "--output", "x"]])
def test_a_usage_error_is_one_line_too(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("launcher-hook: ")
    assert line.endswith("--help'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan --domian vm.xml", "plan: there is no option '--domian'; write '--domain'; see"),
        ("plan --domain x --sysfss /sys", "plan: there is no option '--sysfss'; write '--sysfs'"),
        ("plan --sysfss=/sys", "plan: there is no option '--sysfss'; write '--sysfs'"),
        ("plan --domain x --layout numa", "configuration, write '--set layout=numa'; see"),
        ("plan --layouts=numa", "write '--set layout=numa'"),
        ("plan --pci-hole64 auto", "write '--set pciHole64=auto'"),
        ("plan --slots.gpu0 0000:00:08.0", "write '--set slots.gpu0=0000:00:08.0'"),
        ("plan --bootOrder --domain x", "write '--set devices.NAME.bootOrder=VALUE'"),
        ("discover --layout numa", "discover: there is no option '--layout'; take it out; see"),
        ("render -q --domain x", "render: there is no option '-q'; take it out; see"),
        ("plan --domain x y -1", "plan: 'y' '-1' cannot be taken; see 'launcher-hook plan --help'"),
        ("plan -v", "plan: the following arguments are required: --domain; see"),
        ("--domain vm.xml plan", "hook: there is no option '--domain'; options stand behind the c"),
        ("--versoin", "hook: there is no option '--versoin'; write '--version'; see"),
        ("pln --domain x", "hook: there is no command 'pln'; write 'plan'; see"),
        ("onDefineDomain --vmi x", "'onDefineDomain'; it is a program of its own, beside this one"),
        ("nothing", "hook: there is no command 'nothing'; the commands are render, plan, "),
    ],
)
def test_a_usage_error_says_what_was_probably_meant(arguments: str, message: str) -> None:
    done = run(*arguments.split())
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert message in line
    assert line.count("launcher-hook: ") == 1
