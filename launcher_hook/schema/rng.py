"""Read libvirt's RELAX NG files into patterns.

libxml2 compiles a grammar into something that answers only yes or no.  Here the same files are
read a second time, and only once a document has failed.
"""

from pathlib import Path

from lxml import etree

from launcher_hook.schema.fault import child_elements
from launcher_hook.schema.pattern import (
    EMPTY,
    RELAXNG,
    All,
    Attribute,
    Choice,
    Data,
    Element,
    Grammar,
    Many,
    Nothing,
    Pattern,
    Ref,
    Text,
    Value,
)

Node = etree._Element


def read_grammar(path: Path) -> Grammar:
    """Read a schema file and everything that it includes."""
    grammar = Grammar()
    _read_file(path, grammar, frozenset())
    return grammar


def _read_file(path: Path, grammar: Grammar, overridden: frozenset[str]) -> None:
    root = etree.parse(path).getroot()
    _read_definitions(root, path.parent, grammar, overridden)


def _read_definitions(
    node: Node, directory: Path, grammar: Grammar, overridden: frozenset[str]
) -> None:
    for child in _children(node):
        kind = etree.QName(child).localname
        if kind == "include":
            ours = frozenset(define.get("name", "") for define in _children(child))
            _read_file(directory / child.get("href", ""), grammar, overridden | ours)
        if kind in ("include", "div"):
            _read_definitions(child, directory, grammar, overridden)
        elif kind == "define" and child.get("name", "") not in overridden:
            _define(child, grammar)


def _define(node: Node, grammar: Grammar) -> None:
    name, pattern = node.get("name", ""), _all_of(node, "")
    before = grammar.defines.get(name)
    if before is None:
        grammar.defines[name] = pattern
    elif node.get("combine") == "choice":
        grammar.defines[name] = Choice((before, pattern))
    else:
        grammar.defines[name] = All((before, pattern), ordered=False)


def _read(node: Node, namespace: str) -> Pattern:
    """The pattern of one RELAX NG node; a kind that libvirt does not use counts as any text."""
    kind = etree.QName(node).localname
    namespace = node.get("ns", namespace)
    match kind:
        case "element" | "attribute":
            return _named(node, kind, namespace)
        case "ref":
            return Ref(node.get("name", ""))
        case "group":
            return _all_of(node, namespace)
        case "interleave":
            return All(tuple(_read(child, namespace) for child in _children(node)), ordered=False)
        case "choice":
            return Choice(tuple(_read(child, namespace) for child in _children(node)))
        case "optional":
            return Choice((_all_of(node, namespace), EMPTY))
        case "zeroOrMore":
            return Choice((Many(_all_of(node, namespace)), EMPTY))
        case "oneOrMore":
            return Many(_all_of(node, namespace))
        case "empty" | "notAllowed":
            return Nothing(allowed=kind == "empty")
        case "value":
            return Value(node.text or "")
        case "data":
            params = tuple((p.get("name", ""), p.text or "") for p in _children(node))
            xml = etree.tostring(node, encoding="unicode", with_tail=False)
            return Data(xml, node.get("type", ""), params)
        case _:
            return Text()


def _all_of(node: Node, namespace: str) -> Pattern:
    parts = tuple(_read(child, namespace) for child in _children(node) if not _is_name(child))
    return parts[0] if len(parts) == 1 else All(parts, ordered=True)


def _named(node: Node, kind: str, namespace: str) -> Pattern:
    content = _all_of(node, namespace)
    if kind == "attribute":
        name = node.get("name", "*")
        # An attribute has no namespace but the one it is given itself.
        own = node.get("ns", "")
        text = content if _children(node) else Text()
        return Attribute(f"{{{own}}}{name}" if own else name, text)
    name = node.get("name", "*")
    return Element(f"{{{namespace}}}{name}" if namespace and name != "*" else name, content)


def _children(node: Node) -> list[Node]:
    children = child_elements(node)
    return [child for child in children if etree.QName(child).namespace == RELAXNG]


def _is_name(node: Node) -> bool:
    return etree.QName(node).localname in ("anyName", "nsName", "name")
