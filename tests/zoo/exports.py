"""Real topologies as `torch.onnx.export(dynamo=True, optimize=False)` writes them today.

Narrow and shallow, on 64x64 images, with He weights and random norm statistics. Batch norms are
kept and the exporter's noise (Shape, Expand, CastLike, constants by the dozen) is left in: that
is what users bring. Two are exported with `optimize=True` besides. Each export runs once
per source, torch and transformers version; the files lie in `.cache/zoo/` of the repository.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    import torch

CACHE = Path(__file__).parents[2] / ".cache" / "zoo"
OPSET = 18
OPTIMIZED = "_optimized"
"""Suffix of the exports with the exporter's own clean-up on: batch norms folded, no noise."""


def _vision(model: str, **config: Any) -> torch.nn.Module:
    """The image classifier `model` of transformers, random weights, 10 classes, logits only."""
    import torch
    import transformers

    settings = getattr(transformers, f"{model}Config")(num_labels=10, **config)
    inner = getattr(transformers, f"{model}ForImageClassification")(settings)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(pixels).logits
            return logits

    return Logits()


def _net(name: str) -> torch.nn.Module:
    """The module `name` of `zoo._nets`."""
    from zoo import _nets

    module: torch.nn.Module = getattr(_nets, name)()
    return module


def _tagger(cell: str, **options: Any) -> torch.nn.Module:
    """`zoo._nets.Tagger` around the recurrent layer `cell` of torch."""
    import torch

    from zoo import _nets

    return _nets.Tagger(getattr(torch.nn, cell), **options)


_STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}

MODULES: dict[str, Callable[[], torch.nn.Module]] = {
    "resnet18": partial(
        _vision, "ResNet", embedding_size=16, layer_type="basic", **(_STAGES | {"depths": [2] * 4})
    ),
    "resnet50": partial(
        _vision, "ResNet", embedding_size=16, hidden_sizes=[32, 48, 64, 96], depths=[2, 2, 3, 2]
    ),
    "mobilenet_v2": partial(_vision, "MobileNetV2", depth_multiplier=0.35, image_size=64),
    "mobilenet_v3": partial(_net, "MobileNetV3"),
    "efficientnet_b0": partial(
        _vision,
        "EfficientNet",
        image_size=64,
        width_coefficient=0.3,
        depth_coefficient=0.5,
        hidden_dim=384,
    ),
    "regnet_x": partial(
        _vision, "RegNet", embedding_size=16, groups_width=8, layer_type="x", **_STAGES
    ),
    "regnet_y": partial(
        _vision, "RegNet", embedding_size=16, groups_width=8, layer_type="y", **_STAGES
    ),
    "convnext": partial(_vision, "ConvNext", image_size=64, **_STAGES),
    "unet": partial(_net, "UNet"),
    "yolo": partial(_net, "Yolo"),
    "ssd": partial(_net, "SSD"),
    "cnn_dynamic_batch": partial(_net, "FlattenCnn"),
    "lstm_tagger": partial(_tagger, "LSTM"),
    "lstm_sentences": partial(_net, "SentenceClassifier"),
    "gru_tagger": partial(_tagger, "GRU", num_layers=2, bidirectional=True),
    "gru_seq2seq": partial(_net, "Seq2Seq"),
    "rnn_tagger": partial(_tagger, "RNN"),
    "lstm_cells": partial(_net, "Cells"),
}

# Input shapes and symbolic dims of the networks that do not take 2 images of 64 x 64.
_RECURRENT = ((2, 5, 6), {0: "batch", 1: "time"})
_INPUTS: dict[str, tuple[tuple[int, ...], dict[int, str]]] = {
    "cnn_dynamic_batch": ((2, 1, 8, 8), {0: "batch"}),
    "lstm_tagger": _RECURRENT,
    "lstm_sentences": ((5, 2, 6), {0: "time", 1: "batch"}),
    "gru_tagger": _RECURRENT,
    "gru_seq2seq": _RECURRENT,
    "rnn_tagger": ((2, 5, 6), {0: "batch"}),  # the exporter writes its steps out
    "lstm_cells": ((2, 5, 6), {0: "batch"}),
}


def _export(name: str) -> onnx.ModelProto:
    """The export of network `name`, weights seeded; what torch prints on the way is dropped."""
    import torch

    module_name = name.removesuffix(OPTIMIZED)
    shape, symbolic = _INPUTS.get(module_name, ((2, 3, 64, 64), {}))
    dynamic = {axis: torch.export.Dim(dim) for axis, dim in symbolic.items()}
    with _silence(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _enliven(MODULES[module_name]()).eval()
        program = torch.onnx.export(
            module,
            (torch.randn(shape),),
            dynamo=True,
            optimize=name.endswith(OPTIMIZED),
            opset_version=OPSET,
            dynamic_shapes=(dynamic,) if symbolic else None,
            verbose=False,
        )
    assert program is not None
    return ir.to_proto(program.model)


def _enliven(module: torch.nn.Module) -> torch.nn.Module:
    """He weights for every linear map; scales and variances in 0.5..1.5; small means and biases."""
    import torch
    from torch import nn

    norms = (nn.BatchNorm2d, nn.LayerNorm)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            owner = module.get_submodule(name.rpartition(".")[0])
            leaf = name.rpartition(".")[2]
            if isinstance(owner, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and leaf == "weight":
                nn.init.kaiming_normal_(value)
            elif leaf == "running_var" or (isinstance(owner, norms) and leaf == "weight"):
                value.uniform_(0.5, 1.5)
            elif leaf in ("bias", "running_mean"):
                value.normal_(0, 0.1)
            elif "layer_scale" in leaf:
                value.uniform_(0.5, 1.5)
    return module


@contextlib.contextmanager
def _silence() -> Any:
    """No warnings, no log lines, nothing on stdout: the exporter talks in all three ways."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _key(name: str) -> str:
    """Name, tool versions and a hash of the two files an export depends on."""
    sources = b"".join(Path(__file__).with_name(f).read_bytes() for f in ("exports.py", "_nets.py"))
    digest = hashlib.sha256(sources).hexdigest()[:12]
    versions = "-".join(version(p) for p in ("torch", "transformers", "onnxscript"))
    return f"{name}-{versions}-{digest}.onnx"


@cache
def _cached(name: str) -> onnx.ModelProto:
    path = CACHE / _key(name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        onnx.save(_export(name), aside)
        aside.replace(path)  # whole or not at all: test workers share the folder
    return onnx.load(path)


def export(name: str) -> ir.Model:
    """A fresh `onnx_ir.Model` of the network `name` of `EXPORTS`."""
    return ir.from_proto(_cached(name))


_TWICE = ("yolo", "mobilenet_v3", "gru_tagger", "rnn_tagger", "lstm_cells")

EXPORTS: dict[str, Callable[[], ir.Model]] = {
    name: partial(export, name) for name in [*MODULES, *(f"{name}{OPTIMIZED}" for name in _TWICE)]
}
