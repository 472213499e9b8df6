"""The laws over the older spellings of operators: attributes that later became inputs."""

from __future__ import annotations

import pytest
from zoo import model_of

from laws import Found, obey

CONV = "<float[8,3,1,1] w0, float[4,8,1,1] w1"
IMAGE = "(float[2,3,6,4] x) => (float[2,4,6,4] y)"

# name: opset, signature, weights, body; groups, units, pins, moved
MODELS: dict[str, tuple[int, str, str, tuple[int, int, int, int]]] = {
    "slice_attributes": (
        9,
        "(float[2,3,6,4] x) => (float[2,4,6,4] y) <float[8,3,1,1] w0, float[4,5,1,1] w1>",
        "h = Conv(x, w0)  s = Slice<axes=[1], starts=[1], ends=[6]>(h)  y = Conv(s, w1)",
        (2, 8, 1, 8),
    ),
    "slice_attributes_of_many_axes": (
        9,
        "(float[2,3,6,4] x) => (float[2,4,5,4] y) <float[8,3,1,1] w0, float[4,3,1,1] w1>",
        "h = Conv(x, w0)  s = Slice<starts=[0,-3,1], ends=[2,9,6]>(h)  y = Conv(s, w1)",
        (2, 8, 1, 8),
    ),
    "slice_int32_inputs": (
        10,
        "(float[2,3,6,4] x) => (float[2,4,6,4] y) <float[9,3,1,1] w0, float[4,3,1,1] w1,"
        " int32[1] s = {1}, int32[1] e = {8}, int32[1] c = {1}, int32[1] t = {3}>",
        "h = Conv(x, w0)  p = Slice(h, s, e, c, t)  y = Conv(p, w1)",
        (2, 9, 1, 9),
    ),
    "split_attribute": (
        9,
        f"{IMAGE} {CONV}>",
        "h = Conv(x, w0)  a, b = Split<axis=1, split=[3,5]>(h)  c = Concat<axis=1>(b, a)"
        "  y = Conv(c, w1)",
        (2, 8, 1, 8),
    ),
    "split_evenly": (
        11,
        "(float[2,3,6,4] x) => (float[2,4,6,4] y) <float[8,3,1,1] w0, float[4,4,1,1] w1>",
        "h = Conv(x, w0)  a, b = Split<axis=-3>(h)  c = Mul(a, b)  y = Conv(c, w1)",
        (1, 4, 1, 4),
    ),
    "split_input": (
        13,
        f"{IMAGE} {CONV}, int64[2] sizes = {{3, 5}}>",
        "h = Conv(x, w0)  a, b = Split<axis=1>(h, sizes)  c = Concat<axis=1>(b, a)"
        "  y = Conv(c, w1)",
        (2, 8, 1, 8),
    ),
    "squeeze_attribute": (
        9,
        "(float[2,3,6,4] x) => (float[2,4,1,1] y) <float[8,3,1,1] w0, float[8,8] m,"
        " float[4,8,1,1] w1>",
        "h = Conv(x, w0)  p = GlobalAveragePool(h)  s = Squeeze<axes=[2,3]>(p)  r = MatMul(s, m)"
        "  u = Unsqueeze<axes=[2,3]>(r)  y = Conv(u, w1)",
        (2, 16, 1, 16),
    ),
    "squeeze_attribute_from_behind": (
        11,
        "(float[2,3,6,4] x) => (float[2,4,1,1] y) <float[8,3,1,1] w0, float[8,8] m,"
        " float[4,8,1,1] w1>",
        "h = Conv(x, w0)  p = GlobalAveragePool(h)  s = Squeeze<axes=[-1,-2]>(p)"
        "  r = MatMul(s, m)  u = Unsqueeze<axes=[-1,-2]>(r)  y = Conv(u, w1)",
        (2, 16, 1, 16),
    ),
    "reduce_attribute": (
        9,
        f"{IMAGE} {CONV}>",
        "h = Conv(x, w0)  p = ReduceMean<axes=[2,3], keepdims=1>(h)  m = Mul(h, p)"
        "  s = ReduceSum<axes=[1]>(m)  n = Mul(m, s)  y = Conv(n, w1)",
        (1, 8, 1, 8),
    ),
    "reduce_sum_input_beside_mean_attribute": (
        13,
        f"{IMAGE} {CONV}, int64[1] c = {{1}}>",
        "h = Conv(x, w0)  p = ReduceMean<axes=[-2,-1], keepdims=1>(h)  m = Mul(h, p)"
        "  s = ReduceSum(m, c)  n = Mul(m, s)  y = Conv(n, w1)",
        (1, 8, 1, 8),
    ),
    "pad_attribute": (
        9,
        "(float[2,3,6,4] x) => (float[2,4,8,4] y) <float[8,3,1,1] w0, float[4,11,1,1] w1>",
        "h = Conv(x, w0)  p = Pad<pads=[0,1,1,0,0,2,1,0], value=0.5>(h)  y = Conv(p, w1)",
        (2, 10, 1, 10),
    ),
    "pad_input": (
        11,
        "(float[2,3,6,4] x) => (float[2,4,8,4] y) <float[8,3,1,1] w0, float[4,11,1,1] w1,"
        " int64[8] pads = {0,1,1,0,0,2,1,0}, float value = {0.5}>",
        "h = Conv(x, w0)  p = Pad(h, pads, value)  y = Conv(p, w1)",
        (2, 10, 1, 10),
    ),
    "clip_attributes": (
        9,
        f"{IMAGE} {CONV}>",
        "h = Conv(x, w0)  c = Clip<min=-0.5, max=0.5>(h)  y = Conv(c, w1)",
        (1, 8, 1, 8),
    ),
    "clip_inputs": (
        11,
        f"{IMAGE} {CONV}, float low = {{-0.5}}>",
        "h = Conv(x, w0)  c = Clip(h, low)  y = Conv(c, w1)",
        (1, 8, 1, 8),
    ),
    "dropout_ratio_attribute": (
        9,
        f"{IMAGE} {CONV}>",
        "h = Conv(x, w0)  c = Dropout<ratio=0.5>(h)  y = Conv(c, w1)",
        (1, 8, 1, 8),
    ),
    "softmax_flattens": (
        11,
        f"{IMAGE} {CONV}>",
        "h = Conv(x, w0)  s = Softmax<axis=2>(h)  y = Conv(s, w1)",
        (1, 8, 1, 8),
    ),
    "softmax_flattens_channels": (
        11,
        f"{IMAGE} {CONV}>",
        "h = Conv(x, w0)  s = Softmax(h)  y = Conv(s, w1)",
        (0, 0, 2, 0),
    ),
    "resize_two_inputs": (
        10,
        "(float[2,3,3,2] x) => (float[2,4,6,4] y) <float[8,3,1,1] w0, float[4,8,1,1] w1,"
        " float[4] scales = {1,1,2,2}>",
        'h = Conv(x, w0)  u = Resize<mode="nearest">(h, scales)  y = Conv(u, w1)',
        (1, 8, 1, 8),
    ),
    "resize_sizes": (
        11,
        "(float[2,3,3,2] x) => (float[2,4,6,4] y) <float[8,3,1,1] w0, float[4,8,1,1] w1,"
        " float[0] roi = {}, float[0] scales = {}, int64[4] sizes = {2,8,6,4}>",
        'h = Conv(x, w0)  u = Resize<mode="nearest">(h, roi, scales, sizes)  y = Conv(u, w1)',
        (1, 8, 1, 8),
    ),
    "norm_in_place": (
        9,
        f"{IMAGE} {CONV}, float[8] s, float[8] b, float[8] m, float[8] v>",
        "h = Conv(x, w0)  n = BatchNormalization<momentum=0.8>(h, s, b, m, v)  y = Conv(n, w1)",
        (1, 8, 1, 8),
    ),
    "lrn": (
        9,
        f"{IMAGE} {CONV}>",
        "h = Conv(x, w0)  n = LRN<size=3, alpha=0.5>(h)  y = Conv(n, w1)",
        (1, 8, 1, 0),
    ),
    "broadcast_gemm": (
        9,
        "(float[5,6] x) => (float[5,4] y) <float[8,6] w0, float[1] b, float[8,4] w1>",
        "h = Gemm<transB=1>(x, w0, b)  r = Relu(h)  y = MatMul(r, w1)",
        (1, 8, 1, 8),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_old_spelling(name: str) -> None:
    opset, signature, body, expected = MODELS[name]
    version = 4 if opset < 11 else 6
    header = f'<ir_version: {version}, opset_import: ["" : {opset}]>'
    found = obey(model_of(f"{header} g {signature} {{ {body} }}"), draws=4)
    assert found == Found(*expected, found.changed)
    assert (found.changed > 0.01) == (found.groups > 0)
