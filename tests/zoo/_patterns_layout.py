"""Micro models of data movement: reshape, transpose, concat, split, slice, gather, pad, shuffle."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "channel_shuffle": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[5] split = {2, 2, 4, 6, 5}, int64[4] join = {2, 8, 6, 5},
 float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  g = Reshape(h, split)
  t = Transpose<perm = [0,2,1,3,4]>(g)
  s = Reshape(t, join)
  y = Conv(s, w1)
}""",
    "channel_shuffle_grouped": """
(float[2,3,6,5] x) => (y)
<float[12,3,1,1] w0, float[12,4,1,1] w1, int64[5] split = {2, 3, 4, 6, 5},
 int64[4] join = {2, 12, 6, 5},
 float[12,1,3,3] dw, float[12,4,1,1] w2, float[4,12,1,1] w3>
{
  h = Conv(x, w0)
  a = Conv<group = 3>(h, w1)
  g = Reshape(a, split)
  t = Transpose<perm = [0,2,1,3,4]>(g)
  s = Reshape(t, join)
  d = Conv<group = 12, pads = [1,1,1,1]>(s, dw)
  b = Conv<group = 3>(d, w2)
  r = Add(h, b)
  y = Conv(r, w3)
}""",
    "nhwc_flatten": """
(float[2,3,3,2] x) => (y) <float[8,3,1,1] w0, int64[2] flat = {2, -1}, float[5,48] w1, float[5] b1>
{
  h = Conv(x, w0)
  t = Transpose<perm = [0,2,3,1]>(h)
  f = Reshape(t, flat)
  y = Gemm<transB = 1>(f, w1, b1)
}""",
    "nchw_flatten": """
(float[2,3,3,2] x) => (y) <float[8,3,1,1] w0, float[5,48] w1, float[5] b1>
{
  h = Conv(x, w0)
  f = Flatten(h)
  y = Gemm<transB = 1>(f, w1, b1)
}""",
    "nchw_flatten_matmul": """
(float[2,3,3,2] x) => (y) <float[8,3,1,1] w0, int64[2] flat = {2, 48}, float[48,5] w1, float[5] b1>
{
  h = Conv(x, w0)
  f = Reshape(h, flat)
  z = MatMul(f, w1)
  y = Add(z, b1)
}""",
    "computed_flatten": """
(float[N,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64 i0 = {0}, int64[1] ax = {0}, int64[1] rest = {-1}, float[48,5] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  n = Gather<axis = 0>(s, i0)
  n1 = Unsqueeze(n, ax)
  flat = Concat<axis = 0>(n1, rest)
  f = Reshape(h, flat)
  y = MatMul(f, w1)
}""",
    "computed_merge_with_batch": """
(float[N,3,4,2] x) => (y)
<float[8,3,1,1] w0, int64 i0 = {0}, int64[1] ax = {0}, int64 size = {32}, int64[1] width = {2},
 int64[3] rest = {8, 4, 2}, float[5,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  n = Gather<axis = 0>(s, i0)
  rows = Mul(n, size)
  rows1 = Unsqueeze(rows, ax)
  flat = Concat<axis = 0>(rows1, width)
  f = Reshape(h, flat)
  r = Relu(f)
  n1 = Unsqueeze(n, ax)
  whole = Concat<axis = 0>(n1, rest)
  b = Reshape(r, whole)
  y = Conv(b, w1)
}""",
    "computed_resize": """
(float[N,3,4,2] x) => (y)
<float[8,3,1,1] w0, int64 i0 = {0}, int64[1] ax = {0}, int64[3] rest = {8, 8, 4},
 float[5,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  n = Gather<axis = 0>(s, i0)
  n1 = Unsqueeze(n, ax)
  sizes = Concat<axis = 0>(n1, rest)
  b = Resize<mode = "linear">(h, , , sizes)
  y = Conv(b, w1)
}""",
    "concat_positive_axis": """
(float[2,3,6,5] x) => (y) <float[6,3,1,1] a, float[4,3,1,1] b, float[5,10,1,1] w>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Concat<axis = 1>(ha, hb)
  y = Conv(c, w)
}""",
    "concat_negative_axis": """
(float[2,3,6,5] x) => (y) <float[6,3,1,1] a, float[4,3,1,1] b, float[5,10,1,1] w>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Concat<axis = -3>(ha, hb)
  y = Conv(c, w)
}""",
    "concat_same_twice": """
(float[2,3,6,5] x) => (y) <float[6,3,1,1] a, float[5,12,1,1] w>
{
  h = Conv(x, a)
  c = Concat<axis = 1>(h, h)
  y = Conv(c, w)
}""",
    "concat_then_add": """
(float[2,3,6,5] x) => (y) <float[6,3,1,1] a, float[4,3,1,1] b, float[10,3,1,1] c, float[5,10,1,1] w>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  ab = Concat<axis = 1>(ha, hb)
  hc = Conv(x, c)
  s = Add(ab, hc)
  y = Conv(s, w)
}""",
    "concat_batch": """
(float[2,3,6,5] x) => (y) <float[6,3,1,1] a, float[6,3,1,1] b, float[5,6,1,1] w>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Concat<axis = 0>(ha, hb)
  y = Conv(c, w)
}""",
    "concat_with_input": """
(float[2,3,6,5] x) => (y) <float[6,3,1,1] a, float[5,9,1,1] w>
{
  h = Conv(x, a)
  c = Concat<axis = 1>(x, h)
  y = Conv(c, w)
}""",
    "concat_flatten_linear": """
(float[2,3,3,2] x) => (y) <float[6,3,1,1] a, float[4,3,1,1] b, float[5,60] w, float[5] bias>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  c = Concat<axis = 1>(ha, hb)
  f = Flatten(c)
  y = Gemm<transB = 1>(f, w, bias)
}""",
    "pad_channels": """
(float[2,4,6,5] x) => (y)
<float[4,4,1,1] w0, float[8,4,3,3] w1, int64[2] from = {0, 0}, int64[2] to = {6, 5},
 int64[2] hw = {2, 3},
 int64[2] step = {2, 2}, int64[8] pads = {0, 2, 0, 0, 0, 2, 0, 0}, float[5,8,1,1] w2>
{
  h = Conv(x, w0)
  a = Conv<pads = [1,1,1,1], strides = [2,2]>(h, w1)
  d = Slice(h, from, to, hw, step)
  p = Pad(d, pads)
  s = Add(a, p)
  r = Relu(s)
  y = Conv(r, w2)
}""",
    "pad_axes": """
(float[2,3,6,5] x) => (y)
<float[5,3,1,1] w0, int64[4] pads = {2, -1, 1, 3}, float zero = {0}, int64[2] axes = {-3, 3},
 float[8,3,1,1] wp, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  p = Pad(h, pads, zero, axes)
  s = Conv<pads = [0,0,0,2]>(x, wp)
  a = Add(p, s)
  y = Conv(a, w1)
}""",
    "pad_spatial": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float[4,8,3,3] w1>
{
  h = Conv(x, w0)
  p = Pad<mode = "reflect">(h, pads)
  y = Conv(p, w1)
}""",
    "pixel_shuffle": """
(float[2,3,4,3] x) => (y) <float[8,3,3,3] w0, float[4,2,1,1] w1>
{
  h = Conv<pads = [1,1,1,1]>(x, w0)
  u = DepthToSpace<blocksize = 2, mode = "CRD">(h)
  y = Conv(u, w1)
}""",
    "depth_to_space_dcr": """
(float[2,3,4,3] x) => (y) <float[8,3,3,3] w0, float[4,2,1,1] w1>
{
  h = Conv<pads = [1,1,1,1]>(x, w0)
  u = DepthToSpace<blocksize = 2, mode = "DCR">(h)
  y = Conv(u, w1)
}""",
    "pixel_unshuffle_reshape": """
(float[2,3,6,4] x) => (y)
<float[6,3,1,1] w0, int64[6] split = {2, 6, 3, 2, 2, 2}, int64[4] join = {2, 24, 3, 2},
 float[4,24,1,1] w1>
{
  h = Conv(x, w0)
  a = Reshape(h, split)
  t = Transpose<perm = [0,1,3,5,2,4]>(a)
  u = Reshape(t, join)
  y = Conv(u, w1)
}""",
    "pixel_unshuffle_space_to_depth": """
(float[2,3,6,4] x) => (y) <float[6,3,1,1] w0, float[4,24,1,1] w1>
{
  h = Conv(x, w0)
  u = SpaceToDepth<blocksize = 2>(h)
  y = Conv(u, w1)
}""",
    "focus_slices": """
(float[2,3,6,4] x) => (y)
<float[6,3,1,1] w0, int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] end = {9223372036854775807},
 int64[1] row = {2}, int64[1] col = {3}, int64[1] two = {2}, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  a = Slice(h, i0, end, row, two)
  b = Slice(h, i1, end, row, two)
  p = Slice(a, i0, end, col, two)
  q = Slice(b, i1, end, col, two)
  c = Concat<axis = 1>(p, q)
  y = Conv(c, w1)
}""",
    "split_unequal": """
(float[2,3,6,5] x) => (y)
<float[10,3,1,1] w0, int64[3] sizes = {2, 5, 3}, float[5,5,3,3] w1, float[4,7,1,1] w2,
 float[4,3,1,1] w3>
{
  h = Conv(x, w0)
  a, b, c = Split<axis = 1>(h, sizes)
  d = Conv<pads = [1,1,1,1]>(b, w1)
  e = Concat<axis = 1>(d, a)
  f = Conv(e, w2)
  g = Conv(c, w3)
  y = Add(f, g)
}""",
    "split_glu": """
(float[2,3,6,5] x) => (y) <float[12,3,1,1] w0, float[4,6,1,1] w1>
{
  h = Conv(x, w0)
  a, b = Split<axis = 1, num_outputs = 2>(h)
  g = Sigmoid(b)
  m = Mul(a, g)
  y = Conv(m, w1)
}""",
    "slice_hard_coded": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] from = {0}, int64[1] to = {4}, int64[1] c = {1}, float[5,4,1,1] w1,
 float[5,8,1,1] w2>
{
  h = Conv(x, w0)
  s = Slice(h, from, to, c)
  a = Conv(s, w1)
  b = Conv(h, w2)
  y = Add(a, b)
}""",
    "slice_strided": """
(float[2,3,6,5] x) => (y)
<float[9,3,1,1] w0, int64[1] from = {1}, int64[1] to = {9}, int64[1] c = {1}, int64[1] step = {3},
 float[5,3,1,1] w1>
{
  h = Conv(x, w0)
  s = Slice(h, from, to, c, step)
  y = Conv(s, w1)
}""",
    "slice_reversed": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] from = {-1}, int64[1] to = {-9223372036854775807}, int64[1] c = {1},
 int64[1] step = {-1}, float[5,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Slice(h, from, to, c, step)
  a = Add(h, s)
  y = Conv(a, w1)
}""",
    "gather_indices": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, int64[5] pick = {6, 0, 3, 3, 1}, float[4,5,1,1] w1>
{
  h = Conv(x, w0)
  g = Gather<axis = 1>(h, pick)
  y = Conv(g, w1)
}""",
    "gather_one": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, int64 pick = {5}, float[5,4] w1>
{
  h = Conv(x, w0)
  g = Gather<axis = 1>(h, pick)
  y = MatMul(g, w1)
}""",
    "expand_gate": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8,8,1,1] s, int64[4] shape = {2, 8, 6, 5}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  p = GlobalAveragePool(h)
  e = Conv(p, s)
  g = Expand(e, shape)
  m = Mul(h, g)
  y = Conv(m, w1)
}""",
    "expand_channels": """
(float[2,3,6,5] x) => (y)
<float[1,3,1,1] w0, int64[4] shape = {2, 8, 6, 5}, float[8,3,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  e = Expand(h, shape)
  f = Conv(x, w1)
  s = Add(e, f)
  y = Conv(s, w2)
}""",
    "full_like": """
(float[N,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[1] level = {0.3}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  f = Expand(level, s)
  e = Sin(f)
  m = Max(h, e)
  t = Shape(m)
  z = ConstantOfShape<value = float[1] {0.7}>(t)
  a = Mul(m, z)
  y = Conv(a, w1)
}""",
    "full_like_heads": """
(float[N,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {0, 0, 3, -1}, float half = {0.5}, int64[3] flat = {0, 0, -1},
 float[12,4] w1>
{
  q = MatMul(x, w0)
  h = Reshape(q, heads)
  s = Shape(h)
  f = Expand(half, s)
  e = Sin(f)
  p = Max(h, e)
  j = Reshape(p, flat)
  y = MatMul(j, w1)
}""",
    "expand_as": """
(float[N,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[1,8,1,1] wg, float[4,16,1,1] w1>
{
  h = Conv(x, w0)
  l = Conv(h, wg)
  g = Sigmoid(l)
  s = Shape(h)
  e = Expand(g, s)
  c = Concat<axis = 1>(h, e)
  y = Conv(c, w1)
}""",
    "tile_channels": """
(float[2,3,6,5] x) => (y) <float[4,3,1,1] w0, int64[4] times = {1, 3, 1, 1}, float[5,12,1,1] w1>
{
  h = Conv(x, w0)
  t = Tile(h, times)
  y = Conv(t, w1)
}""",
    "reduce_spatial": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, int64[2] hw = {-2, -1}, float[8,5] w1, float[5] b1>
{
  h = Conv(x, w0)
  r = Relu(h)
  p = ReduceMean<keepdims = 0>(r, hw)
  z = MatMul(p, w1)
  y = Add(z, b1)
}""",
    "reduce_channels": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, int64[1] c = {1}, float[5,4] w1>
{
  h = Conv(x, w0)
  r = Relu(h)
  p = ReduceMean<keepdims = 0>(r, c)
  y = MatMul(p, w1)
}""",
    "squeeze_unsqueeze": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[2] hw = {2, 3}, float[8,8] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  p = GlobalAveragePool(h)
  s = Squeeze(p, hw)
  z = MatMul(s, w1)
  u = Unsqueeze(z, hw)
  m = Add(h, u)
  y = Conv(m, w2)
}""",
    "softmax_channels": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Softmax<axis = 1>(h)
  y = Conv(s, w1)
}""",
    "cumsum_channels": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, int64 c = {1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = CumSum(h, c)
  y = Conv(s, w1)
}""",
    "where_const_mask": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, bool[8,1,1] mask = {1, 0, 1, 1, 0, 1, 1, 0}, float zero = {0},
 float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  m = Where(mask, h, zero)
  y = Conv(m, w1)
}""",
    "channels_into_batch": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[4] apart = {16, 1, 6, 5}, float[1,1,3,3] blur,
 int64[4] back = {2, 8, 6, 5}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  a = Reshape(h, apart)
  b = Conv<pads = [1,1,1,1]>(a, blur)
  r = Reshape(b, back)
  y = Conv(r, w1)
}""",
    "channels_swap_with_height": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[7,6,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  t = Transpose<perm = [0,2,1,3]>(h)
  a = Conv(t, w1)
  b = Transpose<perm = [0,2,1,3]>(a)
  y = Conv(b, w2)
}""",
    "ssd_head": """
(float[2,3,4,2] x) => (y)
<float[6,3,1,1] f1, float[8,6,1,1] f2, float[10,6,3,3] h1, float[10,8,3,3] h2,
 int64[3] rows = {2, -1, 5}>
{
  a = Conv(x, f1)
  b = Conv<strides = [2,2]>(a, f2)
  c = Conv<pads = [1,1,1,1]>(a, h1)
  d = Conv<pads = [1,1,1,1]>(b, h2)
  ct = Transpose<perm = [0,2,3,1]>(c)
  dt = Transpose<perm = [0,2,3,1]>(d)
  cr = Reshape(ct, rows)
  dr = Reshape(dt, rows)
  y = Concat<axis = 1>(cr, dr)
}""",
}
