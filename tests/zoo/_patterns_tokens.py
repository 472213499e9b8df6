"""Micro models over [batch, tokens, channels]: MLPs, gates, norms, attention."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "mlp_gemm": """
(float[2,6] x) => (y) <float[8,6] w1, float[8] b1, float[7,8] w2, float[7] b2, float[7,5] w3>
{
  h1 = Gemm<transB = 1>(x, w1, b1)
  r1 = Relu(h1)
  h2 = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(r1, w2, b2)
  r2 = Relu(h2)
  y = Gemm(r2, w3)
}""",
    "mlp_matmul": """
(float[2,5,6] x) => (y) <float[6,8] w1, float[8] b1, float[8,4] w2, float[4] b2>
{
  h = MatMul(x, w1)
  a = Add(b1, h)
  g = Gelu(a)
  z = MatMul(g, w2)
  y = Add(z, b2)
}""",
    "glu_chunk": """
(float[2,5,6] x) => (y) <float[6,16] w1, float[16] b1, float[8,4] w2>
{
  h = MatMul(x, w1)
  z = Add(h, b1)
  a, b = Split<axis = -1, num_outputs = 2>(z)
  g = Sigmoid(b)
  m = Mul(a, g)
  y = MatMul(m, w2)
}""",
    "swiglu": """
(float[2,5,6] x) => (y) <float[6,8] gate, float[6,8] up, float[8,6] down>
{
  g = MatMul(x, gate)
  s = Sigmoid(g)
  a = Mul(g, s)
  u = MatMul(x, up)
  m = Mul(a, u)
  d = MatMul(m, down)
  y = Add(x, d)
}""",
    "chunk_dim_2": """
(float[2,5,6] x) => (y) <float[6,16] w1, float[8,4] w2, float[8,4] w3>
{
  h = MatMul(x, w1)
  a, b = Split<axis = 2, num_outputs = 2>(h)
  r = Relu(a)
  p = MatMul(r, w2)
  q = MatMul(b, w3)
  y = Add(p, q)
}""",
    "cat_dim_2": """
(float[2,5,6] x) => (y) <float[6,8] w1, float[6,4] w2, float[12,5] w3>
{
  a = MatMul(x, w1)
  b = MatMul(x, w2)
  c = Concat<axis = 2>(a, b)
  r = Relu(c)
  y = MatMul(r, w3)
}""",
    "cat_dim_minus_1": """
(float[2,5,6] x) => (y) <float[6,8] w1, float[6,4] w2, float[12,5] w3>
{
  a = MatMul(x, w1)
  b = MatMul(x, w2)
  c = Concat<axis = -1>(a, b)
  y = MatMul(c, w3)
}""",
    "mixer_token_mixing": """
(float[2,5,6] x) => (y)
<float[6,8] w0, float[5,7] t1, float[7,5] t2, float[8,9] c1, float[9,8] c2, float[8,4] w1>
{
  e = MatMul(x, w0)
  t = Transpose<perm = [0,2,1]>(e)
  h = MatMul(t, t1)
  g = Gelu(h)
  m = MatMul(g, t2)
  b = Transpose<perm = [0,2,1]>(m)
  r = Add(e, b)
  u = MatMul(r, c1)
  v = Gelu(u)
  z = MatMul(v, c2)
  s = Add(r, z)
  y = MatMul(s, w1)
}""",
    "weight_on_the_left": """
(float[2,5,6] x) => (y) <float[7,5] t1, float[4,7] t2>
{
  h = MatMul(t1, x)
  r = Relu(h)
  y = MatMul(t2, r)
}""",
    "tied_embedding": """
(int64[2,5] ids) => (y) <float[11,8] table, float[8,9] w1, float[9,8] w2>
{
  e = Gather<axis = 0>(table, ids)
  h = MatMul(e, w1)
  r = Relu(h)
  z = MatMul(r, w2)
  s = Add(e, z)
  t = Transpose<perm = [1,0]>(table)
  y = MatMul(s, t)
}""",
    "layer_norm": """
(float[2,5,6] x) => (y)
<float[6,8] w0, float[8] s, float[8] b, float[8,9] w1, float[9,8] w2, float[8,4] w3>
{
  e = MatMul(x, w0)
  n = LayerNormalization<axis = -1>(e, s, b)
  h = MatMul(n, w1)
  r = Relu(h)
  z = MatMul(r, w2)
  t = Add(e, z)
  y = MatMul(t, w3)
}""",
    "rms_norm_decomposed": """
(float[2,5,6] x) => (y)
<float[6,8] w0, float two = {2}, float eps = {1e-6}, int64[1] last = {-1}, float[8] s,
 float[8,4] w1>
{
  e = MatMul(x, w0)
  q = Pow(e, two)
  m = ReduceMean(q, last)
  a = Add(m, eps)
  d = Sqrt(a)
  i = Reciprocal(d)
  n = Mul(e, i)
  g = Mul(s, n)
  y = MatMul(g, w1)
}""",
    "convnext_block": """
(float[2,3,4,6] x) => (y)
<float[8,3,1,1] w0, float[8,1,3,3] dw, float[8] db, float[8] s, float[8] b, float[8,12] w1,
 float[12] b1,
 float[12,8] w2, float[8] gamma, float[4,8,1,1] w3>
{
  e = Conv(x, w0)
  d = Conv<group = 8, pads = [1,1,1,1]>(e, dw, db)
  t = Transpose<perm = [0,2,3,1]>(d)
  n = LayerNormalization<axis = -1>(t, s, b)
  h = MatMul(n, w1)
  hb = Add(h, b1)
  g = Gelu(hb)
  z = MatMul(g, w2)
  m = Mul(z, gamma)
  u = Transpose<perm = [0,3,1,2]>(m)
  r = Add(e, u)
  y = Conv(r, w3)
}""",
    "patch_tokens": """
(float[2,3,6,4] x) => (y)
<float[8,3,2,2] wp, float[8] bp, int64[3] flat = {2, 8, 6}, float[1,1,8] cls,
 int64[3] one = {2, 1, 8},
 float[1,7,8] pos, float[8,9] w1, float[9,8] w2, int64 pick = {3}, float[8,5] head>
{
  p = Conv<strides = [2,2]>(x, wp, bp)
  f = Reshape(p, flat)
  t = Transpose<perm = [0,2,1]>(f)
  c = Expand(cls, one)
  k = Concat<axis = 1>(c, t)
  e = Add(k, pos)
  h = MatMul(e, w1)
  r = Gelu(h)
  z = MatMul(r, w2)
  s = Add(e, z)
  g = Gather<axis = 1>(s, pick)
  y = MatMul(g, head)
}""",
    # An image and a text, each read by the other: scores of both, and the words' own.
    "two_inputs_two_outputs": """
(float[2,3,6,5] image, int64[2,4] ids) => (scores, words)
<float[8,3,3,3] w0, float[10,8] w1, int64[2] hw = {2, 3}, float[11,6] table, float[6,9] w2,
 float[9,10] w3, int64[1] i1 = {1}, float[10,7] w4, float[9,5] w5>
{
  h = Conv(image, w0)
  a = Relu(h)
  p = ReduceMean<keepdims = 0>(a, hw)
  seen = Gemm<transB = 1>(p, w1)
  e = Gather<axis = 0>(table, ids)
  t = MatMul(e, w2)
  b = Relu(t)
  read = MatMul(b, w3)
  u = Unsqueeze(seen, i1)
  both = Mul(read, u)
  scores = MatMul(both, w4)
  words = MatMul(b, w5)
}""",
    "attention_separate": """
(float[2,5,6] x) => (y)
<float[6,12] wq, float[6,12] wk, float[6,12] wv, int64[4] heads = {2, 5, 3, 4}, float scale = {0.5},
 int64[3] join = {2, 5, 12}, float[12,6] wo>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qh = Reshape(q, heads)
  kh = Reshape(k, heads)
  vh = Reshape(v, heads)
  qt = Transpose<perm = [0,2,1,3]>(qh)
  kt = Transpose<perm = [0,2,3,1]>(kh)
  vt = Transpose<perm = [0,2,1,3]>(vh)
  s = MatMul(qt, kt)
  ss = Mul(s, scale)
  p = Softmax<axis = -1>(ss)
  o = MatMul(p, vt)
  ot = Transpose<perm = [0,2,1,3]>(o)
  oj = Reshape(ot, join)
  z = MatMul(oj, wo)
  y = Add(x, z)
}""",
    "attention_fused_qkv": """
(float[2,5,6] x) => (y)
<float[6,36] wqkv, float[36] b, int64[5] heads = {2, 5, 3, 3, 4}, int64 i0 = {0}, int64 i1 = {1},
 int64 i2 = {2},
 float scale = {0.5}, int64[3] join = {2, 5, 12}, float[12,6] wo>
{
  m = MatMul(x, wqkv)
  a = Add(m, b)
  r = Reshape(a, heads)
  t = Transpose<perm = [2,0,3,1,4]>(r)
  q = Gather<axis = 0>(t, i0)
  k = Gather<axis = 0>(t, i1)
  v = Gather<axis = 0>(t, i2)
  kt = Transpose<perm = [0,1,3,2]>(k)
  s = MatMul(q, kt)
  ss = Mul(s, scale)
  p = Softmax<axis = -1>(ss)
  o = MatMul(p, v)
  ot = Transpose<perm = [0,2,1,3]>(o)
  oj = Reshape(ot, join)
  y = MatMul(oj, wo)
}""",
    "attention_three_then_heads": """
(float[2,5,6] x) => (y)
<float[6,36] w, int64[4] three = {2, 5, 3, 12}, int64[4] heads = {2, 5, 3, 4}, int64 i0 = {0},
 int64 i1 = {1}, int64 i2 = {2}, int64[3] join = {2, 5, 12}, float[12,6] wo>
{
  m = MatMul(x, w)
  r = Reshape(m, three)
  t = Transpose<perm = [2,0,1,3]>(r)
  q = Gather<axis = 0>(t, i0)
  k = Gather<axis = 0>(t, i1)
  v = Gather<axis = 0>(t, i2)
  qr = Reshape(q, heads)
  kr = Reshape(k, heads)
  vr = Reshape(v, heads)
  qh = Transpose<perm = [0,2,1,3]>(qr)
  kt = Transpose<perm = [0,2,3,1]>(kr)
  vh = Transpose<perm = [0,2,1,3]>(vr)
  s = MatMul(qh, kt)
  a = Softmax<axis = -1>(s)
  o = MatMul(a, vh)
  ot = Transpose<perm = [0,2,1,3]>(o)
  oj = Reshape(ot, join)
  y = MatMul(oj, wo)
}""",
    "attention_inferred_heads": """
(float[2,5,6] x) => (y)
<float[6,12] wq, float[6,12] wk, float[6,12] wv, int64[4] heads = {2, 5, -1, 4},
 int64[3] join = {2, 5, -1}, float[12,6] wo>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qh = Reshape(q, heads)
  kh = Reshape(k, heads)
  vh = Reshape(v, heads)
  qt = Transpose<perm = [0,2,1,3]>(qh)
  kt = Transpose<perm = [0,2,3,1]>(kh)
  vt = Transpose<perm = [0,2,1,3]>(vh)
  s = MatMul(qt, kt)
  p = Softmax<axis = -1>(s)
  o = MatMul(p, vt)
  ot = Transpose<perm = [0,2,1,3]>(o)
  oj = Reshape(ot, join)
  y = MatMul(oj, wo)
}""",
    "attention_gqa": """
(float[2,5,6] x) => (y)
<float[6,16] wq, float[6,8] wk, float[6,8] wv, int64[4] qs = {2, 5, 4, 4},
 int64[4] ks = {2, 5, 2, 4},
 int64[1] ax = {2}, int64[5] rep = {2, 2, 2, 5, 4}, int64[4] all = {2, 4, 5, 4},
 int64[3] join = {2, 5, 16}, float[16,6] wo>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qh = Reshape(q, qs)
  kh = Reshape(k, ks)
  vh = Reshape(v, ks)
  qt = Transpose<perm = [0,2,1,3]>(qh)
  kt = Transpose<perm = [0,2,1,3]>(kh)
  vt = Transpose<perm = [0,2,1,3]>(vh)
  ku = Unsqueeze(kt, ax)
  vu = Unsqueeze(vt, ax)
  ke = Expand(ku, rep)
  ve = Expand(vu, rep)
  ka = Reshape(ke, all)
  va = Reshape(ve, all)
  kk = Transpose<perm = [0,1,3,2]>(ka)
  s = MatMul(qt, kk)
  p = Softmax<axis = -1>(s)
  o = MatMul(p, va)
  ot = Transpose<perm = [0,2,1,3]>(o)
  oj = Reshape(ot, join)
  y = MatMul(oj, wo)
}""",
    "attention_heads_in_batch": """
(float[N,5,6] x) => (y)
<float[6,12] wq, float[6,12] wk, float[6,12] wv, int64 i0 = {0}, int64 heads = {3},
 int64[1] ax = {0}, int64[1] tokens = {5}, int64[1] four = {4}, int64[1] twelve = {12},
 float[12,6] wo>
{
  shape = Shape(x)
  n = Gather<axis = 0>(shape, i0)
  m = Mul(n, heads)
  n1 = Unsqueeze(n, ax)
  m1 = Unsqueeze(m, ax)
  split = Concat<axis = 0>(tokens, m1, four)
  join = Concat<axis = 0>(tokens, n1, twelve)
  xt = Transpose<perm = [1,0,2]>(x)
  q = MatMul(xt, wq)
  k = MatMul(xt, wk)
  v = MatMul(xt, wv)
  qh = Reshape(q, split)
  kh = Reshape(k, split)
  vh = Reshape(v, split)
  qt = Transpose<perm = [1,0,2]>(qh)
  kt = Transpose<perm = [1,2,0]>(kh)
  vt = Transpose<perm = [1,0,2]>(vh)
  s = MatMul(qt, kt)
  p = Softmax<axis = -1>(s)
  o = MatMul(p, vt)
  ot = Transpose<perm = [1,0,2]>(o)
  oj = Reshape(ot, join)
  y = MatMul(oj, wo)
}""",
    "rope_halves": """
(float[2,5,6] x) => (y)
<float[6,8] wq, float[6,8] wk, float[1,5,8] cos, float[1,5,8] sin, int64[1] i0 = {0},
 int64[1] half = {4},
 int64[1] end = {8}, int64[1] ax = {2}, float[5,4] w>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  a = Slice(q, i0, half, ax)
  b = Slice(q, half, end, ax)
  n = Neg(b)
  r = Concat<axis = -1>(n, a)
  qc = Mul(q, cos)
  rs = Mul(r, sin)
  e = Add(qc, rs)
  kt = Transpose<perm = [0,2,1]>(k)
  s = MatMul(e, kt)
  p = Softmax<axis = -1>(s)
  y = MatMul(p, w)
}""",
    # A row of q or k loses two channels at once, one of each half; a row of v would have to as
    # well, and nothing pairs its channels.
    "rope_fused_qkv": """
(float[2,5,8] x) => (y)
<float[8,24] w, int64[5] split = {2, 5, 3, 2, 4}, int64 p0 = {0}, int64 p1 = {1}, int64 p2 = {2},
 float[5,4] cos, float[5,4] sin, int64[1] i0 = {0}, int64[1] half = {2}, int64[1] end = {4},
 int64[1] last = {3}, int64[3] flat = {2, 5, 8}, float[8,6] wo>
{
  f = MatMul(x, w)
  g = Reshape(f, split)
  g0 = Gather<axis = 2>(g, p0)
  g1 = Gather<axis = 2>(g, p1)
  g2 = Gather<axis = 2>(g, p2)
  q = Transpose<perm = [0,2,1,3]>(g0)
  k = Transpose<perm = [0,2,1,3]>(g1)
  v = Transpose<perm = [0,2,1,3]>(g2)
  q1 = Slice(q, i0, half, last)
  q2 = Slice(q, half, end, last)
  qn = Neg(q2)
  qh = Concat<axis = -1>(qn, q1)
  qc = Mul(q, cos)
  qs = Mul(qh, sin)
  qe = Add(qc, qs)
  k1 = Slice(k, i0, half, last)
  k2 = Slice(k, half, end, last)
  kn = Neg(k2)
  kh = Concat<axis = -1>(kn, k1)
  kc = Mul(k, cos)
  ks = Mul(kh, sin)
  ke = Add(kc, ks)
  kt = Transpose<perm = [0,1,3,2]>(ke)
  s = MatMul(qe, kt)
  p = Softmax<axis = -1>(s)
  o = MatMul(p, v)
  ot = Transpose<perm = [0,2,1,3]>(o)
  of = Reshape(ot, flat)
  y = MatMul(of, wo)
}""",
    "patch_merging": """
(float[2,4,6,3] x) => (y)
<float[3,8] w0, int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] end = {100}, int64[1] two = {2},
 int64[1] row = {1},
 int64[3] flat = {2, 12, 16}, float[16,4] w1>
{
  h = MatMul(x, w0)
  a = Slice(h, i0, end, row, two)
  b = Slice(h, i1, end, row, two)
  c = Concat<axis = -1>(a, b)
  f = Reshape(c, flat)
  y = MatMul(f, w1)
}""",
    "window_partition": """
(float[2,4,6,3] x) => (y)
<float[3,8] w0, int64[6] split = {2, 2, 2, 3, 2, 8}, int64[3] wins = {12, 4, 8}, float[8,8] w1,
 int64[6] back = {2, 2, 3, 2, 2, 8}, int64[4] grid = {2, 4, 6, 8}, float[8,4] w2>
{
  h = MatMul(x, w0)
  a = Reshape(h, split)
  b = Transpose<perm = [0,1,3,2,4,5]>(a)
  c = Reshape(b, wins)
  d = MatMul(c, w1)
  e = Reshape(d, back)
  f = Transpose<perm = [0,1,3,2,4,5]>(e)
  g = Reshape(f, grid)
  r = Add(h, g)
  y = MatMul(r, w2)
}""",
}
