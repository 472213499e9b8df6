"""Writes a cut down as a plan (`edgec.plan`): original initializer → axis → kept indices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgec.graph.channels import ChannelGroups
from edgec.graph.cut import CutResult
from edgec.graph.widths import Line, lines_of
from edgec.graph.widths import Mask as Alive
from edgec.ops.rule import Mix, Use
from edgec.plan import Cut, Group, Mask, Plan, Role

# Operators whose weight both reads and makes a channel with one index.
_BOTH = {"BatchNormalization", "InstanceNormalization"}


def plan_of(cut: CutResult, sha256: str, reasons: Mapping[str, str]) -> Plan:
    """The plan of a cut.

    Args:
        cut: The cut.
        sha256: Hash of the original model's file.
        reasons: Group → why it was kept whole.
    """
    groups = cut.groups
    cuts = []
    for use, _ in cut.uses:
        value = _input(use.node, use.index)
        shape = [int(d) for d in value.const_value.shape]  # type: ignore[union-attr, arg-type]
        for line in lines_of(use.labels, groups.unit_of, shape):
            if not line.kept(cut.alive).all():
                cuts.append(_cut(use, value, shape, line, cut.alive))
    masks = [mask for mix in groups.trace.mixes for mask in _masks(cut, mix)]
    return Plan(
        sha256,
        tuple(sorted(cuts, key=lambda c: (c.initializer, c.axis, c.node, c.input))),
        tuple(masks),
        tuple(_group(groups, i, cut.alive, reasons) for i in range(len(groups))),
    )


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def node_name(node: ir.Node) -> str:
    """The node's name; for a nameless one its first output, which is as unique."""
    return node.name or node.outputs[0].name or node.op_type


def _role(use: Use, line: Line) -> Role:
    if use.node.op_type in _BOTH:
        return "both"
    return "in" if line.axis in use.reads else "out"


def _cut(use: Use, value: ir.Value, shape: list[int], line: Line, alive: Alive) -> Cut:
    kept = line.kept(alive)
    rows = tuple((axis, line.units.shape[axis]) for axis in line.rows)
    name, size = value.name or "", shape[line.axis]
    flat = np.moveaxis(kept, [*line.rows, line.axis], range(len(rows) + 1)).reshape(-1, size)
    each = tuple(tuple(np.flatnonzero(row).tolist()) for row in flat)
    node = node_name(use.node)
    if not rows:
        return Cut(name, line.axis, size, each[0], _role(use, line), node, use.index)
    return Cut(name, line.axis, size, each, _role(use, line), node, use.index, rows)


def _masks(cut: CutResult, mix: Mix) -> list[Mask]:
    groups = cut.groups
    shape = groups.facts[_input(mix.node, mix.index)].shape or ()
    found = []
    for line in lines_of(mix.labels, groups.unit_of, shape):
        kept = line.kept(cut.alive)
        if kept.all() or line.rows:
            continue
        positions = tuple(np.flatnonzero(kept.ravel()).tolist())
        found.append(Mask(node_name(mix.node), mix.index, line.axis, shape[line.axis], positions))
    return found


def _group(groups: ChannelGroups, number: int, alive: Alive, reasons: Mapping[str, str]) -> Group:
    group = groups.groups[number]
    kept = np.flatnonzero(alive[group.units])
    return Group(group.name, len(group.units), tuple(kept.tolist()), reasons.get(group.name, ""))
