"""A plan replayed on the nn.Module: the outputs of the pruned ONNX network, and trainable."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from laws import draw, run
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import _nets, exports

import edgec
from edgec import torch_plan
from edgec.errors import EdgecError, UnsupportedError, UsageError
from edgec.graph.channels import ChannelGroups
from edgec.graph.cut import CutResult
from edgec.plan import Plan, Slice, Weight
from edgec.planning import plan_of
from edgec.preparing import prepared

TOLERANCE = 1e-5
"""Of the largest output: two implementations of every operator."""


class ResNet(nn.Module):
    """Two residual blocks, one grouped, one depthwise with squeeze-excite; PReLU, GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _nets.conv_bn(3, 12, 3, 2)
        self.body = nn.Sequential(_nets.conv_bn(12, 16), _nets.conv_bn(16, 16, 3, g=4))
        self.merge = nn.Conv2d(16, 12, 1)
        self.slope = nn.PReLU(12)
        self.wide = nn.Sequential(_nets.conv_bn(12, 24), _nets.conv_bn(24, 24, 3, g=24))
        self.excite = _nets.SqueezeExcite(24, 8)
        self.back = nn.Sequential(nn.Conv2d(24, 12, 1), nn.BatchNorm2d(12))
        self.groups = nn.Sequential(nn.Conv2d(12, 16, 1), nn.GroupNorm(4, 16), nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.slope(self.merge(self.body(x)))
        x = x + self.back(self.excite(self.wide(x)))
        y: Tensor = self.head(self.groups(x).mean((2, 3)))
        return y


class Gated(nn.Module):
    """A token network: gated MLPs (one layer shared), norms, LayerScale, einsum, a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 10)
        self.up, self.gate, self.down = nn.Linear(10, 20), nn.Linear(10, 20), nn.Linear(20, 10)
        self.shared = nn.Linear(10, 10)
        self.norm = nn.LayerNorm(10)
        self.scale = nn.Parameter(torch.ones(10))
        self.weight = nn.Parameter(torch.randn(10, 3, 4))
        self.leave = nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        y = self.norm(x)
        x = x + self.scale * self.down(F.silu(self.gate(y)) * self.up(y))
        x = self.shared(F.relu(self.shared(x)))
        z: Tensor = self.leave(torch.einsum("btc,chd->bthd", x, self.weight).flatten(2))
        return z


class Tied(nn.Module):
    """A table that embeds tokens and scores them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.score = nn.Linear(8, 11, bias=False)
        self.score.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        y: Tensor = self.score(x + self.mlp(x))
        return y


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32)


def tokens() -> Tensor:
    return torch.randn(2, 5, 6)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "resnet": (ResNet, images),
    "unet": (_nets.UNet, images),
    "mobilenet_v3": (_nets.MobileNetV3, images),
    "gated": (Gated, tokens),
    "tied": (Tied, lambda: torch.randint(11, (2, 5))),
    "lstm": (exports.MODULES["lstm_tagger"], tokens),
    "rnn": (exports.MODULES["rnn_tagger"], tokens),
    "hf resnet": (exports.MODULES["resnet18"], lambda: torch.randn(2, 3, 64, 64)),
    "hf mobilenet_v2": (exports.MODULES["mobilenet_v2"], lambda: torch.randn(2, 3, 64, 64)),
    "hf efficientnet": (exports.MODULES["efficientnet_b0"], lambda: torch.randn(2, 3, 64, 64)),
    "hf regnet_y": (exports.MODULES["regnet_y"], lambda: torch.randn(2, 3, 64, 64)),
    "hf convnext": (exports.MODULES["convnext"], lambda: torch.randn(2, 3, 64, 64)),
}


def module_of(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return exports._enliven(make()).eval()


def exported(module: nn.Module, *inputs: Tensor) -> ir.Model:
    """As `torch.onnx.export(dynamo=True, optimize=False)` writes it."""
    with exports._silence():
        program = torch.onnx.export(module, inputs, dynamo=True, optimize=False, verbose=False)
    assert program is not None
    return ir.from_proto(ir.to_proto(program.model))


def groups_of(module: nn.Module, *inputs: Tensor, **options: Any) -> ChannelGroups:
    return edgec.channel_groups(prepared(exported(module, *inputs)), **options)


def plan(cut: CutResult) -> Plan:
    return plan_of(cut, "0" * 64, {})


def check(module: nn.Module, cut: CutResult, *inputs: Tensor) -> nn.Module:
    """Replays the plan; holds the smaller module to the cut network."""
    smaller = torch_plan.apply(module, plan(cut), example=inputs)
    names = [value.name or "" for value in cut.model.graph.inputs]
    feeds = {n: x.numpy() for n, x in zip(names, inputs, strict=True)}
    with torch.no_grad():
        found = smaller(*inputs).numpy()
    (expected,) = run(cut.model, feeds)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    return smaller


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NETS)
def test_replays_the_cut(name: str, seed: int) -> None:
    make, inputs = NETS[name]
    torch.manual_seed(seed)
    module, x = module_of(make), inputs()
    groups = groups_of(module, x)
    removed = draw(groups, np.random.default_rng(seed))
    assert removed.size
    smaller = check(module, edgec.remove_channels(groups, removed), x)
    size = sum(p.numel() for p in smaller.parameters())
    assert size < sum(p.numel() for p in module.parameters())
