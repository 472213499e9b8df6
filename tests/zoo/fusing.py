"""Networks as ONNX Runtime's optimisers write them: the library's, and that of its tools."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]

from edgec.model_inputs import fix_input_shapes, given_shapes
from zoo.exporting import silence


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
    return _told(result, model)


def fused_by_tool(model: ir.Model, kind: str) -> ir.Model:
    """The same by `onnxruntime.transformers.optimizer`, which knows kinds of transformers."""
    with silence(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.transformers import optimizer  # type: ignore[import-untyped, unused-ignore]

        path = Path(folder, "model.onnx")
        onnx.save(ir.to_proto(model), path)
        found = optimizer.optimize_model(str(path), kind, opt_level=1)
        found.save_model_to_file(str(path))
        return _told(ir.from_proto(onnx.load(path)), model)


def _told(model: ir.Model, original: ir.Model) -> ir.Model:
    """The model, told the input sizes that the original was told."""
    fix_input_shapes(model, given_shapes(original))
    return model
