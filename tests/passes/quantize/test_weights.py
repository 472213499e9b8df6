"""Grids of weights: every search does at least as well as the whole range, by its own measure."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from zoo import Array, feeds_of, model_of, run

from edgec.calibration.grid import Grid, Scheme
from edgec.passes.quantize.weights import WEIGHT_METHODS, StoredWeight, absmax, power_along

SCHEMES = [Scheme(4), Scheme(8), Scheme(4, signed=False), Scheme(8, False, symmetric=False)]
AXES = [None, 0, 1]


def heavy(*shape: int, seed: int = 0) -> Array:
    """Weights with a few large ones, each channel of its own size."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.01, 2, (shape[0], *[1] * (len(shape) - 1)))
    return np.asarray(rng.standard_t(4, shape) * size, np.float32)


def error(w: Array, grid: Grid, power: Array) -> Array:
    """Σ power · (w − ŵ)² for every scale of the grid."""
    squares = power * (grid.rounded(w).astype(np.float64) - w) ** 2
    axes = tuple(a for a in range(w.ndim) if a != grid.axis)
    return np.asarray(squares.sum(axes))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.word)
@pytest.mark.parametrize("method", ["slim", "mse"])
def test_no_coarse_candidate_is_better(method: str, scheme: Scheme, axis: int | None) -> None:
    w = heavy(24, 16, 3, 3)
    power = np.random.default_rng(1).uniform(0, 4, (1, 16, 1, 1)) if method == "mse" else np.ones(1)
    found = error(w, WEIGHT_METHODS[method].fit(w, scheme, axis, power), power)
    coarse = 10 if method == "mse" else 11
    axes = tuple(a for a in range(w.ndim) if a != axis)
    low, high = w.min(axes), w.max(axes)
    for alpha in np.arange(1, coarse + 1) / coarse:
        grid = Grid.of_range(scheme, alpha * low, alpha * high, axis)
        assert (found <= error(w, grid, power) * (1 + 1e-5)).all()


def test_clipping_pays_at_four_bits() -> None:
    """A normal distribution, one scale: clipping cuts the error to about a third."""
    w = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    whole, best = (
        WEIGHT_METHODS[m].fit(w, Scheme(4), None, None).rounded(w) for m in ("absmax", "slim")
    )
    assert ((best - w) ** 2).mean() < 0.4 * ((whole - w) ** 2).mean()
    (first, second) = (WEIGHT_METHODS[m].fit(w, Scheme(4), None, None) for m in ("slim", "mse"))
    assert float(first.scale) == pytest.approx(float(second.scale), rel=0.1)


def test_power_says_which_weights_matter() -> None:
    w = heavy(8, 4)
    w[:, 1] *= 50  # large, but what it multiplies is always zero
    power = np.asarray([[1.0, 0.0, 1.0, 1.0]])
    grid = WEIGHT_METHODS["mse"].fit(w, Scheme(4), 0, power)
    alone = absmax(np.delete(w, 1, 1), Scheme(4), 0)
    assert (error(w, grid, power) < error(w, absmax(w, Scheme(4), 0), power) / 10).all()
    assert (grid.scale < 2 * alone.scale).all()


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_a_dead_channel(method: str) -> None:
    w = heavy(3, 5)
    w[1] = 0
    stored = StoredWeight.of(w, WEIGHT_METHODS[method].fit(w, Scheme(8), 0, None))
    assert (stored.grid.scale > 0).all()
    assert (stored.reals()[1] == 0).all()
    np.testing.assert_allclose(stored.reals(), w, atol=np.abs(w).max() / 100)


@pytest.mark.parametrize(
    "text",
    [
        "(float[2,6,5,5] x) => (y) <float[8,6,3,3] w> { y = Conv(x, w) }",
        "(float[2,6,5,5] x) => (y) <float[4,3,3,3] w> { y = Conv<group=2>(x, w) }",
        "(float[2,6,5,5] x) => (y) <float[6,1,3,3] w> { y = Conv<group=6>(x, w) }",
        "(float[2,6,5,5] x) => (y) <float[6,4,2,2] w> { y = ConvTranspose(x, w) }",
        "(float[2,6,5,5] x) => (y) <float[6,4,2,2] w> { y = ConvTranspose<group=3>(x, w) }",
        "(float[2,6] x) => (y) <float[6,4] w> { y = Gemm(x, w) }",
        "(float[2,6] x) => (y) <float[4,6] w> { y = Gemm<transB=1>(x, w) }",
        "(float[2,3,6] x) => (y) <float[6,4] w> { y = MatMul(x, w) }",
    ],
)
def test_power_lies_where_the_weight_multiplies_the_channel(text: str) -> None:
    for channel in range(6):
        model = model_of(text)
        (node,) = model.graph
        weight = model.graph.initializers["w"]
        assert weight.const_value is not None
        w = weight.const_value.numpy()
        feeds = feeds_of(model)
        axis = -1 if node.op_type in ("Gemm", "MatMul") else 1
        only = (np.arange(6) == channel).astype(np.float32)
        feeds["x"] = feeds["x"] * np.moveaxis(
            only.reshape(6, *[1] * (feeds["x"].ndim - 1)), 0, axis
        )
        before = run(model, feeds)[0]
        heard = np.broadcast_to(power_along(node, only), w.shape)
        weight.const_value = ir.tensor(w * heard, name="w")
        np.testing.assert_array_equal(run(model, feeds)[0], before)
        weight.const_value = ir.tensor(w * (1 - heard), name="w")
        assert not run(model, feeds)[0].any()
