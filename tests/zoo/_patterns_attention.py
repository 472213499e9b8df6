"""Micro models of attention: one node or many, rotary positions, shared heads, tables of bias."""

from __future__ import annotations

_23 = '<ir_version: 11, opset_import: ["" : 23]> g '
_MICROSOFT = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]> g '

_SEPARATE = """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,12] wq, float[6,12] wk, float[6,15] wv, float[15,6] wo{weights}>
{{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  {body}
  y = MatMul(o, wo)
}}"""
"""Three heads: q and k of width 4, v of width 5."""

_SHARED = """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,24] wq, float[6,8] wk, float[6,10] wv, float[30,6] wo{weights}>
{{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  {body}
  y = MatMul(o, wo)
}}"""
"""Six heads of queries, two of keys and values."""

_SPLIT = """qr = Reshape(q, heads)
  kr = Reshape(k, heads)
  vr = Reshape(v, heads)
  qh = Transpose<perm = [0,2,1,3]>(qr)
  kh = Transpose<perm = [0,2,1,3]>(kr)
  vh = Transpose<perm = [0,2,1,3]>(vr)"""
_JOIN = """ot = Transpose<perm = [0,2,1,3]>(oh)
  o = Reshape(ot, join)"""
_SHAPES = ", int64[4] heads = {0, 0, 3, -1}, int64[3] join = {0, 0, -1}"

_POSITIONS = "int64[2,5] p = {0, 1, 2, 3, 4, 2, 3, 4, 5, 6}"
_DISTANCES = """int64[5,5] apart = {4,5,6,7,8, 3,4,5,6,7, 2,3,4,5,6, 1,2,3,4,5, 0,1,2,3,4},
 float[9,3] table"""


def _separate(body: str, weights: str = "") -> str:
    return _SEPARATE.format(body=body, weights=weights)


def _shared(body: str, weights: str = "") -> str:
    return _SHARED.format(body=body, weights=weights)


_THREE = "q_num_heads = 3, kv_num_heads = 3"

TEXTS: dict[str, str] = {
    "attention_node": _23 + _separate(f"o = Attention<{_THREE}>(q, k, v)"),
    "attention_node_mask": _23
    + _separate(
        f"o = Attention<{_THREE}, is_causal = 1, softcap = 2.0, scale = 0.3>(q, k, v, m)",
        ", float[5,5] m",
    ),
    "attention_node_mask_per_head": _23
    + _separate(f"o = Attention<{_THREE}>(q, k, v, m)", ", float[1,3,5,5] m"),
    "attention_node_relative": _23
    + _separate(
        f"""g = Gather<axis = 0>(table, apart)
  m = Transpose<perm = [2,0,1]>(g)
  o = Attention<{_THREE}>(q, k, v, m)""",
        ", " + _DISTANCES,
    ),
    "attention_node_4d": _23
    + _separate(f"{_SPLIT}\n  oh = Attention<is_causal = 1>(qh, kh, vh)\n  {_JOIN}", _SHAPES),
    "attention_node_gqa": _23
    + _shared("o = Attention<q_num_heads = 6, kv_num_heads = 2, is_causal = 1>(q, k, v)"),
    "attention_node_mqa": _23
    + """(float[2,5,6] x) => (y)
<float[6,12] wq, float[6,4] wk, float[6,5] wv, float[15,6] wo>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  o = Attention<q_num_heads = 3, kv_num_heads = 1>(q, k, v)
  y = MatMul(o, wo)
}""",
    "attention_node_cross": _23
    + """(float[2,5,6] x, float[2,7,5] memory) => (y)
<float[6,12] wq, float[5,12] wk, float[5,15] wv, float[15,6] wo>
{
  q = MatMul(x, wq)
  k = MatMul(memory, wk)
  v = MatMul(memory, wv)
  o = Attention<q_num_heads = 3, kv_num_heads = 3>(q, k, v)
  y = MatMul(o, wo)
}""",
    "attention_node_prefix": _23
    + """(float[2,5,6] x, float[2,3,7] prefix) => (y)
<float[6,12] wq, float[6,12] wk, float[6,15] wv, float[15,6] wo, float[7,12] pk, float[7,15] pv,
 int64[4] heads = {0, 0, 3, -1}>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  a = MatMul(prefix, pk)
  b = MatMul(prefix, pv)
  ar = Reshape(a, heads)
  br = Reshape(b, heads)
  at = Transpose<perm = [0,2,1,3]>(ar)
  bt = Transpose<perm = [0,2,1,3]>(br)
  o, ck, cv = Attention<q_num_heads = 3, kv_num_heads = 3>(q, k, v, , at, bt)
  y = MatMul(o, wo)
}""",
    "attention_node_cache": _23
    + """(float[2,5,6] x, float[2,3,2,4] pk, float[2,3,2,5] pv) => (y, ck, cv)
<float[6,12] wq, float[6,12] wk, float[6,15] wv, float[15,6] wo>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  o, ck, cv = Attention<q_num_heads = 3, kv_num_heads = 3>(q, k, v, , pk, pv)
  y = MatMul(o, wo)
}""",
    "attention_node_scores": _23
    + _separate(f"o, ck, cv, s = Attention<{_THREE}, qk_matmul_output_mode = 3>(q, k, v)").replace(
        "=> (float[2,5,6] y)", "=> (y, float[2,3,5,5] s)"
    ),
    "attention_microsoft": _MICROSOFT
    + """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,8] wp, float[8,36] w, float[36] b, int32[2,5] seen = {1, 1, 1, 1, 0, 1, 1, 1, 0, 0},
 float[1,3,5,5] bias, float[12,6] wo>
{
  a = MatMul(x, wp)
  o = com.microsoft.Attention<num_heads = 3, unidirectional = 1>(a, w, b, seen, , bias)
  y = MatMul(o, wo)
}""",
    "attention_microsoft_cross": _MICROSOFT
    + """(float[2,5,6] x, float[2,7,5] memory) => (float[2,5,6] y)
<float[6,12] wq, float[5,12] wk, float[5,15] wv, float[15,6] wo, float[39] b, float[1,3,5,7] bias>
{
  q = MatMul(x, wq)
  k = MatMul(memory, wk)
  v = MatMul(memory, wv)
  o = com.microsoft.MultiHeadAttention<num_heads = 3>(q, k, v, b, , bias)
  y = MatMul(o, wo)
}""",
    "attention_microsoft_gqa": _MICROSOFT
    + """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,64] wq, float[6,32] wk, float[6,32] wv, float[64,6] wo, float[9,8] cos, float[9,8] sin,
 int32[2] last = {4, 4}, int32 total = {5}>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  o, ck, cv = com.microsoft.GroupQueryAttention
    <num_heads = 4, kv_num_heads = 2, do_rotary = 1>(q, k, v, , , last, total, cos, sin)
  y = MatMul(o, wo)
}""",
    "rotary_llama": _23
    + _shared(
        """qq = RotaryEmbedding<num_heads = 6>(q, cos, sin, p)
  kk = RotaryEmbedding<num_heads = 2>(k, cos, sin, p)
  o = Attention<q_num_heads = 6, kv_num_heads = 2, is_causal = 1>(qq, kk, v)""",
        f", float[9,2] cos, float[9,2] sin, {_POSITIONS}",
    ),
    "rotary_interleaved_4d": _23
    + _separate(
        f"""{_SPLIT}
  qq = RotaryEmbedding<interleaved = 1>(qh, cos, sin)
  kk = RotaryEmbedding<interleaved = 1>(kh, cos, sin)
  oh = Attention<is_causal = 1>(qq, kk, vh)
  {_JOIN}""",
        _SHAPES + ", float[2,5,2] cos, float[2,5,2] sin",
    ),
    "rotary_partial": _23
    + """(float[2,5,6] x) => (y)
<float[6,24] wq, float[6,24] wk, float[6,15] wv, float[15,6] wo, float[2,5,2] cos,
 float[2,5,2] sin>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qq = RotaryEmbedding<num_heads = 3, rotary_embedding_dim = 4>(q, cos, sin)
  kk = RotaryEmbedding<num_heads = 3, rotary_embedding_dim = 4>(k, cos, sin)
  o = Attention<q_num_heads = 3, kv_num_heads = 3>(qq, kk, v)
  y = MatMul(o, wo)
}""",
    "rotary_computed": _23
    + """(float[2,5,6] x, float[2,5,1] p) => (y)
<float[6,24] wq, float[1,4] frequencies, float[24,6] wo>
{
  q = MatMul(x, wq)
  angles = MatMul(p, frequencies)
  cos = Cos(angles)
  sin = Sin(angles)
  o = RotaryEmbedding<num_heads = 3>(q, cos, sin)
  y = MatMul(o, wo)
}""",
    "rotary_microsoft": _MICROSOFT
    + f"""(float[2,5,6] x) => (float[2,5,6] y)
<float[6,24] wq, float[9,2] cos, float[9,2] sin, {_POSITIONS}, float[24,6] wo>
{{
  q = MatMul(x, wq)
  o = com.microsoft.RotaryEmbedding<num_heads = 3, rotary_embedding_dim = 4>(q, p, cos, sin)
  y = MatMul(o, wo)
}}""",
    "attention_cross": """(float[2,5,6] x, float[2,7,5] memory) => (y)
<float[6,12] wq, float[5,12] wk, float[5,15] wv, float[15,6] wo, int64[4] heads = {0, 0, 3, -1},
 int64[3] join = {0, 0, -1}, float scale = {0.7071}>
{
  q = MatMul(x, wq)
  k = MatMul(memory, wk)
  v = MatMul(memory, wv)
  qr = Reshape(q, heads)
  kr = Reshape(k, heads)
  vr = Reshape(v, heads)
  qh = Transpose<perm = [0,2,1,3]>(qr)
  kt = Transpose<perm = [0,2,3,1]>(kr)
  vh = Transpose<perm = [0,2,1,3]>(vr)
  qs = Mul(qh, scale)
  ks = Mul(kt, scale)
  s = MatMul(qs, ks)
  a = Softmax<axis = -1>(s)
  oh = MatMul(a, vh)
  ot = Transpose<perm = [0,2,1,3]>(oh)
  o = Reshape(ot, join)
  y = MatMul(o, wo)
}""",
    "attention_relative": _separate(
        f"""{_SPLIT}
  kt = Transpose<perm = [0,1,3,2]>(kh)
  s = MatMul(qh, kt)
  g = Gather<axis = 0>(table, apart)
  m = Transpose<perm = [2,0,1]>(g)
  b = Add(s, m)
  a = Softmax<axis = -1>(b)
  oh = MatMul(a, vh)
  {_JOIN}""",
        _SHAPES + ", " + _DISTANCES,
    ),
    "attention_linear": _separate(
        f"""{_SPLIT}
  qe = Elu(qh)
  ke = Elu(kh)
  qf = Add(qe, one)
  kf = Add(ke, one)
  kt = Transpose<perm = [0,1,3,2]>(kf)
  kv = MatMul(kt, vh)
  n = MatMul(qf, kv)
  total = ReduceSum<keepdims = 1>(kf, tokens)
  weighted = Mul(qf, total)
  d = ReduceSum<keepdims = 1>(weighted, width)
  oh = Div(n, d)
  {_JOIN}""",
        _SHAPES + ", float one = {1}, int64[1] tokens = {2}, int64[1] width = {3}",
    ),
    "attention_qk_norm": _separate(
        f"""{_SPLIT}
  qn = LayerNormalization<axis = -1>(qh, s1)
  kn = LayerNormalization<axis = -1>(kh, s2)
  kt = Transpose<perm = [0,1,3,2]>(kn)
  s = MatMul(qn, kt)
  a = Softmax<axis = -1>(s)
  oh = MatMul(a, vh)
  {_JOIN}""",
        _SHAPES + ", float[4] s1, float[4] s2",
    ),
    "attention_qk_l2": _separate(
        f"""{_SPLIT}
  ql = ReduceL2<keepdims = 1>(qh, width)
  kl = ReduceL2<keepdims = 1>(kh, width)
  qn = Div(qh, ql)
  kn = Div(kh, kl)
  kt = Transpose<perm = [0,1,3,2]>(kn)
  s = MatMul(qn, kt)
  a = Softmax<axis = -1>(s)
  oh = MatMul(a, vh)
  {_JOIN}""",
        _SHAPES + ", int64[1] width = {3}",
    ),
}
