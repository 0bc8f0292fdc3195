"""Every folder of fixtures/cases: what is rendered, or why it is refused; and what always holds."""

from pathlib import Path

import pytest
from canonical import canonical_without_ours
from cases import CASES, case_names, read_case

from launcher_hook.errors import HookError
from launcher_hook.render import render_domain
from launcher_hook.schema import load_schemas

NAMES = case_names()
RENDERED = [name for name in NAMES if not name.startswith("refused-")]
REFUSED = [name for name in NAMES if name.startswith("refused-")]


def check_expectation(path: Path, actual: bytes, update: bool) -> None:
    if update:
        path.write_bytes(actual)
    assert path.exists(), f"{path} is missing; write it, or look at --update-expected"
    assert actual.decode() == path.read_bytes().decode()


@pytest.mark.parametrize("name", RENDERED)
def test_a_case_is_rendered_as_expected(name: str, tmp_path: Path, update_expected: bool) -> None:
    xml = render_domain(read_case(name, tmp_path), load_schemas()).xml
    check_expectation(CASES / name / "expected.xml", xml, update_expected)


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_is_refused_with_a_message_that_says_what_to_do(
    name: str, tmp_path: Path, update_expected: bool
) -> None:
    with pytest.raises(HookError) as caught:
        render_domain(read_case(name, tmp_path), load_schemas())
    reason = str(caught.value).replace(f"{CASES / name}/", "")  # files that the case has
    message = f"{type(caught.value).__name__}: {reason}\n"
    check_expectation(CASES / name / "expected-error.txt", message.encode(), update_expected)


@pytest.mark.parametrize("name", RENDERED)
def test_a_second_run_changes_nothing(name: str, tmp_path: Path) -> None:
    first = render_domain(read_case(name, tmp_path), load_schemas()).xml
    second = render_domain(read_case(name, tmp_path, domain_xml=first), load_schemas()).xml
    assert second == first


@pytest.mark.parametrize("name", RENDERED)
def test_everything_that_is_not_ours_survives(name: str, tmp_path: Path) -> None:
    inputs = read_case(name, tmp_path)
    rendered = render_domain(inputs, load_schemas())
    assert canonical_without_ours(rendered.xml, inputs.domain_xml) == canonical_without_ours(
        inputs.domain_xml, inputs.domain_xml
    )


@pytest.mark.parametrize("version", ["9.0.0", "11.3.0"])
@pytest.mark.parametrize("name", RENDERED)
def test_what_we_wrote_is_valid_under_each_libvirt(
    name: str, version: str, tmp_path: Path, libvirt_schemas: None
) -> None:
    render_domain(read_case(name, tmp_path), load_schemas(version))  # raises SchemaError if not
