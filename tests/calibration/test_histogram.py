"""Streamed histograms: functions of the values alone, whatever batches they came in."""

from __future__ import annotations

from dataclasses import fields
from functools import reduce

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from edgec.calibration.histogram import BINS, MOVING, Histogram

Values = NDArray[np.float32]
_EXACT = {f.name for f in fields(Histogram)} - {
    "counts",
    "start",
    "moving",
    "mean",
    "m2",
    "channels",
}

_numbers = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-1, 1, width=32),
    st.just(0.0),
    st.just(1e-44),
)
_values = st.lists(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(5)), elements=_numbers),
    min_size=1,
    max_size=6,
)


def assert_same(a: Histogram, b: Histogram) -> None:
    assert {n: getattr(a, n) for n in _EXACT} == {n: getattr(b, n) for n in _EXACT}
    np.testing.assert_array_equal(a.counts, b.counts)
    size = max(abs(a.least), abs(a.greatest)) if a.total else 1.0
    for name in ("mean", "start", "moving"):
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-12 * size, err_msg=name
        )
    np.testing.assert_allclose(a.m2, b.m2, rtol=1e-6, atol=1e-12 * size**2)


@given(_values)
def test_batches_merge_to_the_histogram_of_all_values(batches: list[Values]) -> None:
    whole = Histogram.of(np.concatenate(batches))
    parts = [Histogram.of(batch) for batch in batches]
    from_left = reduce(Histogram.merged, parts, Histogram.empty())
    from_right = reduce(lambda a, b: b.merged(a), reversed(parts), Histogram.empty())
    assert_same(from_left, whole)
    assert_same(from_right, whole)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(7)), elements=_numbers))
def test_every_value_lies_in_its_bin(values: Values) -> None:
    found = Histogram.of(values)
    flat = values[values != 0].astype(np.float64)
    assert found.counts.shape == (BINS,)
    assert found.sampled == values.size
    assert found.zeros == np.count_nonzero(values == 0)
    expected, _ = np.histogram(flat, found.edges)
    np.testing.assert_array_equal(found.counts[:-1], expected[:-1])  # numpy's last bin is closed
    counts, edges = found.magnitudes()
    width = float(edges[1])
    assert width >= found.width
    assert counts.size <= BINS
    steps = flat / width  # of a negative value, the bin is open at the other end
    bins = np.where(flat > 0, np.floor(steps), np.ceil(-steps) - 1).astype(np.int64)
    np.testing.assert_array_equal(counts, np.bincount(bins, minlength=1))
    np.testing.assert_array_equal(edges, np.arange(counts.size + 1) * width)


def test_half_of_the_bins_are_in_use_whatever_the_range() -> None:
    for low, high in [(0, 1.01), (-3, 5), (1e-20, 2e-20), (-1e30, 0.1), (99.0, 101.0)]:
        found = Histogram.of(np.linspace(low, high, 40_000, dtype=np.float64)[None])
        assert BINS // 2 - 1 <= np.count_nonzero(found.counts) <= BINS


@pytest.mark.parametrize("value", [1e6, 3.0, -0.1, 1e-30])
def test_a_constant_is_one_bin_as_fine_as_float32(value: float) -> None:
    found = Histogram.of(np.full((3, 4), value, np.float32))
    exact = float(np.float32(value))
    assert np.count_nonzero(found.counts) == 1
    assert found.width <= np.spacing(np.float32(abs(value)))
    assert (found.least, found.greatest, found.std) == (exact, exact, 0)
    counts, edges = found.magnitudes()
    assert edges[-1] == pytest.approx(abs(exact), rel=2 / BINS)
    assert counts[-1] == 12


def test_moments_and_ends() -> None:
    values = np.random.default_rng(0).normal(3, 2, (50, 40)).astype(np.float32)
    found = Histogram.of(values)
    assert found.mean == pytest.approx(values.astype(np.float64).mean())
    assert found.std == pytest.approx(values.astype(np.float64).std())
    assert (found.least, found.greatest) == (values.min(), values.max())
    assert (found.total, found.samples) == (2000, 50)


def test_moving_averages_follow_the_samples_in_order() -> None:
    values = np.random.default_rng(0).normal(size=(300, 10)).astype(np.float32)
    expected = np.asarray([values[0].min(), values[0].max()], np.float64)
    for row in values[1:]:
        expected += MOVING * (np.asarray([row.min(), row.max()]) - expected)
    np.testing.assert_allclose(Histogram.of(values).moving, expected, rtol=1e-12)


def test_values_that_are_not_finite_are_counted_and_leave_no_trace() -> None:
    values = np.asarray([[1, np.nan, 2], [np.inf, -np.inf, -3], [np.nan] * 3], np.float32)
    found = Histogram.of(values)
    assert found.nonfinite == 6
    assert (found.least, found.greatest, found.mean) == (-3, 2, 0)
    assert found.sampled == found.total == 3


def test_the_empty_histogram_changes_nothing() -> None:
    found = Histogram.of(np.asarray([[1.0, 0.0, -2.0]], np.float32))
    assert_same(found.merged(Histogram.empty()), found)
    assert_same(Histogram.empty().merged(found), found)
