"""What ONNX Runtime fuses: activations, norms behind a sum, products of transposed operands.

    FastGelu, BiasGelu        an activation behind the sum with a bias
    SkipLayerNormalization    a norm of x + skip (+ bias); its last output is that sum
    FusedMatMul               alpha · op(A) · op(B), where op may swap the last two axes
Attention is in `contrib_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ops.elementwise import every, first
from edgec.ops.examples import between_convs, between_gemms, microsoft
from edgec.ops.labels import rename_axes
from edgec.ops.linear import multiply
from edgec.ops.meet import adopt, meet_labels
from edgec.ops.norm import STATISTICS
from edgec.ops.rule import OpRule, like_input, per_output
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, Fact, View, product

_SUM = 3  # the output of a skip norm that holds the sum


def _fused(op: str, body: str, weights: str = "") -> str:
    """An example between convolutions, with the operator's domain and the type of the output."""
    text = between_convs(body, weights, result="float[2,4,8,8] y")
    return microsoft(text).replace("OP", op)


# --- a norm of a sum ---------------------------------------------------------------------------


def _skip_norm(n: LabelContext) -> None:
    """Inputs x, skip, gamma, then beta and bias (with a mean) or bias alone (without)."""
    rank = len(n.shape(0))
    params = [i for i in range(2, len(n.node.inputs)) if n.has(i)]
    if not all(n.is_param(i) for i in params) or n.is_param(0) or n.is_param(1):
        raise Barrier("takes statistics of a sum with a parameter")
    shapes = [n.shape(0), (1,) * (rank - len(n.shape(1))) + tuple(n.shape(1))]
    skip = rename_axes(n.labels(1), lambda a: a + rank - len(n.shape(1)), rank)
    total = meet_labels(n, [n.labels(0), skip], shapes)
    # The statistics are those of the sum, in every input that it is put together from.
    reads = {1: rank - len(n.shape(1)), **dict.fromkeys(params, rank - 1)}
    labels = n.statistics([rank - 1], STATISTICS, params=reads)
    for i in params:
        labels = adopt(n, i, labels, rank)
    n.give(labels)
    if len(n.node.outputs) > _SUM:
        if any(norm.node is n.node for norm in n.trace.norms):
            raise Barrier("passes on the sum that it takes statistics of")
        n.give(total, _SUM)


def _skip_norm_facts(n: View) -> list[Fact]:
    x = n.fact(0)
    moments = Fact(x.dtype, (*n.shape(0)[:-1], 1))
    return [Fact(x.dtype, x.shape), moments, moments, Fact(x.dtype, x.shape)][: len(n.y)]


# --- a product of transposed operands ----------------------------------------------------------


def _fused_matmul(n: LabelContext) -> None:
    if n.attr("transBatchA", 0) or n.attr("transBatchB", 0):
        raise Barrier("multiplies with the batch axis behind the rows")
    a, b = _swap(n, 0, "transA"), _swap(n, 1, "transB")
    if len(n.shape(0)) < 2 or len(n.shape(1)) < 2:
        raise Barrier("multiplies a vector")
    if n.is_param(0) or n.is_param(1):
        raise Barrier("multiplies by a weight, which MatMul and Gemm do")
    moved = tuple(
        rename_axes(n.labels(i), order.index, len(order)) for i, order in enumerate((a, b))
    )
    shapes = tuple([n.shape(i)[axis] for axis in order] for i, order in enumerate((a, b)))
    labels, own, _ = multiply(n, (moved[0], moved[1]), (shapes[0], shapes[1]))
    n.mix(0, rename_axes(own, a.__getitem__, len(a)))
    n.give(labels)


def _swap(n: View, i: int, name: str) -> Sequence[int]:
    """The axes of input `i` in the order in which they are multiplied."""
    axes = list(range(len(n.shape(i))))
    return [*axes[:-2], axes[-1], axes[-2]] if n.attr(name, 0) else axes


def _fused_matmul_facts(n: View) -> list[Fact]:
    a = [n.shape(0)[axis] for axis in _swap(n, 0, "transA")]
    b = [n.shape(1)[axis] for axis in _swap(n, 1, "transB")]
    batch = a[:-2] if len(a) >= len(b) else b[:-2]
    return [Fact(n.fact(0).dtype, (*batch, a[-2], b[-1]))]


def _fused_matmul_cost(n: View) -> Cost:
    k = n.shape(0)[-2 if n.attr("transA", 0) else -1]
    return Cost(product(n.out_shape()) * k, product(n.out_shape()))


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
            per_output(cost),
            _fused(op, _ROWS.format(more), _ROW_WEIGHTS),
            infer=_skip_norm_facts,
        )
        for op, cost, more in (
            ("SkipLayerNormalization", 8, ", t0, t1"),
            ("SkipSimplifiedLayerNormalization", 6, ", t1"),
        )
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
