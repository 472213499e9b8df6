"""Matrix products.

    Gemm    Y[m,n] = A[m,k] · B[k,n] + C[n]
    MatMul  Y[…,m,n] = A[…,m,k] · B[…,k,n]
The atoms of A along k go with those of B along k; the axis disappears. Batch axes are aligned
element by element, so the rows (heads) of two ragged factors keep their own patterns.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ops.examples import HEADER, between_gemms
from edgec.ops.labels import Factor, Labels, line_labels, on_axis, rename_axes
from edgec.ops.meet import meet_labels
from edgec.ops.rule import OpRule
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, View, product

_BATCH = "is the batch axis of a matrix product"
LONE = "is multiplied with an axis that stays whole"


def _gemm_labels(n: LabelContext) -> None:
    k_of_a = 0 if n.attr("transA", 0) else 1
    k_of_b = 1 if n.attr("transB", 0) else 0
    n.needs_shape(0, n.shape(1)[1 - k_of_b])
    x = n.only(0, k_of_a, _BATCH)
    size = n.out_shape()[1]
    if n.is_param(1):
        y = n.fresh(size)
        labels = line_labels(y, 1 - k_of_b, 2) + line_labels(x, k_of_b, 2)
        n.use(1, labels, reads=(k_of_b,), tie=True)
    else:
        b = n.line(1, k_of_b)
        _contract(n, None if x is None else line_labels(x, 0, 1), line_labels(b, 0, 1))
        if x is not None:
            n.mix(0, line_labels(x, k_of_a, 2))
        found = n.line(1, 1 - k_of_b)
        y = found if found is not None else n.fresh(0)
    if n.has(2):
        _gemm_bias(n, line_labels(y, 1, 2))
    n.give_line(y, 1)


def _gemm_bias(n: LabelContext, out: Labels) -> None:
    shape = n.shape(2)
    if not n.is_param(2):
        meet_labels(
            n,
            [out, rename_axes(n.labels(2), lambda a: a + 2 - len(shape), 2)],
            [n.out_shape(), (1,) * (2 - len(shape)) + tuple(shape)],
        )
    elif shape and shape[-1] > 1:
        n.use(2, rename_axes(out, lambda a: a - 2 + len(shape), len(shape)))


def _contract(n: LabelContext, a: Labels | None, b: Labels | None) -> None:
    """Ties two factors along a shared axis; a lone one is contracted with a whole axis."""
    if a and b:
        n.atoms.unite(a[0].ids, b[0].ids)
    for lone in (a, b):
        if lone and not (a and b):
            n.atoms.pin(lone[0].ids, LONE)


def _matmul_labels(n: LabelContext) -> None:
    if n.is_param(1):
        n.needs_shape(0, n.shape(1)[-1])
    matmul(n, *(range(len(n.shape(i))) for i in (0, 1)))


def matmul(n: LabelContext, a_axes: Sequence[int], b_axes: Sequence[int]) -> None:
    """The product of inputs 0 and 1, their axes taken in the order of `a_axes` and `b_axes`."""
    axes = (a_axes, b_axes)
    if min(map(len, axes)) < 2:
        raise Barrier("multiplies a vector")
    if n.is_param(1) and len(b_axes) == 2:
        _matmul_by_weight(n, a_axes, b_axes)
        return
    moved = [rename_axes(n.labels(i), own.index, len(own)) for i, own in enumerate(axes)]
    shapes = [[n.shape(i)[axis] for axis in own] for i, own in enumerate(axes)]
    labels, *mixed = multiply(n, (moved[0], moved[1]), (shapes[0], shapes[1]))
    i = 0 if not n.is_param(0) else 1
    if not n.is_param(i):
        n.mix(i, rename_axes(mixed[i], axes[i].__getitem__, len(axes[i])))
    n.give(labels)


def multiply(
    n: LabelContext, labels: tuple[Labels, Labels], shapes: tuple[Sequence[int], Sequence[int]]
) -> tuple[Labels, Labels, Labels]:
    """The labels of a product of two values, and what is contracted: labels of a and of b."""
    a_shape, b_shape = shapes
    rank = max(len(a_shape), len(b_shape))
    a = rename_axes(labels[0], lambda axis: axis + rank - len(a_shape), rank)
    b = rename_axes(labels[1], lambda axis: axis + rank - len(b_shape), rank)
    a_k, a_rest = _take(n, a, rank - 1, rank - 2)
    b_k, b_rest = _take(n, b, rank - 2, rank - 1)
    if a_k and not b_k:  # of rows (heads) whole ones may go all the same
        a_rest += n.atoms.fix((a_k,), rank - 1, LONE)
        a_k = None
    elif b_k and not a_k:
        b_rest += n.atoms.fix((b_k,), rank - 2, LONE)
        b_k = None
    a_own: Labels = ()
    b_own: Labels = ()
    if a_k is not None and b_k is not None:
        a_own = rename_axes((a_k,), lambda axis: axis - rank + len(a_shape), len(a_shape))
        b_own = rename_axes((b_k,), lambda axis: axis - rank + len(b_shape), len(b_shape))
        # Put k on the same axis as in B before the two meet.
        swap = {rank - 1: rank - 2, rank - 2: rank - 1}
        a_k = rename_axes((a_k,), lambda axis: swap.get(axis, axis), rank)[0]
        n.atoms.unite(a_k.ids, b_k.ids)
    meeting = [
        (*(1,) * (rank - len(a_shape)), *a_shape[:-1], 1),
        (*(1,) * (rank - len(b_shape)), *b_shape[:-2], 1, b_shape[-1]),
    ]
    return meet_labels(n, [a_rest, b_rest], meeting), a_own, b_own


def _take(n: LabelContext, labels: Labels, axis: int, other: int) -> tuple[Factor | None, Labels]:
    """The factor on the contracted axis, freed of variation along the free axis; and the rest."""
    found = on_axis(labels, axis)
    if found is None:
        return None, labels
    rest = tuple(f for f in labels if f is not found)
    if axis != found.order[-1]:  # rows are contracted: all of them keep the same columns
        return None, (*rest, n.atoms.tie_along(found, axis))
    if other in found.order:
        found = n.atoms.tie_along(found, other)
    return found, rest


def _matmul_by_weight(n: LabelContext, a_axes: Sequence[int], b_axes: Sequence[int]) -> None:
    k, rank = a_axes[-1], len(a_axes)
    reads, makes = b_axes
    x = n.line(0, k)
    rest = tuple(f for f in n.labels(0) if k not in f.order)
    y = n.fresh(n.shape(1)[makes])
    n.use(1, line_labels(y, makes, 2) + line_labels(x, reads, 2), reads=(reads,), tie=True)
    n.give(rename_axes(rest, a_axes.index, rank) + line_labels(y, rank - 1, rank))


def _gemm_cost(n: View) -> Cost:
    k = n.shape(0)[0 if n.attr("transA", 0) else 1]
    return Cost(product(n.out_shape()) * k, 0)


def _matmul_cost(n: View) -> Cost:
    return Cost(product(n.out_shape()) * n.shape(0)[-1], 0)


RULES = (
    OpRule(
        "Gemm",
        _gemm_labels,
        _gemm_cost,
        between_gemms("b = Gemm<transB=1>(a, w, c)", ", float[10,8] w, float[10] c", reads=10),
    ),
    OpRule(
        "MatMul",
        _matmul_labels,
        _matmul_cost,
        HEADER + "example (float[2,5,8] x) => (y)\n"
        "<float[8,12] q, float[8,12] k, float[8,12] v, int64[4] heads = {2,5,3,4},"
        " int64[3] flat = {2,5,12}, float[12,6] o>\n"
        "{ a = MatMul(x, q)  b = MatMul(x, k)  c = MatMul(x, v)\n"
        "  ah = Reshape(a, heads)  bh = Reshape(b, heads)  ch = Reshape(c, heads)\n"
        "  at = Transpose<perm=[0,2,1,3]>(ah)  bt = Transpose<perm=[0,2,3,1]>(bh)\n"
        "  ct = Transpose<perm=[0,2,1,3]>(ch)\n"
        "  s = MatMul(at, bt)  p = Softmax<axis=-1>(s)  z = MatMul(p, ct)\n"
        "  zt = Transpose<perm=[0,2,1,3]>(z)  zf = Reshape(zt, flat)  y = MatMul(zf, o) }",
    ),
)
