"""Simulates policies for closing an idle connection when another organization needs one.

    python -m benchmarks.connection_policy --organizations 1000 --ceilings 64 256

Prints the share of requests that find their organization's connection open, with organizations
chosen by Zipf as in `make bench`, and the same for the 2,000 requests after a report has visited
every organization. organizations/tenancy/idle.py has the simplest policy within 0.03 of the best.
"""

import argparse
import bisect
import itertools
import random
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

REQUESTS = 150_000
# The first third opens what stays open.
WARM_UP = REQUESTS // 3
AFTER_A_SCAN = 2_000


class Policy(Protocol):
    """Keeps at most `ceiling` connections, one for each organization."""

    def finds(self, organization: int) -> bool:
        """Whether its connection was open. Afterwards it is."""
        ...


class Lru:
    """Closes the least recently used."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._open: OrderedDict[int, None] = OrderedDict()

    def finds(self, organization: int) -> bool:
        found = organization in self._open
        self._open[organization] = None
        self._open.move_to_end(organization)
        if len(self._open) > self._ceiling:
            self._open.popitem(last=False)
        return found


class SegmentedLru:
    """Closes what was never used again first, then the least recently used."""

    def __init__(self, ceiling: int, share: float) -> None:
        self._ceiling, self._most_regulars = ceiling, int(ceiling * share)
        self._once: OrderedDict[int, None] = OrderedDict()
        self._regular: OrderedDict[int, None] = OrderedDict()

    def finds(self, organization: int) -> bool:
        if organization in self._regular:
            self._regular.move_to_end(organization)
            return True
        if organization in self._once:
            del self._once[organization]
            self._regular[organization] = None
            if len(self._regular) > self._most_regulars:
                demoted, _ = self._regular.popitem(last=False)
                self._once[demoted] = None
            return True
        if len(self._once) + len(self._regular) >= self._ceiling:
            (self._once or self._regular).popitem(last=False)
        self._once[organization] = None
        return False


class TinyLfu:
    """Keeps a newcomer beyond a small window only if it is asked for more often than the oldest.

    Counts are halved after `sample` times the ceiling requests.
    """

    def __init__(self, ceiling: int, window: float = 0.02, sample: int = 50) -> None:
        self._window_size = max(1, int(ceiling * window))
        self._main_size = ceiling - self._window_size
        self._sample = sample * ceiling
        self._counts: Counter[int] = Counter()
        self._seen = 0
        self._window: OrderedDict[int, None] = OrderedDict()
        self._main: OrderedDict[int, None] = OrderedDict()

    def finds(self, organization: int) -> bool:
        self._count(organization)
        for part in (self._window, self._main):
            if organization in part:
                part.move_to_end(organization)
                return True
        self._window[organization] = None
        if len(self._window) > self._window_size:
            candidate, _ = self._window.popitem(last=False)
            if len(self._main) < self._main_size:
                self._main[candidate] = None
            elif self._counts[candidate] > self._counts[oldest := next(iter(self._main))]:
                del self._main[oldest]
                self._main[candidate] = None
        return False

    def _count(self, organization: int) -> None:
        self._counts[organization] += 1
        self._seen += 1
        if self._seen >= self._sample:
            self._seen //= 2
            self._counts = Counter(
                {each: count // 2 for each, count in self._counts.items() if count > 1}
            )


POLICIES: dict[str, Callable[[int], Policy]] = {
    "LRU": Lru,
    "segmented LRU, 0.5 for regulars": lambda ceiling: SegmentedLru(ceiling, 0.5),
    "segmented LRU, 0.8 for regulars": lambda ceiling: SegmentedLru(ceiling, 0.8),
    "segmented LRU, 0.9 for regulars": lambda ceiling: SegmentedLru(ceiling, 0.9),
    "TinyLFU": TinyLfu,
}


def weight(rank: int) -> float:
    """How often the organization of this rank is requested, by Zipf(1.1) as in `make bench`."""
    return float((rank + 1) ** -1.1)


def hits(policy: Policy, organizations: int, *, seed: int, scan: bool) -> float:
    """The share of requests that find an open connection, after a warm-up."""
    choices = random.Random(seed)  # noqa: S311 - a simulation
    weights = list(itertools.accumulate(weight(rank) for rank in range(organizations)))

    def ask() -> bool:
        return policy.finds(bisect.bisect(weights, choices.random() * weights[-1]))

    for _ in range(WARM_UP):
        ask()
    if scan:
        for organization in range(organizations):
            policy.finds(organization)
    counted = AFTER_A_SCAN if scan else REQUESTS - WARM_UP
    return sum(ask() for _ in range(counted)) / counted


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connection_policy")
    parser.add_argument("--organizations", type=int, default=1000)
    parser.add_argument("--ceilings", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    for ceiling in options.ceilings:
        weights = [weight(rank) for rank in range(options.organizations)]
        best = sum(weights[:ceiling]) / sum(weights)
        print(f"{ceiling} connections; always the {ceiling} busiest: {best:.3f}")
        for name, make in POLICIES.items():
            usual, after = (
                hits(make(ceiling), options.organizations, seed=options.seed, scan=scan)
                for scan in (False, True)
            )
            print(f"  {name:<32} {usual:.3f}, after a scan {after:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
