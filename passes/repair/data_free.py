"""Bias correction without data (E1 from batch statistics).

Assumption, stated in the record: what a BatchNormalization writes is normal with mean β and
deviation |γ|, as it was in training. Then the mean of f(BN) is known for every elementwise f, and
so is the mean of what a layer loses with its removed input channels:

    shift[o] = Σ W[o, i, t] · E f(β_i + γ_i z) · (share of positions where tap t reads no padding)

A channel whose γ is 0 is constant, and the correction is exact away from the border.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import runner
from edgec.calibration.patches import Window
from edgec.graph.cut import CutResult
from edgec.graph.widths import lines_of
from edgec.ops.tracing import Use
from edgec.ops.view import Fact
from edgec.passes.repair.layers import Layer, intercept_of, is_norm, layers_of, read
from edgec.passes.repair.record import LayerRecord, RepairRecord

Array = NDArray[Any]
Floats = NDArray[np.float64]

ASSUMPTION = "no data: every BatchNormalization is taken to write N(β, γ²)"
_POINTS = 1201  # of z in ±6, for the mean of f(β + γ z)
# Elementwise, or the mean of what they read.
_KNOWN = {
    "Relu", "LeakyRelu", "Elu", "Selu", "Gelu", "Clip", "HardSigmoid", "HardSwish", "Sigmoid",
    "Softplus", "Tanh", "Mish", "Erf", "Mul", "Add", "Sub", "Div", "Identity", "Cast",
    "GlobalAveragePool",
}  # fmt: skip


def expected_bias(cut: CutResult) -> RepairRecord:
    """Adds the expected contribution of removed channels to each layer's bias.

    Args:
        cut: The cut network; its biases are changed in place.
    """
    source = cut.groups.model
    weights = {
        use.node.outputs[0].name: use
        for use in cut.groups.trace.uses
        if use.index == 1 and use.reads
    }
    records = []
    for layer in layers_of(cut.model):
        use = weights.get(layer.out)
        if use is not None:
            record = _correct(source, cut, layer, use)
            records += [] if record is None else [record]
    return RepairRecord("bias", 0, tuple(records), notes=(ASSUMPTION,))


def _correct(source: ir.Model, cut: CutResult, layer: Layer, use: Use) -> LayerRecord | None:
    weight = read(use.node, 1).astype(np.float64)
    lost = _lost(cut, use, weight)
    if not lost.any():
        return None
    place = intercept_of(layer)
    x = use.node.inputs[0]
    assert x is not None
    means = _means(source, x) if place is not None and use.node.op_type != "ConvTranspose" else None
    if place is None or means is None:
        reason = (
            "has no place for a bias"
            if place is None
            else "the mean of its input is not known without data"
        )
        return LayerRecord(layer.name, "none", reason=reason)
    shift = _shift(cut, use, weight * lost, means)
    place(shift[_kept_outputs(cut, use)])
    return LayerRecord(layer.name, "bias", reason="expected, not measured")


def _lost(cut: CutResult, use: Use, weight: Floats) -> NDArray[np.bool_]:
    lost = np.zeros((1,) * weight.ndim, bool)
    for line in lines_of(use.labels, cut.groups.unit_of, weight.shape):
        if line.axis in use.reads:
            lost = lost | ~line.kept(cut.alive)
    return np.broadcast_to(lost, weight.shape)


def _kept_outputs(cut: CutResult, use: Use) -> NDArray[np.bool_]:
    value = use.node.outputs[0]
    shape = cut.groups.facts.get(value, Fact()).shape or ()
    axis = 1 if use.node.op_type == "Conv" else len(shape) - 1
    for line in lines_of(cut.groups.trace.labels.get(value, ()), cut.groups.unit_of, shape):
        if line.axis == axis:
            return line.positions(cut.alive)
    return np.ones(shape[axis], bool)


def _shift(cut: CutResult, use: Use, lost: Floats, means: Floats) -> Floats:
    """float64[outputs]: mean of the lost part of the output."""
    if use.node.op_type != "Conv":
        transposed = use.node.op_type == "Gemm" and use.node.attributes.get_int("transB", 0) == 1
        scale = use.node.attributes.get_float("alpha", 1.0) if use.node.op_type == "Gemm" else 1.0
        return np.asarray(scale * ((lost if transposed else lost.T) @ means))
    x = use.node.inputs[0]
    assert x is not None
    size = (cut.groups.facts[x].shape or ())[2:]
    window = Window.of(use.node, lost.shape[2:], size)
    inside = window.patches(np.ones((1, 1, *size)))
    rank = len(size)
    share = inside.mean(tuple(range(2 + rank)))  # [kernel…]
    group = use.node.attributes.get_int("group", 1)
    rows = np.repeat(means.reshape(group, -1), lost.shape[0] // group, axis=0)  # [outputs, inputs]
    taps = tuple(range(2, lost.ndim))
    return np.asarray(((lost * share).sum(taps) * rows).sum(1))


def _means(source: ir.Model, value: ir.Value) -> Floats | None:
    """float64[channels]: the expected mean of a value, None if it does not follow from one norm."""
    norms: dict[str, ir.Node] = {}
    for node in _back(value):
        if is_norm(node):
            norms[node.outputs[0].name or ""] = node
        elif node.op_type not in _KNOWN or node.domain:
            return None
    if len(norms) != 1 or not _only_norm_feeds(value, norms):
        return None
    name, norm = next(iter(norms.items()))
    gamma, beta = (read(norm, i).astype(np.float64) for i in (1, 2))
    z = np.linspace(-6.0, 6.0, _POINTS)
    share = np.exp(-(z**2) / 2)
    share /= share.sum()
    rank = len(norm.outputs[0].shape or (0, 0, 0, 0))
    points = (beta + z[:, None] * np.abs(gamma)).astype(read(norm, 1).dtype)
    points = points.reshape(_POINTS, -1, *[1] * (rank - 2))
    mean = runner(source, [name], [value.name or ""], {name: points})({name: points})
    return np.asarray(share @ mean[value.name or ""].reshape(_POINTS, -1).astype(np.float64))


def _back(value: ir.Value) -> Iterator[ir.Node]:
    """The nodes between the nearest norms and a value, the norms among them."""
    seen: set[ir.Node] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if not is_norm(node) and node.op_type in _KNOWN:
            stack += [v for v in node.inputs if v is not None and v.const_value is None]


def _only_norm_feeds(value: ir.Value, norms: dict[str, ir.Node]) -> bool:
    """Whether no graph input reaches the value but through the norms."""
    if value.name in norms:
        return True
    node = value.producer()
    if node is None:
        return False
    return all(
        _only_norm_feeds(v, norms) for v in node.inputs if v is not None and v.const_value is None
    )
