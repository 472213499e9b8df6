"""Statistics of latencies. Samples are nanoseconds; numpy only.

Percentiles are *nearest rank*: the p-th percentile of n samples is the ceil(p·n/100)-th smallest,
a latency that did occur. A percentile with no sample beyond it is not reported: the 99th of 50
samples would be their maximum under another name.

Two models are compared by the ratios of the medians of blocks that were measured side by side:
what slows the machine for a while slows both. The interval is the 95 % bootstrap interval of
the median of these ratios over the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

PERCENTILE_METHOD = "nearest-rank"
STEADY_WINDOWS, STEADY_RATIO = 3, 1.05
_RESAMPLES = 10_000

Block = Sequence[int]


class Verdict(StrEnum):
    """What the interval of a ratio b/a says, given a margin m."""

    FASTER = "FASTER"  # all of it is below 1 − m
    SLOWER = "SLOWER"  # all of it is above 1 + m
    SAME = "SAME"  # all of it is within 1 ± m
    AMBIGUOUS = "AMBIGUOUS"  # it crosses one of these, or there are too few blocks


@dataclass(frozen=True)
class Comparison:
    """The latency of b relative to that of a.

    Args:
        ratio: Median over the blocks of median(b) / median(a); below 1, b is faster.
        low: Lower end of its 95 % interval.
        high: Upper end.
        verdict: What the interval says.
        margin: A difference up to this part is none.
        blocks: Number of pairs of blocks.
        reason: Why the verdict is ambiguous although it need not be; else empty.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict
    margin: float
    blocks: int
    reason: str = ""


def percentile(samples: Sequence[int], p: int) -> int | None:
    """The p-th percentile (0 < p < 100) by nearest rank; None if no sample lies beyond it."""
    rank = -(-p * len(samples) // 100)
    return sorted(samples)[rank - 1] if 0 < rank < len(samples) else None


def cv(samples: Sequence[int]) -> float | None:
    """Coefficient of variation, standard deviation / mean; None for fewer than 2 samples."""
    if len(samples) < 2:
        return None
    return float(np.std(samples, ddof=1) / np.mean(samples))


def outliers(samples: Sequence[int]) -> tuple[int, int]:
    """Numbers of (mild, severe) outliers: beyond 1.5 and 3 interquartile ranges (Tukey)."""
    if not len(samples):
        return 0, 0
    low, high = np.percentile(samples, [25, 75])
    beyond = np.maximum(low - np.asarray(samples), np.asarray(samples) - high)
    severe = int((beyond > 3 * (high - low)).sum())
    return int((beyond > 1.5 * (high - low)).sum()) - severe, severe


def is_steady(windows: Sequence[float]) -> bool:
    """Whether the medians of the last 3 windows are within 5 % of each other."""
    last = windows[-STEADY_WINDOWS:]
    return len(last) == STEADY_WINDOWS and max(last) <= STEADY_RATIO * min(last)


def compare_blocks(
    a: Sequence[Block], b: Sequence[Block], *, margin: float, min_blocks: int = 5, seed: int = 0
) -> Comparison:
    """Compare blocks that were measured in pairs: a[i] next to b[i].

    Args:
        a: Samples of each block, ns; at least one block with at least one sample.
        b: As many blocks.
        margin: A difference up to this part is none.
        min_blocks: With fewer pairs the verdict is AMBIGUOUS.
        seed: Of the bootstrap.
    """
    ratios = np.array([np.median(y) / np.median(x) for x, y in zip(a, b, strict=True)])
    low, high = _interval(ratios, seed)
    verdict, reason = _verdict(low, high, margin), ""
    if len(ratios) < min_blocks:
        verdict = Verdict.AMBIGUOUS
        reason = f"n too small: {len(ratios)} pairs of blocks, {min_blocks} needed"
    return Comparison(float(np.median(ratios)), low, high, verdict, margin, len(ratios), reason)


def _interval(ratios: NDArray[np.float64], seed: int) -> tuple[float, float]:
    picks = np.random.default_rng(seed).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)


def _verdict(low: float, high: float, margin: float) -> Verdict:
    if high < 1 - margin:
        return Verdict.FASTER
    if low > 1 + margin:
        return Verdict.SLOWER
    if 1 - margin <= low and high <= 1 + margin:
        return Verdict.SAME
    return Verdict.AMBIGUOUS
