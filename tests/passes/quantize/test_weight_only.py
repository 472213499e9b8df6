"""Weight-only quantisation: what is stored, what it stands for, and what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest
from numpy.typing import NDArray
from zoo import feeds_of, model_of, run
from zoo.architectures import ARCHITECTURES

from edgec.errors import UsageError
from edgec.graph.cost import count
from edgec.graph.facts import facts_of
from edgec.model import copied
from edgec.model_inputs import input_shapes
from edgec.passes.base import Context
from edgec.passes.quantize.weight_only import WeightOnly
from edgec.preparing import prepared


def snr(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Signal to noise, dB."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    return float(10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-300)))


def stored(model: ir.Model, **options: Any) -> tuple[ir.Model, dict[str, Any]]:
    context = Context()
    made = WeightOnly(**{"smallest": 64, **options})(model, context)
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    return made, context.records["weight-only"]


def constant(model: ir.Model, name: str) -> NDArray[Any]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


MATMUL = "(float[3,{k}] x) => (y) <float[{k},8] w> {{ y = MatMul(x, w) }}"
GEMM = (
    "(float[3,{k}] x) => (y) <float[8,{k}] w, float[8] b>"
    "{{ y = Gemm<transB=1, alpha=0.5>(x, w, b) }}"
)


@pytest.mark.parametrize("text", [MATMUL, GEMM], ids=["MatMul", "Gemm"])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize(("bits", "block"), [(4, 32), (8, 32), (8, 0), (4, 16)])
@pytest.mark.parametrize("k", [64, 80, 24], ids=["whole", "short-block", "one-block"])
def test_the_graph_computes_with_the_numbers_that_the_integers_stand_for(
    text: str, symmetric: bool, bits: int, block: int, k: int
) -> None:
    model = model_of(text.format(k=k), opset=17)
    original = model.clone()
    w = constant(model, "w") if text is MATMUL else constant(model, "w").T
    made, record = stored(model, bits=bits, block=block, symmetric=symmetric)
    word = f"int{bits}" if symmetric else f"uint{bits}"
    q = constant(made, f"w.{word}")
    assert q.shape == (k, 8)  # the summed axis first, whatever the product's own layout
    assert q.dtype == ir.DataType[word.upper()].numpy()
    scale = constant(made, f"w.{word}.scale")
    zero = np.zeros(scale.shape) if symmetric else constant(made, f"w.{word}.zero").astype(float)
    size = block or k
    if scale.ndim == 1:
        scale, zero = scale[None], zero[None]
    assert scale.shape == (-(-k // size), 8)
    at = np.arange(k) // size
    real = scale[at] * (q.astype(float) - zero[at])
    assert (np.abs(real - w) <= scale[at] * (0.5001 if block == 0 else 2)).all()  # clipped, maybe
    assert record["stored"]["w"]["snr"] == pytest.approx(snr(w, real), abs=0.01)
    weight = original.graph.initializers["w"]
    weight.const_value = ir.tensor(
        (real if text is MATMUL else real.T).astype(np.float32), name="w"
    )
    feeds = feeds_of(original, 0)
    np.testing.assert_allclose(run(made, feeds)[0], run(original, feeds)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", [MATMUL, GEMM.replace(", alpha=0.5", "")], ids=["MatMul", "Gemm"])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_onnx_runtime_fuses_what_is_stored(text: str, symmetric: bool, tmp_path: Path) -> None:
    made, _ = stored(model_of(text.format(k=64)), symmetric=symmetric)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    proto = ir.to_proto(made).SerializeToString()
    ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    runs = onnx.load(tmp_path / "optimized.onnx")
    assert [node.op_type for node in runs.graph.node] == ["MatMulNBits"]


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_architectures(name: str) -> None:
    model = prepared(ARCHITECTURES[name]())
    feeds = feeds_of(model, 0, {"batch": 2, "sequence": 7})
    (wanted,) = run(model, feeds)
    results = {}
    for bits in (4, 8):
        made, record = stored(copied(model), bits=bits, smallest=512)
        results[bits] = snr(wanted, run(made, feeds)[0]), record
    assert results[8][0] > 32
    assert results[8][0] > results[4][0] + 20
    eight, four = results[8][1], results[4][1]
    assert eight["stored"].keys() == four["stored"].keys()
    assert min(entry["snr"] for entry in four["stored"].values()) > 20
    assert min(entry["snr"] for entry in eight["stored"].values()) > 44
    # per 32 weights of 4 bytes: 32 · bits / 8 and a scale
    for bits, (_, record) in results.items():
        share = (32 * bits / 8 + 4) / 128
        assert record["bytes"]["after"] == pytest.approx(
            share * record["bytes"]["before"], rel=0.05
        )


def test_search_beats_absmax() -> None:
    model = model_of(MATMUL.format(k=256))
    found = {
        method: stored(model.clone(), method=method)[1]["stored"]["w"]["snr"]
        for method in ("absmax", "mse")
    }
    assert found["mse"] > found["absmax"] + 0.3


def test_tables_are_looked_up_before_they_are_multiplied() -> None:
    model = model_of("(int64[2,3] i) => (y) <float[9,40] w> { e = Gather(w, i) y = Relu(e) }")
    feeds = feeds_of(model, 0)
    (wanted,) = run(model, feeds)
    kept = stored(model.clone())[1]["kept"]
    assert "tables were not asked for" in kept["e"]
    for symmetric in (True, False):
        made, record = stored(model.clone(), tables=True, symmetric=symmetric)
        assert [n.op_type for n in made.graph][-2:] == ["DequantizeLinear", "Relu"]
        assert record["stored"]["w"]["bits"] == 8
        (found,) = run(made, feeds)
        assert snr(wanted, found) > 42


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(float[3,8] x) => (y) <float[8,4] w> { y = MatMul(x, w) }", "32 elements only"),
        ("(float[2,3,8] x) => (y) <float[2,8,8] w> { y = MatMul(x, w) }", "is no matrix"),
        ("(float[3,8] x) => (y, float[8,8] w) <float[8,8] w> { y = MatMul(x, w) }",
         "read otherwise too"),
        ("(float[3,8] x) => (y) <float[8,8] w> { a = MatMul(x, w) b = Abs(w) y = Add(a, b) }"
         .replace("[3,8]", "[8,8]"), "read otherwise too"),
        ("(float[8,8] x) => (y) <float[8,8] w> { a = MatMul(x, w) y = Gemm<transB=1>(a, w) }",
         "read in several ways"),
        ("(float[8,8] x) => (y) { y = MatMul(x, x) }", ""),
        ("(float[8,8] x) => (y) { a = Relu(x) y = MatMul(x, a) }", "'a' is computed"),
        ("(int64[2] i) => (y) <float[8,8] w> { y = Gather<axis=1>(w, i) }", "not looked up by"),
        ("(float[8,8] x, bool k) => (y) <float[8,8] w> { y = If(k)"
         " <then_branch = one () => (float[8,8] p) { p = MatMul(x, w) },"
         "  else_branch = two () => (float[8,8] q) { q = Neg(x) }> }", "nested graph"),
    ],
)  # fmt: skip
def test_stays_with_a_reason(text: str, reason: str) -> None:
    model = model_of(text, opset=21)
    if model.graph.inputs[0].dtype == ir.DataType.FLOAT:
        feeds = {v.name or "": feeds_of(model, 0)[v.name or ""] for v in model.graph.inputs}
        feeds = {n: a if a.dtype == np.float32 else np.asarray(True) for n, a in feeds.items()}
    else:
        feeds = feeds_of(model, 0)
    wanted = run(model, feeds)
    made, record = stored(model, tables=True)
    assert not record["stored"]
    assert reason in "; ".join(record["kept"].values())
    for a, b in zip(wanted, run(made, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_that_share_a_weight_share_its_integers() -> None:
    text = "(float[8,8] x) => (y) <float[8,8] w> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
    made, record = stored(model_of(text))
    assert len(record["stored"]) == 1
    assert [n.op_type for n in made.graph].count("DequantizeLinear") == 2  # each is fused
    assert set(made.graph.initializers) == {"w.int4", "w.int4.scale"}


def test_costs_count_the_bytes_that_are_stored() -> None:
    model, record = stored(model_of(MATMUL.format(k=64)))
    totals = count(model, facts_of(model, input_shapes(model)))
    assert totals.size == record["bytes"]["after"] == 64 * 8 // 2 + 2 * 8 * 4
    assert totals.macs == 3 * 64 * 8
    assert not totals.uncounted


@pytest.mark.parametrize(
    ("options", "subject"),
    [({"bits": 3}, "bits 3"), ({"block": 24}, "block 24"), ({"method": "best"}, "method 'best'")],
)
def test_options_that_no_kernel_takes(options: dict[str, Any], subject: str) -> None:
    with pytest.raises(UsageError, match=subject):
        stored(model_of(MATMUL.format(k=64)), **options)
