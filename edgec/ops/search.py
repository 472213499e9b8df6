"""Searching along an axis: what is found depends on the data, so that axis stays whole."""

from __future__ import annotations

import numpy as np

from edgec.ops.examples import between_convs, between_gemms
from edgec.ops.labels import rename_axes
from edgec.ops.rule import OpRule, Stop, free, per_input
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Fact, View


def _top_k(n: LabelContext) -> None:
    labels = n.whole([n.axis("axis", -1)], "TopK compares these channels with each other")
    for out in range(len(n.node.outputs)):
        n.give(labels, out)


def _one_hot(n: LabelContext) -> None:
    """A new axis of size `depth` that says which class the index names."""
    rank = len(n.out_shape())
    axis = n.axis("axis", -1, rank)
    n.give(rename_axes(n.labels(0), lambda a: a if a < axis else a + 1, rank))


def _compress(n: LabelContext) -> None:
    if "axis" not in n.node.attributes:
        raise Barrier("its elements are selected one by one")
    n.keep(1, "selects from another tensor")
    n.give(n.whole([n.axis()], "is selected from by a condition"))


def _compressed(n: View) -> list[Fact]:
    """A constant condition tells how much it lets through."""
    condition = n.const(1)
    if condition is None or "axis" not in n.node.attributes:
        return n.y
    shape = list(n.shape(0))
    shape[n.axis()] = int(np.count_nonzero(condition))
    return [Fact(n.fact(0).dtype, tuple(shape))]


_COUNTED = "  s = Size(i)\n  f = Cast<to=1>(s)\n  b = Mul(a, f)"

RULES = (
    OpRule(
        "TopK",
        _top_k,
        per_input(),
        between_convs(
            "v, i = TopK<axis=3>(a, k)\n  f = Cast<to=1>(i)\n  b = Add(v, f)",
            ", int64[1] k = {3}",
        ),
    ),
    OpRule(
        "OneHot",
        _one_hot,
        free,
        between_convs(
            "i = ArgMax<axis=2, keepdims=0>(a)\n  b = OneHot<axis=2>(i, depth, values)",
            ", int64 depth = {8}, float[2] values = {-0.5,1.0}",
        ),
    ),
    OpRule(
        "Compress",
        _compress,
        free,
        between_convs("b = Compress<axis=2>(a, c)", ", bool[8] c = {1,0,0,1,1,0,1,0}"),
        infer=_compressed,
    ),
    OpRule(
        "NonZero",
        Stop("the places of its elements are listed"),
        per_input(),
        between_gemms("r = Relu(a)\n  i = NonZero(r)\n" + _COUNTED),
    ),
    OpRule(
        "NonMaxSuppression",
        Stop("boxes are selected by their scores"),
        per_input(),
        between_gemms(
            "u = Unsqueeze(a, zero)\n  d = Unsqueeze(x, zero)\n"
            "  c = Slice(d, from, to, last)\n  w = Abs(c)\n  e = Add(c, w)\n"
            "  p = Concat<axis=2>(c, e)\n  q = Transpose<perm=[0,2,1]>(u)\n"
            "  i = NonMaxSuppression(p, q, most)\n" + _COUNTED,
            ", int64[1] zero = {0}, int64[1] from = {0}, int64[1] to = {2},"
            " int64[1] last = {2}, int64 most = {2}",
        ),
    ),
    OpRule(
        "Unique",
        Stop("its elements are listed in a new order"),
        per_input(),
        between_gemms("r = Round(a)\n  i = Unique(r)\n" + _COUNTED),
    ),
)
