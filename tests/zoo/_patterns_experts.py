"""Micro models of mixtures of experts: a router says how much each expert counts for each token.

Ten tokens of width 6; three experts, 6 → 8 → 6.
"""

from __future__ import annotations

_ROUTER = "float[4,6] w0, float[6,3] router, float[6,5] w3"

TEXTS: dict[str, str] = {
    # All tokens go through all experts, whose weights lie in one tensor.
    "experts_dense": f"""
(float[10,4] x) => (y)
<{_ROUTER}, float[3,6,8] w1, float[3,1,8] b1, float[3,8,6] w2, int64[1] i0 = {{0}},
 int64[1] last = {{-1}}>
{{
  h = MatMul(x, w0)
  logits = MatMul(h, router)
  gates = Softmax<axis = -1>(logits)
  all = Unsqueeze(h, i0)
  a = MatMul(all, w1)
  b = Add(a, b1)
  g = Gelu(b)
  z = MatMul(g, w2)
  gt = Transpose<perm = [1,0]>(gates)
  weight = Unsqueeze(gt, last)
  m = Mul(z, weight)
  s = ReduceSum<keepdims = 0>(m, i0)
  r = Add(h, s)
  y = MatMul(r, w3)
}}""",
    # All tokens go through all experts, each a network of its own with a gated hidden layer.
    "experts_apart": f"""
(float[10,4] x) => (y)
<{_ROUTER}, float[6,8] up0, float[6,8] gate0, float[8,6] down0, float[6,8] up1, float[6,8] gate1,
 float[8,6] down1, float[6,8] up2, float[6,8] gate2, float[8,6] down2>
{{
  h = MatMul(x, w0)
  logits = MatMul(h, router)
  gates = Softmax<axis = -1>(logits)
  c0, c1, c2 = Split<axis = 1, num_outputs = 3>(gates)
  u0 = MatMul(h, up0)
  g0 = MatMul(h, gate0)
  s0 = Sigmoid(g0)
  m0 = Mul(u0, s0)
  z0 = MatMul(m0, down0)
  e0 = Mul(z0, c0)
  u1 = MatMul(h, up1)
  g1 = MatMul(h, gate1)
  s1 = Sigmoid(g1)
  m1 = Mul(u1, s1)
  z1 = MatMul(m1, down1)
  e1 = Mul(z1, c1)
  u2 = MatMul(h, up2)
  g2 = MatMul(h, gate2)
  s2 = Sigmoid(g2)
  m2 = Mul(u2, s2)
  z2 = MatMul(m2, down2)
  e2 = Mul(z2, c2)
  s = Sum(e0, e1, e2)
  r = Add(h, s)
  y = MatMul(r, w3)
}}""",
    # Each token gathers the weights of the two experts that count most for it.
    "experts_top_k": f"""
(float[10,4] x) => (y)
<{_ROUTER}, float[3,6,8] w1, float[3,8] b1, float[3,8,6] w2, int64[1] k = {{2}},
 int64[2] middle = {{1, 2}}, int64[1] i2 = {{2}}, int64[2] ends = {{2, 3}}>
{{
  h = MatMul(x, w0)
  logits = MatMul(h, router)
  top, chosen = TopK<axis = -1>(logits, k)
  gates = Softmax<axis = -1>(top)
  t = Unsqueeze(h, middle)
  u = Gather<axis = 0>(w1, chosen)
  c = Gather<axis = 0>(b1, chosen)
  d = Gather<axis = 0>(w2, chosen)
  a = MatMul(t, u)
  cu = Unsqueeze(c, i2)
  b = Add(a, cu)
  g = Gelu(b)
  z = MatMul(g, d)
  weight = Unsqueeze(gates, ends)
  m = Mul(z, weight)
  s = ReduceSum<keepdims = 0>(m, middle)
  r = Add(h, s)
  y = MatMul(r, w3)
}}""",
}
