"""Grids of integers: laws that hold for every range."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.calibration.grid import SMALLEST_SCALE, Grid, Scheme

SCHEMES = [
    Scheme(bits, signed, symmetric)
    for bits in (4, 8, 16)
    for signed in (True, False)
    for symmetric in (True, False)
]
ends = st.floats(-1e4, 1e4, width=32)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(a=ends, b=ends)
def test_what_lies_in_the_range_is_off_by_half_a_step_at_most(
    scheme: Scheme, a: float, b: float
) -> None:
    low, high = min(a, b), max(a, b)
    grid = Grid.of_range(scheme, low, high)
    x = np.linspace(low, high, 97, dtype=np.float32)
    slack = 1 + 1e-3 + 2 * np.abs(x).max() / float(grid.scale) * 2**-23
    # An asymmetric range is moved by up to half a step so that zero lies on the grid.
    steps = 0.5 if scheme.symmetric else 1.0
    assert np.abs(grid.rounded(x) - x).max() <= steps * float(grid.scale) * slack
    assert grid.rounded(np.zeros(1, np.float32))[0] == 0.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_numbers_on_the_grid_stay(scheme: Scheme) -> None:
    grid = Grid.of_range(scheme, np.asarray([-1.0, -0.25]), np.asarray([3.0, 0.5]), axis=0)
    q = np.stack([np.arange(scheme.low, scheme.high + 1)] * 2)
    np.testing.assert_array_equal(grid.integers(grid.reals(q)), q)


def test_a_dead_channel_has_a_positive_scale() -> None:
    grid = Grid.of_range(Scheme(), np.zeros(2), np.asarray([0.0, 127.0]), axis=0)
    assert grid.scale.tolist() == pytest.approx([SMALLEST_SCALE, 1.0])
    assert (grid.scale > 0).all()
    assert grid.rounded(np.zeros((2, 3), np.float32)).tolist() == [[0.0] * 3] * 2


def test_schemes() -> None:
    assert (Scheme().low, Scheme().high, Scheme().dtype) == (-127, 127, ir.DataType.INT8)
    wide = Scheme(symmetric=False)
    assert (wide.low, wide.high) == (-128, 127)
    assert Scheme(4, signed=False).word == "uint4"
    assert Scheme.parse("uint8", symmetric=False) == Scheme(8, False, False)
    for word in ("int7", "float8", "uuint8", "8", "unint8"):
        with pytest.raises(ValueError, match=word):
            Scheme.parse(word)


def test_rounds_to_even_as_quantize_linear_does() -> None:
    grid = Grid(Scheme(), np.asarray(1, np.float32), np.asarray(0))
    assert grid.integers(np.asarray([0.5, 1.5, 2.5, -0.5, 300.0], np.float32)).tolist() == [
        0, 2, 2, 0, 127,
    ]  # fmt: skip
