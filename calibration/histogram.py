"""What is known of the values of one tensor after any number of batches, in fixed memory.

A histogram has BINS bins of width 2^e whose edges are multiples of 2^e, for the least e at which
the values fit. Two bins of one width make one of the next, exactly. So a histogram depends on the
values alone: not on the batches they came in, nor on the order in which batches are merged.

Exact zeros, which every grid holds, are counted apart: half of what a Relu gives are zeros.
Values that are not finite are counted and have no part in anything else.

The bins and moments are of *sampled* values; `least` and `greatest` are of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS = 2048
MOVING = 0.01
"""Weight of the newest sample in a moving average; PyTorch's MovingAverageMinMaxObserver."""
_MANTISSA = 23  # bins finer than float32 tells apart would be empty


@dataclass(frozen=True)
class Histogram:
    """Statistics of one tensor.

    Attributes:
        counts: int64[BINS], the sampled values in each bin.
        exponent: Bins are 2^exponent wide.
        first: Bin 0 begins at first · 2^exponent.
        low, high: The least and the greatest sampled value that is not 0; inf and −inf if none.
        zeros: Sampled values that are exactly 0.
        mean: Of the sampled values, zeros among them.
        m2: Σ (x − mean)² of them.
        least, greatest: Of all values, not only those sampled; inf and −inf if there are none.
        total: Number of all finite values.
        samples: Number of samples (rows) that the values came in.
        start: float64[2], the least and the greatest value of the first sample.
        moving: float64[2], the moving average of those of all samples, in order.
        nonfinite: Values that are NaN or infinite, as far as they were looked for.
        channels: float64[channels], the mean of each, all values counted; empty if not asked for.
    """

    counts: Counts
    exponent: int
    first: int
    low: float
    high: float
    zeros: int
    mean: float
    m2: float
    least: float
    greatest: float
    total: int
    samples: int
    start: Floats
    moving: Floats
    nonfinite: int = 0
    channels: Floats = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def empty(cls) -> Histogram:
        """Of no values at all; what merging leaves as it is."""
        return cls.of(np.zeros((0, 0), np.float32))

    @classmethod
    def of(
        cls,
        values: Array,
        lows: ArrayLike | None = None,
        highs: ArrayLike | None = None,
        total: int | None = None,
        channels: Array | None = None,
    ) -> Histogram:
        """The histogram of an array.

        Args:
            values: float[samples, …], all values or some of each sample.
            lows, highs: float[samples], the least and greatest of all values of each sample;
                those of `values` if not given.
            total: Number of all values; that of `values` if not given.
            channels: float[samples, channels], means of all values of each channel and sample.
        """
        rows = np.asarray(values).reshape(len(values), math.prod(np.shape(values)[1:]))
        finite = np.isfinite(rows)
        nonfinite = rows.size - int(np.count_nonzero(finite))
        flat = (rows[finite] if nonfinite else rows.ravel()).astype(np.float64)
        used = finite.any(1)
        if lows is None:
            lows = np.where(finite, rows, np.inf).min(1, initial=np.inf)[used]
        if highs is None:
            highs = np.where(finite, rows, -np.inf).max(1, initial=-np.inf)[used]
        ends = np.stack([np.asarray(lows, np.float64), np.asarray(highs, np.float64)])
        some = flat[flat != 0]
        low, high = some.min(initial=np.inf), some.max(initial=-np.inf)
        exponent, first = _place(low, high)
        bins = np.floor(some * 2.0**-exponent).astype(np.int64) - first
        mean = float(flat.mean()) if flat.size else 0.0
        return cls(
            counts=np.bincount(bins, minlength=BINS),
            exponent=exponent,
            first=first,
            low=float(low),
            high=float(high),
            zeros=flat.size - some.size,
            mean=mean,
            m2=float(np.square(flat - mean).sum()),
            least=float(ends[0].min(initial=np.inf)),
            greatest=float(ends[1].max(initial=-np.inf)),
            total=flat.size if total is None else total,
            samples=ends.shape[1],
            start=ends[:, 0] if ends.size else np.zeros(2),
            moving=_moving(ends),
            nonfinite=nonfinite,
            channels=np.zeros(0) if channels is None else channels.mean(0, dtype=np.float64),
        )

    def merged(self, other: Histogram) -> Histogram:
        """Of the values of both, those of `other` last."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        exponent, first = _place(low, high)
        n, m = self.sampled, other.sampled
        gap, both = other.mean - self.mean, max(n + m, 1)
        kept = (1 - MOVING) ** other.samples
        return Histogram(
            counts=self._at(exponent, first) + other._at(exponent, first),
            exponent=exponent,
            first=first,
            low=low,
            high=high,
            zeros=self.zeros + other.zeros,
            mean=self.mean + gap * m / both,  # Chan et al.
            m2=self.m2 + other.m2 + gap**2 * n * m / both,
            least=min(self.least, other.least),
            greatest=max(self.greatest, other.greatest),
            total=self.total + other.total,
            samples=self.samples + other.samples,
            start=self.start if self.samples else other.start,
            moving=other.moving + kept * (self.moving - other.start)
            if self.samples
            else other.moving,
            nonfinite=self.nonfinite + other.nonfinite,
            channels=self._channels_with(other),
        )

    def _channels_with(self, other: Histogram) -> Floats:
        if not self.channels.size or not other.channels.size:
            return self.channels if self.samples else other.channels
        both = self.samples + other.samples
        return self.channels + (other.channels - self.channels) * (other.samples / both)

    @property
    def sampled(self) -> int:
        """Number of values in the bins, and zeros."""
        return int(self.counts.sum()) + self.zeros

    @property
    def width(self) -> float:
        """Of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> Floats:
        """float64[BINS + 1], the ends of the bins."""
        return np.arange(self.first, self.first + BINS + 1, dtype=np.float64) * self.width

    @property
    def std(self) -> float:
        """Standard deviation of the sampled values."""
        return math.sqrt(self.m2 / max(self.sampled, 1))

    def magnitudes(self) -> tuple[Counts, Floats]:
        """The bins of |x|: their counts int64[n] and edges float64[n + 1] from 0 on, n ≤ BINS.

        They are wider than those of x where x is far from 0.
        """
        used = np.flatnonzero(self.counts)
        positions = used + self.first
        positions = np.where(positions < 0, -1 - positions, positions)
        wider = max(int(positions.max(initial=0)).bit_length() - (BINS - 1).bit_length(), 0)
        counts = np.bincount(positions >> wider, self.counts[used], 1).astype(np.int64)
        edges = np.arange(counts.size + 1, dtype=np.float64)
        return counts, edges * math.ldexp(1.0, self.exponent + wider)

    def _at(self, exponent: int, first: int) -> Counts:
        """The counts in bins that are as wide or wider."""
        found = np.zeros(BINS, np.int64)
        used = np.flatnonzero(self.counts)
        np.add.at(
            found, ((used + self.first) >> (exponent - self.exponent)) - first, self.counts[used]
        )
        return found


def _place(low: float, high: float) -> tuple[int, int]:
    """The exponent and the first bin that hold `low` to `high`; no other choice is ever made."""
    if low > high:
        return -149, 0
    finest = math.frexp(max(abs(low), abs(high)))[1] - _MANTISSA - 1
    span = math.frexp(high - low)[1] - BINS.bit_length() - 1
    exponent = max(finest, span) if high > low else finest
    while _bin(high, exponent) - _bin(low, exponent) >= BINS:
        exponent += 1
    return exponent, _bin(low, exponent)


def _bin(x: float, exponent: int) -> int:
    return math.floor(math.ldexp(x, -exponent))


def _moving(ends: Floats) -> Floats:
    """Moving averages of float64[2, samples] from the first on: s ← s + MOVING · (x − s)."""
    n = ends.shape[1]
    if not n:
        return np.zeros(2)
    weights = MOVING * (1 - MOVING) ** np.arange(n - 1, -1, -1)
    weights[0] = (1 - MOVING) ** (n - 1)
    return np.asarray(ends @ weights)
