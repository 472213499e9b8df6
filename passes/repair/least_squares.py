"""Repairs that make each layer's output on the cut network match the original's (E1, E2).

Layers are taken in the order of the graph, each on the inputs that the repaired part before it
gives, so that later layers also undo what earlier ones could not. What a layer aims at:

    its own output in the original; or, where it is the last to reach a sum (a residual block),
    the original's sum minus what the other branch now gives, through a BatchNormalization between.

Weights change by ridge regression on streamed second moments (`gram`). A quarter of the samples is
held out: the strength of the ridge is the one with the least error there, and a layer is left
alone if nothing does better than leaving it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Batches
from edgec.graph.cut import CutResult
from edgec.passes.repair.aim import Aim, aim_of
from edgec.passes.repair.frontier import stages
from edgec.passes.repair.gram import Change, Gram
from edgec.passes.repair.layers import Layer, intercept_of, layers_of
from edgec.passes.repair.lockstep import Lockstep
from edgec.passes.repair.record import LayerRecord, RepairRecord

Array = NDArray[Any]
Floats = NDArray[np.float64]

RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MAX_FEATURES = 4608
POSITIONS = 64
SAMPLES = 512
HELD_OUT = 4  # every fourth sample
_WORK = 5e10  # multiply-adds for the moments of one layer, unless it has fewer rows than it needs
_NEGLIGIBLE = 1e-6  # relative error of a layer that is right up to rounding


def bias(
    before: ir.Model, cut: CutResult, data: Batches, *, seed: int = 0, samples: int = SAMPLES,
    batch_size: int = 16,
) -> RepairRecord:  # fmt: skip
    """Shifts each layer's output so that its mean is that of the original (E1).

    Args:
        before: The original.
        cut: The cut network; its biases are changed in place.
        data: Samples.
        seed: Unused; all positions of all samples count.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.
    """
    return _in_order(before, cut, data, seed, samples, batch_size, weights=False, sums=True)


def least_squares(
    before: ir.Model, cut: CutResult, data: Batches, *, seed: int = 0, samples: int = SAMPLES,
    batch_size: int = 16, sums: bool = True,
) -> RepairRecord:  # fmt: skip
    """Solves each layer's weights and bias anew (E2).

    Args:
        before: The original.
        cut: The cut network; its weights are changed in place.
        data: Samples.
        seed: Of the positions that are drawn where a sample has more than `POSITIONS`.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.
        sums: Aim at sums where a layer is the last to reach one.
    """
    return _in_order(before, cut, data, seed, samples, batch_size, weights=True, sums=sums)


def _in_order(
    before: ir.Model, cut: CutResult, data: Batches, seed: int, samples: int, batch_size: int, *,
    weights: bool, sums: bool,
) -> RepairRecord:  # fmt: skip
    known = {v.name for n in before.graph for v in n.outputs}
    layers = {layer.out: layer for layer in layers_of(cut.model) if layer.out in known}
    stage = stages(cut.model.graph, layers)
    aims = {out: aim_of(layer, cut, stage, sums=sums) for out, layer in layers.items()}
    records = []
    with Lockstep(
        before, cut, {out: aim.value for out, aim in aims.items()}, data,
        samples=samples, batch_size=batch_size,
    ) as lockstep:  # fmt: skip
        for wave in lockstep:
            fits = [_Fit(layers[out], aims[out], weights=weights, seed=seed) for out in wave]
            run = lockstep.outputs(wave)
            for batch in range(len(lockstep.sizes)):
                now = run(lockstep.present.feeds(batch))
                for fit in fits:
                    fit.add(lockstep, now[fit.layer.out], batch)
            records += [fit.apply() for fit in fits]
    method = "least-squares" if weights else "bias"
    return RepairRecord(method, lockstep.samples, tuple(records))


class _Fit:
    """The regression of one layer."""

    def __init__(self, layer: Layer, aim: Aim, *, weights: bool, seed: int) -> None:
        self.layer, self.aim = layer, aim
        self.place = intercept_of(layer)
        groups, outputs, features = layer.matrix_shape()
        self.reason = _why_only_bias(layer, features) if weights else ""
        self.weights = weights and not self.reason
        self.features = features if self.weights else 0
        self.fit, self.held = (Gram(groups, outputs, self.features) for _ in range(2))
        self.rng = np.random.default_rng([seed, *layer.out.encode()])

    def add(self, lockstep: Lockstep, now: Array, batch: int) -> None:
        """Adds one batch; `now` is the layer's present output."""
        samples, first = lockstep.sizes[batch], sum(lockstep.sizes[:batch])
        fold = samples if self.layer.axis == -1 and len(now) % samples == 0 else len(now)
        count = int(np.prod(now.shape[1:])) // now.shape[self.layer.axis] * len(now) // fold
        places = self._draw(fold, count, lockstep.samples)

        def rows(value: Array) -> Array:
            return self.layer.outputs(_folded(value, fold, self.layer), places)

        aim = rows(lockstep.aim(self.layer.out, batch))
        present = lockstep.present
        other = rows(present.read(self.aim.other, batch)) if self.aim.other else None
        out = rows(now)
        wanted = self.aim.wanted(aim, other, out)
        gain = self._gain()
        y, e = wanted * gain, (wanted - out) * gain
        x = np.zeros((len(e), self.layer.groups, 0))
        if self.weights:
            value = _folded(present.read(self.layer.x, batch), fold, self.layer)
            x = self.layer.rows(
                value, np.tile(np.arange(count), (fold, 1)) if places is None else places
            )
        sample = first + np.arange(len(e)) * samples // len(e)
        held = sample % HELD_OUT == HELD_OUT - 1
        for gram, part in ((self.fit, ~held), (self.held, held)):
            gram.add(x[part], e[part], y[part])

    def _draw(self, samples: int, positions: int, total: int) -> NDArray[np.int64] | None:
        """Positions of each of `samples` samples, out of `total` in all; None: every position."""
        if not self.weights:
            return None
        rows = max(_WORK / self.features**2, 2 * self.features)
        most = min(POSITIONS, max(1, round(rows / total)))
        if positions <= most:
            return None
        every = np.tile(np.arange(positions), (samples, 1))
        return self.rng.permuted(every, axis=1)[:, :most]

    def _gain(self) -> Floats:
        """How much each output counts: float64[groups, outputs]."""
        return self.aim.gain.reshape(self.layer.groups, -1)

    def apply(self) -> LayerRecord:
        """Changes the layer if a held-out quarter of the samples says that it helps."""
        judge = self.held if self.held.n else self.fit
        before = judge.relative()
        if before <= _NEGLIGIBLE:
            return self._left("is right already", before)
        options = self._options()
        errors = [judge.error(change) for _, _, change in options]
        if not options or min(errors) >= judge.error():
            return self._left(
                self.reason or ("nothing does better" if options else "has no place for a bias"),
                before,
            )
        best = int(np.argmin(errors))
        method, ridge, change = options[best]
        after = judge.relative(change)
        self.fit += self.held
        final = self._again(ridge)
        self._write(final or change)
        return LayerRecord(self.layer.name, method, before, after, self.reason, ridge)

    def _options(self) -> list[tuple[str, float | None, Change]]:
        found: list[tuple[str, float | None, Change]] = []
        if self.place is not None:
            found.append(("bias", None, self.fit.mean_change()))
        if self.weights and self.held.n and self.fit.n:
            found += [("least squares", r, c) for r, c in self._ridges().items()]
        return found

    def _ridges(self) -> dict[float, Change]:
        """Solutions down the slope of the held-out error, from a likely place in `RIDGES`."""
        found: dict[float, Change] = {}
        errors: dict[int, float] = {}

        def error(index: int) -> float:
            if not 0 <= index < len(RIDGES):
                return np.inf
            if index not in errors:
                change = self.fit.solve(RIDGES[index], intercept=self.place is not None)
                errors[index] = np.inf if change is None else self.held.error(change)
                if change is not None:
                    found[RIDGES[index]] = change
            return errors[index]

        at = RIDGES.index(1e-3 if self.fit.n > 4 * self.features else 1e-1)
        for step in (-1, 1):
            while error(at + step) < error(at):
                at += step
        return found

    def _again(self, ridge: float | None) -> Change | None:
        if ridge is None:
            return self.fit.mean_change()
        return self.fit.solve(ridge, intercept=self.place is not None)

    def _write(self, change: Change) -> None:
        gain = self._gain()
        inverse = np.divide(1.0, gain, out=np.zeros_like(gain), where=gain != 0)
        if self.weights:
            self.layer.add_to_weight(change.delta * inverse[:, :, None])
        if self.place is not None:
            self.place((change.shift * inverse).ravel())

    def _left(self, reason: str, error: float) -> LayerRecord:
        return LayerRecord(self.layer.name, "none", error, error, reason)


def _folded(value: Array, samples: int, layer: Layer) -> Array:
    """Rows that a matrix product sees as one batch, back as [samples, positions, channels]."""
    return value.reshape(samples, -1, value.shape[-1]) if layer.axis == -1 else value


def _why_only_bias(layer: Layer, features: int) -> str:
    if layer.node.op_type == "ConvTranspose":
        return "a transposed convolution gets a bias only"
    if layer.shares_weight:
        return "shares its weight with another layer, gets a bias only"
    if features > MAX_FEATURES:
        return f"{features} inputs per output exceed {MAX_FEATURES}, gets a bias only"
    return ""
