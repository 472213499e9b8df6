"""One axis split into several: rows that must keep equal counts, and everything across them."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "gate_per_row": """
(float[2,3,4,3] x) => (y)
<float[12,3,1,1] w0, int64[5] apart = {2, 3, 4, 4, 3}, float[1,3,1,1,1] gate,
 int64[4] back = {2, 12, 4, 3}, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  r = Reshape(h, apart)
  g = Mul(r, gate)
  f = Reshape(g, back)
  y = Conv(f, w1)
}""",
    "rows_and_columns_meet_heads": """
(float[2,6] x) => (y)
<float[6,12] wh, int64[3] heads = {2, 3, 4}, float[6,3] wr, int64[1] last = {2}, float[6,4] wc,
 int64[1] middle = {1}, float[4,5] w1>
{
  h = MatMul(x, wh)
  a = Reshape(h, heads)
  r = MatMul(x, wr)
  b = Unsqueeze(r, last)
  c = MatMul(x, wc)
  d = Unsqueeze(c, middle)
  s = Add(b, d)
  z = Add(a, s)
  y = MatMul(z, w1)
}""",
    "gate_per_column": """
(float[2,3,4,3] x) => (y)
<float[12,3,1,1] w0, int64[5] apart = {2, 3, 4, 4, 3}, float[1,1,4,1,1] gate,
 int64[4] back = {2, 12, 4, 3}, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  r = Reshape(h, apart)
  g = Mul(r, gate)
  f = Reshape(g, back)
  y = Conv(f, w1)
}""",
    "gate_per_row_computed": """
(float[2,5,6] x) => (y)
<float[6,12] w0, float[6,3] wg, int64[4] heads = {2, 5, 3, 4}, int64[4] one = {2, 5, 3, 1},
 int64[3] back = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  q = MatMul(x, wg)
  g = Reshape(q, one)
  m = Mul(r, g)
  f = Reshape(m, back)
  y = MatMul(f, w1)
}""",
    "gate_per_column_computed": """
(float[2,5,6] x) => (y)
<float[6,12] w0, float[6,4] wg, int64[4] heads = {2, 5, 3, 4}, int64[4] one = {2, 5, 1, 4},
 int64[3] back = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  q = MatMul(x, wg)
  g = Reshape(q, one)
  m = Mul(g, r)
  f = Reshape(m, back)
  y = MatMul(f, w1)
}""",
    "two_factorings": """
(float[2,3,4,3] x) => (y)
<float[12,3,1,1] w0, int64[5] by3 = {2, 3, 4, 4, 3}, float[3,4,1,1] g3,
 int64[5] by2 = {2, 2, 6, 4, 3}, float[2,6,1,1] g2, int64[4] back = {2, 12, 4, 3},
 float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  a = Reshape(h, by3)
  b = Mul(a, g3)
  c = Reshape(b, back)
  d = Reshape(c, by2)
  e = Mul(d, g2)
  f = Reshape(e, back)
  y = Conv(f, w1)
}""",
    "refactored_without_flattening": """
(float[2,3,4,3] x) => (y)
<float[12,3,1,1] w0, int64[5] by3 = {2, 3, 4, 4, 3}, int64[5] by4 = {2, 4, 3, 4, 3},
 float[4,1,1,1] g, int64[4] back = {2, 12, 4, 3}, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  a = Reshape(h, by3)
  b = Reshape(a, by4)
  c = Mul(b, g)
  f = Reshape(c, back)
  y = Conv(f, w1)
}""",
    "three_levels": """
(float[2,5,6] x) => (y)
<float[6,24] w0, int64[5] apart = {2, 5, 2, 3, 4}, float[2,1,4] gate, int64[3] back = {2, 5, 24},
 float[24,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, apart)
  g = Mul(r, gate)
  f = Reshape(g, back)
  y = MatMul(f, w1)
}""",
    "three_levels_rotated": """
(float[2,5,6] x) => (y)
<float[6,24] w0, int64[5] apart = {2, 5, 2, 3, 4}, int64[3] back = {2, 5, 24}, float[24,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, apart)
  t = Transpose<perm = [0,1,4,2,3]>(r)
  f = Reshape(t, back)
  y = MatMul(f, w1)
}""",
    "shuffled_twice": """
(float[2,3,4,3] x) => (y)
<float[12,3,1,1] w0, int64[5] by3 = {2, 3, 4, 4, 3}, int64[5] by2 = {2, 2, 6, 4, 3},
 int64[4] back = {2, 12, 4, 3}, float[12,1,3,3] dw, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  a = Reshape(h, by3)
  b = Transpose<perm = [0,2,1,3,4]>(a)
  c = Reshape(b, back)
  d = Conv<group = 12, pads = [1,1,1,1]>(c, dw)
  e = Reshape(d, by2)
  f = Transpose<perm = [0,2,1,3,4]>(e)
  g = Reshape(f, back)
  y = Conv(g, w1)
}""",
    "shuffled_and_back": """
(float[2,3,4,3] x) => (y)
<float[12,3,1,1] w0, int64[5] by3 = {2, 3, 4, 4, 3}, int64[5] by4 = {2, 4, 3, 4, 3},
 int64[4] back = {2, 12, 4, 3}, float[4,12,1,1] w1>
{
  h = Conv(x, w0)
  a = Reshape(h, by3)
  b = Transpose<perm = [0,2,1,3,4]>(a)
  c = Reshape(b, back)
  d = Reshape(c, by4)
  e = Transpose<perm = [0,2,1,3,4]>(d)
  f = Reshape(e, back)
  r = Add(f, h)
  y = Conv(r, w1)
}""",
    "unaligned_view": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[3] odd = {2, 6, 8}, float[8,4] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, odd)
  y = MatMul(f, w1)
}""",
    "flatten_then_unaligned_view": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[3] odd = {2, 16, 3}, float[4,16,1] w1>
{
  h = Conv(x, w0)
  f = Flatten(h)
  r = Reshape(f, odd)
  y = Conv(r, w1)
}""",
    "channels_with_height": """
(float[2,3,3,5] x) => (y) <float[8,3,1,1] w0, int64[3] rows = {2, 24, 5}, float[4,24,3] w1>
{
  h = Conv(x, w0)
  f = Reshape(h, rows)
  y = Conv<pads = [1,1]>(f, w1)
}""",
    "slice_across_rows": """
(float[2,3,4,3] x) => (y)
<float[12,3,1,1] w0, int64[5] by3 = {2, 3, 4, 4, 3}, float[3,4,1,1] g,
 int64[4] back = {2, 12, 4, 3},
 int64[1] from = {2}, int64[1] to = {9}, int64[1] c = {1}, float[4,7,1,1] w1, float[4,12,1,1] w2>
{
  h = Conv(x, w0)
  a = Reshape(h, by3)
  b = Mul(a, g)
  f = Reshape(b, back)
  s = Slice(f, from, to, c)
  p = Conv(s, w1)
  q = Conv(f, w2)
  y = Add(p, q)
}""",
    "slice_inside_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[1] from = {1}, int64[1] to = {3},
 int64[1] d = {-1}, int64[3] flat = {2, 5, 6}, float[6,4] w1, int64[3] back = {2, 5, 12},
 float[12,4] w2>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Slice(r, from, to, d)
  f = Reshape(s, flat)
  p = MatMul(f, w1)
  b = Reshape(r, back)
  q = MatMul(b, w2)
  y = Add(p, q)
}""",
    "slice_one_column": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[1] from = {1}, int64[1] to = {2},
 int64[1] d = {-1}, int64[3] flat = {2, 5, 3}, float[3,4] w1, int64[3] back = {2, 5, 12},
 float[12,4] w2>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Slice(r, from, to, d)
  f = Reshape(s, flat)
  p = MatMul(f, w1)
  b = Reshape(r, back)
  q = MatMul(b, w2)
  y = Add(p, q)
}""",
    "slice_two_tied_columns": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[4] pick = {1, 0, 2, 3}, int64[1] from = {0},
 int64[1] to = {2}, int64[1] d = {-1}, int64[3] flat = {2, 5, 6}, float[6,4] w1,
 int64[3] back = {2, 5, 12}, float[12,4] w2>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  t = Gather<axis = -1>(r, pick)
  e = Add(r, t)
  s = Slice(e, from, to, d)
  f = Reshape(s, flat)
  p = MatMul(f, w1)
  b = Reshape(e, back)
  q = MatMul(b, w2)
  y = Add(p, q)
}""",
    "one_row_alone_of_whole_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64 pick = {1}, float[4,4] w1,
 int64[3] back = {2, 5, 12}, float[12,4] w2>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Gather<axis = 2>(r, pick)
  p = MatMul(s, w1)
  n = Softmax<axis = -1>(r)
  f = Reshape(n, back)
  q = MatMul(f, w2)
  y = Add(p, q)
}""",
    "split_inside_rows": """
(float[2,5,6] x) => (y)
<float[6,18] w0, int64[4] heads = {2, 5, 3, 6}, int64[3] sizes = {1, 3, 2},
 int64[3] nine = {2, 5, 9}, int64[3] six = {2, 5, 6}, int64[3] three = {2, 5, 3},
 float[9,4] w1, float[6,4] w2, float[3,4] w3>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  a, b, c = Split<axis = 3>(r, sizes)
  af = Reshape(a, three)
  bf = Reshape(b, nine)
  cf = Reshape(c, six)
  p = MatMul(af, w3)
  q = MatMul(bf, w1)
  s = MatMul(cf, w2)
  y = Sum(p, q, s)
}""",
    "slice_inside_rows_strided": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[1] from = {0}, int64[1] to = {4},
 int64[1] d = {-1}, int64[1] step = {2}, int64[3] flat = {2, 5, 6}, float[6,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Slice(r, from, to, d, step)
  f = Reshape(s, flat)
  y = MatMul(f, w1)
}""",
    "slice_of_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[1] from = {1}, int64[1] to = {3},
 int64[1] d = {2}, int64[3] flat = {2, 5, 8}, float[8,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Slice(r, from, to, d)
  f = Reshape(s, flat)
  y = MatMul(f, w1)
}""",
    "one_row_alone": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64 pick = {1}, float[4,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Gather<axis = 2>(r, pick)
  y = MatMul(s, w1)
}""",
    "one_column_alone": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64 pick = {-1}, float[3,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Gather<axis = 3>(r, pick)
  y = MatMul(s, w1)
}""",
    "rows_picked": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[2] pick = {2, 0}, int64[3] flat = {2, 5, 8},
 float[8,4] w1, int64[3] back = {2, 5, 12}, float[12,4] w2>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Gather<axis = 2>(r, pick)
  f = Reshape(s, flat)
  p = MatMul(f, w1)
  b = Reshape(r, back)
  q = MatMul(b, w2)
  y = Add(p, q)
}""",
    "columns_picked": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[3] pick = {3, 0, 1},
 int64[3] flat = {2, 5, 9},
 float[9,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  s = Gather<axis = 3>(r, pick)
  f = Reshape(s, flat)
  y = MatMul(f, w1)
}""",
    "pad_columns": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[8] pads = {0, 0, 0, 1, 0, 0, 0, 1},
 int64[3] flat = {2, 5, 18}, float[18,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = Pad(r, pads)
  f = Reshape(p, flat)
  y = MatMul(f, w1)
}""",
    "pad_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[8] pads = {0, 0, 1, 0, 0, 0, 0, 0},
 int64[3] flat = {2, 5, 16}, float[16,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = Pad(r, pads)
  f = Reshape(p, flat)
  y = MatMul(f, w1)
}""",
    "tile_columns": """
(float[2,5,6] x) => (y)
<float[6,6] w0, int64[4] heads = {2, 5, 3, 2}, int64[4] times = {1, 1, 1, 2},
 int64[3] flat = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  t = Tile(r, times)
  f = Reshape(t, flat)
  y = MatMul(f, w1)
}""",
    "tile_rows": """
(float[2,5,6] x) => (y)
<float[6,6] w0, int64[4] heads = {2, 5, 3, 2}, int64[4] times = {1, 1, 2, 1},
 int64[3] flat = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  t = Tile(r, times)
  f = Reshape(t, flat)
  y = MatMul(f, w1)
}""",
    "grouped_query": """
(float[2,3,4,3] x) => (y)
<float[4,3,1,1] w0, int64[6] apart = {2, 2, 1, 2, 4, 3}, int64[6] more = {1, 1, 3, 1, 1, 1},
 int64[4] back = {2, 12, 4, 3}, float[12,3,1,1] w1, float[4,12,1,1] w2>
{
  h = Conv(x, w0)
  a = Reshape(h, apart)
  e = Expand(a, more)
  f = Reshape(e, back)
  q = Conv(x, w1)
  m = Mul(q, f)
  y = Conv(m, w2)
}""",
    "one_key_for_all_heads": """
(float[2,5,6] x) => (y)
<float[6,12] wq, float[6,4] wk, int64[4] qs = {2, 5, 3, 4}, int64[4] ks = {2, 1, 5, 4},
 float[6,4] wv, int64[3] join = {2, 5, 12}, float[12,4] wo>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qh = Reshape(q, qs)
  qt = Transpose<perm = [0,2,1,3]>(qh)
  kh = Reshape(k, ks)
  kt = Transpose<perm = [0,1,3,2]>(kh)
  vh = Reshape(v, ks)
  s = MatMul(qt, kt)
  p = Softmax<axis = -1>(s)
  o = MatMul(p, vh)
  ot = Transpose<perm = [0,2,1,3]>(o)
  j = Reshape(ot, join)
  y = MatMul(j, wo)
}""",
    "rope_in_heads": """
(float[2,5,6] x) => (y)
<float[6,12] wq, float[6,12] wk, int64[4] heads = {2, 5, 3, 4}, float[5,1,4] cos, float[5,1,4] sin,
 float[5,4] w>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  qh = Reshape(q, heads)
  a, b = Split<axis = -1, num_outputs = 2>(qh)
  n = Neg(b)
  r = Concat<axis = -1>(n, a)
  qc = Mul(qh, cos)
  rs = Mul(r, sin)
  e = Add(qc, rs)
  kh = Reshape(k, heads)
  et = Transpose<perm = [0,2,1,3]>(e)
  kt = Transpose<perm = [0,2,3,1]>(kh)
  s = MatMul(et, kt)
  p = Softmax<axis = -1>(s)
  m = ReduceMean<keepdims = 0>(p)
  z = MatMul(p, w)
  y = Add(z, m)
}""",
    "norm_inside_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, float[4] s, float[4] b, int64[3] back = {2, 5, 12},
 float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  n = LayerNormalization<axis = -1>(r, s, b)
  f = Reshape(n, back)
  y = MatMul(f, w1)
}""",
    "norm_over_rows_and_columns": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, float[3,4] s, float[3,4] b,
 int64[3] back = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  n = LayerNormalization<axis = -2>(r, s, b)
  f = Reshape(n, back)
  y = MatMul(f, w1)
}""",
    "softmax_over_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[3] back = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = Softmax<axis = 2>(r)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "softmax_over_columns": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[3] back = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = Softmax<axis = -1>(r)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "cumulated_over_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64 rows = {2}, int64[3] back = {2, 5, 12},
 float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = CumSum(r, rows)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "pooled_over_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 4, 3}, int64[3] back = {2, 5, 9}, float[9,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = MaxPool<kernel_shape = [2,1]>(r)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "padded_over_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[8] pads = {0, 0, 1, 0, 0, 0, 1, 0},
 int64[3] back = {2, 5, 20}, float[20,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = Pad<mode = "edge">(r, pads)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "padded_over_columns": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[8] pads = {0, 0, 0, 1, 0, 0, 0, 1},
 int64[3] back = {2, 5, 18}, float[18,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = Pad<mode = "reflect">(r, pads)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "rows_contracted": """
(float[2,5,6] x) => (y)
<float[6,12] w0, float[6,12] w1, int64[4] heads = {2, 5, 3, 4}, int64[3] back = {2, 5, 20},
 float[20,4] w2>
{
  a = MatMul(x, w0)
  b = MatMul(x, w1)
  ah = Reshape(a, heads)
  bh = Reshape(b, heads)
  at = Transpose<perm = [0,3,1,2]>(ah)
  bt = Transpose<perm = [0,3,2,1]>(bh)
  s = MatMul(at, bt)
  st = Transpose<perm = [0,2,1,3]>(s)
  f = Reshape(st, back)
  y = MatMul(f, w2)
}""",
    "rows_looked_up": """
(float[2,5,6] x, int64[2] ids) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[3] back = {2, 5, 8}, float[8,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = Gather<axis = 2>(r, ids)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "three_levels_strided": """
(float[2,5,6] x) => (y)
<float[6,24] w0, int64[5] apart = {2, 5, 2, 3, 4}, int64[1] i0 = {0}, int64[1] end = {9},
 int64[1] ax = {-1}, int64[1] step = {3}, int64[3] back = {2, 5, 12}, float[12,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, apart)
  s = Slice(r, i0, end, ax, step)
  f = Reshape(s, back)
  y = MatMul(f, w1)
}""",
    "middle_strided_then_inner_tied": """
(float[2,5,6] x) => (y)
<float[6,40] w0, int64[5] apart = {2, 5, 2, 5, 4}, int64[1] i0 = {0}, int64[1] end = {9},
 int64[1] ax = {-2}, int64[1] step = {2}, int64[3] back = {2, 5, 24}, float[24,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, apart)
  s = Slice(r, i0, end, ax, step)
  p = Softmax<axis = -1>(s)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "middle_sliced_then_inner_tied": """
(float[2,5,6] x) => (y)
<float[6,40] w0, int64[5] apart = {2, 5, 2, 5, 4}, int64[1] i1 = {1}, int64[1] i4 = {4},
 int64[1] ax = {-2}, int64[3] back = {2, 5, 24}, float[24,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, apart)
  s = Slice(r, i1, i4, ax)
  p = Softmax<axis = -1>(s)
  f = Reshape(p, back)
  y = MatMul(f, w1)
}""",
    "sum_of_columns": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[1] d = {-1}, float[3,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = ReduceSum<keepdims = 0>(r, d)
  y = MatMul(p, w1)
}""",
    "sum_of_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, int64[1] d = {2}, float[4,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  p = ReduceSum<keepdims = 0>(r, d)
  y = MatMul(p, w1)
}""",
    "weight_per_head": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, float[3,4,7] wh, int64[3] back = {2, 5, 21},
 float[21,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  t = Transpose<perm = [0,2,1,3]>(r)
  m = MatMul(t, wh)
  u = Transpose<perm = [0,2,1,3]>(m)
  f = Reshape(u, back)
  y = MatMul(f, w1)
}""",
    "heads_against_themselves": """
(float[2,5,6] x) => (y)
<float[6,12] w0, int64[4] heads = {2, 5, 3, 4}, float[5,4] w1>
{
  h = MatMul(x, w0)
  r = Reshape(h, heads)
  t = Transpose<perm = [0,2,1,3]>(r)
  u = Transpose<perm = [0,2,3,1]>(r)
  s = MatMul(t, u)
  y = MatMul(s, w1)
}""",
    "heads_joined_by_rows": """
(float[2,5,6] x) => (y)
<float[6,12] w0, float[6,8] w1, int64[4] three = {2, 5, 3, 4}, int64[4] two = {2, 5, 2, 4},
 int64[3] back = {2, 5, 20}, float[20,4] w2>
{
  a = MatMul(x, w0)
  b = MatMul(x, w1)
  ah = Reshape(a, three)
  bh = Reshape(b, two)
  c = Concat<axis = 2>(ah, bh)
  f = Reshape(c, back)
  y = MatMul(f, w2)
}""",
    "heads_joined_by_columns": """
(float[2,5,6] x) => (y)
<float[6,12] w0, float[6,6] w1, int64[4] four = {2, 5, 3, 4}, int64[4] two = {2, 5, 3, 2},
 int64[3] back = {2, 5, 18}, float[18,4] w2>
{
  a = MatMul(x, w0)
  b = MatMul(x, w1)
  ah = Reshape(a, four)
  bh = Reshape(b, two)
  c = Concat<axis = -1>(ah, bh)
  f = Reshape(c, back)
  y = MatMul(f, w2)
}""",
    "rows_meet_rows_of_other_order": """
(float[2,5,6] x) => (y)
<float[6,12] w0, float[6,12] w1, int64[4] by3 = {2, 5, 3, 4}, int64[4] by4 = {2, 5, 4, 3},
 int64[3] back = {2, 5, 12}, float[12,4] w2>
{
  a = MatMul(x, w0)
  b = MatMul(x, w1)
  ar = Reshape(a, by3)
  br = Reshape(b, by4)
  bt = Transpose<perm = [0,1,3,2]>(br)
  c = Add(ar, bt)
  f = Reshape(c, back)
  y = MatMul(f, w2)
}""",
    "norm_after_flatten": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, float[48] s, float[48] b, float[48] m, float[48] v, float[48,5] w1>
{
  h = Conv(x, w0)
  f = Flatten(h)
  n = BatchNormalization(f, s, b, m, v)
  y = Gemm(n, w1)
}""",
    "slice_after_flatten": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[1] from = {3}, int64[1] to = {40}, int64[1] c = {1}, float[37,5] w1>
{
  h = Conv(x, w0)
  f = Flatten(h)
  s = Slice(f, from, to, c)
  y = Gemm(s, w1)
}""",
    "strided_slice_after_flatten": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[1] from = {47}, int64[1] to = {2}, int64[1] c = {1}, int64[1] step = {-5},
 float[9,5] w1>
{
  h = Conv(x, w0)
  f = Flatten(h)
  s = Slice(f, from, to, c, step)
  y = Gemm(s, w1)
}""",
    "split_after_flatten": """
(float[2,3,3,2] x) => (y)
<float[8,3,1,1] w0, int64[3] sizes = {20, 8, 20}, float[20,5] w1>
{
  h = Conv(x, w0)
  f = Flatten(h)
  a, b, c = Split<axis = 1>(f, sizes)
  s = Sub(a, c)
  y = Gemm(s, w1)
}""",
    "pixel_shuffle_after_rows": """
(float[2,3,4,3] x) => (y)
<float[16,3,1,1] w0, int64[5] apart = {2, 4, 4, 4, 3}, float[4,1,1,1] g,
 int64[4] back = {2, 16, 4, 3},
 float[4,4,1,1] w1>
{
  h = Conv(x, w0)
  a = Reshape(h, apart)
  b = Mul(a, g)
  f = Reshape(b, back)
  u = DepthToSpace<blocksize = 2, mode = "CRD">(f)
  y = Conv(u, w1)
}""",
    "unshuffle_then_shuffle": """
(float[2,3,4,6] x) => (y) <float[8,3,1,1] w0, float[8,1,3,3] dw, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  d = SpaceToDepth<blocksize = 2>(h)
  u = DepthToSpace<blocksize = 2, mode = "DCR">(d)
  e = Conv<group = 8, pads = [1,1,1,1]>(u, dw)
  r = Add(e, h)
  y = Conv(r, w1)
}""",
}
