"""Micro models of convolution, normalisation, attention over channels, and branching.

Each pattern stands between a producer and a consumer of channels, so that there is something to
cut. Sizes differ from axis to axis wherever they can, so that a mistaken axis shows.
"""

from __future__ import annotations

_STEPS = "0.02,0.03,0.04,0.05,0.03,0.02,0.02,0.03,0.04,0.05,0.03,0.02"


def _ints(size: int) -> str:
    """Values of a quantised weight."""
    return ",".join(str(53 * i % 101 - 50) for i in range(size))


TEXTS: dict[str, str] = {
    "conv_bn_relu": """
(float[2,3,6,5] x) => (y)
<float[8,3,3,3] w1, float[8] s, float[8] b, float[8] mean, float[8] var, float[4,8,1,1] w2>
{
  h = Conv<pads = [1,1,1,1]>(x, w1)
  n = BatchNormalization(h, s, b, mean, var)
  r = Relu(n)
  y = Conv(r, w2)
}""",
    "conv_chain_biased": """
(float[2,3,9,7] x) => (y)
<float[8,3,3,3] w1, float[8] b1, float[6,8,3,3] w2, float[6] b2, float[4,6,1,1] w3, float[4] b3>
{
  h1 = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w1, b1)
  r1 = Relu(h1)
  h2 = Conv<pads = [2,2,2,2], dilations = [2,2]>(r1, w2, b2)
  r2 = LeakyRelu<alpha = 0.1>(h2)
  y = Conv(r2, w3, b3)
}""",
    "conv1d": """
(float[2,3,11] x) => (y) <float[8,3,3] w1, float[8] b1, float[4,8,1] w2>
{
  h = Conv<pads = [1,1]>(x, w1, b1)
  r = Relu(h)
  y = Conv(r, w2)
}""",
    "conv3d": """
(float[2,3,4,5,6] x) => (y) <float[8,3,3,3,3] w1, float[4,8,1,1,1] w2>
{
  h = Conv<pads = [1,1,1,1,1,1]>(x, w1)
  r = Relu(h)
  y = Conv(r, w2)
}""",
    "grouped_conv": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w1, float[12,4,3,3] w2, float[12] b2, float[4,12,1,1] w3>
{
  h = Conv(x, w1)
  g = Conv<group = 2, pads = [1,1,1,1]>(h, w2, b2)
  r = Relu(g)
  y = Conv(r, w3)
}""",
    "grouped_conv_quantised": f"""
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w1, int8[12,4,1,1] w2 = {{{_ints(48)}}}, float[12] s = {{{_STEPS}}},
 int8[12] z = {{1,-3,0,2,7,-5,0,0,1,2,3,-4}}, float[12] b2, float[4,12,1,1] w3>
{{
  h = Conv(x, w1)
  k = DequantizeLinear<axis = 0>(w2, s, z)
  g = Conv<group = 2>(h, k, b2)
  r = Relu(g)
  y = Conv(r, w3)
}}""",
    "grouped_conv_pair": """
(float[2,3,6,5] x) => (y)
<float[12,3,1,1] w1, float[12,4,3,3] w2, float[6,2,1,1] w3, float[4,6,1,1] w4>
{
  h = Conv(x, w1)
  a = Conv<group = 3, pads = [1,1,1,1]>(h, w2)
  b = Conv<group = 6>(a, w3)
  y = Conv(b, w4)
}""",
    "depthwise": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w1, float[8,1,3,3] w2, float[8] b2, float[4,8,1,1] w3>
{
  h = Conv(x, w1)
  d = Conv<group = 8, pads = [1,1,1,1]>(h, w2, b2)
  r = Clip(d)
  y = Conv(r, w3)
}""",
    "depthwise_multiplier_2": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w1, float[16,1,3,3] w2, float[16] b2, float[4,16,1,1] w3>
{
  h = Conv(x, w1)
  d = Conv<group = 8, pads = [1,1,1,1]>(h, w2, b2)
  r = Relu(d)
  y = Conv(r, w3)
}""",
    "conv_transpose": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w1, float[8,6,2,2] w2, float[6] b2, float[4,6,1,1] w3>
{
  h = Conv(x, w1)
  u = ConvTranspose<strides = [2,2]>(h, w2, b2)
  r = Relu(u)
  y = Conv(r, w3)
}""",
    "conv_transpose_grouped": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w1, float[8,3,2,2] w2, float[6] b2, float[4,6,1,1] w3>
{
  h = Conv(x, w1)
  u = ConvTranspose<strides = [2,2], group = 2>(h, w2, b2)
  r = Relu(u)
  y = Conv(r, w3)
}""",
    "conv_transpose_grouped_quantised": f"""
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w1, int8[8,3,2,1] w2 = {{{_ints(48)}}}, float s = {{0.03}}, float[6] b2,
 float[4,6,1,1] w3>
{{
  h = Conv(x, w1)
  k = DequantizeLinear(w2, s)
  u = ConvTranspose<group = 2, strides = [2,1]>(h, k, b2)
  r = Relu(u)
  y = Conv(r, w3)
}}""",
    "conv_transpose_depthwise": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w1, float[8,1,4,4] w2, float[4,8,1,1] w3>
{
  h = Conv(x, w1)
  u = ConvTranspose<strides = [2,2], pads = [1,1,1,1], group = 8>(h, w2)
  y = Conv(u, w3)
}""",
    "residual_chain": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] stem, float[6,8,3,3] a1, float[8,6,3,3] b1, float[5,8,3,3] a2, float[8,5,3,3] b2,
 float[4,8,1,1] head>
{
  t0 = Conv(x, stem)
  h1 = Conv<pads = [1,1,1,1]>(t0, a1)
  r1 = Relu(h1)
  f1 = Conv<pads = [1,1,1,1]>(r1, b1)
  t1 = Add(t0, f1)
  h2 = Conv<pads = [1,1,1,1]>(t1, a2)
  r2 = Relu(h2)
  f2 = Conv<pads = [1,1,1,1]>(r2, b2)
  t2 = Add(t1, f2)
  y = Conv(t2, head)
}""",
    "residual_projection": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] w0, float[8,6,3,3] w1, float[8,6,1,1] wp, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  a = Conv<pads = [1,1,1,1], strides = [2,2]>(h, w1)
  p = Conv<strides = [2,2]>(h, wp)
  s = Add(a, p)
  r = Relu(s)
  y = Conv(r, w2)
}""",
    "sum_of_three": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] a, float[8,3,1,1] b, float[8,3,1,1] c, float[4,8,1,1] w>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  hc = Conv(x, c)
  s = Sum(ha, hb, hc)
  y = Conv(s, w)
}""",
    "maximum_of_two": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] a, float[8,3,1,1] b, float[4,8,1,1] w>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  m = Max(ha, hb)
  y = Conv(m, w)
}""",
    "densenet_concat_chain": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] w0, float[8,6,1,1] a1, float[4,8,3,3] b1, float[8,10,1,1] a2, float[4,8,3,3] b2,
 float[14] s, float[14] b, float[14] m, float[14] v, float[4,14,1,1] head>
{
  d0 = Conv(x, w0)
  h1 = Conv(d0, a1)
  g1 = Conv<pads = [1,1,1,1]>(h1, b1)
  d1 = Concat<axis = 1>(d0, g1)
  h2 = Conv(d1, a2)
  g2 = Conv<pads = [1,1,1,1]>(h2, b2)
  d2 = Concat<axis = 1>(d1, g2)
  n = BatchNormalization(d2, s, b, m, v)
  y = Conv(n, head)
}""",
    "c2f": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[4,4,3,3] a, float[4,4,3,3] b, float[6,12,1,1] w1, float[5,6,1,1] w2>
{
  h = Conv(x, w0)
  l, r = Split<axis = 1, num_outputs = 2>(h)
  ra = Conv<pads = [1,1,1,1]>(r, a)
  rs = Relu(ra)
  rb = Conv<pads = [1,1,1,1]>(rs, b)
  m = Add(r, rb)
  c = Concat<axis = 1>(l, r, m)
  o = Conv(c, w1)
  y = Conv(o, w2)
}""",
    "shared_conv_twice": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[8,8,3,3] w, float[4,8,1,1] w1>
{
  h0 = Conv(x, w0)
  h1 = Conv<pads = [1,1,1,1]>(h0, w)
  r1 = Relu(h1)
  h2 = Conv<pads = [1,1,1,1]>(r1, w)
  y = Conv(h2, w1)
}""",
    "shared_conv_two_levels": """
(float[2,3,8,4] x) => (y1, y2)
<float[8,3,1,1] p1, float[8,8,1,1] p2, float[6,8,3,3] shared, float[6] bias, float[4,6,1,1] out>
{
  f1 = Conv(x, p1)
  f2 = Conv<strides = [2,2]>(f1, p2)
  h1 = Conv<pads = [1,1,1,1]>(f1, shared, bias)
  h2 = Conv<pads = [1,1,1,1]>(f2, shared, bias)
  y1 = Conv(h1, out)
  y2 = Conv(h2, out)
}""",
    "two_outputs": """
(float[2,3,6,5] x) => (y1, y2) <float[8,3,1,1] w0, float[6,8,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  r = Relu(h)
  y1 = Conv(r, w1)
  y2 = Conv(r, w2)
}""",
    "output_is_hidden": """
(float[2,3,6,5] x) => (y, h) <float[8,3,1,1] w0, float[6,8,1,1] w1, float[4,6,1,1] w2>
{
  h = Conv(x, w0)
  g = Conv(h, w1)
  y = Conv(g, w2)
}""",
    "se_conv": """
(float[2,3,6,5] x) => (y)
<float[8,3,3,3] w0, float[2,8,1,1] s1, float[2] b1, float[8,2,1,1] s2, float[8] b2,
 float[4,8,1,1] w1>
{
  h = Conv<pads = [1,1,1,1]>(x, w0)
  p = GlobalAveragePool(h)
  q = Conv(p, s1, b1)
  r = Relu(q)
  e = Conv(r, s2, b2)
  g = HardSigmoid(e)
  m = Mul(h, g)
  y = Conv(m, w1)
}""",
    "se_linear": """
(float[2,3,6,5] x) => (y)
<float[8,3,3,3] w0, float[2,8] s1, float[8,2] s2, int64[4] shape = {2, 8, 1, 1},
 int64[2] hw = {2, 3},
 float[4,8,1,1] w1>
{
  h = Conv<pads = [1,1,1,1]>(x, w0)
  p = ReduceMean<keepdims = 0>(h, hw)
  q = Gemm<transB = 1>(p, s1)
  r = Relu(q)
  e = Gemm<transB = 1>(r, s2)
  g = Sigmoid(e)
  u = Reshape(g, shape)
  m = Mul(h, u)
  y = Conv(m, w1)
}""",
    "spatial_attention": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[1,2,3,3] wa, int64[1] c = {1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  avg = ReduceMean<keepdims = 1>(h, c)
  top = ReduceMax<keepdims = 1>(h, c)
  two = Concat<axis = 1>(avg, top)
  a = Conv<pads = [1,1,1,1]>(two, wa)
  g = Sigmoid(a)
  m = Mul(h, g)
  y = Conv(m, w1)
}""",
    "one_channel_gate": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[1,8,1,1] wa, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  a = Conv(h, wa)
  g = Sigmoid(a)
  m = Mul(g, h)
  y = Conv(m, w1)
}""",
    "layer_scale": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8,8,1,1] w1, float[1,8,1,1] gamma, float[8,1,1] shift, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  f = Conv(h, w1)
  g = Mul(f, gamma)
  b = Sub(g, shift)
  s = Add(h, b)
  y = Conv(s, w2)
}""",
    "prelu": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[8,1,1] slope, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  r = PRelu(h, slope)
  y = Conv(r, w1)
}""",
    "prelu_one_slope": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[1] slope, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  r = PRelu(h, slope)
  y = Conv(r, w1)
}""",
    "activations": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float six = {6.0}, float zero = {0.0}, float three = {3.0}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  a = Elu(h)
  b = Softplus(a)
  c = Tanh(b)
  d = HardSwish(c)
  e = Gelu(d)
  k = Add(e, three)
  l = Clip(k, zero, six)
  m = Div(l, six)
  g = Sigmoid(h)
  n = Mul(m, g)
  y = Conv(n, w1)
}""",
    "instance_norm": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[8] s, float[8] b, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  n = InstanceNormalization(h, s, b)
  y = Conv(n, w1)
}""",
    "group_norm": """
<ir_version: 10, opset_import: ["" : 21]>
g (float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8] s, float[8] b, float[2,8,6,5] n, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  n = GroupNormalization<num_groups = 4>(h, s, b)
  y = Conv(n, w1)
}""",
    "group_norm_of_one_group": """
<ir_version: 10, opset_import: ["" : 21]>
g (float[2,3,6,5] x) => (y)
<float[8,3,1,1] w1, float[8] s, float[8] b, float[4,8,1,1] w2, float[2,8,6,5] n>
{
  h = Conv(x, w1)
  n = GroupNormalization<num_groups = 1>(h, s, b)
  y = Conv(n, w2)
}""",
    "group_norm_decomposed": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[3] split = {0, 4, -1}, float[4] one = {1, 1, 1, 1},
 float[4] nil = {0, 0, 0, 0},
 int64[4] back = {2, 8, 6, 5}, float[8,1,1] s, float[8,1,1] b, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  g = Reshape(h, split)
  i = InstanceNormalization(g, one, nil)
  r = Reshape(i, back)
  m = Mul(r, s)
  n = Add(m, b)
  y = Conv(n, w1)
}""",
    "lrn": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  n = LRN<size = 3, alpha = 0.5>(h)
  y = Conv(n, w1)
}""",
    "pools": """
(float[2,3,9,7] x) => (y) <float[8,3,1,1] w0, float[8,8,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  a = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(h)
  b = Conv(a, w1)
  c = AveragePool<kernel_shape = [2,2]>(b)
  d = GlobalMaxPool(c)
  y = Conv(d, w2)
}""",
    "global_pool_classifier": """
(float[2,3,6,5] x) => (y) <float[8,3,3,3] w0, float[8] b0, float[5,8] w1, float[5] b1>
{
  h = Conv<pads = [1,1,1,1]>(x, w0, b0)
  r = Relu(h)
  p = GlobalAveragePool(r)
  f = Flatten(p)
  z = Gemm<transB = 1>(f, w1, b1)
  y = Softmax<axis = -1>(z)
}""",
    "resize_scales": """
(float[2,3,4,3] x) => (y) <float[8,3,1,1] w0, float[4] scales = {1, 1, 2, 2}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  u = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
    nearest_mode = "floor">(h, , scales)
  y = Conv(u, w1)
}""",
    "resize_sizes": """
(float[2,3,4,3] x) => (y) <float[8,3,1,1] w0, int64[4] sizes = {2, 8, 8, 6}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  u = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(h, , , sizes)
  y = Conv(u, w1)
}""",
    "upsample_opset_9": """
<ir_version: 4, opset_import: ["" : 9]>
g (float[2,3,4,3] x) => (y) <float[8,3,1,1] w0, float[4] scales = {1, 1, 2, 2}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  u = Upsample<mode = "nearest">(h, scales)
  y = Conv(u, w1)
}""",
    "dropout_identity_cast": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  d = Dropout(h)
  i = Identity(d)
  c = Cast<to = 11>(i)
  f = Cast<to = 1>(c)
  y = Conv(f, w1)
}""",
}
