"""A device that runs nothing and whose latencies are known: for tests, and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgec.devices.base import Run


def steps(run: Run, count: int) -> int:
    """1 ms, and up to 1 % more in a fixed sequence."""
    return 1_000_000 + 7919 * count % 10_000


@dataclass
class NullDevice:
    """Its clock goes on only by the latencies that it makes up.

    Args:
        latency: (run, how often it was timed before) → ns.
        margin: As in `Device`.
    """

    latency: Callable[[Run, int], int] = steps
    margin: float = 0.01
    name: str = field(default="null", init=False)
    _clock: int = field(default=0, init=False)
    _counts: dict[Run, int] = field(default_factory=dict, init=False)

    def facts(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def now(self) -> int:
        """The sum of all latencies so far, ns."""
        return self._clock

    def timed(self, run: Run) -> int:
        """The next latency of `run`, which is not called: ns."""
        count = self._counts.get(run, 0)
        self._counts[run] = count + 1
        latency = self.latency(run, count)
        self._clock += latency
        return latency
