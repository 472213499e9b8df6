"""Models that ONNX Runtime's own tools have quantised: the same numbers as Q/DQ, and prunable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest
from laws import obey
from onnxruntime.quantization import (  # type: ignore[import-untyped, unused-ignore]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from quantizing import optimised
from zoo import Array, feeds_of, model_of, run
from zoo.random_graphs import random_model

from edgec.errors import UnsupportedError
from edgec.inspection import channel_groups
from edgec.model import load
from edgec.model_integers import FORMS
from edgec.passes.base import Context
from edgec.passes.names import NameNodes

FORMATS = {"QOperator": QuantFormat.QOperator, "QDQ": QuantFormat.QDQ}
FLOATS = {"QuantizeLinear", "DequantizeLinear"}


class _Once(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    def __init__(self, feeds: Mapping[str, Array]) -> None:
        self.feeds = iter([feeds])

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self.feeds, None)


def by_others(
    model: ir.Model, kind: str, folder: Path, *, per_channel: bool = True
) -> onnx.ModelProto:
    """Quantised by ONNX Runtime's tools."""
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(ir.to_proto(model), before)
    quantize_static(
        before, after, _Once(feeds_of(model)), quant_format=FORMATS[kind], per_channel=per_channel,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return onnx.load(after)


def ops(proto: onnx.ModelProto) -> set[str]:
    return {f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in proto.graph.node}


def as_written(proto: onnx.ModelProto) -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options)
    return np.asarray(session.run(None, feeds_of(ir.from_proto(proto)))[0])


HEAD = "(float[2,8,6,6] x) => (y) "
GRAPHS: Mapping[str, str] = {
    "QLinearConv": HEAD + "<float[8,8,3,3] w, float[8] b> { y = Conv(x, w, b) }",
    "QLinearMatMul": "(float[3,8] x) => (y) <float[8,6] w> { y = MatMul(x, w) }",
    "com.microsoft::QGemm": "(float[3,8] x) => (y) <float[6,8] w, float[6] b>"
    " { y = Gemm<transB = 1>(x, w, b) }",
    "com.microsoft::QLinearAdd": HEAD + "{ a = Sin(x)  b = Cos(x)  y = Add(a, b) }",
    "com.microsoft::QLinearMul": HEAD + "{ a = Sin(x)  b = Cos(x)  y = Mul(a, b) }",
    "com.microsoft::QLinearConcat": HEAD + "{ a = Sin(x)  y = Concat<axis = 1>(a, x, a) }",
    "com.microsoft::QLinearAveragePool": HEAD + "{ y = AveragePool<kernel_shape = [2,2]>(x) }",
    "com.microsoft::QLinearGlobalAveragePool": HEAD
    + "<float[8,8,1,1] w> { a = Conv(x, w)  y = GlobalAveragePool(a) }",
    "com.microsoft::QLinearSigmoid": HEAD + "{ y = Sigmoid(x) }",
    "com.microsoft::QLinearLeakyRelu": HEAD + "{ y = LeakyRelu<alpha = 0.2>(x) }",
    "com.microsoft::QLinearSoftmax": HEAD + "{ y = Softmax<axis = 1>(x) }",
}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("op", GRAPHS)
def test_every_form(op: str, per_channel: bool, tmp_path: Path) -> None:
    proto = by_others(model_of(GRAPHS[op]), "QOperator", tmp_path, per_channel=per_channel)
    assert op in ops(proto)
    model = load(proto)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert not ops(ir.to_proto(model)) & set(FORMS)
    expected = as_written(proto)
    (found,) = run(model, feeds_of(model))
    np.testing.assert_allclose(found, expected, atol=1.01 * np.ptp(expected) / 255)
    assert np.mean(found == expected) > 0.98
    # ONNX Runtime makes of it what it was.
    assert op.split("::")[-1] in optimised(model, str(tmp_path / "optimised.onnx"))[0]


def test_no_form_is_left_out() -> None:
    assert set(FORMS) - set(GRAPHS) == {"com.microsoft::QLinearConv"}  # with channels last, below


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("seed", [0, 7, 8, 20, 33])
def test_laws_of_pruning_hold(seed: int, kind: str, tmp_path: Path) -> None:
    proto = by_others(random_model(seed), kind, tmp_path)
    assert ops(proto) & (set(FORMS) if kind == "QOperator" else FLOATS)
    found = obey(load(proto), seed, draws=2)
    assert found.units > 10
    assert found.changed > 0.1


def test_names_stay(tmp_path: Path) -> None:
    proto = by_others(model_of(GRAPHS["QLinearConv"]), "QOperator", tmp_path)
    model = load(proto)
    (conv,) = [n for n in model.graph if n.op_type == "Conv"]
    assert conv.name == next(n.name for n in proto.graph.node if n.op_type == "QLinearConv")
    assert [v.name for v in model.graph.outputs] == ["y"]
    stored = {t.name for t in proto.graph.initializer}
    assert stored - set(model.graph.initializers) == set()


def test_channels_last_are_refused(tmp_path: Path) -> None:
    """ONNX Runtime's optimiser leaves such a graph behind, for this machine alone."""
    proto = by_others(model_of(GRAPHS["QLinearConv"]), "QDQ", tmp_path)
    path = str(tmp_path / "optimised.onnx")
    optimised(ir.from_proto(proto), path)
    assert "com.microsoft::QLinearConv" in ops(onnx.load(path))
    with pytest.raises(UnsupportedError, match=r"(?s)QLinearConv '.*': has channels last.*NCHW"):
        load(path)


def test_several_scales_for_an_activation_are_refused(tmp_path: Path) -> None:
    proto = by_others(model_of(GRAPHS["QLinearMatMul"]), "QOperator", tmp_path)
    node = next(n for n in proto.graph.node if n.op_type == "QLinearMatMul")
    for name, like in ((node.input[1], np.float32), (node.input[2], np.uint8)):
        tensor = next(t for t in proto.graph.initializer if t.name == name)
        whole = np.full(3, onnx.numpy_helper.to_array(tensor), like)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(whole, f"{name}.rows"))
    node.input[1:3] = [f"{node.input[1]}.rows", f"{node.input[2]}.rows"]
    with pytest.raises(UnsupportedError, match="has an activation with several scales"):
        load(proto)


def test_scales_found_at_run_time_keep_all_channels(tmp_path: Path) -> None:
    """A channel that goes may change the scale of all others."""
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    model = NameNodes()(
        model_of(
            """(float[3,8] x) => (y) <float[8,6] w, float[6,4] v> {
              a = MatMul(x, w)
              y = MatMul(a, v) }"""
        ),
        Context(),
    )
    onnx.save(ir.to_proto(model), before)
    quantize_dynamic(before, after, nodes_to_exclude=["a"])
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= ops(onnx.load(after))
    groups = channel_groups(after)
    assert not list(groups)
    (pin,) = groups.pinned
    assert "takes one scale from all channels" in pin.why
