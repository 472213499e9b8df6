"""Recurrent layers, and what goes with them.

Symbols: D directions; G gates (LSTM 4, GRU 3, RNN 1); I input width; H hidden width.
    W[D, G·H, I]    R[D, G·H, H]    B[D, 2·G·H]    P[D, 3·H]    initial and last states [D, n, H]
    gates = W · x + R · h + B
Unit h of direction d is row (g, h) of W[d], R[d] and B[d] for every gate g, entry h of the states
and of the output, and column h of R[d]: the network reads its own output there, so that zeroing
the column silences the unit inside the layer. Directions choose their units by themselves but have
one width, which is an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ops.examples import HEADER
from edgec.ops.labels import Factor, Ids, Labels, line_labels, on_axis
from edgec.ops.meet import meet_labels
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule, free
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, View, product

_DIRECTION = "is all that a direction of the recurrent layer has"
_TIME = "is the batch, the time or the direction of a recurrent layer"


@dataclass(frozen=True)
class _Kind:
    """A recurrent operator.

    Attributes:
        gates: Blocks of H rows in W and R.
        states: How many states it hands on; they start from inputs 5, … and end in outputs 1, ….
        other: Operations of one unit at one step besides the products, with the default
            activations (a Sigmoid counts 3, a Tanh 1, as in `elementwise`).
        peephole: The same for each of the three peepholes.
    """

    gates: int
    states: int
    other: int
    peephole: int = 0


# LSTM: 3 Sigmoid, 2 Tanh, c' = f·c + i·g, h = o·c'; GRU: 2 Sigmoid, Tanh, r·h, (1-z)·n + z·h.
_KINDS = {"LSTM": _Kind(4, 2, 15, 2), "GRU": _Kind(3, 1, 12), "RNN": _Kind(1, 1, 1)}


def _recurrent_labels(n: LabelContext) -> None:
    kind = _KINDS[n.node.op_type]
    for i in (1, 2, 3, 7):
        if n.has(i) and not n.is_param(i):
            raise Barrier("computes its weights at run time")
    directions, _, width = n.shape(2)
    x = n.only(0, 2, _TIME)
    ids = _units(n, directions, width)
    rows = _spread(np.tile(ids, kind.gates), (0, 1), 3)
    n.use(1, rows + line_labels(x, 2, 3), reads=(2,), tie=True)
    n.use(2, rows + _spread(ids, (0, 2), 3), reads=(2,), tie=True)
    n.use(3, _spread(np.tile(ids, 2 * kind.gates), (0, 1), 2))
    n.use(7, _spread(np.tile(ids, 3), (0, 1), 2))
    batch_first = bool(n.attr("layout", 0))
    state = _spread(ids, (1, 2) if batch_first else (0, 2), 3)
    for i in range(5, 5 + kind.states):
        _start(n, i, state, ids)
    for out in range(len(n.node.outputs)):
        n.give(_spread(ids, (2, 3) if batch_first else (1, 3), 4) if out == 0 else state, out)


def _units(n: LabelContext, directions: int, width: int) -> Ids:
    """Fresh atoms for the hidden units, int64[directions, width]; a single one is fixed."""
    if width < 2:
        return np.zeros((directions, width), np.int64)
    ids = n.fresh(directions * width).reshape(directions, width)
    n.atoms.rows(Factor(ids, (0, 1)), _DIRECTION)
    return ids


def _spread(ids: Ids, axes: tuple[int, int], rank: int) -> Labels:
    """Labels of a rank-`rank` tensor from atoms int64[directions, size] along two axes of it."""
    if not ids.any():
        return ()
    shape = [1] * rank
    for axis, size in zip(axes, ids.shape, strict=True):
        shape[axis] = size
    return (Factor(ids.reshape(shape), tuple(a for a in axes if shape[a] > 1)),)


def _start(n: LabelContext, i: int, state: Labels, ids: Ids) -> None:
    """An initial state has the channels of the state; a constant one is cut to fit."""
    if n.is_param(i):
        n.use(i, state)
    elif n.has(i) and state:
        given = n.labels(i)
        for axis in (0, 1):
            given = n.atoms.fix(given, axis, _TIME)
        if on_axis(given, 2) is None:
            n.atoms.pin(ids, "starts from a state that stays whole")
        meet_labels(n, [state, given], [n.shape(i), n.shape(i)])


def _recurrent_cost(n: View) -> Cost:
    kind = _KINDS[n.node.op_type]
    steps = product(n.shape(0)[:2])
    directions, _, width = n.shape(2)
    other = kind.other + (3 * kind.peephole if n.has(7) else 0)
    macs = steps * (product(n.shape(1)) + product(n.shape(2)))
    return Cost(macs, steps * directions * width * other)


def _recurrent_repair(n: RepairContext) -> None:
    width = n.new_shape(2)[2]
    if width != n.attr("hidden_size"):
        n.set_int("hidden_size", width)


def _reverse_labels(n: LabelContext) -> None:
    labels = n.labels(0)
    for axis in (n.axis("time_axis", 0), n.axis("batch_axis", 1)):
        labels = n.atoms.blend(labels, axis, "is the batch or the time of ReverseSequence")
    n.give(labels)


def _recurrent(op: str, inputs: str, weights: str, attributes: str = "") -> OpRule:
    """A layer of 6 hidden units in each of two directions, between two matrix products."""
    gates = _KINDS[op].gates * 6
    example = (
        HEADER + "example (float[5,2,4] x) => (y)\n"
        f"<float[2,{gates},4] w, float[2,{gates},6] r, float[2,{2 * gates}] b{weights},"
        " int64[3] flat = {5,2,12}, float[12,3] w2>\n"
        f'{{ h = {op}<hidden_size=6, direction="bidirectional"{attributes}>(x, w, r, b{inputs})\n'
        "  t = Transpose<perm=[0,2,1,3]>(h)  f = Reshape(t, flat)  y = MatMul(f, w2) }"
    )
    return OpRule(op, _recurrent_labels, _recurrent_cost, example, _recurrent_repair)


RULES = (
    _recurrent(
        "LSTM",
        ", , h0, c0, p",
        ", float[2,2,6] h0, float[2,2,6] c0, float[2,18] p",
    ),
    _recurrent("GRU", "", "", ", linear_before_reset=1"),
    _recurrent("RNN", ", , h0", ", float[2,2,6] h0"),
    OpRule(
        "ReverseSequence",
        _reverse_labels,
        free,
        HEADER + "example (float[5,2,4] x) => (y)\n"
        "<float[4,6] w, int64[2] lengths = {3,5}, float[6,3] w2>\n"
        "{ a = MatMul(x, w)  b = ReverseSequence<time_axis=0, batch_axis=1>(a, lengths)\n"
        "  y = MatMul(b, w2) }",
    ),
)
