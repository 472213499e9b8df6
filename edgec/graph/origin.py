"""Where the elements of a folded constant come from.

Folding puts computed constants in the place of the original's initializers: the transposed weight
of a linear layer, the gates of a recurrent one in ONNX's order. What is cut from such a constant
is cut from the initializers behind it. To find out where, the folded nodes are run once more, on
the numbers of the elements in place of their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.facts import evaluate

Numbers = NDArray[np.int64]

_KEY = "edgec.origin"
# What makes each element of its output from one element of an input. Any other operand is a
# constant that no initializer is behind.
_MOVES = {
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
    "Trilu", "Unsqueeze", "Where",
}  # fmt: skip
# What makes each element of its output from the elements at the same place of its inputs.
_ELEMENTWISE = {
    "Abs", "Add", "Cast", "Ceil", "Div", "Erf", "Exp", "Floor", "Log", "Mul", "Neg", "Pow",
    "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """An initializer of the original; `name` is empty for a constant that no initializer is."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """An output of a folded node.

    Attributes:
        node: The node.
        output: Which of its outputs.
        shape: Shape of that output.
        inputs: name → where it came from, or its value where it holds indices or sizes.
    """

    node: onnx.NodeProto
    output: int
    shape: tuple[int, ...]
    inputs: Mapping[str, Whole | Made | NDArray[Any]]


Origin = Whole | Made


def origin_of(value: ir.Value) -> Origin:
    """Where the elements of an initializer of a folded model come from."""
    known: Origin | None = value.meta.get(_KEY)
    return Whole(value.name or "", _shape(value)) if known is None else known


def note_origins(node: ir.Node, made: Sequence[ir.Value]) -> None:
    """Writes down that `made` are what `node` computes from its constant inputs."""
    inputs: dict[str, Whole | Made | NDArray[Any]] = {}
    for value in node.inputs:
        if value is not None and value.const_value is not None:
            floats = value.const_value.dtype.is_floating_point()
            inputs[value.name or ""] = origin_of(value) if floats else value.const_value.numpy()
    known = any(sources_of(i) for i in inputs.values() if isinstance(i, Whole | Made))
    for number, value in enumerate(made):
        shape = _shape(value)
        value.meta[_KEY] = (
            Made(ir.serde.serialize_node(node), number, shape, inputs)
            if known
            else Whole("", shape)
        )


def _shape(value: ir.Value) -> tuple[int, ...]:
    """Sizes of an initializer, whose data may have been forgotten."""
    shape = value.shape if value.const_value is None else value.const_value.shape
    assert shape is not None
    return tuple(shape.numpy())


def sources_of(origin: Origin) -> dict[str, tuple[int, ...]]:
    """The initializers of the original that a constant is computed from: name → shape."""
    if isinstance(origin, Whole):
        return {origin.name: origin.shape} if origin.name else {}
    found: dict[str, tuple[int, ...]] = {}
    for part in origin.inputs.values():
        if isinstance(part, Whole | Made):
            found |= sources_of(part)
    return found


def layers_of(
    origin: Origin, starts: Mapping[str, int], opsets: Mapping[str, int]
) -> list[Numbers] | None:
    """For every element the numbers of the elements that it is made from; None if unknown.

    Each layer is int64 in the constant's shape; a sum of two initializers has two layers.

    Args:
        origin: Where the constant comes from.
        starts: initializer → number of its first element, above 0; 0 means no element.
        opsets: The model's operator sets.
    """
    if isinstance(origin, Whole):
        size, start = prod(origin.shape), starts.get(origin.name)
        numbers = np.zeros(size, np.int64) if start is None else np.arange(start, start + size)
        return [numbers.reshape(origin.shape)]
    if not sources_of(origin):
        return [np.zeros(origin.shape, np.int64)]
    parts: dict[str, list[Numbers]] = {}
    for name, part in origin.inputs.items():
        if isinstance(part, Whole | Made):
            layers = layers_of(part, starts, opsets)
            if layers is None:
                return None
            parts[name] = layers
    if origin.node.op_type in _ELEMENTWISE:
        return [np.broadcast_to(x, origin.shape) for layers in parts.values() for x in layers]
    if origin.node.op_type not in _MOVES:
        return None
    plain = {name: a for name, a in origin.inputs.items() if isinstance(a, np.ndarray)}
    moved = []
    for number in range(max(map(len, parts.values()))):
        feeds = {n: x[number] if number < len(x) else x[0] * 0 for n, x in parts.items()}
        found = evaluate(origin.node, {**plain, **feeds}, opsets)
        if found is None:
            return None
        moved.append(np.asarray(found[origin.output], np.int64))
    return moved
