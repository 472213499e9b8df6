"""Templates for the example of a rule: a few nodes of ONNX text around the operator.

Weights are declared after the signature without data (`<float[8,4,3,3] w>`); whoever runs the
example fills them. A convolution before and after gives the operator channels that can be cut.
"""

from __future__ import annotations

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def at_opset(text: str, opset: int) -> str:
    """The example under another operator set than most."""
    return text.replace('"" : 21', f'"" : {opset}')


def microsoft(text: str) -> str:
    """The example where operators of ONNX Runtime's own may be used."""
    return text.replace('"" : 21]', '"" : 21, "com.microsoft" : 1]')


def between_convs(body: str, weights: str = "", reads: int = 6, result: str = "y") -> str:
    """A 6-channel convolution makes `a`, `body` turns it into `b`, a convolution reads `b`.

    Args:
        body: Text of the nodes from `a` (float[2,6,8,8]) to `b`.
        weights: More declarations for the value list, each preceded by a comma.
        reads: Channels of `b`.
        result: The output, with its type where ONNX's own inference does not know the operator.
    """
    return HEADER + (
        f"example (float[2,3,8,8] x) => ({result})\n"
        f"<float[6,3,3,3] w1, float[4,{reads},1,1] w2{weights}>\n"
        "{ a = Conv<pads=[1,1,1,1]>(x, w1)\n"
        f"  {body}\n"
        "  y = Conv(b, w2) }"
    )


def between_gemms(body: str, weights: str = "", reads: int = 8, result: str = "y") -> str:
    """An 8-wide Gemm makes `a` (float[5,8]), `body` turns it into `b`, a Gemm reads `b`."""
    return HEADER + (
        f"example (float[5,6] x) => ({result})\n"
        f"<float[6,8] w1, float[{reads},4] w2{weights}>\n"
        "{ a = Gemm(x, w1)\n"
        f"  {body}\n"
        "  y = Gemm(b, w2) }"
    )
