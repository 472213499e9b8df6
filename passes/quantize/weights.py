"""Grids for weights: how far the range of a weight reaches, and what is stored.

A grid that spans α · [min, max] is the finer the smaller α is, and clips what lies outside.
    absmax   α = 1: nothing is clipped
    slim     α with the least Σ (w − ŵ)² over a histogram of the weights; 11 candidates, then as
             many between the neighbours of the best (SLiM-Quant, Mozaffari et al. 2024)
    mse      α with the least Σ x̄² (w − ŵ)², where x̄² is the power of the input that w multiplies:
             the error of the output if inputs were uncorrelated; 20 candidates in all, as Seq-MSE
             has (AIMET), half of them between the neighbours of the best
Both searches hold α = 1 as well, so they never do worse by their own measure. Every channel has an
α of its own where it has a grid of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.grid import Grid, Scheme

Array = NDArray[Any]
Floats = NDArray[np.float64]

_BINS = 4096  # of the histogram of one scale's weights, where they are more than that
_BLOCK = 1 << 15  # weights that are rounded at a time: they stay in the cache of a core


@dataclass(frozen=True)
class StoredWeight:
    """A weight as integers.

    Args:
        grid: What they stand for.
        integers: Shaped like the weight, in the narrowest type of numpy's.
    """

    grid: Grid
    integers: NDArray[Any]

    @classmethod
    def of(cls, weight: Array, grid: Grid) -> StoredWeight:
        """The nearest integers."""
        return cls(grid, grid.integers(weight))

    def reals(self) -> NDArray[np.float32]:
        """What the integers stand for, float32."""
        return self.grid.reals(self.integers)


Fit = Callable[[Array, Scheme, int | None, Array | None], Grid]


@dataclass(frozen=True)
class WeightMethod:
    """One way to find the grid of a weight.

    Attributes:
        summary: What it does, in one line.
        fit: (weight, scheme, axis of its output channels or None for one scale, power) → grid. The
            power is float, broadcastable to the weight: the mean square of the input that each
            weight multiplies (see `power_along`); None: all alike.
        uses_power: Whether it looks at the power.
    """

    summary: str
    fit: Fit
    uses_power: bool


def power_along(product: ir.Node, power: Array) -> Array:
    """The power of a product's input channels, shaped so that it broadcasts to its weight.

    Args:
        product: A Conv, ConvTranspose, Gemm or MatMul with a constant weight.
        power: float[input channels].
    """
    weight = product.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    shape = weight.const_value.shape.numpy()
    if product.op_type == "ConvTranspose":
        return power.reshape(-1, *[1] * (len(shape) - 1))
    if product.op_type == "Conv":  # the outputs of a group read the inputs of that group
        group = product.attributes.get_int("group", 1)
        rows = np.repeat(power.reshape(group, -1), shape[0] // group, axis=0)
        return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))
    by_rows = product.op_type == "Gemm" and product.attributes.get_int("transB", 0) == 1
    return power if by_rows else power.reshape(-1, 1)


def absmax(w: Array, scheme: Scheme, axis: int | None, power: Array | None = None) -> Grid:
    """Spans all weights."""
    return Grid.of_range(scheme, *_ends(_rows(w, axis), axis), axis)


def slim(w: Array, scheme: Scheme, axis: int | None, power: Array | None = None) -> Grid:
    """Least squared error over a histogram of the weights."""
    rows = _rows(w, axis)
    ends = _ends(rows, axis)
    counts = None
    if rows.shape[1] > _BINS:
        rows, counts = _histograms(rows)
    return _search(rows, counts, scheme, ends, axis, coarse=11, fine=11)


def mse(w: Array, scheme: Scheme, axis: int | None, power: Array | None = None) -> Grid:
    """Least squared error of the weights, each weighted with the power of its input."""
    rows = _rows(w, axis)
    heed = None if power is None else _rows(np.broadcast_to(power, w.shape), axis)
    return _search(rows, heed, scheme, _ends(rows, axis), axis, coarse=10, fine=9)


WEIGHT_METHODS: dict[str, WeightMethod] = {
    "absmax": WeightMethod("the whole range of the weights", absmax, False),
    "slim": WeightMethod("the range with the least squared error of the weights", slim, False),
    "mse": WeightMethod("the same, weighted with the power of the inputs", mse, True),
}


def _rows(w: Array, axis: int | None) -> Array:
    """The weights of each scale as a row, float32[scales, weights]."""
    w = np.asarray(w, np.float32)
    return w.reshape(1, -1) if axis is None else np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)


def _ends(rows: Array, axis: int | None) -> tuple[Array, Array]:
    """Least and greatest weight: float[] for one scale, else float[scales]."""
    low, high = rows.min(1, initial=0.0), rows.max(1, initial=0.0)
    return (low[0], high[0]) if axis is None else (low, high)


def _histograms(rows: Array) -> tuple[Array, Array]:
    """Middles of the bins and counts, float32[scales, bins] each."""
    middles, counts = [], []
    for row in rows:
        count, edges = np.histogram(row, _BINS)
        middles.append((edges[1:] + edges[:-1]) / 2)
        counts.append(count)
    return np.asarray(middles, np.float32), np.asarray(counts, np.float32)


def _search(
    rows: Array,
    heed: Array | None,
    scheme: Scheme,
    ends: tuple[Array, Array],
    axis: int | None,
    coarse: int,
    fine: int,
) -> Grid:
    """The grid over α · ends with the least error, α found for every row by itself."""
    best = np.ones(len(rows))
    low, high = (np.atleast_1d(end).astype(np.float64) for end in ends)

    def error(alpha: Floats) -> Floats:
        return _error(rows, heed, Grid.of_range(scheme, alpha * low, alpha * high, 0))

    least = error(best)
    for tried in np.arange(1, coarse) / coarse:
        least, best = _better(least, best, error, np.full(len(rows), tried))
    middle = best
    for offset in np.linspace(-1, 1, fine + 2)[1:-1] / coarse:
        least, best = _better(least, best, error, np.clip(middle + offset, 1e-3, 1.0))
    alpha = best[0] if axis is None else best
    return Grid.of_range(scheme, alpha * ends[0], alpha * ends[1], axis)


def _better(
    least: Floats, best: Floats, error: Callable[[Floats], Floats], tried: Floats
) -> tuple[Floats, Floats]:
    found = error(tried)
    return np.minimum(found, least), np.where(found < least, tried, best)


def _error(rows: Array, heed: Array | None, grid: Grid) -> Floats:
    """Σ heed · (w − ŵ)² per row, float64; as `Grid.rounded` rounds, but in place and in floats."""
    scale = grid.scale[:, None]
    low, high = (
        (end - grid.zero).astype(np.float32)[:, None] for end in (grid.scheme.low, grid.scheme.high)
    )
    found = np.zeros(len(rows))
    width = min(rows.shape[1], _BLOCK)
    height = max(_BLOCK // max(width, 1), 1)
    for top in range(0, len(rows), height):
        r = slice(top, top + height)
        for left in range(0, rows.shape[1], width):
            c = slice(left, left + width)
            w = rows[r, c]
            q = w / scale[r]
            np.rint(q, out=q)
            np.maximum(q, low[r], out=q)  # np.clip is five times as slow with ends in arrays
            np.minimum(q, high[r], out=q)
            q *= scale[r]
            q -= w
            found[r] += np.vecdot(q, q if heed is None else q * heed[r, c])
    return found
