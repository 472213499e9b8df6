"""Attention as one node.

    S[b,h,t,u] = scale · Σ_j Q[b,h,t,j] · K[b,h/rep,u,j]      (+ mask, capped, causal)
    Y[b,h,t,j] = Σ_u softmax_u(S)[b,h,t,u] · V[b,h/rep,u,j]
Q has `rep` heads for one of K and V. Heads and their width lie in one axis, or in two.

The node is labelled as the products that it stands for: the pairs (h, j) of Q and K go together,
those of V and Y too, and each head keeps its own. The default scale, 1/√width, is written down
when the width shrinks: the removed channels count as zero, which changes no scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgec.ops.examples import HEADER, at_opset
from edgec.ops.labels import Labels, index, rename_axes, reshape
from edgec.ops.linear import multiply
from edgec.ops.meet import adopt, meet_labels
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule
from edgec.ops.shape import reshaped
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, Fact, View

Shape = tuple[int, ...]

TOKENS = "is the batch or the token axis of attention"
_SWAP_LAST = (0, 1, 3, 2)
_SWAP_HEADS = (0, 2, 1, 3)

SOFTMAX = 5
"""Operations per score, as of Softmax."""


# --- heads and their width, in one axis or in two ------------------------------------------------


def heads_shape(n: View, i: int, heads: int) -> Shape:
    """Input `i` as [batch, heads, tokens, width]; sizes may be arrays of alternatives."""
    shape = n.shape(i)
    if len(shape) not in (3, 4):
        raise Barrier(f"reads a value of rank {len(shape)}")
    return shape if len(shape) == 4 else (shape[0], heads, shape[1], shape[2] // heads)


def heads_labels(n: LabelContext, i: int, heads: int) -> Labels:
    """Labels of input `i` as [batch, heads, tokens, width]; batch and tokens stay whole."""
    if len(n.shape(i)) == 3 and (heads < 1 or n.shape(i)[2] % heads):
        raise Barrier(f"cannot split {n.shape(i)[2]} channels into {heads} heads")
    shape, labels = heads_shape(n, i, heads), n.labels(i)
    if len(n.shape(i)) == 3:
        labels = split_heads(n, labels, shape)
    return whole_tokens(n, labels)


def whole_tokens(n: LabelContext, labels: Labels) -> Labels:
    """Labels of [batch, heads, tokens, width] that keep batch and tokens whole."""
    for axis in (0, 2):
        labels = n.atoms.blend(labels, axis, TOKENS)
    return labels


def split_heads(n: LabelContext, labels: Labels, shape: Shape) -> Labels:
    """Labels of [batch, tokens, heads · width] as [batch, heads, tokens, width], of `shape`."""
    after = [shape[a] for a in _SWAP_HEADS]
    before = (*after[:2], after[2] * after[3])
    return rename_axes(reshaped(n, labels, before, after), _SWAP_HEADS.index, 4)


def join_heads(n: LabelContext, labels: Labels, shape: Shape) -> Labels:
    """Labels of [batch, heads, tokens, width] as [batch, tokens, heads · width]."""
    before = [shape[a] for a in _SWAP_HEADS]
    after = (*before[:2], before[2] * before[3])
    return reshape(n.atoms, rename_axes(labels, _SWAP_HEADS.index, 4), before, after)


# --- the products --------------------------------------------------------------------------------


def attend(
    n: LabelContext, labels: Sequence[Labels], shapes: Sequence[Shape], mask: int
) -> tuple[Labels, Labels]:
    """Labels of Y and of the scores.

    Args:
        n: The node.
        labels: Of Q, K and V, each [batch, heads, tokens, width].
        shapes: Their sizes; the tokens of the past are among those of K and V.
        mask: The input that is added to the scores; it may be absent.
    """
    q, k, v = shapes
    rep = q[1] // k[1]

    def spread(own: Labels) -> Labels:
        """One head of K or V for each of Q."""
        return own if k[1] == 1 else index(own, 1, lambda ids: np.repeat(ids, rep, 1))

    heads = 1 if k[1] == 1 else q[1]
    turned = rename_axes(spread(labels[1]), _SWAP_LAST.index, 4)
    scores, _, _ = multiply(n, (labels[0], turned), (q, (k[0], heads, k[3], k[2])))
    scores = _masked(n, mask, scores, (*q[:3], k[2]))
    y, _, _ = multiply(n, (scores, spread(labels[2])), ((*q[:3], k[2]), (v[0], heads, *v[2:])))
    return y, scores


def _masked(n: LabelContext, i: int, scores: Labels, shape: Shape) -> Labels:
    if not n.has(i):
        return scores
    if n.is_param(i):
        return adopt(n, i, scores, 4)
    own = n.shape(i)
    missing = 4 - len(own)
    mask = rename_axes(n.labels(i), lambda axis: axis + missing, 4)
    return meet_labels(n, [scores, mask], [shape, (1,) * missing + tuple(own)])


def cached(n: LabelContext, labels: Labels, shape: Shape, past: int) -> tuple[Labels, Shape]:
    """Labels and sizes of K or V behind the tokens of the past, input `past`."""
    if not n.has(past):
        return labels, shape
    before = n.shape(past)
    if len(before) != 4:
        raise Barrier(f"reads a past of rank {len(before)}")
    old = whole_tokens(n, n.labels(past))
    sizes = [(1, heads, 1, width) for _, heads, _, width in (shape, before)]
    whole = (*shape[:2], shape[2] + before[2], shape[3])
    return meet_labels(n, [labels, old], sizes), whole


def mix_products(n: LabelContext) -> None:
    """Records that the channels of Q and K are contracted; it is enough to silence one of them."""
    i = 1 if n.is_param(0) else 0
    if not n.is_param(i):
        n.mix(i, n.labels(i))


def pin_rest(n: LabelContext, first: int) -> None:
    """Pins what reaches the inputs from `first` on, which carry no channels (lengths, indices)."""
    for i in range(first, len(n.node.inputs)):
        n.keep(i, "says where attention reads, and is no data")


def score_cost(n: View, q: Shape, v: Shape, mask: int) -> Cost:
    """Work on the scores: the two products, scale, mask, cap and softmax.

    Args:
        n: The node.
        q: Sizes of Q.
        v: Sizes of V and its past.
        mask: The input that is added to the scores; it may be absent.
    """
    batch, heads, tokens, width = q
    scores = batch * heads * tokens * v[2]
    capped = 3 if n.attr("softcap", 0.0) else 0  # division, tanh, product
    return Cost(scores * (width + v[3]), scores * (1 + capped + n.has(mask) + SOFTMAX))


def attention_facts(n: View, q: Shape, k: Shape, v: Shape) -> list[Fact]:
    """Facts of Y, of K and V with their past, and of the scores, as far as the node has them."""
    batch, heads, tokens, _ = q
    y = (batch, tokens, heads * v[3]) if len(n.shape(0)) == 3 else (*q[:3], v[3])
    dtype = n.fact(0).dtype
    return [Fact(dtype, shape) for shape in (y, k, v, (*q[:3], k[2]))][: len(n.y)]


def keep_scale(n: RepairContext, width: int) -> None:
    """Writes down the scale that attention over heads of `width` has by default."""
    if not n.attr("scale"):
        n.set_float("scale", 1 / math.sqrt(width))


# --- ai.onnx -------------------------------------------------------------------------------------


def _heads(n: View, i: int) -> int:
    if len(n.shape(i)) == 4:
        return n.shape(i)[1]
    heads: int | None = n.attr("kv_num_heads" if i else "q_num_heads")
    if heads is None:
        raise Barrier("does not say how many heads it has")
    return heads


def _attention(n: LabelContext) -> None:
    labels = [heads_labels(n, i, _heads(n, i)) for i in range(3)]
    shapes = [heads_shape(n, i, _heads(n, i)) for i in range(3)]
    for i, name in enumerate(("q_num_heads", "kv_num_heads")):
        if len(n.shape(i)) == 3:
            n.count(name, labels[i], shapes[i], 1)
    for i, past in ((1, 4), (2, 5)):
        labels[i], shapes[i] = cached(n, labels[i], shapes[i], past)
        if len(n.node.outputs) > i:
            n.give(labels[i], i)
    pin_rest(n, 6)
    mix_products(n)
    y, scores = attend(n, labels, shapes, 3)
    batch, heads, tokens, _ = shapes[0]
    if len(n.shape(0)) == 3:
        y = join_heads(n, y, (batch, heads, tokens, shapes[2][3]))
    n.give(y)
    if len(n.node.outputs) > 3:
        n.give(scores, 3)


def _attention_facts(n: View) -> list[Fact]:
    """ONNX's own inference leaves out what is present where nothing is past."""
    q, k, v = (heads_shape(n, i, _heads(n, i)) for i in range(3))
    past = n.shape(4)[2] if n.has(4) else 0
    tokens = k[2] + past
    return attention_facts(n, q, (*k[:2], tokens, k[3]), (*v[:2], tokens, v[3]))


def _attention_cost(n: View) -> Cost:
    q, v = (heads_shape(n, i, _heads(n, i)) for i in (0, 2))
    past = n.shape(5)[2] if n.has(5) else 0
    return score_cost(n, q, (*v[:2], v[2] + past, v[3]), 3)


def _attention_repair(n: RepairContext) -> None:
    keep_scale(n, heads_shape(n, 0, _heads(n, 0))[3])


RULES = (
    OpRule(
        "Attention",
        _attention,
        _attention_cost,
        at_opset(HEADER, 23) + "example (float[2,5,8] x) => (y)\n"
        "<float[8,12] q, float[8,12] k, float[8,15] v, float[15,6] o>\n"
        "{ a = MatMul(x, q)  b = MatMul(x, k)  c = MatMul(x, v)\n"
        "  z = Attention<q_num_heads=3, kv_num_heads=3>(a, b, c)  y = MatMul(z, o) }",
        _attention_repair,
        _attention_facts,
    ),
)
