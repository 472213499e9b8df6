"""Score globally, cut locally, repair, score again (the driver of K-prune).

Scores taken on the intact network go stale as soon as the first layers are cut. Here the groups
are settled part by part in the order of the graph: each part is cut by a plan for the whole
network, the network is repaired, and what remains of the budget is planned afresh.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Batches
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.graph.cut import CutResult, cut_array, remove_channels
from edgec.graph.widths import lines_of
from edgec.passes.repair.layers import give_biases, read, write
from edgec.passes.repair.least_squares import least_squares
from edgec.passes.repair.record import RepairRecord

Units = NDArray[np.int64]
Floats = NDArray[np.float64]
Score = Callable[[ir.Model, ChannelGroups], Floats]
Allocate = Callable[[ChannelGroups, Floats, Units, Units], Units]
Repair = Callable[[ir.Model, CutResult, Batches], RepairRecord]


def sequential(
    dense: ir.Model,
    data: Batches,
    score: Score,
    allocate: Allocate,
    *,
    repair: Repair = least_squares,
    parts: int = 4,
) -> tuple[CutResult, tuple[RepairRecord, ...]]:
    """Cuts a network part by part, repaired and scored again in between.

    Args:
        dense: The original; not changed.
        data: Samples for the repairs.
        score: (network as it is now, its groups) → float64[units]. The network has the shapes of
            the original; what reads a removed channel is zero.
        allocate: (groups, scores, removed, settled) → the units to remove in all. `removed` are
            gone already; `settled` (these and kept ones) can no longer be decided on.
        repair: Repairs a cut network in place.
        parts: Number of parts.

    Returns:
        The repaired cut network, and the record of each repair. Units are those of
        `channel_groups(dense)`.
    """
    working = dense.clone()
    give_biases(working)
    groups = channel_groups(working)
    removed = settled = np.zeros(0, np.int64)
    records: list[RepairRecord] = []
    chunks = [c for c in np.array_split(np.arange(len(groups)), parts) if c.size]
    for chunk in chunks:
        planned = allocate(groups, score(working, groups), removed, settled)
        here = np.concatenate([groups.groups[i].units for i in chunk])
        removed = np.union1d(removed, np.intersect1d(planned, here))
        settled = np.union1d(settled, here)
        cut = remove_channels(groups, removed)
        records.append(repair(dense, cut, data))
        _carry_back(cut, working)
        groups = channel_groups(working)
    if not records:
        return remove_channels(groups, removed), ()
    return cut, tuple(records)


def _carry_back(cut: CutResult, working: ir.Model) -> None:
    """Writes the cut network's weights into the full shapes, with zeros for what was removed."""
    new = {node.outputs[0].name: node for node in cut.model.graph if node.outputs}
    for use in cut.groups.trace.uses:
        node = new.get(use.node.outputs[0].name)
        if node is None or node.op_type != use.node.op_type or len(node.inputs) <= use.index:
            continue
        value = node.inputs[use.index]
        if value is None or value.const_value is None:
            continue
        full = read(use.node, use.index)
        if not np.issubdtype(full.dtype, np.floating):
            continue
        lines = lines_of(use.labels, cut.groups.unit_of, full.shape)
        places = cut_array(np.arange(full.size).reshape(full.shape), lines, cut.alive)
        if places.shape != tuple(value.const_value.shape):
            continue
        filled = np.zeros(full.size, full.dtype)
        filled[places.ravel()] = value.const_value.numpy().ravel()
        write(use.node, use.index, filled.reshape(full.shape))
