"""Rounding that minds what the weights multiply.

The error of a layer's output, Σ ‖(W − Ŵ) x‖² over rows x, depends on the data through one matrix:

    E(Ŵ) = tr (W − Ŵ) C (W − Ŵ)ᵀ,   C = Σ (x − x̄)(x − x̄)ᵀ

so nothing here runs over samples twice. C is centred where the layer has a place for a bias, whose
correction (`bias`) takes out the mean error afterwards; else it is Σ x xᵀ.
    seq-mse    the range of each grid with the least E among 20 candidates (AIMET; recipe F8), then
               the nearest integers
    feedback   feature by feature, the strongest first; the error of each is made up for by those
               that are still to be rounded, through the Cholesky factor of C⁻¹ (GPTQ, Frantar et
               al. 2023)
    adaround   up or down for each weight, Ŵ = s·(⌊W/s⌋ + h(V)), by gradient descent on E with a
               term that drives h to 0 or 1 (Nagel et al. 2020); ∂E/∂Ŵ = −2 (W − Ŵ) C
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.grid import Grid
from edgec.calibration.moments import Batches, batches_of, runner
from edgec.errors import UsageError
from edgec.passes.quantize.weights import StoredWeight
from edgec.passes.repair.layers import Layer, intercept_of, layers_of

Array = NDArray[Any]
Floats = NDArray[np.float64]

MAX_FEATURES = 4608
_POSITIONS = 64  # of each sample, at most
_WORK = 5e9  # multiply-adds for the moments of a layer, unless it has fewer rows than features
_HELD = 5e8  # bytes of moments that are gathered in one pass over the samples
_DAMP = 0.01  # of the mean diagonal of C, added to it: what the samples do not show
_BLOCK = 64  # features whose errors are collected before they reach the features behind them
_STEPS = 1000
_PULL = 10.0  # of the term that drives h to 0 or 1, beside a slope of about 1
_DESCENT = 2e11  # multiply-adds of one layer's descent


@dataclass(frozen=True)
class Task:
    """One layer to be rounded.

    Attributes:
        weight: float64[groups, outputs, features].
        scale: float64[groups, outputs, 1].
        low, high: float64[groups, outputs, 1], ends of the integers relative to the zero point.
        moments: float64[groups, features, features], C.
    """

    weight: Floats
    scale: Floats
    low: Floats
    high: Floats
    moments: Floats

    def nearest(self) -> Floats:
        """The nearest integers, relative to the zero point."""
        return np.asarray(np.clip(np.rint(self.weight / self.scale), self.low, self.high))

    def error(self, q: Floats) -> Floats:
        """E per output: float64[groups, outputs]."""
        off = self.weight - q * self.scale
        return np.asarray(np.einsum("gof,gof->go", off @ self.moments, off))


def feedback(task: Task) -> Floats:
    """Rounds feature by feature and feeds the errors forward."""
    features = task.weight.shape[2]
    strength = np.einsum("gff->gf", task.moments)
    order = np.argsort(-strength, axis=1, kind="stable")
    w = np.take_along_axis(task.weight, order[:, None], 2)
    c = np.take_along_axis(
        np.take_along_axis(task.moments, order[:, :, None], 1), order[:, None], 2
    )
    damp = _DAMP * strength.mean(1)
    c += np.where(damp > 0, damp, 1.0)[:, None, None] * np.eye(features)
    # C⁻¹ = UᵀU with U upper triangular: row j of U says how an error of j moves those behind j.
    upper = np.linalg.cholesky(np.linalg.inv(c)).swapaxes(1, 2)
    q = np.empty_like(w)
    for start in range(0, features, _BLOCK):
        stop = min(start + _BLOCK, features)
        off = np.empty((*w.shape[:2], stop - start))
        for j in range(start, stop):
            column = w[:, :, j : j + 1]
            q[:, :, j : j + 1] = np.clip(np.rint(column / task.scale), task.low, task.high)
            e = (column - q[:, :, j : j + 1] * task.scale) / upper[:, j : j + 1, j : j + 1]
            w[:, :, j + 1 : stop] -= e * upper[:, j : j + 1, j + 1 : stop]
            off[:, :, j - start] = e[:, :, 0]
        w[:, :, stop:] -= off @ upper[:, start:stop, stop:]
    back = np.empty_like(q)
    np.put_along_axis(back, np.broadcast_to(order[:, None], q.shape), q, 2)
    return back


def adaround(task: Task) -> Floats:
    """Chooses up or down by gradient descent (Adam) on the normalised error."""
    base = np.floor(task.weight / task.scale)
    share = np.clip(task.weight / task.scale - base, 1e-3, 1 - 1e-3)
    v = -np.log(1.2 / (share + 0.1) - 1)  # h(v) = share: what rounds nothing
    first, second = np.zeros_like(v), np.zeros_like(v)
    plain = task.error(task.nearest())
    unit = task.scale / np.maximum(plain.mean() / task.weight.shape[2], 1e-30)
    warm = _STEPS // 5
    for step in range(_STEPS):
        sigmoid = 1 / (1 + np.exp(-v))
        h = np.clip(sigmoid * 1.2 - 0.1, 0, 1)
        off = task.weight - np.clip(base + h, task.low, task.high) * task.scale
        slope = -2 * unit * (off @ task.moments)
        if step >= warm:
            beta = 2 + 9 * (1 + np.cos(np.pi * (step - warm) / (_STEPS - warm)))
            side = 2 * h - 1
            slope -= _PULL * 2 * beta * np.abs(side) ** (beta - 1) * np.sign(side)
        slope *= 1.2 * sigmoid * (1 - sigmoid) * ((h > 0) & (h < 1))
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        rate = 0.02 * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        v -= rate * first / (np.sqrt(second) + 1e-8)
    h = np.clip(1.2 / (1 + np.exp(-v)) - 0.1, 0, 1)
    return np.asarray(np.clip(base + (h > 0.5), task.low, task.high))


def nearest(task: Task) -> Floats:
    """Rounds each weight by itself."""
    return task.nearest()


def searched(task: Task, *, per_channel: bool) -> Floats:
    """The factor on each scale with the least E, of 20: float64[groups, outputs, 1]."""
    least = np.full(task.scale.shape[:2], np.inf)
    best = np.ones_like(least)
    for alpha in np.arange(20, 0, -1) / 20:
        tried = replace(task, scale=task.scale * alpha)
        error = tried.error(tried.nearest())
        error = error if per_channel else np.full_like(error, error.sum())
        best = np.where(error < least, alpha, best)
        least = np.minimum(error, least)
    return best[:, :, None]


@dataclass(frozen=True)
class Rounding:
    """One way to round.

    Attributes:
        summary: What it does, in one line.
        integers: Task → integers relative to the zero point, float64[groups, outputs, features].
        searches: Whether the range of the grid is searched first.
        turns: How often a layer's weights are multiplied with its moments.
    """

    summary: str
    integers: Callable[[Task], Floats]
    searches: bool = False
    turns: int = 1


ROUNDINGS: dict[str, Rounding] = {
    "nearest": Rounding("each weight by itself; the default", nearest),
    "seq-mse": Rounding("the range with the least output error, then nearest", nearest, True, 20),
    "feedback": Rounding("later weights make up for the errors of earlier ones", feedback),
    "adaround": Rounding("up or down, by gradient descent", adaround, False, _STEPS),
}


@dataclass(frozen=True)
class RoundingRecord:
    """What was rounded how.

    Attributes:
        method: A name in `ROUNDINGS`.
        samples: Samples that were run.
        gain: Layer → error of the nearest integers on the given grid over that of those chosen, dB.
        left: Layer → why its integers are the nearest.
    """

    method: str
    samples: int
    gain: dict[str, float]
    left: dict[str, str]


def round_weights(
    model: ir.Model, grids: Mapping[str, Grid], data: Batches, *, method: str = "feedback",
    samples: int = 64, batch_size: int = 16, seed: int = 0,
) -> tuple[dict[str, StoredWeight], RoundingRecord]:  # fmt: skip
    """Integers for weights.

    Args:
        model: The network, whose values are what the layers read; not changed.
        grids: Name of an initializer → its grid. Its axis, if any, is that of output channels.
        data: Samples.
        method: A name in `ROUNDINGS`.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.
        seed: Of the positions that are drawn where a sample has more than 64.

    Returns:
        Name of each initializer → its weight; and what was done.
    """
    rounding = ROUNDINGS[method]
    tensors = {name: model.graph.initializers[name].const_value for name in grids}
    stored = {n: StoredWeight.of(t.numpy(), grids[n]) for n, t in tensors.items() if t is not None}
    record = RoundingRecord(method, 0, {}, {})
    chosen = []
    for layer in layers_of(model):
        if _name(layer) in grids:
            why = _why_nearest(layer, rounding)
            if why:
                record.left[layer.name] = why
            else:
                chosen.append(layer)
    count = 0
    for chunk in _chunks(chosen):
        found, count = _moments(model, chunk, data, samples, batch_size, seed)
        for layer, moments in zip(chunk, found, strict=True):
            name = _name(layer)
            task = _task(layer, grids[name], moments)
            before = task.error(task.nearest()).sum()
            if rounding.searches:
                factor = searched(task, per_channel=grids[name].axis is not None)
                task = replace(task, scale=task.scale * factor)
                scale = factor.ravel() if grids[name].axis is not None else factor.flat[0]
                grid = replace(grids[name], scale=np.asarray(grids[name].scale * scale, np.float32))
                stored[name] = replace(stored[name], grid=grid)
            q = _better(task, rounding.integers(task))
            after = task.error(q).sum()
            if after > 0:
                record.gain[layer.name] = round(10 * float(np.log10(before / after)), 2)
            zero = _along(grids[name].zero, layer)
            integers = _stored(layer, np.rint(q + zero).astype(grids[name].scheme.narrow))
            stored[name] = replace(stored[name], integers=integers)
    return stored, replace(record, samples=count)


def _better(task: Task, q: Floats) -> Floats:
    """Output by output, `q` or the nearest integers, whichever has less error."""
    plain = task.nearest()
    wins = task.error(q) < task.error(plain)
    return np.where(wins[:, :, None], q, plain)


def _why_nearest(layer: Layer, rounding: Rounding) -> str:
    if layer.node.op_type == "ConvTranspose":
        return "is a transposed convolution"
    if layer.shares_weight:
        return "shares its weight with another layer"
    groups, outputs, features = layer.matrix_shape()
    if features > MAX_FEATURES:
        return f"{features} inputs per output exceed {MAX_FEATURES}"
    if rounding.turns > 20 and rounding.turns * groups * outputs * features**2 > _DESCENT:
        return "is too large for a gradient descent"
    return ""


def _chunks(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Layers whose moments are gathered in one pass."""
    chunk: list[Layer] = []
    held = 0.0
    for layer in layers:
        groups, _, features = layer.matrix_shape()
        size = 8.0 * groups * features**2
        if chunk and held + size > _HELD:
            yield chunk
            chunk, held = [], 0.0
        chunk.append(layer)
        held += size
    if chunk:
        yield chunk


def _moments(
    model: ir.Model,
    layers: Sequence[Layer],
    data: Batches,
    samples: int,
    batch_size: int,
    seed: int,
) -> tuple[list[Floats], int]:
    """C of each layer, float64[groups, features, features], and the number of samples."""
    run = runner(model, [v.name or "" for v in model.graph.inputs], {layer.x for layer in layers})
    sums = [_Sums(layer, samples, seed) for layer in layers]
    count = 0
    for feeds in batches_of(model, data, batch_size, samples):
        values = run(feeds)
        for own in sums:
            own.add(values[own.layer.x])
        count += len(next(iter(feeds.values())))
    if not count:
        raise UsageError("calibration data", "holds no full batch", "give more samples")
    return [own.moments() for own in sums], count


class _Sums:
    def __init__(self, layer: Layer, samples: int, seed: int) -> None:
        self.layer, self.samples = layer, samples
        groups, _, features = layer.matrix_shape()
        self.rng = np.random.default_rng([seed, *layer.out.encode()])
        self.n, self.x = 0, np.zeros((groups, features))
        self.xx = np.zeros((groups, features, features))

    def add(self, x: Array) -> None:
        """Adds rows of one batch, at positions that are drawn for every sample."""
        x = x.reshape(-1, *x.shape[-1:]) if x.ndim == 1 else x
        positions, features = self.layer.positions(x), self.x.shape[1]
        rows = max(_WORK / (self.x.shape[0] * features**2), features)
        most = min(positions, _POSITIONS, max(1, round(rows / self.samples)))
        every = np.tile(np.arange(positions), (len(x), 1))
        drawn = every if most == positions else self.rng.permuted(every, axis=1)[:, :most]
        found = np.asarray(self.layer.rows(x, drawn), np.float32).swapaxes(0, 1)
        self.n += found.shape[1]
        self.x += found.sum(1, dtype=np.float64)
        self.xx += found.swapaxes(1, 2) @ found

    def moments(self) -> Floats:
        """Centred where a bias can take out the mean."""
        if intercept_of(self.layer) is None:
            return self.xx
        return self.xx - self.x[:, :, None] * self.x[:, None, :] / max(self.n, 1)


def _along(values: Array, layer: Layer) -> Floats:
    """One value, or one for each output, as float64[groups, outputs, 1]."""
    groups, outputs, _ = layer.matrix_shape()
    return np.broadcast_to(values.astype(np.float64), groups * outputs).reshape(groups, outputs, 1)


def _task(layer: Layer, grid: Grid, moments: Floats) -> Task:
    zero = _along(grid.zero, layer)
    return Task(
        _matrix(layer),
        _along(grid.scale, layer),
        grid.scheme.low - zero,
        grid.scheme.high - zero,
        moments,
    )


def _name(layer: Layer) -> str:
    """The initializer that holds the weight."""
    value = layer.node.inputs[1]
    return "" if value is None else value.name or ""


def _is_matrix(layer: Layer) -> bool:
    """Whether the weight is stored with its outputs first."""
    node = layer.node
    return node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1


def _matrix(layer: Layer) -> Floats:
    """The weight as float64[groups, outputs, features]."""
    w = layer.weight().astype(np.float64)
    return (w if _is_matrix(layer) else w.T).reshape(layer.matrix_shape())


def _stored(layer: Layer, matrix: NDArray[Any]) -> NDArray[Any]:
    """[groups, outputs, features] in the order in which the weight is stored."""
    return matrix.reshape(layer.weight().shape) if _is_matrix(layer) else matrix[0].T
