"""What the cutter refuses, what it leaves alone, what it writes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from laws import draw, obey, prepared
from zoo import model_of
from zoo.patterns import PATTERNS

import edgec.graph.cut
from edgec.errors import UsageError
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.graph.cut import CutError, remove_channels
from edgec.graph.names import Names
from edgec.ops import rule_for
from edgec.ops.rule import OpRule


def analysed(name: str) -> ChannelGroups:
    return channel_groups(prepared(PATTERNS[name]()))


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {
        name: value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


def test_refuses_pinned_units() -> None:
    groups = analysed("conv_bn_relu")
    (pinned,) = groups.pinned
    with pytest.raises(UsageError, match=f"unit {pinned.units[0]}: is pinned"):
        remove_channels(groups, pinned.units[:1])


def test_refuses_the_fixed_unit() -> None:
    with pytest.raises(UsageError, match="unit 0: is pinned"):
        remove_channels(analysed("conv_bn_relu"), [0])


@pytest.mark.parametrize("unit", [-1, 1000])
def test_refuses_units_that_do_not_exist(unit: int) -> None:
    with pytest.raises(UsageError, match=f"unit {unit}: does not exist"):
        remove_channels(analysed("conv_bn_relu"), [1, unit])


def test_refuses_to_remove_all() -> None:
    groups = analysed("conv_bn_relu")
    with pytest.raises(UsageError, match="would lose all its channels"):
        remove_channels(groups, groups.groups[0].units)


def test_refuses_unequal_rows() -> None:
    groups = analysed("grouped_conv")
    group = next(g for g in groups if g.rows == 2)
    with pytest.raises(UsageError, match=r"its 2 rows would lose \[1, 0\] channels"):
        remove_channels(groups, group.units[group.cells == 0][:1])


def test_takes_the_slices_and_leaves_the_original_alone() -> None:
    groups = analysed("conv_bn_relu")
    before = {name: array.copy() for name, array in weights(groups.model).items()}
    kept = [0, 2, 3, 6]
    removed = [unit for i, unit in enumerate(groups.groups[0].units) if i not in kept]
    after = weights(remove_channels(groups, removed).model)
    assert after.keys() == before.keys()
    np.testing.assert_array_equal(after["w1"], before["w1"][kept])
    np.testing.assert_array_equal(after["w2"], before["w2"][:, kept])
    for name in ("s", "b", "mean", "var"):
        np.testing.assert_array_equal(after[name], before[name][kept])
    for name, array in weights(groups.model).items():
        np.testing.assert_array_equal(array, before[name])


def test_the_same_cut_gives_the_same_bytes() -> None:
    made = []
    for _ in range(2):
        groups = analysed("channel_shuffle_grouped")
        cut = remove_channels(groups, draw(groups, np.random.default_rng(3)))
        made.append(ir.to_proto(cut.model).SerializeToString())
    assert made[0] == made[1]


def test_every_group_keeps_its_own_channels() -> None:
    """A grouped convolution's weight, cut by another pattern in each group."""
    groups = analysed("grouped_conv")
    group = next(g for g in groups if g.rows == 2 and g.width == 8)
    first, second = (group.units[group.cells == row] for row in (0, 1))
    cut = remove_channels(groups, [first[0], second[3]])
    old, new = weights(groups.model)["w2"], weights(cut.model)["w2"]
    np.testing.assert_array_equal(new[:6], old[:6][:, [1, 2, 3]])
    np.testing.assert_array_equal(new[6:], old[6:][:, [0, 1, 2]])


def test_a_weight_that_readers_cut_differently_is_copied() -> None:
    groups = channel_groups(
        model_of(
            "(float[1,3,4,4] x) => (y) <float[4,3,1,1] a, float[4,4,1,1] b, float[4] bias,"
            " float[2,4,1,1] c> { p = Conv(x, a, bias)  r = Relu(p)  q = Conv(r, b, bias)"
            "  s = Relu(q)  y = Conv(s, c) }"
        )
    )
    first, second = (group.units for group in groups)
    cut = remove_channels(groups, [first[0], second[3]])
    bias = weights(groups.model)["bias"]
    found = {
        node.inputs[0].name: node.inputs[2].const_value.numpy()  # type: ignore[union-attr]
        for node in cut.model.graph
        if node.op_type == "Conv" and len(node.inputs) == 3
    }
    np.testing.assert_array_equal(found["x"], bias[1:])
    np.testing.assert_array_equal(found["r"], bias[:3])
    only = remove_channels(groups, [first[0]])
    assert sorted(weights(only.model)) == ["a", "b", "bias", "bias.1", "c"]


def test_declared_shapes_are_restated_and_symbolic_dims_stay() -> None:
    text = (
        "(float[N,3,4,4] x) => (y) <float[4,3,1,1] a, float[2,4,1,1] b>"
        "{ h = Conv(x, a)  r = Relu(h)  y = Conv(r, b) }"
    )
    model = model_of(text)
    for node in model.graph:
        node.outputs[0].shape = ir.Shape(["N", 4 if node.op_type == "Relu" else None, 4, 4])
    model.graph.outputs[0].shape = ir.Shape(["N", 2, 4, 4])
    groups = channel_groups(model)
    cut = remove_channels(groups, groups.groups[0].units[:3])
    shapes = {v.name: v.shape for node in cut.model.graph for v in node.outputs}
    assert shapes["r"] == ir.Shape(["N", 1, 4, 4])
    assert shapes["y"] == ir.Shape(["N", 2, 4, 4])


def test_a_rule_that_predicts_another_shape_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reshape without its repair: the cutter compares shapes with ONNX's own inference."""
    from dataclasses import replace

    def without(domain: str, name: str) -> OpRule | None:
        rule = rule_for(domain, name)
        if rule is None or name != "Reshape":
            return rule
        return replace(rule, repair=lambda n: None)

    monkeypatch.setattr(edgec.graph.cut, "rule_for", without)
    groups = analysed("channel_shuffle")
    with pytest.raises(CutError) as error:
        remove_channels(groups, groups.groups[0].units[:1])
    assert error.value.exit_code == 7
    assert "rule for Reshape, please report the model" in error.value.remedy


def test_a_cut_model_can_be_cut_again() -> None:
    """New values never take the names of those that an earlier cut made."""
    model = prepared(
        model_of(
            "(float[2,3,4,4] x) => (y) <float[6,3,1,1] a, float[6,6,1,1] b, float[4,6,1,1] c>"
            " { h = Conv(x, a)  n = LRN<size=3>(h)  i = Conv(n, b)  m = LRN<size=3>(i)"
            "  y = Conv(m, c) }"
        )
    )
    for number in (0, -1):  # each cut spells out one of the LRNs
        groups = channel_groups(model)
        model = remove_channels(groups, groups.groups[number].units[:2]).model
    assert [node.op_type for node in model.graph].count("LRN") == 0
    obey(model, draws=1)


def test_new_names_are_new() -> None:
    model = model_of(
        "(float[2,3] x, bool c) => (y) <float[3] w> { h = Add(x, w)  y = If(c) <"
        "then_branch = a () => (float[2,3] p) { q = Relu(h)  p = Neg(q) },"
        "else_branch = b () => (float[2,3] r) { r = Relu(h) }> }"
    )
    names = Names(model.graph)
    assert [names.fresh(n) for n in ("z", "z", "x", "w", "q", "h", "p")] == [
        "z", "z.1", "x.1", "w.1", "q.1", "h.1", "p.1",
    ]  # fmt: skip
