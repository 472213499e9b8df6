"""The networks and images that the quantisers are compared on.

Architectures are those of the transformers package at their published sizes. Their weights are
random but alive: He-initialised, BatchNorm scales and shifts drawn, and BatchNorm statistics those
of the images, as in a trained network.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": (
        "ResNet",
        {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"},
    ),
    "resnet50": ("ResNet", {}),
    "mobilenet_v2": ("MobileNetV2", {}),
    "efficientnet_b0": (
        "EfficientNet",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224,
         "hidden_dim": 1280, "dropout_rate": 0.2},
    ),
}  # fmt: skip
SIZE = 224


def images(count: int, seed: int) -> np.ndarray:
    """Gaussian fields whose amplitudes fall as 1/f, as those of photographs do.

    Returns:
        float32[count, 3, 224, 224], about zero mean and unit variance over all.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :])
    amplitude = 1 / np.maximum(frequency, 1 / SIZE)
    out = np.empty((count, 3, SIZE, SIZE), np.float32)
    for image in out:
        field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((3, SIZE, SIZE))) * amplitude)
        field /= field.std()
        mix = np.eye(3) + 0.2 * rng.standard_normal((3, 3))
        contrast, light = np.exp(0.1 * rng.standard_normal()), 0.1 * rng.standard_normal()
        image[:] = np.clip(contrast * np.tensordot(mix, field, 1) + light, -2.6, 2.6)
    return out


def export(name: str, path: Path) -> None:
    """Write the network as ONNX, batch size open."""
    import torch
    import transformers

    family, options = NETS[name]
    config = getattr(transformers, f"{family}Config")(**options)
    config.num_labels = 1000
    torch.manual_seed(0)
    network = getattr(transformers, f"{family}ForImageClassification")(config)
    _enliven(network)
    module = _Logits(network).eval()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, SIZE, SIZE),),
            str(path),
            dynamo=True,
            opset_version=18,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            external_data=False,
            verbose=False,
        )


def _Logits(network: Any) -> Any:
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.network(image).logits

    return Logits()


def _enliven(network: Any) -> None:
    import torch

    last = ("project_bn", "reduce_1x1.normalization", "layer.1.normalization")
    if "ResNet" in type(network).__name__ and network.config.layer_type == "bottleneck":
        last = ("layer.2.normalization",)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
            if "squeeze_excite" in name:  # gates that vary, but do not shut
                module.weight.data *= 0.3
        if isinstance(module, torch.nn.BatchNorm2d):
            share = 0.3 if name.endswith(last) else 1.0  # branches add to a residual, as trained
            torch.nn.init.uniform_(module.weight, 0.4 * share, 1.2 * share)
            torch.nn.init.normal_(module.bias, std=0.2 * share)
            module.momentum = None
            module.reset_running_stats()
    network.train()
    with torch.no_grad():
        for seed in range(4):
            network(torch.from_numpy(images(16, 1000 + seed)))
    network.eval()
