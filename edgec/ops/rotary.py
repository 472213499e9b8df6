"""Rotary position embedding as one node.

    Y[j] = cos[t,p] · X[j] − sin[t,p] · X[j']        Y[j'] = sin[t,p] · X[j] + cos[t,p] · X[j']
The pair p is (j, j') = (p, p + R/2), or (2p, 2p + 1) where interleaved, of the first R channels of
every head; R is all of them by default. A pair goes together, and since all heads read the same
tables it goes from all of them. Channels behind R pass, each head keeps its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.ops.attention import Shape, heads_labels, heads_shape, join_heads
from edgec.ops.examples import HEADER, at_opset, microsoft
from edgec.ops.labels import Factor, Ids, line_labels, on_axis
from edgec.ops.rule import OpRule, like_input
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, View, product

_WHOLE = "is rotated by a table that stays whole"
_TABLE = "is the position axis of a rotary table"
_WIDTH = "rotary_embedding_dim"


@dataclass(frozen=True)
class _Inputs:
    """Where the two operators have their inputs."""

    cos: int
    sin: int
    positions: int


_STANDARD = _Inputs(1, 2, 3)
_MICROSOFT = _Inputs(2, 3, 1)


def _view(n: View, at: _Inputs) -> Shape:
    """X as [batch, heads, tokens, width]."""
    heads = int(n.attr("num_heads", 0))
    if len(n.shape(0)) == 3 and not heads:  # one table entry a pair
        heads = n.shape(0)[2] // (2 * n.shape(at.cos)[-1])
    return heads_shape(n, 0, heads)


def _pairs(width: int, interleaved: bool) -> NDArray[np.int64]:
    """int64[2, width/2], the two channels of each pair."""
    places = np.arange(width)
    return places.reshape(-1, 2).T if interleaved else places.reshape(2, -1)


def _rotary(n: LabelContext, at: _Inputs) -> None:
    shape = _view(n, at)
    labels = heads_labels(n, 0, shape[1])
    n.keep(at.positions, "are positions")
    rotated = int(n.attr(_WIDTH, 0)) or shape[3]
    if len(n.shape(0)) == 3 and n.attr("num_heads", 0):
        n.count("num_heads", labels, shape, 1)
    found = on_axis(labels, 3)
    pairs: Ids | None = None
    if found is not None:
        new = _tied(n, found, rotated)
        labels = tuple(new if f is found else f for f in labels)
        pairs = new.ids[0, 0, 0, _pairs(rotated, bool(n.attr("interleaved", 0)))[0]]
        if n.attr(_WIDTH, 0):
            part = line_labels(new.ids[0, 0, 0, :rotated], 0, 1)
            n.count(_WIDTH, part, (rotated,), 0)
    for i in (at.cos, at.sin):
        _table(n, i, pairs)
    n.give(labels if len(n.shape(0)) == 4 else join_heads(n, labels, shape))


def _tied(n: LabelContext, factor: Factor, rotated: int) -> Factor:
    """Ties the two of a pair, and a pair of one head to that of all others."""
    if factor.order[-1] != 3:
        raise Barrier("rotates channels that do not lie innermost")
    first, second = _pairs(rotated, bool(n.attr("interleaved", 0)))
    n.atoms.unite(factor.ids[..., first], factor.ids[..., second])
    if rotated == factor.ids.shape[3]:
        return n.atoms.tie_along(factor, 1) if 1 in factor.order else factor
    head = factor.ids[..., :rotated]
    n.atoms.unite(head, head[:, :1])
    n.atoms.box_part(factor, 3, slice(0, rotated))
    return factor


def _table(n: LabelContext, i: int, pairs: Ids | None) -> None:
    """The tables have one entry a pair along their last axis."""
    last = len(n.shape(i)) - 1
    if n.is_param(i):
        n.use(i, line_labels(pairs, last, last + 1))
        return
    own = n.only(i, last, _TABLE)
    if pairs is not None and own is not None:
        n.atoms.unite(pairs, own)
        return
    for lone in (pairs, own):
        if lone is not None:
            n.atoms.pin(lone, _WHOLE)


def _standard(n: LabelContext) -> None:
    _rotary(n, _STANDARD)


def _microsoft(n: LabelContext) -> None:
    if n.attr("is_packed_batching", 0):
        raise Barrier("packs samples of different lengths")
    _rotary(n, _MICROSOFT)


def _cost(n: View) -> Cost:
    """Two products and a sum for each rotated element."""
    width = n.attr(_WIDTH, 0)
    if isinstance(width, int) and not width:
        return Cost(0, 3 * product(n.shape(0)))
    batch, heads, tokens, _ = heads_shape(n, 0, n.attr("num_heads", 0))
    return Cost(0, 3 * batch * heads * tokens * width)


RULES = (
    OpRule(
        "RotaryEmbedding",
        _standard,
        _cost,
        at_opset(HEADER, 23) + "example (float[2,5,6] x) => (y)\n"
        "<float[6,24] q, float[2,5,4] cos, float[2,5,4] sin, float[24,6] o>\n"
        "{ a = MatMul(x, q)  b = RotaryEmbedding<num_heads=3>(a, cos, sin)  y = MatMul(b, o) }",
    ),
    OpRule(
        "com.microsoft::RotaryEmbedding",
        _microsoft,
        _cost,
        microsoft(HEADER) + "example (float[2,5,6] x, int64[2,5] p) => (float[2,5,6] y)\n"
        "<float[6,24] q, float[9,4] cos, float[9,4] sin, float[24,6] o>\n"
        "{ a = MatMul(x, q)  b = com.microsoft.RotaryEmbedding(a, p, cos, sin)\n"
        "  y = MatMul(b, o) }",
        infer=like_input,
    ),
)
