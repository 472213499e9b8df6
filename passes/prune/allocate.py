"""How much of each group to keep: exact allocation under budgets.

Inside a group the best kept set of a given size is the top ones by score (of every row), so a
budget is a multiple-choice knapsack: one option per group, maximal value, total cost within the
budget. The cost of a layer is bilinear (inputs × outputs). It is linearised at the current widths,
the knapsack is solved exactly, and this repeats; single steps on the true cost use up the rest.

    mckp      values are what is lost: the removed scores, in a concave form (`_value`)
    global    one threshold on all scores
    uniform   one kept ratio for all groups
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.budget import Metric
from edgec.graph.channels import ChannelGroups, Group
from edgec.graph.cost import CostModel
from edgec.passes.knapsack import knapsack

Floats = NDArray[np.float64]
_BINS = 8192
_HIGHEST = 1e100  # score: sums of them are finite


@dataclass(frozen=True)
class Options:
    """The widths a group may take; option 0 keeps everything.

    Attributes:
        group: The group.
        order: int64[rows, depth], units of each row, least important first.
        lost: int64[options], units that every row loses.
        values: float64[options], what is lost, as a negative number.
        slots: float64[options, kinds], removed units per kind of the group.
        scores: float64[rows, depth], the scores behind `order`.
    """

    group: Group
    order: NDArray[np.int64]
    lost: NDArray[np.int64]
    values: Floats
    slots: Floats
    scores: Floats

    def removed(self, option: int) -> NDArray[np.int64]:
        """The units that an option removes."""
        return self.order[:, : self.lost[option]].ravel()


def options_of(groups: ChannelGroups, scores: Floats, round_to: int) -> list[Options]:
    """The options of every group: widths on the grid, and the original width.

    Args:
        groups: The analysis.
        scores: float64[units]; higher is more important.
        round_to: Kept channels of the axis are a multiple of this.
    """
    # Of weights whose squares overflow nothing is known; whether they work, running them tells.
    scores = np.nan_to_num(scores, nan=0.0, posinf=_HIGHEST, neginf=-_HIGHEST)
    return [_options(group, scores, round_to) for group in groups]


def _options(group: Group, scores: Floats, round_to: int) -> Options:
    order, ranked = [], []
    for row in range(group.rows):
        units = group.units[group.cells == row]
        rank = np.argsort(scores[units], kind="stable")
        order.append(units[rank][: group.depth])
        ranked.append(scores[units][rank][: group.depth])
    lost = np.arange(group.depth)
    on_grid = (group.width - lost * group.step) % round_to == 0
    lost = lost[on_grid | (lost == 0)]
    sorted_scores = np.asarray(ranked)
    gone = np.concatenate([[0.0], np.cumsum(sorted_scores.sum(0))])
    whole = max(float(scores[group.units].sum()), 1e-300)
    kinds = np.unique(group.kinds)
    kind_of = dict(zip(group.units.tolist(), group.kinds.tolist(), strict=True))
    table = np.asarray([[kind_of[u] for u in row] for row in np.asarray(order).tolist()])
    slots = np.stack(
        [np.concatenate([[0], np.cumsum((table == kind).sum(0))])[lost] for kind in kinds], axis=1
    ).astype(np.float64)
    return Options(group, np.asarray(order), lost, _value(whole, gone[lost]), slots, sorted_scores)


def _value(whole: float, gone: Floats) -> Floats:
    """whole · log(share kept): the loss of single channels adds up, that of most of a group
    counts for more than its sum, since what is left has to stand in for all of it."""
    return whole * np.log(np.maximum(1 - gone / whole, 1e-9))


class Problem:
    """Options, costs and bounds; the state is one option per group."""

    def __init__(
        self, model: CostModel, options: Sequence[Options], bounds: Mapping[Metric, float]
    ) -> None:
        self.model, self.options, self.bounds = model, list(options), dict(bounds)

    def removed(self, state: Sequence[int]) -> Floats:
        """float64[slots] of a state."""
        removed = np.zeros(self.model.slots)
        for own, slots, option in zip(self.options, self.model.slots_of_group, state, strict=True):
            removed[slots] = own.slots[option]
        return removed

    def costs(self, state: Sequence[int]) -> dict[Metric, float]:
        """Exact costs of a state."""
        totals = self.model.totals(self.removed(state))
        return {metric: float(totals.get(metric)) for metric in self.bounds}

    def table(self, metric: Metric, group: int, state: Sequence[int]) -> Floats:
        """float64[options]: cost of what the group touches, others as in `state`."""
        removed = np.zeros(self.model.slots)
        for other in self.model.near(group).groups:
            removed[self.model.slots_of_group[other]] = self.options[other].slots[state[other]]
        return self.model.alternatives(metric, group, removed, self.options[group].slots)

    def fits(self, costs: Mapping[Metric, float]) -> bool:
        """Whether all bounds hold."""
        return all(costs[m] <= bound for m, bound in self.bounds.items())

    def value(self, state: Sequence[int]) -> float:
        """Sum of the options' values."""
        return float(sum(o.values[s] for o, s in zip(self.options, state, strict=True)))

    def narrower(self, metric: Metric, group: int, state: Sequence[int]) -> float | None:
        """Value lost per cost saved by the next narrower width, None if it saves nothing."""
        options, here = self.options[group], state[group]
        if here + 1 >= len(options.lost):
            return None
        table = self.table(metric, group, state)
        saved = float(table[here] - table[here + 1])
        lost = float(options.values[here] - options.values[here + 1])
        return lost / saved if saved > 0 else None

    def wider(
        self, group: int, state: Sequence[int], costs: Mapping[Metric, float]
    ) -> list[tuple[float, int, dict[Metric, float]]]:
        """(value gained per share of the budget, option, new costs) of wider options that fit."""
        options, here = self.options[group], state[group]
        if here == 0:
            return []
        added = {m: (t := self.table(m, group, state)) - t[here] for m in self.bounds}
        found = []
        for option in range(here):
            new = {m: costs[m] + added[m][option] for m in self.bounds}
            if self.fits(new):
                share = max(added[m][option] / bound for m, bound in self.bounds.items())
                gain = float(options.values[option] - options.values[here])
                found.append((gain / max(share, 1e-12), option, new))
        return sorted(found, key=lambda f: -f[0])

    @property
    def full(self) -> list[int]:
        """Everything kept."""
        return [0] * len(self.options)

    @property
    def floor(self) -> list[int]:
        """As little kept as the grid allows."""
        return [len(o.lost) - 1 for o in self.options]


def mckp(problem: Problem, rounds: int = 8) -> list[int]:
    """Knapsacks on linearised costs, then exact filling."""
    state, best = problem.full, None
    weights = dict.fromkeys(problem.bounds, 1.0)
    for _ in range(rounds):
        costs = problem.costs(state)
        combined, budget = [], 0.0
        for metric, bound in problem.bounds.items():
            weight = weights[metric] / bound
            tables = [problem.table(metric, g, state) for g in range(len(problem.options))]
            here = sum(t[s] for t, s in zip(tables, state, strict=True))
            budget += weight * (bound - costs[metric] + here)
            combined.append([weight * t for t in tables])
        total = [np.sum(parts, axis=0) for parts in zip(*combined, strict=True)]
        found = knapsack([o.values for o in problem.options], total, budget, _BINS)
        if found is None:
            found = problem.floor
        costs = problem.costs(found)
        for metric, bound in problem.bounds.items():  # a bound that is broken weighs more
            if len(problem.bounds) > 1:
                weights[metric] *= min(max(costs[metric] / bound, 0.5), 2.0)
        candidate = fill(problem, shrink(problem, found))
        if best is None or problem.value(candidate) > problem.value(best) + 1e-12:
            best = candidate
        if found == state:
            break
        state = found
    assert best is not None
    return best


def shrink(problem: Problem, state: Sequence[int]) -> list[int]:
    """Narrows, cheapest loss per saved cost first, until all bounds hold."""
    state = list(state)
    costs = problem.costs(state)
    while not problem.fits(costs):
        metric = max(problem.bounds, key=lambda m: costs[m] / problem.bounds[m])
        ranked = sorted(
            (rate, group)
            for group in range(len(problem.options))
            if (rate := problem.narrower(metric, group, state)) is not None
        )
        if not ranked:
            return problem.floor
        for _, group in ranked[: max(1, len(ranked) // 8)]:  # rates age as others move
            before = {m: problem.table(m, group, state)[state[group]] for m in costs}
            state[group] += 1
            after = {m: problem.table(m, group, state)[state[group]] for m in costs}
            costs = {m: costs[m] - before[m] + after[m] for m in costs}
            if problem.fits(costs):
                break
    return state


def fill(problem: Problem, state: Sequence[int]) -> list[int]:
    """Widens single groups, most value per cost first, while all bounds hold.

    Afterwards no group can take its next width: what is left of a budget is less than one step.
    """
    state = list(state)
    costs = problem.costs(state)
    moved = True
    while moved:
        moved = False
        ranked = sorted(
            (
                (-rate, group)
                for group in range(len(problem.options))
                for rate, _, _ in problem.wider(group, state, costs)[:1]
            ),
        )
        for _, group in ranked:  # rates age as others move; what fits is decided afresh
            for _, option, new_costs in problem.wider(group, state, costs)[:1]:
                state[group], costs, moved = option, new_costs, True
    return state


def uniform(problem: Problem) -> list[int]:
    """One kept ratio for all groups: the largest that fits, then exact filling."""

    def at(ratio: float) -> list[int]:
        state = []
        for options in problem.options:
            kept = 1 - options.lost * options.group.step / options.group.width
            state.append(int(np.argmin(np.abs(kept - ratio))))
        return state

    return fill(problem, shrink(problem, _largest(problem, at)))


def global_threshold(problem: Problem) -> list[int]:
    """One threshold on all scores: the lowest that fits, then exact filling."""
    thresholds = np.unique(np.concatenate([o.scores.ravel() for o in problem.options]))

    def at(kept: float) -> list[int]:
        limit = thresholds[min(int((1 - kept) * (len(thresholds) - 1)), len(thresholds) - 1)]
        state = []
        for options in problem.options:
            below = int((options.scores < limit).sum(1).min())
            state.append(int(np.flatnonzero(options.lost <= below)[-1]))
        return state

    return fill(problem, shrink(problem, _largest(problem, at)))


def _largest(problem: Problem, at: Callable[[float], list[int]]) -> list[int]:
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if problem.fits(problem.costs(at(middle))):
            low = middle
        else:
            high = middle
    return at(low)


ALLOCATORS: Mapping[str, Callable[[Problem], list[int]]] = {
    "mckp": mckp,
    "global": global_threshold,
    "uniform": uniform,
}
