"""Random weights that keep a network alive, chosen by what consumes them.

A weight read by Conv, ConvTranspose, Gemm or MatMul is normal with variance 2 / fan-in (He), so
that variance survives a ReLU layer. Norm scales and variances lie in 0.5..1.5 and their means
and biases are small; nothing is 0 or 1 exactly, so that no law holds by accident.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

MOVES = {"Unsqueeze", "Squeeze", "Reshape", "Transpose", "Identity", "Expand", "Flatten"}
"""Operators that hand a weight on unchanged: what reads their output decides its role."""

ROLES: Mapping[tuple[str, int], str] = {
    ("Conv", 1): "matrix",
    ("ConvTranspose", 1): "matrix",
    ("Gemm", 1): "matrix",
    ("MatMul", 0): "matrix",
    ("MatMul", 1): "matrix",
    ("Attention", 1): "matrix",
    ("LSTM", 1): "matrix",
    ("LSTM", 2): "matrix",
    ("GRU", 1): "matrix",
    ("GRU", 2): "matrix",
    ("RNN", 1): "matrix",
    ("RNN", 2): "matrix",
    ("BatchNormalization", 1): "scale",
    ("BatchNormalization", 4): "scale",
    ("InstanceNormalization", 1): "scale",
    ("LayerNormalization", 1): "scale",
    ("GroupNormalization", 1): "scale",
    ("RMSNormalization", 1): "scale",
    ("Mul", 0): "scale",
    ("Mul", 1): "scale",
    ("Div", 1): "scale",
    ("PRelu", 1): "slope",
    ("Gather", 0): "table",
}
"""Role of a float weight by (operator, input slot); any other slot is a bias."""


@dataclass(frozen=True)
class Use:
    """One place a weight is read."""

    op_type: str
    slot: int
    attributes: Mapping[str, Any] = field(default_factory=dict)


def uses_of(graph: onnx.GraphProto) -> dict[str, tuple[Use, ...]]:
    """Every value's uses, seen through `MOVES`."""
    uses: defaultdict[str, tuple[Use, ...]] = defaultdict(tuple)
    for node in reversed(graph.node):  # consumers before producers: one sweep settles chains
        attributes = {
            a.name: onnx.helper.get_attribute_value(a)
            for a in node.attribute
            if a.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
        }
        for slot, name in enumerate(node.input):
            handed_on = node.op_type in MOVES and slot == 0
            here = uses[node.output[0]] if handed_on else (Use(node.op_type, slot, attributes),)
            uses[name] = here + uses[name]
    return dict(uses)


def draw(
    name: str,
    shape: tuple[int, ...],
    uses: Sequence[Use],
    seed: int,
    *,
    centre: float = 0.0,
    gain: float = 1.0,
) -> npt.NDArray[np.float32]:
    """Values for weight `name`, a function of its arguments (and only the first use) alone.

    Args:
        centre: the part of each filter's mean that is taken away, 0..1. Deep ReLU networks need
            it: activations are positive, so the filters' means add up over the layers until
            every image gives the same output.
        gain: factor on Conv, Gemm and MatMul weights. Deep residual networks need less than 1:
            each block adds its variance to the trunk's.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    use = uses[0] if uses else Use("", 0)
    role = ROLES.get((use.op_type, use.slot), "bias")
    if role == "scale":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if role == "slope":
        return rng.uniform(0.1, 0.4, shape).astype(np.float32)
    values = _unit_variance(rng, shape)
    if role == "table":
        return values
    if role == "bias":
        return values * np.float32(0.1)
    if centre and len(shape) > 1 and shape[1] > 1:
        values -= centre * values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
    # After a ReLU, E[x^2] = 1/2 and Var[x] = 0.34: a centred filter sees only the variance.
    values *= gain * math.sqrt((2 + 0.93 * centre) / fan_in(shape, use))
    return values


def _unit_variance(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Zero-mean noise: normal, or 256 even steps where the tensor is so large that time counts."""
    size = math.prod(shape)
    if size <= 1 << 20:
        return rng.standard_normal(shape, dtype=np.float32)
    steps = np.frombuffer(rng.bytes(size), np.uint8).astype(np.float32).reshape(shape)
    steps -= 127.5
    steps /= math.sqrt((256**2 - 1) / 12)
    return steps


def fan_in(shape: tuple[int, ...], use: Use) -> float:
    """How many products one output element sums, on average."""
    if use.op_type == "Gemm":
        return shape[-1] if use.attributes.get("transB", 0) else math.prod(shape[:-1])
    if use.op_type in ("MatMul", "Attention"):
        return shape[-1] if use.slot == 0 or len(shape) == 1 else shape[-2]
    if use.op_type == "ConvTranspose":
        taps = math.prod(shape[2:]) / math.prod(use.attributes.get("strides", [1]))
        return max(1.0, float(shape[0] / use.attributes.get("group", 1) * taps))
    if use.op_type == "Conv":
        return math.prod(shape[1:])
    return shape[-1]
