"""Domain XML in and out: what is refused, and what comes out as it went in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher_hook.domain.document import diff_domains, parse_domain, print_domain
from launcher_hook.errors import InputError

SMALL = b"<domain type='kvm'><name>x</name></domain>"


def reprint(data: bytes) -> bytes:
    return print_domain(parse_domain(data), data)


@pytest.mark.parametrize(
    ("given_", "printed"),
    [
        (b"<domain/>", b"<domain/>"),
        (b"<domain/>\n", b"<domain/>\n"),
        (b"<?xml version='1.0'?>\n<domain/>", b"<?xml version='1.0' encoding='UTF-8'?>\n<domain/>"),
        (b"<?xml version='1.0' encoding='us-ascii'?><domain/>",
         b"<?xml version='1.0' encoding='UTF-8'?>\n<domain/>"),
        (b"<!-- a --><domain/><!-- b -->", b"<!-- a -->\n<domain/>\n<!-- b -->"),
        (b"<domain><!-- <!DOCTYPE x> --></domain>", b"<domain><!-- <!DOCTYPE x> --></domain>"),
        (b"<?pi x?><domain><?pi y?></domain>", b"<?pi x?>\n<domain><?pi y?></domain>"),
        (b"<domain><a><![CDATA[<&]]></a></domain>", b"<domain><a><![CDATA[<&]]></a></domain>"),
        (b"<domain xmlns:q='u'><q:a q:b='1'/></domain>",
         b'<domain xmlns:q="u"><q:a q:b="1"/></domain>'),
        ("<domain><a>\N{SNOWMAN}&amp;&#9731;</a></domain>".encode(),
         "<domain><a>\N{SNOWMAN}&amp;\N{SNOWMAN}</a></domain>".encode()),
    ],
)  # fmt: skip
def test_what_is_in_a_document_comes_out_again_as_utf_8(given_: bytes, printed: bytes) -> None:
    assert reprint(given_) == printed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "vm.xml: it is empty; give a libvirt domain"),
        (b" \n\t", "vm.xml: it is empty"),
        (SMALL[:20], "vm.xml:1: it is not well-formed XML: .*; give the whole document"),
        (b"<domain>\n<a></b></domain>", "vm.xml:2: it is not well-formed XML"),
        (b"<network/>", "vm.xml:1: its root is 'network', not 'domain'; give a libvirt domain"),
        (b"<domain xmlns='u'/>", "its root is '{u}domain', not 'domain'"),
        (SMALL.decode().encode("utf-16"), "vm.xml: it is UTF-16 or UTF-32; convert it to UTF-8"),
        (SMALL.decode().encode("utf-16-le"), "vm.xml: it is UTF-16 or UTF-32"),
        (b"<domain>\n\xff</domain>", "vm.xml:2: byte 9 is not UTF-8; convert it to UTF-8"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?><domain/>", "its encoding is 'iso-8859-1'"),
        (b"<!DOCTYPE domain>\n<domain/>", "vm.xml:1: it has a DOCTYPE; take it out"),
        (b"\n<!-- x -->\n<?y?><!DOCTYPE domain><domain/>", "vm.xml:3: it has a DOCTYPE"),
        (b"<domain>\0</domain>", "it is not well-formed XML"),
        (b"<domain>&lt;&x;</domain>", "it is not well-formed XML: Entity 'x' not defined"),
        (b"<domain>" + b"<a>" * 300 + b"</a>" * 300 + b"</domain>", "not well-formed XML: Exces"),
        (b"<domain>" + b" " * (1 << 19), "it is larger than 524288 bytes; give one domain"),
        (b"<domain>" + b"<a/>" * 20_000, r"20001 tags \('<'\); give a domain of at most 20000"),
        (b"<domain " + b"a='' " * 10_001, r"10001 attributes \('='\); give a domain of at"),
        (b"<domain>" + b"<?a?>" * 20_000, "20001 tags"),
    ],
    ids=["empty", "blank", "truncated", "mismatch", "root", "namespace", "utf16", "utf16le",
         "bytes", "latin1", "doctype", "late-doctype", "nul", "entity", "depth", "size", "tags",
         "attributes", "instructions"],
)  # fmt: skip
def test_what_is_no_domain_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_domain(data, "vm.xml")


def test_an_entity_bomb_is_refused_before_it_is_parsed() -> None:
    lines = ['<!ENTITY a0 "aaaaaaaaaa">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    bomb = f"<!DOCTYPE domain [{''.join(lines)}]><domain><name>&a11;</name></domain>"
    with pytest.raises(InputError, match="it has a DOCTYPE"):
        parse_domain(bomb.encode())


@pytest.mark.parametrize("part", [b"\n", b" \n", b"<?x?>", b"<!---->", b"<!--", b"<?"])
def test_a_long_prolog_is_looked_at_once(part: bytes) -> None:
    for times in (40, 5_000):
        with pytest.raises(InputError, match="not well-formed"):
            parse_domain(part * times + b".")
        with pytest.raises(InputError, match="it has a DOCTYPE|not well-formed"):
            parse_domain(part * times + b"<!DOCTYPE domain><domain/>")


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_domain(data)


@given(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=3))
def test_a_damaged_document_is_read_or_refused(place: int, damage: bytes) -> None:
    data = SMALL[:place] + damage + SMALL[place + len(damage) :]
    try:
        once = reprint(data)
    except InputError:
        return
    assert reprint(once) == once


def test_a_diff_shows_only_what_was_edited() -> None:
    before = b"<domain>\n  <a></a>\n  <b x='1'/>\n</domain>"
    after = b"<domain>\n  <a/>\n  <b x='2'/>\n</domain>"
    lines = diff_domains(before, after).splitlines()
    assert [line for line in lines[3:] if line[0] in "+-"] == ['-  <b x="1"/>', '+  <b x="2"/>']
    assert diff_domains(before, before) == ""
