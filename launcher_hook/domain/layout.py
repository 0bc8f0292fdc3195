"""Puts an element into a tree, or takes one out, as a person would who edits the text."""

from launcher_hook.domain.document import Element


def insert(parent: Element, element: Element, after: Element | None) -> Element:
    """Insert behind a sibling, or at the end, indented as the neighbours are."""
    last = after if after is not None else (parent[-1] if len(parent) else None)
    if last is None:
        outer = _indent_of(parent)
        if outer is not None and not (parent.text or "").strip():
            parent.text = outer + _step(outer, parent)
        element.tail = outer
        parent.append(element)
    else:
        tail = last.tail
        closing = last.getnext() is None
        last.addnext(element)
        element.tail = tail
        if closing:  # the closing tag's indentation has moved behind the new element
            last.tail = parent.text if not (parent.text or "").strip() else None
        else:  # what is no indentation must not stand twice
            last.tail = tail if not (tail or "").strip() else None
    own = _indent_of(element)
    if own is not None and len(element):
        _indent_children(element, own, _step(own, element))
    return element


def take_out(element: Element) -> None:
    """Remove an element and the white space that set it on its line."""
    parent, previous = element.getparent(), element.getprevious()
    if parent is None:
        return
    if element.getnext() is None:  # the closing tag's indentation moves before it
        if previous is not None:
            previous.tail = element.tail
        else:
            parent.text = element.tail
    elif element.tail and element.tail.strip():  # text is nobody's to take out
        if previous is not None:
            previous.tail = (previous.tail or "") + element.tail
        else:
            parent.text = (parent.text or "") + element.tail
    parent.remove(element)


def _indent_children(element: Element, own: str, step: str) -> None:
    element.text = own + step
    for child in element:
        child.tail = own + step
        if len(child):
            _indent_children(child, own + step, step)
    element[-1].tail = own


def _indent_of(element: Element) -> str | None:
    """The white space before an element's own tag; None in a document on one line."""
    previous = element.getprevious()
    parent = element.getparent()
    text = previous.tail if previous is not None else parent.text if parent is not None else None
    return text if text and not text.strip() and "\n" in text else None


def _step(outer: str, element: Element) -> str:
    """One level of indentation, as the document does it."""
    parent = element.getparent()
    above = _indent_of(parent) if parent is not None else None
    inner_width = outer.rpartition("\n")[2]
    outer_width = (above or "\n").rpartition("\n")[2]
    if inner_width.startswith(outer_width) and inner_width != outer_width:
        return inner_width[len(outer_width) :]
    return "\t" if inner_width.startswith("\t") else "  "
