"""Writes a cut down as a plan (`edgec.plan`): original initializer → axis → kept indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np
import onnx_ir as ir

from edgec.graph.channels import ChannelGroups
from edgec.graph.cut import CutResult
from edgec.graph.widths import Line, lines_of
from edgec.graph.widths import Mask as Alive
from edgec.model_inputs import is_symbolic
from edgec.ops.tracing import Mix, Use
from edgec.patterns import Kept, Rows
from edgec.plan import Cut, Group, Mask, Norm, Plan, Role
from edgec.plan_weights import weights_of

# Operators whose weight both reads and makes a channel with one index.
_BOTH = {"BatchNormalization", "InstanceNormalization"}


def plan_of(cut: CutResult, sha256: str, reasons: Mapping[str, str]) -> Plan:
    """The plan of a cut.

    Args:
        cut: The cut.
        sha256: Hash of the original model's file.
        reasons: Group → why just these channels of it were kept.
    """
    groups = cut.groups
    names = reader_names(groups.model)
    cuts: dict[tuple[ir.Node, int], list[Cut]] = {}
    for use, _ in cut.uses:
        value = _input(use.node, use.index)
        shape = list(groups.facts[value].shape or ())
        for line in lines_of(use.labels, groups.unit_of, shape):
            if not line.kept(cut.alive).all():
                found = _cut(use, value, shape, line, cut.alive, names)
                cuts.setdefault((use.node, use.index), []).append(found)
    masks = [mask for mix in groups.trace.mixes for mask in _masks(cut, mix, names)]
    return Plan(
        sha256,
        tuple(
            sorted(chain(*cuts.values()), key=lambda c: (c.initializer, c.axis, c.node, c.input))
        ),
        tuple(masks),
        tuple(_norms(cut, names)),
        tuple(_group(groups, i, cut.alive, reasons) for i in range(len(groups))),
        tuple(weights_of(groups.model, cuts)),
    )


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def reader_names(model: ir.Model) -> dict[ir.Node, str]:
    """What a plan calls each node: its name, or its first output where that is not its alone."""
    nodes = list(model.graph)
    times = Counter(
        name for n in nodes for name in {n.name, n.outputs[0].name if n.outputs else ""}
    )
    return {
        n: n.name if n.name and times[n.name] == 1 else (n.outputs[0].name or "")
        for n in nodes
        if n.outputs
    }


def _role(use: Use, line: Line) -> Role:
    if use.node.op_type in _BOTH:
        return "both"
    return "in" if line.axis in use.reads else "out"


def _cut(
    use: Use,
    value: ir.Value,
    shape: list[int],
    line: Line,
    alive: Alive,
    names: Mapping[ir.Node, str],
) -> Cut:
    kept, rows = _kept(line, alive)
    node, role = names[use.node], _role(use, line)
    return Cut(value.name or "", line.axis, shape[line.axis], kept, role, node, use.index, rows)


def _masks(cut: CutResult, mix: Mix, names: Mapping[ir.Node, str]) -> list[Mask]:
    groups = cut.groups
    shape = groups.facts[_input(mix.node, mix.index)].shape or ()
    found = []
    for line in lines_of(mix.labels, groups.unit_of, shape):
        if not line.kept(cut.alive).all():
            kept, rows = _kept(line, cut.alive)
            node, size = names[mix.node], shape[line.axis]
            sizes = tuple((axis, shape[axis]) for axis, _ in rows)
            periods = sizes if is_symbolic(groups.model) else ()
            found.append(Mask(node, mix.index, line.axis, size, kept, rows, periods))
    return found


def _norms(cut: CutResult, names: Mapping[ir.Node, str]) -> Iterator[Norm]:
    for norm in cut.groups.trace.norms:
        kept = cut.alive[cut.groups.unit_of[norm.ids]]
        if not kept.all():
            indices = tuple(np.flatnonzero(kept).tolist())
            yield Norm(names[norm.node], kept.size, indices, norm.reads, norm.gives)


def _kept(line: Line, alive: Alive) -> tuple[Kept, Rows]:
    """Kept indices along the line's axis; one list per block where its rows differ."""
    kept = line.kept(alive)
    table = np.moveaxis(kept, [*line.rows, line.axis], range(len(line.rows) + 1))
    table = table.reshape([kept.shape[axis] for axis in line.rows] + [kept.shape[line.axis]])
    for position in range(len(line.rows)):
        table = _blocks(table, position)
    rows = tuple((a, n) for a, n in zip(line.rows, table.shape, strict=False) if n > 1)
    lists = table.reshape(-1, table.shape[-1])
    each = tuple(tuple(np.flatnonzero(one).tolist()) for one in lists)
    return (each, rows) if rows else (each[0], ())


def _blocks(table: Alive, axis: int) -> Alive:
    """Merges equal neighbours along an axis into the fewest blocks of equal length."""
    size = table.shape[axis]
    for blocks in (n for n in range(1, size) if size % n == 0):
        first = table.take(range(0, size, size // blocks), axis)
        if np.array_equal(first.repeat(size // blocks, axis), table):
            return first
    return table


def _group(groups: ChannelGroups, number: int, alive: Alive, reasons: Mapping[str, str]) -> Group:
    group = groups.groups[number]
    kept = np.flatnonzero(alive[group.units])
    return Group(group.name, len(group.units), tuple(kept.tolist()), reasons.get(group.name, ""))
