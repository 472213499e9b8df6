"""Quantisation to integers and back: x ≈ scale[c] · (q − zero[c]), element by element.

With one scale for all, channels pass. With one per channel, its scale and zero point go with it.
A weight that is stored as integers is read by DequantizeLinear alone: its axes are labelled there,
and what reads the result ties them, as it does any value that is computed.

With blocks along an axis, scale[⌊k / block⌋, n] · (q[k, n] − zero[⌊k / block⌋, n]): the channels
of a block go together, so that those behind it stay with their scales; those of other axes go
alone.

DynamicQuantizeLinear spans what the tensor holds: a channel that goes may change every number.
MatMulNBits of ONNX Runtime has such a weight packed into bytes, which nothing takes apart.
"""

from __future__ import annotations

import numpy as np

from edgec.ops.examples import between_convs, between_gemms
from edgec.ops.labels import line_labels
from edgec.ops.rule import OpRule, Stop, per_output
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, Fact, View, product

_STEPS = "0.02,0.03,0.04,0.05,0.03,0.02"
_ZEROS = "1,-3,0,2,7,-5"
_WEIGHT = ",".join(str(53 * i % 101 - 50) for i in range(36))


def _per_scale(n: LabelContext) -> None:
    if n.attr("block_size", 0):
        _per_block(n, int(n.attr("block_size")))
        return
    labels = n.labels(0, stored=n.node.op_type == "DequantizeLinear")  # an int32 bias
    if len(n.shape(1)) == 1 and n.shape(1)[0] > 1:
        axis = n.axis("axis", 1)
        line = n.atoms.line(labels, axis)
        for i in (1, 2):
            n.use_line(i, line)
        rest = tuple(f for f in labels if axis not in f.order)
        labels = rest + line_labels(line, axis, len(n.shape(0)))
    n.give(labels)


def _per_block(n: LabelContext, block: int) -> None:
    if not n.is_param(1) or (n.has(2) and not n.is_param(2)):
        raise Barrier("is quantised in blocks, and computes their scales")
    rank, along = len(n.shape(0)), n.axis("axis", 1)
    labels = n.labels(0)
    lines = [n.atoms.line(labels, axis) for axis in range(rank)]
    ids = lines[along]
    if ids is not None:
        n.atoms.unite(ids, np.repeat(ids[::block], block)[: ids.size])
        lines[along] = ids[::block]
    for i in (1, 2):
        n.use(i, tuple(f for a, line in enumerate(lines) for f in line_labels(line, a, rank)))
    n.give(labels)


_DEQUANTIZE = between_convs(
    "k = DequantizeLinear<axis=0>(w, s, z)\n  b = Conv(a, k)",
    f", int8[6,6,1,1] w = {{{_WEIGHT}}}, float[6] s = {{{_STEPS}}}, int8[6] z = {{{_ZEROS}}}",
)


def _packed_facts(n: View) -> list[Fact]:
    return [Fact(n.fact(0).dtype, (*n.shape(0)[:-1], int(n.attr("N"))))]


def _packed_cost(n: View) -> Cost:
    return Cost(product(n.out_shape()) * int(n.attr("K")), 0)


_BYTES = ",".join(str(29 * i % 251) for i in range(64))

RULES = (
    OpRule(
        "QuantizeLinear",
        _per_scale,
        per_output(3),
        between_convs(
            "q = QuantizeLinear<axis=1>(a, s, z)\n  b = DequantizeLinear<axis=1>(q, s, z)",
            f", float[6] s = {{{_STEPS}}}, int8[6] z = {{{_ZEROS}}}",
        ),
    ),
    OpRule("DequantizeLinear", _per_scale, per_output(2), _DEQUANTIZE),
    OpRule(
        "DynamicQuantizeLinear",
        Stop("takes one scale from all channels at run time: quantise with fixed scales"),
        per_output(5),
        between_convs("q, s, z = DynamicQuantizeLinear(a)\n  b = DequantizeLinear(q, s, z)"),
    ),
    OpRule(
        "com.microsoft::MatMulNBits",
        Stop("its weight is packed in blocks"),
        _packed_cost,
        between_gemms(
            "c = Relu(a)\n"
            "  b = com.microsoft.MatMulNBits<K=8, N=8, bits=4, block_size=16>(c, q, s)",
            f", uint8[8,1,8] q = {{{_BYTES}}}, float[8] s",
        )
        .replace('"" : 21]', '"" : 21, "com.microsoft" : 1]')
        .replace("=> (y)", "=> (float[5,4] y)"),
        infer=_packed_facts,
    ),
)
