"""Micro models in which Einsum does the work of MatMul, Mul, Transpose and ReduceSum."""

from __future__ import annotations

_HEADS = "int64[4] heads = {2, 5, 3, 4}"

TEXTS: dict[str, str] = {
    "einsum_mlp": """
(float[2,5,6] x) => (y) <float[6,8] w1, float[8] b, float[8,4] w2>
{
  h = Einsum<equation = "bti, io -> bto">(x, w1)
  a = Add(h, b)
  r = Relu(a)
  y = Einsum<equation = "bti,io">(r, w2)
}""",
    "einsum_ellipsis": """
(float[2,5,6] x) => (y) <float[6,8] w1, float[8] s, float[4,8] w2>
{
  h = Einsum<equation = "...i,ij->...j">(x, w1)
  a = Einsum<equation = "...c,c->...c">(h, s)
  y = Einsum<equation = "oj,...j->...o">(w2, a)
}""",
    "einsum_of_heads": f"""
(float[2,5,6] x) => (y)
<float[6,12] wq, float[6,12] wk, float[6,12] wv, {_HEADS}, int64[3] join = {{2, 5, 12}},
 float[12,6] wo>
{{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  qh = Reshape(q, heads)
  kh = Reshape(k, heads)
  vh = Reshape(v, heads)
  s = Einsum<equation = "bqhd,bkhd->bhqk">(qh, kh)
  p = Softmax<axis = -1>(s)
  o = Einsum<equation = "bhqk,bkhd->bqhd">(p, vh)
  oj = Reshape(o, join)
  y = MatMul(oj, wo)
}}""",
    # As Keras writes attention: weights with an axis for heads.
    "einsum_weights_of_heads": """
(float[2,5,6] x) => (y)
<float[6,3,4] wq, float[6,3,4] wk, float[6,3,4] wv, float[3,4] bq, float[3,4,6] wo>
{
  q = Einsum<equation = "abc,cde->abde">(x, wq)
  qb = Add(q, bq)
  k = Einsum<equation = "abc,cde->abde">(x, wk)
  v = Einsum<equation = "abc,cde->abde">(x, wv)
  s = Einsum<equation = "aecd,abcd->acbe">(k, qb)
  p = Softmax<axis = -1>(s)
  o = Einsum<equation = "acbe,aecd->abcd">(p, v)
  y = Einsum<equation = "abcd,cde->abe">(o, wo)
}""",
    "einsum_weight_per_head": f"""
(float[2,5,6] x) => (y)
<float[6,12] w0, {_HEADS}, float[3,4,7] w, int64[3] join = {{2, 5, 21}}, float[21,6] w1>
{{
  h = MatMul(x, w0)
  hh = Reshape(h, heads)
  z = Einsum<equation = "bthd,hde->bthe">(hh, w)
  zj = Reshape(z, join)
  y = MatMul(zj, w1)
}}""",
    "einsum_one_weight_for_all_heads": f"""
(float[2,5,6] x) => (y)
<float[6,12] w0, {_HEADS}, float[4,7] w, int64[3] join = {{2, 5, 21}}, float[21,6] w1>
{{
  h = MatMul(x, w0)
  hh = Reshape(h, heads)
  z = Einsum<equation = "bthd,de->bthe">(hh, w)
  zj = Reshape(z, join)
  y = MatMul(zj, w1)
}}""",
    "einsum_talking_heads": f"""
(float[2,5,6] x) => (y)
<float[6,12] w0, {_HEADS}, float[3,3] w, int64[3] join = {{2, 5, 12}}, float[12,6] w1>
{{
  h = MatMul(x, w0)
  hh = Reshape(h, heads)
  z = Einsum<equation = "bthd,hg->btgd">(hh, w)
  zj = Reshape(z, join)
  y = MatMul(zj, w1)
}}""",
    "einsum_experts": """
(float[2,5,6] x) => (y) <float[3,6,8] up, float[3,8,6] down, float[6,3] router>
{
  u = Einsum<equation = "btd,edf->ebtf">(x, up)
  g = Gelu(u)
  d = Einsum<equation = "ebtf,efd->ebtd">(g, down)
  r = MatMul(x, router)
  p = Softmax<axis = -1>(r)
  y = Einsum<equation = "ebtd,bte->btd">(d, p)
}""",
    "einsum_transposes_and_sums": """
(float[2,5,6] x) => (y) <float[6,8] w0, float[8,4] w1, float[6,7] w2>
{
  h = MatMul(x, w0)
  t = Einsum<equation = "btc->bct">(h)
  s = Einsum<equation = "bct->bc">(t)
  z = MatMul(s, w1)
  g = MatMul(x, w2)
  a = Einsum<equation = "btc->b">(g)
  u = Einsum<equation = "bo,b->bo">(z, a)
  y = Tanh(u)
}""",
    "einsum_of_two_networks": """
(float[2,5,6] x, float[2,7,6] z) => (y) <float[6,8] w1, float[6,8] w2>
{
  a = MatMul(x, w1)
  b = MatMul(z, w2)
  y = Einsum<equation = "bic,bjc->bij">(a, b)
}""",
    "einsum_meets_an_input": """
(float[2,5,6] x, float[2,7,8] z) => (y) <float[6,8] w1>
{
  a = MatMul(x, w1)
  y = Einsum<equation = "bic,bjc->bij">(a, z)
}""",
    "einsum_diagonal": """
(float[2,5,6] x) => (y) <float[6,5] w0, float[5,4] w1>
{
  h = MatMul(x, w0)
  d = Einsum<equation = "bii->bi">(h)
  y = MatMul(d, w1)
}""",
    "einsum_of_three": """
(float[2,6] x) => (y) <float[6,8] w0, float[6,7] w1, float[4,8,7] w>
{
  a = MatMul(x, w0)
  b = MatMul(x, w1)
  y = Einsum<equation = "bi,oij,bj->bo">(a, w, b)
}""",
}
