"""Micro models of recurrent layers over [time, batch, channels]."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "lstm": """
(float[7,2,6] x) => (y)
<float[6,5] w0, float[1,32,5] w, float[1,32,8] r, float[1,64] b, int64[1] ax = {1}, float[8,4] w1>
{
  e = MatMul(x, w0)
  h = LSTM<hidden_size = 8>(e, w, r, b)
  s = Squeeze(h, ax)
  y = MatMul(s, w1)
}""",
    "gru": """
(float[7,2,6] x) => (y)
<float[6,5] w0, float[1,24,5] w, float[1,24,8] r, float[1,48] b, int64[1] ax = {1}, float[8,4] w1>
{
  e = MatMul(x, w0)
  h = GRU<hidden_size = 8, linear_before_reset = 1>(e, w, r, b)
  s = Squeeze(h, ax)
  y = MatMul(s, w1)
}""",
    "rnn_reverse": """
(float[7,2,6] x) => (y)
<float[6,5] w0, float[1,8,5] w, float[1,8,8] r, float[1,2,8] h0, int32[2] lengths = {4, 7},
 int64[1] ax = {1}, float[8,4] w1>
{
  e = MatMul(x, w0)
  h = RNN<hidden_size = 8, direction = "reverse", activations = ["Relu"]>(e, w, r, , lengths, h0)
  s = Squeeze(h, ax)
  y = MatMul(s, w1)
}""",
    "lstm_bidirectional": """
(float[7,2,6] x) => (y)
<float[2,32,6] w, float[2,32,8] r, float[2,64] b, int64[3] flat = {0, 0, -1}, float[16,4] w1>
{
  h = LSTM<hidden_size = 8, direction = "bidirectional">(x, w, r, b)
  t = Transpose<perm = [0,2,1,3]>(h)
  f = Reshape(t, flat)
  y = MatMul(f, w1)
}""",
    "lstm_two_layers": """
(float[7,2,6] x) => (y)
<float[1,32,6] w, float[1,32,8] r, float[1,64] b, float[1,32,8] wb, float[1,32,8] rb,
 int64[1] ax = {1}, float[8,4] w1>
{
  h = LSTM<hidden_size = 8>(x, w, r, b)
  s = Squeeze(h, ax)
  g = LSTM<hidden_size = 8>(s, wb, rb)
  t = Squeeze(g, ax)
  y = MatMul(t, w1)
}""",
    "lstm_two_layers_bidirectional": """
(float[7,2,6] x) => (y)
<float[2,32,6] w, float[2,32,8] r, float[2,64] b, float[2,20,16] wb, float[2,20,5] rb,
 float[2,40] bb, int64[3] flat = {7, 2, 16}, int64[3] flatter = {7, 2, 10}, float[10,4] w1>
{
  h = LSTM<hidden_size = 8, direction = "bidirectional">(x, w, r, b)
  t = Transpose<perm = [0,2,1,3]>(h)
  f = Reshape(t, flat)
  hb = LSTM<hidden_size = 5, direction = "bidirectional">(f, wb, rb, bb)
  tb = Transpose<perm = [0,2,1,3]>(hb)
  fb = Reshape(tb, flatter)
  y = MatMul(fb, w1)
}""",
    "lstm_peephole": """
(float[7,2,6] x) => (y)
<float[1,32,6] w, float[1,32,8] r, float[1,64] b, float[1,2,8] h0, float[1,2,8] c0, float[1,24] p,
 int64[1] ax = {1}, float[8,4] w1>
{
  h = LSTM<hidden_size = 8>(x, w, r, b, , h0, c0, p)
  s = Squeeze(h, ax)
  y = MatMul(s, w1)
}""",
    # Each direction's last state goes its own way.
    "lstm_directions_apart": """
(float[7,2,6] x) => (y)
<float[2,32,6] w, float[2,32,8] r, int64 i0 = {0}, int64 i1 = {1}, float[8,4] w1, float[8,4] w2>
{
  h, last = LSTM<hidden_size = 8, direction = "bidirectional">(x, w, r)
  forward = Gather(last, i0)
  backward = Gather(last, i1)
  p = MatMul(forward, w1)
  q = MatMul(backward, w2)
  y = Add(p, q)
}""",
    "lstm_last_states": """
(float[7,2,6] x) => (y)
<float[1,32,6] w, float[1,32,8] r, float[1,64] b, int64[1] ax = {0}, float[16,4] w1>
{
  h, last, cell = LSTM<hidden_size = 8>(x, w, r, b)
  j = Concat<axis = 2>(last, cell)
  s = Squeeze(j, ax)
  y = MatMul(s, w1)
}""",
    "gru_state_is_an_input": """
(float[7,2,6] x, float[1,2,8] h0) => (y)
<float[1,24,6] w, float[1,24,8] r, int64[1] ax = {1}, float[8,4] w1>
{
  h = GRU<hidden_size = 8>(x, w, r, , , h0)
  s = Squeeze(h, ax)
  y = MatMul(s, w1)
}""",
    "gru_encoder_decoder": """
(float[7,2,6] x, float[3,2,5] z) => (y)
<float[1,24,6] w, float[1,24,8] r, float[1,24,5] wd, float[1,24,8] rd, int64[1] ax = {1},
 float[8,4] w1>
{
  h, last = GRU<hidden_size = 8>(x, w, r)
  d = GRU<hidden_size = 8>(z, wd, rd, , , last)
  s = Squeeze(d, ax)
  y = MatMul(s, w1)
}""",
    # Cells start from the encoder's cells, hidden states from a projection of its hidden states.
    "lstm_encoder_decoder": """
(float[7,2,6] x, float[3,2,5] z) => (y)
<float[1,32,6] w, float[1,32,8] r, float[8,9] p, float[9,8] q, float[1,32,5] wd, float[1,32,8] rd,
 int64[1] ax = {1}, float[8,4] w1>
{
  h, last, cell = LSTM<hidden_size = 8>(x, w, r)
  a = MatMul(last, p)
  t = Tanh(a)
  start = MatMul(t, q)
  d = LSTM<hidden_size = 8>(z, wd, rd, , , start, cell)
  s = Squeeze(d, ax)
  y = MatMul(s, w1)
}""",
    "lstm_shared_weights": """
(float[7,2,6] x, float[7,2,6] z) => (y)
<float[1,32,6] w, float[1,32,8] r, float[1,64] b, int64[1] ax = {1}, float[8,4] w1, float[8,4] w2>
{
  h = LSTM<hidden_size = 8>(x, w, r, b)
  g = LSTM<hidden_size = 8>(z, w, r, b)
  s = Squeeze(h, ax)
  t = Squeeze(g, ax)
  p = MatMul(s, w1)
  q = MatMul(t, w2)
  y = Add(p, q)
}""",
    "lstm_options": """
(float[7,2,6] x) => (y)
<float[1,32,6] w, float[1,32,8] r, float[1,64] b, int64[1] ax = {1}, float[8,4] w1>
{
  h = LSTM<hidden_size = 8, clip = 3.0, input_forget = 1,
           activations = ["HardSigmoid", "Tanh", "Softsign"]>(x, w, r, b)
  s = Squeeze(h, ax)
  y = MatMul(s, w1)
}""",
    # The graph computes the batch and spells the width out.
    "lstm_filled_states": """
(float[N,7,6] x) => (y)
<float[1,32,6] w, float[1,32,8] r, int64[1] zero = {0}, int64[1] one = {1},
 int64[1] width = {8}, float half = {0.5}, int64[1] ax = {1}, float[8,4] w1>
{
  s = Shape(x)
  n = Slice(s, zero, one)
  e = Transpose<perm = [1,0,2]>(x)
  t = Concat<axis = 0>(one, n, width)
  h0 = Expand(half, t)
  c0 = ConstantOfShape<value = float[1] {-0.5}>(t)
  h = LSTM<hidden_size = 8>(e, w, r, , , h0, c0)
  q = Squeeze(h, ax)
  y = MatMul(q, w1)
}""",
    "gru_learned_state": """
(float[N,7,6] x) => (y)
<float[2,24,6] w, float[2,24,8] r, float[2,1,8] start, int64[1] zero = {0}, int64[1] one = {1},
 int64[1] two = {2}, int64[1] width = {8}, int64[3] flat = {0, 0, -1}, float[16,4] w1>
{
  s = Shape(x)
  n = Slice(s, zero, one)
  e = Transpose<perm = [1,0,2]>(x)
  t = Concat<axis = 0>(two, n, width)
  h0 = Expand(start, t)
  h = GRU<hidden_size = 8, direction = "bidirectional">(e, w, r, , , h0)
  p = Transpose<perm = [0,2,1,3]>(h)
  f = Reshape(p, flat)
  y = MatMul(f, w1)
}""",
}
