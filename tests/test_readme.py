"""The README says what is so: its configuration table is made from the keys."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from plans import SCENES, names
from test_cases import check_expectation

from launcher_hook.configkeys import KEYS, default_of
from launcher_hook.devicekeys import DEVICE_KEYS
from launcher_hook.deviceplugin.configfile import describe_selector_keys
from launcher_hook.report.tree import print_tree

README = Path(__file__).parent.parent / "README.md"
_TABLE = re.compile(r"(<!-- configuration: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)

_OPTIONS = re.compile(r"(<!-- options: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)

_SELECTORS = re.compile(r"(<!-- selectors: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)


def selector_table() -> str:
    lines = ["| key of a selector | what it says of the function |", "|---|---|"]
    lines += [f"| `{key}` | {meaning} |" for key, meaning in describe_selector_keys().items()]
    return "\n".join(lines) + "\n"


def configuration_table() -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, key in KEYS.items():
        text = key.meaning.replace("|", r"\|")
        lines.append(f"| `{name}` | {key.values} | `{default_of(name)}` | {text} |")
    return "\n".join(lines) + "\n"


def option_table() -> str:
    lines = ["| key of a device | values | meaning |", "|---|---|---|"]
    for name, key in DEVICE_KEYS.items():
        lines.append(f"| `{name}` | {key.values} | {key.meaning} |")
    return "\n".join(lines) + "\n"


def test_the_tables_of_keys_are_made_from_the_keys(update_expected: bool) -> None:
    text = README.read_text()
    wanted = _TABLE.sub(lambda match: match[1] + configuration_table() + match[2], text)
    wanted = _OPTIONS.sub(lambda match: match[1] + option_table() + match[2], wanted)
    wanted = _SELECTORS.sub(lambda match: match[1] + selector_table() + match[2], wanted)
    if update_expected:
        README.write_text(wanted)
    assert README.read_text() == wanted


def test_the_two_commands_and_every_make_target_are_named() -> None:
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_picture_is_what_the_command_beside_it_prints(update_expected: bool) -> None:
    (command,) = re.findall(
        r"^    (launcher-hook plan (?:.*\\\n)*.*\.svg)$", README.read_text(), re.M
    )
    program, *arguments, arrow, file = shlex.split(command.replace("\\\n", ""))
    assert arrow == ">"
    assert f'<img src="{file}"' in README.read_text()
    environ = {name: value for name, value in os.environ.items() if "PCI_RESOURCE" not in name}
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=README.parent, env=environ, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    check_expectation(README.parent / file, done.stdout, update_expected)


def test_the_tree_is_what_is_printed_for_that_case(tmp_path: Path) -> None:
    scene = next(scene for scene in SCENES if scene.name == "two-gpus")
    assert f"```\n{print_tree(scene.decide(tmp_path), names(), 80)}```" in README.read_text()
