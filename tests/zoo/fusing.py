"""Networks as ONNX Runtime's optimisers write them: the library's, and that of its tools."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]

from edgec.model_inputs import fix_input_shapes, given_shapes


def fused(model: ir.Model) -> ir.Model:
    """The model as a session for the CPU optimises it, told the input sizes that it was told."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    data = ir.to_proto(model).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        result = ir.from_proto(onnx.load(path))
    fix_input_shapes(result, given_shapes(model))
    return result
