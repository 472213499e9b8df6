"""The networks the tests run on, and the language they are written in.

- `light`: nine real topologies from the onnx wheel, given seeded weights.
- `exports`: real topologies as `torch.onnx.export` writes them today.
- `patterns`: one micro model per pattern that channel removal must get right.
- `random_graphs`: random networks, one per seed.

Every model is an `onnx_ir.Model`, fresh at each call (a pass may change it in place), a function
of its seed alone, and numerically alive: outputs are finite and move with the input.

`model_of` is the fixture language of all tests: ONNX text, where a weight is declared and its
values are drawn. `feeds_of` draws inputs and `run` is ONNX Runtime on the graph as written.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]

from zoo._weights import draw, uses_of

Array = npt.NDArray[Any]


def model_of(text: str, seed: int = 0, *, opset: int = 20, ir_version: int = 10) -> ir.Model:
    """The model that ONNX text describes, with every declared weight drawn from `seed`.

    The text is the standard one of `onnx.parser`, with three conveniences. The header and the
    graph's name may be left out; graph outputs need no type (it is inferred); and an entry of the
    value list after the signature is a weight: with a value it is that constant, without one it
    is drawn as its first consumer wants it (`zoo._weights`), so that the network stays alive.
    A `#` starts a comment.

        (float[1,3,8,8] x) => (y)
        <float[8,3,3,3] w, int64[2] flat = {1, -1}>
        {
          h = Conv<pads = [1,1,1,1]>(x, w)
          y = Reshape(h, flat)
        }

    Raises:
        ValueError: a declared weight is symbolic in shape, or is no float and has no value.
    """
    body = text.strip()
    if body.startswith("("):
        body = "g " + body
    if not body.startswith("<"):
        body = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> {body}'
    proto = onnx.parser.parse_model(body)
    _fill_weights(proto.graph, seed)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    for output, typed in zip(proto.graph.output, inferred.graph.output, strict=True):
        output.CopyFrom(typed)
    return ir.from_proto(proto)


def check(model: ir.Model) -> None:
    """ONNX's checker; to it, what ONNX Runtime adds to ONNX's domain is of another domain."""
    proto = ir.to_proto(model)
    strangers = [n for n in proto.graph.node if not n.domain and not onnx.defs.has(n.op_type)]
    for node in strangers:
        node.domain = "com.example"
    if strangers:
        proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.checker.check_model(proto, full_check=True)


def _fill_weights(graph: onnx.GraphProto, seed: int) -> None:
    """Turn every value-list entry that no node computes into a drawn initializer."""
    computed = {name for node in graph.node for name in node.output}
    uses = uses_of(graph)
    for info in [v for v in graph.value_info if v.name not in computed]:
        tensor = info.type.tensor_type
        if tensor.elem_type != onnx.TensorProto.FLOAT:
            raise ValueError(f"weight {info.name!r}: only float weights are drawn; give a value")
        if any(dim.WhichOneof("value") != "dim_value" for dim in tensor.shape.dim):
            raise ValueError(f"weight {info.name!r}: its shape must be numbers")
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        values = draw(info.name, shape, uses.get(info.name, ()), seed)
        graph.initializer.append(onnx.numpy_helper.from_array(values, info.name))
        graph.value_info.remove(info)


def feeds_of(
    model: ir.Model, seed: int = 0, dims: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """One random input per graph input: floats standard normal, ids within the table they index.

    A symbolic dimension takes its size from `dims` by name, and is 2 otherwise.
    """
    sizes = dims or {}
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        if not value.name or value.shape is None or value.dtype is None:
            raise ValueError(f"input {value.name!r}: needs a name, a shape and a type")
        shape = [d if isinstance(d, int) else sizes.get(str(d.value), 2) for d in value.shape]
        rng = np.random.default_rng([seed, zlib.crc32(value.name.encode())])
        dtype = value.dtype.numpy()
        if dtype.kind == "f":
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, _rows_indexed_by(value), shape).astype(dtype)
    return feeds


def _rows_indexed_by(value: ir.Value) -> int:
    """How many ids an integer input may take: the rows of the smallest table it indexes, or 2."""
    rows = [
        node.inputs[0].shape[0]
        for node, slot in value.uses()
        if node.op_type == "Gather" and slot == 1 and node.inputs[0] and node.inputs[0].shape
    ]
    return min((r for r in rows if isinstance(r, int)), default=2)


def session_of(model: ir.Model) -> ort.InferenceSession:
    """ONNX Runtime on `model` as written: CPU, one thread, no graph rewriting."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(model: ir.Model, *feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of `model` for the feeds; for several feeds, one after the other."""
    session = session_of(model)
    return [np.asarray(y) for feed in feeds for y in session.run(None, dict(feed))]
