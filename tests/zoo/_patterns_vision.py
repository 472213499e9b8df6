"""Micro models of sampling, patches, detection heads, and windows of attention."""

from __future__ import annotations

from collections.abc import Sequence


def _list(values: Sequence[float]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


def _windows(size: int) -> list[int]:
    """The rows (or columns) under each tap of a kernel of 3, in a side of `size` padded by 1."""
    return [start + tap for tap in range(3) for start in range(size)]


def _relative(side: int) -> list[int]:
    """Entry of the table of relative positions for each pair of places in a window."""
    places = [(row, column) for row in range(side) for column in range(side)]
    width = 2 * side - 1
    return [(a - c + side - 1) * width + b - d + side - 1 for a, b in places for c, d in places]


def _shifted(side: int) -> list[int]:
    """-100 between places that the shift of half a window brought together, window by window."""
    half, length = side // 2, 2 * side
    region = [0 if i < side else 1 if i < length - half else 2 for i in range(length)]
    windows = [
        [
            (region[side * down + row], region[side * right + column])
            for row in range(side)
            for column in range(side)
        ]
        for down in range(2)
        for right in range(2)
    ]
    return [0 if a == b else -100 for window in windows for a in window for b in window]


def _anchors(side: int) -> list[float]:
    """Centre, width and height of a box at each place of an image."""
    return [v for row in range(side) for column in range(side) for v in (column, row, 0.2, 0.2)]


# torch.nn.functional.unfold as it is exported: a table of rows, then one of columns. What a place
# sees under the kernel, [2, 54, 24], is `u`.
_UNFOLD_WEIGHTS = (
    f"float[6,3,1,1] w0, int64[8] pads = {{0,0,1,1, 0,0,1,1}},"
    f" int64[3,6] rows = {_list(_windows(6))}, int64[3,4] columns = {_list(_windows(4))},"
    " int64[3] flat = {2, 54, 24}"
)
_UNFOLD = """h = Conv(x, w0)
  p = Pad(h, pads)
  r = Gather<axis = 2>(p, rows)
  c = Gather<axis = 4>(r, columns)
  t = Transpose<perm = [0,1,2,4,3,5]>(c)
  u = Reshape(t, flat)"""

TEXTS: dict[str, str] = {
    "grid_sample": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[6,8,1,1] w1, float[2,6,1,1] wg, float[4,8,1,1] w2>
{
  h = Conv(x, w0)
  f = Conv(h, w1)
  o = Conv(f, wg)
  t = Tanh(o)
  grid = Transpose<perm = [0,2,3,1]>(t)
  s = GridSample<align_corners = 1>(h, grid)
  y = Conv(s, w2)
}""",
    "unfold_linear": f"""
(float[2,3,6,4] x) => (y) <{_UNFOLD_WEIGHTS}, float[8,54] w1, float[4,8] w2>
{{
  {_UNFOLD}
  d = MatMul(w1, u)
  a = Relu(d)
  y = MatMul(w2, a)
}}""",
    "unfold_fold": f"""
(float[2,3,6,4] x) => (y)
<{_UNFOLD_WEIGHTS}, int64[2] image = {{6, 4}}, int64[2] kernel = {{3, 3}}, float[4,6,1,1] w1>
{{
  {_UNFOLD}
  a = Relu(u)
  f = Col2Im<pads = [1,1,1,1]>(a, image, kernel)
  y = Conv(f, w1)
}}""",
    "fold_of_linear": """
(float[2,5,8] x) => (y)
<float[8,10] w0, float[10,24] w1, int64[2] image = {4, 4}, int64[2] kernel = {2, 2},
 int64[2] places = {0, 3}, int64[4] pads = {0,0,0,0}, float[4,6,1,1] w2>
{
  h = MatMul(x, w0)
  r = Relu(h)
  d = MatMul(r, w1)
  t = Transpose<perm = [0,2,1]>(d)
  f = Col2Im<strides = [1,3], dilations = [2,1], pads = [1,0,2,0]>(t, image, kernel)
  y = Conv(f, w2)
}""",
    "deform_conv": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[6,8,3,3] w1, float[2,36,6,5] offset, float[6] b1, float[4,6,1,1] w2>
{
  h = Conv(x, w0)
  d = DeformConv<offset_group = 2, pads = [1,1,1,1]>(h, w1, offset, b1)
  r = Relu(d)
  y = Conv(r, w2)
}""",
    "deform_conv_computed_offsets": """
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, float[8,8,3,3] w1, float[36,8,3,3] w2, float[36] b2, float[18,8,3,3] w3,
 float[6,8,3,3] w4, float[6] b4, float[4,6,1,1] w5>
{
  h = Conv(x, w0)
  f = Conv<pads = [1,1,1,1]>(h, w1)
  r = Relu(f)
  offset = Conv<pads = [1,1,1,1]>(r, w2, b2)
  m = Conv<pads = [1,1,1,1]>(r, w3)
  mask = Sigmoid(m)
  d = DeformConv<offset_group = 2, pads = [1,1,1,1]>(h, w4, offset, b4, mask)
  s = Relu(d)
  y = Conv(s, w5)
}""",
    "non_max_suppression": f"""
(float[2,3,4,4] x) => (found, score)
<float[8,3,1,1] w0, float[6,8,3,3] w1, float[4,6,1,1] wb, float[3,6,1,1] ws,
 int64[3] flat = {{2, -1, 16}}, float[1,16,4] anchors = {_list(_anchors(4))},
 int64 most = {{2}}, float overlap = {{0.5}}, int64[2] place = {{0, 2}}>
{{
  h = Conv(x, w0)
  f = Conv<pads = [1,1,1,1]>(h, w1)
  r = Relu(f)
  b = Conv(r, wb)
  bf = Reshape(b, flat)
  bt = Transpose<perm = [0,2,1]>(bf)
  bs = Sigmoid(bt)
  boxes = Add(bs, anchors)
  s = Conv(r, ws)
  sf = Reshape(s, flat)
  scores = Sigmoid(sf)
  selected = NonMaxSuppression<center_point_box = 1>(boxes, scores, most, overlap)
  at = Gather<axis = 1>(selected, place)
  found = GatherND(boxes, at)
  score = GatherND(scores, selected)
}}""",
    # One block of attention within windows shifted by half a window, then the merging of patches.
    "swin": f"""
(float[2,3,4,4] x) => (y)
<float[12,3,1,1] w0, int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i3 = {{3}},
 int64[1] end = {{100}}, int64[1] row = {{1}}, int64[1] column = {{2}}, int64[1] two = {{2}},
 int64[6] split = {{2, 2, 2, 2, 2, 12}}, int64[3] windows = {{8, 4, 12}},
 int64[4] heads = {{8, 4, 3, 4}}, int64[4] back = {{2, 4, 4, 12}}, float scale = {{0.5}},
 float[12,12] wq, float[12,12] wk, float[12,12] wv, float[12,12] wo,
 float[9,3] table, int64[16] apart = {_list(_relative(2))}, int64[3] pairs = {{4, 4, 3}},
 float[1,4,1,4,4] mask = {_list(_shifted(2))}, int64[5] per_image = {{2, 4, 3, 4, 4}},
 int64[4] per_window = {{8, 3, 4, 4}}, float[48,16] w1, float[16,5] w2>
{{
  e = Conv(x, w0)
  h = Transpose<perm = [0,2,3,1]>(e)
  up = Slice(h, i1, end, row)
  top = Slice(h, i0, i1, row)
  down = Concat<axis = 1>(up, top)
  left = Slice(down, i1, end, column)
  edge = Slice(down, i0, i1, column)
  rolled = Concat<axis = 2>(left, edge)
  g = Reshape(rolled, split)
  gt = Transpose<perm = [0,1,3,2,4,5]>(g)
  w = Reshape(gt, windows)
  q = MatMul(w, wq)
  k = MatMul(w, wk)
  v = MatMul(w, wv)
  qh = Reshape(q, heads)
  kh = Reshape(k, heads)
  vh = Reshape(v, heads)
  qs = Mul(qh, scale)
  qt = Transpose<perm = [0,2,1,3]>(qs)
  kt = Transpose<perm = [0,2,3,1]>(kh)
  vt = Transpose<perm = [0,2,1,3]>(vh)
  s = MatMul(qt, kt)
  looked = Gather<axis = 0>(table, apart)
  bias3 = Reshape(looked, pairs)
  bias = Transpose<perm = [2,0,1]>(bias3)
  biased = Add(s, bias)
  images = Reshape(biased, per_image)
  masked = Add(images, mask)
  scores = Reshape(masked, per_window)
  p = Softmax<axis = -1>(scores)
  o = MatMul(p, vt)
  ot = Transpose<perm = [0,2,1,3]>(o)
  of = Reshape(ot, windows)
  a = MatMul(of, wo)
  ag = Reshape(a, split)
  agt = Transpose<perm = [0,1,3,2,4,5]>(ag)
  unwound = Reshape(agt, back)
  bottom = Slice(unwound, i3, end, row)
  upper = Slice(unwound, i0, i3, row)
  raised = Concat<axis = 1>(bottom, upper)
  right = Slice(raised, i3, end, column)
  rest = Slice(raised, i0, i3, column)
  unrolled = Concat<axis = 2>(right, rest)
  r = Add(h, unrolled)
  even = Slice(r, i0, end, row, two)
  odd = Slice(r, i1, end, row, two)
  m0 = Slice(even, i0, end, column, two)
  m1 = Slice(odd, i0, end, column, two)
  m2 = Slice(even, i1, end, column, two)
  m3 = Slice(odd, i1, end, column, two)
  merged = Concat<axis = -1>(m0, m1, m2, m3)
  reduced = MatMul(merged, w1)
  y = MatMul(reduced, w2)
}}""",
}
