"""What a model is made of: operators, costs, channel groups, pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgec.foreign import diagnosed
from edgec.graph import channels
from edgec.graph.channels import ChannelGroups
from edgec.graph.cost import CostModel, Totals, count, holds_weights, node_cost
from edgec.model import copied, load
from edgec.ops.view import Fact
from edgec.passes.base import Context
from edgec.passes.prune.criteria import CRITERIA, Evidence, pq_index
from edgec.preparing import prepared


@dataclass(frozen=True)
class OpRow:
    """All nodes of one operator.

    Attributes:
        op: The operator.
        count: Its nodes.
        flops, macs: Their work; None where edgec has no rule for the operator.
        params: Elements of the weights they read.
    """

    op: str
    count: int
    flops: int | None
    macs: int | None
    params: int


@dataclass(frozen=True)
class GroupRow:
    """A channel group.

    Attributes:
        name: The node that makes its channels.
        channels: Width of the axis.
        removable: How many of them can be removed.
        flops: FLOPs that go if the group is narrowed to the least.
        prunability: PQ index of the channel norms: 0 all alike, towards 1 a few carry all.
    """

    name: str
    channels: int
    removable: int
    flops: int
    prunability: float


@dataclass(frozen=True)
class PinRow:
    """Channels that stay, where and why."""

    name: str
    channels: int
    where: str
    why: str


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect`."""

    inputs: Mapping[str, tuple[int, ...]]
    opset: int
    totals: Totals
    ops: tuple[OpRow, ...]
    groups: tuple[GroupRow, ...]
    pinned: tuple[PinRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def channel_groups(
    model: Any,
    *,
    inputs: Mapping[str, Sequence[int]] | None = None,
    across_norms: bool = False,
    drop_heads: Sequence[str] = (),
) -> ChannelGroups:
    """Finds the channel groups of a model, its constants folded as for every build.

    Args:
        model: A path, `package.module:factory`, or a model in memory (see `load`), which is not
            changed.
        inputs: Concrete shapes for symbolic inputs.
        across_norms: Whether channels may go over which a norm takes its statistics (a
            transformer's embedding width). The statistics are then those of the kept channels,
            so that removal no longer equals zeroing.
        drop_heads: Patterns of node names. Attention heads made by such nodes go whole, instead
            of an equal count of channels of every head.
    """
    loaded = load(model, inputs={k: tuple(v) for k, v in inputs.items()} if inputs else None)
    with diagnosed(loaded, loaded.graph.name or "the model"):
        model = prepared(copied(loaded), Context())
        return channels.channel_groups(model, across_norms=across_norms, drop_heads=drop_heads)


def inspect(
    model: Any,
    *,
    inputs: Mapping[str, Sequence[int]] | None = None,
    across_norms: bool = False,
    drop_heads: Sequence[str] = (),
) -> Inspection:
    """Analyses a model.

    Args:
        model: A path, `package.module:factory`, or a model in memory (see `load`).
        inputs: Concrete shapes for symbolic inputs.
        across_norms, drop_heads: As for `channel_groups`.
    """
    groups = channel_groups(model, inputs=inputs, across_norms=across_norms, drop_heads=drop_heads)
    graph, facts = groups.model.graph, groups.facts
    return Inspection(
        {v.name or "": facts[v].shape or () for v in graph.inputs},
        graph.opset_imports.get("", 0),
        count(groups.model, facts),
        _ops(groups),
        _groups(groups),
        tuple(PinRow(p.name, len(p.units), p.where, p.why) for p in groups.pinned),
    )


def _ops(groups: ChannelGroups) -> tuple[OpRow, ...]:
    facts = groups.facts
    rows: dict[str, OpRow] = {}
    for node in groups.model.graph:
        x = [None if v is None else facts.get(v, Fact()) for v in node.inputs]
        cost = node_cost(node, x, [facts.get(v, Fact()) for v in node.outputs])
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        old = rows.get(name, OpRow(name, 0, 0, 0, 0))
        held = [v.const_value for v in node.inputs if v is not None and holds_weights(v)]
        known = cost is not None and old.flops is not None and old.macs is not None
        rows[name] = OpRow(
            name,
            old.count + 1,
            old.flops + cost.flops if known else None,  # type: ignore[operator, union-attr]
            old.macs + cost.macs if known else None,  # type: ignore[operator, union-attr]
            old.params + sum(t.size for t in held if t is not None),
        )
    return tuple(sorted(rows.values(), key=lambda r: (-(r.flops or 0), r.op)))


def _groups(groups: ChannelGroups) -> tuple[GroupRow, ...]:
    model = CostModel(groups)
    norms = CRITERIA["l2"].score(Evidence(groups, np.random.default_rng(0)))
    none = np.zeros(model.slots)
    rows = []
    for number, group in enumerate(groups):
        slots = model.slots_of_group[number]
        most = [
            min(int((group.kinds == kind).sum()), group.rows * (group.depth - 1))
            for kind in np.unique(group.kinds)
        ]
        options = np.asarray([[0] * len(slots), most], np.float64)
        flops = model.alternatives("flops", number, none, options)
        own = norms[group.units]
        rows.append(
            GroupRow(
                group.name,
                group.width,
                (group.depth - 1) * group.step,
                int(flops[0] - flops[1]),
                0.0 if np.isnan(own).any() else round(pq_index(own), 6),
            )
        )
    return tuple(sorted(rows, key=lambda r: -r.flops))
