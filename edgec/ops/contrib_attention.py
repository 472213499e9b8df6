"""Attention as ONNX Runtime writes it into models that it has optimised: domain com.microsoft.

    Attention            projects to Q, K and V by one fused weight [input, q + k + v]
    MultiHeadAttention   reads Q, K and V, adds one fused bias [q + k + v]
    GroupQueryAttention  reads Q, K and V; heads have a width in eights, and go whole
Within a fused weight the heads of Q come first, then those of K, then those of V. Inputs that pack
several of these in one value are not followed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ops.attention import (
    TOKENS,
    Shape,
    attend,
    attention_facts,
    cached,
    heads_labels,
    heads_shape,
    join_heads,
    keep_scale,
    mix_products,
    pin_rest,
    score_cost,
    split_heads,
)
from edgec.ops.examples import HEADER, microsoft
from edgec.ops.labels import Ids, Labels, line_labels
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, Fact, View, product

_EIGHTS = "ONNX Runtime wants heads whose width is a multiple of 8"
_FUSED = "computes its fused weights at run time"


def _absent(n: View, first: int, why: str) -> None:
    if any(n.has(i) for i in range(first, len(n.node.inputs))):
        raise Barrier(why)


def _read(n: View, out: int) -> bool:
    """Whether something reads an output."""
    if out >= len(n.node.outputs):
        return False
    value = n.node.outputs[out]
    return bool(value.uses()) or value.is_graph_output()


def _fuse(n: LabelContext, i: int, ids: Ids, axis: int, others: Labels = ()) -> None:
    """Records a fused parameter; what of it makes Q and K is silenced by zeros, as they are mixed.

    Args:
        n: The node.
        i: The parameter.
        ids: int64[q + k + v], its channels.
        axis: Its axis that has them.
        others: Labels of its other axes, which the node reads.
    """
    own = line_labels(ids, axis, len(n.shape(i)))
    n.use(i, own + others, reads=[a for f in others for a in f.order], tie=bool(others))
    n.mix(i, own)


# --- Attention -----------------------------------------------------------------------------------


def _sizes(n: View) -> list[int]:
    """Widths of Q, K and V, all heads together."""
    given = n.attr("qkv_hidden_sizes")
    return [int(size) for size in given] if given else [n.shape(1)[1] // 3] * 3


def _attention_shapes(n: View) -> list[Shape]:
    """Q, K and V as [batch, heads, tokens, width]; sizes may be arrays of alternatives."""
    batch, tokens, _ = n.shape(0)
    heads = n.attr("num_heads")
    v = n.out_shape()[2]
    q = (n.shape(1)[1] - v) // 2
    return [(batch, heads, tokens, size // heads) for size in (q, q, v)]


def _attention(n: LabelContext) -> None:
    if not n.is_param(1) or (n.has(2) and not n.is_param(2)):
        raise Barrier(_FUSED)
    if n.has(4) or _read(n, 1):
        raise Barrier("keeps keys and values in one tensor")
    if n.attr("do_rotary", 0):
        raise Barrier("rotates its channels")
    x = n.only(0, 2, TOKENS)
    parts = [n.fresh(size) for size in _sizes(n)]
    shapes = _attention_shapes(n)
    labels = [
        split_heads(n, line_labels(own, 2, 3), shape)
        for own, shape in zip(parts, shapes, strict=True)
    ]
    n.count("num_heads", labels[0], shapes[0], 1)
    ids = np.concatenate(parts)
    _fuse(n, 1, ids, 1, line_labels(x, 0, 2))
    if n.has(2):
        _fuse(n, 2, ids, 0)
    pin_rest(n, 6)
    n.keep(3, "is a mask index")
    y, _ = attend(n, labels, shapes, 5)
    n.give(join_heads(n, y, shapes[2]))


def _attention_facts(n: View) -> list[Fact]:
    x, sizes = n.fact(0), _sizes(n)
    return [Fact(x.dtype, (*n.shape(0)[:2], sizes[2])), *(Fact(x.dtype) for _ in n.y[1:])]


def _attention_cost(n: View) -> Cost:
    q, _, v = _attention_shapes(n)
    past = n.shape(4)[3] if n.has(4) else 0
    weight = n.shape(1)
    projected = product(n.shape(0)[:2]) * weight[1]
    scores = score_cost(n, q, (*v[:2], v[2] + past, v[3]), 5)
    return Cost(projected * weight[0] + scores.macs, projected * n.has(2) + scores.other)


def _attention_repair(n: RepairContext) -> None:
    old = _sizes(n)
    keep_scale(n, old[0] // n.attr("num_heads"))
    v = n.new_out_shape()[2]
    q = (n.new_shape(1)[1] - v) // 2
    if [q, q, v] != old:
        n.set_ints("qkv_hidden_sizes", [q, q, v])


# --- MultiHeadAttention --------------------------------------------------------------------------


def _separate(n: View) -> None:
    """Refuses values that hold several of Q, K and V."""
    if not (n.has(1) and n.has(2)) or any(len(n.shape(i)) != 3 for i in range(3)):
        raise Barrier("reads keys and values that are packed or split into heads")


def _channels(n: LabelContext, i: int) -> Ids:
    """int64[size], the channels of input `i`; 0 where it carries none."""
    ids = n.line(i, 2)
    return np.zeros(n.shape(i)[2], np.int64) if ids is None else ids


def _multi_head(n: LabelContext) -> None:
    _separate(n)
    _absent(n, 8, "keeps its cache in place")
    heads = n.attr("num_heads")
    labels = [heads_labels(n, i, heads) for i in range(3)]
    shapes = [heads_shape(n, i, heads) for i in range(3)]
    n.count("num_heads", labels[0], shapes[0], 1)
    if n.has(3):
        if not n.is_param(3):
            raise Barrier(_FUSED)
        _fuse(n, 3, np.concatenate([_channels(n, i) for i in range(3)]), 0)
    n.keep(4, "is a padding mask")
    mix_products(n)
    _attend(n, labels, shapes, past=6, mask=5)


def _attend(
    n: LabelContext, labels: list[Labels], shapes: list[Shape], past: int, mask: int
) -> None:
    """Gives the labels of Y, of K and V with the past before them, and of the scores."""
    for i in (1, 2):
        labels[i], shapes[i] = cached(n, labels[i], shapes[i], past + i - 1)
        if len(n.node.outputs) > i:
            n.give(labels[i], i)
    y, scores = attend(n, labels, shapes, mask)
    n.give(join_heads(n, y, (*shapes[0][:3], shapes[2][3])))
    if len(n.node.outputs) > 3:
        n.give(scores, 3)


def _cached_shapes(n: View, heads: Sequence[int], past: int) -> list[Shape]:
    """Q, and K and V with the past before them; sizes may be arrays of alternatives."""
    _separate(n)
    q, k, v = (heads_shape(n, i, own) for i, own in enumerate(heads))
    before = n.shape(past)[2] if n.has(past) else 0
    return [q, *((*s[:2], s[2] + before, s[3]) for s in (k, v))]


def _multi_head_facts(n: View) -> list[Fact]:
    heads = [n.attr("num_heads")] * 3
    return attention_facts(n, *_cached_shapes(n, heads, 6))


def _multi_head_cost(n: View) -> Cost:
    q, _, v = _cached_shapes(n, [n.attr("num_heads")] * 3, 6)
    cost = score_cost(n, q, v, 5)
    biased = sum(product(n.shape(i)) for i in range(3)) if n.has(3) else 0
    return Cost(cost.macs, cost.other + biased)


def _multi_head_repair(n: RepairContext) -> None:
    keep_scale(n, n.shape(0)[2] // n.attr("num_heads"))


# --- GroupQueryAttention -------------------------------------------------------------------------


def _group_heads(n: View) -> list[int]:
    kv = n.attr("kv_num_heads")
    return [n.attr("num_heads"), kv, kv]


def _group_query(n: LabelContext) -> None:
    _separate(n)
    _absent(n, 11, "has inputs that edgec does not follow")
    heads = _group_heads(n)
    shapes = [heads_shape(n, i, own) for i, own in enumerate(heads)]
    labels = [n.atoms.fix(heads_labels(n, i, own), 3, _EIGHTS) for i, own in enumerate(heads)]
    n.count("num_heads", labels[0], shapes[0], 1)
    n.count("kv_num_heads", labels[1], shapes[1], 1)
    for i in range(5, 10):
        n.keep(i, "is a length, a position or a rotary table")
    mix_products(n)
    _attend(n, labels, shapes, past=3, mask=10)


def _group_query_facts(n: View) -> list[Fact]:
    q, k, v = _cached_shapes(n, _group_heads(n), 3)
    total = n.const(6)
    if total is not None:
        past = n.shape(3)[2] if n.has(3) else 0
        tokens = max(past, int(total.ravel()[0]))
        k, v = ((*s[:2], tokens, s[3]) for s in (k, v))
    elif n.has(3):
        return attention_facts(n, q, k, v)[:1] + [Fact(n.fact(0).dtype) for _ in n.y[1:]]
    return attention_facts(n, q, k, v)


def _group_query_cost(n: View) -> Cost:
    q, _, v = _cached_shapes(n, _group_heads(n), 3)
    cost = score_cost(n, q, v, 10)
    rotated = 3 * (product(n.shape(0)) + product(n.shape(1))) if n.attr("do_rotary", 0) else 0
    return Cost(cost.macs, cost.other + rotated)


RULES = (
    OpRule(
        "com.microsoft::Attention",
        _attention,
        _attention_cost,
        microsoft(HEADER) + "example (float[2,5,6] x) => (float[2,5,6] y)\n"
        "<float[6,8] p, float[8,39] w, float[39] b, float[15,6] o>\n"
        "{ a = MatMul(x, p)\n"
        "  z = com.microsoft.Attention<num_heads=3, qkv_hidden_sizes=[12,12,15]>(a, w, b)\n"
        "  y = MatMul(z, o) }",
        _attention_repair,
        _attention_facts,
    ),
    OpRule(
        "com.microsoft::MultiHeadAttention",
        _multi_head,
        _multi_head_cost,
        microsoft(HEADER) + "example (float[2,5,8] x) => (float[2,5,6] y)\n"
        "<float[8,12] q, float[8,12] k, float[8,15] v, float[39] bias, float[15,6] o>\n"
        "{ a = MatMul(x, q)  b = MatMul(x, k)  c = MatMul(x, v)\n"
        "  z = com.microsoft.MultiHeadAttention<num_heads=3>(a, b, c, bias)  y = MatMul(z, o) }",
        _multi_head_repair,
        _multi_head_facts,
    ),
    OpRule(
        "com.microsoft::GroupQueryAttention",
        _group_query,
        _group_query_cost,
        microsoft(HEADER) + "example (float[2,5,8] x) => (float[2,5,6] y)\n"
        "<float[8,48] q, float[8,24] k, float[8,24] v, float[48,6] o,\n"
        " int32[2] last = {4,4}, int32 total = {5}>\n"
        "{ a = MatMul(x, q)  b = MatMul(x, k)  c = MatMul(x, v)\n"
        "  z, pk, pv = com.microsoft.GroupQueryAttention<num_heads=6, kv_num_heads=3>"
        "(a, b, c, , , last, total)\n"
        "  y = MatMul(z, o) }",
        infer=_group_query_facts,
    ),
)
