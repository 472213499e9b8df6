"""A session that runs a model and gives, of chosen values, little: each sample's least, greatest
and mean value, and a few thousand values from changing places. The values themselves never leave
ONNX Runtime, which keeps its fusions and reuses their memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray
from onnx_ir.passes.common import ShapeInferencePass

from edgec.calibration.session import open_session, part_of
from edgec.errors import UnsupportedError, UsageError
from edgec.suggest import suggestion

Array = NDArray[Any]
Feeds = Mapping[str, Array]
_STARTS = "edgec/starts"
_GOLDEN = (5**0.5 - 1) / 2  # its multiples, less their whole parts, fill 0 to 1 evenly
_STATISTICS = ("ReduceMin", "ReduceMax", "ReduceMean", "values")  # the fields of Seen
_AXES_ARE_INPUTS = 18  # of ReduceMin, ReduceMax and ReduceMean, from this operator set on


@dataclass(frozen=True)
class Seen:
    """What one batch shows of a value.

    Attributes:
        low, high: float32[rows], of each row; rows run along axis 0.
        mean: float32[rows], or float32[rows, channels] of each channel, where they were asked for.
        values: float32[rows, taken], some of each row.
        total: Elements of the value.
    """

    low: Array
    high: Array
    mean: Array
    values: Array
    total: int


class Watch:
    """Runs the part of a model that computes some values, and sees statistics of them.

    Args:
        model: Where the values are; not changed.
        names: The values; float tensors.
        feeds: A batch like those to come, as small as the model allows.
        taken: Elements to take of each row of a value.
        threads: Inside one operator; None: one per core.
        channels: Value → the axis of its channels, if means of each are wanted.

    Errors:
        UsageError: a name is no float value that the model computes.
    """

    def __init__(
        self,
        model: ir.Model,
        names: Collection[str],
        feeds: Feeds,
        *,
        taken: int,
        threads: int | None = None,
        channels: Mapping[str, int] | None = None,
    ) -> None:
        values = _checked(model, names)
        part = part_of(model, [v.name or "" for v in model.graph.inputs], values)
        self.names = tuple(values)
        shapes = _shapes(part, feeds)
        shapes |= _found_by_running(model, [n for n in self.names if n not in shapes], feeds)
        for name in self.names:
            if 0 in shapes[name]:
                raise UnsupportedError(f"activation '{name}'", "has no elements", "leave it out")
        self.widest = 4 * max(math.prod(shape[1:]) for shape in shapes.values())
        self._rows = [math.prod(shapes[name][1:]) for name in self.names]
        places = [_places(size, taken) for size in self._rows]
        self._room = np.asarray(self._rows) - [at[-1] for at in places]
        scalars = {name for name in self.names if not shapes[name]}
        found = {n: _others(axis, len(shapes[n])) for n, axis in (channels or {}).items()}
        apart = {name: axes for name, axes in found.items() if axes is not None}
        self.by_channel = frozenset(apart)
        _add_statistics(part, dict(zip(self.names, places, strict=True)), scalars, apart)
        self._session: ort.InferenceSession = open_session(part, threads=threads, lean=True)
        self._inputs = [v.name for v in self._session.get_inputs() if v.name != _STARTS]
        self._outputs = [f"edgec/{name}/{what}" for name in self.names for what in _STATISTICS]

    def __call__(self, feeds: Feeds, number: int = 0) -> dict[str, Seen]:
        """Runs one batch; its `number` decides the places that values are taken from."""
        starts = (self._room * (number * _GOLDEN % 1)).astype(np.int64)
        found = self._session.run(
            self._outputs, {_STARTS: starts} | {name: feeds[name] for name in self._inputs}
        )
        seen = {}
        for i, (name, size) in enumerate(zip(self.names, self._rows, strict=True)):
            low, high, mean, values = found[4 * i : 4 * i + 4]
            seen[name] = Seen(low, high, mean, values, len(low) * size)
        return seen


def _checked(model: ir.Model, names: Collection[str]) -> list[str]:
    computed = {v.name: v for v in model.graph.inputs} | {
        v.name: v for node in model.graph for v in node.outputs
    }
    for name in names:
        value = computed.get(name)
        if value is None:
            known = [n for n in computed if n]
            fact = (
                "is a weight" if name in model.graph.initializers else "is no tensor of the model"
            )
            remedy = f"{suggestion(name, known)}name what a node computes, or an input"
            raise UsageError(f"activation '{name}'", fact, remedy)
        if value.dtype is not None and not value.dtype.is_floating_point():
            fact = f"holds {value.dtype.name.lower()}, which has no range to calibrate"
            raise UsageError(f"activation '{name}'", fact, "name tensors of floats")
    return list(dict.fromkeys(names))


def _shapes(part: ir.Model, feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """Shapes of values for these feeds, where they follow from the graph; it then states none."""
    outputs = [value for node in part.graph for value in node.outputs]
    stated = {value: value.shape for value in part.graph.inputs}
    for value in outputs:
        value.shape = None
    for value in stated:
        value.shape = ir.Shape(feeds[value.name or ""].shape)
    ShapeInferencePass(check_type=False, data_prop=True)(part)
    known = {
        value.name or "": tuple(value.shape.numpy())
        for value in (*stated, *outputs)
        if value.shape is not None and all(isinstance(size, int) for size in value.shape)
    }
    for value in outputs:
        value.shape = None
    for value, shape in stated.items():
        value.shape = shape
    return known


def _found_by_running(
    model: ir.Model, names: list[str], feeds: Feeds
) -> dict[str, tuple[int, ...]]:
    """Shapes of values for these feeds."""
    if not names:
        return {}
    session = open_session(part_of(model, [v.name or "" for v in model.graph.inputs], names))
    wanted = {v.name: feeds[v.name] for v in session.get_inputs()}
    return {n: a.shape for n, a in zip(names, session.run(names, wanted), strict=True)}


def _others(axis: int, rank: int) -> list[int] | None:
    """All axes but the rows' and the channels'; None where those are the same."""
    axis %= max(rank, 1)
    return [a for a in range(1, rank) if a != axis] if axis > 0 else None


def _places(size: int, taken: int) -> NDArray[np.int64]:
    """Which elements to take of a row: evenly spaced, by no length that repeats in the row."""
    step = max(size // taken, 1)
    while math.gcd(step, size) > 1:
        step += 1
    return np.arange(size // step, dtype=np.int64) * step


def _add_statistics(
    part: ir.Model,
    places: Mapping[str, NDArray[np.int64]],
    scalars: Collection[str],
    apart: Mapping[str, list[int]],
) -> None:
    """Makes four outputs of each value: the fields of `Seen`."""
    graph = part.graph
    values = {v.name: v for v in graph.inputs} | {v.name: v for n in graph for v in n.outputs}
    starts = ir.Value(
        name=_STARTS, shape=ir.Shape([len(places)]), type=ir.TensorType(ir.DataType.INT64)
    )
    graph.inputs.append(starts)
    graph.outputs.clear()

    def constant(name: str, data: Any) -> ir.Value:
        tensor = ir.tensor(np.asarray(data, np.int64), name=f"edgec/{name}")
        value = ir.Value(name=tensor.name, shape=ir.Shape(tensor.shape.numpy()), const_value=tensor,
                         type=ir.TensorType(tensor.dtype))  # fmt: skip
        graph.register_initializer(value)
        return value

    def add(op: str, inputs: list[ir.Value], name: str, **attributes: Any) -> ir.Value:
        node = ir.node(op, inputs, attributes)
        node.outputs[0].name = f"edgec/{name}"
        graph.append(node)
        return node.outputs[0]

    def output(value: ir.Value) -> None:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(value)

    by_row, by_one = constant("by_row", [0, -1]), constant("by_one", [1, 1])
    # ONNX Runtime works from the last node without readers backwards to what it needs, then the
    # one before: so the statistics of each value run, and free it, before the next is computed
    depth = {v.name: i for i, node in enumerate(graph) for v in node.outputs}
    numbers = {name: i for i, name in enumerate(places)}
    for name in sorted(places, key=lambda name: depth.get(name, -1), reverse=True):
        at = places[name]
        value = values[name]
        if value.dtype is not ir.DataType.FLOAT:
            value = add("Cast", [value], f"{name}/float", to=ir.DataType.FLOAT)
        shape = by_one if name in scalars else by_row
        flat = add("Reshape", [value, shape], f"{name}/rows")
        for op in _STATISTICS[:3]:
            x, axes = flat, [1]
            if op == "ReduceMean" and name in apart:
                x, axes = value, apart[name]
            if not axes:  # every element is a channel
                output(add("Identity", [x], f"{name}/{op}"))
            elif graph.opset_imports[""] < _AXES_ARE_INPUTS:
                output(add(op, [x], f"{name}/{op}", axes=axes, keepdims=0))
            else:
                among = constant(f"{name}/{op}/axes", axes)
                output(add(op, [x, among], f"{name}/{op}", keepdims=0))
        if at[-1] == len(at) - 1:  # all of them
            output(add("Identity", [flat], f"{name}/values"))
            continue
        start = add(
            "Gather", [starts, constant(f"{name}/number", [numbers[name]])], f"{name}/start"
        )
        moved = add("Add", [start, constant(f"{name}/places", at)], f"{name}/moved")
        output(add("Gather", [flat, moved], f"{name}/values", axis=1))
