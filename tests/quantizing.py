"""Quantises a model of the zoo as simply as can be, and writes the result as short text.

`after` says what is quantised line by line, in the order of the graph. What is read through
integers stands in brackets; behind a weight stands the axis of its scales:

    c = Conv([x], [w:0], b)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from zoo import Array, feeds_of, model_of, session_of

from edgec.calibration.grid import Grid
from edgec.graph.lint import lint
from edgec.passes.quantize.insert import insert
from edgec.passes.quantize.place import place
from edgec.passes.quantize.placement import Placement
from edgec.passes.quantize.rules import QuantizeRules
from edgec.passes.quantize.weights import StoredWeight
from edgec.targets import load_profile
from edgec.targets.quantize_rules import load_rules


def _cpu() -> QuantizeRules:
    rules = load_profile("cpu").quantize
    assert rules is not None
    return rules


CPU = _cpu()
TENSORRT = load_rules("tensorrt")


def with_bits(rules: QuantizeRules, bits: int) -> QuantizeRules:
    """The rules with activations and weights of so many bits."""
    return replace(
        rules,
        activations=replace(rules.activations, bits=bits),
        weights=replace(rules.weights, bits=bits),
    )


def values_of(model: ir.Model, names: list[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the tensors of these names are, computed by ONNX Runtime on the graph as written."""
    copy = model.clone()
    found = {v.name: v for v in (*copy.graph.inputs, *(v for n in copy.graph for v in n.outputs))}
    copy.graph.outputs[:] = [v for n, v in found.items() if n in names and n not in feeds]
    made = [v.name or "" for v in copy.graph.outputs]
    arrays = session_of(copy).run(made, dict(feeds)) if made else []
    return {**{n: feeds[n] for n in names if n in feeds}, **dict(zip(made, arrays, strict=True))}


def grids_of(model: ir.Model, placement: Placement, feeds: Mapping[str, Array]) -> dict[str, Grid]:
    """Grids that span what the tensors are for these feeds; one for those that are tied."""
    arrays = values_of(model, [p.value for p in placement.points], feeds)
    low = {n: float(a.min(initial=0)) for n, a in arrays.items()}
    high = {n: float(a.max(initial=0)) for n, a in arrays.items()}
    for names in placement.tied:
        for ends, pick in ((low, min), (high, max)):
            ends |= dict.fromkeys(names, pick(ends[n] for n in names))
    return {n: Grid.of_range(placement.rules.activations, low[n], high[n]) for n in arrays}


def weights_of(model: ir.Model, placement: Placement) -> dict[str, StoredWeight]:
    """Weights on grids that span them."""
    found = {}
    for weight in placement.weights:
        tensor = model.graph.initializers[weight.initializer].const_value
        assert tensor is not None
        array = tensor.numpy()
        others = tuple(i for i in range(array.ndim) if i != weight.axis)
        axes = None if weight.axis is None else others
        ends = array.min(axis=axes), array.max(axis=axes)
        scheme = replace(placement.rules.weights, bits=weight.bits)
        found[weight.initializer] = StoredWeight.of(
            array, Grid.of_range(scheme, *ends, weight.axis)
        )
    return found


def quantised(
    model: ir.Model,
    rules: QuantizeRules,
    feeds: Mapping[str, Array],
    exclude: tuple[str, ...] = (),
) -> tuple[ir.Model, Placement]:
    """A quantised copy, checked, and where it is quantised."""
    copy = model.clone()
    placement = place(copy, rules, exclude=exclude)
    insert(copy, placement, grids_of(copy, placement, feeds), weights_of(copy, placement))
    lint(copy)
    onnx.checker.check_model(ir.to_proto(copy), full_check=True)
    return copy, placement


def after(text: str, rules: QuantizeRules, *, exclude: tuple[str, ...] = ()) -> str:
    """The network that ONNX text describes, quantised, as short text."""
    model = model_of(text)
    return shown(quantised(model, rules, feeds_of(model), exclude)[0])


def shown(model: ir.Model) -> str:
    """A line per node; pairs of Q and DQ as brackets."""
    lines = [
        f"{node.outputs[0].name} = {node.op_type}({', '.join(_read(v) for v in node.inputs)})"
        for node in model.graph
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
    ]
    lines += [f"out {_read(v)}" for v in model.graph.outputs if _read(v) != v.name]
    return "\n".join(lines)


def _read(value: ir.Value | None) -> str:
    if value is None:
        return ""
    dq = value.producer()
    if dq is None or dq.op_type != "DequantizeLinear":
        return value.name or ""
    stored, scale = dq.inputs[0], dq.inputs[1]
    assert stored is not None
    assert scale is not None
    q = stored.producer()
    source = stored if q is None else q.inputs[0]
    assert source is not None
    name = (source.name or "").removesuffix(".q").removesuffix(".rounded").removesuffix(".float")
    return f"[{name}]" if not scale.shape else f"[{name}:{dq.attributes.get_int('axis', 1)}]"


def optimised(model: ir.Model, path: str, level: str = "ALL") -> tuple[list[str], list[Array]]:
    """What ONNX Runtime makes of a model: its operators, and the outputs for the zoo's feeds."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = path
    proto = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, feeds_of(model))
    ops = [node.op_type for node in onnx.load(path).graph.node]
    return ops, [np.asarray(y) for y in outputs]
