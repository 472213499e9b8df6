"""Writing by index: ScatterElements, ScatterND, TensorScatter, and Scatter of old.

The axes that the index names stay whole. Along all others the data and what is written lie side by
side and lose the same channels.
"""

from __future__ import annotations

from edgec.ops.examples import at_opset, between_convs
from edgec.ops.meet import meet_apart
from edgec.ops.rule import OpRule, free
from edgec.ops.tracing import LabelContext

_WRITTEN = "is written to by index"


def _scatter_elements(n: LabelContext) -> None:
    """y = x; y[i, index[i,j]] = updates[i,j]."""
    sizes = zip(n.shape(0), n.shape(1), strict=True)
    whole = {n.axis(), *(a for a, (data, index) in enumerate(sizes) if data != index)}
    n.give(meet_apart(n, {0: whole, 1: whole, 2: whole}, _WRITTEN))


def _scatter_nd(n: LabelContext) -> None:
    """y = x; y[index[i…], t…] = updates[i…, t…]; the index names a place on the first k axes."""
    depth, places = n.shape(1)[-1], len(n.shape(1)) - 1
    n.keep(1, "says where another tensor is written to")
    n.give(meet_apart(n, {0: range(depth), 2: range(places)}, _WRITTEN))


def _tensor_scatter(n: LabelContext) -> None:
    """y = cache; y[b, start[b] : start[b] + t] = update[b], along `axis`."""
    whole = {0, n.axis("axis", -2)}
    n.keep(2, "says where another tensor is written to")
    n.give(meet_apart(n, {0: whole, 1: whole}, _WRITTEN))


_ELEMENTS = between_convs(
    "u = Neg(a)\n  i = ArgMax<axis=3>(a)\n  v = ReduceMax(u, axes)\n  b = {op}<axis=3>(a, i, v)",
    ", int64[1] axes = {3}",
)

RULES = (
    OpRule(
        "ScatterElements", _scatter_elements, free, _ELEMENTS.replace("{op}", "ScatterElements")
    ),
    OpRule(
        "Scatter",
        _scatter_elements,
        free,
        at_opset(
            between_convs(
                "i = ArgMax<axis=3>(a)\n  v = ReduceMax<axes=[3]>(a)\n"
                "  b = Scatter<axis=3>(a, i, v)"
            ),
            10,
        ),
    ),
    OpRule(
        "ScatterND",
        _scatter_nd,
        free,
        between_convs(
            "t = Transpose<perm=[2,3,0,1]>(a)\n  u = Slice(t, s, e)\n  v = Neg(u)\n"
            "  c = ScatterND(t, i, v)\n  b = Transpose<perm=[2,3,0,1]>(c)",
            ", int64[1] s = {0}, int64[1] e = {2}, int64[2,1] i = {5,2}",
        ),
    ),
    OpRule(
        "TensorScatter",
        _tensor_scatter,
        free,
        at_opset(
            between_convs(
                "u = Slice(a, s, e, d)\n  v = Neg(u)\n  b = TensorScatter<axis=2>(a, v, w)",
                ", int64[1] s = {0}, int64[1] e = {3}, int64[1] d = {2}, int64[2] w = {1,4}",
            ),
            24,
        ),
    ),
)
