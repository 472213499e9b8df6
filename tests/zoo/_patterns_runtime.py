"""Micro models of what ONNX Runtime's optimiser writes: fused layers, norms behind a sum."""

from __future__ import annotations

_HEAD = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]> g '

_BLOCK = (
    _HEAD
    + """(float[2,5,6] x) => (float[2,5,4] y)
<float[6,8] w0, float[8,7] w1, float[7,8] w2, float[8,9] w3, float[9,8] w4, float[8,4] w5,
 float[8] g1, float[8] b1, float[8] g2, float[8] b2, float[8] c>
{{
  a = MatMul(x, w0)
  h = MatMul(a, w1)
  r = Relu(h)
  z = MatMul(r, w2)
  n, , , s = com.microsoft.{op}(z, a, g1{first})
  p = MatMul(n, w3)
  q = Relu(p)
  t = MatMul(q, w4)
  m = com.microsoft.{op}(t, s, g2{second})
  y = MatMul(m, w5)
}}"""
)
"""A transformer's MLPs around a trunk; the second norm is of the trunk that the first hands on."""

TEXTS: dict[str, str] = {
    "skip_norm": _BLOCK.format(op="SkipLayerNormalization", first=", b1", second=", b2, c"),
    "skip_norm_simplified": _BLOCK.format(
        op="SkipSimplifiedLayerNormalization", first="", second=", c"
    ),
    "skip_norm_of_positions": _HEAD
    + """(float[2,5,6] x) => (float[2,5,4] y)
<float[6,8] w0, float[1,5,8] positions, float[8] g, float[8] b, float[8,9] w1, float[9,4] w2>
{
  a = MatMul(x, w0)
  n, , , s = com.microsoft.SkipLayerNormalization(a, positions, g, b)
  h = MatMul(n, w1)
  u = MatMul(s, w1)
  t = Add(h, u)
  y = MatMul(t, w2)
}""",
    "embed_norm": _HEAD
    + """(int32[2,5] ids, int32[2,5] kinds) => (float[2,5,4] y)
<float[9,8] words, float[5,8] places, float[2,8] segments, float[8] g, float[8] b,
 float[8,7] w1, float[7,8] w2, float[8,4] w3>
{
  n, mask, s = com.microsoft.EmbedLayerNormalization(ids, kinds, words, places, segments, g, b)
  h = MatMul(n, w1)
  r = Relu(h)
  z = MatMul(r, w2)
  t = Add(z, s)
  y = MatMul(t, w3)
}""",
    "simplified_norm": _HEAD
    + """(float[2,5,6] x) => (float[2,5,4] y)
<float[6,8] w0, float[8] g, float[8,9] w1, float[9,4] w2>
{
  a = MatMul(x, w0)
  n = SimplifiedLayerNormalization<axis = -1, epsilon = 0.00001>(a, g)
  h = MatMul(n, w1)
  r = Relu(h)
  y = MatMul(r, w2)
}""",
    "fused_conv": _HEAD
    + """(float[2,3,6,6] x) => (float[2,4,6,6] y)
<float[8,3,3,3] w0, float[8] b0, float[8,8,1,1] w1, float[8] b1, float[8,1,3,3] w2,
 float[4,8,1,1] w3>
{
  a = com.microsoft.FusedConv<pads = [1,1,1,1], activation = "Relu">(x, w0, b0)
  b = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [0.2]>(a, w1, b1, a)
  c = com.microsoft.FusedConv<group = 8, pads = [1,1,1,1], activation = "Clip",
    activation_params = [-0.3, 0.4]>(b, w2)
  y = Conv(c, w3)
}""",
    "fused_gemm": _HEAD
    + """(float[5,6] x) => (float[5,4] y)
<float[6,8] w0, float[8] b0, float[7,8] w1, float[7] b1, float[7,4] w2>
{
  a = com.microsoft.FusedGemm<activation = "Tanh">(x, w0, b0)
  b = com.microsoft.FusedGemm<transB = 1, alpha = 0.5, activation = "HardSigmoid",
    activation_alpha = 0.3, activation_beta = 0.4>(a, w1, b1)
  y = Gemm(b, w2)
}""",
    "fused_matmul_weights": _HEAD
    + """(float[2,6,5] x) => (float[2,5,4] y)
<float[6,8] w0, float[9,8] w1, float[9,4] w2>
{
  a = com.microsoft.FusedMatMul<transA = 1>(x, w0)
  b = com.microsoft.FusedMatMul<transB = 1, alpha = 0.5>(a, w1)
  r = Relu(b)
  y = com.microsoft.FusedMatMul<alpha = 2.0>(r, w2)
}""",
    "fused_matmul_weight_on_the_left": _HEAD
    + """(float[2,6,8] x) => (float[2,4,6] y)
<float[8,7] w0, float[7,9] w1, float[9,4] w2>
{
  a = MatMul(x, w0)
  b = com.microsoft.FusedMatMul<transA = 1, transB = 1>(w1, a)
  r = Relu(b)
  y = com.microsoft.FusedMatMul<transA = 1, alpha = 0.5>(w2, r)
}""",
    "fused_matmul_heads": _HEAD
    + """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,12] wq, float[6,12] wk, float[6,15] wv, float[15,6] wo, int64[4] heads = {2, 5, 3, -1},
 int64[3] flat = {2, 5, -1}>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qh = Reshape(q, heads)
  kh = Reshape(k, heads)
  vh = Reshape(v, heads)
  qt = Transpose<perm = [0,2,1,3]>(qh)
  kt = Transpose<perm = [0,2,1,3]>(kh)
  vt = Transpose<perm = [0,2,1,3]>(vh)
  s = com.microsoft.FusedMatMul<transB = 1, alpha = 0.5>(qt, kt)
  p = Softmax<axis = -1>(s)
  z = MatMul(p, vt)
  zt = Transpose<perm = [0,2,1,3]>(z)
  zf = Reshape(zt, flat)
  y = MatMul(zf, wo)
}""",
    "fused_matmul_batch_behind": _HEAD
    + """(float[5,6] x) => (float[5,6] y)
<float[6,12] wq, float[6,12] wk, float[6,15] wv, float[15,6] wo, int64[3] heads = {5, 3, -1},
 int64[2] flat = {5, -1}>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qh = Reshape(q, heads)
  kh = Reshape(k, heads)
  vh = Reshape(v, heads)
  s = com.microsoft.FusedMatMul<transBatchA = 1, transBatchB = 1, transB = 1>(qh, kh)
  p = Softmax<axis = -1>(s)
  z = com.microsoft.FusedMatMul<transBatchB = 1>(p, vh)
  zt = Transpose<perm = [1,0,2]>(z)
  zf = Reshape(zt, flat)
  y = MatMul(zf, wo)
}""",
    "encoder_layer": _HEAD
    + """(int32[2,5] ids, int32[2,5] kinds) => (float[2,5,4] y)
<float[9,12] words, float[5,12] places, float[2,12] segments, float[12] g0, float[12] b0,
 int32[2,5] mask = {1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, float[12,36] wqkv, float[36] bqkv,
 float[12,12] wo, float[12] bo, float[12] g1, float[12] b1, float[12,7] w1, float[7] c1,
 float[7,12] w2, float[12] c2, float[12] g2, float[12] b2, float[12,4] w3>
{
  e, last = com.microsoft.EmbedLayerNormalization(ids, kinds, words, places, segments, g0, b0, mask)
  a = com.microsoft.Attention<num_heads = 3>(e, wqkv, bqkv, last)
  o = MatMul(a, wo)
  n = com.microsoft.SkipLayerNormalization(o, e, g1, b1, bo)
  h = MatMul(n, w1)
  r = com.microsoft.BiasGelu(h, c1)
  z = MatMul(r, w2)
  m = com.microsoft.SkipLayerNormalization(z, n, g2, b2, c2)
  y = MatMul(m, w3)
}""",
    "decoder_layer": _HEAD
    + """(float[2,5,6] x) => (float[2,5,4] y)
<float[6,12] w0, float[12] g0, float[12,64] wq, float[12,32] wk, float[12,32] wv, float[64,12] wo,
 float[9,8] cos, float[9,8] sin, int32[2] last = {4, 4}, int32 total = {5}, float[12] g1,
 float[12,7] gate, float[12,7] up, float[7,12] down, float[12] g2, float[12,4] w1,
 float small = {0.3}>
{
  w = MatMul(x, w0)
  a = Mul(w, small)
  n = SimplifiedLayerNormalization<axis = -1>(a, g0)
  q = MatMul(n, wq)
  k = MatMul(n, wk)
  v = MatMul(n, wv)
  t, ck, cv = com.microsoft.GroupQueryAttention
    <num_heads = 4, kv_num_heads = 2, do_rotary = 1>(q, k, v, , , last, total, cos, sin)
  o = MatMul(t, wo)
  m, , , s = com.microsoft.SkipSimplifiedLayerNormalization(o, a, g1)
  p = MatMul(m, gate)
  i = com.microsoft.QuickGelu<alpha = 1.0>(p)
  u = MatMul(m, up)
  j = Mul(i, u)
  d = MatMul(j, down)
  f, , , e = com.microsoft.SkipSimplifiedLayerNormalization(d, s, g2)
  y = MatMul(f, w1)
}""",
}
