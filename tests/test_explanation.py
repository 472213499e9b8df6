"""`explain`: the path of ties by node name, the pins, the rows; and wrong names."""

from __future__ import annotations

import json

import onnx_ir as ir
import pytest
from zoo import model_of
from zoo.patterns import PATTERNS

import edgec
from edgec.errors import UsageError
from edgec.explanation import Step, explain
from edgec.inspection import channel_groups
from edgec.passes.base import Context
from edgec.passes.names import NameNodes

RESIDUAL = """
(float[1,3,6,6] x) => (y)
<float[8,3,3,3] w0, float[8,8,3,3] w1, float[8,8,3,3] w2, float[4,8,1,1] w3>
{
  a = Conv<pads = [1,1,1,1]>(x, w0)
  b = Conv<pads = [1,1,1,1]>(a, w1)
  c = Add(a, b)
  d = Conv<pads = [1,1,1,1]>(c, w2)
  e = Add(c, d)
  y = Conv(e, w3)
}
"""
CHUNKS = """
(float[1,3,6,6] x) => (y)
<float[8,3,3,3] w1, float[4,4,1,1] w2>
{
  a = Conv<pads = [1,1,1,1]>(x, w1)
  l, r = Split<axis = 1, num_outputs = 2>(a)
  m = Mul(l, r)
  y = Conv(m, w2)
}
"""


def named(text: str, names: str) -> ir.Model:
    """The model of a text, its nodes named in order."""
    model = model_of(text)
    for node, name in zip(model.graph, names.split(), strict=True):
        node.name = name
    return model


@pytest.fixture(scope="module")
def residual() -> ir.Model:
    return named(RESIDUAL, "stem left add1 right add2 head")


def test_the_path_goes_through_the_nodes_that_tie(residual: ir.Model) -> None:
    found = explain(residual, "stem:3")
    assert found.steps == (Step("add1", "left", 3), Step("add2", "right", 3))
    assert found.free
    assert (found.pins, found.row) == ((), None)
    assert found.group == "stem"


@pytest.mark.parametrize("start", ["stem", "left", "right"])
def test_it_does_not_matter_where_one_starts(start: str, residual: ir.Model) -> None:
    found = explain(residual, f"{start}:5")
    assert {start} | {step.name for step in found.steps} == {"stem", "left", "right"}
    assert {step.index for step in found.steps} == {5}
    assert found.group == "stem"


def test_what_a_channel_goes_with_is_what_a_cut_takes(residual: ir.Model) -> None:
    """The explained channels, and no others, are gone when the unit is removed."""
    groups = channel_groups(residual)
    found = explain(groups, "left:2")
    atoms = {b.name: b for b in groups.trace.atoms.batches}
    unit = int(groups.unit_of[atoms["left"].start + 2])
    cut = edgec.remove_channels(groups, [unit])
    makers = {"left", *(step.name for step in found.steps)}
    for node in cut.model.graph:
        if node.op_type == "Conv" and node.inputs[1] is not None:
            shape = node.inputs[1].shape
            assert shape is not None
            assert (shape[0] == 7) == (node.name in makers)


def test_a_pin_says_where_and_why(residual: ir.Model) -> None:
    found = explain(residual, "head:1")
    assert not found.free
    assert found.pins == ("is a graph output, at output y",)
    assert found.group == ""


def test_a_channel_can_go_with_another_of_its_own_layer() -> None:
    found = explain(named(CHUNKS, "conv split mul head"), "conv:1")
    assert found.steps == (Step("mul", "conv", 5),)


def test_a_node_that_makes_channels_twice_counts_them_on() -> None:
    model = NameNodes()(PATTERNS["pad_channels"](), Context())
    channels = [explain(channel_groups(model), f"p:{index}").steps[0].index for index in range(4)]
    assert channels == [0, 1, 6, 7]


def test_an_operator_without_a_rule_pins() -> None:
    model = named("(float[1,8] x) => (y) <float[8,6] w> { a = MatMul(x, w) y = Relu(a) }", "fc act")
    model.graph.node(1).op_type = "Fancy"
    (pin, *_) = explain(model, "fc:0").pins
    assert pin == "edgec has no rule for operator Fancy, at act"


@pytest.mark.parametrize(
    ("channel", "fact", "remedy"),
    [
        ("stem", "is not NODE:INDEX", "for example conv1:17"),
        ("stem:", "is not NODE:INDEX", "for example conv1:17"),
        (":1", "is not NODE:INDEX", "for example conv1:17"),
        ("stem:-1", "is not NODE:INDEX", "for example conv1:17"),
        ("stem:1.0", "is not NODE:INDEX", "for example conv1:17"),
        ("stem:²", "is not NODE:INDEX", "for example conv1:17"),
        ("stem:٣", "is not NODE:INDEX", "for example conv1:17"),
        ("stem:8", "'stem' has 8 channels", "channels are counted from 0 to 7"),
        ("stam:1", "makes no channels", "did you mean stem"),
        ("add1:1", "makes no channels", "did you mean"),
        ("zzz:1", "makes no channels", "for example stem, left, right"),
    ],
)
def test_wrong_channels(channel: str, fact: str, remedy: str, residual: ir.Model) -> None:
    with pytest.raises(UsageError) as raised:
        explain(residual, channel)
    assert raised.value.fact == fact
    assert raised.value.remedy.startswith(remedy)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_channel_of_every_pattern_can_be_explained(pattern: str) -> None:
    """What is in a group is free and says so; what is pinned has a reason; steps lead back."""
    model = NameNodes()(PATTERNS[pattern](), Context())
    groups = channel_groups(model)
    makers: dict[str, list[int]] = {}
    for batch in groups.trace.atoms.batches:
        makers.setdefault(batch.name, []).extend(range(batch.start, batch.stop))
    for name, atoms in makers.items():
        for index in {0, len(atoms) - 1}:
            found = explain(groups, f"{name}:{index}")
            unit = groups.unit_of[atoms[index]]
            assert found.free != bool(found.pins)
            assert bool(found.group) == any(unit in group.units for group in groups)
            assert json.loads(json.dumps(found.to_json()))["channel"] == f"{name}:{index}"
            for step in found.steps[:3]:
                back = explain(groups, f"{step.name}:{step.index}")
                assert (name, index) in {(s.name, s.index) for s in back.steps}


@pytest.mark.parametrize(
    ("layers", "channels"),
    [
        ("[two] t = Gemm(s, b)  [three] y = MatMul(t, c)", {"two": 5, "three": 3}),
        ("[two] t = Gemm<transB = 1>(s, d)  [three] y = MatMul(t, c)", {"two": 5, "three": 3}),
        ("[two] t = Conv(s, e)  [three] y = ConvTranspose(t, f)", {"two": 6, "three": 9}),
    ],
)
def test_channels_behind_an_unknown_shape_are_listed(layers: str, channels: dict[str, int]) -> None:
    """What a layer makes is in the groups or in the pins, also where edgec cannot follow."""
    model = model_of(
        '<ir_version: 10, opset_import: ["" : 20, "house" : 1]> '
        "g (float[6,4] x) => (float[M,3] y) <float[4,8] a, float[8,5] b, float[5,3] c,"
        " float[5,8] d, float[6,2,1,1] e, float[6,3,1,1] f>"
        "{ [one] h = MatMul(x, a)  s = house.Fancy(h)  LAYERS }".replace("LAYERS", layers).replace(
            "ConvTranspose(", "ConvTranspose<group = 3>("
        )
    )
    groups = channel_groups(model)
    assert {p.name: len(p.units) for p in groups.pinned} == {"one": 8, **channels}
    found = explain(groups, "two:0")
    assert found.pins == ("has an input of unknown shape, at two",)


def test_an_explanation_is_shown_as_text() -> None:
    text = str(explain(channel_groups(model_of(RESIDUAL)), "a:0"))
    assert text.startswith(" a:0\n")
    assert "free to cut, in the group of" in text
