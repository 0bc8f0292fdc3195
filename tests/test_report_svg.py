"""The picture of a plan: what is in it, that it can be read, and that names cannot break it."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cases import case_names, read_case
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import PICTURES, SCENES, Scene, made_up, names
from test_cases import check_expectation

from launcher_hook.render import Decision, plan_domain
from launcher_hook.report.canvas import fit, text_width
from launcher_hook.report.svg import print_svg
from launcher_hook.settings import Settings

SVG = "{http://www.w3.org/2000/svg}"
MIRROR = Scene("hgx-mirror", settings=Settings(layout="mirror"))
DRAWN = [scene for scene in (MIRROR, *SCENES) if scene.name != "nothing"]

# Sizes of the classes of text, as the style sheet has them.
SIZES = {"head": 15, "zone": 11, "label": 11, "detail": 9.5, "note": 10.5, "word": 9, "in": 9.5,
         "mark": 11}  # fmt: skip


def draw(decision: Decision) -> ElementTree.Element:
    return ElementTree.fromstring(print_svg(decision, names()))


def texts(svg: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in svg.iter(f"{SVG}text")]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_scene_is_drawn_as_expected(scene: Scene, tmp_path: Path, update_expected: bool) -> None:
    svg = print_svg(scene.decide(tmp_path), names()).encode()
    check_expectation(PICTURES / f"{scene.name}.svg", svg, update_expected)


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (MIRROR.decide(tmp_path) for _ in range(2))
    assert print_svg(first, names()) == print_svg(second, names())


def test_every_device_is_on_both_sides_with_a_line_between(tmp_path: Path) -> None:
    svg = draw(MIRROR.decide(tmp_path))
    found = texts(svg)
    for device in (f"{kind}{n}" for kind in ("gpu", "nic") for n in range(8)):
        assert device in found
    for bdf in ("18:00.0", "bd:00.0", "pci0000:15", "16:00.0", "NUMA node 1", "NUMA cell 1"):
        assert bdf in found
    assert len(svg.findall(f".//{SVG}path[@class='link']")) == 16


def test_the_hgx_picture_is_not_wider_than_a_page(tmp_path: Path) -> None:
    for layout in ("mirror", "numa", "root-port"):
        scene = replace(MIRROR, settings=Settings(layout=layout))  # type: ignore[arg-type]
        assert float(draw(scene.decide(tmp_path)).get("width", "")) <= 1400


def test_a_mirrored_plan_says_that_every_distance_is_kept(tmp_path: Path) -> None:
    svg = draw(MIRROR.decide(tmp_path))
    assert "Every two devices are as far apart in the guest as on the node." in texts(svg)
    assert not svg.findall(f".//{SVG}path[@class='changed']")


def test_what_is_not_kept_is_counted_and_marked(tmp_path: Path) -> None:
    svg = draw(next(s for s in SCENES if s.name == "two-gpus").decide(tmp_path))
    assert any(text.startswith("1 of 1 pair is another distance apart") for text in texts(svg))
    assert len(svg.findall(f".//{SVG}path[@class='changed']")) == 2
    assert texts(svg).count("≠1") == 4  # both functions of each card


def test_functions_of_one_group_share_a_box(tmp_path: Path) -> None:
    svg = draw(next(s for s in SCENES if s.name == "workstation").decide(tmp_path))
    assert len(svg.findall(f".//{SVG}rect[@class='group']")) == 1
    assert len(svg.findall(f".//{SVG}rect[@class='other']")) == 1  # the NIC is not passed


def test_a_long_name_is_shortened_and_stands_whole_in_the_title() -> None:
    name = "a-name-of-more-characters-than-anybody-would-want-to-read"
    svg = draw(made_up([name]))
    assert any(text.endswith("…") and name.startswith(text[:-1]) for text in texts(svg))
    assert name not in texts(svg)
    assert any(name in (title.text or "") for title in svg.iter(f"{SVG}title"))


def test_it_has_a_title_a_description_and_a_background(tmp_path: Path) -> None:
    svg = draw(MIRROR.decide(tmp_path))
    title, description = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.get("role") == "img"
    assert title is not None
    assert description is not None
    assert "gpu0: 19:00.0 on the node, 1b:00.0 in the guest." in (description.text or "")
    background = svg.find(f"{SVG}rect")
    assert background is not None
    assert (background.get("width"), background.get("fill")) == ("100%", "#ffffff")


def test_no_devices_are_a_picture_too(tmp_path: Path) -> None:
    scene = next(s for s in SCENES if s.name == "nothing")
    assert texts(draw(scene.decide(tmp_path))) == ["No devices are passed to this guest."]


# Boxes and words. What a viewer draws is at most as wide as text_width says.


def boxes(svg: ElementTree.Element, kinds: set[str]) -> Iterator[tuple[float, ...]]:
    for rect in svg.iter(f"{SVG}rect"):
        if rect.get("class") in kinds:
            yield tuple(float(rect.get(key, "")) for key in ("x", "y", "width", "height"))


def extents(svg: ElementTree.Element) -> Iterator[tuple[str, float, float, float, float]]:
    """Text, left, right, top and bottom."""
    for text in svg.iter(f"{SVG}text"):
        classes = text.get("class", "").split()
        size = float(text.get("font-size") or next(SIZES[c] for c in classes if c in SIZES))
        width = text_width(text.text or "", size)
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        left = x - width if {"end", "mark"} & set(classes) else x
        left = x - width / 2 if {"word", "in"} & set(classes) else left
        yield text.text or "", left, left + width, y - 0.75 * size, y + 0.2 * size


def assert_readable(svg: ElementTree.Element) -> None:
    width, height = float(svg.get("width", "")), float(svg.get("height", ""))
    found = list(extents(svg))
    for text, left, right, top, bottom in found:
        assert left >= 0, text
        assert right <= width, text
        assert top >= 0, text
        assert bottom <= height, text
    by_row: dict[int, list[tuple[float, float, float, float, str]]] = {}
    for text, left, right, top, bottom in found:
        for row in range(int(top) // 16, int(bottom) // 16 + 1):
            for other in by_row.get(row, ()):
                apart = (
                    right <= other[0] or left >= other[1] or bottom <= other[2] or top >= other[3]
                )
                assert apart, (text, other[4])
            by_row.setdefault(row, []).append((left, right, top, bottom, text))
    drawn = sorted(boxes(svg, {"box", "root", "bridge", "other", "group"}))
    for number, (x, y, w, h) in enumerate(drawn):
        assert x >= 0
        assert x + w <= width
        for other_x, other_y, other_w, other_h in drawn[number + 1 :]:
            assert (
                x + w <= other_x or other_x + other_w <= x or y + h <= other_y
                or other_y + other_h <= y
            )  # fmt: skip
    for group in svg.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is None:
            continue
        right_edge = float(rect.get("x", "")) + float(rect.get("width", ""))
        for text, left, right, _, _ in extents(group):
            assert left >= float(rect.get("x", "")), text
            assert right <= right_edge, text


@pytest.mark.parametrize("scene", DRAWN, ids=lambda scene: scene.name)
def test_no_two_texts_overlap_and_none_leaves_its_box(scene: Scene, tmp_path: Path) -> None:
    assert_readable(draw(scene.decide(tmp_path)))


@pytest.mark.parametrize("name", [n for n in case_names() if not n.startswith("refused-")])
def test_every_case_can_be_read(name: str, tmp_path: Path) -> None:
    decision = plan_domain(read_case(name, tmp_path))
    svg = draw(decision)
    assert_readable(svg)
    assert len(svg.findall(f".//{SVG}path[@class='link']")) == len(decision.plan.placements)


def test_a_device_that_libvirt_places_has_no_bridges_in_the_guest(tmp_path: Path) -> None:
    found = texts(draw(plan_domain(read_case("s390x", tmp_path))))
    assert "left to libvirt" in found
    assert not {"pcie.0", "pci.0"} & set(found)


def test_a_port_that_libvirt_has_yet_to_add_is_shown_as_its_bus() -> None:
    decision = made_up(["gpu0"])
    decision = replace(decision, plan=replace(decision.plan, controllers=()))
    svg = draw(decision)
    assert {"bus 18", "libvirt's"} <= set(texts(svg))
    assert_readable(svg)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 64])
def test_any_number_of_devices_can_be_read(count: int) -> None:
    svg = draw(made_up([f"gpu{n}" for n in range(count)]))
    assert_readable(svg)
    assert len(svg.findall(f".//{SVG}path[@class='link']")) == count


ANY_NAMES = st.lists(st.text(max_size=40), min_size=1, max_size=5)


@settings(max_examples=60)
@given(ANY_NAMES, st.text(max_size=20))
def test_no_name_breaks_the_document_or_gets_an_element_into_it(
    devices: list[str], machine: str
) -> None:
    svg = draw(made_up(devices, machine=machine, aliases=devices))
    assert {element.tag.removeprefix(SVG) for element in svg.iter()} <= {
        "svg", "title", "desc", "style", "rect", "g", "text", "path", "circle"
    }  # fmt: skip
    for element in svg.iter():
        for name, value in element.attrib.items():
            assert re.fullmatch(r"[a-z-]+|viewBox|aria-labelledby", name)
            assert not name.startswith("on")
            assert "url" not in value
            assert "javascript" not in value
    assert_readable(svg)


@pytest.mark.parametrize(
    "name", ["</text><script>alert(1)</script>", "]]>", "&lt;", "<!--", "\0\x1b[2J", "\u202eevil",
             "\ud800", "\ufffe"],
)  # fmt: skip
def test_markup_in_a_name_is_text(name: str) -> None:
    text = print_svg(made_up([name]), names())
    assert "<script" not in text
    assert "\x1b" not in text
    svg = ElementTree.fromstring(text.encode())
    assert not list(svg.iter(f"{SVG}script"))


def test_nothing_in_it_is_fetched_or_run(tmp_path: Path) -> None:
    text = print_svg(MIRROR.decide(tmp_path), names())
    assert not re.search(r"href|@import|url\(|<script|<foreignObject|<image|<!", text)
    assert text.count("http") == 1  # the name space


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("gpu0", 100, "gpu0"), ("gpu0", 18.3, "gp…"), ("", 10, ""), ("漢字漢字", 31, "漢字…"),
     ("gpu0", 3, "…")],
)  # fmt: skip
def test_a_text_that_does_not_fit_ends_in_an_ellipsis(
    text: str, width: float, expected: str
) -> None:
    assert fit(text, width, 10) == expected
