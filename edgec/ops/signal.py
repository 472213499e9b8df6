"""Signal processing: Fourier transforms along an axis, and the windows that go with them."""

from __future__ import annotations

from edgec.ops.examples import between_convs, between_gemms
from edgec.ops.labels import rename_axes
from edgec.ops.rule import OpRule, per_output, silent
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, View, product

_TRANSFORMED = "is transformed along this axis"


def _dft(n: LabelContext) -> None:
    rank = len(n.shape(0))
    if n.opset < 20:
        axis = int(n.attr("axis", 1))
    elif not n.has(2):
        axis = -2
    else:
        given = n.const(2)
        if given is None:
            raise Barrier("computes its axis at run time")
        axis = int(given.ravel()[0])
    n.keep(1, "is the length of a transform")
    n.give(n.whole([axis % rank, rank - 1], _TRANSFORMED))


def _stft(n: LabelContext) -> None:
    """signal[b, length, 1 or 2] → y[b, frames, bins, 2]."""
    n.keep(2, "is a window")
    labels = n.whole([1, 2], _TRANSFORMED)
    n.give(rename_axes(labels, lambda a: a, 4))


def _transform_cost(n: View) -> Cost:
    """A plain transform, every bin from every sample, as a bound: sizes need no factors of 2."""
    bins = n.out_shape()[-2]
    return Cost(2 * product(n.out_shape()[:-1]) * bins, 0)


RULES = (
    OpRule(
        "DFT",
        _dft,
        _transform_cost,
        between_convs(
            "u = Unsqueeze(a, last)\n  d = DFT(u, , axis)\n  b = ReduceL2<keepdims=0>(d, last)",
            ", int64[1] last = {-1}, int64 axis = {3}",
        ),
    ),
    OpRule(
        "STFT",
        _stft,
        _transform_cost,
        between_gemms(
            "t = Transpose<perm=[1,0]>(a)\n  u = Unsqueeze(t, last)\n"
            "  s = STFT(u, step, window, length)\n  m = ReduceL2<keepdims=0>(s, rest)\n"
            "  b = Mul(a, m)",
            ", int64[1] last = {-1}, int64 step = {1}, float[4] window = {0.5,1,1,0.5},"
            " int64 length = {4}, int64[3] rest = {1,2,3}",
        ),
    ),
    *(
        OpRule(
            op,
            silent,
            per_output(4),
            between_gemms(f"w = {op}(size)\n  b = Mul(a, w)", ", int64 size = {8}"),
        )
        for op in ("HannWindow", "HammingWindow", "BlackmanWindow")
    ),
    OpRule(
        "MelWeightMatrix",
        silent,
        per_output(4),
        between_gemms(
            "w = MelWeightMatrix(mel, dft, rate, low, high)\n  m = ReduceMax<keepdims=0>(w)\n"
            "  b = Mul(a, m)",
            ", int64 mel = {4}, int64 dft = {16}, int64 rate = {8000}, float low = {0.0},"
            " float high = {4000.0}",
        ),
    ),
)
