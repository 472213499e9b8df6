"""Comparing outputs: over batches as over all at once, and nothing broken passes as equal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zoo import model_of

import edgec.tensors
from edgec.calibration.variants import values_of
from edgec.compare import Comparison, Difference
from edgec.comparing import compare_models
from edgec.errors import UnsupportedError, UsageError, VerificationError
from edgec.model import copied
from edgec.restoring import restorations
from edgec.tensors import compare_tensors

FLOATS = arrays(np.float32, (6, 3), elements=st.floats(-1e6, 1e6, width=32))
NET = "(float[N,8] x) => (float[N,4] y) <float[8,4] w> { y = MatMul(x, w) }"


def compared(a: np.ndarray, b: np.ndarray) -> Difference:
    comparison = Comparison()
    comparison.add({"y": a}, {"y": b}, len(a))
    (found,) = comparison.result()
    return found


@given(FLOATS, FLOATS, st.integers(1, 5))
def test_batches_add_up(a: np.ndarray, b: np.ndarray, cut: int) -> None:
    parts = Comparison()
    for part in (slice(None, cut), slice(cut, None)):
        parts.add({"y": a[part]}, {"y": b[part]}, len(a[part]))
    (found,), whole = parts.result(), compared(a, b)
    assert (found.samples, found.max_abs, found.max_rel) == (6, whole.max_abs, whole.max_rel)
    assert found.cosine == pytest.approx(whole.cosine, abs=1e-9)
    assert found.snr_db == pytest.approx(whole.snr_db, abs=1e-6)


@given(FLOATS)
def test_the_same_is_equal(a: np.ndarray) -> None:
    found = compared(a, a.copy())
    assert (found.max_abs, found.max_rel, found.snr_db) == (0, 0, math.inf)
    assert found.cosine == pytest.approx(1)


def test_figures_by_hand() -> None:
    found = compared(np.asarray([[3.0, 4.0]]), np.asarray([[3.0, 3.0]]))
    assert found.max_abs == 1
    assert found.max_rel == 0.25
    assert found.snr_db == pytest.approx(10 * math.log10(25))
    assert found.cosine == pytest.approx(21 / (5 * math.sqrt(18)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_is_never_small(bad: float, side: int) -> None:
    pair = [np.ones((2, 2)), np.ones((2, 2))]
    pair[side][1, 1] = bad
    for a, b in (pair, pair[::-1]):
        assert not compared(a, b).max_rel <= 1e9


def test_a_broken_batch_is_remembered() -> None:
    comparison = Comparison()
    good = {"y": np.ones((1, 2))}
    for second in (good, {"y": np.full((1, 2), np.nan)}, good):
        comparison.add(good, second, 1)
    assert math.isnan(comparison.result()[0].max_abs)


def test_against_zero() -> None:
    zero = np.zeros((1, 2))
    assert compared(zero, zero).max_rel == 0
    assert compared(zero, zero + 1e-30).max_rel == math.inf
    assert compared(zero, zero).cosine == 1
    assert compared(zero, zero + 1).cosine == 0


@pytest.mark.parametrize(
    ("a", "b", "gap"),
    [
        (np.asarray([1, 2]), np.asarray([1, 4]), 2),
        (np.asarray([True, False]), np.asarray([True, True]), 1),
        (np.asarray([1 + 1j]), np.asarray([1 - 1j]), 2),
        (np.asarray(["a", "b"], object), np.asarray(["a", "b"], object), 0),
        (np.asarray(["a", "b"], object), np.asarray(["a", "c"], object), 1),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0),
        (np.asarray([60000], np.float16), np.asarray([-60000], np.float16), 120000),
        (np.asarray([250], np.uint8), np.asarray([5], np.uint8), 245),
    ],
)
def test_outputs_of_any_type(a: np.ndarray, b: np.ndarray, gap: float) -> None:
    assert compared(a, b).max_abs == gap


def test_other_names_or_shapes_are_refused() -> None:
    one = {"y": np.ones((2, 2))}
    with pytest.raises(VerificationError, match=r"named \['y'\] in one, \['z'\] in the other"):
        Comparison().add(one, {"z": np.ones((2, 2))}, 2)
    with pytest.raises(VerificationError, match=r"\(2, 2\) in one, \(2, 1\) in the other"):
        Comparison().add(one, {"y": np.ones((2, 1))}, 2)


# --- whole models --------------------------------------------------------------------------------


def test_models_on_samples_and_without() -> None:
    a, b = model_of(NET, 0), model_of(NET, 1)
    x = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    (found,) = compare_models(a, b, data={"x": x})
    w = [m.graph.initializers["w"].const_value.numpy() for m in (a, b)]  # type: ignore[union-attr]
    expected = compared(*(x @ array for array in w))
    assert found.samples == 40
    assert found.max_abs == pytest.approx(expected.max_abs, rel=1e-5)
    assert found.cosine == pytest.approx(expected.cosine, abs=1e-5)
    assert compare_models(a, a)[0].snr_db == math.inf
    assert compare_models(a, b, seed=1) == compare_models(a, b, seed=1)
    assert compare_models(a, b, seed=1) != compare_models(a, b, seed=2)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (NET.replace("x", "z"), r"x float32\[\?, 8\] and z float32\[\?, 8\]"),
        (NET.replace("N,8", "2,8").replace("N,4", "2,4"), r"x float32\[2, 8\]"),
        (NET.replace("y", "u"), r"give different outputs: \['y'\] and \['u'\]"),
    ],
)
def test_models_that_cannot_be_compared(other: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        compare_models(model_of(NET), model_of(other))
    assert raised.value.remedy


def test_outputs_of_other_shapes() -> None:
    wide = "(float[N,8] x) => (float[N,5] y) <float[8,5] w> { y = MatMul(x, w) }"
    with pytest.raises(VerificationError, match="output 'y'"):
        compare_models(model_of(NET), model_of(wide))


def test_a_model_that_onnx_runtime_does_not_take(tmp_path: Path) -> None:
    model = ir.to_proto(model_of(NET))
    model.graph.node[0].op_type = "Fancy"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="Fancy"):
        compare_models(tmp_path / "m.onnx", tmp_path / "m.onnx")


# --- tensor by tensor ----------------------------------------------------------------------------

TWO = """(float[N,8] x) => (float[N,4] y) <float[8,8] v, float[8] c, float[8,4] w> {
  a = MatMul(x, v)  s = Add(a, c)  h = Relu(s)  y = MatMul(h, w) }"""
X = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)


def constant(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    model.graph.register_initializer(value)
    return value


def quantised(model: ir.Model, coarse: Mapping[str, float], scale: float = 0.02) -> ir.Model:
    """A copy whose MatMuls read int8: the input as int8 of `scale`, the weight of `coarse`."""
    made = copied(model)
    for node in [n for n in made.graph if n.op_type == "MatMul"]:
        x, w = node.inputs
        assert x is not None
        assert w is not None
        assert w.const_value is not None
        step = np.asarray(coarse[w.name or ""], np.float32)
        zero = constant(made, f"{w.name}_zero", np.zeros((), np.int8))
        steps = constant(made, f"{w.name}_step", step)
        own = constant(made, f"{w.name}_scale", np.asarray(scale, np.float32))
        integers = np.clip(np.rint(w.const_value.numpy() / step), -127, 127).astype(np.int8)
        q = ir.node("QuantizeLinear", [x, own, zero])
        dq = ir.node("DequantizeLinear", [q.outputs[0], own, zero])
        stored = constant(made, f"{w.name}_i", integers)
        weight = ir.node("DequantizeLinear", [stored, steps, zero])
        for new, name in ((q, f"{x.name}_q"), (dq, f"{x.name}_dq"), (weight, f"{w.name}_dq")):
            new.outputs[0].name = name
            made.graph.insert_before(node, new)
        node.replace_input_with(0, dq.outputs[0])
        node.replace_input_with(1, weight.outputs[0])
        del made.graph.initializers[w.name or ""]
    return made


STEPS = {"v": 0.02, "w": 0.1}


def floats(model: ir.Model) -> dict[str, np.ndarray]:
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    return {name: np.asarray(t.numpy()) for name, t in tensors.items() if t is not None}


def rounded(array: np.ndarray, step: float) -> np.ndarray:
    integers = np.clip(np.rint(array / np.float32(step)), -128, 127)
    return np.asarray(integers * step, np.float32)


def test_every_tensor_by_hand() -> None:
    a = model_of(TWO)
    b = quantised(a, STEPS)
    report = compare_tensors(a, b, data={"x": X})
    found: dict[tuple[str, str], Difference] = {(t.kind, t.name): t for t in report.tensors}
    p = floats(a)
    first = X @ p["v"]
    second = rounded(X, 0.02) @ rounded(p["v"], 0.02)
    hidden = [np.maximum(m + p["c"], 0) for m in (first, second)]
    outputs = [hidden[0] @ p["w"], rounded(hidden[1], 0.02) @ rounded(p["w"], 0.1)]
    expected: dict[tuple[str, str], Any] = {
        ("rounded", "x"): (X, rounded(X, 0.02)),
        ("value", "a"): (first, second),
        ("value", "s"): (first + p["c"], second + p["c"]),
        ("value", "h"): tuple(hidden),
        ("rounded", "h"): (hidden[0], rounded(hidden[1], 0.02)),
        ("value", "y"): tuple(outputs),
        ("weight", "v"): (p["v"], rounded(p["v"], 0.02)),
        ("weight", "w"): (p["w"], rounded(p["w"], 0.1)),
    }
    assert found.keys() == expected.keys()
    for key, pair in expected.items():
        by_hand = compared(*pair)
        assert found[key].snr_db == pytest.approx(by_hand.snr_db, abs=0.05), key
        assert found[key].max_abs == pytest.approx(by_hand.max_abs, rel=1e-3, abs=1e-6), key
        assert found[key].cosine == pytest.approx(by_hand.cosine, abs=1e-5), key
    order = [t.snr_db for t in report.tensors]
    assert order == sorted(order)
    assert {t.op for t in report.tensors if t.name == "a"} == {"MatMul"}
    assert report.only_first == report.only_second == report.reshaped == ()


def test_two_quantised_models_are_compared_name_by_name() -> None:
    b = quantised(model_of(TWO), STEPS)
    report = compare_tensors(b, b, data={"x": X})
    assert {t.snr_db for t in report.tensors} == {math.inf}
    assert {t.name for t in report.tensors} == {"x_dq", "a", "s", "h", "h_dq", "y"}


def test_little_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a = model_of(TWO)
    b = quantised(a, STEPS)
    whole = compare_tensors(a, b, data={"x": X})
    monkeypatch.setattr(edgec.tensors, "_BYTES", 100)
    parts = compare_tensors(a, b, data={"x": X})
    for one, other in zip(whole.tensors, parts.tensors, strict=True):
        assert (one.name, one.kind, one.samples) == (other.name, other.kind, other.samples)
        assert one.snr_db == pytest.approx(other.snr_db, abs=1e-3)


def test_tensors_of_one_model_only_and_of_other_shapes() -> None:
    a = model_of(TWO)
    b = model_of(TWO.replace("s = Add", "t = Add").replace("Relu(s)", "Relu(t)"))
    report = compare_tensors(a, b, data={"x": X})
    assert {t.name for t in report.tensors} == {"a", "h", "y"}
    assert (report.only_first, report.only_second) == (("s",), ("t",))
    narrow = model_of(
        TWO.replace("8] v", "6] v").replace("8] c", "6] c").replace("8,4] w", "6,4] w")
    )
    assert set(compare_tensors(a, narrow, data={"x": X}).reshaped) == {"a", "s", "h"}


def test_an_absorbed_relu_is_compared_behind_the_pair() -> None:
    """ONNX Runtime's quantiser leaves a Relu to the grid, under the name of what the Relu gave."""
    a = model_of(TWO)
    b = quantised(a, STEPS, 0.05)
    values = values_of(b)
    relu = values["h"].producer()
    assert relu is not None
    q = values["h_q"].producer()
    assert q is not None
    zero = constant(b, "h_zero", np.asarray(0, np.uint8))
    q.replace_input_with(2, zero)
    back = values["h_dq"].producer()
    assert back is not None
    back.replace_input_with(2, zero)
    q.replace_input_with(0, values["s"])
    b.graph.remove(relu, safe=True)
    values["s"].name = "h"
    report = compare_tensors(a, b, data={"x": X})
    of_h = {t.kind: t for t in report.tensors if t.name == "h"}
    assert of_h.keys() == {"rounded"}
    assert of_h["rounded"].snr_db > 20
    gains = {r.name: r for r in restorations(a, b, data={"x": X})}
    assert gains["y"].bypassed == ("input", "weight")
    assert gains["y"].gain_db > 0


def test_nothing_in_common() -> None:
    with pytest.raises(UsageError, match="share no tensor"):
        compare_tensors(_integers("a"), _integers("b"), data={"x": np.ones((2, 3), np.int64)})


def _integers(name: str) -> ir.Model:
    return model_of(f"(int64[N,3] x) => (int64[N,3] y) {{ {name} = Neg(x)  y = Neg({name}) }}")


# --- one layer back in floats --------------------------------------------------------------------


def snr(a: np.ndarray, b: np.ndarray) -> float:
    return compared(a, b).snr_db


def test_restoring_one_layer_by_hand() -> None:
    a = model_of(TWO)
    b = quantised(a, STEPS)
    p = floats(a)

    def outputs(first: bool, second: bool) -> np.ndarray:
        left = rounded(X, 0.02) @ rounded(p["v"], 0.02) if first else X @ p["v"]
        hidden = np.maximum(left + p["c"], 0)
        last = (rounded(hidden, 0.02), rounded(p["w"], 0.1)) if second else (hidden, p["w"])
        return np.asarray(last[0] @ last[1])

    target = outputs(False, False)
    without = snr(target, outputs(True, True))
    expected = {"a": snr(target, outputs(False, True)), "y": snr(target, outputs(True, False))}
    found = restorations(a, b, data={"x": X})
    assert [r.name for r in found] == sorted(expected, key=lambda n: -expected[n])
    for row in found:
        assert row.snr_db == pytest.approx(expected[row.name], abs=0.05)
        assert row.gain_db == pytest.approx(expected[row.name] - without, abs=0.1)
        assert (row.op, row.bypassed, row.kept) == ("MatMul", ("input", "weight"), {})


def test_a_pair_that_several_layers_read() -> None:
    """What a layer reads unrounded may lie far before it in the graph."""
    a = model_of(
        """(float[N,8] x) => (float[N,4] y) <float[8,8] v, float[8,4] w, float[8,4] u> {
          p = MatMul(x, v)  q = MatMul(p, w)  r = MatMul(x, u)  y = Add(q, r) }"""
    )
    b = model_of(
        """(float[N,8] x) => (float[N,4] y)
        <float[8,8] v, float[8,4] w, float[8,4] u, float s = {0.05}, int8 z = {0}> {
          x1 = QuantizeLinear(x, s, z)  x2 = DequantizeLinear(x1, s, z)  p = MatMul(x2, v)
          p1 = QuantizeLinear(p, s, z)  p2 = DequantizeLinear(p1, s, z)  q = MatMul(p2, w)
          r = MatMul(x2, u)  y = Add(q, r) }"""
    )
    w = floats(a)
    target = X @ w["v"] @ w["w"] + X @ w["u"]
    rest = rounded(rounded(X, 0.05) @ w["v"], 0.05) @ w["w"]
    (row,) = [r for r in restorations(a, b, data={"x": X}) if r.name == "r"]
    assert row.bypassed == ("input",)
    assert row.snr_db == pytest.approx(snr(target, rest + X @ w["u"]), abs=0.1)


def test_a_weight_of_another_layer_is_not_put_in() -> None:
    """A weight that was scaled or folded on the way is no rounding of the original's."""
    a = model_of(TWO)
    scaled = model_of(TWO)
    scaled.graph.initializers["w"].const_value = ir.tensor(floats(a)["w"] * 1.5, name="w")
    (row,) = [r for r in restorations(a, quantised(scaled, STEPS), data={"x": X}) if r.name == "y"]
    assert row.bypassed == ("input",)
    assert row.kept == {"weight": "is not what the first model's weight rounds to"}


def test_a_clipped_weight_is_put_in() -> None:
    a = model_of(TWO)
    b = quantised(a, {"v": 0.02, "w": 0.002})
    (row,) = [r for r in restorations(a, b, data={"x": X}) if r.name == "y"]
    assert np.abs(floats(a)["w"]).max() > 2 * 0.002 * 127
    assert row.bypassed == ("input", "weight")


def test_a_weight_with_channels_clipped_is_put_in() -> None:
    a = model_of(TWO)
    w = floats(a)["w"]
    steps = (np.abs(w).max(0) / 127 * np.asarray([1, 0.5, 1, 0.3])).astype(np.float32)
    b = quantised(a, {"v": 0.02, "w": 1.0})
    node = values_of(b)["w_dq"].producer()
    assert node is not None
    integers = np.clip(np.rint(w / steps), -127, 127).astype(np.int8)
    zeros = constant(b, "own zeros", np.zeros(4, np.int8))
    for i, value in enumerate(
        (constant(b, "own integers", integers), constant(b, "own steps", steps), zeros)
    ):
        node.replace_input_with(i, value)
    (row,) = [r for r in restorations(a, b, data={"x": X}) if r.name == "y"]
    assert (row.bypassed, row.kept) == (("input", "weight"), {})


def test_nothing_quantised_to_restore() -> None:
    with pytest.raises(UsageError, match="has no product that reads what a DequantizeLinear"):
        restorations(model_of(TWO), model_of(TWO), data={"x": X})
