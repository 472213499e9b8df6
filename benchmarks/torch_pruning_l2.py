"""Torch-Pruning with group L2 magnitudes, used as its documentation shows: what edgec is held to.

A pruner with many small steps is stepped until the network costs no more than the budget. As a
program it does what `benchmarks/prune_speed.py` times, and nothing else:

    python benchmarks/torch_pruning_l2.py STATE_DICT ONNX_FILE (--steps N | --ratio R)
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
import torch_pruning as tp
from torch import nn

VERSION = version("torch-pruning")
MAGNITUDE = "GroupMagnitudeImportance(p=2)"
STEPS = 200
BUDGET = 0.4


@dataclass(frozen=True)
class Variant:
    """A way to spread the cut over the layers.

    Args:
        global_pruning: One ranking over all layers, instead of one ratio for each.
        isomorphic: One ranking for each kind of layer.
        round_to: Kept widths are multiples of this; None: any width.
    """

    global_pruning: bool = False
    isomorphic: bool = False
    round_to: int | None = None

    def __str__(self) -> str:
        scope = "isomorphic" if self.isomorphic else "global" if self.global_pruning else "local"
        return scope if self.round_to is None else f"{scope}, round_to={self.round_to}"


VARIANTS = tuple(
    Variant(global_pruning, isomorphic, round_to)
    for global_pruning, isomorphic in ((False, False), (True, False), (True, True))
    for round_to in (None, 8)
)


def prune(
    net: nn.Module,
    example: torch.Tensor,
    keep: nn.Module,
    budget: float,
    variant: Variant,
    count: Callable[[nn.Module], float] | None = None,
    *,
    slack: float = 0.005,
    steps: int = STEPS,
) -> float:
    """Prune `net` in place to the first step that costs no more than `budget`.

    Args:
        net: The network, in eval mode.
        example: One input, batch 1.
        keep: The layer whose outputs stay: the classifier.
        budget: The share of the cost to keep.
        variant: How the cut is spread.
        count: The share of the cost that a network keeps. Not given: Torch-Pruning's own count
            of multiply-adds.
        slack: How far above the budget, by Torch-Pruning's own count, `count` is asked.
        steps: In how many steps all channels would go.

    Returns:
        The share of the cost that is kept, as `count` has it.

    Raises:
        RuntimeError: All steps are done and the budget is not met.
    """
    pruner = _pruner(net, example, keep, variant, 1.0, steps)
    original = last = tp.utils.count_ops_and_params(net, example)[0]
    for _ in range(steps):
        pruner.step()
        macs = tp.utils.count_ops_and_params(net, example)[0]
        kept = macs / original
        if macs == last or kept > budget + (slack if count else 0):
            continue
        last = macs
        if count is not None:
            kept = count(net)
        if kept <= budget:
            return kept
    raise RuntimeError(f"Torch-Pruning, {variant}: {steps} steps do not reach {budget}")


def prune_once(net: nn.Module, example: torch.Tensor, keep: nn.Module, ratio: float) -> None:
    """Prune `net` in place in one step that takes `ratio` of every layer's channels."""
    _pruner(net, example, keep, Variant(), ratio, 1).step()


def ratio_for(
    make: Callable[[], nn.Module], example: torch.Tensor, budget: float, digits: int = 3
) -> float:
    """The smallest ratio of channels, to so many digits, at which `prune_once` meets `budget`."""
    low, high = 0, 10**digits
    while high - low > 1:
        middle = (low + high) // 2
        net = make()
        original = tp.utils.count_ops_and_params(net, example)[0]
        prune_once(net, example, net.head, middle / 10**digits)
        met = tp.utils.count_ops_and_params(net, example)[0] <= budget * original
        low, high = (low, middle) if met else (middle, high)
    return high / 10**digits


def _pruner(
    net: nn.Module,
    example: torch.Tensor,
    keep: nn.Module,
    variant: Variant,
    ratio: float,
    steps: int,
) -> tp.pruner.MetaPruner:
    return tp.pruner.MetaPruner(
        net,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=variant.global_pruning,
        isomorphic=variant.isomorphic,
        round_to=variant.round_to,
        pruning_ratio=ratio,
        iterative_steps=steps,
        ignored_layers=[keep],
    )


def recalibrate(net: nn.Module, images: torch.Tensor) -> None:
    """Estimate all BatchNorm statistics afresh, from one batch of all images."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momentum: Mapping[nn.Module, float | None] = {m: m.momentum for m in norms}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    with torch.no_grad():
        net(images)
    for norm in norms:
        norm.momentum = momentum[norm]
        norm.eval()


def quiet() -> None:
    """Silence the warnings of torch and Torch-Pruning: a benchmark prints its figures only."""
    warnings.filterwarnings("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def main() -> int:
    """Load the network of `resnet50.py` from its weights, prune it, export it."""
    import resnet50  # what the other benchmark has no use for

    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--steps", type=int)
    how.add_argument("--ratio", type=float)
    options = parser.parse_args()
    quiet()
    net = resnet50.ResNet50().eval()
    net.load_state_dict(torch.load(options.weights, weights_only=True))
    example = torch.zeros(resnet50.EXAMPLE)
    if options.steps:
        prune(net, example, net.head, BUDGET, Variant(), steps=options.steps)
    else:
        prune_once(net, example, net.head, options.ratio)
    resnet50.export(net, options.output, keep_norms=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
