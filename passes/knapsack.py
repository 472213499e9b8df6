"""The multiple-choice knapsack, solved exactly: one option of every class, within a budget.

    maximise Σ value[class][option]   subject to   Σ cost[class][option] ≤ budget

Dynamic programming over sums of cost and value. After each class only sums stay that no other sum
beats in both, and whose upper bound is above what is known to be reachable (Pisinger 1995). Both
bounds come from the fractional problem over the classes that are left: its optimum takes the steps
along the upper hull of each class by falling value per cost; every whole number of such steps is a
choice that can be made, and the last, broken step is all that the bound has in excess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ROUNDING = 1e-11  # of sums, relative to the largest that there can be


@dataclass(frozen=True)
class _Rest:
    """What the classes from some class on can still add, at least and at most.

    Attributes:
        cost, value: float64[steps + 1], sums after each step, from the cheapest options on.
    """

    cost: Floats
    value: Floats

    def most(self, room: Floats) -> Floats:
        """An upper bound of the value that fits into `room`, which holds the cheapest options."""
        return np.asarray(np.interp(room, self.cost, self.value))

    def least(self, room: Floats) -> Floats:
        """A value that does fit into `room`."""
        at = np.searchsorted(self.cost, room, side="right") - 1
        return np.asarray(self.value[np.maximum(at, 0)])


def knapsack(
    values: Sequence[Floats], costs: Sequence[Floats], budget: float, bins: int | None = None
) -> list[int] | None:
    """The option of each class, None if even the cheapest ones do not fit.

    Args:
        values: float64[options] of each class; finite.
        costs: float64[options] of each class; finite.
        budget: The most that all may cost.
        bins: Round what costs more than the cheapest options up to so many parts of what is left
            of the budget: there are then no more than so many sums, and the answer still fits.
    """
    if bins is not None:
        cheapest = [own.min() for own in costs]
        room = budget - sum(cheapest)
        if room > max(_ROUNDING * _size(costs), bins * np.finfo(np.float64).tiny):
            scale = bins / room
            extra = (own - low for own, low in zip(costs, cheapest, strict=True))
            costs, budget = [np.ceil(own * scale - 1e-9) for own in extra], bins
    budget += _ROUNDING * _size(costs)
    slack = _ROUNDING * _size(values)
    rests = _rests(values, costs)
    if rests[0].cost[0] > budget:
        return None
    cost, value = np.zeros(1), np.zeros(1)
    history: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    reached = -np.inf
    for own_values, own_costs, rest in zip(values, costs, rests[1:], strict=True):
        width = len(own_costs)
        cost = (cost[:, None] + own_costs).ravel()
        value = (value[:, None] + own_values).ravel()
        room = budget - cost
        kept = np.flatnonzero(room >= rest.cost[0])
        reached = max(reached, float((value[kept] + rest.least(room[kept])).max()))
        kept = kept[value[kept] + rest.most(room[kept]) >= reached - slack]
        kept = kept[np.lexsort((-value[kept], cost[kept]))]
        best = np.maximum.accumulate(value[kept])
        kept = kept[np.concatenate([[True], value[kept][1:] > best[:-1]])]
        cost, value = cost[kept], value[kept]
        history.append((kept // width, kept % width))
    at = int(np.argmax(value))
    chosen = []
    for before, option in reversed(history):
        chosen.append(int(option[at]))
        at = int(before[at])
    return chosen[::-1]


def _size(classes: Sequence[Floats]) -> float:
    return float(sum(np.abs(own).max() for own in classes))


def _rests(values: Sequence[Floats], costs: Sequence[Floats]) -> list[_Rest]:
    """For the classes from each on, and for none."""
    hulls = [
        _hull(own_values, own_costs) for own_values, own_costs in zip(values, costs, strict=True)
    ]
    with np.errstate(over="ignore"):  # a step that costs next to nothing comes first
        steps = [
            (gain / price, number, price, gain)
            for number, (cost, value) in enumerate(hulls)
            for price, gain in zip(np.diff(cost), np.diff(value), strict=True)
        ]
    steps.sort(key=lambda step: -step[0])
    owner = np.asarray([step[1] for step in steps], np.int64)
    prices, gains = (np.asarray([step[i] for step in steps], np.float64) for i in (2, 3))
    found = []
    for first in range(len(hulls) + 1):
        own = owner >= first
        base = [sum(float(hull[i][0]) for hull in hulls[first:]) for i in (0, 1)]
        found.append(
            _Rest(*(np.cumsum([b, *s[own]]) for b, s in zip(base, (prices, gains), strict=True)))
        )
    return found


def _hull(values: Floats, costs: Floats) -> tuple[Floats, Floats]:
    """Costs and values of the options on the upper hull, from the cheapest to the most valuable."""
    hull: list[int] = []
    for option in np.lexsort((-values, costs)).tolist():
        if hull and values[option] <= values[hull[-1]]:
            continue
        while len(hull) > 1 and not _falls(values, costs, hull[-2], hull[-1], option):
            hull.pop()
        hull.append(option)
    return costs[hull], values[hull]


def _falls(values: Floats, costs: Floats, a: int, b: int, c: int) -> bool:
    """Whether value per cost is less from b to c than from a to b."""
    return bool(
        (values[b] - values[a]) * (costs[c] - costs[b])
        > (values[c] - values[b]) * (costs[b] - costs[a])
    )
