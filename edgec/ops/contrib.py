"""What ONNX Runtime fuses: activations, norms behind a sum, products of transposed operands.

    FastGelu, BiasGelu        an activation behind the sum with a bias
    SkipLayerNormalization    a norm of x + skip (+ bias); its last output is that sum
    EmbedLayerNormalization   a norm of the sum of what two or three tables hold
    FusedMatMul               alpha · op(A) · op(B), where op may reorder the axes
Attention is in `contrib_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from edgec.ops.elementwise import every, first
from edgec.ops.examples import HEADER, between_convs, between_gemms, microsoft
from edgec.ops.gather import LOOKED_UP
from edgec.ops.labels import Labels, line_labels
from edgec.ops.linear import matmul
from edgec.ops.meet import adopt, meet, meet_labels
from edgec.ops.norm import STATISTICS
from edgec.ops.rule import OpRule, like_input, per_output
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, Fact, View, product


def _fused(op: str, body: str, weights: str = "") -> str:
    """An example between convolutions, with the operator's domain and the type of the output."""
    text = between_convs(body, weights, result="float[2,4,8,8] y")
    return microsoft(text).replace("OP", op)


# --- a norm of a sum ---------------------------------------------------------------------------


def _skip_norm(n: LabelContext) -> None:
    """Inputs x, skip, gamma, then beta and bias (with a mean) or bias alone (without)."""
    params = [i for i in range(2, len(n.node.inputs)) if n.has(i)]
    if not all(n.is_param(i) for i in params):
        raise Barrier("computes its scale or bias at run time")
    _norm_of_sum(n, meet(n, (0, 1)), [0, 1, *params], params, moments=(1, 2), sums=3)


def _norm_of_sum(
    n: LabelContext,
    total: Labels,
    reads: Sequence[int],
    params: Sequence[int],
    moments: Collection[int],
    sums: int,
) -> None:
    """Gives the labels of a norm over the last axis of a sum.

    Args:
        n: The node.
        total: Labels of the sum.
        reads: Inputs that are read by channel, which is their last axis.
        params: Those of them that are added or multiplied element by element.
        moments: Outputs that hold mean and deviation.
        sums: The output that holds the sum.
    """
    rank, outputs = len(n.out_shape()), range(len(n.node.outputs))
    # The statistics are those of the sum, in every input that it is put together from.
    shifts = {i: rank - len(n.shape(i)) for i in reads}
    gives = [out for out in outputs if out in (0, sums)]
    labels = n.statistics([rank - 1], STATISTICS, of=total, params=shifts, outputs=gives)
    for i in params:
        labels = adopt(n, i, labels, rank)
    for out in outputs:
        if out in moments:
            n.give(tuple(f for f in labels if rank - 1 not in f.order), out)
        else:
            n.give(total if out == sums else labels, out)


def _skip_norm_cost(norm: int, bias: int) -> Callable[[View], Cost]:
    """A norm of `norm` operations per element behind a sum, with or without input `bias`."""
    return lambda n: Cost(0, (norm + 1 + n.has(bias)) * product(n.out_shape()))


def _skip_norm_facts(n: View) -> list[Fact]:
    x = n.fact(0)
    moments = Fact(x.dtype, (*n.shape(0)[:-1], 1))
    return [Fact(x.dtype, x.shape), moments, moments, Fact(x.dtype, x.shape)][: len(n.y)]


_WORDS, _PLACES, _SEGMENTS = 2, 3, 4


def _embed_norm(n: LabelContext) -> None:
    """Inputs: ids of words and segments; tables of words, places, segments; gamma, beta; mask."""
    tables = [i for i in (_WORDS, _PLACES, _SEGMENTS) if n.has(i)]
    params = [5, 6]
    if not all(n.is_param(i) for i in params):
        raise Barrier("computes its scale or bias at run time")
    for i in (0, 1, 7, 8):
        n.keep(i, "are positions in a table, or a mask")
    lines = [line_labels(n.only(i, 1, LOOKED_UP), 2, 3) for i in tables]
    total = meet_labels(n, lines, [n.out_shape()] * len(tables))
    _norm_of_sum(n, total, [*tables, *params], params, moments=(1,), sums=2)


def _embed_norm_facts(n: View) -> list[Fact]:
    table = n.fact(_WORDS)
    y = Fact(table.dtype, (*n.shape(0), n.shape(_WORDS)[1]))
    return [y, Fact(n.fact(0).dtype, (n.shape(0)[0],)), y][: len(n.y)]


def _embed_norm_cost(n: View) -> Cost:
    """Two additions, or one, before a norm."""
    return Cost(0, (7 + n.has(_SEGMENTS)) * product(n.out_shape()))


# --- a product of transposed operands ----------------------------------------------------------


def _fused_matmul(n: LabelContext) -> None:
    matmul(n, _axes(n, 0, "A"), _axes(n, 1, "B"))


def _axes(n: View, i: int, operand: str) -> list[int]:
    """The axes of input `i` in the order in which they are multiplied."""
    axes = list(range(len(n.shape(i))))
    if n.attr(f"transBatch{operand}", 0):
        axes = [*axes[1:-1], axes[0], axes[-1]]
    return [*axes[:-2], axes[-1], axes[-2]] if n.attr(f"trans{operand}", 0) else axes


def _fused_matmul_facts(n: View) -> list[Fact]:
    a = [n.shape(0)[axis] for axis in _axes(n, 0, "A")]
    b = [n.shape(1)[axis] for axis in _axes(n, 1, "B")]
    try:
        batch = np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2]))
    except ValueError as error:
        raise Barrier("multiplies batches of different sizes") from error
    return [Fact(n.fact(0).dtype, (*batch, a[-2], b[-1]))]


def _fused_matmul_cost(n: View) -> Cost:
    k = n.shape(0)[_axes(n, 0, "A")[-1]]
    scaled = n.attr("alpha", 1.0) != 1.0
    return Cost(product(n.out_shape()) * k, scaled * product(n.out_shape()))


_ROWS = (
    "t = Transpose<perm=[0,2,3,1]>(a)\n  c = Relu(t)\n  u = Reshape(c, flat)\n"
    "  v = Reshape(t, flat)\n  n = com.microsoft.OP(v, u, s{})\n  r = Reshape(n, back)\n"
    "  b = Transpose<perm=[0,3,1,2]>(r)"
)
_ROW_WEIGHTS = (
    ", int64[3] flat = {2,64,-1}, int64[4] back = {2,8,8,-1}, float[6] s, float[6] t0, float[6] t1"
)

RULES = (
    *(
        OpRule(
            f"com.microsoft::{op}",
            first,
            per_output(cost),
            _fused(op, "b = com.microsoft.OP(a)"),
            infer=like_input,
        )
        for op, cost in (("Gelu", 5), ("QuickGelu", 4))
    ),
    *(
        OpRule(
            f"com.microsoft::{op}",
            every,
            per_output(6),
            _fused(
                op,
                "t = Transpose<perm=[0,2,3,1]>(a)\n  g = com.microsoft.OP(t, p)\n"
                "  b = Transpose<perm=[0,3,1,2]>(g)",
                ", float[6] p",
            ),
            infer=like_input,
        )
        for op in ("FastGelu", "BiasGelu")
    ),
    *(
        OpRule(
            f"com.microsoft::{op}",
            _skip_norm,
            _skip_norm_cost(norm, bias),
            _fused(op, _ROWS.format(more), _ROW_WEIGHTS),
            infer=_skip_norm_facts,
        )
        for op, norm, bias, more in (
            ("SkipLayerNormalization", 6, 4, ", t0, t1"),
            ("SkipSimplifiedLayerNormalization", 4, 3, ", t1"),
        )
    ),
    OpRule(
        "com.microsoft::EmbedLayerNormalization",
        _embed_norm,
        _embed_norm_cost,
        microsoft(HEADER) + "example (int32[2,5] w, int32[2,5] p) => (float[2,5,6] y)\n"
        "<float[9,8] words, float[5,8] places, float[3,8] segments, float[8] g, float[8] b,"
        " float[8,6] o>\n"
        "{ e, m, s = com.microsoft.EmbedLayerNormalization"
        "(w, p, words, places, segments, g, b)\n"
        "  y = MatMul(e, o) }",
        infer=_embed_norm_facts,
    ),
    OpRule(
        "com.microsoft::FusedMatMul",
        _fused_matmul,
        _fused_matmul_cost,
        microsoft(
            between_gemms(
                "c = Relu(a)\n  s = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(a, c)\n"
                "  b = MatMul(s, a)",
                result="float[5,4] y",
            )
        ),
        infer=_fused_matmul_facts,
    ),
)
