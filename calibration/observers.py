"""Observers: which range of a tensor's values its grid should span.

An observer is a function of a histogram and a scheme that gives the ends (low, high). What lies
beyond them is clipped. None of them needs the samples again.

Zeros lie on every grid: they cost nothing and say nothing, wherever the ends are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.calibration.grid import Grid, Scheme
from edgec.calibration.histogram import BINS, Histogram

Floats = NDArray[np.float64]
Range = tuple[float, float]
Cost = Callable[[Floats, Floats], Floats]
"""lows float64[n], highs float64[n] → float64[n], what these ranges cost."""

_ROUNDS = ((32, 1.0), (8, 1 / 20), (8, 1 / 128))  # steps to each side, and how far they reach


@dataclass(frozen=True)
class Observer:
    """A way to choose a range.

    Args:
        summary: One line.
        range: (histogram, scheme) → (low, high), within the least and the greatest value.
        samples: It needs at least so many.
    """

    summary: str
    range: Callable[[Histogram, Scheme], Range]
    samples: int = 1


def minmax(found: Histogram, scheme: Scheme) -> Range:
    """All values: nothing is clipped."""
    return found.least, found.greatest


def moving_average(found: Histogram, scheme: Scheme) -> Range:
    """The moving average of each sample's ends, 1 % of the newest (PyTorch's observer).

    PyTorch averages over batches; here a batch is one sample, whatever the batches were.
    """
    low, high = found.moving
    return float(low), float(high)


def percentile(found: Histogram, scheme: Scheme, percent: float = 99.99) -> Range:
    """The range of `percent` % of all values: of |x| if symmetric, else the same cut at both ends.

    As onnxruntime.quantization's PercentileCalibrater has it. Within a bin values spread evenly.
    """
    if scheme.symmetric:
        counts, edges = found.magnitudes()
        high = _quantile(counts, edges, found.zeros, percent / 100)
        return _within(found, -high, high)
    cut = (1 - percent / 100) / 2
    ends = [_quantile(found.counts, found.edges, found.zeros, q) for q in (cut, 1 - cut)]
    return _within(found, ends[0], ends[1])


def _quantile(counts: NDArray[np.int64], edges: Floats, zeros: int, q: float) -> float:
    """Where a part q of the values lies below; the zeros lie at 0."""
    below = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    at = float(np.interp(0.0, edges, below))  # values below 0; 0 is an edge or outside
    target = q * (below[-1] + zeros)
    if at <= target <= at + zeros:
        return 0.0
    target -= zeros if target > at else 0
    return float(np.interp(target, below, edges))


def entropy(found: Histogram, scheme: Scheme) -> Range:
    """The range whose grid keeps the most information: least KL(values ‖ values on the grid).

    Migacz, "8-bit inference with TensorRT", 2017: what is clipped is counted at the ends of P;
    Q spreads what falls on one integer evenly over the bins that had any. There only |x| is
    clipped; without symmetry either end moves here.
    """
    if scheme.symmetric:
        counts, edges = found.magnitudes()
    else:
        counts, edges = found.counts, found.edges
    return _search(
        found, scheme, lambda lows, highs: _divergence(counts, edges, scheme, lows, highs)
    )


def _divergence(
    counts: NDArray[np.int64], edges: Floats, scheme: Scheme, lows: Floats, highs: Floats
) -> Floats:
    centres = (edges[1:] + edges[:-1]) / 2
    used = counts > 0
    centres, mass = centres[used], counts[used].astype(np.float64)
    grid = Grid.of_range(scheme, lows, highs, 0)
    found = np.empty(len(lows))
    for i, (scale, zero) in enumerate(zip(grid.scale, grid.zero, strict=True)):
        integers = np.rint(centres / float(scale)) + float(zero)
        kept = (integers >= scheme.low) & (integers <= scheme.high)
        if not kept.any():
            found[i] = np.inf
            continue
        p, levels = mass[kept].copy(), (integers[kept] - scheme.low).astype(np.int64)
        sums, bins = np.bincount(levels, p), np.bincount(levels)
        q = sums[levels] / bins[levels]
        first, last = np.flatnonzero(kept)[[0, -1]]
        p[0] += mass[:first].sum()
        p[-1] += mass[last + 1 :].sum()
        p, q = p / p.sum(), q / q.sum()
        found[i] = float((p * np.log(p / q)).sum())
    return found


def mse(found: Histogram, scheme: Scheme) -> Range:
    """The range whose grid has the least expected squared error of rounding and clipping.

    Within a bin values spread evenly, and the integral is exact. The least and the greatest value
    count too, one each, where the samples missed them.
    """
    missed = np.asarray([found.least < found.low, found.greatest > found.high])
    ends = np.asarray([found.least, found.greatest])[missed & (found.total > found.sampled)]
    sampled = found.sampled / max(found.total, 1)
    used = slice(0, int(np.flatnonzero(found.counts).max(initial=0)) + 1)
    density = found.counts[used] / found.width
    edges = found.edges[: used.stop + 1]

    def cost(lows: Floats, highs: Floats) -> Floats:
        grid = Grid.of_range(scheme, lows, highs, 0)
        inside = np.diff(integral(grid, edges)) @ density
        beyond = np.square(ends - _reals(grid, ends)[1]).sum(1)
        return np.asarray(inside + sampled * beyond)

    return _search(found, scheme, cost)


def integral(grid: Grid, x: Floats) -> Floats:
    """∫ (x − grid(x))² dx from 0, float64[scales, n].

    In steps of the scale s, u = x/s − k with k the integer x falls on: s³ (k/12 + u³/3). Beyond
    the grid k stays, and u grows.
    """
    scale = grid.scale.astype(np.float64)[:, None]
    k, _ = _reals(grid, x)
    u = x / scale - k
    return np.asarray(scale**3 * (k / 12 + u * u * u / 3))


def _reals(grid: Grid, x: Floats) -> tuple[Floats, Floats]:
    """The steps from zero that stand for x under each scale, and the numbers: [scales, n] each."""
    scale, zero = grid.scale.astype(np.float64)[:, None], grid.zero[:, None]
    k = np.clip(np.rint(x / scale), grid.scheme.low - zero, grid.scheme.high - zero)
    return k, k * scale


def slim(found: Histogram, scheme: Scheme) -> Range:
    """SLiM-Quant's clip of |x|: least E(a) = Σ_{v<a} p (v − ⌊v/d⌋ d)² + Σ_{v≥a} p (v − a)².

    v are the centres of the bins of |x|, p their parts of all values, d = a / 2^bits. Eleven clips
    are tried, then eleven between the neighbours of the best (Mozaffari et al., SLiM, 2024).
    """
    counts, edges = found.magnitudes()
    v, p = (edges[1:] + edges[:-1]) / 2, counts / max(counts.sum(), 1)
    greatest = max(abs(found.least), abs(found.greatest))
    if not counts.any():
        return found.least, found.greatest

    def error(a: Floats) -> Floats:
        a = a[:, None]
        d = a / 2**scheme.bits
        return np.asarray(np.where(v < a, np.square(v - np.floor(v / d) * d), (v - a) ** 2) @ p)

    low, high = 0.0, greatest
    for _ in range(2):
        clips = np.linspace(low, high, 12)[1:]
        best = int(np.argmin(error(clips)))
        low, high = clips[best] - (high - low) / 11, float(clips[min(best + 1, 10)])
        low = max(low, 0.0)
    clip = float(clips[best])
    return _within(found, -clip, clip)


def _search(found: Histogram, scheme: Scheme, cost: Cost) -> Range:
    """The range of least cost: both ends drawn in together, then each by itself, ever finer.

    The whole range is among those tried, so that nothing costs more than it.
    """
    least, greatest = min(found.least, 0.0), max(found.greatest, 0.0)
    if scheme.symmetric:
        greatest = max(-least, greatest)
        least = -greatest
    best = np.asarray([1.0, 1.0])
    moves = [(1.0, 1.0)]
    if not scheme.symmetric and least < 0 < greatest:
        moves += [(1.0, 0.0), (0.0, 1.0)]
    for tried, reach in _ROUNDS:
        for move in moves:
            steps = np.linspace(-reach, reach, 2 * tried + 1)[:, None] * np.asarray(move)
            parts = np.clip(best + steps, 0.0, 1.0)
            parts = np.unique(np.concatenate([best[None], parts[(parts > 0).all(1)]]), axis=0)[::-1]
            costs = cost(parts[:, 0] * least, parts[:, 1] * greatest)
            best = parts[int(np.argmin(costs))]
    return _within(found, float(best[0] * least), float(best[1] * greatest))


def _within(found: Histogram, low: float, high: float) -> Range:
    return max(low, found.least), min(high, found.greatest)


OBSERVERS: Mapping[str, Observer] = {
    "minmax": Observer("all values; nothing is clipped", minmax),
    "moving-average": Observer("a moving average of each sample's ends", moving_average, 8),
    "percentile": Observer("99.99 % of the values", percentile, 8),
    "entropy": Observer("the grid that keeps most information (KL, as TensorRT)", entropy, 8),
    "mse": Observer("the grid of least squared error; the default", mse, 8),
    "slim": Observer("the clip of |x| of least squared error (SLiM-Quant)", slim, 8),
}
"""name → how a range is chosen from a histogram."""

assert BINS >= 2 << 8, "a grid of 8 bits needs several bins to a step"
