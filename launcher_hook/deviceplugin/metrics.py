"""What the plugin counts. Counting needs no library; ``endpoint`` shows it to Prometheus."""

import threading
from collections import Counter
from dataclasses import dataclass, field

from launcher_hook.deviceplugin.devices import Inventory

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
"""Upper bounds of an Allocate's duration; one more stands for all that is longer."""


@dataclass
class Durations:
    """How long calls took: how many up to each bound, each once, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    sum_s: float = 0.0

    def add(self, duration_s: float) -> None:
        """Count one call."""
        self.counts[sum(duration_s > bound for bound in SECONDS)] += 1
        self.sum_s += duration_s


class Tally:
    """Counters by what they are of; several threads may count at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.allocations: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, Durations] = {}
        self.registrations: Counter[tuple[str, str]] = Counter()
        self.rescans: Counter[str] = Counter()
        self.devices: dict[tuple[str, str], int] = {}

    def allocated(self, resource: str, duration_s: float, result: str) -> None:
        """Count an Allocate; the result is given or refused."""
        with self.lock:
            self.allocations[(resource, result)] += 1
            self.durations.setdefault(resource, Durations()).add(duration_s)

    def registered(self, resource: str, result: str) -> None:
        """Count a registration; the result is accepted or failed."""
        with self.lock:
            self.registrations[(resource, result)] += 1

    def rescanned(self, result: str) -> None:
        """Count a rescan; the result is done or failed."""
        with self.lock:
            self.rescans[result] += 1

    def count_devices(self, inventory: Inventory) -> None:
        """Note how many devices there are, by resource and health; 0 for what has gone."""
        with self.lock:
            counts = dict.fromkeys(self.devices, 0)
            for device in inventory.devices():
                for health in ("healthy", "unhealthy"):
                    counts.setdefault((device.resource, health), 0)
                health = "healthy" if device.trouble is None else "unhealthy"
                counts[(device.resource, health)] += 1
            self.devices = counts
