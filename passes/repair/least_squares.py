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

RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_FEATURES = 4608
POSITIONS = 64
SAMPLES = 512
HELD_OUT = 4  # every fourth sample
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
        present = lockstep.present
        other = present.read(self.aim.other, batch) if self.aim.other else None
        wanted = self.aim.wanted(lockstep.aim(self.layer.out, batch), other, now)
        samples, first = lockstep.sizes[batch], sum(lockstep.sizes[:batch])
        x = present.read(self.layer.x, batch) if self.weights else None
        if self.layer.axis == -1 and len(now) % samples == 0:  # tokens folded into the batch
            wanted, now = (a.reshape(samples, -1, a.shape[-1]) for a in (wanted, now))
            x = None if x is None else x.reshape(samples, -1, x.shape[-1])
        positions = self._draw(len(now), int(np.prod(now.shape[1:])) // now.shape[self.layer.axis])
        y = self.layer.outputs(wanted, positions) * self._weight()
        e = y - self.layer.outputs(now, positions) * self._weight()
        if x is None:
            rows = np.zeros((len(e), self.layer.groups, 0))
        else:
            rows = self.layer.rows(x, _all(now, self.layer) if positions is None else positions)
        sample = first + np.arange(len(e)) * samples // len(e)
        held = sample % HELD_OUT == HELD_OUT - 1
        for gram, part in ((self.fit, ~held), (self.held, held)):
            gram.add(rows[part], e[part], y[part])

    def _draw(self, samples: int, positions: int) -> NDArray[np.int64] | None:
        if not self.weights or positions <= POSITIONS:
            return None
        return self.rng.permuted(
            np.tile(np.arange(positions), (samples, 1)), axis=1
        )[:, :POSITIONS]  # fmt: skip

    def _weight(self) -> Floats:
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
            for ridge in RIDGES:
                change = self.fit.solve(ridge, intercept=self.place is not None)
                if change is not None:
                    found.append(("least squares", ridge, change))
        return found

    def _again(self, ridge: float | None) -> Change | None:
        if ridge is None:
            return self.fit.mean_change()
        return self.fit.solve(ridge, intercept=self.place is not None)

    def _write(self, change: Change) -> None:
        gain = self._weight()
        inverse = np.divide(1.0, gain, out=np.zeros_like(gain), where=gain != 0)
        if self.weights:
            self.layer.add_to_weight(change.delta * inverse[:, :, None])
        if self.place is not None:
            self.place((change.shift * inverse).ravel())

    def _left(self, reason: str, error: float) -> LayerRecord:
        return LayerRecord(self.layer.name, "none", error, error, reason)


def _all(now: Array, layer: Layer) -> NDArray[np.int64]:
    positions = int(np.prod(now.shape[1:])) // now.shape[layer.axis]
    return np.tile(np.arange(positions), (len(now), 1))


def _why_only_bias(layer: Layer, features: int) -> str:
    if layer.node.op_type == "ConvTranspose":
        return "a transposed convolution gets a bias only"
    if layer.shares_weight:
        return "shares its weight with another layer, gets a bias only"
    if features > MAX_FEATURES:
        return f"{features} inputs per output exceed {MAX_FEATURES}, gets a bias only"
    return ""
