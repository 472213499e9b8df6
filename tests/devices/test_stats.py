"""Percentiles are nearest rank; verdicts find what is there and nothing that is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.devices.stats import Verdict, compare_blocks, cv, is_steady, outliers, percentile

LATENCIES = st.lists(st.integers(1, 10**12), min_size=1, max_size=300)


@given(LATENCIES, st.integers(1, 99))
def test_percentiles_are_numpys_inverted_cdf(samples: list[int], p: int) -> None:
    found = percentile(samples, p)
    # The float p/100 times n can fall on the wrong side of a whole rank; weights are exact.
    expected = np.percentile(samples, p, method="inverted_cdf", weights=np.ones(len(samples)))
    if found is None:
        assert -(-p * len(samples) // 100) == len(samples)
        assert expected == max(samples)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("n", "p", "rank"),
    [
        *[(100, 99, 99), (200, 99, 198), (300, 99, 297), (1000, 99, 990), (1024, 99, 1014)],
        *[(2, 50, 1), (11, 50, 6), (10, 90, 9)],
    ],
)
def test_ranks(n: int, p: int, rank: int) -> None:
    assert percentile(range(1, n + 1), p) == rank


@pytest.mark.parametrize(("n", "p"), [(0, 50), (1, 50), (9, 90), (99, 99), (20, 99)])
def test_no_percentile_without_a_sample_beyond_it(n: int, p: int) -> None:
    assert percentile(range(n), p) is None


def test_variation_and_outliers() -> None:
    assert cv([5]) is None
    assert cv([5, 5, 5]) == 0
    assert cv([90, 110]) == pytest.approx(np.sqrt(200) / 100)
    quiet = [100, 101, 102, 103, 104, 105, 106, 107]  # quartiles 101.75 and 105.25
    assert outliers(quiet) == (0, 0)
    assert outliers([*quiet, 111]) == (0, 0)
    assert outliers([*quiet, 115, 500]) == (1, 1)
    assert outliers([]) == (0, 0)


@pytest.mark.parametrize(
    ("windows", "steady"),
    [
        *[([100, 100], False), ([100, 104, 105], True), ([100, 104, 106], False)],
        *[([900, 100, 104, 105], True), ([100, 100, 100, 200], False)],
    ],
)
def test_steady(windows: list[float], steady: bool) -> None:
    assert is_steady(windows) == steady


def blocks(
    rng: np.random.Generator, ratio: float, pairs: int, runs: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Two models with CV 2 %, on a machine that drifts by 10 % and now and then hiccups."""
    drift = 1 + 0.05 * np.cumsum(rng.normal(size=pairs)) / np.sqrt(pairs)
    both = []
    for factor in (1.0, ratio):
        noise = rng.normal(1, 0.02, (pairs, runs)) + (rng.random((pairs, runs)) < 0.01) * 0.5
        both.append((1e6 * factor * drift[:, None] * noise).astype(int).tolist())
    return both[0], both[1]


def verdicts(ratio: float, margin: float, pairs: int = 20, runs: int = 16) -> list[Verdict]:
    return [
        compare_blocks(*blocks(np.random.default_rng(s), ratio, pairs, runs), margin=margin).verdict
        for s in range(60)
    ]


def test_finds_a_slowdown_of_3_percent() -> None:
    assert verdicts(1.03, 0.01).count(Verdict.SLOWER) >= 58
    assert verdicts(1 / 1.03, 0.01).count(Verdict.FASTER) >= 58


@pytest.mark.parametrize("margin", [0.01, 0.03])
def test_no_false_alarm(margin: float) -> None:
    found = verdicts(1.0, margin)
    assert set(found) <= {Verdict.SAME, Verdict.AMBIGUOUS}
    assert found.count(Verdict.SAME) >= 54


def test_the_interval_covers_the_truth_19_times_in_20() -> None:
    hits = 0
    for seed in range(200):
        found = compare_blocks(*blocks(np.random.default_rng(seed), 0.9, 15, 8), margin=0.01)
        hits += found.low <= 0.9 <= found.high
    assert 180 <= hits <= 199  # 190 expected; a binomial of 200 is outside 1 time in 500


def test_on_the_edge_it_does_not_decide() -> None:
    assert verdicts(1.01, 0.01).count(Verdict.AMBIGUOUS) >= 50


def test_too_few_blocks_give_no_verdict() -> None:
    found = compare_blocks([[10, 10]] * 4, [[20, 20]] * 4, margin=0.03)
    assert (found.ratio, found.verdict) == (2, Verdict.AMBIGUOUS)
    assert found.reason == "n too small: 4 pairs of blocks, 5 needed"
    enough = compare_blocks([[10, 10]] * 5, [[20, 20]] * 5, margin=0.03)
    assert (enough.verdict, enough.reason) == (Verdict.SLOWER, "")


@pytest.mark.parametrize(
    ("spread", "verdict"),
    [
        (lambda i: 0.98, Verdict.SAME),
        (lambda i: 0.96, Verdict.FASTER),
        (lambda i: 1.04, Verdict.SLOWER),
        (lambda i: 0.9 + 0.02 * i, Verdict.AMBIGUOUS),
    ],
)
def test_verdicts_on_known_ratios(spread: Callable[[int], float], verdict: Verdict) -> None:
    a = [[10**6]] * 10
    b = [[round(10**6 * spread(i))] for i in range(10)]
    assert compare_blocks(a, b, margin=0.03).verdict is verdict
