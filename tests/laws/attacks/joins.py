"""Concat, Split, Slice, Gather, Pad and operators that look across channels, one upon another."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "split_then_other_order": """
(float[2,3,6,5] x) => (y)
<float[12,3,1,1] w0, int64[3] sizes = {4, 4, 4}, int64[5] apart = {2, 3, 4, 6, 5}, float[3,1,1,1] g,
 int64[4] back = {2, 12, 6, 5}, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  a, b, c = Split<axis = 1>(h, sizes)
  d = Concat<axis = 1>(c, a, b)
  e = Reshape(d, apart)
  f = Mul(e, g)
  r = Reshape(f, back)
  s = Add(r, h)
  y = Conv(s, w1)
}""",
    "overlapping_slices": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] i0 = {0}, int64[1] i3 = {3}, int64[1] i5 = {5}, int64[1] i8 = {8},
 int64[1] c = {1}, float[4,5,1,1] w1, float[4,5,1,1] w2>
{
  h = Conv(x, w0)
  a = Slice(h, i0, i5, c)
  b = Slice(h, i3, i8, c)
  p = Conv(a, w1)
  q = Conv(b, w2)
  y = Add(p, q)
}""",
    "overlapping_slices_meet": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] i0 = {0}, int64[1] i2 = {2}, int64[1] i6 = {6}, int64[1] i8 = {8},
 int64[1] c = {1}, float[4,6,1,1] w1>
{
  h = Conv(x, w0)
  a = Slice(h, i0, i6, c)
  b = Slice(h, i2, i8, c)
  s = Add(a, b)
  y = Conv(s, w1)
}""",
    "rotated_by_one": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] w0, int64[6] turn = {1, 2, 3, 4, 5, 0}, float[4,6,1,1] w1>
{
  h = Conv(x, w0)
  g = Gather<axis = 1>(h, turn)
  s = Mul(h, g)
  y = Conv(s, w1)
}""",
    "swapped_pairs": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] w0, int64[6] turn = {1, 0, 3, 2, 5, 4}, float[4,6,1,1] w1>
{
  h = Conv(x, w0)
  g = Gather<axis = -3>(h, turn)
  s = Sub(h, g)
  y = Conv(s, w1)
}""",
    "crossed_pairs": """
(float[2,3,6,5] x) => (y)
<float[4,3,1,1] w0, int64[2] a = {0, 3}, int64[2] b = {1, 2}, float[4,2,1,1] w1>
{
  h = Conv(x, w0)
  p = Gather<axis = 1>(h, a)
  q = Gather<axis = 1>(h, b)
  s = Sub(p, q)
  y = Conv(s, w1)
}""",
    "gather_by_a_table": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] w0, int64[2,3] table = {0, 1, 2, 3, 4, 5}, int64[4] flat = {2, 6, 6, 5},
 float[4,6,1,1] w1>
{
  h = Conv(x, w0)
  g = Gather<axis = 1>(h, table)
  f = Reshape(g, flat)
  y = Conv(f, w1)
}""",
    "gather_pixels_by_a_table": """
(float[2,3,6] x) => (y)
<float[8,3,1] w0, int64[2,2] table = {5, 0, 0, 3}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  g = Gather<axis = -1>(h, table)
  y = Conv(g, w1)
}""",
    "gather_behind_a_multiplier": """
(float[2,3,6,5] x) => (y)
<float[4,3,1,1] w0, float[8,1,3,3] dw, int64[5] pick = {1, 0, -2, -2, 3}, float[4,5,1,1] w1>
{
  h = Conv(x, w0)
  d = Conv<group = 4>(h, dw)
  g = Gather<axis = 1>(d, pick)
  y = Conv(g, w1)
}""",
    "one_channel_sliced_out": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] i2 = {2}, int64[1] i3 = {3}, int64[1] c = {1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  g = Slice(h, i2, i3, c)
  m = Mul(h, g)
  y = Conv(m, w1)
}""",
    "part_of_one": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[3] sizes = {1, 6, 1}, float[4,6,1,1] w1>
{
  h = Conv(x, w0)
  a, b, c = Split<axis = 1>(h, sizes)
  m = Mul(b, a)
  n = Add(m, c)
  y = Conv(n, w1)
}""",
    "uneven_num_outputs": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[4,3,1,1] w1, float[4,3,1,1] w2, float[4,2,1,1] w3>
{
  h = Conv(x, w0)
  a, b, c = Split<axis = 1, num_outputs = 3>(h)
  p = Conv(a, w1)
  q = Conv(b, w2)
  r = Conv(c, w3)
  y = Sum(p, q, r)
}""",
    "group_conv_over_a_seam": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] a, float[6,3,1,1] b, float[9,4,1,1] g, float[4,9,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Concat<axis = 1>(ha, hb)
  d = Conv<group = 3>(c, g)
  y = Conv(d, w1)
}""",
    "group_conv_residual": """
(float[2,3,6,5] x) => (y)
<float[12,3,1,1] w0, float[12,4,3,3] g, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  d = Conv<group = 3, pads = [1,1,1,1]>(h, g)
  s = Add(h, d)
  y = Conv(s, w1)
}""",
    "group_conv_of_the_input": """
(float[2,6,6,5] x) => (y) <float[12,3,1,1] g, float[4,12,1,1] w1>
{
  d = Conv<group = 2>(x, g)
  r = Relu(d)
  y = Conv(r, w1)
}""",
    "depthwise_of_the_input": """
(float[2,3,6,5] x) => (y) <float[12,1,3,3] g, float[4,12,1,1] w1>
{
  d = Conv<group = 3>(x, g)
  y = Conv(d, w1)
}""",
    "transposed_group_conv_of_the_input": """
(float[2,6,4,3] x) => (y) <float[6,4,2,2] g, float[8] b, float[4,8,1,1] w1>
{
  d = ConvTranspose<group = 2, strides = [2,2]>(x, g, b)
  y = Conv(d, w1)
}""",
    "many_inputs_one_output_per_group": """
(float[2,3,6,5] x) => (y) <float[12,3,1,1] w0, float[4,3,3,3] g, float[5,4,1,1] w1>
{
  h = Conv(x, w0)
  d = Conv<group = 4>(h, g)
  y = Conv(d, w1)
}""",
    "group_conv_of_a_part": """
(float[2,3,6,5] x) => (y)
<float[12,3,1,1] w0, float[6,4,3,3] g, int64[2] sizes = {4, 8}, float[4,10,1,1] w1>
{
  h = Conv(x, w0)
  a, b = Split<axis = 1>(h, sizes)
  d = Conv<group = 2, pads = [1,1,1,1]>(b, g)
  c = Concat<axis = 1>(a, d)
  y = Conv(c, w1)
}""",
    "lrn_then_concat": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] a, float[4,3,1,1] b, float[4,10,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  n = LRN<size = 3, alpha = 0.5>(ha)
  c = Concat<axis = 1>(n, hb)
  y = Conv(c, w1)
}""",
    "concat_then_lrn": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] a, float[4,3,1,1] b, float[4,13,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Concat<axis = 1>(hb, x, ha)
  n = LRN<size = 5, alpha = 0.5, beta = 0.6, bias = 2.0>(c)
  y = Conv(n, w1)
}""",
    "lrn_after_shuffle": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[5] apart = {2, 2, 4, 6, 5}, int64[4] join = {2, 8, 6, 5},
 float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  g = Reshape(h, apart)
  t = Transpose<perm = [0,2,1,3,4]>(g)
  s = Reshape(t, join)
  n = LRN<size = 5, alpha = 0.5>(s)
  y = Conv(n, w1)
}""",
    "lrn_twice_of_one": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  n = LRN<size = 3, alpha = 0.5>(h)
  m = LRN<size = 5, alpha = 0.5>(n)
  s = Add(h, m)
  y = Conv(s, w1)
}""",
    "sum_over_channels": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, int64[1] c = {1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = ReduceSum<keepdims = 1>(h, c)
  m = Mul(h, s)
  y = Conv(m, w1)
}""",
    "unit_length": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, int64[1] c = {-3}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = ReduceL2<keepdims = 1>(h, c)
  m = Div(h, s)
  y = Conv(m, w1)
}""",
    "sum_over_all": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[8,2,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  s = ReduceSumSquare<keepdims = 1>(h)
  r = Sqrt(s)
  m = Div(h, r)
  y = Conv(m, w2)
}""",
    "sum_over_nothing": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  s = ReduceSum<noop_with_empty_axes = 1>(h)
  y = Conv(s, w2)
}""",
    "sum_over_concat": """
(float[2,3,6,5] x) => (y)
<float[6,3,1,1] a, float[4,3,1,1] b, int64[2] ch = {1, 2}, float[5,4] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Concat<axis = 1>(hb, ha)
  s = ReduceSum<keepdims = 0>(c, ch)
  y = MatMul(s, w1)
}""",
    "pooled_with_indices": """
(float[2,3,6,4] x) => (y) <float[8,3,1,1] w0, float scale = {0.01}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  p, i = MaxPool<kernel_shape = [2,2], strides = [2,2]>(h)
  f = Cast<to = 1>(i)
  g = Mul(f, scale)
  s = Add(p, g)
  y = Conv(s, w1)
}""",
    "crop_channels": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[8] pads = {0, -2, 1, 0, 0, -1, 1, 0}, float[4,5,1,1] w1>
{
  h = Conv(x, w0)
  p = Pad(h, pads)
  y = Conv(p, w1)
}""",
    "pad_with_a_number": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[2] pads = {1, 2}, float k = {0.75}, int64[1] c = {-3}, float[4,11,1,1] w1>
{
  h = Conv(x, w0)
  p = Pad(h, pads, k, c)
  y = Conv(p, w1)
}""",
    "pad_channels_by_reflection": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[8] pads = {0, 2, 0, 0, 0, 2, 0, 0}, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  p = Pad<mode = "reflect">(h, pads)
  y = Conv(p, w1)
}""",
    "resize_some_axes": """
(float[2,3,4,3] x) => (y) <float[8,3,1,1] w0, int64[2] sizes = {8, 6}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  u = Resize<mode = "nearest", axes = [2,3]>(h, , , sizes)
  y = Conv(u, w1)
}""",
    "resize_axes_with_channels": """
(float[2,3,4,3] x) => (y) <float[8,3,1,1] w0, int64[3] sizes = {6, 8, 8}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  u = Resize<mode = "nearest", axes = [3,1,2]>(h, , , sizes)
  y = Conv(u, w1)
}""",
    "four_single_channels": """
(float[2,3,6,5] x) => (y)
<float[1,3,1,1] a, float[1,3,1,1] b, float[6,3,1,1] c, float[4,8,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  hc = Conv(x, c)
  j = Concat<axis = 1>(ha, hc, hb)
  y = Conv(j, w1)
}""",
    "outer_product": """
(float[2,6] x) => (y)
<float[6,8] a, float[6,4] b, int64[1] i1 = {1}, int64[1] i2 = {2}, float[4,5] w1>
{
  ha = MatMul(x, a)
  hb = MatMul(x, b)
  u = Unsqueeze(ha, i2)
  v = Unsqueeze(hb, i1)
  o = Mul(u, v)
  s = ReduceSum<keepdims = 0>(o, i1)
  y = MatMul(s, w1)
}""",
    "outer_product_flattened": """
(float[2,6] x) => (y)
<float[6,8] a, float[6,4] b, int64[1] i1 = {1}, int64[1] i2 = {2}, float[32,5] w1>
{
  ha = MatMul(x, a)
  hb = MatMul(x, b)
  u = Unsqueeze(ha, i2)
  v = Unsqueeze(hb, i1)
  o = Mul(u, v)
  f = Flatten(o)
  y = MatMul(f, w1)
}""",
    "meets_its_own_transpose": """
(float[1,3,8,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  t = Transpose<perm = [0,2,1,3]>(h)
  s = Add(h, t)
  y = Conv(s, w1)
}""",
    "gram_matrix": """
(float[2,3,4,3] x) => (y)
<float[8,3,1,1] w0, int64[3] flat = {2, 8, 12}, float[8,5] w1>
{
  h = Conv(x, w0)
  r = Reshape(h, flat)
  t = Transpose<perm = [0,2,1]>(r)
  g = MatMul(r, t)
  y = MatMul(g, w1)
}""",
    "non_local_block": """
(float[2,3,4,3] x) => (y)
<float[8,3,1,1] w0, float[6,8,1,1] theta, float[6,8,1,1] phi, float[5,8,1,1] g, float[8,5,1,1] out,
 int64[3] flat = {0, 0, -1}, int64[4] grid = {2, -1, 4, 3}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  a = Conv(h, theta)
  b = Conv(h, phi)
  c = Conv(h, g)
  af = Reshape(a, flat)
  bf = Reshape(b, flat)
  cf = Reshape(c, flat)
  at = Transpose<perm = [0,2,1]>(af)
  s = MatMul(at, bf)
  p = Softmax<axis = -1>(s)
  ct = Transpose<perm = [0,2,1]>(cf)
  o = MatMul(p, ct)
  ot = Transpose<perm = [0,2,1]>(o)
  og = Reshape(ot, grid)
  z = Conv(og, out)
  r = Add(h, z)
  y = Conv(r, w1)
}""",
    "where_by_channels": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] a, float[8,3,1,1] b, float[8,1,1] t, float[4,8,1,1] w1>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Greater(ha, t)
  s = Where(c, hb, ha)
  y = Conv(s, w1)
}""",
    "meets_the_input": """
(float[2,8,6,5] x) => (y) <float[8,8,1,1] w0, float[6,8,1,1] w1, float[4,6,1,1] w2>
{
  h = Conv(x, w0)
  s = Add(h, x)
  g = Conv(s, w1)
  y = Conv(g, w2)
}""",
}
