"""What a device is, and what a measurement on one says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from edgec.devices.stats import PERCENTILE_METHOD, Comparison, cv, outliers, percentile

Run = Callable[[], object]
"""One inference, inputs and all."""


class Device(Protocol):
    """Where inferences run and are timed."""

    @property
    def name(self) -> str:
        """What messages and reports call it."""

    @property
    def margin(self) -> float:
        """The relative difference that its clocks alone may make: 0.01 locked, 0.03 floating."""

    def facts(self) -> Mapping[str, Any]:
        """Its circumstances now: processor, clocks, load; JSON values."""

    def now(self) -> int:
        """Its clock, ns; never goes back."""

    def timed(self, run: Run) -> int:
        """Run once, to the end: ns."""


@dataclass(frozen=True)
class Latency:
    """The latency of one inference: batch 1 or the model's own, one stream, synchronous.

    Inputs and outputs are host arrays, so whatever copies the backend makes are included.

    Args:
        blocks: Every sample that was timed, ns, by block, in order.
        first_ns: The very first inference, which is not among them.
        steady: Whether the warm-up ended in a steady state before its time was over.
        threads: Threads that computed.
        device: Name and circumstances of the device, before and after.
    """

    blocks: tuple[tuple[int, ...], ...]
    first_ns: int
    steady: bool
    threads: int
    device: Mapping[str, Any]

    @property
    def samples(self) -> tuple[int, ...]:
        """All samples, ns."""
        return tuple(sample for block in self.blocks for sample in block)

    @property
    def n(self) -> int:
        """Number of samples."""
        return sum(map(len, self.blocks))

    @property
    def p50_ms(self) -> float | None:
        """Median, ms; None where n is too small. So too the next two."""
        return _ms(percentile(self.samples, 50))

    @property
    def p90_ms(self) -> float | None:
        """90th percentile, ms."""
        return _ms(percentile(self.samples, 90))

    @property
    def p99_ms(self) -> float | None:
        """99th percentile, ms."""
        return _ms(percentile(self.samples, 99))

    @property
    def cv(self) -> float | None:
        """Coefficient of variation."""
        return cv(self.samples)

    def to_json(self) -> dict[str, Any]:
        """For report.json: the figures, what they mean, and the samples."""
        mild, severe = outliers(self.samples)
        return {
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p99_ms": self.p99_ms,
            "min_ms": _ms(min(self.samples)),
            "max_ms": _ms(max(self.samples)),
            "percentile_method": PERCENTILE_METHOD,
            "n": self.n,
            "cv": self.cv,
            "outliers": {"mild": mild, "severe": severe},
            "first_ms": _ms(self.first_ns),
            "steady": self.steady,
            "threads": self.threads,
            "streams": 1,
            "copies": "included",
            "device": dict(self.device),
            "blocks_ns": [list(block) for block in self.blocks],
        }


@dataclass(frozen=True)
class Pair:
    """Two latencies that were measured side by side."""

    a: Latency
    b: Latency
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "original": self.a.to_json(),
            "result": self.b.to_json(),
            "comparison": asdict(self.comparison),
        }


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e6
