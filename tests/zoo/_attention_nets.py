"""Torch's own attention layers, small, between two linear layers that make and read its tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS = 24, 3


class Attention(nn.Module):
    """`nn.MultiheadAttention` over its input, or over a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(10, WIDTH), nn.Linear(WIDTH, 7)
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        q = self.embed(x)
        kv = q if memory is None else memory
        y: Tensor = self.head(self.attend(q, kv, kv, need_weights=False)[0])
        return y


class Encoder(nn.Module):
    """`nn.TransformerEncoderLayer`, norm behind."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(10, WIDTH), nn.Linear(WIDTH, 7)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 40, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer(self.embed(x)))
        return y


class Decoder(nn.Module):
    """`nn.TransformerDecoderLayer`, norm first: attention to itself and to a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(10, WIDTH), nn.Linear(WIDTH, 7)
        self.layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 40, batch_first=True, norm_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer(self.embed(x), memory))
        return y


class GroupedQueries(nn.Module):
    """Six heads of queries, two of keys and values, causal."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(10, 48), nn.Linear(10, 16), nn.Linear(10, 16)
        self.out = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, tokens, -1, 8).transpose(1, 2)

        y = F.scaled_dot_product_attention(
            heads(self.q(x)), heads(self.k(x)), heads(self.v(x)), is_causal=True, enable_gqa=True
        )
        z: Tensor = self.out(y.transpose(1, 2).reshape(batch, tokens, 48))
        return z


def inputs(memory: bool) -> tuple[Tensor, ...]:
    """Two samples of five tokens, and a memory of seven."""
    x = torch.randn(2, 5, 10)
    return (x, torch.randn(2, 7, WIDTH)) if memory else (x,)
