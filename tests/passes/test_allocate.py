"""The allocator: budgets hold, and nothing is left that would fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from zoo.patterns import PATTERNS
from zoo.random_graphs import random_model

from edgec.budget import Metric
from edgec.graph.channels import channel_groups
from edgec.graph.cost import CostModel, count
from edgec.graph.cut import remove_channels
from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
from edgec.passes.base import Context
from edgec.passes.fold import Fold
from edgec.passes.prune.allocate import ALLOCATORS, Problem, options_of


def problem_of(
    name: str | int, ratios: Mapping[Metric, float], round_to: int, seed: int = 0
) -> Problem:
    """A problem with random scores on a pattern or a random graph."""
    model = PATTERNS[name]() if isinstance(name, str) else random_model(name)
    groups = channel_groups(Fold()(model, Context()))
    cost = CostModel(groups)
    original = count(groups.model, groups.facts)
    scores = np.random.default_rng(seed).random(groups.units)
    bounds = {metric: ratio * original.get(metric) for metric, ratio in ratios.items()}
    return Problem(cost, options_of(groups, scores, round_to), bounds)


_NETWORKS: list[str | int] = [
    "c2f",
    "densenet_concat_chain",
    "residual_chain",
    "grouped_conv",
    "split_unequal",
    3,
    11,
    19,
]


@pytest.mark.parametrize("allocator", list(ALLOCATORS))
@pytest.mark.parametrize("network", _NETWORKS)
@pytest.mark.parametrize(
    "ratios", [{"flops": 0.6}, {"params": 0.5}, {"flops": 0.7, "params": 0.6}], ids=str
)
def test_budgets_hold_and_are_used_up(
    allocator: str, network: str | int, ratios: dict[Metric, float]
) -> None:
    problem = problem_of(network, ratios, round_to=1)
    assert problem.fits(problem.costs(problem.floor))
    state = ALLOCATORS[allocator](problem)
    costs = problem.costs(state)
    assert problem.fits(costs)
    for group in range(len(problem.options)):
        assert problem.wider(group, state, costs) == []


@pytest.mark.parametrize("network", _NETWORKS)
def test_predicted_costs_are_those_of_the_cut_model(network: str | int) -> None:
    problem = problem_of(network, {"flops": 0.7}, round_to=1, seed=1)
    state = [int(np.random.default_rng(2).integers(len(o.lost))) for o in problem.options]
    groups = problem.model.groups
    removed = [o.removed(s) for o, s in zip(problem.options, state, strict=True)]
    cut = remove_channels(groups, np.concatenate([np.zeros(0, np.int64), *removed]))
    counted = count(cut.model, facts_of(cut.model, input_shapes(groups.model)))
    predicted = problem.model.totals(problem.removed(state))
    assert predicted == type(predicted)(
        counted.flops, counted.macs, counted.params, counted.size, predicted.uncounted
    )


@pytest.mark.parametrize("round_to", [1, 2, 4, 8])
def test_widths_lie_on_the_grid(round_to: int) -> None:
    for network in _NETWORKS:
        for options in problem_of(network, {"flops": 0.5}, round_to).options:
            group = options.group
            kept = group.width - options.lost * group.step
            assert options.lost[0] == 0
            assert (kept[1:] % round_to == 0).all()
            assert (kept > 0).all()


def test_the_least_important_of_every_row_go_first() -> None:
    options = problem_of("grouped_conv", {"flops": 0.5}, 1).options
    for own in options:
        assert (np.diff(own.scores, axis=1) >= 0).all()
        for lost in range(len(own.lost)):
            removed = own.removed(lost)
            rows = own.group.cells[np.isin(own.group.units, removed)]
            assert (
                np.bincount(rows, minlength=own.group.rows).tolist()
                == [int(own.lost[lost])] * own.group.rows
            )
