"""Integer operators as Q/DQ: what a quantised model computes, in operators that edgec can cut.

    y = QLinearConv(x, …, w, …, b)   ⟶   y = Q(Conv(DQ(x), DQ(w), DQ(b)))

ONNX Runtime fuses the right side into the left one again. A bias is int32 with the scale of input
times weight. What has a scale per channel keeps it, along the axis where DequantizeLinear wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.errors import UnsupportedError
from edgec.graph.initializers import add_initializer
from edgec.graph.names import Names
from edgec.model_opset import raise_opset


@dataclass(frozen=True)
class Form:
    """How an integer operator is laid out: every tensor is followed by its scale and zero point.

    Args:
        op: The operator on floats.
        operands: Where the tensors are.
        result: Where the result's scale is; without one there, the result is a float.
        bias: Where the int32 bias is.
        repeats: The last operand is followed by more of its kind.
        drops: Attributes that the float operator has not.
    """

    op: str
    operands: tuple[int, ...]
    result: int
    bias: int | None = None
    repeats: bool = False
    drops: tuple[str, ...] = ("channels_last",)


_MS = "com.microsoft::"
FORMS: Mapping[str, Form] = {
    "QLinearConv": Form("Conv", (0, 3), 6, bias=8),
    "QLinearMatMul": Form("MatMul", (0, 3), 6),
    f"{_MS}QLinearConv": Form("Conv", (0, 3), 6, bias=8),
    f"{_MS}QGemm": Form("Gemm", (0, 3), 7, bias=6),
    f"{_MS}QLinearAdd": Form("Add", (0, 3), 6),
    f"{_MS}QLinearMul": Form("Mul", (0, 3), 6),
    f"{_MS}QLinearConcat": Form("Concat", (2,), 0, repeats=True),
    f"{_MS}QLinearAveragePool": Form("AveragePool", (0,), 3),
    f"{_MS}QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,), 3),
    f"{_MS}QLinearSigmoid": Form("Sigmoid", (0,), 3),
    f"{_MS}QLinearLeakyRelu": Form("LeakyRelu", (0,), 3),
    f"{_MS}QLinearSoftmax": Form("Softmax", (0,), 3, drops=("opset",)),
}


def with_floats(model: ir.Model) -> ir.Model:
    """The model with its integer operators as float ones between Q and DQ.

    Its nodes are rewritten in place; a model older than operator set 13 is raised to that.

    Raises:
        UnsupportedError: Q and DQ cannot say what an operator does.
    """
    if not any(_name(node) in FORMS for node in model.graph):
        return model
    model = raise_opset(model, 13)
    names = Names(model.graph)
    for node in [node for node in model.graph if _name(node) in FORMS]:
        _Writer(node, FORMS[_name(node)], names).write()
    return model


def _name(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


class _Writer:
    def __init__(self, node: ir.Node, form: Form, names: Names) -> None:
        self.node, self.form, self.names = node, form, names
        self.made: list[ir.Node] = []

    def write(self) -> None:
        """Puts the new nodes in the place of the old one."""
        node, form = self.node, self.form
        graph, output = node.graph, node.outputs[0]
        assert graph is not None
        self._check()
        starts = form.operands
        if form.repeats:
            starts = tuple(range(starts[0], len(node.inputs), 3))
        inputs = [self._dequantised(i) for i in starts]
        bias = self._input(form.bias)
        if bias is not None:
            inputs.append(self._bias(bias))
        attributes = [a for n, a in node.attributes.items() if n not in form.drops]
        y = self._add(form.op, inputs, f"{output.name}.float", attributes)
        y.shape = output.shape
        graph.insert_before(node, self.made)
        name = output.name
        new, kind, dtype = y, output.type, ir.DataType.FLOAT
        if self._input(form.result) is not None:
            zero = self._input(form.result + 1)
            given = [y, self._scalar(form.result), *([] if zero is None else [zero])]
            self.made = []
            new = self._add("QuantizeLinear", given, f"{name}.q", [])
            dtype = ir.DataType.UINT8 if zero is None or zero.dtype is None else zero.dtype
            graph.insert_before(node, self.made)
        new.shape, new.type = output.shape, kind or ir.TensorType(dtype)
        output.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        new.name = name
        maker = y.producer()
        assert maker is not None
        maker.name = node.name

    def _check(self) -> None:
        if self.node.attributes.get_int("channels_last", 0):
            self._refuse("has channels last", "quantise the model in its NCHW form")

    def _refuse(self, fact: str, remedy: str) -> None:
        raise UnsupportedError(f"{_name(self.node)} '{self.node.name}'", fact, remedy)

    def _input(self, i: int | None) -> ir.Value | None:
        return self.node.inputs[i] if i is not None and i < len(self.node.inputs) else None

    def _scalar(self, i: int) -> ir.Value:
        """A scale of one number for all."""
        scale = self._input(i)
        assert scale is not None
        if _length(scale) not in (1, None):
            self._refuse("has an activation with several scales", "use one scale per activation")
        return scale

    def _dequantised(self, i: int) -> ir.Value:
        value, scale = self._input(i), self._input(i + 1)
        assert value is not None
        assert scale is not None
        zero = self._input(i + 2)
        length = _length(scale)
        if length is None:
            self._refuse("has a scale of unknown shape", "export the model with fixed scales")
        axis = None if length == 1 else self._axis(i)
        given = [value, scale, *([] if zero is None else [self._as_long(zero, scale)])]
        attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
        made = self._add("DequantizeLinear", given, f"{value.name}.dq", attributes)
        made.shape = value.shape
        return made

    def _as_long(self, zero: ir.Value, scale: ir.Value) -> ir.Value:
        """The zero point in the shape of the scale, which DequantizeLinear wants."""
        if zero.shape == scale.shape or _length(zero) == _length(scale):
            return zero
        length = self._constant(f"{zero.name}.shape", np.array([_length(scale)], np.int64))
        made = self._add("Expand", [zero, length], f"{zero.name}.all", [])
        made.type = zero.type
        return made

    def _axis(self, i: int) -> int:
        """The axis that the scales of an operand run along."""
        op, value = self.form.op, self._input(i)
        rank = 2 if value is None or value.shape is None else len(value.shape)
        if i != self.form.operands[-1] or op not in ("Conv", "Gemm", "MatMul"):
            self._refuse("has an activation with several scales", "use one scale per activation")
        if op == "Conv" or (op == "Gemm" and self.node.attributes.get_int("transB", 0) == 1):
            return 0
        return rank - 1

    def _bias(self, bias: ir.Value) -> ir.Value:
        """The int32 bias, with the product of the two scales."""
        scales = [self._input(i + 1) for i in self.form.operands]
        steps = self._add("Mul", scales, f"{bias.name}.scale", [])
        attributes = []
        if all(s is not None and _length(s) == 1 for s in scales):
            shape = self._constant(f"{bias.name}.shape", np.zeros(0, np.int64))
            steps = self._add("Reshape", [steps, shape], f"{bias.name}.scale", [])
        else:
            rank = 1 if bias.shape is None else len(bias.shape)
            attributes.append(ir.AttrInt64("axis", rank - 1))
        return self._add("DequantizeLinear", [bias, steps], f"{bias.name}.dq", attributes)

    def _constant(self, like: str, array: NDArray[Any]) -> ir.Value:
        assert self.node.graph is not None
        return add_initializer(self.node.graph, ir.Tensor(array, name=self.names.fresh(like)))

    def _add(
        self, op: str, inputs: Sequence[ir.Value | None], like: str, attributes: Sequence[ir.Attr]
    ) -> ir.Value:
        name = self.names.fresh(like)
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT))
        self.made.append(ir.Node("", op, inputs, attributes, outputs=[value], name=name))
        return value


def _length(value: ir.Value) -> int | None:
    """How many numbers a scale or a zero point has; None where that is unknown."""
    shape = value.shape if value.const_value is None else value.const_value.shape
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    return int(np.prod(shape.numpy()))
