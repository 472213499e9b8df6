"""Torch modules of well-known topology, narrow and shallow, for `zoo.exports`.

Only what `transformers` does not offer is written here; widths are odd on purpose (24, 40, not
powers of two) where the original's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn(
    i: int, o: int, k: int = 1, s: int = 1, g: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation; padding keeps the size at stride 1."""
    conv = nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), act())


class SqueezeExcite(nn.Module):
    """x * hardsigmoid(W2 relu(W1 mean(x))), as in MobileNetV3."""

    def __init__(self, c: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(s))))


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze-excite (if asked), project; a shortcut where shapes allow."""

    def __init__(
        self, i: int, mid: int, o: int, k: int, s: int, se: bool, act: type[nn.Module]
    ) -> None:
        super().__init__()
        self.shortcut = s == 1 and i == o
        layers: list[nn.Module] = [] if mid == i else [conv_bn(i, mid, act=act)]
        layers.append(conv_bn(mid, mid, k, s, g=mid, act=act))
        if se:
            layers.append(SqueezeExcite(mid, max(8, mid // 4)))
        layers.append(conv_bn(mid, o, act=nn.Identity))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV3(nn.Module):
    """MobileNetV3-Small's stages at half width."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        hs, re = nn.Hardswish, nn.ReLU
        self.features = nn.Sequential(
            conv_bn(3, 8, 3, 2, act=hs),
            InvertedResidual(8, 8, 8, 3, 2, True, re),
            InvertedResidual(8, 36, 12, 3, 1, False, re),
            InvertedResidual(12, 44, 12, 3, 1, False, re),
            InvertedResidual(12, 48, 20, 5, 2, True, hs),
            InvertedResidual(20, 120, 20, 5, 1, True, hs),
            InvertedResidual(20, 60, 24, 5, 1, True, hs),
            InvertedResidual(24, 144, 48, 5, 2, True, hs),
            conv_bn(48, 96, act=hs),
        )
        self.classifier = nn.Sequential(
            nn.Linear(96, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return y


class UNet(nn.Module):
    """Three levels, transposed convolutions up, skips by concatenation, a mask out."""

    def __init__(self, widths: Sequence[int] = (8, 16, 24), classes: int = 3) -> None:
        super().__init__()

        def double(i: int, o: int) -> nn.Sequential:
            return nn.Sequential(conv_bn(i, o, 3), conv_bn(o, o, 3))

        a, b, c = widths
        self.down1, self.down2, self.bottom = double(3, a), double(a, b), double(b, c)
        self.up2, self.up1 = nn.ConvTranspose2d(c, b, 2, 2), nn.ConvTranspose2d(b, a, 2, 2)
        self.merge2, self.merge1 = double(2 * b, b), double(2 * a, a)
        self.head = nn.Conv2d(a, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        d3 = self.bottom(F.max_pool2d(d2, 2))
        u2 = self.merge2(torch.cat([d2, self.up2(d3)], 1))
        u1 = self.merge1(torch.cat([d1, self.up1(u2)], dim=-3))
        y: Tensor = self.head(u1)
        return y


class C2f(nn.Module):
    """YOLOv8's block: split in two, chain bottlenecks on one half, concatenate every stage."""

    def __init__(self, i: int, o: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        c = o // 2
        self.shortcut = shortcut
        self.enter = conv_bn(i, 2 * c, act=nn.SiLU)
        self.leave = conv_bn((2 + n) * c, o, act=nn.SiLU)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_bn(c, c, 3, act=nn.SiLU), conv_bn(c, c, 3, act=nn.SiLU))
            for _ in range(n)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            last = parts[-1]
            parts.append(last + block(last) if self.shortcut else block(last))
        y: Tensor = self.leave(torch.cat(parts, 1))
        return y


class SPPF(nn.Module):
    """Three max-pools in a row, all four stages concatenated."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.enter = conv_bn(c, c // 2, act=nn.SiLU)
        self.leave = conv_bn(c // 2 * 4, c, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        stages = [self.enter(x)]
        for _ in range(3):
            stages.append(F.max_pool2d(stages[-1], 5, 1, 2))
        y: Tensor = self.leave(torch.cat(stages, 1))
        return y


class Yolo(nn.Module):
    """Two-scale detector: C2f backbone, SPPF, upsampling neck, decoupled heads, decoded boxes.

    Output float[n, 4 + classes, h*w of both scales]: box as distribution over `bins` distances
    (softmax, then an expectation by a fixed convolution), decoded against constant anchors.
    """

    anchors: Tensor
    strides: Tensor
    bins_: Tensor

    def __init__(self, classes: int = 5, bins: int = 4, size: int = 64) -> None:
        super().__init__()
        self.classes, self.bins = classes, bins
        act = nn.SiLU
        self.stem = nn.Sequential(conv_bn(3, 8, 3, 2, act=act), conv_bn(8, 16, 3, 2, act=act))
        self.p3 = nn.Sequential(C2f(16, 16, 2), conv_bn(16, 24, 3, 2, act=act), C2f(24, 24))
        self.p4 = nn.Sequential(conv_bn(24, 32, 3, 2, act=act), C2f(32, 32), SPPF(32))
        self.neck3 = C2f(32 + 24, 24, 1, shortcut=False)
        self.back4 = conv_bn(24, 24, 3, 2, act=act)
        self.neck4 = C2f(24 + 32, 32, 1, shortcut=False)
        self.box = nn.ModuleList(self._branch(c, 16, 4 * bins) for c in (24, 32))
        self.cls = nn.ModuleList(self._branch(c, 12, classes) for c in (24, 32))
        grids, strides = [], []
        for stride in (8, 16):
            n = size // stride
            at = (torch.arange(n) + 0.5).float()
            grids.append(torch.stack(torch.meshgrid(at, at, indexing="xy")).flatten(1))
            strides.append(torch.full((1, n * n), float(stride)))
        self.register_buffer("anchors", torch.cat(grids, 1)[None])
        self.register_buffer("strides", torch.cat(strides, 1)[None])
        self.register_buffer("bins_", torch.arange(bins).float().view(1, bins, 1, 1))

    @staticmethod
    def _branch(i: int, mid: int, o: int) -> nn.Sequential:
        return nn.Sequential(
            conv_bn(i, mid, 3, act=nn.SiLU), conv_bn(mid, mid, 3, act=nn.SiLU), nn.Conv2d(mid, o, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        up = F.interpolate(p4, scale_factor=2.0, mode="nearest")
        n3 = self.neck3(torch.cat([up, p3], 1))
        n4 = self.neck4(torch.cat([self.back4(n3), p4], 1))
        scales = [
            torch.cat([box(n), cls(n)], 1)
            for n, box, cls in zip((n3, n4), self.box, self.cls, strict=True)
        ]
        rows = torch.cat([s.flatten(2) for s in scales], 2)
        box, cls = torch.split(rows, [4 * self.bins, self.classes], 1)
        b, _, a = box.shape
        dist = box.view(b, 4, self.bins, a).transpose(1, 2).softmax(1)
        lt, rb = F.conv2d(dist, self.bins_).view(b, 4, a).chunk(2, 1)
        x1y1, x2y2 = self.anchors - lt, self.anchors + rb
        xywh = torch.cat([(x1y1 + x2y2) / 2, x2y2 - x1y1], 1) * self.strides
        return torch.cat([xywh, cls.sigmoid()], 1)


class SSD(nn.Module):
    """Depthwise backbone, three feature maps, heads permuted, reshaped and concatenated."""

    def __init__(self, classes: int = 4, anchors: int = 3) -> None:
        super().__init__()
        self.classes = classes
        relu6 = nn.ReLU6
        stages, widths, i = [], (16, 24, 32), 8
        self.stem = conv_bn(3, 8, 3, 2, act=relu6)
        for o in widths:
            dw = conv_bn(i, i, 3, 2, g=i, act=relu6)
            stages.append(nn.Sequential(dw, conv_bn(i, o, act=relu6), conv_bn(o, o, 3, act=relu6)))
            i = o
        self.stages = nn.ModuleList(stages)
        self.boxes = nn.ModuleList(nn.Conv2d(c, anchors * 4, 3, padding=1) for c in widths)
        self.scores = nn.ModuleList(nn.Conv2d(c, anchors * classes, 3, padding=1) for c in widths)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        boxes, scores = [], []
        for stage, box, score in zip(self.stages, self.boxes, self.scores, strict=True):
            x = stage(x)
            boxes.append(box(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
            scores.append(score(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.classes))
        return torch.cat(boxes, 1), torch.cat(scores, 1).softmax(-1)


class FlattenCnn(nn.Module):
    """Two convolutions, flatten, two linear layers: the batch axis is the only symbolic one."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = conv_bn(1, 8, 3), conv_bn(8, 12, 3, 2)
        self.l1, self.l2 = nn.Linear(12 * 4 * 4, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.c2(self.c1(x))
        y: Tensor = self.l2(F.relu(self.l1(h.view(h.shape[0], -1))))
        return y


class Tagger(nn.Module):
    """A recurrent layer and a linear one at every step: [batch, time, 6] → [batch, time, 4]."""

    def __init__(self, cell: type[nn.LSTM | nn.GRU | nn.RNN], **options: Any) -> None:
        super().__init__()
        self.cell = cell(6, 10, batch_first=True, **options)
        self.head = nn.Linear(20 if self.cell.bidirectional else 10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.cell(x)[0])
        return y


class SentenceClassifier(nn.Module):
    """The last states of both directions of the upper of two layers: [time, batch, 6] → [batch, 4].

    As in countless tutorials: `cat(h[-2], h[-1])`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(6, 10, num_layers=2, bidirectional=True)
        self.head = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.cell(x)
        y: Tensor = self.head(torch.cat([h[-2], h[-1]], 1))
        return y


class Seq2Seq(nn.Module):
    """A GRU whose last state starts another; both read the same [batch, time, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = (nn.GRU(6, 10, batch_first=True) for _ in range(2))
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.encoder(x)
        y: Tensor = self.head(self.decoder(x.roll(1, -1), state)[0])
        return y


class Cells(nn.Module):
    """A loop in Python over an LSTM cell that starts from zeros: [batch, 5, 6] → [batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(6, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], 10)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
        y: Tensor = self.head(h)
        return y
