"""Operators on the last two axes of a value, and on its diagonal."""

from __future__ import annotations

from edgec.ops.examples import between_convs, between_gemms
from edgec.ops.labels import rename_axes
from edgec.ops.rule import OpRule, Stop, free
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Cost, View, product


def _last_two(n: LabelContext) -> range:
    rank = len(n.shape(0))
    return range(rank - 2, rank)


def _trilu(n: LabelContext) -> None:
    n.give(n.whole(_last_two(n), "is cut along its diagonal"))


def _det(n: LabelContext) -> None:
    labels = n.whole(_last_two(n), "is an axis of a determinant")
    n.give(rename_axes(labels, lambda a: a, len(n.out_shape())))


def _det_cost(n: View) -> Cost:
    """Gaussian elimination: m³/3 multiply-adds a matrix."""
    size = n.shape(0)[-1]
    return Cost(product(n.out_shape()) * size**3 // 3, 0)


RULES = (
    OpRule("Trilu", _trilu, free, between_convs("b = Trilu(a)")),
    OpRule(
        "Det",
        _det,
        _det_cost,
        between_convs(
            "d = Det(a)\n  u = Unsqueeze(d, axes)\n  t = Tanh(u)\n  b = Mul(a, t)",
            ", int64[2] axes = {2,3}",
        ),
    ),
    OpRule(
        "EyeLike",
        Stop("its diagonal is marked"),
        free,
        between_gemms("e = EyeLike<k=1>(a)\n  b = Mul(a, e)"),
    ),
)
