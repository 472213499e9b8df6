"""The laws over networks that ONNX Runtime has optimised: as much can go as from the originals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir
import pytest
from zoo.architectures import ARCHITECTURES, ZOO
from zoo.exports import EXPORTS
from zoo.fusing import fused, fused_by_tool
from zoo.light import light

from edgec.budget import Budget
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.passes.fused import MICROSOFT
from edgec.passes.prune.prune import Prune
from laws import obey, prepared

ORIGINALS: dict[str, Callable[[], ir.Model]] = {
    "squeezenet": partial(light, "squeezenet"),
    "resnet18": EXPORTS["resnet18"],
    **ARCHITECTURES,
}
FAST = ("squeezenet", "resnet18", "bert", "gpt2", "llama")
"""Some of every kind; the others are run by `-m slow`."""

NAMES = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow, id=name)
    for name in ORIGINALS
]


def least(groups: ChannelGroups) -> float:
    """The smallest FLOPs that can be reached, as a share."""
    plan = Prune((Budget("flops", 1.0),), round_to=1).prepare(groups)
    return plan.floor.flops / plan.original.flops


HELD = dict.fromkeys(("detr", "maskformer", "deformable_detr"), 32)
"""Units that stay because of a repeated constant or a split that the optimiser puts in the way."""

TOOLS = {
    "distilbert": ("bert", {"EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu"}),
    "llama": ("gpt_neox", {"SkipSimplifiedLayerNormalization"}),
}
"""Architecture → the kind of transformer that the tool is told, and what it writes."""


def as_much_can_go(name: str, optimised: Callable[[], ir.Model], across_norms: bool) -> None:
    """The laws hold; the floor is the original's, up to operators that were fused away."""
    found = obey(optimised(), draws=1, across_norms=across_norms)
    assert found.changed > 0.01 or not found.units
    ours, theirs = (
        channel_groups(prepared(model()), across_norms=across_norms)
        for model in (optimised, ORIGINALS[name])
    )
    free = sum(len(group.units) for group in theirs)
    assert found.units >= free - HELD.get(name, 0)
    assert least(ours) == pytest.approx(least(theirs), abs=0.01)


@pytest.mark.parametrize("across_norms", [False, True], ids=["", "across_norms"])
@pytest.mark.parametrize("name", NAMES)
def test_session(name: str, across_norms: bool) -> None:
    as_much_can_go(name, lambda: fused(ORIGINALS[name]()), across_norms)


@pytest.mark.parametrize("across_norms", [False, True], ids=["", "across_norms"])
@pytest.mark.parametrize("name", TOOLS)
def test_tool(name: str, across_norms: bool) -> None:
    kind, operators = TOOLS[name]
    model = fused_by_tool(ORIGINALS[name](), kind)
    assert {node.op_type for node in model.graph if node.domain == MICROSOFT} == operators
    as_much_can_go(name, lambda: fused_by_tool(ORIGINALS[name](), kind), across_norms)


def test_every_network_of_the_zoo_is_here() -> None:
    assert set(ZOO) <= set(ORIGINALS)
    assert set(FAST) <= set(ORIGINALS)
