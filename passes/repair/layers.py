"""Layers with weights as matrices, and where an intercept can go without a new operator.

    y[r, g, o] = Σ_f W[g, o, f] · x[r, g, f] + b[g, o]
rows r: samples and positions; groups g; outputs o of a group; features f: (input channel, tap).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import weighted_layers
from edgec.calibration.patches import Window
from edgec.graph.initializers import add_initializer

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """A Conv, ConvTranspose, Gemm or MatMul with a constant weight, in the cut model."""

    node: ir.Node

    @property
    def name(self) -> str:
        """The node's name, or that of its output."""
        return self.node.name or self.out

    @property
    def x(self) -> str:
        """Name of the input value."""
        return _value(self.node, 0).name or ""

    @property
    def out(self) -> str:
        """Name of the output value: the same in the original and the cut model."""
        return self.node.outputs[0].name or ""

    @property
    def axis(self) -> int:
        """The axis of the output that carries its channels."""
        return 1 if self.node.op_type in ("Conv", "ConvTranspose") else -1

    @property
    def groups(self) -> int:
        """Groups of a convolution, else 1."""
        return self.node.attributes.get_int("group", 1) if self.node.op_type == "Conv" else 1

    @property
    def shares_weight(self) -> bool:
        """Whether another node reads the same weight."""
        return len(_value(self.node, 1).uses()) > 1

    @property
    def scale(self) -> float:
        """Factor between the weight and its effect (`alpha` of a Gemm)."""
        return self.node.attributes.get_float("alpha", 1.0) if self.node.op_type == "Gemm" else 1.0

    def weight(self) -> Array:
        """The weight as it is stored."""
        return read(self.node, 1)

    def matrix_shape(self) -> tuple[int, int, int]:
        """(groups, outputs of a group, features)."""
        shape = _value(self.node, 1).const_value.shape.numpy()  # type: ignore[union-attr]
        if self.node.op_type == "Conv":
            return self.groups, shape[0] // self.groups, int(np.prod(shape[1:]))
        if self.node.op_type == "ConvTranspose":
            group = self.node.attributes.get_int("group", 1)
            return 1, shape[1] * group, shape[0] // group * int(np.prod(shape[2:]))
        outputs, features = (shape[0], shape[1]) if self._rows_are_outputs() else shape[::-1]
        return 1, outputs, features

    def add_to_weight(self, delta: Floats) -> None:
        """Adds float64[groups, outputs, features] to the weight."""
        old = self.weight()
        if self.node.op_type == "Conv":
            step = delta.reshape(old.shape)
        else:
            step = delta[0] if self._rows_are_outputs() else delta[0].T
        write(self.node, 1, old + step / self.scale)

    def scale_outputs(self, factor: Floats) -> None:
        """Multiplies the weights of each output by float64[channels]."""
        old = self.weight()
        if self.node.op_type == "ConvTranspose":
            group = self.node.attributes.get_int("group", 1)
            rows = np.repeat(factor.reshape(group, -1), old.shape[0] // group, axis=0)
            write(self.node, 1, old * rows.reshape(*rows.shape, *[1] * (old.ndim - 2)))
        elif self.node.op_type == "Conv" or self._rows_are_outputs():
            write(self.node, 1, old * factor.reshape(-1, *[1] * (old.ndim - 1)))
        else:
            write(self.node, 1, old * factor)

    def _rows_are_outputs(self) -> bool:
        return self.node.op_type == "Gemm" and self.node.attributes.get_int("transB", 0) == 1

    def positions(self, x: Array) -> int:
        """Rows that one sample of the input gives."""
        if self.node.op_type == "Conv":
            patches = self._window(x).patches(x[:1])
            return int(np.prod(patches.shape[2 : -self._rank]))
        return int(np.prod(x.shape[1:-1]))

    def rows(self, x: Array, positions: NDArray[np.int64]) -> Array:
        """The input as [samples · positions, groups, features], at int64[samples, positions]."""
        if self.node.op_type == "Conv":
            rows = self._window(x).rows(x, positions)
            return rows.reshape(len(rows), self.groups, -1)
        flat = x.reshape(len(x), -1, x.shape[-1])
        chosen = np.take_along_axis(flat, positions[:, :, None], 1)
        return chosen.reshape(-1, 1, x.shape[-1])

    def outputs(self, y: Array, positions: NDArray[np.int64] | None) -> Array:
        """The output as [samples · positions, groups, outputs]; None: at all positions."""
        flat = np.moveaxis(y, self.axis, -1)
        flat = flat.reshape(len(y), -1, y.shape[self.axis])
        if positions is not None:
            flat = np.take_along_axis(flat, positions[:, :, None], 1)
        return flat.reshape(flat.shape[0] * flat.shape[1], self.groups, -1)

    @property
    def _rank(self) -> int:
        return len(self.weight().shape) - 2

    def _window(self, x: Array) -> Window:
        return Window.of(self.node, self.weight().shape[2:], x.shape[2:])


def layers_of(model: ir.Model) -> list[Layer]:
    """The layers of a model, in its order.

    Those that contract their batch axis are left out, and stacks of matrices.
    """
    return [
        Layer(node)
        for node in weighted_layers(model)
        if not node.attributes.get_int("transA", 0)
        and (node.op_type != "MatMul" or read(node, 1).ndim == 2)
    ]


def intercept_of(layer: Layer) -> Callable[[Floats], None] | None:
    """A function that adds float64[channels] to the layer's output; None if there is no place.

    In this order: its own bias, the running mean of a BatchNormalization that alone reads it, a
    constant that alone is added to it, a bias it can be given.
    """
    node = layer.node
    if layer.node.op_type == "MatMul":
        return _into_sum(node)
    if node.op_type == "Gemm":
        return _into_gemm(layer)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return _into_input(node, 2) if node.inputs[2].const_value is not None else None
    norm = only_reader(node.outputs[0])
    if is_norm(norm):
        assert norm is not None
        return lambda shift: write(norm, 3, read(norm, 3) - shift)
    return lambda shift: _new_input(node, 2, shift.astype(layer.weight().dtype))


def biases_to_come(model: ir.Model) -> int:
    """The most parameters that a repair may add: one bias per channel of a layer without one.

    A budget on parameters or bytes has to leave room for them.
    """
    channels = 0
    for node in model.graph:
        without = len(node.inputs) < 3 or node.inputs[2] is None
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or not without:
            continue
        weight = node.inputs[1]
        if weight is None or weight.const_value is None or is_norm(only_reader(node.outputs[0])):
            continue
        shape = weight.const_value.shape.numpy()
        by_rows = node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1
        group = node.attributes.get_int("group", 1) if node.op_type == "ConvTranspose" else 1
        channels += shape[0] if by_rows else shape[1] * group
    return channels


def is_norm(node: ir.Node | None) -> bool:
    """Whether the node is a BatchNormalization with constant statistics."""
    return (
        node is not None
        and node.op_type == "BatchNormalization"
        and node.domain == ""
        and not node.attributes.get_int("training_mode", 0)
        and all(v is not None and v.const_value is not None for v in node.inputs[1:5])
    )


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads the value, if it is no output of the graph."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _into_input(node: ir.Node, index: int) -> Callable[[Floats], None]:
    return lambda shift: write(node, index, read(node, index) + shift)


def _into_gemm(layer: Layer) -> Callable[[Floats], None] | None:
    node = layer.node
    beta = node.attributes.get_float("beta", 1.0)
    if len(node.inputs) < 3 or node.inputs[2] is None:
        if beta == 0:
            return None
        return lambda shift: _new_input(node, 2, (shift / beta).astype(layer.weight().dtype))
    shape = _value(node, 2).shape
    fits = shape is not None and (len(shape) < 2 or shape[0] == 1)
    if _value(node, 2).const_value is None or beta == 0 or not fits:
        return None
    return lambda shift: write(node, 2, read(node, 2) + shift / beta)


def _into_sum(node: ir.Node) -> Callable[[Floats], None] | None:
    reader = only_reader(node.outputs[0])
    if reader is None or reader.op_type != "Add":
        return None
    index = 1 if reader.inputs[0] is node.outputs[0] else 0
    value = reader.inputs[index]
    if value is None or value.const_value is None:
        return None
    shape = value.const_value.shape.numpy()
    if any(size != 1 for size in shape[:-1]):
        return None
    return _into_input(reader, index)


# --- initializers ------------------------------------------------------------------------------


def _value(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def read(node: ir.Node, index: int) -> Array:
    """The constant at input `index`."""
    tensor = _value(node, index).const_value
    assert tensor is not None
    return tensor.numpy()


def write(node: ir.Node, index: int, array: Array) -> None:
    """Puts a constant at input `index`; other nodes that read the old one keep it."""
    value = _value(node, index)
    array = np.ascontiguousarray(array, dtype=read(node, index).dtype)
    if len(value.uses()) == 1 and not value.is_graph_output():
        value.const_value = ir.Tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
    else:
        node.replace_input_with(index, _initializer(node, f"{value.name}.repaired", array))


def _new_input(node: ir.Node, index: int, array: Array) -> None:
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, _initializer(node, f"{node.outputs[0].name}.bias", array))


def _initializer(node: ir.Node, name: str, array: Array) -> ir.Value:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    unique, number = name, 0
    while unique in graph.initializers:
        number += 1
        unique = f"{name}.{number}"
    return add_initializer(graph, ir.Tensor(np.ascontiguousarray(array), name=unique))
