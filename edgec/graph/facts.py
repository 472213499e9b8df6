"""Concrete shapes and small constants of every value, found by one walk over the graph.

ONNX's own per-node inference is given the concrete input sizes and the constants met so far, so
shapes that the graph computes at run time (Shape → Gather → Concat → Reshape) come out as numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgec.graph.deadline import walk
from edgec.graph.nodes import UNFOLDED, runs_graphs
from edgec.ops import rule_for
from edgec.ops.view import Barrier, Fact, View

Facts = dict[ir.Value, Fact]

# Larger constants are data, not shapes; nothing reads their values during analysis.
_SMALL = 4096
_NESTED = ("If", "Loop")


def facts_of(model: ir.Model, input_shapes: Mapping[str, Sequence[int]]) -> Facts:
    """Facts of every value of the main graph, for concrete sizes of the graph's inputs.

    Args:
        model: The model; its nodes are in topological order.
        input_shapes: name → sizes, for every graph input.
    """
    facts: Facts = {}
    for value in model.graph.inputs:
        facts[value] = Fact(value.dtype, tuple(input_shapes[value.name or ""]))
    for value in model.graph.initializers.values():
        facts[value] = _initializer(value)
    _walk(model.graph, facts, _Inference(model))
    return facts


def _walk(graph: ir.Graph, facts: Facts, infer: _Inference) -> None:
    """Adds the facts of what the nodes of a graph make."""
    for node in walk(graph, "the inference of shapes"):
        if node.op_type in _NESTED and node.domain == "":
            outputs = _nested(node, facts, infer)
        else:
            inputs = [None if v is None else facts.get(v, Fact()) for v in node.inputs]
            outputs = infer.outputs(node, inputs)
        facts.update(zip(node.outputs, outputs, strict=True))


def _nested(node: ir.Node, facts: Facts, infer: _Inference) -> list[Fact]:
    """If: what both branches agree on. Loop: the states whose shape a turn does not change."""
    declared = [Fact(v.dtype, _static(v)) for v in node.outputs]
    if node.op_type == "If":
        branches = [_inside(a.as_graph(), {}, facts, infer) for a in node.attributes.values()]
        found = [_agreed(ends) for ends in zip(*branches, strict=True)]
    else:
        body = node.attributes["body"].as_graph()
        starts = [_unvalued(facts.get(v)) if v is not None else Fact() for v in node.inputs[2:]]
        turn, go = Fact(ir.DataType.INT64, ()), Fact(ir.DataType.BOOL, ())
        given = dict(zip(body.inputs, [turn, go, *starts], strict=True))
        ends = _inside(body, given, facts, infer)[1:]
        found = [_agreed(pair) for pair in zip(starts, ends, strict=False)]
    found += [Fact()] * (len(declared) - len(found))  # what a Loop collects: as many as its turns
    return [
        Fact(new.dtype or old.dtype, old.shape if new.shape is None else new.shape)
        for new, old in zip(found, declared, strict=True)
    ]


def _inside(
    graph: ir.Graph, given: Mapping[ir.Value, Fact], outer: Facts, infer: _Inference
) -> list[Fact]:
    """Facts of the outputs of a nested graph, which sees all values around it."""
    facts = {**outer, **given}
    for value in graph.initializers.values():
        facts[value] = _initializer(value)
    _walk(graph, facts, infer)
    return [facts.get(value, Fact()) for value in graph.outputs]


def _agreed(facts: Sequence[Fact]) -> Fact:
    """Type and shape where all are the same; no value."""
    first, *rest = facts
    return Fact(
        first.dtype if all(f.dtype == first.dtype for f in rest) else None,
        first.shape if all(f.shape == first.shape for f in rest) else None,
    )


def _unvalued(fact: Fact | None) -> Fact:
    return Fact() if fact is None else Fact(fact.dtype, fact.shape)


def _initializer(value: ir.Value) -> Fact:
    tensor = value.const_value
    if tensor is None:
        return Fact(value.dtype, _static(value))
    shape = tuple(tensor.shape.numpy())
    small = int(np.prod(shape)) <= _SMALL and tensor.dtype != ir.DataType.STRING
    return Fact(tensor.dtype, shape, tensor.numpy() if small else None)


def _static(value: ir.Value) -> tuple[int, ...] | None:
    shape = value.shape
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    return shape.numpy()


class _Inference:
    def __init__(self, model: ir.Model) -> None:
        self.opsets = dict(model.graph.opset_imports)
        self.imports = [onnx.helper.make_opsetid(d, v) for d, v in self.opsets.items()]
        self.ir_version = model.ir_version
        self.parts: dict[ir.Value, list[Fact]] = {}  # of sequences

    def outputs(self, node: ir.Node, x: Sequence[Fact | None]) -> list[Fact]:
        """Facts of the node's outputs; what cannot be told stays None."""
        declared = [Fact(v.dtype, _static(v)) for v in node.outputs]
        if node.op_type == "Shape" and x[0] is not None and x[0].shape is not None:
            start = node.attributes.get_int("start", 0)
            end = node.attributes.get_int("end", len(x[0].shape))
            value = np.asarray(x[0].shape[start:end], np.int64)
            return [Fact(ir.DataType.INT64, value.shape, value)]
        if node.op_type == "Size" and x[0] is not None and x[0].shape is not None:
            value = np.asarray(np.prod(x[0].shape, dtype=np.int64))
            return [Fact(ir.DataType.INT64, (), value)]
        if node.op_type == "SplitToSequence":
            self.parts[node.outputs[0]] = _parts(node, x)
            return declared
        if node.op_type == "SequenceAt" and node.inputs[0] in self.parts:
            parts, position = self.parts[node.inputs[0]], x[1].const if x[1] is not None else None
            if position is not None and -len(parts) <= int(position) < len(parts):
                return [parts[int(position)]]
        if runs_graphs(node):
            return declared
        rule = rule_for(node.domain, node.op_type)
        if rule is not None and rule.infer is not None:
            try:
                return list(rule.infer(View(node, x, declared)))
            except Barrier:
                return declared
        version = self.opsets.get(node.domain)
        if version is None or not onnx.defs.has(node.op_type, version, node.domain):
            return declared
        proto = ir.serde.serialize_node(node)
        found = self._shapes(node, proto, x, version, declared)
        known = [fact.const for fact in x if fact is not None]
        if all(c is not None for c in known) and node.op_type not in UNFOLDED:
            small = all(f.shape is not None and int(np.prod(f.shape)) <= _SMALL for f in found)
            if small:
                feeds = {
                    v.name or "": f.const
                    for v, f in zip(node.inputs, x, strict=True)
                    if v is not None and f is not None
                }
                values = evaluate(proto, feeds, self.opsets)
                return (
                    [_known(v, f) for v, f in zip(values, found, strict=False)] if values else found
                )
        return found

    def _shapes(
        self,
        node: ir.Node,
        proto: onnx.NodeProto,
        x: Sequence[Fact | None],
        version: int,
        declared: list[Fact],
    ) -> list[Fact]:
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for name, fact in zip(proto.input, x, strict=True):
            if fact is None:
                continue
            if fact.dtype is None:
                return declared
            types[name] = onnx.helper.make_tensor_type_proto(fact.dtype.value, fact.shape)
            if fact.const is not None:
                data[name] = onnx.numpy_helper.from_array(np.asarray(fact.const), name)
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, proto, types, data, opset_imports=self.imports, ir_version=self.ir_version
            )
        except (onnx.shape_inference.InferenceError, RuntimeError):
            return declared
        return [
            _merged(inferred.get(name), fact)
            for name, fact in zip(proto.output, declared, strict=True)
        ]


def split_sizes(node: ir.Node, x: Sequence[Fact | None]) -> list[int] | None:
    """Sizes of the elements that SplitToSequence makes; None if they are unknown or lose an axis.

    Args:
        node: The node.
        x: Facts of its inputs.
    """
    if len(x) < 2 or x[0] is None or x[1] is None:
        return None  # without sizes the elements lose the axis (keepdims)
    shape, split = x[0].shape, x[1].const
    if shape is None or split is None:
        return None
    size = shape[node.attributes.get_int("axis", 0)]
    if split.ndim:
        return [int(s) for s in split]
    step = int(split)
    return [min(step, size - start) for start in range(0, size, step)]


def _parts(node: ir.Node, x: Sequence[Fact | None]) -> list[Fact]:
    sizes = split_sizes(node, x)
    if sizes is None or x[0] is None or x[0].shape is None:
        return []
    axis, shape = node.attributes.get_int("axis", 0) % len(x[0].shape), x[0].shape
    return [Fact(x[0].dtype, (*shape[:axis], size, *shape[axis + 1 :])) for size in sizes]


def _known(value: NDArray[Any], fact: Fact) -> Fact:
    value = np.asarray(value)
    return Fact(fact.dtype or ir.DataType.from_numpy(value.dtype), value.shape, value)


def _merged(type_proto: onnx.TypeProto | None, declared: Fact) -> Fact:
    if type_proto is None or not type_proto.HasField("tensor_type"):
        return declared
    tensor = type_proto.tensor_type
    dtype = ir.DataType(tensor.elem_type) if tensor.elem_type else declared.dtype
    if not tensor.HasField("shape"):
        return Fact(dtype, declared.shape)
    dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return Fact(dtype, declared.shape if -1 in dims else dims)


def evaluate(
    proto: onnx.NodeProto, feeds: Mapping[str, Any], opsets: Mapping[str, int]
) -> list[NDArray[Any]] | None:
    """Runs one node on constants; None if ONNX's reference implementation cannot.

    Nor does a sequence of tensors have a value here: it is not one tensor.
    """
    try:
        runner = ReferenceEvaluator(proto, opsets=dict(opsets))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # infinities are values like others
            values = runner.run(None, dict(feeds))
        return None if any(isinstance(v, list) for v in values) else [np.asarray(v) for v in values]
    except Exception:  # the reference implementation raises whatever its numpy code raises
        return None
