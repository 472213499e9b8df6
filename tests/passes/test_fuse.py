"""BatchNormalization folds into what feeds it, and the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import feeds_of, model_of, run

from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm

NORM = "float[6] s, float[6] t, float[6] m, float[6] v"
IMAGE = "(float[2,4,6,6] x) => (y)"


@pytest.mark.parametrize(
    "text",
    [
        f"{IMAGE} <float[6,4,3,3] w, {NORM}>"
        "{ c = Conv(x, w)  y = BatchNormalization(c, s, t, m, v) }",
        f"{IMAGE} <float[6,4,3,3] w, float[6] b, {NORM}>"
        "{ c = Conv(x, w, b)  n = BatchNormalization(c, s, t, m, v)  y = Relu(n) }",
        f"{IMAGE} <float[6,2,3,3] w, {NORM}>"
        "{ c = Conv<group=2>(x, w)  y = BatchNormalization<epsilon=0.1>(c, s, t, m, v) }",
        f"{IMAGE} <float[4,6,2,2] w, float[6] b, {NORM}>"
        "{ c = ConvTranspose<strides=[2,2]>(x, w, b)  y = BatchNormalization(c, s, t, m, v) }",
        f"{IMAGE} <float[4,3,2,2] w, {NORM}>"
        "{ c = ConvTranspose<group=2>(x, w)  y = BatchNormalization(c, s, t, m, v) }",
        f"(float[5,4] x) => (y) <float[4,6] w, {NORM}>"
        "{ c = Gemm(x, w)  y = BatchNormalization(c, s, t, m, v) }",
        f"(float[5,4] x) => (y) <float[6,4] w, float[6] b, {NORM}>"
        "{ c = Gemm<transB=1>(x, w, b)  y = BatchNormalization(c, s, t, m, v) }",
        f"(float[5,4] x) => (y) <float[4,6] w, float[6] b, {NORM}>"
        "{ c = Gemm<alpha=0.5>(x, w, b)  y = BatchNormalization(c, s, t, m, v) }",
    ],
)
def test_folds_exactly(text: str) -> None:
    model = model_of(text)
    feeds = feeds_of(model, 0)
    expected = run(model, feeds)[0]
    context = Context()
    fused = FuseBatchNorm()(model, context)
    assert "BatchNormalization" not in [n.op_type for n in fused.graph]
    assert [v.name for v in fused.graph.outputs] == ["y"]
    assert context.records["fuse-batchnorm"]["fused"] == 1
    np.testing.assert_allclose(run(fused, feeds)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"(float[2,4,6,6] x) => (y, c) <float[6,4,3,3] w, {NORM}>"
            "{ c = Conv(x, w)  y = BatchNormalization(c, s, t, m, v) }",
            "read elsewhere",
        ),
        (
            f"(float[2,6,4,4] x) => (y) <{NORM}> {{ y = BatchNormalization(x, s, t, m, v) }}",
            "no convolution or Gemm feeds it",
        ),
        (
            f"(float[5,4] x) => (y) <float[4,6] w, float[5,6] b, {NORM}>"
            "{ c = Gemm(x, w, b)  y = BatchNormalization(c, s, t, m, v) }",
            "not one value per channel",
        ),
        (
            f"(float[5,4] x) => (y) <float[4,6] w, float[6] b, {NORM}>"
            "{ c = Gemm<beta=0.5>(x, w, b)  y = BatchNormalization(c, s, t, m, v) }",
            "scales its bias",
        ),
        (
            f"{IMAGE} <float[6,4,3,3] w, {NORM}>"
            "{ c = Conv(x, w)  y, r, q = BatchNormalization<training_mode=1>(c, s, t, m, v) }",
            "in training mode",
        ),
    ],
)
def test_refuses_with_a_reason(text: str, reason: str) -> None:
    model = model_of(text)
    feeds = feeds_of(model, 0)
    expected = run(model, feeds)[0]
    context = Context()
    kept = FuseBatchNorm()(model, context)
    (why,) = context.records["fuse-batchnorm"]["kept"].values()
    assert reason in why
    np.testing.assert_array_equal(run(kept, feeds)[0], expected)


def test_a_shared_weight_is_copied() -> None:
    """Two convolutions with one weight, one of them normalised: the other keeps its numbers."""
    text = (
        f"{IMAGE.replace('(y)', '(y, z)')} <float[6,4,3,3] w, {NORM}>"
        "{ c = Conv(x, w)  y = BatchNormalization(c, s, t, m, v)  z = Conv(x, w) }"
    )
    model = model_of(text)
    feeds = feeds_of(model, 0)
    expected = run(model, feeds)
    fused = FuseBatchNorm()(model, Context())
    for found, wanted in zip(run(fused, feeds), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
