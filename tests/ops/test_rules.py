"""Every operator record: its example is legal, runs, obeys the laws, and costs what it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from laws import Found, obey
from laws.attacks import ATTACKS
from onnxruntime.capi.onnxruntime_pybind11_state import Fail  # type: ignore[import-untyped, unused-ignore]
from zoo import check, feeds_of, model_of, run
from zoo.patterns import PATTERNS

import edgec.graph.cut
from edgec.budget import METRICS
from edgec.errors import EdgecError
from edgec.graph.channels import channel_groups
from edgec.graph.cost import CostModel, node_cost
from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
from edgec.ops import RULES, rule_for
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule
from edgec.ops.view import Cost
from edgec.passes.prune.allocate import options_of

# Groups, units and moved units of the examples that differ from `USUAL`.
USUAL = (1, 6, 6)
FOUND = {
    "Conv": (2, 14, 14),
    "ConvTranspose": (2, 14, 14),
    "Gemm": (2, 18, 18),
    "MatMul": (2, 24, 24),
    "Einsum": (2, 24, 24),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 12, 12)),
    "DequantizeLinear": (2, 12, 12),
    "GroupNormalization": (1, 3, 3),  # whole groups
    "LRN": (1, 6, 0),  # neighbours may not change places
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), (1, 8, 8)),
    **dict.fromkeys(("Unsqueeze", "ConstantOfShape", "Range"), (1, 8, 8)),
    **dict.fromkeys(
        ("AffineGrid", "STFT", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"),
        (1, 8, 8),
    ),
    **dict.fromkeys(  # what these look at stays whole
        (
            "MaxUnpool",
            "EyeLike",
            "NonZero",
            "NonMaxSuppression",
            "Unique",
            "RandomNormalLike",
            "RandomUniformLike",
            "Bernoulli",
            "Multinomial",
        ),
        (0, 0, 0),
    ),
    "DepthToSpace": (1, 3, 3),
    "Gather": (2, 5, 5),
    "Pad": (3, 13, 13),
    "Slice": (2, 6, 6),
    "Split": (2, 6, 6),
    "Attention": (2, 27, 27),  # pairs of q and k, channels of v
    "com.microsoft::Attention": (3, 35, 35),  # and what its projection reads
    "com.microsoft::MultiHeadAttention": (2, 27, 27),
    "com.microsoft::GroupQueryAttention": (1, 3, 3),  # whole heads
    "com.microsoft::SkipLayerNormalization": (0, 0, 0),  # statistics across channels
    "com.microsoft::SkipSimplifiedLayerNormalization": (0, 0, 0),
    "com.microsoft::EmbedLayerNormalization": (0, 0, 0),
    "com.microsoft::FusedMatMul": (1, 8, 8),
    "DynamicQuantizeLinear": (0, 0, 0),  # its scale is that of all channels
    "com.microsoft::MatMulNBits": (0, 0, 0),  # its weight is packed
    **dict.fromkeys(("RotaryEmbedding", "com.microsoft::RotaryEmbedding"), (1, 4, 4)),
}

# Pins of the examples, where there are more than the output and, without a group, the operator.
PINS = {"Gather": 2, "com.microsoft::EmbedLayerNormalization": 5}  # and the rows of three tables

# The cost of the example's node by hand: multiply-adds, other operations.
BY_HAND = {
    "Conv": (2 * 8 * 8 * 8 * 3, 0),  # outputs [2,8,8,8], each over 3 of 6 inputs, 1x1
    "ConvTranspose": (8 * 6 * 6 * 3 * 2 * 2, 0),  # inputs [1,8,6,6], each to 3 outputs, 2x2
    "Gemm": (5 * 10 * 8, 0),
    "MatMul": (2 * 3 * 5 * 5 * 4, 0),  # 2 samples, 3 heads, queries, keys, width
    # 5 steps of 2 samples in 2 directions: gates times width 6 from 4 inputs and 6 units
    "Einsum": (2 * 3 * 5 * 5 * 4, 0),
    "LSTM": (20 * 24 * 10, 20 * 6 * (15 + 6)),
    "GRU": (20 * 18 * 10, 20 * 6 * 12),
    "RNN": (20 * 6 * 10, 20 * 6),
    "BatchNormalization": (0, 2 * 768),
    "LRN": (0, (1 + 2 + 4) * 768),  # square, sum of 3, then scale, bias, power, division
    "Relu": (0, 768),
    "Add": (0, 768),
    "Sum": (0, 768),
    "Clip": (0, 2 * 768),
    "PRelu": (0, 2 * 768),
    "MaxPool": (0, 2 * 6 * 7 * 7 * 4),
    "AveragePool": (0, 2 * 6 * 7 * 7 * 4),
    "GlobalAveragePool": (0, 768),
    "ReduceMean": (0, 768),
    "Resize": (0, 4 * 6 * 8 * 8),
    "Softmax": (0, 5 * 5 * 8),
    # 2 samples, 3 heads, queries, keys: scores over 4 and values of 5, each score scaled and
    # compared; before it 39 channels projected from 8 and shifted
    "Attention": (150 * (4 + 5), 150 * (1 + 5)),
    "com.microsoft::Attention": (150 * (4 + 5) + 10 * 39 * 8, 150 * (1 + 5) + 10 * 39),
    "com.microsoft::MultiHeadAttention": (150 * (4 + 5), 150 * (1 + 5) + 10 * 39),
    "com.microsoft::GroupQueryAttention": (300 * (8 + 8), 300 * (1 + 5)),
    "RotaryEmbedding": (0, 3 * 2 * 5 * 24),
    "com.microsoft::MatMulNBits": (5 * 8 * 8, 0),
    **dict.fromkeys(
        ("Identity", "Cast", "Dropout", "Reshape", "Transpose", "Concat", "Split", "Slice",
         "Gather", "Pad", "Expand", "Tile", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace",
         "SpaceToDepth", "Shape", "Constant", "ReverseSequence"),
        (0, 0),
    ),
}  # fmt: skip


def example(rule: OpRule) -> ir.Model:
    model: ir.Model = model_of(rule.example)
    return model


def named(domain: str, op_type: str) -> str:
    """The operator as records call it."""
    return f"{domain}::{op_type}" if domain else op_type


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_example_is_legal_and_alive(rule: OpRule) -> None:
    model = example(rule)
    assert rule.op_type in [named(node.domain, node.op_type) for node in model.graph]
    check(model)
    (here,), (there,) = run(model, feeds_of(model, 0)), run(model, feeds_of(model, 1))
    assert np.isfinite(here).all()
    assert np.abs(here - there).max() > 1e-3


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_example_obeys_the_laws(rule: OpRule) -> None:
    found = obey(example(rule))
    groups, units, moved = FOUND.get(rule.op_type, USUAL)
    assert found == Found(groups, units, found.pins, moved, found.changed)
    assert found.pins == PINS.get(rule.op_type, 1 if groups else 2)
    assert (found.changed > 0.05) == (groups > 0)


def costs(model: ir.Model) -> list[tuple[str, Cost | None]]:
    facts = facts_of(model, dict(input_shapes(model)))
    return [
        (
            named(node.domain, node.op_type),
            node_cost(
                node,
                [None if v is None else facts[v] for v in node.inputs],
                [facts[v] for v in node.outputs],
            ),
        )
        for node in model.graph
    ]


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_costs_are_known_and_not_negative(rule: OpRule) -> None:
    for _, cost in costs(example(rule)):
        assert cost is not None
        assert cost.macs >= 0
        assert cost.other >= 0
        assert cost.flops == 2 * cost.macs + cost.other


@pytest.mark.parametrize("op_type", BY_HAND)
def test_cost_by_hand(op_type: str) -> None:
    assert Cost(*BY_HAND[op_type]) in [
        c for op, c in costs(example(RULES[op_type])) if op == op_type
    ]


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_costs_of_many_widths_at_once_are_those_of_each(rule: OpRule) -> None:
    """`alternatives` evaluates the same formulas on arrays of sizes."""
    groups = channel_groups(example(rule))
    model = CostModel(groups)
    for number, options in enumerate(options_of(groups, np.zeros(groups.units), 1)):
        for metric in METRICS:
            table = model.alternatives(metric, number, np.zeros(model.slots), options.slots)
            exact = []
            for removed in options.slots:
                state = np.zeros(model.slots)
                state[model.slots_of_group[number]] = removed
                exact.append(model.totals(state).get(metric))
            np.testing.assert_allclose(table - table[0], np.asarray(exact) - exact[0])


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_rule_is_of_an_operator_of_onnx(rule: OpRule) -> None:
    """Or it says itself which shapes the operator makes."""
    domain, _, op_type = rule.op_type.rpartition("::")
    assert rule_for(domain, op_type) is rule
    assert rule_for("com.example", op_type) is None
    if domain:
        assert domain == "com.microsoft"
    else:
        assert rule_for("ai.onnx", op_type) is rule
    assert rule.infer is not None or (not domain and onnx.defs.has(op_type))


def _leave(n: RepairContext) -> None:
    """A repair that repairs nothing."""


REPAIRED = [r.op_type for r in RULES.values() if r.repair is not OpRule.repair]
# Models on which the repair matters, where it does not on the example: a convolution that loses
# groups, and the shape of a tensor with a symbolic batch (other shapes are folded).
OTHERS = {
    "Conv": PATTERNS["depthwise"],
    "ConvTranspose": PATTERNS["conv_transpose_depthwise"],
    "Shape": ATTACKS["shape_as_a_number"],
}


@pytest.mark.parametrize("op_type", REPAIRED)
def test_every_repair_is_needed(op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a law breaks, or the cutter or the runtime notices."""

    def without(domain: str, name: str) -> OpRule | None:
        rule = rule_for(domain, name)
        return rule if rule is None or rule.op_type != op_type else replace(rule, repair=_leave)

    monkeypatch.setattr(edgec.graph.cut, "rule_for", without)
    with pytest.raises((AssertionError, EdgecError, Fail)):
        obey(OTHERS[op_type]() if op_type in OTHERS else example(RULES[op_type]))


def test_the_operators_that_name_channel_counts() -> None:
    assert REPAIRED == [
        "Conv", "DeformConv", "ConvTranspose", "LSTM", "GRU", "RNN", "Attention",
        "com.microsoft::Attention", "com.microsoft::MultiHeadAttention", "GroupNormalization",
        "LRN", "Resize", "CenterCropPad", "Reshape", "Expand", "Shape", "ConstantOfShape", "Split",
        "Slice", "Pad", "Gather",
    ]  # fmt: skip
