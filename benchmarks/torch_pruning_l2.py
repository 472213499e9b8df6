"""Torch-Pruning with group L2 magnitudes, used as its documentation shows: what edgec is held to.

A pruner with many small steps is stepped until the network costs no more than the budget.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import torch
import torch_pruning as tp
from torch import nn

VERSION = version("torch-pruning")
MAGNITUDE = "GroupMagnitudeImportance(p=2)"
STEPS = 200


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

    Returns:
        The share of the cost that is kept, as `count` has it.

    Raises:
        RuntimeError: All steps are done and the budget is not met.
    """
    pruner = tp.pruner.MetaPruner(
        net,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=variant.global_pruning,
        isomorphic=variant.isomorphic,
        round_to=variant.round_to,
        pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[keep],
    )
    original = last = tp.utils.count_ops_and_params(net, example)[0]
    for _ in range(STEPS):
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
    raise RuntimeError(f"Torch-Pruning, {variant}: {STEPS} steps do not reach {budget}")


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
