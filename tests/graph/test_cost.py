"""Counting, and predicting what will be counted."""

from __future__ import annotations

import numpy as np
import pytest
from laws import draw, prepared
from laws.attacks import ATTACKS
from zoo import model_of
from zoo.patterns import PATTERNS
from zoo.random_graphs import random_model

from edgec.budget import METRICS
from edgec.graph.channels import channel_groups
from edgec.graph.cost import CostModel, Totals, count
from edgec.graph.cut import remove_channels
from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
from edgec.passes.prune.allocate import options_of


def counted(text: str) -> Totals:
    model = model_of(text)
    return count(model, facts_of(model, dict(input_shapes(model))))


def test_a_network_by_hand() -> None:
    found = counted(
        "(float[2,3,8,8] x) => (y) <float[6,3,3,3] w1, float[6] b1, float[5,6] w2, float[5] b2>"
        "{ h = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1)  r = Relu(h)"
        "  p = GlobalAveragePool(r)  f = Flatten(p)  y = Gemm<transB=1>(f, w2, b2) }"
    )
    macs = 2 * 6 * 4 * 4 * 27 + 2 * 5 * 6
    others = 2 * 6 * 4 * 4 * 2  # Relu, mean
    params = 6 * 27 + 6 + 30 + 5
    assert found == Totals(2 * macs + others, macs, params, 4 * params)


def test_scalars_and_shapes_are_no_parameters() -> None:
    found = counted(
        "(float[2,8] x) => (y) <float k = {2.0}, float[1] c = {1.0}, int64[2] s = {4, 4}>"
        "{ h = Mul(x, k)  g = Add(h, c)  y = Reshape(g, s) }"
    )
    assert found == Totals(32, 0, 1, 4)


def test_arithmetic_on_shapes_is_free() -> None:
    found = counted(
        "(float[N,8] x) => (y) <int64[1] two = {2}, int64[1] rest = {-1}, int64[1] i0 = {0},"
        " int64[1] i1 = {1}> { s = Shape(x)  n = Slice(s, i0, i1)  m = Mul(n, two)"
        "  t = Concat<axis=0>(m, rest)  y = Reshape(x, t) }"
    )
    assert found == Totals(0, 0, 0, 0)


def test_operators_without_a_rule_are_named() -> None:
    found = counted(
        "(float[2,8] x) => (y) <int64[2] t = {0, 1}>"
        '{ h = Relu(x)  y = NegativeLogLikelihoodLoss<reduction = "none">(h, t) }'
    )
    assert found == Totals(16, 0, 0, 0, ("NegativeLogLikelihoodLoss",))


def test_one_weight_for_two_is_counted_once_until_they_differ() -> None:
    text = (
        "(float[1,3,4,4] x) => (y) <float[4,3,1,1] a, float[4,4,1,1] b, float[4] bias,"
        " float[2,4,1,1] c> { p = Conv(x, a, bias)  r = Relu(p)  q = Conv(r, b, bias)"
        "  s = Relu(q)  y = Conv(s, c) }"
    )
    groups = channel_groups(model_of(text))
    model = CostModel(groups)
    full = 12 + 16 + 4 + 8
    first, second = (group.units for group in groups)

    def params(*removed: int) -> int:
        alive = np.ones(groups.units, bool)
        alive[list(removed)] = False
        return model.totals(model.removed(alive)).params

    assert params() == full
    assert params(first[0]) == full - 3 - 4 + 3  # and a bias of three
    assert params(first[0], second[0]) == 9 + 9 + 3 + 3 + 6


@pytest.mark.parametrize(
    "name", ["grouped_conv", "c2f", "densenet_concat_chain", "attention_separate",
             "shared_conv_two_levels", "bias_of_many", "heads_joined_by_rows", "lrn"],
)  # fmt: skip
def test_alternatives_are_differences_of_totals(name: str) -> None:
    """For a group's options, with other groups already narrowed."""
    groups = channel_groups(prepared((PATTERNS | ATTACKS)[name]()))
    model = CostModel(groups)
    rng = np.random.default_rng(0)
    alive = np.ones(groups.units, bool)
    alive[draw(groups, rng)] = False
    state = model.removed(alive)
    for number, options in enumerate(options_of(groups, np.zeros(groups.units), 1)):
        slots = model.slots_of_group[number]
        for metric in METRICS:
            table = model.alternatives(metric, number, state, options.slots)
            exact = []
            for removed in options.slots:
                now = state.copy()
                now[slots] = removed
                exact.append(model.totals(now).get(metric))
            np.testing.assert_allclose(table - table[0], np.asarray(exact) - exact[0], atol=1e-6)


def test_predictions_for_a_cut_are_exact_in_every_row() -> None:
    for seed in range(30):
        groups = channel_groups(prepared(random_model(seed)))
        model = CostModel(groups)
        cut = remove_channels(groups, draw(groups, np.random.default_rng(seed)))
        found = count(cut.model, facts_of(cut.model, dict(input_shapes(groups.model))))
        assert model.totals(model.removed(cut.alive)) == found
