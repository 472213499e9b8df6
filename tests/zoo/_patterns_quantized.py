"""Micro models of weights and activations that are kept as integers."""

from __future__ import annotations

from math import prod


def _int8(*shape: int) -> str:
    """Weights from -57 to 57, spread as random ones would be."""
    return "{" + ", ".join(str(59 * i**2 % 115 - 57) for i in range(1, prod(shape) + 1)) + "}"


TEXTS: dict[str, str] = {
    # Weights with a scale for each filter, activations with one for all.
    "quantized_chain": f"""
(float[2,3,6,5] x) => (y)
<int8[8,3,1,1] w0 = {_int8(8, 3)}, float[8] s0 = {{0.01,0.02,0.01,0.03,0.02,0.01,0.02,0.01}},
 int8[8] z0 = {{0,0,0,0,0,0,0,0}}, float[8] b0, float step = {{0.05}}, uint8 zero = {{128}},
 int8[6,8,3,3] w1 = {_int8(6, 8, 3, 3)}, float[6] s1 = {{0.01,0.02,0.01,0.01,0.02,0.01}},
 int8[6] z1 = {{0,1,-2,0,3,0}}, float[4,6,1,1] w2>
{{
  d0 = DequantizeLinear<axis = 0>(w0, s0, z0)
  h = Conv(x, d0, b0)
  q = QuantizeLinear(h, step, zero)
  r = DequantizeLinear(q, step, zero)
  d1 = DequantizeLinear<axis = 0>(w1, s1, z1)
  f = Conv<pads = [1,1,1,1]>(r, d1)
  y = Conv(f, w2)
}}""",
    "quantized_grouped_conv": f"""
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int8[12,4,3,3] w1 = {_int8(12, 4, 3, 3)},
 float[12] s = {{0.01,0.02,0.01,0.01,0.02,0.01,0.02,0.03,0.01,0.02,0.01,0.01}},
 int8[12] z = {{0,1,-2,0,3,0,0,0,-1,0,2,0}}, float[12] b1, float[4,12,1,1] w2>
{{
  h = Conv(x, w0)
  d = DequantizeLinear<axis = 0>(w1, s, z)
  g = Conv<group = 2, pads = [1,1,1,1]>(h, d, b1)
  r = Relu(g)
  y = Conv(r, w2)
}}""",
    "quantized_depthwise": f"""
(float[2,3,6,5] x) => (y)
<float[8,3,1,1] w0, int8[8,1,3,3] w1 = {_int8(8, 3, 3)},
 float[8] s = {{0.01,0.02,0.01,0.01,0.02,0.01,0.02,0.03}}, int8[8] z = {{0,1,-2,0,3,0,0,0}},
 float[4,8,1,1] w2>
{{
  h = Conv(x, w0)
  d = DequantizeLinear<axis = 0>(w1, s, z)
  g = Conv<group = 8, pads = [1,1,1,1]>(h, d)
  r = Relu(g)
  y = Conv(r, w2)
}}""",
    # Biases in int32, on the grid of the sums.
    "quantized_biases": f"""
(float[2,3,6,5] x) => (y)
<int8[8,3,1,1] w0 = {_int8(8, 3)}, float[8] s0 = {{0.01,0.02,0.01,0.03,0.02,0.01,0.02,0.01}},
 int32[8] b0 = {_int8(8)}, float[8] t0 = {{0.01,0.02,0.01,0.03,0.02,0.01,0.02,0.01}},
 int32[8] z0 = {{0,0,0,0,0,0,0,0}}, float step = {{0.05}}, uint8 zero = {{128}},
 int8[6,8,3,3] w1 = {_int8(6, 8, 3, 3)}, float[6] s1 = {{0.01,0.02,0.01,0.01,0.02,0.01}},
 int32[6] b1 = {_int8(6)}, float t1 = {{0.01}}, float[4,6,1,1] w2>
{{
  d0 = DequantizeLinear<axis = 0>(w0, s0)
  c0 = DequantizeLinear<axis = 0>(b0, t0, z0)
  h = Conv(x, d0, c0)
  q = QuantizeLinear(h, step, zero)
  r = DequantizeLinear(q, step, zero)
  d1 = DequantizeLinear<axis = 0>(w1, s1)
  c1 = DequantizeLinear(b1, t1)
  f = Conv<pads = [1,1,1,1]>(r, d1, c1)
  y = Conv(f, w2)
}}""",
}
