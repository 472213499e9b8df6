"""The knapsack: as good as trying everything, and never over the budget."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.passes.knapsack import knapsack

_WHOLE = st.lists(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 12)), min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)
_REAL = st.lists(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-3, 9)), min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)
Classes = list[list[tuple[float, float]]]


def arrays(classes: Classes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    columns = [np.asarray(own, np.float64).T for own in classes]
    return [c[0] for c in columns], [c[1] for c in columns]


def total(columns: list[np.ndarray], chosen: tuple[int, ...] | list[int]) -> float:
    return float(sum(c[i] for c, i in zip(columns, chosen, strict=True)))


def check(classes: Classes, budget: float, bins: int | None, rounding: float) -> None:
    """Against every choice there is."""
    values, costs = arrays(classes)
    found = knapsack(values, costs, budget, bins)
    every = list(product(*(range(len(own)) for own in classes)))
    within = [c for c in every if total(costs, c) <= budget - rounding]
    if found is None:
        assert not within
        return
    assert total(costs, found) <= budget + rounding
    best = max((total(values, c) for c in within), default=-np.inf)
    assert total(values, found) >= best - 1e-9


@given(_WHOLE, st.integers(0, 40))
def test_whole_costs(classes: Classes, budget: int) -> None:
    check(classes, budget, None, 0)


@given(_REAL, st.floats(-10, 40))
def test_real_costs(classes: Classes, budget: float) -> None:
    check(classes, budget, None, 1e-8)


@given(_WHOLE, st.integers(0, 40))
def test_as_many_bins_as_the_budget_has_units(classes: Classes, budget: int) -> None:
    room = budget - sum(min(cost for _, cost in own) for own in classes)
    check(classes, budget, max(int(room), 1), 0)


@given(_REAL, st.floats(-10, 40), st.integers(1, 20))
def test_few_bins_still_fit(classes: Classes, budget: float, bins: int) -> None:
    values, costs = arrays(classes)
    found = knapsack(values, costs, budget, bins)
    cheapest = sum(float(c.min()) for c in costs)
    if abs(cheapest - budget) > 1e-6:
        assert (found is None) == (cheapest > budget)
    if found is not None:
        assert total(costs, found) <= budget + 1e-8


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_as_many_layers_as_networks_have(share: float) -> None:
    """Exact where bins are not: 60 layers, their weights in 4, 8 or 16 bits."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 200_000, 60)
    costs = [np.asarray([4, 8, 16]) * size / 8 for size in sizes]
    values = [-rng.random() * np.asarray([256, 1, 0]) * rng.random(3) for _ in sizes]
    low, high = (sum(float(f(c)) for c in costs) for f in (np.min, np.max))
    budget = low + share * (high - low)
    exact = knapsack(values, costs, budget)
    coarse = knapsack(values, costs, budget, 100)
    assert exact is not None
    assert coarse is not None
    assert total(costs, exact) <= budget
    assert total(values, exact) > total(values, coarse)
