"""ResNet-50 in plain torch, with seeded random weights: a network of real size for the timings."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS, WIDTHS = (3, 4, 6, 3), (64, 128, 256, 512)
EXPANSION, CLASSES = 4, 1000
EXAMPLE = (1, 3, 224, 224)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, and a shortcut; the stride is in the 3x3 (version 1.5)."""

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels = width * EXPANSION
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[n, c_in, h, w] to float32[n, 4 * width, h / stride, w / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ResNet50(nn.Module):
    """float32[n, 3, 224, 224] to logits float32[n, 1000]; 25.6 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 7, 2, padding=3, bias=False), nn.BatchNorm2d(WIDTHS[0])
        )
        blocks, channels = [], WIDTHS[0]
        for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(channels, width, stride))
                channels = width * EXPANSION
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Class scores before the softmax."""
        x = F.max_pool2d(F.relu(self.stem(image)), 3, 2, padding=1)
        return self.head(self.blocks(x).mean((2, 3)))


def seeded(seed: int = 0) -> ResNet50:
    """The network with the same weights for the same seed."""
    torch.manual_seed(seed)
    return ResNet50().eval()


def export(net: nn.Module, path: Path, *, keep_norms: bool) -> None:
    """Write ONNX through torch.export, as `torch.onnx.export` does by default.

    Args:
        net: The network, in eval mode.
        path: The file; its weights may go to `<path>.data`, as the exporter likes.
        keep_norms: Leave out the exporter's optimiser, which would fold BatchNormalization into
            the convolutions.
    """
    torch.onnx.export(
        net,
        (torch.zeros(EXAMPLE),),
        path,
        dynamo=True,
        optimize=not keep_norms,
        input_names=["image"],
        output_names=["logits"],
        opset_version=18,
        verbose=False,
    )
