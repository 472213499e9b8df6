"""Looking up by index: Gather, GatherElements, GatherND.

The axis that is looked up stays whole, unless the index is constant: then it selects labels as it
selects data. Labels of the index stay on the axes that it brings to the output.
"""

from __future__ import annotations

from edgec.ops.examples import between_convs
from edgec.ops.labels import Factor, Ids, Labels, on_axis, rename_axes
from edgec.ops.meet import meet_apart, meet_labels
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule, free
from edgec.ops.select import positions
from edgec.ops.tracing import LabelContext

LOOKED_UP = "is looked up by a computed index"


def _gather(n: LabelContext) -> None:
    axis, rank = n.axis(), len(n.shape(0))
    indices = n.const(1) if n.settled(1) else None
    extra = len(n.shape(1)) - 1
    out_rank = rank + extra
    labels = n.labels(0)
    if indices is None:
        labels = n.atoms.blend(labels, axis, LOOKED_UP)
    else:
        labels = _gather_ids(n, labels, axis, indices)
    labels = rename_axes(labels, lambda a: a if a <= axis else a + extra, out_rank)
    index = () if n.is_param(1) else n.labels(1)
    n.give(labels + rename_axes(index, lambda a: a + axis, out_rank))


def _gather_ids(n: LabelContext, labels: Labels, axis: int, indices: Ids) -> Labels:
    found = on_axis(labels, axis)
    if found is None:
        return labels
    rest = tuple(f for f in labels if f is not found)
    if indices.ndim == 0:  # the axis goes; what was picked must stay
        picked = Factor(
            found.ids.take([int(indices)], axis), tuple(a for a in found.order if a != axis)
        )
        if not picked.order:
            n.atoms.pin(picked.ids, "is picked out alone")
            return rest
        if axis == found.order[-1]:
            n.atoms.pin(picked.ids, "is picked out alone")
            return rest
        n.atoms.box(picked)
        return (*rest, picked)
    if indices.ndim > 1:
        n.atoms.pin(found.ids, "is looked up by a table")
        return rest
    for other in found.order:
        if other != axis:
            found = n.atoms.tie_along(found, other)
    settled = n.atoms.settle(Factor(found.ids.take(indices, axis), found.order))
    return rest if settled is None else (*rest, settled)


def _gather_repair(n: RepairContext) -> None:
    axis, indices = n.axis(), n.const(1)
    if indices is None or n.new_shape(0)[axis] == n.shape(0)[axis]:
        return
    alive = n.alive(0, axis)
    wanted = indices.ravel() % len(alive)
    kept = positions(alive, wanted).astype(indices.dtype)
    n.set_const(1, kept if indices.ndim else kept.reshape(()))


def _gather_elements(n: LabelContext) -> None:
    """y[i,j] = x[i, index[i,j]]: along all axes but one, data and index lie side by side."""
    sizes = zip(n.shape(0), n.shape(1), strict=True)
    partial = [a for a, (data, index) in enumerate(sizes) if data != index and a != n.axis()]
    n.give(meet_apart(n, {0: [n.axis(), *partial], 1: partial}, LOOKED_UP))


def _gather_nd(n: LabelContext) -> None:
    """y[b…, i…, t…] = x[b…, index[b…, i…], t…]; the index names one place on each of k axes."""
    batch, data, index = int(n.attr("batch_dims", 0)), n.shape(0), n.shape(1)
    depth, rank = index[-1], len(n.out_shape())
    tail = batch + depth  # first axis of the data that is taken whole
    shift = len(index) - 1 - tail
    labels = n.whole(range(batch, tail), LOOKED_UP)
    own = () if n.is_param(1) else n.whole([len(index) - 1], LOOKED_UP, 1)
    n.give(
        meet_labels(
            n,
            [
                rename_axes(labels, lambda a: a if a < batch else a + shift, rank),
                rename_axes(own, lambda a: a, rank),
            ],
            [
                (*data[:batch], *[1] * (len(index) - 1 - batch), *data[tail:]),
                (*index[:-1], *[1] * (len(data) - tail)),
            ],
        )
    )


RULES = (
    OpRule(
        "Gather",
        _gather,
        free,
        between_convs("b = Gather<axis=1>(a, i)", ", int64[4] i = {5,0,2,2}", reads=4),
        _gather_repair,
    ),
    OpRule(
        "GatherElements",
        _gather_elements,
        free,
        between_convs("i = ArgMax<axis=2>(a)\n  b = GatherElements<axis=3>(a, i)"),
    ),
    OpRule(
        "GatherND",
        _gather_nd,
        free,
        between_convs(
            "t = Transpose<perm=[0,2,3,1]>(a)\n  g = GatherND<batch_dims=1>(t, i)\n"
            "  b = Transpose<perm=[0,3,1,2]>(g)",
            ", int64[2,3,1,2] i = {0,0, 3,1, 7,7, 2,5, 2,5, 6,0}",
        ),
    ),
)
