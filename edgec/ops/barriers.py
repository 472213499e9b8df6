"""Operators of ONNX that have no record, and why: the channels that reach them stay."""

from __future__ import annotations

from collections.abc import Mapping

_BODY = "runs a nested graph"
_SEQUENCE = "makes or takes sequences of tensors; those that only write Split are rewritten"
_TEXT = "works on text"
_LOSS = "is a training loss"
_INTEGER = "is written as Q/DQ when a model is loaded; inside nested graphs it stays"
_SUMS = "multiplies integers whose scales are found at run time: quantise with fixed scales"
_OPTIONAL = "makes or takes values that may be absent"
_YOUNG = "is younger than operator set 25"

BARRIERS: Mapping[str, str] = {
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _BODY),
    **dict.fromkeys(
        ("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
         "SequenceInsert", "SequenceLength", "SplitToSequence"),
        _SEQUENCE,
    ),
    **dict.fromkeys(
        ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
        _TEXT,
    ),
    **dict.fromkeys(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), _LOSS),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), _INTEGER),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), _SUMS),
    **dict.fromkeys(("Optional", "OptionalGetElement", "OptionalHasElement"), _OPTIONAL),
    **dict.fromkeys(
        ("BitCast", "CausalConvWithState", "CumProd", "LinearAttention", "SwiGLU"), _YOUNG
    ),
    "ImageDecoder": "reads encoded bytes",
}  # fmt: skip
