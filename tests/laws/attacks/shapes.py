"""Shapes that are copied, inferred or computed; dimensions that are symbolic; axes from behind."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "copied_dims": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[3] flat = {0, 0, 6}, int64[4] back = {0, 0, 3, 2}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, flat)
  r = Relu(f)
  b = Reshape(r, back)
  y = Conv(b, w1)
}""",
    "copied_dim_of_other_meaning": """
(float[8,3,2,2] x) => (y)
<float[8,3,1,1] w0, int64[4] turned = {0, 4, 0, 4}, float[4,4,1,1] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, turned)
  y = Conv(f, w1)
}""",
    "inferred_channels": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[3] flat = {2, -1, 6}, int64[4] back = {2, -1, 3, 2}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, flat)
  r = Relu(f)
  b = Reshape(r, back)
  y = Conv(b, w1)
}""",
    "inferred_pixels": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[3] flat = {2, 8, -1}, int64[4] back = {2, 8, 3, -1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, flat)
  r = Relu(f)
  b = Reshape(r, back)
  y = Conv(b, w1)
}""",
    "inferred_batch": """
(float[2,3,3,2] x) => (y) <float[8,3,1,1] w0, int64[2] flat = {-1, 48}, float[48,5] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, flat)
  y = MatMul(f, w1)
}""",
    "zero_means_zero": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[3] flat = {2, -1, 6}, float[4,8,1] w1>
{
  h = Conv(x, w0)
  f = Reshape<allowzero = 1>(h, flat)
  y = Conv(f, w1)
}""",
    "flatten_behind": """
(float[2,3,3,2] x) => (y) <float[8,3,1,1] w0, float[48,5] w1>
{
  h = Conv(x, w0)
  f = Flatten<axis = -3>(h)
  y = MatMul(f, w1)
}""",
    "flatten_into_batch": """
(float[2,3,3,2] x) => (y) <float[8,3,1,1] w0, float[6,5] w1>
{
  h = Conv(x, w0)
  f = Flatten<axis = 2>(h)
  y = MatMul(f, w1)
}""",
    "flatten_everything": """
(float[2,3,3,2] x) => (y) <float[8,3,1,1] w0, float[96,5] w1>
{
  h = Conv(x, w0)
  f = Flatten<axis = 0>(h)
  y = MatMul(f, w1)
}""",
    "axes_from_behind": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] i1 = {1}, int64[1] m1 = {-1}, int64[1] m3 = {-3},
 int64[2] hw = {-1, -2},
 float[12,4] w1>
{
  h = Conv(x, w0)
  s = Slice(h, i1, m1, m3)
  c = Concat<axis = -3>(s, s)
  p = ReduceMax<keepdims = 1>(c, hw)
  q = Squeeze(p, hw)
  u = Unsqueeze(q, m1)
  t = Transpose<perm = [0,2,1]>(u)
  y = MatMul(t, w1)
}""",
    "reversed_axes": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[8,4] w1>
{
  h = Conv(x, w0)
  t = Transpose(h)
  u = Transpose<perm = [0,1,3,2]>(t)
  y = MatMul(u, w1)
}""",
    "symbolic_batch_flattened": """
(float[N,3,3,2] x) => (y) <float[8,3,1,1] w0, int64[1] i0 = {0}, int64[1] i1 = {1},
 int64[1] rest = {48}, float[48,5] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  n = Slice(s, i0, i1)
  t = Concat<axis = 0>(n, rest)
  f = Reshape(h, t)
  y = MatMul(f, w1)
}""",
    "slice_batch_and_channels": """
(float[N,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64 i0 = {0}, int64[1] first = {0}, int64[1] four = {4},
 int64[2] from = {0, 1},
 int64[2] axes = {0, 1}, float[4,3,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  n = Gather(s, i0)
  m = Unsqueeze(n, first)
  to = Concat<axis = 0>(m, four)
  p = Slice(h, from, to, axes)
  y = Conv(p, w1)
}""",
    "shape_from_the_middle": """
(float[N,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[3] flat = {0, 0, -1}, int64[1] i0 = {0}, int64[1] i1 = {1},
 float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, flat)
  g = Relu(f)
  a = Shape<start = 0, end = 1>(x)
  b = Shape<start = -3>(h)
  t = Concat<axis = 0>(a, b)
  r = Reshape(g, t)
  y = Conv(r, w1)
}""",
    "symbolic_batch_heads": """
(float[N,5,6] x) => (y)
<float[6,12] wq, float[6,12] wk, int64 i0 = {0}, int64[1] ax = {0}, int64[3] rest = {5, 3, 4},
 float[5,4] w1>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  s = Shape(q)
  n = Gather(s, i0)
  m = Unsqueeze(n, ax)
  t = Concat<axis = 0>(m, rest)
  qh = Reshape(q, t)
  kh = Reshape(k, t)
  qt = Transpose<perm = [0,2,1,3]>(qh)
  kt = Transpose<perm = [0,2,3,1]>(kh)
  d = MatMul(qt, kt)
  p = Softmax<axis = -1>(d)
  y = MatMul(p, w1)
}""",
    "expand_to_a_shape": """
(float[N,3,6,5] x) => (y) <float[8,3,1,1] w0, float[8,8,1,1] wg, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  p = GlobalAveragePool(h)
  g = Conv(p, wg)
  s = Shape(h)
  e = Expand(g, s)
  m = Mul(h, e)
  y = Conv(m, w1)
}""",
    "reshape_to_the_shape_of_another": """
(float[N,3,6,5] x) => (y)
<float[8,3,1,1] a, float[8,3,1,1] b, int64[3] flat = {0, 0, -1}, float[4,8,1,1] w1,
 float[4,8,1,1] w2>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  f = Reshape(ha, flat)
  r = Relu(f)
  s = Shape(hb)
  g = Reshape(r, s)
  p = Conv(g, w1)
  q = Conv(hb, w2)
  y = Add(p, q)
}""",
    "reshape_the_whole_to_the_shape_of_another": """
(float[N,8,6,5] x) => (y)
<float[8,8,1,1] b, int64[3] flat = {0, 0, -1}, float[4,8,1,1] w1, float[4,8,1,1] w2>
{
  hb = Conv(x, b)
  f = Reshape(x, flat)
  r = Relu(f)
  s = Shape(hb)
  g = Reshape(r, s)
  p = Conv(g, w1)
  q = Conv(hb, w2)
  y = Add(p, q)
}""",
    "size_as_a_number": """
(float[N,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Size(h)
  f = Cast<to = 1>(s)
  m = Div(h, f)
  y = Conv(m, w1)
}""",
    "shape_as_a_number": """
(float[N,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  p = ReduceProd<keepdims = 0>(s)
  f = Cast<to = 1>(p)
  m = Div(h, f)
  y = Conv(m, w1)
}""",
    "constant_of_a_shape": """
(float[N,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  o = ConstantOfShape(s)
  m = Add(h, o)
  y = Conv(m, w1)
}""",
    "shape_is_an_output": """
(float[N,3,6,5] x) => (y, s) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  y = Conv(h, w1)
}""",
    "slice_to_a_computed_end": """
(float[N,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] two = {2},
 float[4,4,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  c = Slice(s, i1, i2)
  e = Div(c, two)
  p = Slice(h, i0, e, i1)
  y = Conv(p, w1)
}""",
    "range_over_channels": """
(float[N,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64 i0 = {0}, int64 i1 = {1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(h)
  c = Gather(s, i1)
  r = Range(i0, c, i1)
  p = Gather<axis = 1>(h, r)
  y = Conv(p, w1)
}""",
    "rank_by_expand": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64[3] some = {0, 2, 3}, int64[3] shape = {2, 5, 8}, float[8,4] w1>
{
  h = Conv(x, w0)
  p = ReduceMean<keepdims = 0>(h, some)
  e = Expand(p, shape)
  y = MatMul(e, w1)
}""",
    "squeeze_without_axes": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[8,4] w1>
{
  h = Conv(x, w0)
  p = GlobalMaxPool(h)
  q = Squeeze(p)
  y = MatMul(q, w1)
}""",
    "table_as_long_as_the_batch": """
(float[N,3,6] x) => (y)
<float[6,8] w0, int64 i0 = {0}, int64[1] first = {0}, float[9,1,8] table, float[8,4] w1>
{
  h = MatMul(x, w0)
  s = Shape(h)
  n = Gather(s, i0)
  m = Unsqueeze(n, first)
  t = Slice(table, first, m, first)
  a = Add(h, t)
  y = MatMul(a, w1)
}""",
    "table_looked_up_by_length": """
(float[N,3,6] x) => (y)
<float[6,8] w0, int64 i0 = {0}, int64 i1 = {1}, float[9,1,8] table, float[8,4] w1>
{
  h = MatMul(x, w0)
  s = Shape(h)
  n = Gather(s, i0)
  i = Range(i0, n, i1)
  t = Gather<axis = 0>(table, i)
  a = Add(h, t)
  y = MatMul(a, w1)
}""",
    "rotary_by_frequencies": """
(float[2,5,6] x, float[5,1] at) => (y)
<float[6,12] wq, float[6,12] wk, int64[4] heads = {2, 5, 3, 4}, float[2] freq, int64[1] i0 = {0},
 int64[1] half = {2}, int64[1] end = {4}, int64[1] ax = {3}, float[5,4] w>
{
  f = Mul(at, freq)
  e = Concat<axis = -1>(f, f)
  cos = Cos(e)
  sin = Sin(e)
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  qh = Reshape(q, heads)
  kh = Reshape(k, heads)
  qt = Transpose<perm = [0,2,1,3]>(qh)
  kt = Transpose<perm = [0,2,3,1]>(kh)
  a = Slice(qt, i0, half, ax)
  b = Slice(qt, half, end, ax)
  m = Neg(b)
  r = Concat<axis = -1>(m, a)
  c = Mul(qt, cos)
  d = Mul(r, sin)
  g = Add(c, d)
  s = MatMul(g, kt)
  y = MatMul(s, w)
}""",
    "norm_expanded": """
(float[2,5,6] x) => (y)
<float[6,8] w0, int64[1] last = {-1}, int64[3] wide = {2, 5, 8}, float[8,4] w1>
{
  h = MatMul(x, w0)
  n = ReduceL2(h, last)
  e = Expand(n, wide)
  d = Div(h, e)
  y = MatMul(d, w1)
}""",
    "slice_of_nothing": """
(float[2,5,6] x) => (y)
<float[6,8] w0, int64[1] eight = {8}, int64[1] end = {99}, int64[1] last = {2}, float[8,4] w1>
{
  h = MatMul(x, w0)
  e = Slice(h, eight, end, last)
  c = Concat<axis = -1>(h, e)
  y = MatMul(c, w1)
}""",
    "half_precision": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8,1,1] p, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  c = Cast<to = 10>(h)
  q = Cast<to = 10>(p)
  s = Add(c, q)
  f = Cast<to = 1>(s)
  n = LRN<size = 3>(f)
  y = Conv(n, w1)
}""",
    "double_precision": """
(double[2,5,6] x) => (y)
<double[6,2] w0 = {0.5, -0.25, 1.0, 0.5, -1.0, 0.75, 0.125, 0.5, -0.5, 0.25, 1.5, -0.125},
 int64[1] c = {-1}, double[2,2] w1 = {0.5, -0.25, 1.0, 0.5}>
{
  h = MatMul(x, w0)
  s = ReduceSum(h, c)
  m = Mul(h, s)
  y = MatMul(m, w1)
}""",
}
