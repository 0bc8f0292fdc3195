"""A plan as Graphviz source: both trees, and which function of the node is which of the guest.

``launcher-hook plan ... --output dot | dot -Tsvg``. Labels are quoted strings; ids are numbers of
ours, so that no name of a VM or a node is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, groupby

from launcher_hook.errors import one_line
from launcher_hook.pciids import PciNames
from launcher_hook.render import Decision
from launcher_hook.report.compose import make_picture
from launcher_hook.report.picture import Bridge, Leaf, Picture, Root, Side

_HEAD = """\
digraph plan {
  rankdir=LR; newrank=true; nodesep=0.08; ranksep=0.3;
  fontname="sans-serif"; bgcolor="white";
  node [shape=box, style=filled, fillcolor="white", fontname="monospace", fontsize=10];
  edge [dir=none, color="gray50"];
  graph [style=rounded, color="gray60", labeljust=l, fontsize=11];
"""

_NO_LABEL = '""'  # a cluster's is else that of the one around it


def print_dot(decision: Decision, names: PciNames) -> str:
    """Write a plan as a graph."""
    return draw_graph(make_picture(decision, names))


def draw_graph(picture: Picture) -> str:
    """Write a picture as a graph."""
    host = _Tree(picture, "h", towards_guest=True)
    guest = _Tree(picture, "g", towards_guest=False)
    lines = [*host.draw(picture.host), *guest.draw(picture.guest), *host.edges, *guest.edges]
    lines += [
        f"  {{ rank=same; {'; '.join(tree.leaves)}; }}" for tree in (host, guest) if tree.leaves
    ]
    for number, start in sorted(host.ends.items()):
        style = f'tooltip={_titled(picture, number)}, color="blue", style=dashed'
        lines.append(f"  {start} -> {guest.ends[number]} [{style}];")
    return _HEAD + "\n".join(lines) + "\n}\n"


def _titled(picture: Picture, device: int) -> str:
    return quote(picture.devices[device].title)


class _Tree:
    """Draws one side; its edges come after all clusters, so that they add no node to one."""

    def __init__(self, picture: Picture, prefix: str, *, towards_guest: bool) -> None:
        self._picture = picture
        self._prefix = prefix
        self._towards_guest = towards_guest
        self._numbers = count()
        self.edges: list[str] = []
        self.leaves: list[str] = []
        self.ends: dict[int, str] = {}

    def _id(self) -> str:
        return f"{self._prefix}{next(self._numbers)}"

    def draw(self, side: Side) -> Iterator[str]:
        """A cluster for the side, its zones, and the root complexes in them."""
        if not side.zones:
            return
        yield f"  subgraph cluster_{self._id()} {{ label={quote(side.title)};"
        for zone in side.zones:
            yield f"    subgraph cluster_{self._id()} {{ label={quote(zone.label)};"
            for root in zone.roots:
                if root.label:
                    yield f"      subgraph cluster_{self._id()} {{ label={_NO_LABEL};"
                    yield from self._draw_root(root)
                    yield "      }"
                else:
                    yield from self._draw_below(root.below, None)
            yield "    }"
        yield "  }"

    def _draw_root(self, root: Root) -> Iterator[str]:
        name = self._id()
        yield f'        {name} [label={_lines(root)}, fillcolor="gray85"];'
        yield from self._draw_below(root.below, name)

    def _draw_below(self, below: Sequence[Bridge | Leaf], above: str | None) -> Iterator[str]:
        for one in below:
            if isinstance(one, Bridge):
                name = self._id()
                yield f'        {name} [label={_lines(one)}, fillcolor="gray95"];'
                self._join(above, name)
                yield from self._draw_below(one.below, name)
        functions = [one for one in below if isinstance(one, Leaf)]
        for group, members in groupby(functions, key=lambda leaf: leaf.iommu_group):
            yield from self._draw_functions(group, list(members), above)

    def _draw_functions(
        self, group: int | None, members: Sequence[Leaf], above: str | None
    ) -> Iterator[str]:
        together = group is not None and len(members) > 1
        if together:
            yield (
                f"        subgraph cluster_{self._id()} {{ "
                f"label={quote(f'IOMMU group {group}')}; style=dashed;"
            )
        for leaf in members:
            name = self._id()
            self.leaves.append(name)
            self._join(above, name)
            if leaf.device is None:
                yield f'        {name} [label={_lines(leaf)}, style=dashed, fontcolor="gray40"];'
                continue
            self.ends[leaf.device] = name
            tooltip = _titled(self._picture, leaf.device)
            yield f"        {name} [label={self._label(leaf)}, tooltip={tooltip}];"
        if together:
            yield "        }"

    def _label(self, leaf: Leaf) -> str:
        """A guest's device says to how many others its distance has changed."""
        lines = [leaf.label, leaf.detail]
        if not self._towards_guest and leaf.device is not None:
            changes = self._picture.changes(self._picture.devices[leaf.device].unit)
            lines.append(f"≠ {changes} distances" if changes else "")
        elif leaf.iommu_group is not None:
            lines.append(f"group {leaf.iommu_group}")
        return quote("\n".join(filter(None, lines)))

    def _join(self, above: str | None, below: str) -> None:
        if above is not None:
            pair = (above, below) if self._towards_guest else (below, above)
            self.edges.append(f"  {pair[0]} -> {pair[1]};")


def _lines(box: Root | Bridge | Leaf) -> str:
    return quote("\n".join(filter(None, (box.label, box.detail))))


_SPECIAL: Mapping[str, str] = {"\\": "\\\\", '"': '\\"', "&": "&amp;", "\n": "\\n"}


def quote(text: str) -> str:
    r"""A quoted string that Graphviz shows as it is: no ``\N`` and no ``&lt;`` in it counts."""
    lines = "\n".join(one_line(line) for line in text.split("\n"))
    return '"' + "".join(_SPECIAL.get(character, character) for character in lines) + '"'
