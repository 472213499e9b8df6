"""Joining and selecting along an axis: Concat, Split, Slice, Pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgec.ops.examples import between_convs, between_gemms
from edgec.ops.labels import Factor, Labels, along, line_labels, on_axis
from edgec.ops.meet import adopt, meet_labels
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule, free
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, View

_COMPUTED = "is taken apart at places that are computed at run time"

# --- Concat ----------------------------------------------------------------------------------


def _concat(n: LabelContext) -> None:
    axis, rank = n.axis(), len(n.out_shape())
    count = len(n.node.inputs)
    params = [i for i in range(count) if n.is_param(i)]
    moving = [i for i in range(count) if i not in params]
    own = {i: n.labels(i) for i in moving}
    for i in params:
        own[i] = () if n.is_index(i) else line_labels(n.fresh(n.shape(i)[axis]), axis, rank)
    others = [tuple(f for f in own[i] if axis not in f.order) for i in moving]
    result = meet_labels(n, others, [_without(n.shape(i), axis) for i in moving])
    for i in params:  # an initializer is cut to fit
        result = adopt(n, i, result, rank, own[i])
    joined = _join(n, [on_axis(own[i], axis) for i in range(count)], axis, rank)
    n.give(result if joined is None else (*result, joined))


def _without(shape: Sequence[int], axis: int) -> list[int]:
    return [1 if a == axis else size for a, size in enumerate(shape)]


def _join(n: LabelContext, pieces: list[Factor | None], axis: int, rank: int) -> Factor | None:
    """One factor along `axis`; inputs without channels there contribute fixed ones."""
    found = [p for p in pieces if p is not None]
    if not found:
        return None
    alike = len(found) == len(pieces) and len({p.order for p in found}) == 1
    if alike and len({_without(p.ids.shape, axis).__str__() for p in found}) == 1:
        joined = Factor(np.concatenate([p.ids for p in found], axis), found[0].order)
        n.atoms.box(joined)
        return joined
    lines = []
    for i, piece in enumerate(pieces):
        if piece is None:
            lines.append(np.zeros(n.shape(i)[axis], np.int64))
        else:
            line = n.atoms.line((piece,), axis)
            assert line is not None
            lines.append(line)
    return along(np.concatenate(lines), axis, rank)


# --- Split, Slice ----------------------------------------------------------------------------


def _pick(n: LabelContext, labels: Labels, axis: int, part: slice) -> Labels:
    """Slices labels along `axis`. Rows of a ragged factor keep equal counts before and inside."""
    found = on_axis(labels, axis)
    if found is None:
        return labels
    rest = tuple(f for f in labels if f is not found)
    first = min(part.start, part.stop if part.stop is not None else 0)
    n.atoms.box_part(found, axis, slice(0, max(first, 0)))
    n.atoms.box_part(found, axis, part)
    at: list[slice] = [slice(None)] * found.ids.ndim
    at[axis] = part
    picked = Factor(found.ids[tuple(at)], found.order)
    settled = n.atoms.settle(picked) if picked.ids.size else None
    if settled is None:
        n.atoms.pin(picked.ids, "is picked out alone")
        return rest
    return (*rest, settled)


def _split_sizes(n: View) -> list[int]:
    axis = n.axis()
    return [n.out_shape(i)[axis] for i in range(len(n.node.outputs))]


def _split(n: LabelContext) -> None:
    axis, start, labels = n.axis(), 0, n.labels(0)
    if not n.settled(1):
        labels = n.atoms.blend(labels, axis, _COMPUTED)
    for out, size in enumerate(_split_sizes(n)):
        n.give(_pick(n, labels, axis, slice(start, start + size)), out)
        start += size


def _split_repair(n: RepairContext) -> None:
    axis = n.axis()
    sizes = [n.new_out_shape(i)[axis] for i in range(len(n.node.outputs))]
    if sizes == _split_sizes(n):
        return
    n.node.attributes.pop("num_outputs", None)
    if n.opset >= 13:
        n.set_const(1, np.asarray(sizes, np.int64))
    else:
        n.node.attributes["split"] = ir.AttrInt64s("split", sizes)


def _slices(n: View) -> list[tuple[int, slice]]:
    """(axis, slice) pairs, normalised to the input's shape."""
    shape = n.shape(0)
    starts, ends = n.ints("starts", 1), n.ints("ends", 2)
    if starts is None or ends is None:
        raise Barrier("has no starts or ends")
    axes = n.ints("axes", 3) or list(range(len(starts)))
    steps = n.ints("steps", 4) or [1] * len(starts)
    found = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shape)
        picked = range(shape[axis])[slice(start, end, step)]
        stop: int | None = picked.stop if picked.stop >= 0 else None
        found.append((axis, slice(picked.start, stop, picked.step)))
    return found


def _slice(n: LabelContext) -> None:
    labels = n.labels(0)
    for entry, (axis, part) in enumerate(_slices(n)):
        if not all(n.settled(i, entry) for i in (1, 2, 3, 4)):
            labels = n.atoms.blend(labels, axis, _COMPUTED)
        elif part != slice(0, n.shape(0)[axis], 1):
            found = on_axis(labels, axis)
            if found is not None and part.step != 1:  # one pattern for all rows
                rest = tuple(f for f in labels if f is not found)
                for outer in found.order[: found.order.index(axis)]:
                    found = n.atoms.tie_along(found, outer)
                labels = (*rest, found)
            labels = _pick(n, labels, axis, part)
    n.give(labels)


def _slice_repair(n: RepairContext) -> None:
    """New bounds on the axes that shrink; where what is kept lies unevenly, a Gather before."""
    if n.new_shape(0) == n.shape(0):
        return
    bounds: list[tuple[int, int, int] | None] = []
    value = n.node.inputs[0]
    assert value is not None
    for axis, part in _slices(n):
        alive = n.alive(0, axis)
        if alive.all():
            bounds.append(None)
            continue
        kept = positions(alive, np.arange(n.shape(0)[axis])[part])
        if not kept.size:
            bounds.append((0, 0, 1))
            continue
        steps = np.unique(np.diff(kept))
        if len(steps) > 1:
            value = n.insert("Gather", [value, n.constant(kept)], {"axis": axis})
            bounds.append((0, 2**31 - 1, 1))
            continue
        step = int(steps[0]) if len(steps) else 1
        stop = int(kept[-1]) + (1 if step > 0 else -1)
        bounds.append((int(kept[0]), stop if stop >= 0 else -(2**31) + 1, step))
    n.node.replace_input_with(0, value)
    for place, (name, i) in enumerate((("starts", 1), ("ends", 2), ("steps", 4))):
        if name in n.node.attributes or n.has(i):
            n.set_entries(name, i, [None if b is None else b[place] for b in bounds])


def positions(alive: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """New positions of the wanted old positions that are still alive, int64."""
    place = np.cumsum(alive) - 1
    return np.asarray(place[wanted][alive[wanted]], np.int64)


# --- Pad -------------------------------------------------------------------------------------


def _pads(n: View) -> dict[int, tuple[int, int]]:
    """axis → (before, after); negative crops."""
    pads = n.ints("pads", 1) or []
    rank = len(n.shape(0))
    axes = n.ints("axes", 3) or list(range(rank))
    half = len(pads) // 2
    return {
        a % rank: (pads[i], pads[half + i]) for i, a in enumerate(axes) if pads[i] or pads[half + i]
    }


def _pad(n: LabelContext) -> None:
    labels = n.labels(0)
    mode = n.attr("mode", "constant")
    for axis, (before, after) in _pads(n).items():
        if on_axis(labels, axis) is None:
            continue
        if mode != "constant" or not (n.settled(1) and n.settled(3)):
            why = f"is padded by {mode}" if mode != "constant" else _COMPUTED
            labels = n.atoms.blend(labels, axis, why)
            continue
        ids = n.atoms.line(labels, axis)
        assert ids is not None
        ids = ids[max(-before, 0) : len(ids) - max(-after, 0)]
        ids = np.concatenate([n.fresh(max(before, 0)), ids, n.fresh(max(after, 0))])
        rank = len(n.shape(0))
        labels = (*(f for f in labels if axis not in f.order), along(ids, axis, rank))
    n.give(labels)


def _pad_repair(n: RepairContext) -> None:
    if n.new_out_shape() == n.out_shape():
        return
    rank = len(n.shape(0))
    before, after = [0] * rank, [0] * rank
    for axis, (front, back) in _pads(n).items():
        before[axis] = _count(front, n.alive(0, axis), n.alive_out(0, axis))
        after[axis] = _count(back, n.alive(0, axis)[::-1], n.alive_out(0, axis)[::-1])
    if n.has(3):
        axes = n.ints("axes", 3) or []
        pads = [p[a % rank] for p in (before, after) for a in axes]
    else:
        pads = before + after
    old = n.ints("pads", 1) or []
    n.set_entries(
        "pads", 1, [None if now == was else now for now, was in zip(pads, old, strict=True)]
    )


def _count(pad: int, alive: np.ndarray, alive_out: np.ndarray) -> int:
    """How much of a pad (or crop, if negative) is left."""
    return int(alive_out[:pad].sum()) if pad >= 0 else -int(alive[:-pad].sum())


RULES = (
    OpRule("Concat", _concat, free, between_convs("b = Concat<axis=1>(a, x)", reads=9)),
    OpRule(
        "Split",
        _split,
        free,
        between_convs(
            "p, q = Split<axis=1>(a, sizes)\n  r = Relu(q)\n  b = Concat<axis=1>(r, p)",
            ", int64[2] sizes = {2,4}",
        ),
        _split_repair,
    ),
    OpRule(
        "Slice",
        _slice,
        free,
        between_convs(
            "b = Slice(a, s, e, t)",
            ", int64[1] s = {1}, int64[1] e = {5}, int64[1] t = {1}",
            reads=4,
        ),
        _slice_repair,
    ),
    OpRule(
        "Pad",
        _pad,
        free,
        between_gemms("b = Pad(a, pads)", ", int64[4] pads = {0,2,0,3}", reads=13),
        _pad_repair,
    ),
)
