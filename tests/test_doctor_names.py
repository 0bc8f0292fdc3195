"""One legal name for a resource on all sides, and enough of it: found, fine, near misses."""

from fractions import Fraction

import pytest

from launcher_hook.doctor.clusterfacts import ClusterNode, Permitted
from launcher_hook.doctor.finding import Finding
from launcher_hook.doctor.names import Names, check_amounts, check_names, nearest

R = "nvidia.com/TU106_GEFORCE_RTX_2060_REV__A"


def permit(*resources: str, external: bool = True) -> tuple[Permitted, ...]:
    return tuple(Permitted(f"cr[{i}]", r, external) for i, r in enumerate(resources))


def node(name: str, healthy: int = 2, of: int | None = None, resource: str = R) -> ClusterNode:
    return ClusterNode(
        f"node/{name}",
        {resource: Fraction(healthy if of is None else of)},
        {resource: Fraction(healthy)},
    )


def check(names: Names) -> list[Finding]:
    return [finding for finding in check_names(names) if finding.severity != "ok"]


def fines(names: Names) -> set[str]:
    return {finding.check for finding in check_names(names) if finding.severity == "ok"}


def test_the_same_name_on_all_sides_is_fine() -> None:
    names = Names({R: "vmi"}, permit(R), False, {R: "config"}, True, (node("a"),))
    assert not check(names)
    assert fines(names) == {"names", "permitted", "provider"}


@pytest.mark.parametrize(
    ("resource", "fix"),
    [
        ("TU106", "write e.g. example.com/TU106, on all sides"),
        ("nvidia.com/TU106 rev", "write e.g. nvidia.com/TU106_rev, on all sides"),
        ("NVIDIA.com/TU106", "write e.g. nvidia.com/TU106, on all sides"),
        ("a.kubernetes.io/x", "write e.g. example.com/x, on all sides"),
    ],
)
def test_a_name_that_kubernetes_refuses_is_found_wherever_it_stands(
    resource: str, fix: str
) -> None:
    for names in (Names({resource: "vmi"}), Names({}, permit(resource)), Names({}, None, False,
                  {resource: "config"})):  # fmt: skip
        (finding,) = check(names)
        assert (finding.severity, finding.check, finding.fix) == ("error", "names", fix)


@pytest.mark.parametrize(
    ("other", "how"),
    [
        (R.lower(), "differs in upper and lower case"),
        (R.replace("_REV__A", "-REV-A"), "differs in '-', '_' and '.'"),
        (R.replace("nvidia.com", "nvidia.org"), "differs in what stands before the slash"),
        (R.replace("2060", "2070"), "is near"),
    ],
)
def test_a_near_miss_is_named_with_how_it_differs(other: str, how: str) -> None:
    (finding,) = check(Names({R: "vmi"}, permit("a.com/x", other)))
    assert finding.severity == "error"
    assert finding.what == (
        f"{R!r} is not in the KubeVirt CR's permittedHostDevices; {other!r} {how}"
    )
    assert finding.fix == f"write one name on both sides, e.g. {other}"


def test_what_is_not_permitted_and_near_nothing_is_told_what_there_is() -> None:
    (finding,) = check(Names({R: "vmi"}, permit("a.com/x")))
    assert finding.what.endswith("permittedHostDevices; there are a.com/x")
    assert finding.fix == "add an entry with that resourceName to it"
    (finding,) = check(Names({R: "vmi"}, ()))
    assert finding.what.endswith("permittedHostDevices")


def test_a_cr_without_the_list_permits_everything() -> None:
    assert not check(Names({R: "vmi"}, (), permits_all=True))


def test_two_resources_of_one_variable_are_found() -> None:
    a, b = "nvidia.com/A.B", "nvidia.com/A_B"
    (finding,) = check(Names({a: "gpus[0]", b: "gpus[1]"}))
    assert (finding.severity, finding.where) == ("error", "gpus[1]")
    assert "PCI_RESOURCE_NVIDIA_COM_A_B" in finding.what
    (finding,) = check(Names({}, permit(a, b)))
    assert finding.severity == "warning"


def test_virt_handler_and_our_plugin_may_not_both_offer_a_resource() -> None:
    (finding,) = check(Names({}, permit(R, external=False), False, {R: "config"}, True))
    assert (finding.severity, finding.fix) == (
        "error",
        "write externalResourceProvider: true there",
    )


def test_what_virt_handler_offers_is_pointed_at_where_our_plugin_is_not_configured() -> None:
    (finding,) = check(Names({}, permit(R, external=False), False, {}))
    assert finding.severity == "warning"
    assert "so virt-handler offers it" in finding.what
    assert not check(Names({}, permit(R, external=False)))


def test_what_is_left_to_an_external_provider_must_be_offered_by_one() -> None:
    other = R.replace("_REV", "-REV")
    near, unpermitted = check(Names({}, permit(R), False, {other: "config"}, True))
    assert (near.severity, unpermitted.severity) == ("error", "warning")
    assert near.fix == f"write one name on both sides, e.g. {other}"
    assert f"{other!r} is offered, but the KubeVirt CR does not permit it" in unpermitted.what
    (far, _) = check(Names({}, permit(R), False, {"a.com/x": "config"}, True))
    assert (far.severity, far.fix) == (
        "warning",
        "add it to the plugin's configuration, unless another plugin offers it",
    )


def test_what_a_vm_asks_for_is_compared_with_what_the_plugin_offers() -> None:
    (finding,) = check(Names({R.lower(): "gpus[0]"}, None, False, {R: "sys"}))
    assert (finding.severity, finding.fix) == ("error", f"write one name on both sides, e.g. {R}")
    (finding,) = check(Names({"a.com/x": "gpus[0]"}, None, False, {R: "sys"}))
    assert finding.severity == "warning"


def test_what_is_permitted_should_be_on_a_node() -> None:
    (finding,) = check(Names({}, permit(R), nodes=(node("a", resource=R.lower()),)))
    assert (finding.severity, finding.check) == ("error", "kubelet")
    (finding,) = check(Names({}, permit(R), nodes=(node("a", resource="a.com/x"),)))
    assert finding.severity == "warning"


def test_devices_that_are_not_healthy_are_counted() -> None:
    (finding,) = check(Names({R: "vmi"}, nodes=(node("a", healthy=1, of=4),)))
    assert (finding.severity, finding.where) == ("warning", "node/a")
    assert finding.what == f"3 of 4 {R} are not healthy"
    assert not check(Names({"a.com/x": "vmi"}, nodes=(node("a", healthy=1, of=4),)))


def amounts(wanted: int, *nodes: ClusterNode, resource: str = R) -> list[Finding]:
    return list(check_amounts({resource: Fraction(wanted)}, {resource: "gpus[0]"}, nodes))


def test_one_node_must_have_all_that_a_vm_asks_for() -> None:
    (finding,) = amounts(2, node("a", 1), node("b", 2))
    assert (finding.severity, finding.where) == ("ok", "node/b")
    (finding,) = amounts(3, node("a", 1), node("b", 2))
    assert finding.severity == "error"
    assert finding.what.endswith(f"node/a has 1 {R}; node/b has 2 {R}")
    cordoned = ClusterNode("node/c", {R: Fraction(8)}, {R: Fraction(8)}, is_cordoned=True)
    (finding,) = amounts(3, cordoned)
    assert "and is cordoned" in finding.what


def test_a_resource_that_no_node_has_is_told_with_the_nearest() -> None:
    (finding,) = amounts(1, node("a"), resource=R.lower())
    assert (finding.severity, finding.fix) == ("error", f"write one name on both sides, e.g. {R}")
    (finding,) = amounts(1, node("a"), resource="a.com/x")
    assert "launcher-hook doctor --node" in finding.fix
    assert not list(check_amounts({}, {}, (node("a"),)))


def test_nothing_is_near_nothing() -> None:
    assert nearest(R, []) is None
    assert nearest("a.com/", ["b.com/"]) is None
