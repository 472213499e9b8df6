"""The repairs by name, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.calibration.moments import Batches, batches_of, runner
from edgec.errors import UsageError
from edgec.graph.cut import CutResult
from edgec.passes.repair.data_free import expected_bias
from edgec.passes.repair.least_squares import HELD_OUT, SAMPLES, bias, least_squares
from edgec.passes.repair.recalibrate import recalibrate
from edgec.passes.repair.record import RepairRecord

Repair = Callable[..., RepairRecord]
State = list[tuple[ir.Node, list[tuple[ir.Value | None, Any]]]]


@dataclass(frozen=True)
class Method:
    """One way to repair.

    Attributes:
        summary: What it does, in one line.
        run: What does it with data; None for what is no method of its own.
    """

    summary: str
    run: Repair | None


REPAIRS: Mapping[str, Method] = {
    "none": Method("leaves the cut network as it is", None),
    "bias": Method(
        "folds the mean of removed channels into biases; without data from BatchNormalization",
        bias,
    ),
    "recalibrate": Method("takes BatchNormalization statistics anew (--data)", recalibrate),
    "least-squares": Method(
        "solves each layer's weights anew against the original's outputs (--data)", least_squares
    ),
    "auto": Method("least-squares, then recalibrate if it helps; bias without data", None),
}


@dataclass
class _Outputs:
    """The original's outputs on every fourth sample, streamed beside those of a cut model."""

    before: ir.Model
    data: Batches
    samples: int
    batch_size: int

    def error(self, model: ir.Model) -> float:
        """‖y − y₀‖ / ‖y₀ − mean y₀‖ over all outputs that are numbers."""
        inputs = [v.name or "" for v in self.before.graph.inputs]
        outputs = [v.name or "" for v in self.before.graph.outputs]
        original, present = (runner(m, inputs, outputs) for m in (self.before, model))
        wrong = total = square = 0.0
        count = seen = 0
        for feeds in batches_of(self.before, self.data, self.batch_size, self.samples):
            size = len(feeds[inputs[0]])
            held = (seen + np.arange(size)) % HELD_OUT == HELD_OUT - 1
            seen += size
            then, now = original(feeds), present(feeds)
            for name in outputs:
                if not np.issubdtype(then[name].dtype, np.floating):
                    continue
                part = held if len(then[name]) == size else slice(None)
                y0, y = (np.asarray(v[name][part], np.float64) for v in (then, now))
                wrong += float(((y - y0) ** 2).sum())
                total, square, count = total + y0.sum(), square + (y0**2).sum(), count + y0.size
        spread = float(square - total**2 / max(count, 1))
        return float(np.sqrt(wrong / spread)) if wrong and spread > 0 else 0.0


def repair(
    method: str, before: ir.Model, cut: CutResult, data: Batches | None, *, seed: int = 0,
    samples: int = SAMPLES, batch_size: int = 16,
) -> RepairRecord:  # fmt: skip
    """Repairs a cut network in place.

    Args:
        method: One of `REPAIRS`. `auto` solves least squares and, where a layer got only a bias,
            recalibrates if that brings the outputs nearer to the original's; without data it
            corrects biases.
        before: The original.
        cut: The cut network; its initializers are changed.
        data: Samples, or None.
        seed: Of everything random.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.

    Raises:
        UsageError: An unknown method, or one that needs data without data.
    """
    if method not in REPAIRS:
        raise UsageError(f"repair '{method}'", "is unknown", f"one of {', '.join(REPAIRS)}")
    if method == "none":
        return RepairRecord("none", 0)
    if data is None:
        if method in ("bias", "auto"):
            return expected_bias(cut)
        raise UsageError(
            f"repair '{method}'", "needs samples", "give --data, or take --repair bias"
        )
    outputs = _Outputs(before, data, samples, batch_size)
    before_error = outputs.error(cut.model)

    def run(name: str) -> tuple[RepairRecord, float]:
        work = REPAIRS[name].run
        assert work is not None
        done = work(before, cut, data, seed=seed, samples=samples, batch_size=batch_size)
        return done, outputs.error(cut.model)

    if method != "auto":
        record, after = run(method)
        return replace(record, before=before_error, after=after)
    untouched = _state(cut.model)
    record, after = run("least-squares")
    if after > before_error:
        _restore(cut.model, untouched)
        note = f"least squares made the outputs worse ({before_error:.3g} → {after:.3g}): undone"
        return RepairRecord("none", record.samples, (), before_error, before_error, (note,))
    record = replace(record, before=before_error, after=after)
    if not any(layer.method == "bias" for layer in record.layers):
        return record
    solved = _state(cut.model)
    more, further = run("recalibrate")
    if further < after:
        note = f"recalibrated afterwards: {after:.3g} → {further:.3g}"
        layers = record.layers + more.layers
        return replace(record, layers=layers, after=further, notes=(note,))
    _restore(cut.model, solved)
    note = f"recalibrating afterwards did not help ({after:.3g} → {further:.3g}): undone"
    return replace(record, notes=(note,))


def _state(model: ir.Model) -> State:
    return [
        (node, [(v, None if v is None else v.const_value) for v in node.inputs])
        for node in model.graph
    ]


def _restore(model: ir.Model, state: State) -> None:
    """Puts back the inputs and constants of every node; drops initializers made since."""
    for node, inputs in state:
        node.resize_inputs(len(inputs))
        for index, (value, tensor) in enumerate(inputs):
            node.replace_input_with(index, value)
            if value is not None and tensor is not None:
                value.const_value = tensor
                value.shape = ir.Shape(tensor.shape)
    kept = {id(v) for _, inputs in state for v, _ in inputs}
    for name, value in list(model.graph.initializers.items()):
        if id(value) not in kept and not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
