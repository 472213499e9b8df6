"""Puts Q/DQ into a graph.

    x ─▶ conv              x ─▶ QuantizeLinear ─▶ DequantizeLinear ─▶ conv
    w ──┘          ⟶                   w.q (int8) ─▶ DequantizeLinear ──┤
    b ──┘                             b.q (int32) ─▶ DequantizeLinear ──┘

A bias has the grid of the product, scale(x)·scale(w): the kernel adds it to its int32 sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.grid import Grid
from edgec.errors import UnsupportedError, UsageError
from edgec.graph.initializers import add_initializer
from edgec.graph.names import Names
from edgec.passes.fold import sweep
from edgec.passes.quantize.place import bias_add
from edgec.passes.quantize.placement import Placement, Point, Weight
from edgec.passes.quantize.weights import StoredWeight

_ROOM = float(1 << 30)
"""Biases reach no further than half of int32: the sum over the products needs room too."""

_ROUNDED = ("Conv", "ConvTranspose", "Gemm")
"""Products whose float weights ONNX Runtime rounds where they lie between two grids."""

_TINY = np.finfo(np.float32).tiny


def insert(
    model: ir.Model,
    placement: Placement,
    grids: Mapping[str, Grid],
    weights: Mapping[str, StoredWeight],
) -> None:
    """Quantise the graph in place.

    Args:
        model: The model that the placement was made for; operator set 13 or newer, 21 for integers
            that have not 8 bits.
        placement: What is quantised.
        grids: Placed activation → its grid.
        weights: Placed weight → its integers and their grid.

    Raises:
        UsageError: a grid or a weight is missing, or tensors that are tied have different grids.
        UnsupportedError: the operator set is too old.
    """
    _check(model, placement, grids, weights)
    inserter = _Inserter(model, placement, grids)
    for weight in placement.weights:
        inserter.weight(weight, weights[weight.initializer])
    for point in placement.points:
        inserter.point(point, grids[point.value])
    if placement.rules.rounds_floats:
        inserter.hold_floats()
    sweep(model)


def _check(
    model: ir.Model,
    placement: Placement,
    grids: Mapping[str, Grid],
    weights: Mapping[str, StoredWeight],
) -> None:
    for point in placement.points:
        if point.value not in grids:
            raise UsageError(f"tensor '{point.value}'", "has no grid", "calibrate it")
    for weight in placement.weights:
        if weight.initializer not in weights:
            raise UsageError(f"weight '{weight.initializer}'", "has no grid", "quantise it")
    for names in placement.tied:
        first, *rest = sorted(names)
        for name in rest:
            a, b = grids[first], grids[name]
            if (a.scheme, a.scale, a.zero) != (b.scheme, b.scale, b.zero):
                raise UsageError(f"tensor '{name}'", f"must have the grid of '{first}'")
    used = [grids[p.value] for p in placement.points]
    used += [weights[w.initializer].grid for w in placement.weights]
    least = 21 if any(grid.scheme.bits != 8 for grid in used) else 13
    found = model.graph.opset_imports.get("", 0)
    if used and found < least:
        raise UnsupportedError(
            f"operator set {found}",
            f"cannot say {'4 or 16 bits' if least == 21 else 'one scale per channel'}",
            f"convert the model to operator set {least} or newer",
        )


class _Inserter:
    def __init__(self, model: ir.Model, placement: Placement, grids: Mapping[str, Grid]) -> None:
        self.graph = model.graph
        self.rules, self.grids = placement.rules, grids
        self.names = Names(model.graph)
        self.nodes = {node.name: node for node in model.graph}
        self.values = {v.name: v for v in (*model.graph.inputs, *model.graph.initializers.values())}
        self.values |= {v.name: v for node in model.graph for v in node.outputs}

    def point(self, point: Point, grid: Grid) -> None:
        """Q and DQ behind an activation."""
        value, name = self.values[point.value], point.value
        steps = self._steps(name, grid)
        q = self._node("QuantizeLinear", [value, *steps], f"{name}.q", grid)
        dq = self._node("DequantizeLinear", [q, *steps], f"{name}.dq", grid)
        maker = value.producer()
        if maker is None:
            self._before(self.graph[0], q, dq)
        else:
            self.graph.insert_after(maker, [_producer(q), _producer(dq)])
        for reader, i in point.readers:
            self.nodes[reader].replace_input_with(i, dq)
        if point.as_output:
            self.graph.outputs[self.graph.outputs.index(value)] = dq
            value.name = self.names.fresh(f"{name}.float")
            dq.name = name

    def weight(self, weight: Weight, stored: StoredWeight) -> None:
        """DQ behind a weight's integers, or Q and DQ behind its floats; its readers' biases."""
        readers = [self.nodes[name] for name, _ in weight.readers]
        if self.rules.bias:
            for node in readers:
                stored = self._with_room(node, stored)
            for node in readers:
                self._quantise_bias(node, stored.grid)
        grid, name = stored.grid, weight.initializer
        steps = self._steps(name, grid)
        if self.rules.stored == "integers":
            q = self._constant(f"{name}.q", stored.integers, grid.scheme.dtype)
        else:
            floats = self._constant(f"{name}.rounded", stored.reals())
            q = self._node("QuantizeLinear", [floats, *steps], f"{name}.q", grid)
            self._before(readers[0], q)
        dq = self._node("DequantizeLinear", [q, *steps], f"{name}.dq", grid)
        self._before(readers[0], dq)
        for node, (_, i) in zip(readers, weight.readers, strict=True):
            node.replace_input_with(i, dq)

    def hold_floats(self) -> None:
        """Gives products in floats, where they lie between grids, an int32 bias that is exact.

        ONNX Runtime would store their weights as int8, one scale for all; a bias that is no
        initializer keeps it from that.
        """
        for node in list(self.graph):
            if node.op_type not in _ROUNDED or node.domain or not self._is_between_grids(node):
                continue
            weight = node.inputs[1]
            if weight is None or weight.const_value is None:
                continue
            found = self._bias(node)
            if found is None and len(node.inputs) > 2 and node.inputs[2] is not None:
                continue  # a bias that is computed does the same
            size = _outputs(node, tuple(weight.const_value.shape.numpy()))
            floats = np.zeros(size, np.float32) if found is None else found[2]
            # floats = whole number · 2^(exponent − 24)
            steps = np.exp2(np.frexp(floats)[1] - 24.0).astype(np.float32)
            self._store_bias(node, 2, f"{node.name}.bias", floats, np.maximum(steps, _TINY))

    def _is_between_grids(self, node: ir.Node) -> bool:
        x = node.inputs[0]
        if x is None or x.producer() is None or _producer(x).op_type != "DequantizeLinear":
            return False
        behind = [node.outputs[0]]
        for value in behind:
            for reader, _ in value.uses():
                if reader.op_type == "QuantizeLinear":
                    return True
                if reader.op_type in self.rules.epilogues:
                    behind.append(reader.outputs[0])
        return False

    def _bias(self, node: ir.Node) -> tuple[ir.Node, int, NDArray[Any]] | None:
        """Where a product's constant bias is read, and its numbers, float32[n]."""
        found = bias_add(node)
        if found is None and node.op_type != "MatMul" and len(node.inputs) > 2:
            found = node, 2
        value = None if found is None else found[0].inputs[found[1]]
        if found is None or value is None or value.const_value is None:
            return None
        floats = value.const_value.numpy()
        return (*found, floats) if floats.ndim == 1 else None

    def _step(self, node: ir.Node) -> np.float32:
        """The scale of a product's activation."""
        x = node.inputs[0]
        assert x is not None
        return np.float32(self.grids[x.name or ""].scale)

    def _with_room(self, node: ir.Node, stored: StoredWeight) -> StoredWeight:
        """The weight on a grid that is coarse enough for the bias to fit into int32.

        That changes channels only whose weights are as good as nothing beside their bias.
        """
        found, grid = self._bias(node), stored.grid
        if found is None:
            return stored
        least = np.abs(found[2].astype(np.float64)) / (self._step(node) * _ROOM)
        least = least.max(initial=0.0) if grid.axis is None else least
        if np.all(least <= grid.scale):
            return stored
        scale = np.maximum(grid.scale, least).astype(np.float32)
        return StoredWeight.of(stored.reals(), Grid(grid.scheme, scale, grid.zero, grid.axis))

    def _quantise_bias(self, node: ir.Node, grid: Grid) -> None:
        found = self._bias(node)
        if found is None:
            return
        reader, i, floats = found
        steps = np.asarray(grid.scale * self._step(node))
        floats, steps = np.broadcast_arrays(floats, steps)
        value = reader.inputs[i]
        self._store_bias(reader, i, "" if value is None else value.name or "", floats, steps)

    def _store_bias(
        self, node: ir.Node, i: int, name: str, floats: NDArray[Any], steps: NDArray[Any]
    ) -> None:
        """int32 and DQ in place of a bias; the floats and their steps are float32[n]."""
        whole = np.rint(floats.astype(np.float64) / steps)
        q = self._constant(f"{name}.q", whole, ir.DataType.INT32)
        scale = self._constant(f"{name}.scale", steps, ir.DataType.FLOAT)
        zero = self._constant(f"{name}.zero", np.zeros(whole.shape), ir.DataType.INT32)
        dq = self._output("DequantizeLinear", [q, scale, zero], f"{name}.dq", 0)
        dq.dtype = ir.DataType.FLOAT
        self._before(node, dq)
        if len(node.inputs) <= i:
            node.resize_inputs(i + 1)
        node.replace_input_with(i, dq)

    def _steps(self, name: str, grid: Grid) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point as constants."""
        return (
            self._constant(f"{name}.scale", np.asarray(grid.scale), ir.DataType.FLOAT),
            self._constant(f"{name}.zero", np.asarray(grid.zero), grid.scheme.dtype),
        )

    def _constant(
        self, like: str, array: NDArray[Any], dtype: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        stored = np.array(array, dtype.numpy(), order="C")
        tensor = ir.Tensor(stored, dtype=dtype, name=self.names.fresh(like))
        return add_initializer(self.graph, tensor)

    def _node(self, op: str, inputs: Sequence[ir.Value], like: str, grid: Grid) -> ir.Value:
        """The output of a new Q or DQ that has no place yet."""
        value = self._output(op, inputs, like, grid.axis)
        value.dtype = grid.scheme.dtype if op == "QuantizeLinear" else ir.DataType.FLOAT
        return value

    def _output(self, op: str, inputs: Sequence[ir.Value], like: str, axis: int | None) -> ir.Value:
        name = self.names.fresh(like)
        value = ir.Value(name=name, shape=inputs[0].shape)
        attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
        ir.Node("", op, inputs, attributes, outputs=[value], name=name)
        return value

    def _before(self, node: ir.Node, *made: ir.Value) -> None:
        self.graph.insert_before(node, [_producer(value) for value in made])


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _outputs(node: ir.Node, weight: tuple[int, ...]) -> int:
    """How many output channels a product has."""
    if node.op_type == "ConvTranspose":
        return weight[1] * node.attributes.get_int("group", 1)
    if node.op_type == "Gemm" and not node.attributes.get_int("transB", 0):
        return weight[1]
    return weight[0]
