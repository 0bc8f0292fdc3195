"""GetPreferredAllocation: devices that are close to each other. Pure and deterministic.

Closest first: under one PCIe switch or root port, under one root complex, on one NUMA node; in
there whole host slots, and the lowest addresses.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher_hook.deviceplugin.devices import Device
from launcher_hook.model import HostFunction, source_order

_Way = tuple[str, ...]
"""From the machine down to a device: NUMA node, root complex, bridges."""

_LEVELS = (3, 2, 1)
"""Steps that a switch's, a root complex's and a NUMA node's devices have in common."""

_UNKNOWN: _Way = ()


def prefer(
    available: Iterable[str], must_include: Iterable[str], size: int, offered: Mapping[str, Device]
) -> tuple[str, ...]:
    """Choose ``size`` of the available ids.

    Args:
        available: Ids to choose from, in any order.
        must_include: Ids that are in the answer whatever it costs.
        size: How many, those included.
        offered: What is known of an id; one that is not in here is chosen last.

    Returns:
        In address order. All there are, where those are too few.
    """
    chosen = list(dict.fromkeys(must_include))
    choice = _Choice((*chosen, *available), offered)
    free = choice.in_order(set(available) - set(chosen))
    need = size - len(chosen)
    if need >= len(free):
        chosen += free
    elif size > 1 and need > 0:
        chosen += choice.closest(free, chosen, need)
    elif need > 0:
        chosen += free[:need]
    return tuple(choice.in_order(chosen))


class _Choice:
    """Knows where each id is."""

    def __init__(self, ids: Iterable[str], offered: Mapping[str, Device]) -> None:
        self._ways: dict[str, _Way] = {}
        self._slots: dict[str, object] = {}
        self._order: dict[str, tuple[object, ...]] = {}
        for device_id in ids:
            device = offered.get(device_id)
            function = None if device is None else device.function
            self._ways[device_id] = _UNKNOWN if function is None else _way(function)
            self._slots[device_id] = device_id
            if function is not None and device is not None and not device.is_mediated:
                self._slots[device_id] = function.address.slot_key
            known = device is not None
            order = source_order(device.source) if device is not None else (device_id,)
            self._order[device_id] = (not known, *order)

    def in_order(self, ids: Iterable[str]) -> list[str]:
        return sorted(ids, key=self._order.__getitem__)

    def closest(self, free: list[str], chosen: Sequence[str], need: int) -> list[str]:
        """Take from the smallest neighbourhood that has enough and holds all that is chosen."""
        in_slot = Counter(self._slots[i] for i in free)
        for level in _LEVELS:
            ways = {self._ways[i][:level] for i in chosen}
            clusters = [
                ids
                for way, ids in self._split(free, level).items()
                if len(way) == level and len(ids) >= need and ways <= {way}
            ]
            if clusters:
                taken = (self._take(ids, chosen, need, level) for ids in clusters)
                return min(taken, key=lambda ids: self._cost(ids, in_slot))
        return self._take(free, chosen, need, 0)

    def _cost(
        self, taken: list[str], in_slot: Mapping[object, int]
    ) -> tuple[int, list[tuple[object, ...]]]:
        """How many slots are broken, and the order; less is better."""
        slots = Counter(self._slots[i] for i in taken)
        broken = sum(count < in_slot[slot] for slot, count in slots.items())
        return (broken, [self._order[i] for i in taken])

    def _split(self, ids: Iterable[str], level: int) -> dict[_Way, list[str]]:
        parts: dict[_Way, list[str]] = {}
        for device_id in ids:
            parts.setdefault(self._ways[device_id][:level], []).append(device_id)
        return parts

    def _take(self, ids: list[str], chosen: Sequence[str], need: int, level: int) -> list[str]:
        """Take from one neighbourhood, from as few parts of it as can be."""
        parts = self._split(ids, level + 1)
        if all(len(way) <= level for way in parts):
            return self._take_slots(ids, chosen, need)
        near = self._split(chosen, level + 1)
        taken: list[str] = []
        for way, count in self._by_distance(parts, near, need):
            taken += self._take(parts[way], near.get(way, ()), count, level + 1)
        return self.in_order(taken)

    def _by_distance(
        self, parts: Mapping[_Way, list[str]], near: Mapping[_Way, list[str]], need: int
    ) -> Iterator[tuple[_Way, int]]:
        """Choose parts until they have enough, and how many to take of each.

        First those with the most chosen devices; then one with just as many as are still needed,
        else a larger one, else the largest. Parts with the same numbers differ by their order only.
        """
        alike: dict[tuple[bool, int, int], list[_Way]] = {}
        for way in sorted(parts, key=lambda way: self._order[parts[way][0]], reverse=True):
            kind = (way == _UNKNOWN, -len(near.get(way, ())), len(parts[way]))
            alike.setdefault(kind, []).append(way)
        while need and alike:
            kind = min(alike, key=lambda kind: self._distance(kind, need, parts[alike[kind][-1]]))
            way = alike[kind].pop()
            if not alike[kind]:
                del alike[kind]
            count = min(need, len(parts[way]))
            need -= count
            yield way, count

    def _distance(
        self, kind: tuple[bool, int, int], need: int, ids: list[str]
    ) -> tuple[object, ...]:
        unknown, near, size = kind
        return (unknown, near, -min(size, need), size > need, self._order[ids[0]])

    def _take_slots(self, ids: list[str], chosen: Sequence[str], need: int) -> list[str]:
        """Take whole slots, those of chosen devices first, then the lowest; break one at most."""
        slots: dict[object, list[str]] = {}
        for device_id in ids:
            slots.setdefault(self._slots[device_id], []).append(device_id)
        begun = {self._slots[i] for i in chosen}
        order = sorted(slots, key=lambda slot: (slot not in begun, self._order[slots[slot][0]]))
        # Bit n of sums[i]: whole slots from the i-th on can have n functions together.
        sums = [1]
        for slot in reversed(order):
            sums.append(sums[-1] | sums[-1] << len(slots[slot]) & (2 << need) - 1)
        sums.reverse()
        whole = next(n for n in range(need, -1, -1) if sums[0] >> n & 1)
        taken: list[str] = []
        rest: list[str] = []
        for index, slot in enumerate(order):
            left = whole - len(taken) - len(slots[slot])
            if left >= 0 and sums[index + 1] >> left & 1:
                taken += slots[slot]
            else:
                rest += slots[slot]
        return self.in_order([*taken, *rest[: need - len(taken)]])


def _way(function: HostFunction) -> _Way:
    domain, bus = function.host_bridge
    numa = "?" if function.numa_node is None else str(function.numa_node)
    return (numa, f"{domain:04x}:{bus:02x}", *map(str, function.bridges))
