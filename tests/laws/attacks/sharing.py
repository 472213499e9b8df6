"""One initializer for several readers, outputs inside groups, names that clash."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "weight_of_a_pinned_and_a_free_conv": """
(float[2,3,6,5] x) => (y, z)
<float[8,3,1,1] a, float[8,3,1,1] b, float[6,8,1,1] w, float[4,6,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  y = Conv(ha, w)
  q = Conv(hb, w)
  z = Conv(q, w1)
}""",
    "weight_as_data": """
(float[4,3,1,1] x) => (y)
<float[8,3,1,1] w0, float[4,8,1,1] w, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  p = Conv(h, w)
  q = Mul(h, w)
  c = Concat<axis = 1>(p, q)
  y = Conv(c, w1)
}""",
    "bias_of_many": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] a, float[8,8,1,1] b, float[8] bias, float[4,8,1,1] w1>
{
  ha = Conv(x, a, bias)
  r = Relu(ha)
  hb = Conv(r, b, bias)
  s = Relu(hb)
  y = Conv(s, w1)
}""",
    "bias_as_scale": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] a, float[8,8,1,1] b, float[8,1,1] bias, float[4,8,1,1] w1>
{
  ha = Conv(x, a)
  m = Mul(ha, bias)
  hb = Conv(m, b)
  n = Add(hb, bias)
  y = Conv(n, w1)
}""",
    "one_vector_for_all_of_a_norm": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] a, float[8] v, float[4,8,1,1] w1>
{
  h = Conv(x, a)
  n = BatchNormalization(h, v, v, v, v)
  y = Conv(n, w1)
}""",
    "one_weight_both_ways": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8,8,3,3] w, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  a = Conv(h, w)
  b = ConvTranspose(a, w)
  y = Conv(b, w1)
}""",
    "one_matrix_both_ways": """
(float[5,6] x) => (y) <float[6,8] w0, float[8,8] w, float[8,4] w1>
{
  h = MatMul(x, w0)
  a = Gemm(h, w)
  r = Relu(a)
  b = Gemm<transB = 1>(r, w)
  y = MatMul(b, w1)
}""",
    "tied_autoencoder": """
(float[5,6] x) => (y) <float[6,8] w>
{
  h = Gemm(x, w)
  r = Relu(h)
  y = Gemm<transB = 1>(r, w)
}""",
    "grouped_and_plain_share": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] a, float[4,3,1,1] b, float[6,4,1,1] w, float[4,6,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  p = Conv<group = 2>(ha, w)
  q = Conv(hb, w)
  s = Add(p, q)
  y = Conv(s, w1)
}""",
    "depthwise_shared": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] a, float[8,3,1,1] b, float[8,1,3,3] w, float[4,16,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  p = Conv<group = 8>(ha, w)
  q = Conv<group = 8>(hb, w)
  c = Concat<axis = 1>(p, q)
  y = Conv(c, w1)
}""",
    "shared_by_the_input_and_a_hidden_layer": """
(float[2,8,6,5] x) => (y) <float[8,8,1,1] w, float[4,8,1,1] w1>
{
  h = Conv(x, w)
  r = Relu(h)
  g = Conv(r, w)
  y = Conv(g, w1)
}""",
    "target_shape_of_many": """
(float[2,5,6] x) => (y)
<float[6,12] a, float[6,12] b, int64[4] heads = {2, 5, -1, 4}, int64[3] back = {2, 5, 12},
 float[12,4] w1, float[12,4] w2>
{
  ha = MatMul(x, a)
  hb = MatMul(x, b)
  ra = Reshape(ha, heads)
  rb = Reshape(hb, heads)
  na = Neg(ra)
  fa = Reshape(na, back)
  fb = Reshape(rb, back)
  p = MatMul(fa, w1)
  q = MatMul(fb, w2)
  y = Add(p, q)
}""",
    "one_constant_for_start_and_axis": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] one = {1}, int64[1] six = {6}, float[4,5,1,1] w1>
{
  h = Conv(x, w0)
  s = Slice(h, one, six, one, one)
  y = Conv(s, w1)
}""",
    "weight_is_an_output": """
(float[2,3,6,5] x) => (float[2,4,6,5] y, float[4,8,1,1] w1) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  y = Conv(h, w1)
}""",
    "part_is_an_output": """
(float[2,3,6,5] x) => (y, p)
<float[8,3,1,1] w0, int64[1] i0 = {0}, int64[1] i3 = {3}, int64[1] c = {1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Slice(h, i0, i3, c)
  p = Identity(s)
  y = Conv(h, w1)
}""",
    "mean_is_an_output": """
(float[2,3,6,5] x) => (y, p) <float[8,3,1,1] w0, int64[1] c = {1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  p = ReduceSum<keepdims = 0>(h, c)
  y = Conv(h, w1)
}""",
    "names_clash": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8,8,1,1] w1, float[6,8,1,1] w2, float[4,6,1,1] w3>
{
  [g] h = Conv(x, w0)
  [h] g = Conv(h, w1)
  [y] f = Conv(g, w2)
  n = LRN<size = 3>(f)
  y = Conv(n, w3)
}""",
    "same_input_twice": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  a = Mul(h, h)
  b = Concat<axis = 1>(a, h)
  l, r = Split<axis = 1, num_outputs = 2>(b)
  s = Add(l, r)
  y = Conv(s, w1)
}""",
    "full_bias_of_a_product": """
(float[5,6] x) => (y) <float[6,8] w0, float[5,8] c, float[8,4] w1, float[5,1] d>
{
  h = Gemm<alpha = 0.5, beta = 2.0>(x, w0, c)
  r = Relu(h)
  y = Gemm(r, w1, d)
}""",
    "computed_bias_of_a_product": """
(float[5,6] x) => (y) <float[6,8] w0, float[6,8] w1, float[8,4] w2>
{
  a = MatMul(x, w0)
  h = Gemm(x, w1, a)
  r = Relu(h)
  y = MatMul(r, w2)
}""",
    "product_of_two_activations": """
(float[5,6] x) => (y) <float[6,8] a, float[6,8] b, float[5,4] w1>
{
  ha = MatMul(x, a)
  hb = MatMul(x, b)
  g = Gemm<transB = 1>(ha, hb)
  y = MatMul(g, w1)
}""",
    "transposed_product": """
(float[6,5] x) => (y) <float[6,8] w0, float[8,4] w1>
{
  h = Gemm<transA = 1>(x, w0)
  r = Relu(h)
  t = Transpose(r)
  y = Gemm<transA = 1>(t, w1)
}""",
    "weight_on_both_sides": """
(float[2,8,6] x) => (y) <float[6,8] w0, float[7,8] left, float[8,4] w1>
{
  h = MatMul(x, w0)
  m = MatMul(left, h)
  y = MatMul(m, w1)
}""",
    "times_a_vector": """
(float[2,5,6] x) => (y) <float[6,8] w0, float[8] v>
{
  h = MatMul(x, w0)
  y = MatMul(h, v)
}""",
    "computed_kernel": """
(float[1,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8,3,6,5] wk, int64[4] shape = {8, 1, 1, 1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  k = Conv(x, wk)
  r = Reshape(k, shape)
  d = Conv<group = 8>(h, r)
  y = Conv(d, w1)
}""",
    "parameter_of_higher_rank": """
(float[5,6] x) => (y) <float[6,8] w0, float[3,1,8] p, float[8,4] w1>
{
  h = MatMul(x, w0)
  s = Add(h, p)
  y = MatMul(s, w1)
}""",
    "parameters_meet_first": """
(float[2,5,6] x) => (y) <float[6,8] w0, float[8] a, float[5,8] b, float[8,4] w1>
{
  h = MatMul(x, w0)
  p = Max(a, b, h)
  y = MatMul(p, w1)
}""",
    "class_token": """
(float[2,5,6] x) => (y)
<float[6,8] w0, float[2,1,8] cls, float[6,8] pos, float[8,8] w1, float[8,4] w2>
{
  h = MatMul(x, w0)
  c = Concat<axis = 1>(cls, h)
  e = Add(c, pos)
  f = MatMul(e, w1)
  y = MatMul(f, w2)
}""",
}
