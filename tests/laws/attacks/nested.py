"""Nested graphs that read outer values, operators without a rule, training outputs."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "if_reads_a_hidden_value": """
(float[2,3,6,5] x, bool yes) => (y)
<float[8,3,1,1] w0, float[8,8,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  g = Conv(h, w1)
  r = If (yes) <
    then_branch = a () => (float[2,8,6,5] p) { p = Relu(h) },
    else_branch = b () => (float[2,8,6,5] q) { q = Neg(h) }
  >
  s = Add(g, r)
  y = Conv(s, w2)
}""",
    "if_reads_a_weight": """
(float[2,3,6,5] x, bool yes) => (y)
<float[8,3,1,1] w0, float[6,8,1,1] w1, float[4,6,1,1] w2>
{
  h = Conv(x, w0)
  g = Conv(h, w1)
  k = Relu(g)
  z = Conv(k, w2)
  r = If (yes) <
    then_branch = a () => (float[1,1,1,1] p) { p = ReduceSum<keepdims = 1>(w2) },
    else_branch = b () => (float[1,1,1,1] q) { q = ReduceMax<keepdims = 1>(w2) }
  >
  m = ReduceMax<keepdims = 1>(r)
  y = Add(z, m)
}""",
    "if_passes_a_hidden_value_on": """
(float[2,3,6,5] x, bool yes) => (y)
<float[8,3,1,1] a, float[8,3,1,1] b, float[8,8,1,1] w1, float[4,8,1,1] w2>
{
  ha = Conv(x, a)
  hb = Conv(x, b)
  r = If (yes) <
    then_branch = t () => (float[2,8,6,5] p) { p = Identity(ha) },
    else_branch = e () => (float[2,8,6,5] q) { q = Identity(hb) }
  >
  f = Conv(r, w1)
  y = Conv(f, w2)
}""",
    "sizes_behind_an_if": """
(float[2,3,6,5] x, bool yes) => (y)
<float[8,3,1,1] w0, float[8,8,1,1] w1, float[8,8,1,1] w3, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  g = Conv(h, w1)
  r = If (yes) <
    then_branch = a () => (float[N,C,H,W] p) { p = Relu(g) },
    else_branch = b () => (float[N,C,H,W] q) { q = Neg(g) }
  >
  s = Conv(r, w3)
  y = Conv(s, w2)
}""",
    "sizes_behind_a_loop": """
(float[2,3,6,5] x) => (float[2,4,6,5] y)
<float[8,3,1,1] w0, int64 times = {2}, bool go = {1}, float[8,8,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  l = Loop (times, go, h) <
    body = b (int64 i, bool c, float[N,C,H,W] v) => (bool d, float[N,C,H,W] u)
    { d = Identity(c)  u = Tanh(v) }
  >
  f = Conv(l, w1)
  y = Conv(f, w2)
}""",
    "sizes_that_an_if_hides": """
(float[N,3,6,5] x, bool yes) => (y)
<float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  s = Shape(x)
  r = If (yes) <
    then_branch = a () => (float[A,B] p)
    { i = Constant<value_ints = [0]>()  k = Constant<value_ints = [2]>()  l = Gather(s, i)
      m = Max(l, k)  n = Concat<axis = 0>(m, k)  p = ConstantOfShape(n) },
    else_branch = b () => (float[C,D] q)
    { i2 = Constant<value_ints = [0]>()  k2 = Constant<value_ints = [2]>()  l2 = Gather(s, i2)
      m2 = Max(l2, k2)  n2 = Concat<axis = 0>(m2, k2)  q = ConstantOfShape(n2) }
  >
  z = Shape(r)
  zero = Constant<value_ints = [0]>()
  one = Gather(z, zero)
  f = Cast<to = 1>(one)
  g = Mul(h, f)
  y = Conv(g, w1)
}""",
    "unknown_operator": """
<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
g (float[2,3,6,5] x) => (float[2,4,6,5] y)
<float[8,3,1,1] w0, float[8,8,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  u = com.microsoft.SampleOp(h)
  f = Conv(u, w1)
  y = Conv(f, w2)
}""",
    "operator_without_a_rule": """
(float[2,3,2,2] x) => (y)
<float[8,3,1,1] w0, int64[2,2,2] t = {0, 3, 1, 7, 2, 2, 5, 4}, int64[1] ax = {1},
 float[8,1,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  d = NegativeLogLikelihoodLoss<reduction = "none">(h, t)
  u = Unsqueeze(d, ax)
  f = Conv(u, w1)
  y = Conv(f, w2)
}""",
    "dropout_mask": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  d, m = Dropout(h)
  z = Where(m, d, h)
  y = Conv(z, w1)
}""",
    "dropout_mask_unread": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  d, m = Dropout(h)
  y = Conv(d, w1)
}""",
    "pool_indices_unread": """
(float[2,3,6,5] x) => (y) <float[8,3,1,1] w0, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  p, i = MaxPool<kernel_shape = [2,2]>(h)
  y = Conv(p, w1)
}""",
    "batch_norm_in_training": """
(float[2,3,6,5] x) => (y, float[8] mean)
<float[8,3,1,1] w0, float[8] s, float[8] t, float[8] m, float[8] v, float[8,8,1,1] w1,
 float[8] s2, float[8] t2, float[8] m2, float[8] v2, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  n, r, q = BatchNormalization<training_mode = 1>(h, s, t, m, v)
  f = Conv(n, w1)
  g, mean, u = BatchNormalization<training_mode = 1>(f, s2, t2, m2, v2)
  y = Conv(g, w2)
}""",
    "batch_norm_in_training_over_the_maker": """
(float[6,3] x) => (y)
<float[8,6] w0, float[3] s, float[3] t, float[3] m, float[3] v, float[4,8] w1>
{
  z = Relu(x)
  h = MatMul(w0, z)
  n, r, q = BatchNormalization<training_mode = 1>(h, s, t, m, v)
  y = MatMul(w1, n)
}""",
    "statistics_of_layer_norm": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[5] s, float[5] t, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  n, mean, deviation = LayerNormalization(h, s, t)
  b = Mul(n, deviation)
  c = Sub(b, mean)
  y = Conv(c, w1)
}""",
    "statistics_of_layer_norm_unread": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[5] s, float[5] t, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  n, mean, deviation = LayerNormalization(h, s, t)
  y = Conv(n, w1)
}""",
    "quantised_activation": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float scale = {0.05}, int8 zero = {3}, float[8,8,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  q = QuantizeLinear(h, scale, zero)
  d = DequantizeLinear(q, scale, zero)
  f = Conv(d, w1)
  y = Conv(f, w2)
}""",
    "one_hot_of_channels": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int64 depth = {8}, float[2] values = {0, 1}, float[4,8,1,1] w1>
{
  h = Conv(x, w0)
  i = ArgMax<axis = 1, keepdims = 0>(h)
  o = OneHot<axis = 1>(i, depth, values)
  m = Mul(o, h)
  y = Conv(m, w1)
}""",
    "loop_over_a_hidden_value": """
(float[2,3,6,5] x) => (float[2,4,6,5] y)
<float[8,3,1,1] w0, int64 times = {2}, bool go = {1}, float[8,8,1,1] w1, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  z = Identity(h)
  l = Loop (times, go, z) <
    body = b (int64 i, bool c, float[2,8,6,5] v) => (bool d, float[2,8,6,5] u)
    { d = Identity(c)  u = Add(v, h) }
  >
  f = Conv(l, w1)
  y = Conv(f, w2)
}""",
}
