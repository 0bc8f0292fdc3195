"""Domain XML in and out: hostile input is refused, what is not ours comes out as it went in."""

import re

from lxml import etree

from launcher_hook.errors import InputError, shorten

Element = etree._Element
Tree = etree._ElementTree

# A tree takes some hundred bytes for a tag, and for an attribute: 4 MiB, which libvirt's RPC and
# the launcher's gRPC let through, would be 400 MB and 4 s, of the 64 MB and 0.2 cores that a hook
# has. tests/fuzz/server.py measures what is left of that with these limits.
MAX_DOMAIN_BYTES = 512 * 1024
MOST_TAGS = 20_000
MOST_ATTRIBUTES = 10_000

_DECLARATION = re.compile(rb"\s*<\?xml[^>]*\?>")
_PLACE = re.compile(r"(, use XML_PARSE_HUGE option)?(, line \d+, column \d+)?(, line \d+)?$")
# Only the prolog can have one; the word may stand in a comment or in CDATA. Possessive: white space
# could be split up in 2^n ways otherwise, and 30 line feeds would be looked at for minutes.
_DOCTYPE = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)
_ENCODINGS = ("utf-8", "us-ascii", "ascii")


def parse_domain(data: bytes, where: str = "domain XML") -> Tree:
    """Parse a domain document; no entity is expanded, no file or address is read.

    Args:
        data: UTF-8, with or without a declaration.
        where: The document's name in messages.

    Raises:
        InputError: Empty, too big, not UTF-8, not well-formed, with a DOCTYPE, or not a domain.
    """
    _check_bytes(data, where)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,  # libxml2 then refuses a depth over 256
        strip_cdata=False,
        remove_blank_text=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        raise InputError(
            f"{where}:{line}",
            f"it is not well-formed XML: {_PLACE.sub('', ' '.join(str(error.msg).split()))}",
            "give the whole document, e.g. the output of 'virsh dumpxml --inactive'",
        ) from None
    tree = root.getroottree()
    encoding = (tree.docinfo.encoding or "utf-8").lower()
    if encoding not in _ENCODINGS:
        raise InputError(where, f"its encoding is {shorten(encoding)}", "convert it to UTF-8")
    if root.tag != "domain":
        raise InputError(
            f"{where}:{root.sourceline}",
            f"its root is {shorten(root.tag)}, not 'domain'",
            "give a libvirt domain, e.g. the output of 'virsh dumpxml --inactive'",
        )
    return tree


def _check_bytes(data: bytes, where: str) -> None:
    if not data.strip():
        raise InputError(where, "it is empty", "give a libvirt domain")
    if len(data) > MAX_DOMAIN_BYTES:
        raise InputError(
            where,
            f"it is larger than {MAX_DOMAIN_BYTES} bytes",
            "give one domain; a very large one has 200,000",
        )
    # Before parsing, and so of the text: what stands in comments counts too.
    for sign, what, most in ((b"<", "tags", MOST_TAGS), (b"=", "attributes", MOST_ATTRIBUTES)):
        count = data.count(sign)
        if count > most:
            raise InputError(
                where,
                f"it has {count} {what} ({sign.decode()!r})",
                f"give a domain of at most {most}; see what fills it",
            )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]:
        raise InputError(where, "it is UTF-16 or UTF-32", "convert it to UTF-8")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}:{line}", f"byte {error.start} is not UTF-8", "convert it to UTF-8"
        ) from None
    # Before parsing: libxml2 would read an internal subset, and an entity bomb lives in one.
    doctype = _DOCTYPE.match(data)
    if doctype is not None:
        line = data.count(b"\n", 0, doctype.end()) + 1
        raise InputError(
            f"{where}:{line}",
            "it has a DOCTYPE",
            "take it out: a domain needs none, and entities are not read",
        )


def first_child(element: Element, tag: str) -> Element | None:
    """As ``find(tag)`` in half its time: a plan looks for some hundred children."""
    return next(element.iterchildren(tag), None)


def print_domain(tree: Tree, original: bytes) -> bytes:
    """Print an edited tree: UTF-8, with a declaration and a last newline only if there was one.

    A declaration says UTF-8 whatever it said before: virt-launcher takes nothing else.
    """
    root = tree.getroot()
    nodes = [*reversed(list(root.itersiblings(preceding=True))), root, *root.itersiblings()]
    lines = [
        etree.tostring(node, encoding="UTF-8", xml_declaration=False, with_tail=False)
        for node in nodes
    ]
    if _DECLARATION.match(original) is not None:
        lines.insert(0, b"<?xml version='1.0' encoding='UTF-8'?>")
    return b"\n".join(lines) + (b"\n" if original.endswith(b"\n") else b"")


def diff_domains(before: bytes, after: bytes) -> str:
    """A unified diff in which only what was edited shows.

    Both sides are printed anew first, so that ``<a></a>`` against ``<a/>`` and quotes, which the
    printer settles, do not drown the change.
    """
    from difflib import unified_diff

    old, new = (
        print_domain(parse_domain(text), b"\n").decode().splitlines(keepends=True)
        for text in (before, after)
    )
    return "".join(unified_diff(old, new, fromfile="before", tofile="after"))
