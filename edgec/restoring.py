"""Which single layer of a quantised model would help most, were it left in floats.

For every product of the second model that reads rounded numbers, the model is run with that
rounding bypassed, and its outputs are compared with those of the first, as they are without. Where
the ends of a grid stand in for an activation, numbers are still clipped there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.damage import Noise
from edgec.calibration.data import DataSpec
from edgec.calibration.moments import WEIGHTED, runner
from edgec.calibration.variants import Parts, Variant, put_constant, sweep, values_of
from edgec.comparing import Pair, pair_of
from edgec.errors import UnsupportedError, UsageError
from edgec.foreign import translated
from edgec.graph.names import Names
from edgec.model import copied
from edgec.tensors import absorbed, before_rounding, dequantised, layers_in_both, stored_weight

Array = NDArray[Any]
_SAMPLES = 64
_BATCH = 8


@dataclass(frozen=True)
class Restoration:
    """What becomes of the outputs when one product is computed in floats.

    Attributes:
        name: The product: its node, or what it gives where the node has no name.
        op: Its operator.
        bypassed: Which of its inputs come unrounded: `input`, `weight`, `bias`; of a product of
            two activations, `input` and `second input`.
        kept: Those that stay rounded, and why.
        snr_db: Of the outputs, with this product in floats.
        gain_db: By how much that is more than without.
    """

    name: str
    op: str
    bypassed: tuple[str, ...]
    kept: Mapping[str, str]
    snr_db: float
    gain_db: float


@dataclass(frozen=True)
class _Bypass(Variant):
    """The model with one product's inputs unrounded."""

    product: str
    op: str
    bypassed: tuple[str, ...]
    kept: Mapping[str, str]


def restorations(
    first: Any,
    second: Any,
    *,
    data: DataSpec | None = None,
    seed: int = 0,
    inputs: Mapping[str, Sequence[int]] | None = None,
    samples: int = _SAMPLES,
) -> list[Restoration]:
    """What every quantised product of `second` costs, the most costly first.

    Args:
        first: The original; see `edgec.load`.
        second: The quantised model.
        data: Samples; one batch of seeded random values if not given.
        seed: Of the random values.
        inputs: Concrete shapes for symbolic inputs.
        samples: At most so many are used, taken evenly from all.

    Raises:
        UsageError: The models do not fit each other, or the second has no quantised product.
    """
    pair = pair_of(first, second, data, inputs)
    variants = list(_bypasses(pair))
    if not variants:
        raise UsageError(
            "the second model",
            "has no product that reads what a DequantizeLinear gives",
            "give the quantised model second, with Q/DQ pairs in its graph",
        )
    stops = {node for node in pair.second.graph if node.op_type == "QuantizeLinear"}
    with translated("the two models"):
        parts = Parts(pair.second, stops)
        original = runner(pair.first, pair.inputs, pair.outputs)
        targets = [original(feeds) for feeds in pair.batches(_BATCH, seed, samples)]
        before = Noise(targets)
        for number, feeds in enumerate(pair.batches(_BATCH, seed, samples)):
            before.add(number, parts.run(feeds, 0, len(parts)))
        found = [
            Restoration(
                v.product, v.op, v.bypassed, v.kept, noise.snr_db,
                0.0 if noise.damage == before.damage else noise.snr_db - before.snr_db,
            )
            for v, noise in sweep(
                parts, variants, lambda: pair.batches(_BATCH, seed, samples),
                lambda: Noise(targets),
            )
        ]  # fmt: skip
    return sorted(found, key=lambda r: -r.gain_db)


def _bypasses(pair: Pair) -> Iterator[_Bypass]:
    twins = {node: twin for twin, node in layers_in_both(pair.first, pair.second)}
    originals = values_of(pair.first)
    stored = [
        value.name or ""
        for node in pair.second.graph
        if node.op_type in WEIGHTED
        for value in node.inputs
        if value is not None and stored_weight(value)
    ]
    weights = dequantised(pair.second, dict.fromkeys(stored))
    for node in pair.second.graph:
        if node.op_type not in WEIGHTED:
            continue
        names: dict[int, str] = {}  # input → the value that is read instead
        arrays: dict[int, Array] = {}
        clipped: set[int] = set()
        kept: dict[str, str] = {}
        changed = {node.outputs[0].name or ""}
        for i, value in enumerate(node.inputs):
            source = before_rounding(value)
            if value is None or value.producer() is None:
                continue
            if source is not None:
                names[i] = source.name or ""
                if source.const_value is None:
                    changed.add(_rounding(value))
                    twin = originals.get(source.name or "")
                    if twin is not None and absorbed(twin, source):
                        clipped.add(i)
            elif stored_weight(value):
                own = _original(twins.get(node), i)
                reason = _mismatch(own, weights[value.name or ""], value)
                if own is None or reason:
                    kept[_word(node, i)] = reason
                else:
                    arrays[i] = own
        if names or arrays or kept:
            yield _Bypass(
                frozenset(changed),
                _maker(pair.second, node.outputs[0].name or "", names, clipped, arrays),
                node.name or node.outputs[0].name or "", node.op_type,
                tuple(_word(node, i) for i in sorted({*names, *arrays})), kept,
            )  # fmt: skip


def _rounding(value: ir.Value) -> str:
    """What the QuantizeLinear of a pair gives: what it reads is at hand where it is."""
    back = value.producer()
    assert back is not None
    return (back.inputs[0].name or "") if back.inputs[0] is not None else ""


def _word(node: ir.Node, index: int) -> str:
    second = node.inputs[1]
    word = "weight" if stored_weight(second) else "second input"
    return ("input", word, "bias")[index]


def _original(twin: ir.Node | None, index: int) -> Array | None:
    return _array(twin.inputs[index]) if twin is not None and index < len(twin.inputs) else None


def _mismatch(own: Array | None, rounded: Array, value: ir.Value) -> str:
    """Why a stored weight is not the rounded one of the first model; empty if it is.

    A weight is at most one step from what it was (rounding methods may take either neighbour),
    but where it was clipped at the ends of the grid. Folding, equalising and pruning move it
    further, and the first model's would then be another layer's.
    """
    if own is None:
        return "the first model has no such layer"
    if own.shape != rounded.shape:
        return f"has shape {list(own.shape)} in the first model"
    step = _step(value, own.ndim)
    # Of a channel that was clipped, the ends are among its rounded weights.
    axes = tuple(axis for axis, size in enumerate(step.shape) if size == 1) or None
    ends = (rounded.min(axes, keepdims=True) - step, rounded.max(axes, keepdims=True) + step)
    inside = np.clip(own, *ends)
    far = np.abs(inside - rounded) > 1.001 * step
    return "is not what the first model's weight rounds to" if far.any() else ""


def _step(value: ir.Value, rank: int) -> Array:
    """The scale of a stored weight, to be broadcast over it; the largest where it has blocks."""
    node = value.producer()
    assert node is not None
    array = _array(node.inputs[1])
    if array is None:
        return np.asarray(0.0)
    if array.ndim != 1:
        return np.asarray(array.max())
    shape = [1] * rank
    shape[node.attributes.get_int("axis", 1) % rank] = -1
    return array.reshape(shape)


def _maker(
    model: ir.Model,
    product: str,
    names: Mapping[int, str],
    clipped: Collection[int],
    arrays: Mapping[int, Array],
) -> Callable[[], ir.Model]:
    def make() -> ir.Model:
        made = copied(model)
        values = values_of(made) | dict(made.graph.initializers)
        node = values[product].producer()
        assert node is not None
        fresh = Names(made.graph)
        for i, name in names.items():
            source = values[name]
            if i in clipped:
                source = _clipped(made, node, i, source, fresh)
            node.replace_input_with(i, source)
        for i, array in arrays.items():
            node.replace_input_with(i, put_constant(made, fresh.fresh(f"{product}.float"), array))
        return made

    return make


def _clipped(
    model: ir.Model, node: ir.Node, index: int, source: ir.Value, fresh: Names
) -> ir.Value:
    """A value kept within the ends of the grid on which the node reads it."""
    rounded = node.inputs[index]
    back = None if rounded is None else rounded.producer()
    assert back is not None
    scale = _array(back.inputs[1])
    zero = _array(back.inputs[2]) if len(back.inputs) > 2 else None
    if scale is None or scale.size != 1:
        raise UnsupportedError(
            source.name or "", "is rounded with a scale that is computed, or with several",
            "quantise activations with one scale that is a constant",
        )  # fmt: skip
    zero = np.asarray(0, np.uint8) if zero is None else zero
    ends = np.asarray([np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max], np.float32)
    low, high = (ends - zero.astype(np.float32)) * scale
    limits = [
        put_constant(model, fresh.fresh(f"{source.name}.{word}"), np.asarray(end, np.float32))
        for word, end in (("low", low), ("high", high))
    ]
    clip = ir.node("Clip", [source, *limits])
    clip.outputs[0].name = fresh.fresh(f"{source.name}.clipped")
    model.graph.insert_before(node, clip)
    return clip.outputs[0]


def _array(value: ir.Value | None) -> Array | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()
