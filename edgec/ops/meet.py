"""Where several values meet element by element: arithmetic, Where, Concat's other axes.

Atoms at the same output element go together. An operand of size 1 along an axis is broadcast and
adds no tie along it; an operand that is larger but carries no channels there keeps the axis whole.
An initializer adopts the labels of what it meets: it is cut to fit. Where all it meets is broadcast
along one of its axes, it makes channels there: y[…, c] = x[…, 0] · w[c].
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from edgec.ops.labels import Factor, Labels, line_labels, on_axis, rename_axes
from edgec.ops.tracing import LabelContext

_WHOLE = "meets a tensor that stays whole along this axis"


def meet_labels(
    n: LabelContext,
    labels: Sequence[Labels],
    shapes: Sequence[Sequence[int]],
) -> Labels:
    """Ties operands of equal rank where they meet; the labels of the result.

    Args:
        n: The node.
        labels: Labels of each operand, renamed to the result's rank.
        shapes: Its shape, padded with ones to the same rank.
    """
    operands = [list(own) for own in labels]
    rank = len(shapes[0])
    for axis in range(rank):
        holders = [on_axis(tuple(own), axis) for own in operands]
        if all(h is None for h in holders):
            continue
        if any(s[axis] > 1 and h is None for s, h in zip(shapes, holders, strict=True)):
            operands = [list(n.atoms.fix(tuple(own), axis, _WHOLE)) for own in operands]
    factors = [factor for own in operands for factor in own]
    for a, b in combinations(factors, 2):
        if set(a.order) & set(b.order):
            n.atoms.unite(a.ids, b.ids)
    result: list[Factor] = []
    for factor in factors:
        _join(n, result, factor)
    return tuple(result)


def _join(n: LabelContext, result: list[Factor], factor: Factor) -> None:
    """Adds `factor` to `result`, unless its axes are taken by factors that it is tied to."""
    overlapping = [f for f in result if set(f.order) & set(factor.order)]
    if not overlapping:
        result.append(factor)
    for other in overlapping:
        if set(other.order) != set(factor.order):
            result.remove(other)
            settled = n.atoms.settle(other)
            if settled is not None:
                result.append(settled)


def adopt(n: LabelContext, i: int, result: Labels, rank: int, own: Labels = ()) -> Labels:
    """Lets initializer `i` of an elementwise node take the labels of the result, beside its `own`.

    Returns the result's labels, tied along rows where the initializer has one entry for all rows.
    """
    shape = n.shape(i)
    offset = rank - len(shape)

    def size(axis: int) -> int:
        return shape[axis - offset] if axis >= offset else 1

    kept: list[Factor] = []
    uses: list[Factor] = []
    for factor in result:
        varies = [axis for axis in factor.order if size(axis) > 1]
        for axis in factor.order:
            outside = axis < offset
            outer = any(factor.order.index(axis) < factor.order.index(v) for v in varies)
            if varies and axis not in varies and (outer or outside):
                factor = n.atoms.tie_along(factor, axis)
        kept.append(factor)
        if varies:
            uses.append(factor)
    n.use(i, rename_axes((*uses, *own), lambda axis: axis - offset, len(shape)))
    return tuple(kept)


def meet(n: LabelContext, inputs: Sequence[int]) -> Labels:
    """The labels of an elementwise node over `inputs`, with numpy broadcasting."""
    return meet_apart(n, {i: () for i in inputs if n.has(i)}, _WHOLE)


def meet_apart(n: LabelContext, whole: Mapping[int, Collection[int]], why: str) -> Labels:
    """The labels of a node whose inputs meet along some axes, counted from the end as numpy does.

    Args:
        n: The node; its first output has the axes along which they meet.
        whole: input → those of its axes along which it meets nothing and stays whole.
        why: What the node does along these.
    """
    rank = len(n.out_shape())
    moving = [i for i in whole if not n.is_param(i)]
    adopting = [i for i in whole if n.is_param(i)]
    if not moving:
        moving, adopting = adopting, []
    aligned = [_aligned(n.whole(whole[i], why, i), len(n.shape(i)), rank) for i in moving]
    shapes = {i: _shape(n, i, whole[i], rank) for i in whole}
    result = meet_labels(n, aligned, [shapes[i] for i in moving])
    for i in adopting:
        made = () if any(whole.values()) else _made(n, i, shapes)
        apart = {axis + rank - len(n.shape(i)) for axis in whole[i]}
        own = tuple(f for f in result if not apart & set(f.order))
        rest = tuple(f for f in result if apart & set(f.order))
        for factor in rest:
            if set(factor.order) - apart:
                n.atoms.pin(factor.ids, why)
        result = (*rest, *adopt(n, i, own, rank, made), *made)
    return result


def _aligned(labels: Labels, own: int, rank: int) -> Labels:
    """Labels of a value of rank `own`, its axes counted from the end."""
    return rename_axes(labels, lambda axis: axis + rank - own, rank)


def _made(n: LabelContext, i: int, shapes: Mapping[int, Sequence[int]]) -> Labels:
    """Channels that initializer `i` makes: along axes on which nothing else has a size."""
    if n.is_index(i):
        return ()
    others = [shape for other, shape in shapes.items() if other != i]
    lines: Labels = ()
    for axis, size in enumerate(shapes[i]):
        if size > 1 and all(shape[axis] == 1 for shape in others):
            lines += line_labels(n.fresh(size), axis, len(shapes[i]))
    return lines


def _shape(n: LabelContext, i: int, whole: Collection[int], rank: int) -> list[int]:
    """Sizes of input `i` where it meets others, 1 elsewhere: int[rank]."""
    own = [1 if axis in whole else size for axis, size in enumerate(n.shape(i))]
    return ([1] * rank + own)[len(own) :]
