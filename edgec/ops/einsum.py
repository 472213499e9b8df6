"""Einsum over one or two operands.

Every letter of the equation is an axis of one *space*: first those of the result, then those that
are summed over. An operand has size 1 in the space along letters that it lacks. There Einsum is a
product element by element, in which labels meet as in any other (`meet`), followed by a sum: labels
along a summed letter are tied to those of the other operand, and end.

A weight makes channels along the letters that it alone has. Along a letter that it shares with the
result and the other operand (a batch: heads, experts) every row makes its own, equally many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from edgec.ops.examples import HEADER
from edgec.ops.labels import Factor, Labels, on_axis, rename_axes
from edgec.ops.linear import LONE
from edgec.ops.meet import meet_labels
from edgec.ops.rule import OpRule
from edgec.ops.tracing import LabelContext
from edgec.ops.view import FREE, Barrier, Cost, View, product

_ROWS = "is all that a row of the product has"


@dataclass(frozen=True)
class _Equation:
    """The space of an equation.

    Attributes:
        terms: Per operand: the space's axis of each of its axes.
        kept: Axes of the result; they come first. Those from here on are summed over.
        rank: All axes.
    """

    terms: tuple[tuple[int, ...], ...]
    kept: int
    rank: int

    def place(self, i: int, labels: Labels) -> Labels:
        """Labels of operand `i` in the space."""
        return rename_axes(labels, self.terms[i].__getitem__, self.rank)

    def back(self, i: int, labels: Labels) -> Labels:
        """Labels in the space as those of operand `i`."""
        return rename_axes(labels, self.terms[i].index, len(self.terms[i]))

    def shape(self, i: int, sizes: Sequence[int]) -> list[int]:
        """Sizes of operand `i` in the space."""
        wide = [1] * self.rank
        for axis, size in zip(self.terms[i], sizes, strict=True):
            wide[axis] = size
        return wide


def _equation(n: View) -> _Equation:
    left, arrow, right = str(n.attr("equation")).replace(" ", "").partition("->")
    parts = left.split(",")
    ranks = [len(n.shape(i)) for i in range(len(parts))]
    dots = max(
        (rank - len(part) + 3 for part, rank in zip(parts, ranks, strict=True) if "..." in part),
        default=0,
    )
    terms = [_letters(part, rank) for part, rank in zip(parts, ranks, strict=True)]
    flat = [letter for term in terms for letter in term]
    shared = [f".{k}" for k in range(dots, 0, -1)]
    if arrow:
        result = _letters(right, len(right) - 3 + dots if "..." in right else len(right))
    else:
        result = shared + sorted(a for a in set(flat) if flat.count(a) == 1 and "." not in a)
    space = [*result, *(a for a in dict.fromkeys(flat) if a not in result)]
    if any(len(set(term)) < len(term) for term in (*terms, result)):
        raise Barrier("takes a diagonal")
    if not set(shared) <= set(result):
        raise Barrier("sums over an ellipsis")
    places = tuple(tuple(space.index(a) for a in term) for term in terms)
    return _Equation(places, len(result), len(space))


def _letters(term: str, rank: int) -> list[str]:
    """The letters of a term; an ellipsis stands for letters .3 .2 .1, counted from its end."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return [*before, *(f".{k}" for k in range(hidden, 0, -1)), *after]


def _einsum_labels(n: LabelContext) -> None:
    equation = _equation(n)
    count = len(equation.terms)
    params = [i for i in range(count) if n.is_param(i)]
    moving = [i for i in range(count) if i not in params]
    if count > 2:
        raise Barrier("multiplies more than two tensors")
    if not moving:
        raise Barrier("multiplies constants")
    parts = [_split(n, equation, i, equation.place(i, n.labels(i))) for i in moving]
    if params:
        _keep_rows(n, equation, parts[0][1])
        labels = _by_weight(n, equation, params[0], *parts[0])
    else:
        if len(parts) == 2:
            parts = [_shared(n, equation, i, parts) for i in moving]
        _contract(n, equation, [summed for _, summed in parts])
        sizes = [equation.shape(i, n.shape(i))[: equation.kept] for i in moving]
        rests = [rename_axes(rest, lambda axis: axis, equation.kept) for rest, _ in parts]
        labels = meet_labels(n, rests, sizes)
    n.give(rename_axes(labels, lambda axis: axis, equation.kept))


def _split(n: LabelContext, equation: _Equation, i: int, labels: Labels) -> tuple[Labels, Labels]:
    """What of operand `i` reaches the result, and what is summed over."""
    others = {axis for j, term in enumerate(equation.terms) if j != i for axis in term}
    rest, summed = [], []
    for factor in labels:
        if factor.order[-1] < equation.kept:
            # Rows that are summed over all keep the same columns.
            rest.append(_tied(n, factor, [a for a in factor.order if a >= equation.kept]))
            continue
        own = [a for a in factor.order if a < equation.kept and a not in others]
        summed.append(_tied(n, factor, own))
    return tuple(rest), tuple(summed)


def _tied(n: LabelContext, factor: Factor, axes: Sequence[int]) -> Factor:
    for axis in axes:
        factor = n.atoms.tie_along(factor, axis)
    return factor


def _keep_rows(n: LabelContext, equation: _Equation, summed: Labels) -> None:
    """The result has a row for every row of what is summed over: none may go."""
    for factor in summed:
        for row in factor.order:
            if row < equation.kept:
                n.atoms.fix((factor,), row, _ROWS)


def _shared(
    n: LabelContext, equation: _Equation, i: int, parts: Sequence[tuple[Labels, Labels]]
) -> tuple[Labels, Labels]:
    """`parts[i]`, where what is multiplied with an axis that stays whole stays whole.

    Of rows (heads), whole ones may go all the same: they reach the result.
    """
    (rest, labels), (_, others) = parts[i], parts[1 - i]
    sizes = equation.shape(1 - i, n.shape(1 - i))
    summed: Labels = ()
    for factor in labels:
        left: Labels = (factor,)
        for axis in factor.order:
            if axis >= equation.kept and sizes[axis] > 1 and on_axis(others, axis) is None:
                left = n.atoms.fix(left, axis, LONE)
        rest += tuple(f for f in left if f.order[-1] < equation.kept)
        summed += tuple(f for f in left if f.order[-1] >= equation.kept)
    _keep_rows(n, equation, summed)
    return rest, summed


def _contract(n: LabelContext, equation: _Equation, summed: Sequence[Labels]) -> None:
    """Ties what both operands sum over. Masking one side of a product masks the other."""
    left, right = [*summed, ()][:2]
    for a in left:
        for b in right:
            if set(a.order) & set(b.order):
                n.atoms.unite(a.ids, b.ids)
    lone = [b for b in right if not any(set(a.order) & set(b.order) for a in left)]
    n.mix(0, equation.back(0, left))
    if lone:
        n.mix(1, equation.back(1, tuple(lone)))


def _by_weight(
    n: LabelContext, equation: _Equation, i: int, rest: Labels, summed: Labels
) -> Labels:
    """Labels of the product of the other operand with weight `i`."""
    own, other = equation.terms[i], equation.terms[1 - i]
    shape = equation.shape(i, n.shape(i))
    wide = [axis for axis in own if shape[axis] > 1]

    def fitted(factor: Factor) -> Factor:
        """The factor, tied along letters that the weight lacks."""
        return _tied(n, factor, [axis for axis in factor.order if axis not in wide])

    kept = [fitted(f) if set(f.order) & set(wide) else f for f in rest]
    read = [fitted(f) for f in summed if set(f.order) & set(wide)]
    n.mix(1 - i, equation.back(1 - i, tuple(f for f in summed if not set(f.order) & set(wide))))
    rows = [a for a in wide if a in other and a < equation.kept and not on_axis(tuple(kept), a)]
    made = _made(n, equation, shape, rows, [a for a in wide if a not in other])
    uses = (*made, *(f for f in kept if set(f.order) & set(wide)), *read)
    reads = sorted({own.index(a) for f in read for a in f.order if a >= equation.kept})
    n.use(i, equation.back(i, uses), reads=reads, tie=True)
    return (*kept, *made)


def _made(
    n: LabelContext, equation: _Equation, shape: Sequence[int], rows: list[int], own: list[int]
) -> Labels:
    """Fresh channels along the weight's own letters; each of the `rows` has its own channels."""
    own = [axis for axis in own if axis < equation.kept]
    if not own:
        return ()
    order = (*rows, *own)
    ids = n.fresh(prod(shape[a] for a in order)).reshape([shape[a] for a in order])
    flat = Factor(ids, tuple(range(len(order))))
    if rows:
        n.atoms.rows(flat, _ROWS)
    elif len(own) > 1:
        flat = n.rows(flat)
    return rename_axes((flat,), order.__getitem__, equation.rank)


def _einsum_cost(n: View) -> Cost:
    equation = _equation(n)
    space = [*n.out_shape(), *[1] * (equation.rank - equation.kept)]
    for i, term in enumerate(equation.terms):
        for axis, size in zip(term, n.shape(i), strict=True):
            if axis >= equation.kept:
                space[axis] = size
    steps = product(space)
    if len(equation.terms) > 1:
        return Cost((len(equation.terms) - 1) * steps, 0)
    return Cost(0, steps) if equation.rank > equation.kept else FREE


RULES = (
    OpRule(
        "Einsum",
        _einsum_labels,
        _einsum_cost,
        HEADER + "example (float[2,5,8] x) => (y)\n"
        "<float[8,3,4] q, float[8,3,4] k, float[8,3,4] v, float[3,4,6] o>\n"
        '{ a = Einsum<equation="btm,mhd->bhtd">(x, q)\n'
        '  b = Einsum<equation="btm,mhd->bhtd">(x, k)\n'
        '  c = Einsum<equation="btm,mhd->bthd">(x, v)\n'
        '  s = Einsum<equation="bhid,bhjd->bhij">(a, b)  p = Softmax<axis=-1>(s)\n'
        '  z = Einsum<equation="bhij,bjhd->bihd">(p, c)\n'
        '  y = Einsum<equation="bthd,hdm->btm">(z, o) }',
    ),
)
