"""The laws can fail: known mistakes of other tools, and broken cutters, are caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import (  # type: ignore[import-untyped, unused-ignore]
    Fail,
)
from zoo.patterns import PATTERNS

import edgec.graph.channels
import edgec.graph.cut
import edgec.graph.trace
import edgec.planning
from edgec.errors import EdgecError
from edgec.graph.cost import CostModel
from edgec.graph.widths import Line, Mask
from edgec.ops import rule_for
from edgec.ops.rule import OpRule
from edgec.ops.tracing import LabelContext, Use
from edgec.patterns import Kept
from edgec.plan import Cut, Slice, Weight
from edgec.plan_weights import Reader, weights_of
from laws import obey


def channels_stay_on_axis_1(n: LabelContext) -> None:
    """One implicit channel axis, indices as they are: how others treat what they do not know."""
    ids = n.line(0, 1)
    size = n.out_shape()[1]
    n.give_line(None if ids is None else np.resize(ids, size), 1)


@pytest.mark.parametrize(
    ("op_type", "pattern"),
    [
        ("Transpose", "channel_shuffle"),
        ("Reshape", "channel_shuffle"),
        ("Flatten", "nchw_flatten"),
        ("Transpose", "nhwc_flatten"),
        ("Pad", "pad_channels"),
        ("DepthToSpace", "pixel_shuffle"),
        ("Slice", "slice_reversed"),
        ("Gather", "gather_indices"),
        ("Concat", "concat_positive_axis"),
        ("LRN", "lrn"),
        ("Softmax", "softmax_channels"),
        ("CumSum", "cumsum_channels"),
    ],
)
def test_unknown_operators_taken_for_elementwise(
    op_type: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(domain: str, name: str) -> OpRule | None:
        rule = rule_for(domain, name)
        wrong = rule is not None and name == op_type
        return replace(rule, labels=channels_stay_on_axis_1) if wrong and rule else rule

    monkeypatch.setattr(edgec.graph.trace, "rule_for", mistaken)
    with pytest.raises((AssertionError, EdgecError, Fail)):
        obey(PATTERNS[pattern]())


def test_wrong_channels_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cutter that takes the neighbours of the kept slices of what reads them."""
    right = Line.indices

    def shifted(line: Line, alive: Mask) -> np.ndarray:
        found = right(line, alive)
        return (found + 1) % line.units.shape[line.axis] if line.axis == 1 else found

    monkeypatch.setattr(Line, "indices", shifted)
    with pytest.raises(AssertionError, match="cut law"):
        obey(PATTERNS["conv_chain_biased"]())


def test_first_rows_pattern_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouped convolutions cut by the pattern of the first group."""
    right = Line.indices

    def first(line: Line, alive: Mask) -> np.ndarray:
        found = right(line, alive)
        start = tuple(slice(0, 1) if a in line.rows else slice(None) for a in range(found.ndim))
        return np.broadcast_to(found[start], found.shape)

    monkeypatch.setattr(Line, "indices", first)
    with pytest.raises(AssertionError, match="cut law"):
        obey(PATTERNS["grouped_conv"]())


@pytest.mark.parametrize("law", ["plan", "mask"])
def test_readers_forgotten(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask, or a plan, that does not know which axis of a weight reads the channels."""
    if law == "plan":
        monkeypatch.setattr(edgec.planning, "_role", lambda use, line: "out")
        message = "plan.json"
    else:
        init = Use.__init__

        def forgetful(
            self: Use, node: object, index: int, labels: object, reads: object = ()
        ) -> None:
            init(self, node, index, labels)  # type: ignore[arg-type]

        monkeypatch.setattr(Use, "__init__", forgetful)
        message = "cut law"
    with pytest.raises(AssertionError, match=message):
        obey(PATTERNS["conv_bn_relu"]())


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("conv_bn_relu", "w2"), ("grouped_conv", "w2"), ("swin", "wo"), ("patch_tokens", "cls")],
)
@pytest.mark.parametrize("wrong", ["forgets", "counts from the end"])
def test_a_plan_that_is_wrong_about_a_weight(
    wrong: str, pattern: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(model: ir.Model, cuts: Mapping[Reader, Sequence[Cut]]) -> Iterator[Weight]:
        for weight in weights_of(model, cuts):
            if weight.name != name:
                yield weight
            elif wrong != "forgets":
                slices = [replace(one, kept=_mirrored(one)) for one in weight.slices]
                yield replace(weight, slices=tuple(slices))

    monkeypatch.setattr(edgec.planning, "weights_of", mistaken)
    with pytest.raises(AssertionError, match=f"plan: weights: {name}"):
        obey(PATTERNS[pattern]())


def _mirrored(one: Slice) -> Kept:
    lists = [tuple(one.size - 1 - index for index in reversed(block)) for block in one.blocks()]
    return tuple(lists) if one.rows else lists[0]


def test_bias_of_removed_channels_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeroing what makes a channel is not removing it: its bias goes on."""
    made = rule_for("", "Conv")
    assert made is not None

    def backwards(n: LabelContext) -> None:
        made.labels(n)
        use = n.trace.uses[-2] if n.has(2) else n.trace.uses[-1]
        at = n.trace.uses.index(use)
        n.trace.uses[at] = replace(use, reads=(0,))

    def mistaken(domain: str, name: str) -> OpRule | None:
        rule = rule_for(domain, name)
        return replace(rule, labels=backwards) if rule is not None and name == "Conv" else rule

    monkeypatch.setattr(edgec.graph.trace, "rule_for", mistaken)
    with pytest.raises(AssertionError, match="cut law"):
        obey(PATTERNS["conv_chain_biased"]())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: model.tensors.pop(),
        lambda model: model.nodes.pop(),
        lambda model: [shares.__imul__(0.5) for shares in model.terms.shares],
    ],
    ids=["tensor", "node", "coefficients"],
)
def test_wrong_costs(spoil: Callable[[object], object], monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(groups: edgec.graph.channels.ChannelGroups) -> object:
        model = CostModel(groups)
        spoil(model)
        return model

    monkeypatch.setattr("laws.CostModel", spoilt)
    with pytest.raises(AssertionError, match="count law"):
        obey(PATTERNS["conv_bn_relu"]())
