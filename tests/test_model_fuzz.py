"""Hostile models: `load` gives a model that can be saved and loaded again, or an EdgecError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from edgec import model as models
from edgec.errors import EdgecError, UnsupportedError, UsageError

EXAMPLES = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_RESIDUAL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 8, 8] x) => (float[N, 4] y)
{
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
    b = BatchNormalization (c, scale, shift, mean, variance)
    r = Relu (b)
    d = Conv <kernel_shape = [1, 1]> (r, v)
    s = Add (r, d)
    p = GlobalAveragePool (s)
    target = Constant <value = int64[2] {0, 4}> ()
    y = Reshape (p, target)
}
"""
_BRANCH = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[2] x, bool c) => (float[2] y)
{
    k = Relu (x)
    y = If (c) <
        then_branch = yes () => (float[2] t) { t = Add (k, w) },
        else_branch = no () => (float[2] e) { h = Neg (x)  e = Mul (h, k) }
    >
}
"""
_CALLS = """
<ir_version: 8, opset_import: ["" : 17, "house" : 1]>
net (float[2] x) => (float[2] y)
{
    h = house.twice <by = 2.0> (x)
    y = house.square (h)
}
<domain: "house", opset_import: ["" : 17, "house" : 1]>
twice <by> (a) => (b)
{
    k = Constant <value_float: float = @by> ()
    m = Mul (a, k)
    b = house.square (m)
}
<domain: "house", opset_import: ["" : 17]>
square (a) => (b) { b = Mul (a, a) }
"""


def _weights(graph: onnx.GraphProto, **shapes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, name))


def _seeds() -> list[bytes]:
    residual, branch, calls = (parser.parse_model(t) for t in (_RESIDUAL, _BRANCH, _CALLS))
    _weights(residual.graph, w=(4, 3, 3, 3), v=(4, 4, 1, 1))
    _weights(residual.graph, scale=(4,), shift=(4,), mean=(4,), variance=(4,))
    _weights(branch.graph, w=(2,))
    typed = onnx.ModelProto()
    typed.CopyFrom(branch)
    del typed.graph.initializer[:]
    typed.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]))
    for kind in (TensorProto.INT4, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL):
        name = f"spare{kind}"
        typed.graph.initializer.append(helper.make_tensor(name, kind, [3], [1, 0, 1]))
    words = TensorProto(name="words", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
    typed.graph.initializer.append(words)
    return [m.SerializeToString(deterministic=True) for m in (residual, branch, calls, typed)]


SEEDS = _seeds()


def _survives(path: Path) -> None:
    try:
        model = models.load(path)
    except (UsageError, UnsupportedError) as refusal:
        error: EdgecError | None = refusal
    else:
        error = None
        written = models.to_bytes(model)
        again = models.load(onnx.load_from_string(written))
        assert models.to_bytes(again) == written
    assert error is None or (error.subject and error.fact and error.remedy)


@pytest.mark.parametrize("index", range(len(SEEDS)))
def test_seeds_are_valid(index: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(SEEDS[index])
    assert len(models.load(path).graph) > 0
    _survives(path)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(("cut", "flip", "set", "insert", "remove", "splice")))
        if how == "cut":
            del content[at:]
        elif how == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set" and content:
            content[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))
        elif how == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif how == "remove":
            del content[at : at + draw(st.integers(1, 40))]
        elif how == "splice":
            other = draw(st.sampled_from(SEEDS))
            start = draw(st.integers(0, len(other) - 1))
            content[at:at] = other[start : start + draw(st.integers(1, 200))]
    return bytes(content)


@EXAMPLES
@given(content=_damaged())
def test_damaged_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    _survives(path)


@EXAMPLES
@given(content=st.binary(max_size=200))
def test_random_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    _survives(path)


Mutation = Callable[[st.DrawFn, onnx.ModelProto], None]
_NAMES = st.sampled_from(["", "x", "y", "w", "k", "c", "h", "t", "nowhere", "\0", "ü" * 3])
_SIZES = st.sampled_from([-1, 0, 1, 2, 7, 2**31, 2**62, -(2**63)])


def _a_graph(draw: st.DrawFn, model: onnx.ModelProto) -> onnx.GraphProto:
    graphs = [model.graph]
    for node in model.graph.node:
        graphs += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return draw(st.sampled_from(graphs))


def _a_node(draw: st.DrawFn, model: onnx.ModelProto) -> onnx.NodeProto:
    nodes = [*_a_graph(draw, model).node, *(n for f in model.functions for n in f.node)]
    if not nodes:
        nodes.append(model.graph.node.add())
    node: onnx.NodeProto = draw(st.sampled_from(nodes))
    return node


def _a_tensor(draw: st.DrawFn, model: onnx.ModelProto) -> onnx.TensorProto:
    tensors = list(model.graph.initializer)
    tensors += [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
    if not tensors:
        tensors.append(model.graph.initializer.add())
    tensor: onnx.TensorProto = draw(st.sampled_from(tensors))
    return tensor


def _drop_node(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    nodes = _a_graph(draw, model).node
    if nodes:
        del nodes[draw(st.integers(0, len(nodes) - 1))]


def _repeat_node(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    # By way of bytes: protobuf crashes when a message is copied into a part of itself.
    content = _a_node(draw, model).SerializeToString()
    _a_graph(draw, model).node.add().ParseFromString(content)


def _reverse_nodes(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    graph = _a_graph(draw, model)
    nodes = list(graph.node)[::-1]
    del graph.node[:]
    graph.node.extend(nodes)


def _rename_edge(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    node = _a_node(draw, model)
    ends = draw(st.sampled_from((node.input, node.output)))
    if ends:
        ends[draw(st.integers(0, len(ends) - 1))] = draw(_NAMES)
    else:
        ends.append(draw(_NAMES))


def _rename_value(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    graph = _a_graph(draw, model)
    values = [*graph.input, *graph.output, *graph.initializer, *graph.value_info]
    if values:
        draw(st.sampled_from(values)).name = draw(_NAMES)


def _drop_value(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    graph = _a_graph(draw, model)
    values = draw(st.sampled_from((graph.input, graph.output, graph.initializer)))
    if values:
        del values[draw(st.integers(0, len(values) - 1))]


def _change_operator(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    node = _a_node(draw, model)
    node.op_type = draw(st.sampled_from(["", "Relu", "If", "twice", "square", "Nonesuch"]))
    node.domain = draw(st.sampled_from(["", "ai.onnx", "house", "com.acme"]))


def _change_dims(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    graph = _a_graph(draw, model)
    for value in draw(st.sampled_from((graph.input, graph.output))):
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = draw(_SIZES)


def _change_type(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    for value in model.graph.input:
        kind = draw(st.sampled_from(["tensor", "sequence", "optional", "map", "sparse", "none"]))
        code = draw(st.sampled_from([0, 1, 8, 16, 25, 99, -1]))
        if kind == "tensor":
            value.type.tensor_type.elem_type = code
        elif kind == "none":
            value.ClearField("type")
        elif kind == "map":
            value.type.map_type.key_type = code
        elif kind == "sparse":
            value.type.sparse_tensor_type.elem_type = code
        else:
            nested = getattr(value.type, f"{kind}_type")
            nested.elem_type.tensor_type.elem_type = code


def _change_tensor(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    tensor = _a_tensor(draw, model)
    how = draw(st.sampled_from(("dims", "type", "raw", "typed", "place", "clear")))
    if how == "dims":
        tensor.dims[:] = draw(st.lists(_SIZES, max_size=4))
    elif how == "type":
        tensor.data_type = draw(st.integers(-1, 40))
    elif how == "raw":
        tensor.raw_data = draw(st.binary(max_size=64))
    elif how == "typed":
        tensor.ClearField("raw_data")
        field = draw(st.sampled_from(("float_data", "int32_data", "int64_data", "double_data")))
        getattr(tensor, field).extend(draw(st.lists(st.integers(0, 3), max_size=8)))
    elif how == "clear":
        tensor.ClearField("raw_data")
    else:
        tensor.data_location = TensorProto.EXTERNAL
        for key in draw(st.sets(st.sampled_from(("location", "offset", "length", "odd")))):
            text = draw(st.sampled_from(["m.onnx", "", "..", "../m.onnx", "-1", "0", "8", "1e9"]))
            tensor.external_data.add(key=key, value=text)


def _change_attribute(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    node = _a_node(draw, model)
    attribute = draw(st.sampled_from(list(node.attribute))) if node.attribute else None
    if attribute is None:
        attribute = node.attribute.add(name="added")
    how = draw(st.sampled_from(("type", "ref", "bytes", "name", "drop", "sparse", "ints")))
    if how == "type":
        attribute.type = draw(st.integers(0, 14))
    elif how == "ref":
        attribute.ref_attr_name = draw(_NAMES)
    elif how == "bytes":
        attribute.type = onnx.AttributeProto.STRING
        attribute.s = b"\xff\xfe"
    elif how == "name":
        attribute.name = draw(_NAMES)
    elif how == "ints":
        attribute.type = onnx.AttributeProto.INTS
        attribute.ints.extend(draw(st.lists(_SIZES, max_size=3)))
    elif how == "sparse":
        attribute.type = onnx.AttributeProto.SPARSE_TENSOR
    else:
        del node.attribute[:]


def _change_header(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    how = draw(st.sampled_from(("ir", "opset", "domain", "function", "sparse", "twice")))
    if how == "ir":
        model.ir_version = draw(_SIZES)
    elif how == "opset" and model.opset_import:
        model.opset_import[0].version = draw(st.one_of(st.integers(7, 27), _SIZES))
    elif how == "domain" and model.opset_import:
        model.opset_import[0].domain = draw(st.sampled_from(["", "ai.onnx", "house", "x.y"]))
    elif how == "function" and model.functions:
        function = draw(st.sampled_from(list(model.functions)))
        function.name = draw(st.sampled_from(["twice", "square", "", "Mul"]))
        function.domain = draw(st.sampled_from(["house", "", "ai.onnx"]))
    elif how == "sparse":
        model.graph.sparse_initializer.add().dims.append(draw(_SIZES))
    elif how == "twice" and model.functions:
        model.functions.add().CopyFrom(model.functions[0])


_MUTATIONS: tuple[Mutation, ...] = (
    _drop_node,
    _repeat_node,
    _reverse_nodes,
    _rename_edge,
    _rename_value,
    _drop_value,
    _change_operator,
    _change_dims,
    _change_type,
    _change_tensor,
    _change_attribute,
    _change_header,
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    model = onnx.load_from_string(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        draw(st.sampled_from(_MUTATIONS))(draw, model)
    content: bytes = model.SerializeToString()
    return content


@EXAMPLES
@given(content=_mutated())
def test_mutated_structure(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    _survives(path)
