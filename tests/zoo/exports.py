"""Real topologies as `torch.onnx.export(dynamo=True, optimize=False)` writes them today.

Narrow and shallow, on 64x64 images, with He weights and random norm statistics. Batch norms are
kept and the exporter's noise (Shape, Expand, CastLike, constants by the dozen) is left in: that
is what users bring. Some are exported with `optimize=True` besides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from zoo.exporting import cached, exported

if TYPE_CHECKING:
    import torch

OPTIMIZED = "_optimized"
"""Suffix of the exports with the exporter's own clean-up on: batch norms folded, no noise."""


def vision(model: str, **config: Any) -> torch.nn.Module:
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
        vision, "ResNet", embedding_size=16, layer_type="basic", **(_STAGES | {"depths": [2] * 4})
    ),
    "resnet50": partial(
        vision, "ResNet", embedding_size=16, hidden_sizes=[32, 48, 64, 96], depths=[2, 2, 3, 2]
    ),
    "mobilenet_v2": partial(vision, "MobileNetV2", depth_multiplier=0.35, image_size=64),
    "mobilenet_v3": partial(_net, "MobileNetV3"),
    "efficientnet_b0": partial(
        vision,
        "EfficientNet",
        image_size=64,
        width_coefficient=0.3,
        depth_coefficient=0.5,
        hidden_dim=384,
    ),
    "regnet_x": partial(
        vision, "RegNet", embedding_size=16, groups_width=8, layer_type="x", **_STAGES
    ),
    "regnet_y": partial(
        vision, "RegNet", embedding_size=16, groups_width=8, layer_type="y", **_STAGES
    ),
    "convnext": partial(vision, "ConvNext", image_size=64, **_STAGES),
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
    import torch

    module_name = name.removesuffix(OPTIMIZED)
    shape, symbolic = _INPUTS.get(module_name, ((2, 3, 64, 64), {}))
    dynamic = {axis: torch.export.Dim(dim) for axis, dim in symbolic.items()}
    return exported(
        MODULES[module_name],
        lambda: (torch.randn(shape),),
        (dynamic,) if symbolic else None,
        optimize=name.endswith(OPTIMIZED),
    )


@cache
def _cached(name: str) -> onnx.ModelProto:
    here = Path(__file__)
    source = here.read_bytes() + here.with_name("_nets.py").read_bytes()
    return cached(name, source, lambda: _export(name))


def export(name: str) -> ir.Model:
    """A fresh `onnx_ir.Model` of the network `name` of `EXPORTS`."""
    return ir.from_proto(_cached(name))


_TWICE = ("yolo", "mobilenet_v3", "gru_tagger", "rnn_tagger", "lstm_cells")

EXPORTS: dict[str, Callable[[], ir.Model]] = {
    name: partial(export, name) for name in [*MODULES, *(f"{name}{OPTIMIZED}" for name in _TWICE)]
}
