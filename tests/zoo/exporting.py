"""How the zoo's torch networks become ONNX files, once.

An export runs once per source, torch and transformers version; the files lie in `.cache/zoo/` of
the repository. Weights are seeded and alive: a network whose norms are all ones, or whose tables
are all zeros, would hide mistakes in the cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    import torch

CACHE = Path(__file__).parents[2] / ".cache" / "zoo"
OPSET = 18


def cached(name: str, source: bytes, make: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """The file of `name`, made where there is none yet for this source and these tools."""
    digest = hashlib.sha256(source + Path(__file__).read_bytes()).hexdigest()[:12]
    versions = "-".join(version(p) for p in ("torch", "transformers", "onnxscript"))
    path = CACHE / f"{name}-{versions}-{digest}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        onnx.save(make(), aside)
        aside.replace(path)  # whole or not at all: test workers share the folder
    return onnx.load(path)


def exported(
    build: Callable[[], torch.nn.Module],
    example: Callable[[], tuple[torch.Tensor, ...]],
    dynamic: Any = None,
    names: tuple[str, ...] | None = None,
    optimize: bool = False,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """The export of a network, weights seeded; what torch prints on the way is dropped."""
    import torch

    with silence(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = enliven(build()).eval()
        program = torch.onnx.export(
            module,
            example(),
            dynamo=True,
            optimize=optimize,
            opset_version=opset,
            input_names=names,
            dynamic_shapes=dynamic,
            verbose=False,
        )
    assert program is not None
    return ir.to_proto(program.model)


def enliven(module: torch.nn.Module) -> torch.nn.Module:
    """He weights for every map; scales and variances in 0.5..1.5; small means and biases.

    Tables keep what they were drawn from; those that start as one number are drawn.
    """
    import torch

    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            leaf = name.rpartition(".")[2]
            owner = module.get_submodule(name.rpartition(".")[0])
            if not value.is_floating_point() or value.numel() == 0:
                continue
            buffer = leaf in owner._buffers
            if leaf == "running_var" or "layer_scale" in leaf:
                value.uniform_(0.5, 1.5)
            elif leaf in ("bias", "running_mean"):
                value.normal_(0, 0.1)
            elif leaf == "weight" and value.ndim > 1 and not isinstance(owner, torch.nn.Embedding):
                _he(value, isinstance(owner, _transposed()))
            elif leaf == "weight" and value.ndim == 1:
                value.uniform_(0.5, 1.5)
            elif isinstance(owner, torch.nn.Embedding):
                value.normal_()
            elif not buffer and value.numel() > 1 and bool((value == value.flatten()[0]).all()):
                value.uniform_(0.5, 1.5) if bool(value.flatten()[0] != 0) else value.normal_(0, 0.1)
            elif not buffer and value.ndim > 1 and float(value.std()) < 0.05:
                value.normal_(0, 0.3)
    return module


def _transposed() -> tuple[type, ...]:
    """Modules that keep their weight as [in, out, …]."""
    from transformers.pytorch_utils import Conv1D

    return (Conv1D,)


def _he(value: torch.Tensor, transposed: bool) -> None:
    from torch import nn

    nn.init.kaiming_normal_(value.T if transposed else value)


@contextlib.contextmanager
def silence() -> Any:
    """No warnings, no log lines, nothing on stdout: the exporter talks in all three ways."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
