"""Graphviz source: in Graphviz' language whatever names there are, and both trees are in it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import case_names, read_case
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import PICTURES, SCENES, Scene, made_up, names
from test_cases import check_expectation

from launcher_hook.render import plan_domain
from launcher_hook.report.dot import print_dot, quote
from launcher_hook.settings import Settings

MIRROR = Scene("hgx-mirror", settings=Settings(layout="mirror"))
ALL = (MIRROR, *SCENES)

TOKEN = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|->|[A-Za-z_][A-Za-z_0-9]*|-?[0-9.]+|[{}\[\];,=])', re.DOTALL
)


class Graph:
    """The part of the language that we write, read strictly: graphviz.org/doc/info/lang.html."""

    def __init__(self, text: str) -> None:
        self.nodes: dict[str, dict[str, str]] = {}
        self.edges: list[tuple[str, str, dict[str, str]]] = []
        self.clusters: list[str] = []
        self._tokens = list(self._split(text))
        self._take("digraph", "plan")
        self._block()
        assert not self._tokens

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = TOKEN.match(text, position)
            assert match, text[position : position + 60]
            yield match[1]
            position = match.end()

    def _take(self, *expected: str) -> None:
        for token in expected:
            assert self._tokens.pop(0) == token

    def _block(self) -> None:
        self._take("{")
        while self._tokens[0] != "}":
            self._statement()
        self._take("}")

    def _statement(self) -> None:
        name = "{" if self._tokens[0] == "{" else self._tokens.pop(0)
        if name == "{":
            self._block()
        elif name == "subgraph":
            assert self._tokens.pop(0).startswith("cluster_")
            self._block()
        elif self._tokens[0] == "=":
            self._take("=")
            value = self._tokens.pop(0)
            if name == "label":
                self.clusters.append(value)
            self._take(";")
        elif self._tokens[0] == "->":
            self._take("->")
            other = self._tokens.pop(0)
            self.edges.append((name, other, self._attributes()))
            self._take(";")
        else:
            found = self._attributes()
            if found and name not in ("node", "edge", "graph"):
                assert name not in self.nodes
                self.nodes[name] = found
            if self._tokens[0] != "}":
                self._take(";")

    def _attributes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self._tokens[0] != "[":
            return found
        self._take("[")
        while self._tokens[0] != "]":
            key = self._tokens.pop(0)
            self._take("=")
            found[key] = self._tokens.pop(0)
            if self._tokens[0] == ",":
                self._take(",")
        self._take("]")
        return found

    def links(self) -> list[tuple[str, str]]:
        return [(a, b) for a, b, found in self.edges if found.get("style") == "dashed"]


@pytest.mark.parametrize("scene", ALL, ids=lambda scene: scene.name)
def test_every_scene_is_a_graph_of_both_trees(scene: Scene, tmp_path: Path) -> None:
    decision = scene.decide(tmp_path)
    graph = Graph(print_dot(decision, names()))
    assert len(graph.links()) == len(decision.plan.placements)
    for start, end, _ in graph.edges:
        assert start in graph.nodes
        assert end in graph.nodes
    below = [end for start, end, _ in graph.edges if start.startswith("h") and end.startswith("h")]
    assert len(below) == len(set(below)), "a function of the node is below one bridge"


@pytest.mark.parametrize("name", [n for n in case_names() if not n.startswith("refused-")])
def test_every_case_is_a_graph(name: str, tmp_path: Path) -> None:
    decision = plan_domain(read_case(name, tmp_path))
    graph = Graph(print_dot(decision, names()))
    assert len(graph.links()) == len(decision.plan.placements)


def test_the_hgx_graph_is_written_as_expected(tmp_path: Path, update_expected: bool) -> None:
    text = print_dot(MIRROR.decide(tmp_path), names()).encode()
    check_expectation(PICTURES / "hgx-mirror.dot", text, update_expected)


def test_numa_nodes_root_complexes_and_shared_groups_are_clusters(tmp_path: Path) -> None:
    scene = next(s for s in SCENES if s.name == "two-gpus")
    graph = Graph(print_dot(scene.decide(tmp_path), names()))
    assert graph.clusters.count('"NUMA node 0"') == 1
    assert {'"IOMMU group 42"', '"IOMMU group 71"', '"no NUMA cell"'} <= set(graph.clusters)


def test_a_device_whose_distance_is_not_kept_says_so(tmp_path: Path) -> None:
    scene = next(s for s in SCENES if s.name == "hgx-root-port")
    graph = Graph(print_dot(scene.decide(tmp_path), names()))
    assert sum("≠ 15 distances" in node["label"] for node in graph.nodes.values()) == 16


@settings(max_examples=100)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4, unique=True), st.text(max_size=20))
def test_no_name_gets_out_of_its_quotes(devices: list[str], machine: str) -> None:
    text = print_dot(made_up(devices, machine=machine, aliases=devices), names())
    plain = Graph(print_dot(made_up(["x"] * len(devices)), names()))
    graph = Graph(text)
    assert graph.nodes.keys() == plain.nodes.keys()
    assert [edge[:2] for edge in graph.edges] == [edge[:2] for edge in plain.edges]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu0", '"gpu0"'),
        ('"]; evil [label="', r'"\"]; evil [label=\""'),
        ("\\N\\", r'"\\N\\"'),
        ("<b>&lt;", '"<b>&amp;lt;"'),
        ("a\nb", r'"a\nb"'),
        ("\0\r", r'"\\x00\\r"'),
        ("\ud800", r'"\\ud800"'),
    ],
)
def test_what_counts_in_a_label_is_escaped(text: str, expected: str) -> None:
    assert quote(text) == expected


@pytest.mark.parametrize("scene", ALL, ids=lambda scene: scene.name)
def test_graphviz_draws_it(scene: Scene, tmp_path: Path) -> None:
    if shutil.which("dot") is None and not os.environ.get("CI"):
        pytest.skip("there is no Graphviz here: .ci/setup.sh system brings it")
    text = print_dot(scene.decide(tmp_path), names())
    done = subprocess.run(
        ["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, b"")
