"""Runs large networks without copying their weights.

`lean` moves large initializers to the inputs of a copy of the model, so that its protobuf is small
and ONNX Runtime reads the weights where they lie. The order of all sums stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Lean = tuple[onnx.ModelProto, dict[str, Array]]

LARGE = 1 << 16
"""Elements from which on a weight is moved; micro models are run as they are."""


def lean(model: ir.Model) -> Lean:
    """The model with large weights as inputs, and these weights."""
    copy = model.clone()
    weights: dict[str, Array] = {}
    for name, value in list(copy.graph.initializers.items()):
        assert value.const_value is not None
        if value.const_value.size >= LARGE and not value.is_graph_input():
            weights[name] = value.const_value.numpy()
            del copy.graph.initializers[name]
            value.const_value = None
            copy.graph.inputs.append(value)
    return ir.to_proto(copy), weights


def outputs_of(proto: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    """ONNX Runtime on the graph as written, one thread."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def run(model: ir.Model, feeds: Feeds) -> list[Array]:
    """The outputs of a model."""
    proto, weights = lean(model)
    return outputs_of(proto, {**feeds, **weights})
