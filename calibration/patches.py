"""The input patches of a convolution as rows of a matrix (im2col), for any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Where a convolution reads; one entry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, node: ir.Node, kernel: tuple[int, ...], size: Sequence[int]) -> Window:
        """The window of a Conv node.

        Args:
            node: The node.
            kernel: Spatial sizes of its weight.
            size: Spatial sizes of its input; `auto_pad` depends on them.
        """
        rank = len(kernel)
        strides = tuple(node.attributes.get_ints("strides", [1] * rank))
        dilations = tuple(node.attributes.get_ints("dilations", [1] * rank))
        auto = node.attributes.get_string("auto_pad", "NOTSET")
        pads: list[tuple[int, int]]
        if auto == "VALID":
            pads = [(0, 0)] * rank
        elif auto.startswith("SAME"):
            pads = []
            for s, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
                total = max((-(-s // stride) - 1) * stride + (k - 1) * dilation + 1 - s, 0)
                small, large = total // 2, total - total // 2
                pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
        else:
            flat = node.attributes.get_ints("pads", [0] * (2 * rank))
            pads = list(zip(flat[:rank], flat[rank:], strict=True))
        return cls(kernel, strides, dilations, tuple(pads))

    def patches(self, x: Array) -> Array:
        """A view of every patch.

        Args:
            x: [n, channels, size…].

        Returns:
            [n, channels, positions…, kernel…].
        """
        padded = np.pad(x, ((0, 0), (0, 0), *self.pads))
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        axes = tuple(range(2, x.ndim))
        view = sliding_window_view(padded, reach, axis=axes)
        every = slice(None)
        steps = (slice(None, None, s) for s in self.strides)
        taps = (slice(None, None, d) for d in self.dilations)
        return np.asarray(view[(every, every, *steps, *taps)])

    def rows(self, x: Array, positions: NDArray[np.int64]) -> Array:
        """The patches at chosen positions.

        Args:
            x: [n, channels, size…].
            positions: int64[n, p], flat output positions of each sample.

        Returns:
            [n · p, channels, taps].
        """
        patches = self.patches(x)
        rank = len(self.kernel)
        places = np.unravel_index(positions, patches.shape[2 : 2 + rank])
        sample = np.arange(len(x))[:, None]
        chosen = np.moveaxis(patches, 1, -1)[(sample, *places)]  # [n, p, kernel…, channels]
        chosen = np.moveaxis(chosen, -1, 2)
        return np.asarray(chosen.reshape(positions.size, x.shape[1], -1))


def patch_spread(x: Array, window: Window, groups: int) -> NDArray[np.float64]:
    """Standard deviation of the elements of each patch over the batch, channels and taps.

    Args:
        x: [n, channels, size…].
        window: Where the convolution reads.
        groups: Groups of channels.

    Returns:
        float64[groups, positions].
    """
    rows = x.astype(np.float64).reshape(len(x), groups, -1, *x.shape[2:])
    sums = np.stack([rows.mean((0, 2)), (rows**2).mean((0, 2))])  # [2, groups, size…]
    rank = len(window.kernel)
    taps = tuple(range(-rank, 0))
    mean, square = window.patches(sums).mean(taps).reshape(2, groups, -1)
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0.0)))


def coverage(
    node: ir.Node, kernel: Sequence[int], size: Sequence[int], out: Sequence[int]
) -> NDArray[np.float64]:
    """For each tap of a convolution, how many input positions it meets per output position.

    Args:
        node: A Conv or ConvTranspose.
        kernel: Spatial sizes of its weight.
        size: Spatial sizes of its input.
        out: Spatial sizes of its output.

    Returns:
        float64[kernel…], at most 1: taps over the border, or between strides, meet none.
    """
    window = Window.of(node, tuple(kernel), size)
    apart = node.op_type == "ConvTranspose"  # its outputs are where a convolution's inputs are
    axes = []
    for k, stride, dilation, (pad, _), n, m in zip(
        kernel, window.strides, window.dilations, window.pads, size, out, strict=True
    ):
        steps, end = (np.arange(n), m) if apart else (np.arange(m), n)
        places = steps[:, None] * stride + np.arange(k) * dilation - pad
        axes.append(((places >= 0) & (places < end)).sum(0) / m)
    shares = np.ones(())
    for axis in axes:
        shares = np.multiply.outer(shares, axis)
    return np.asarray(shares, np.float64)
