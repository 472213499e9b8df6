"""edgec: compile neural networks for edge devices, to a budget, with proof."""

from __future__ import annotations

from edgec import _environment as _environment  # first: it is read when libraries are loaded
from edgec import torch_plan
from edgec._version import __version__
from edgec.budget import Budget
from edgec.build import build
from edgec.errors import EdgecError
from edgec.graph.cut import remove_channels
from edgec.inspection import channel_groups, inspect
from edgec.model import load, save
from edgec.recipe import Recipe
from edgec.report import Report

__all__ = [  # noqa: RUF022 — in the order of use
    # models
    "load", "save",
    # what is in them
    "inspect", "channel_groups", "remove_channels",
    # the main job
    "build", "Recipe", "Budget", "Report",
    # back to PyTorch
    "torch_plan",
    # errors
    "EdgecError",
    "__version__",
]  # fmt: skip
