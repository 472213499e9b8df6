"""Comparing outputs: over batches as over all at once, and nothing broken passes as equal."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zoo import model_of

from edgec.compare import Comparison, Difference
from edgec.comparing import compare_models
from edgec.errors import UnsupportedError, UsageError, VerificationError

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
