"""`build --quantize`, end to end: how near the result is, and what its bundle says of it.

Files are read with onnx, numpy and ONNX Runtime alone. Mistakes are in `test_bad_input.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest
from click.testing import CliRunner
from onnx import TensorProto
from zoo import model_of

import edgec
from edgec import bundle
from edgec.calibration.observers import OBSERVERS
from edgec.cli import main
from edgec.passes.quantize.formats import CALIBS, SYNTHETIC
from edgec.passes.quantize.rounding import ROUNDINGS

ROOT = Path(__file__).resolve().parent.parent
DIGITS, CALIBRATION, TEST = (
    ROOT / "examples" / "digits" / name for name in ("digits.onnx", "calibration.npz", "test.npz")
)
SCHEMA = json.loads((ROOT / "edgec" / "manifest.schema.json").read_text())
NOISE_DB = 30.0  # the least SNR of a result in 8 bits on digits
PERCEPTRON = """
(float[N,64] x) => (float[N,10] y)
<float[64,256] w1, float[256] b1, float[256,64] w2, float[64,10] w3>
{
  a = Gemm(x, w1, b1)
  b = Relu(a)
  c = MatMul(b, w2)
  d = Relu(c)
  y = MatMul(d, w3)
}
"""


def few(n: int = 32, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Some calibration images, without labels."""
    with np.load(CALIBRATION) as arrays:
        return {"image": arrays["image"][:n], **more}


def top1(model: Path) -> float:
    """The accuracy on the test images, in points."""
    with np.load(TEST) as arrays:
        (scores,) = ort.InferenceSession(model).run(None, {"image": arrays["image"]})
        return float(100 * (scores.argmax(1) == arrays["labels"]).mean())


def perceptron() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Matrix products, and samples for them."""
    x = np.random.default_rng(0).standard_normal((16, 64)).astype(np.float32)
    return ir.to_proto(model_of(PERCEPTRON, opset=17)), {"x": x}


def snr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Of the second, in float64."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))


def outputs(model: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The first output in ONNX Runtime."""
    source = model if isinstance(model, Path) else model.SerializeToString()
    return np.asarray(ort.InferenceSession(source).run(None, feeds)[0])


def stored(model: Path, kind: int) -> list[str]:
    """Initializers of one element type."""
    return [t.name for t in onnx.load(model).graph.initializer if t.data_type == kind]


# --- accuracy ------------------------------------------------------------------------------------


def test_int8_loses_no_more_than_a_third_of_a_point(tmp_path: Path) -> None:
    report = edgec.build(
        DIGITS, output=tmp_path / "out", quantize="int8", data=CALIBRATION, eval_data=TEST,
        measure=None,
    )  # fmt: skip
    model = tmp_path / "out" / "model.onnx"
    assert top1(DIGITS) - top1(model) <= 0.3
    assert report.accuracy is not None
    assert 100 * report.accuracy.after.value == pytest.approx(top1(model))
    assert model.stat().st_size < 0.35 * DIGITS.stat().st_size


def test_pruned_and_quantised_loses_no_more_than_two_points_and_a_half(tmp_path: Path) -> None:
    report = edgec.build(
        DIGITS, output=tmp_path / "out", flops=0.4, quantize="int8", data=CALIBRATION, measure=None
    )
    assert top1(DIGITS) - top1(tmp_path / "out" / "model.onnx") <= 2.5
    assert report.costs.after.flops <= 0.4 * report.costs.before.flops
    assert report.costs.after.size < 0.12 * report.costs.before.size


# --- what the bundle says ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[edgec.Report, Path]:
    """Digits, pruned and quantised, one layer kept in floats."""
    out = tmp_path_factory.mktemp("built") / "out"
    report = edgec.build(
        DIGITS, output=out, flops=0.6, quantize="int8", keep_float=["stages.2.1.conv2"],
        calib="first", calib_samples=16, data=few(64), measure=None,
    )  # fmt: skip
    return report, out


def test_the_manifest_fits_its_schema_and_says_what_was_done(
    built: tuple[edgec.Report, Path],
) -> None:
    manifest = bundle.read(built[1]).manifest
    jsonschema.validate(manifest, SCHEMA)
    found = manifest["quantisation"]
    assert found["numbers"] == "int8"
    assert found["options"]["calib_samples"] == found["samples"]["samples"] == 16
    assert (found["samples"]["selection"], found["samples"]["chosen_from"]) == ("first", 64)
    assert found["floats"]["stages.2.1.conv2"] == "kept by --keep-float"
    assert manifest["passes"][-1]["name"] == "quantize"
    assert {n["check"] for n in manifest["numerics"]} == {"cut", "quantised", "artifact"}
    (moved,) = (n for n in manifest["numerics"] if n["check"] == "quantised")
    assert moved["tolerance"] is None
    assert moved["snr_db"] > NOISE_DB


def test_a_network_that_is_not_quantised_says_so(tmp_path: Path) -> None:
    edgec.build(DIGITS, output=tmp_path / "out", flops=0.8, measure=None)
    manifest = bundle.read(tmp_path / "out").manifest
    assert manifest["quantisation"] is None
    assert "quantised" not in {n["check"] for n in manifest["numerics"]}


def test_the_report_tells_what_is_in_integers(built: tuple[edgec.Report, Path]) -> None:
    report, out = built
    assert report.quantised is not None
    assert NOISE_DB < report.quantised.snr_db < 100
    graph = onnx.load(out / "model.onnx").graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    layers = [made.get(n.input[1]) for n in graph.node if n.op_type in ("Conv", "Gemm")]
    count = f"{layers.count('DequantizeLinear')} of {len(layers)} layers in integers"
    assert count in str(report)
    assert f"{report.quantised.snr_db:.1f} dB from the network before" in str(report)
    saved = json.loads((out / "report.json").read_text())["quantised"]
    assert saved["floats"] == dict(report.quantised.summary.floats)
    assert saved["differences"][0]["snr_db"] == pytest.approx(report.quantised.snr_db)


def test_the_written_distance_is_that_of_the_files(tmp_path: Path) -> None:
    """Without pruning, the network before is the original."""
    proto, data = perceptron()
    report = edgec.build(
        proto, output=tmp_path / "out", quantize="int8", data=data, measure=None
    )  # fmt: skip
    assert report.quantised is not None
    feeds = {"x": data["x"][:4]}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", options)
    found = snr_db(outputs(proto, feeds), session.run(None, feeds)[0])
    assert report.quantised.snr_db == pytest.approx(found, abs=0.05)


def test_explain_lists_what_stays_in_floats(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", **few())  # type: ignore[arg-type]
    words = ["build", str(DIGITS), "--quantize", "int8", "--data", str(tmp_path / "few.npz"),
             "--keep-float", "head", "--measure", "none", "--explain", "-o"]  # fmt: skip
    result = CliRunner().invoke(main, [*words, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines.index("head kept by --keep-float") > lines.index("in floats why")
    assert any(line.startswith("quantised int8: ") for line in lines)
    assert " quantise  int8 · mse, 32 samples · " in result.stderr


def test_same_inputs_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    """In processes that differ in hashes, and in whether activations were observed before."""
    command = [str(Path(sys.executable).with_name("edgec")), "build", str(DIGITS), "--flops",
               "0.5", "--quantize", "int8", "--data", str(CALIBRATION), "--calib", "random",
               "--measure", "none", "-o"]  # fmt: skip
    for name in ("a", "b"):
        environment = {
            **os.environ, "PYTHONHASHSEED": str(ord(name)), "EDGEC_CACHE": str(tmp_path / "cache"),
        }  # fmt: skip
        run = subprocess.run(
            [*command, str(tmp_path / name)], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert ("observed before" in run.stderr) == (name == "b")
    for file in ("model.onnx", "plan.json", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


# --- every word ----------------------------------------------------------------------------------


@pytest.mark.parametrize("calib", [word for word in CALIBS if word != SYNTHETIC])
def test_every_choice_of_samples(calib: str, tmp_path: Path) -> None:
    count = None if calib == "all" else 24
    with np.load(CALIBRATION) as arrays:
        data = {name: arrays[name][:64] for name in arrays}
    report = edgec.build(
        DIGITS, output=tmp_path / "out", quantize="int8", data=data, measure=None, calib=calib,
        calib_samples=count,
    )  # fmt: skip
    assert report.quantised is not None
    assert report.quantised.snr_db > NOISE_DB
    seen = bundle.read(tmp_path / "out").manifest["quantisation"]["samples"]
    assert seen["samples"] == (count or 64)
    assert seen.get("selection", "all") == calib


def test_samples_made_up_where_there_are_none(tmp_path: Path) -> None:
    report = edgec.build(
        DIGITS, output=tmp_path / "out", quantize="int8", calib=SYNTHETIC, calib_samples=32,
        measure=None,
    )  # fmt: skip
    assert top1(DIGITS) - top1(tmp_path / "out" / "model.onnx") <= 1
    manifest = bundle.read(tmp_path / "out").manifest
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["data"] is None
    assert manifest["quantisation"]["samples"]["kind"] == SYNTHETIC
    assert any("noise" in note for note in report.notes)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_every_observer(observer: str) -> None:
    report = edgec.build(
        DIGITS, quantize="int8", data=few(), measure=None, observer=observer, eval_data=TEST
    )
    assert report.accuracy is not None
    assert report.accuracy.before.value - report.accuracy.after.value <= 0.01


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_rounding(rounding: str) -> None:
    proto, data = perceptron()
    build = edgec.build(proto, quantize="int8", data=data, measure=None, rounding=rounding)
    assert build.quantised is not None
    assert build.quantised.snr_db > NOISE_DB


@pytest.mark.parametrize(
    ("word", "kind", "least"),
    [
        ("float16", TensorProto.FLOAT16, 60),
        ("int8-weights", TensorProto.INT8, 40),
        ("int4-weights", TensorProto.INT4, 15),
    ],
)
def test_other_formats(word: str, kind: int, least: float, tmp_path: Path) -> None:
    proto, data = perceptron()
    report = edgec.build(proto, output=tmp_path / "out", quantize=word, measure=None)
    model = tmp_path / "out" / "model.onnx"
    assert len(stored(model, kind)) >= 2
    assert snr_db(outputs(proto, data), outputs(model, data)) > least
    assert report.costs.after.size < 0.6 * report.costs.before.size
    found = bundle.read(tmp_path / "out").manifest
    jsonschema.validate(found, SCHEMA)
    assert found["quantisation"]["numbers"] == word
    assert found["quantisation"]["options"] == {}
    assert found["quantisation"]["samples"] is None


def test_16_bits_leave_alone_what_overflows_on_the_samples(tmp_path: Path) -> None:
    """ONNX Runtime's CPU computes in float32 between casts: only the samples can tell."""
    text = PERCEPTRON.replace("b = Relu(a)", "s = Mul(a, k)\n  b = Mul(s, i)").replace(
        "256] w1", "256] w1, float k = {30000}, float i = {0.0001}"
    )
    proto, data = ir.to_proto(model_of(text, opset=17)), perceptron()[1]
    wide = {"x": data["x"] * 10}
    build = edgec.build(
        proto, output=tmp_path / "out", quantize="float16", data=wide, measure=None
    )  # fmt: skip
    assert build.quantised is not None
    floats = build.quantised.summary.floats
    assert any("float16 ends at 65504" in why for why in floats.values())
    assert bundle.read(tmp_path / "out").manifest["quantisation"]["samples"]["samples"] == 16


# --- what is odd, and no mistake -----------------------------------------------------------------


def test_a_dead_channel_is_quantised() -> None:
    model = onnx.load(DIGITS)
    conv = next(n for n in model.graph.node if n.name == "stages.1.0.conv1")
    (weight,) = (t for t in model.graph.initializer if t.name == conv.input[1])
    array = onnx.numpy_helper.to_array(weight).copy()
    array[3] = 0
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    report = edgec.build(model, quantize="int8", data=few(), measure=None)
    assert report.quantised is not None
    assert report.quantised.snr_db > NOISE_DB


def test_an_activation_that_is_constant_is_told() -> None:
    proto, data = perceptron()
    report = edgec.build(
        proto, quantize="int8", data={"x": np.ones_like(data["x"])}, observer="minmax",
        measure=None,
    )  # fmt: skip
    assert any("'x' is always 1" in note for note in report.notes)
