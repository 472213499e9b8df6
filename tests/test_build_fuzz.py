"""Hostile models: a build gives a bundle that verifies, or one EdgecError and writes nothing.

Random networks are broken in one to three places. What comes out is mostly no valid model, which
the loader, the target or the checks must find; some is valid and odd, and must be built.
Integer constants keep their values: with empty slices ONNX Runtime divides by zero, in native code.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import strategies as st
from onnx import numpy_helper
from zoo.random_graphs import random_model

import edgec
from edgec import bundle
from edgec.errors import EdgecError

OPERATORS = (
    "Add", "ArgMax", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape",
    "Conv", "ConvTranspose", "DepthToSpace", "Dropout", "Einsum", "Expand", "Fancy", "Flatten",
    "Gather", "Gelu", "Gemm", "GlobalAveragePool", "Identity", "If", "InstanceNormalization",
    "LSTM", "LayerNormalization", "Loop", "MatMul", "MaxPool", "Mul", "NonZero", "PRelu", "Pad",
    "QuantizeLinear", "RandomNormal", "ReduceMean", "Relu", "Reshape", "Resize",
    "SequenceConstruct", "Shape", "Slice", "Softmax", "Split", "Squeeze", "TopK", "Transpose",
    "Unique", "Unsqueeze", "Where",
)  # fmt: skip
NUMBERS = (-(2**40), -2, -1, 2, 3, 4, 5, 7, 8, 16, 100, 2**31, 2**62)
DTYPES = ("f2", "f4", "f8", "i4", "i8", "?", "u1")
Draw = st.DrawFn
Mutation = Callable[[Draw, onnx.ModelProto], None]


def one_of(draw: Draw, found: Sequence[Any]) -> Any:
    """One of the elements of a graph."""
    return draw(st.sampled_from(list(found)))


def names(model: onnx.ModelProto) -> list[str]:
    """All values of a graph, and two that are none."""
    graph = model.graph
    made = [name for node in graph.node for name in node.output]
    return [*made, *(v.name for v in graph.input), *(t.name for t in graph.initializer), "", "no"]


def drop_node(draw: Draw, model: onnx.ModelProto) -> None:
    model.graph.node.remove(one_of(draw, model.graph.node))


def repeat_node(draw: Draw, model: onnx.ModelProto) -> None:
    model.graph.node.append(one_of(draw, model.graph.node))


def other_operator(draw: Draw, model: onnx.ModelProto) -> None:
    one_of(draw, model.graph.node).op_type = draw(st.sampled_from(OPERATORS))


def other_domain(draw: Draw, model: onnx.ModelProto) -> None:
    domain = draw(st.sampled_from(("com.acme", "com.microsoft", "ai.onnx.ml", "ai.onnx")))
    one_of(draw, model.graph.node).domain = domain


def rewire(draw: Draw, model: onnx.ModelProto) -> None:
    node = one_of(draw, [n for n in model.graph.node if n.input])
    node.input[draw(st.integers(0, len(node.input) - 1))] = one_of(draw, names(model))


def one_input_more(draw: Draw, model: onnx.ModelProto) -> None:
    one_of(draw, model.graph.node).input.append(one_of(draw, names(model)))


def one_input_less(draw: Draw, model: onnx.ModelProto) -> None:
    one_of(draw, [n for n in model.graph.node if n.input]).input.pop()


def drop_attribute(draw: Draw, model: onnx.ModelProto) -> None:
    node = one_of(draw, [n for n in model.graph.node if n.attribute])
    node.attribute.remove(one_of(draw, node.attribute))


def other_attribute(draw: Draw, model: onnx.ModelProto) -> None:
    found = one_of(draw, [a for n in model.graph.node for a in n.attribute])
    if found.name == "keepdims":
        found.i = 1 - found.i
    elif found.type == onnx.AttributeProto.INT:
        found.i = draw(st.sampled_from(NUMBERS))
    elif found.type == onnx.AttributeProto.INTS:
        found.ints[:] = draw(st.lists(st.sampled_from(NUMBERS), max_size=4))
    elif found.type == onnx.AttributeProto.FLOAT:
        found.f = draw(st.sampled_from((0.0, -1.0, 1e9, float("nan"), float("inf"))))
    elif found.type == onnx.AttributeProto.STRING:
        found.s = draw(st.sampled_from((b"", b"x", b"SAME_UPPER", b"\xff")))


def other_weights(draw: Draw, model: onnx.ModelProto) -> None:
    tensor = one_of(draw, model.graph.initializer)
    array = numpy_helper.to_array(tensor)
    factor = draw(st.sampled_from((0, 1, -1, 1e9, 1e-30, float("nan"))))
    if array.dtype.kind == "f":
        array = (array * factor).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def other_shape(draw: Draw, model: onnx.ModelProto) -> None:
    tensor = one_of(draw, model.graph.initializer)
    array = numpy_helper.to_array(tensor)
    kind = draw(st.sampled_from(("flat", "half", "longer", "transposed", "empty", "twice")))
    shapes: dict[str, Callable[[], Any]] = {
        "flat": lambda: array.reshape(-1),
        "half": lambda: array[: len(array) // 2],
        "longer": lambda: array[None],
        "transposed": lambda: array.T,
        "empty": lambda: array[..., :0],
        "twice": lambda: np.concatenate([array, array]),
    }
    changed = np.ascontiguousarray(shapes[kind]() if array.ndim else array)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def other_dtype(draw: Draw, model: onnx.ModelProto) -> None:
    tensor = one_of(draw, model.graph.initializer)
    array = numpy_helper.to_array(tensor).astype(draw(st.sampled_from(DTYPES)))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def rename_weight(draw: Draw, model: onnx.ModelProto) -> None:
    one_of(draw, model.graph.initializer).name = one_of(draw, names(model))


def other_input(draw: Draw, model: onnx.ModelProto) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dim = one_of(draw, dims)
    if draw(st.booleans()):
        dim.dim_param = draw(st.sampled_from(("N", "H", "", "N+1")))
    else:
        dim.dim_value = draw(st.sampled_from((-1, 0, 1, 2, 3, 5, 17, 2**31)))


def other_type(draw: Draw, model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = draw(st.integers(0, 23))


def other_opset(draw: Draw, model: onnx.ModelProto) -> None:
    model.opset_import[0].version = draw(st.integers(7, 27))


def other_outputs(draw: Draw, model: onnx.ModelProto) -> None:
    if draw(st.booleans()):
        model.graph.output.pop()
    else:
        model.graph.output.add(name=one_of(draw, names(model)))


def odd_name(draw: Draw, model: onnx.ModelProto) -> None:
    odd = draw(st.sampled_from(("", "[/x]", ":smile:", "\x1b[31m", "a" * 300, "v1")))
    one_of(draw, model.graph.node).name = odd


MUTATIONS: tuple[Mutation, ...] = (
    drop_node, repeat_node, other_operator, other_domain, rewire, one_input_more, one_input_less,
    drop_attribute, other_attribute, other_weights, other_shape, other_dtype, rename_weight,
    other_input, other_type, other_opset, other_outputs, odd_name,
)  # fmt: skip


@st.composite
def mutants(draw: Draw) -> onnx.ModelProto:
    """A random network with one to three faults."""
    model = ir.to_proto(random_model(draw(st.integers(0, 200))))
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3)):
        with contextlib.suppress(hypothesis.errors.InvalidArgument, IndexError):
            mutate(draw, model)  # an earlier fault may have left nothing to draw from
    return model


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
@hypothesis.settings(
    max_examples=200,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
@hypothesis.given(
    mutants(), st.sampled_from((0.3, 0.6, 0.9)), st.sampled_from((1, 2, 8)),
    st.sampled_from(("l1", "l2", "fpgm", "lamp", "random")),
)  # fmt: skip
def test_a_mutated_model_gives_a_bundle_or_one_error(
    tmp_path_factory: pytest.TempPathFactory,
    model: onnx.ModelProto,
    flops: float,
    round_to: int,
    criterion: str,
) -> None:
    out = tmp_path_factory.mktemp("fuzz") / "out"
    try:
        report = edgec.build(
            model, output=out, flops=flops, round_to=round_to, criterion=criterion, measure=None
        )
    except EdgecError as refusal:
        hypothesis.event(type(refusal).__name__)
        left, said = list(out.parent.iterdir()), (refusal.subject, refusal.fact, refusal.remedy)
        assert (left, all(said)) == ([], True), said
    else:
        hypothesis.event("built")
        assert bundle.read(out).manifest["result"]["flops"] == report.costs.after.flops
        assert report.costs.after.flops <= flops * report.costs.before.flops
    shutil.rmtree(out.parent)
