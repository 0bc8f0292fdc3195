"""Whether the same resource has the same, legal name wherever it is spoken of. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from launcher_hook.deviceplugin.names import check_resource
from launcher_hook.doctor.clusterfacts import Amounts, ClusterNode, Permitted
from launcher_hook.doctor.finding import Finding, counted, fail, fine, listed, warn
from launcher_hook.env import variable_of

_UNCHANGED = str.maketrans("", "", "-_. ")


@dataclass(frozen=True, slots=True)
class Names:
    """Who speaks of resources; None where it is not known what they say.

    Attributes:
        asked: By the VM: resource, with where its first entry stands.
        permitted: By the KubeVirt CR; an empty tuple permits nothing.
        permits_all: The CR has no permittedHostDevices.
        offered: By our device plugin: resource, with where that is said.
        is_configured: Whether a configuration of the plugin says what it offers.
        nodes: The cluster's.
    """

    asked: Mapping[str, str]
    permitted: tuple[Permitted, ...] | None = None
    permits_all: bool = False
    offered: Mapping[str, str] | None = None
    is_configured: bool = False
    nodes: tuple[ClusterNode, ...] | None = None


def check_names(names: Names) -> Iterator[Finding]:
    """Legal, one variable each, and equal on all sides."""
    spoken = dict(names.asked)
    for entry in names.permitted or ():
        spoken.setdefault(entry.resource, entry.where)
    for resource, where in (names.offered or {}).items():
        spoken.setdefault(resource, where)
    yield from _check_legal(spoken)
    yield from _check_variables(names.asked, is_asked=True)
    yield from _check_variables(
        {e.resource: e.where for e in names.permitted or ()}, is_asked=False
    )
    if names.permitted is not None and not names.permits_all:
        yield from _check_permitted(names)
    if names.offered is not None:
        yield from _check_offered(names)
    if names.nodes is not None:
        yield from _check_advertised(names)


def _check_legal(spoken: Mapping[str, str]) -> Iterator[Finding]:
    legal = []
    for resource, where in spoken.items():
        try:
            check_resource(resource)
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            yield fail("names", where, what, f"{fix}, on all sides")
        else:
            legal.append(resource)
    if legal:
        yield fine("names", listed(legal), f"{counted(len(legal), 'name')} that Kubernetes takes")


def _check_variables(resources: Mapping[str, str], is_asked: bool) -> Iterator[Finding]:
    """Two resources of one variable overwrite each other's addresses in a pod that has both."""
    by_variable: dict[str, list[str]] = {}
    for resource in resources:
        by_variable.setdefault(variable_of(resource), []).append(resource)
    for variable, alike in by_variable.items():
        if len(alike) > 1:
            yield (fail if is_asked else warn)(
                "names",
                resources[alike[1]],
                f"{listed(map(repr, alike))} have one variable, {variable}, in which a pod that "
                "has both finds the addresses of one",
                "rename one so that it differs in more than case, '/', '.' and '_'",
            )


def _check_permitted(names: Names) -> Iterator[Finding]:
    permitted = {entry.resource for entry in names.permitted or ()}
    right = []
    for resource, where in names.asked.items():
        if resource in permitted:
            right.append(resource)
        else:
            yield fail(
                "permitted",
                where,
                f"{resource!r} is not in the KubeVirt CR's permittedHostDevices"
                f"{_near(resource, permitted)}",
                _rename(resource, permitted) or "add an entry with that resourceName to it",
            )
    if right:
        yield fine("permitted", "permittedHostDevices", f"it has {listed(right)}")


def _check_offered(names: Names) -> Iterator[Finding]:
    """Our plugin and the CR: each resource has one provider, and KubeVirt knows which."""
    offered = names.offered or {}
    entries = names.permitted or ()
    by_resource = {entry.resource: entry for entry in entries}
    for entry in entries:
        if entry.external and entry.resource not in offered and names.is_configured:
            near = _rename(entry.resource, offered)
            yield (fail if near else warn)(
                "provider",
                entry.where,
                f"{entry.resource!r} is left to an external provider, and launcher-hook's device "
                f"plugin offers none of that name{_near(entry.resource, offered)}",
                near or "add it to the plugin's configuration, unless another plugin offers it",
            )
        elif not entry.external and entry.resource in offered and names.is_configured:
            yield fail(
                "provider",
                entry.where,
                f"{entry.resource!r} is offered by launcher-hook's device plugin "
                f"({offered[entry.resource]}) and, without 'externalResourceProvider: true', by "
                "virt-handler too",
                "write externalResourceProvider: true there",
            )
        elif not entry.external:
            yield warn(
                "provider",
                entry.where,
                f"{entry.resource!r} has no 'externalResourceProvider: true', so virt-handler "
                "offers it, and launcher-hook's device plugin does not",
                "write externalResourceProvider: true there, if that plugin is to offer it",
            )
        elif entry.resource in offered:
            yield fine("provider", entry.where, f"{entry.resource} is left to our device plugin")
    if names.permitted is not None and not names.permits_all:
        permitted = set(by_resource)
        for resource, where in offered.items():
            if resource not in permitted and resource not in names.asked:
                yield warn(
                    "provider",
                    where,
                    f"{resource!r} is offered, but the KubeVirt CR does not permit it"
                    f"{_near(resource, permitted)}",
                    _rename(resource, permitted) or "add it to permittedHostDevices",
                )
    if names.permitted and not names.is_configured:
        return  # what is offered is what is permitted
    for resource, where in names.asked.items():
        given = by_resource.get(resource)
        if resource not in offered and given is None:
            near = _rename(resource, offered)
            yield (fail if near else warn)(
                "provider",
                where,
                f"launcher-hook's device plugin offers no {resource!r}{_near(resource, offered)}",
                near or "see who offers it: kubectl get node NODE -o yaml, by --node-object",
            )


def _check_advertised(names: Names) -> Iterator[Finding]:
    """What kubelet tells the scheduler; the most that one node has counts."""
    nodes = names.nodes or ()
    there = {resource for node in nodes for resource in node.capacity}
    for entry in names.permitted or ():
        near = _rename(entry.resource, there)
        if entry.resource not in there and entry.resource not in names.asked:
            yield (fail if near else warn)(
                "kubelet",
                entry.where,
                f"no node that was given has {entry.resource!r}{_near(entry.resource, there)}",
                near or "see its device plugin's log, if a node should",
            )
    for node in nodes:
        for resource, capacity in node.capacity.items():
            least = node.allocatable.get(resource, 0)
            if least < capacity and (resource in names.asked or _is_spoken_of(resource, names)):
                yield warn(
                    "kubelet",
                    node.where,
                    f"{int(capacity - least)} of {int(capacity)} {resource} are not healthy",
                    "run `launcher-hook doctor --node` there",
                )


def _is_spoken_of(resource: str, names: Names) -> bool:
    return resource in (names.offered or {}) or any(
        entry.resource == resource for entry in names.permitted or ()
    )


def check_amounts(
    wanted: Amounts, asked: Mapping[str, str], nodes: tuple[ClusterNode, ...]
) -> Iterator[Finding]:
    """Whether one node has all that the VM asks for, whoever uses it now."""
    there = {resource for node in nodes for resource in node.capacity}
    missing = [resource for resource in wanted if resource not in there]
    for resource in missing:
        yield fail(
            "kubelet",
            asked[resource],
            f"no node that was given has {resource!r}{_near(resource, there)}",
            _rename(resource, there)
            or "see on the node: launcher-hook doctor --node, and its device plugin's log",
        )
    if missing or not wanted:
        return
    usable = [node for node in nodes if not node.is_cordoned]
    able = [n for n in usable if all(n.allocatable.get(r, 0) >= a for r, a in wanted.items())]
    text = ", ".join(f"{int(amount)} {resource}" for resource, amount in wanted.items())
    if able:
        yield fine("kubelet", listed(node.where for node in able), f"it has {text}, used or not")
        return
    best = "; ".join(
        f"{node.where} has "
        + ", ".join(f"{int(node.allocatable.get(r, 0))} {r}" for r in wanted)
        + (" and is cordoned" if node.is_cordoned else "")
        for node in nodes
    )
    yield fail(
        "kubelet",
        next(iter(asked.values())),
        f"no node has {text} for a VM: {best}",
        "ask for fewer, or see why some are not healthy: launcher-hook doctor --node",
    )


def nearest(name: str, others: Collection[str]) -> str | None:
    """The one that was probably meant."""
    squashed = _squash(name)
    for other in others:
        if _squash(other) == squashed:
            return other
    last = name.rpartition("/")[2]
    for other in others:
        if last and other.rpartition("/")[2] == last:
            return other
    return next(iter(get_close_matches(name, others, n=1, cutoff=0.85)), None)


def _near(name: str, others: Collection[str]) -> str:
    """How the nearest name differs, for a message."""
    other = nearest(name, others)
    if other is None:
        return f"; there are {listed(others)}" if others else ""
    if other.casefold() == name.casefold():
        how = "differs in upper and lower case"
    elif _squash(other) == _squash(name):
        how = "differs in '-', '_' and '.'"
    elif other.rpartition("/")[2] == name.rpartition("/")[2]:
        how = "differs in what stands before the slash"
    else:
        how = "is near"
    return f"; {other!r} {how}"


def _rename(name: str, others: Collection[str]) -> str | None:
    other = nearest(name, others)
    return None if other is None else f"write one name on both sides, e.g. {other}"


def _squash(name: str) -> str:
    return name.casefold().translate(_UNCHANGED)
