"""A plan replayed on the nn.Module: the outputs of the pruned ONNX network, and trainable."""

from __future__ import annotations

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
from laws import draw
from laws.running import run
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import _nets, exports
from zoo.exporting import enliven, silence

import edgec
from edgec import torch_plan
from edgec.errors import EdgecError, UnsupportedError, UsageError
from edgec.graph.channels import ChannelGroups
from edgec.graph.cut import CutResult
from edgec.plan import Plan, Slice, Weight
from edgec.planning import plan_of

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
    "hf resnet": (exports.MODULES["resnet18"], lambda: torch.randn(2, 3, 64, 64)),
    "hf mobilenet_v2": (exports.MODULES["mobilenet_v2"], lambda: torch.randn(2, 3, 64, 64)),
    "hf efficientnet": (exports.MODULES["efficientnet_b0"], lambda: torch.randn(2, 3, 64, 64)),
    "hf regnet_y": (exports.MODULES["regnet_y"], lambda: torch.randn(2, 3, 64, 64)),
    "hf convnext": (exports.MODULES["convnext"], lambda: torch.randn(2, 3, 64, 64)),
}


def module_of(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return enliven(make()).eval()


def exported(module: nn.Module, *inputs: Tensor) -> ir.Model:
    """As `torch.onnx.export(dynamo=True, optimize=False)` writes it."""
    with silence():
        program = torch.onnx.export(module, inputs, dynamo=True, optimize=False, verbose=False)
    assert program is not None
    return ir.from_proto(ir.to_proto(program.model))


def groups_of(module: nn.Module, *inputs: Tensor, **options: Any) -> ChannelGroups:
    return edgec.channel_groups(exported(module, *inputs), **options)


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


def vit() -> nn.Module:
    return exports.vision(
        "ViT", image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=3, intermediate_size=40,
    )  # fmt: skip


def test_a_transformer_of_a_library_loses_mlp_width() -> None:
    module, x = module_of(vit), torch.randn(2, 3, 32, 32)
    groups = groups_of(module, x)
    wide = [group for group in groups if group.width == 40]
    assert len(wide) == 2
    removed = [int(unit) for group in wide for unit in group.units[::3]]
    smaller = check(module, edgec.remove_channels(groups, removed), x)
    assert {m.out_features for m in smaller.modules() if isinstance(m, nn.Linear)} >= {26}


def test_a_size_that_forward_spells_out_is_named() -> None:
    module, x = module_of(vit), torch.randn(2, 3, 32, 32)
    groups = groups_of(module, x)
    heads = [g for g in groups if g.rows > 1]
    assert heads
    removed = [int(g.units[g.cells == c][0]) for g in heads for c in range(g.rows)]
    cut = edgec.remove_channels(groups, removed)
    with pytest.raises(UnsupportedError, match=r"attention.*does not run with the new sizes"):
        torch_plan.apply(module, plan(cut), example=x)


@pytest.mark.parametrize(("second", "runs"), [(2, True), (1, False)])
def test_halves_of_a_chunk_must_stay_halves(second: int, runs: bool) -> None:
    """`chunk(2)` follows the weights only if both halves lose as much."""
    module, x = module_of(partial(_nets.C2f, 8, 16)), torch.randn(2, 8, 16, 16)
    groups = groups_of(module, x)
    halves = [g for g in groups if "enter" in str(plan(edgec.remove_channels(groups, g.units[:1])))]
    assert len(halves) == 2
    removed = [*halves[0].units[:2], *halves[1].units[:second]]
    cut = edgec.remove_channels(groups, removed)
    if runs:
        check(module, cut, x)
        return
    with pytest.raises(UnsupportedError, match="does not run with the new sizes"):
        torch_plan.apply(module, plan(cut), example=x)


def resnet(seed: int = 0) -> tuple[nn.Module, Tensor, CutResult]:
    torch.manual_seed(seed)
    module, x = module_of(ResNet), images()
    groups = groups_of(module, x)
    return module, x, edgec.remove_channels(groups, draw(groups, np.random.default_rng(seed)))


def test_trains_on_and_is_saved() -> None:
    module, x, cut = resnet()
    smaller = torch_plan.apply(module, plan(cut)).train()
    optimizer = torch.optim.SGD(smaller.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = smaller(x).square().mean()
        loss.backward()
        losses.append(loss.item())
        assert [n for n, p in smaller.named_parameters() if p.grad is None] == []
        optimizer.step()
    assert losses[1] < losses[0]
    again = torch_plan.apply(module, plan(cut))
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again.eval()(x), smaller.eval()(x))


def test_leaves_the_module_alone_unless_told_otherwise() -> None:
    module, x, cut = resnet()
    whole, weights = module(x), dict(module.named_parameters())
    smaller = torch_plan.apply(module, plan(cut))
    assert torch.equal(module(x), whole)
    assert torch_plan.apply(module, plan(cut), example=x, in_place=True) is module
    assert dict(module.named_parameters()) == weights  # the same objects, as an optimizer has them
    assert torch.equal(module(x), smaller(x))


def test_what_fails_leaves_the_module_alone() -> None:
    module, x = module_of(vit), torch.randn(2, 3, 32, 32)
    groups = groups_of(module, x)
    removed = [int(g.units[g.cells == c][0]) for g in groups if g.rows > 1 for c in range(g.rows)]
    whole = module(x)
    cut = plan(edgec.remove_channels(groups, removed))
    with pytest.raises(UnsupportedError):
        torch_plan.apply(module, cut, example=x, in_place=True)
    assert torch.equal(module(x), whole)


def test_tied_weights_stay_tied() -> None:
    module, ids = module_of(Tied), torch.randint(11, (2, 5))
    groups = groups_of(module, ids)
    removed = [int(g.units[0]) for g in groups]
    smaller = check(module, edgec.remove_channels(groups, removed), ids)
    assert isinstance(smaller, Tied)
    assert smaller.score.weight is smaller.embed.weight
    assert smaller.score.in_features == smaller.embed.embedding_dim == 7


def test_half_precision_and_frozen_parameters_stay_so() -> None:
    module, _, cut = resnet()
    module.bfloat16().requires_grad_(False)
    smaller = torch_plan.apply(module, plan(cut))
    assert {p.dtype for p in smaller.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in smaller.parameters())


def test_a_build_s_plan_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From `package.module:factory` to the bundle and back."""
    (tmp_path / "nets_to_prune.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),"
        " nn.Linear(32, 4)).eval()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    from edgec.model import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        edgec.build(
            "nets_to_prune:net", target="cpu", flops=0.5, inputs={"x": (2, 5, 6)}, repair="none",
            output="out",
        )  # fmt: skip
    import nets_to_prune  # type: ignore[import-not-found]

    path = tmp_path / "out" / "plan.json"
    x = torch.randn(2, 5, 6)
    module = nets_to_prune.net()
    for form in (path, str(path), json.loads(path.read_text())):
        smaller = torch_plan.apply(module, form, example={"input": x})
        (expected,) = run(load(path.with_name("model.onnx")), {"x": x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(smaller(x).numpy(), expected, rtol=1e-4, atol=1e-5)


# --- what cannot be done is said -----------------------------------------------------------------


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return y


def half(name: str, size: int, axis: int = 0) -> Weight:
    return Weight(name, (Slice(axis, size, tuple(range(size // 2))),))


def replay(module: nn.Module, *weights: Weight) -> nn.Module:
    return torch_plan.apply(module, Plan("0" * 64, weights=weights))


@pytest.mark.parametrize(
    ("module", "weights", "error", "message"),
    [
        (nn.Linear(4, 4), [half("w", 4)], UsageError, "'w', which Linear does not have"),
        (nn.Linear(4, 4), [half("weight", 8)], UsageError, "size 8 on axis 0"),
        (nn.Linear(4, 4), [half("bias", 4, axis=1)], UsageError, "size 4 on axis 1"),
        (nn.Linear(4, 4), [Weight("weight", (), "no")], UnsupportedError, "cannot be sliced: no"),
        (Attending(), [half("attention.in_proj_weight", 24)], UnsupportedError, "into heads"),
        (nn.LSTM(4, 4, 2), [half("weight_hh_l1", 4, axis=1)], UnsupportedError, "one width"),
    ],
)
def test_refusals(
    module: nn.Module, weights: Sequence[Weight], error: type[EdgecError], message: str
) -> None:
    with pytest.raises(error, match=message):
        replay(module, *weights)


def test_a_constant_that_is_computed_from_weights_is_named() -> None:
    """The exporter writes this cell's steps out; its first one is a product of constants."""
    module, x = module_of(exports.MODULES["rnn_tagger"]), tokens()
    groups = groups_of(module, x)
    cut = edgec.remove_channels(groups, [int(groups.groups[0].units[0])])
    with pytest.raises(UnsupportedError, match="is computed from it"):
        torch_plan.apply(module, plan(cut))


class Shares(nn.Module):
    """One bias, read by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
        self.other.bias = self.one.bias
        self.ends = nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ends[0](self.one(x).relu()) + self.ends[1](self.other(x).relu())
        return y


def test_parts_that_differ_are_refused_and_parts_that_agree_are_not() -> None:
    module, x = module_of(Shares), images()
    groups = groups_of(module, x)
    one, other = groups.groups
    with pytest.raises(UnsupportedError, match="readers keep different parts"):
        torch_plan.apply(module, plan(edgec.remove_channels(groups, one.units[:1])))
    check(module, edgec.remove_channels(groups, [*one.units[:2], *other.units[:2]]), x)
