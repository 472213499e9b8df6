"""Groups and pins: their names, widths, rows and reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from laws import prepared
from laws.attacks import ATTACKS
from zoo import model_of
from zoo.exports import EXPORTS
from zoo.patterns import PATTERNS

import edgec.graph.trace
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.ops import rule_for
from edgec.ops.rule import OpRule


def analysed(name: str) -> ChannelGroups:
    return channel_groups(prepared((PATTERNS | ATTACKS)[name]()))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("softmax_channels", "Softmax compares these channels with each other"),
        ("cumsum_channels", "is accumulated along this axis"),
        ("reduce_channels", "ReduceMean counts these channels"),
        ("layer_norm", "statistics are taken across these channels"),
        ("channels_into_batch", "is convolved along this axis"),
        ("gru_state_is_an_input", "starts from a state that stays whole"),
        ("unknown_operator", "edgec has no rule for operator com.microsoft::SampleOp"),
        ("if_reads_a_hidden_value", "edgec has no rule for operator If"),
        ("einsum_diagonal", "takes a diagonal"),
        ("einsum_of_three", "multiplies more than two tensors"),
        ("einsum_meets_an_input", "is multiplied with an axis that stays whole"),
        ("times_a_vector", "multiplies a vector"),
        ("output_is_hidden", "is a graph output"),
        ("tied_embedding", "is looked up by a computed index"),
        ("gather_by_a_table", "is looked up by a table"),
        ("meets_the_input", "meets a tensor that stays whole along this axis"),
        ("outer_product_flattened", "is merged with another prunable axis"),
        ("pad_channels_by_reflection", "is padded by reflect"),
        ("pooled_with_indices", "is pooled with indices, which count its channels"),
        ("size_as_a_number", "its elements are counted"),
        ("one_hot_of_channels", "ArgMax returns the index of a channel"),
        ("two_factorings", "its rows cannot all lose the same number of channels"),
        ("rotated_by_one", "is all that is left of a row or an axis"),
        ("slice_across_rows", "is kept so that no tensor loses its last channel"),
    ],
)
def test_every_pin_says_why(name: str, why: str) -> None:
    assert why in {pin.why for pin in analysed(name).pinned}


def test_a_rule_that_leaves_an_output_out_is_a_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a rule forgets is pinned, not cut along blindly."""

    def forgetful(domain: str, name: str) -> OpRule | None:
        rule = rule_for(domain, name)
        if rule is None or name != "Dropout":
            return rule
        return replace(rule, labels=lambda n: n.give(n.labels(0)))

    monkeypatch.setattr(edgec.graph.trace, "rule_for", forgetful)
    (pin, _) = analysed("dropout_mask_unread").pinned
    assert pin.why == "edgec's rule for Dropout says nothing of output 1"


def test_a_pin_names_the_node_and_the_maker() -> None:
    groups = channel_groups(
        model_of(
            "(float[1,3,4,4] x) => (y) <float[4,3,1,1] a, float[2,4,1,1] b>"
            "{ [stem] h = Conv(x, a)  [prob] s = Softmax<axis=1>(h)  [head] y = Conv(s, b) }"
        )
    )
    assert {(p.name, len(p.units), p.where) for p in groups.pinned} == {
        ("stem", 4, "prob"),
        ("head", 2, "output y"),
    }


def test_groups_know_their_widths_and_rows() -> None:
    found = {
        name: [(g.width, len(g.units), g.step, g.rows, g.depth) for g in analysed(name)]
        for name in ("conv_bn_relu", "depthwise_multiplier_2", "split_glu", "attention_separate")
    }
    assert found == {
        "conv_bn_relu": [(8, 8, 1, 1, 8)],
        "depthwise_multiplier_2": [(8, 8, 1, 1, 8)],
        "split_glu": [(12, 6, 2, 1, 6)],  # two channels of the gate's maker go together
        "attention_separate": [(12, 12, 3, 3, 4), (12, 12, 3, 3, 4)],  # q with k, and v
    }


@pytest.mark.parametrize("name", [*PATTERNS, *ATTACKS])
def test_units_are_free_or_pinned_and_never_both(name: str) -> None:
    groups = analysed(name)
    free = [unit for group in groups for unit in group.units.tolist()]
    pinned = [unit for pin in groups.pinned for unit in pin.units.tolist()]
    assert sorted(free + pinned) == list(range(1, groups.units))
    for group in groups:
        assert group.depth >= 2
        assert len(group.units) == len(group.cells) == len(group.kinds)
        assert sorted(np.unique(group.cells)) == list(range(group.rows))


def test_the_analysis_does_not_touch_the_model() -> None:
    import onnx_ir as ir

    model = prepared(EXPORTS["cnn_dynamic_batch"]())
    before = ir.to_proto(model).SerializeToString()
    channel_groups(model)
    assert ir.to_proto(model).SerializeToString() == before


def test_the_analysis_repeats_itself() -> None:
    model = prepared(EXPORTS["yolo"]())
    first, second = channel_groups(model), channel_groups(model)
    assert (first.unit_of == second.unit_of).all()
    for a, b in zip(first, second, strict=True):
        assert a.name == b.name
        assert (a.units == b.units).all()
        assert (a.kinds == b.kinds).all()


def test_given_sizes_replace_symbolic_ones() -> None:
    model = model_of(
        "(float[N,3,H,W] x) => (y) <float[4,3,1,1] a, float[2,4,1,1] b>"
        "{ h = Conv(x, a)  y = Conv(h, b) }"
    )
    groups = channel_groups(model, inputs={"x": (1, 3, 5, 7)})
    (hidden,) = (v for node in model.graph for v in node.outputs if v.name == "h")
    assert groups.facts[hidden].shape == (1, 4, 5, 7)


def test_a_group_is_shown_by_its_figures() -> None:
    (group,) = analysed("channel_shuffle").groups[:1]
    assert "array" not in f"{group} {group!r}"
    assert str(group).startswith(f"{group.name}: {group.width} channels, in steps of {group.step}")
