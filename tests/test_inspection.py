"""`inspect`: operators, costs, groups and pins, as counted by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from zoo import model_of
from zoo.exports import EXPORTS
from zoo.patterns import PATTERNS

import edgec
from edgec.errors import UsageError
from edgec.graph.cost import count
from edgec.graph.facts import facts_of
from edgec.inspection import Inspection, channel_groups, inspect
from edgec.model_inputs import input_shapes

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits" / "digits.onnx"
NET = """
(float[N,3,8,8] x) => (float[N,10] y)
<float[16,3,3,3] w1, float[16] b1, float[32,16,1,1] w2, float[32,10] w3>
{
  a = Conv<pads = [1,1,1,1]>(x, w1, b1)
  b = Relu(a)
  c = Conv(b, w2)
  e = GlobalAveragePool(c)
  f = Flatten(e)
  y = MatMul(f, w3)
}
"""
UNKNOWN = """
(float[1,8] x) => (float[1,4] y) <float[8,32] w, float[32,4] v>
{ a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }
"""


@pytest.fixture(scope="module")
def found() -> Inspection:
    return inspect(model_of(NET))


def test_costs_by_hand(found: Inspection) -> None:
    macs = 64 * 16 * 27 + 64 * 32 * 16 + 32 * 10
    params = 16 * 27 + 16 + 32 * 16 + 320
    assert (found.totals.macs, found.totals.params, found.totals.size) == (macs, params, 4 * params)
    assert found.totals.uncounted == ()
    assert found.inputs == {"x": (1, 3, 8, 8)}
    assert found.opset == 20


def test_the_rows_add_up(found: Inspection) -> None:
    assert sum(row.count for row in found.ops) == 6
    assert sum(row.flops or 0 for row in found.ops) == found.totals.flops
    assert sum(row.macs or 0 for row in found.ops) == found.totals.macs
    assert sum(row.params for row in found.ops) == found.totals.params
    flops = [row.flops or 0 for row in found.ops]
    assert flops == sorted(flops, reverse=True)
    assert (found.ops[0].op, found.ops[0].count) == ("Conv", 2)


def test_groups_and_pins(found: Inspection) -> None:
    rows = {row.channels: row for row in found.groups}
    assert rows.keys() == {16, 32}
    assert all(row.removable == row.channels - 1 for row in found.groups)
    (pin,) = found.pinned
    assert (pin.channels, pin.where, pin.why) == (10, "output y", "is a graph output")


@pytest.mark.parametrize("source", [DIGITS, None], ids=["digits", "net"])
def test_what_a_group_holds_is_what_goes_with_it(source: Path | None) -> None:
    """Counted on the model that is left when the group is narrowed to the least."""
    model = source or model_of(NET)
    found, groups = inspect(model), channel_groups(model)
    held = {row.name: row.flops for row in found.groups}
    for group in groups:
        cut = edgec.remove_channels(groups, group.units[1:])
        left = count(cut.model, facts_of(cut.model, dict(input_shapes(groups.model))))
        assert found.totals.flops - left.flops == held[group.name]


def test_prunability_is_zero_for_equals_and_large_for_one_that_carries_all() -> None:
    even, uneven = model_of(NET), model_of(NET)
    for model, weight in ((even, np.ones((16, 3, 3, 3))), (uneven, np.zeros((16, 3, 3, 3)))):
        if model is uneven:
            weight[0] = 1
        tensor = ir.tensor(weight.astype(np.float32), name="w1")
        model.graph.initializers["w1"].const_value = tensor
        reader = np.ones((32, 16, 1, 1), np.float32) * weight[:, 0, 0, 0].reshape(1, 16, 1, 1)
        model.graph.initializers["w2"].const_value = ir.tensor(reader.astype(np.float32), name="w2")
    first, second = (next(r for r in inspect(m).groups if r.channels == 16) for m in (even, uneven))
    assert first.prunability == pytest.approx(0, abs=1e-6)
    assert second.prunability == pytest.approx(1 - 1 / 16, abs=1e-6)


def test_an_operator_without_a_rule_is_named_and_costs_nothing_known() -> None:
    model = ir.to_proto(model_of(UNKNOWN))
    node = model.graph.node[1]
    node.op_type, node.domain, node.name = "Fancy", "com.acme", "fancy_1"
    model.opset_import.add(domain="com.acme", version=1)
    found = inspect(model)
    row = next(row for row in found.ops if row.op == "com.acme::Fancy")
    assert (row.count, row.flops, row.macs, row.params) == (1, None, None, 0)
    assert any("Fancy" in name for name in found.totals.uncounted)
    assert found.groups == ()
    why = "edgec has no rule for operator com.acme::Fancy"
    assert (32, "fancy_1", why) in {(p.channels, p.where, p.why) for p in found.pinned}


def test_sizes_are_for_open_dims() -> None:
    text = NET.replace("[N,3,8,8]", "[N,3,H,W]")
    with pytest.raises(UsageError, match="nothing fixes its dim 2 \\('H'\\)"):
        inspect(model_of(text))
    small, large = (inspect(model_of(text), inputs={"x": (1, 3, s, s)}) for s in (8, 16))
    conv = {f.inputs["x"]: f.ops[0].flops or 0 for f in (small, large)}
    assert conv[1, 3, 16, 16] == 4 * conv[1, 3, 8, 8]


@pytest.mark.parametrize("name", ["no nodes", "passthrough"])
def test_next_to_nothing(name: str) -> None:
    text = "(float[1,3] x) => (float[1,3] x) {}" if name == "no nodes" else (
        "(float[1,3] x) => (float[1,3] y) { y = Identity(x) }")  # fmt: skip
    found = inspect(model_of(text))
    assert (found.totals.flops, found.totals.params, found.groups) == (0, 0, ())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_can_be_inspected_and_written_as_json(pattern: str) -> None:
    found = inspect(PATTERNS[pattern]())
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document.keys() == {f.name for f in dataclasses.fields(Inspection)}
    assert all(0 <= row.prunability <= 1 for row in found.groups)
    assert all(0 < row.removable < row.channels for row in found.groups)


def test_a_file_and_a_model_in_memory_are_the_same(tmp_path: Path) -> None:
    onnx.save(ir.to_proto(model_of(NET)), tmp_path / "m.onnx")
    assert inspect(tmp_path / "m.onnx") == inspect(model_of(NET)) == edgec.inspect(model_of(NET))


@pytest.mark.parametrize("name", ["resnet18", "cnn_dynamic_batch"])
def test_groups_are_found_in_a_graph_as_it_is_exported(name: str) -> None:
    """The public `channel_groups` folds what the exporter leaves to compute, and finds as much."""
    model = EXPORTS[name]()
    before = [node.name for node in model.graph]
    groups = edgec.channel_groups(model)
    rows = {(row.name, row.channels) for row in inspect(model).groups}
    assert {(group.name, group.width) for group in groups} == rows
    assert len(groups) > 2
    assert [node.name for node in model.graph] == before
