"""Ranges against brute force on the samples themselves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgec.calibration.grid import Grid, Scheme
from edgec.calibration.histogram import Histogram
from edgec.calibration.observers import OBSERVERS, integral, percentile, slim

Array = NDArray[np.float32]
SHAPE = (64, 2000)
INT8, UINT8, INT4 = Scheme(), Scheme(8, False, False), Scheme(4)
SCHEMES = {"int8": INT8, "uint8": UINT8, "int8 asymmetric": Scheme(8, True, False), "int4": INT4,
           "uint8 symmetric": Scheme(8, False, True), "uint4": Scheme(4, False, False)}  # fmt: skip


def _draws() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=SHAPE)
    outlier = normal.copy()
    outlier[3, 5] = 100
    found = {
        "gaussian": normal,
        "laplacian": rng.laplace(size=SHAPE),
        "relu": np.maximum(normal, 0),
        "shifted": normal + 3,
        "negative": -np.maximum(normal, 0),
        "uniform": rng.uniform(-1, 1, SHAPE),
        "outlier": outlier,
        "relu6": np.clip(4 * normal, 0, 6),
        "heavy": rng.standard_t(2, SHAPE),
        "tiny": 1e-20 * normal,
        "huge": 1e20 * normal,
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


DRAWS = _draws()


def error(values: Array, scheme: Scheme, low: float, high: float) -> float:
    """Mean squared error on the grid of a range, in parts of the variance."""
    back = Grid.of_range(scheme, low, high).rounded(values).astype(np.float64)
    return float(np.square(values - back).mean() / values.astype(np.float64).var())


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("draw", DRAWS)
def test_mse_is_as_good_as_the_best_clip_of_the_values_themselves(
    draw: str, scheme: Scheme
) -> None:
    values = DRAWS[draw]
    found = Histogram.of(values)
    low, high = OBSERVERS["mse"].range(found, scheme)
    mine = error(values, scheme, low, high)
    # the error of so many values is itself known to a quarter of a percent
    assert mine <= 1.005 * error(values, scheme, float(values.min()), float(values.max()))
    best = min(
        error(values, scheme, a * float(values.min()), a * float(values.max()))
        for a in np.linspace(0.02, 1, 50)
    )
    assert mine <= 1.02 * best


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("observer", OBSERVERS)
def test_ranges_lie_within_the_values_and_hold_most(
    observer: str, draw: str, scheme: Scheme
) -> None:
    values = DRAWS[draw]
    found = Histogram.of(values)
    low, high = OBSERVERS[observer].range(found, scheme)
    assert found.least <= low <= high <= found.greatest
    grid = Grid.of_range(scheme, low, high)
    assert grid.scale > 0
    ends = grid.ends()
    kept = ((values >= ends[0]) & (values <= ends[1])).mean()
    assert kept > (0.9 if scheme.bits == 8 else 0.7)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-30])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_constant_comes_back_from_its_grid(observer: str, value: float, scheme: Scheme) -> None:
    values = np.full(SHAPE, value, np.float32)
    low, high = OBSERVERS[observer].range(Histogram.of(values), scheme)
    grid = Grid.of_range(scheme, low, high)
    assert grid.scale > 0
    back = grid.rounded(values[:1, :1]).item()
    # half a step: mse and entropy may find the constant between two steps of a wider range
    assert abs(back - value) <= max(float(grid.scale) / 2, 1e-6 * abs(value))


def test_one_outlier_stretches_none_that_weighs_by_number() -> None:
    """For mse one value of 100 weighs as much as ten thousand of 1: it clips, but not to 4."""
    clean, dirty = (Histogram.of(DRAWS[name]) for name in ("gaussian", "outlier"))
    for name in ("moving-average", "percentile", "entropy"):
        assert OBSERVERS[name].range(clean, UINT8)[1] < 5, name
        assert OBSERVERS[name].range(dirty, UINT8)[1] < 12, name
    assert OBSERVERS["minmax"].range(dirty, UINT8)[1] == 100
    assert OBSERVERS["mse"].range(dirty, INT4)[1] < 3


@pytest.mark.parametrize("draw", DRAWS)
def test_percentiles_are_those_of_the_values(draw: str) -> None:
    values = DRAWS[draw].astype(np.float64)
    found = Histogram.of(DRAWS[draw])
    for percent in (90.0, 99.0, 99.9):
        low, high = percentile(found, UINT8, percent)
        cut = (100 - percent) / 2
        expected = np.percentile(values, [cut, 100 - cut])
        np.testing.assert_allclose([low, high], expected, rtol=0, atol=2 * found.width)
        low, high = percentile(found, INT8, percent)
        expected = np.percentile(np.abs(values), percent)
        assert max(-low, high) == pytest.approx(expected, rel=0, abs=2 * found.width)


def test_minmax_and_moving_average_are_what_they_say() -> None:
    found = Histogram.of(DRAWS["gaussian"])
    assert OBSERVERS["minmax"].range(found, INT8) == (found.least, found.greatest)
    assert OBSERVERS["moving-average"].range(found, INT8) == tuple(found.moving)


def test_slim_finds_the_clip_that_the_recipe_states() -> None:
    """A Gaussian in 4 bits: the best clip is 2.38 σ, with a third of absmax's error."""
    values = np.random.default_rng(0).normal(size=(8, 50_000)).astype(np.float32)
    low, high = slim(Histogram.of(values), Scheme(4))
    assert low == pytest.approx(-high)
    assert high == pytest.approx(2.38, rel=0.1)
    top = float(np.abs(values).max())
    assert error(values, Scheme(4), low, high) < 0.4 * error(values, Scheme(4), -top, top)


def test_entropy_clips_a_long_tail_and_keeps_a_uniform_one_whole() -> None:
    long = Histogram.of(DRAWS["laplacian"])
    low, _ = OBSERVERS["entropy"].range(long, INT8)
    assert low > 0.9 * long.least
    flat = Histogram.of(DRAWS["uniform"])
    low, high = OBSERVERS["entropy"].range(flat, INT8)
    assert min(-low, high) > 0.97


def test_the_least_error_is_the_integral_of_the_density() -> None:
    """A uniform density on a grid that does not fit its bins: quadrature is the arbiter."""
    for scheme in (INT8, UINT8, INT4):
        grid = Grid.of_range(scheme, [-0.7, -0.3], [0.9, 1.1], 0)
        a, b = -1.3, 1.7
        x = np.linspace(a, b, 2_000_001)
        x = (x[1:] + x[:-1]) / 2
        exact = integral(grid, np.asarray([b])) - integral(grid, np.asarray([a]))
        for i in range(2):
            one = Grid(scheme, grid.scale[i], grid.zero[i])
            squares = np.square(x - one.rounded(x.astype(np.float32)).astype(np.float64))
            assert exact[i, 0] == pytest.approx(squares.mean() * (b - a), rel=1e-5)
