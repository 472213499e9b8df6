"""edgec: compile neural networks for edge devices, to a budget, with proof."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edgec import _environment as _environment  # first: it is read when libraries are loaded
from edgec._version import __version__
from edgec.budget import Budget
from edgec.build import build
from edgec.errors import EdgecError
from edgec.recipe import Recipe

if TYPE_CHECKING:
    from edgec import torch_plan
    from edgec.graph.cut import remove_channels
    from edgec.inspection import channel_groups, inspect
    from edgec.model import load, save
    from edgec.report import Report
else:
    # Loaded when first asked for: they stand on libraries that take a second or two.
    _HOMES = {
        "load": "model", "save": "model",
        "inspect": "inspection", "channel_groups": "inspection", "remove_channels": "graph.cut",
        "Report": "report",
        "torch_plan": "torch_plan",
    }  # fmt: skip

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        module = import_module(f"{__name__}.{_HOMES[name]}")
        value = globals()[name] = module if name == _HOMES[name] else getattr(module, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})


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
