"""How a target computes in integers: the `[quantize]` table of its profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgec.calibration.grid import Scheme

Residual = Literal["both", "shortcut"]
Stored = Literal["integers", "floats"]


@dataclass(frozen=True)
class QuantizeRules:
    """What the kernels of a target want; operators are named as in `edgec.targets.base.op_name`.

    Args:
        activations: Integers of activations; one scale for a tensor.
        weights: Integers of weights; one scale for each output channel.
        stored: Whether weights lie in the file as integers, or as floats with a QuantizeLinear.
        bias: Whether biases are stored as int32, with the scale of input times weight.
        rounds_floats: Whether the target rounds float weights between two grids by itself, unless
            the bias is stored as int32.
        products: Operators that multiply by a weight (or two activations) in integers.
        two_activations: Whether a MatMul of two activations is one of them.
        epilogues: Operators that the kernel before them takes along: nothing is placed between.
        followers: Other operators with integer kernels; they pay where all they read is quantised.
        carriers: Operators that move or choose numbers: one grid before and behind.
        passed: Operators that the target moves Q/DQ through by itself: nothing is placed for them.
        tied: Operators whose inputs and output share one grid.
        residual: Which inputs of the Add behind a product are quantised: both, or only that which
            is not the product's.
        float_outputs: Products and followers that may give floats; behind all others a grid is
            wanted.
        min_channels: Products with fewer input or output channels stay in floats.
        thin_first: Whether the first product may have fewer input channels, as images have.
        min_rows: So do matrix products with fewer rows: matrix times vector.
        channel_multiple: One of the channel counts of a convolution, and the outputs of a grouped
            one, are multiples of this; all others stay in floats.
        depthwise: Whether convolutions with one channel in a group are computed in integers.
        grouped_kernel: The least kernel side of grouped convolutions in integers.
        square_kernels: Whether kernels must be square.
        gains_from_macs, gains_from_channels: Layers of less work gain nothing by themselves; told
            where the whole network is no faster.
        keep_first, keep_last: Whether the first and the last product stay in floats.
    """

    activations: Scheme
    weights: Scheme
    stored: Stored
    bias: bool
    rounds_floats: bool
    products: tuple[str, ...]
    two_activations: bool
    epilogues: tuple[str, ...]
    followers: tuple[str, ...]
    carriers: tuple[str, ...]
    passed: tuple[str, ...]
    tied: tuple[str, ...]
    residual: Residual
    float_outputs: tuple[str, ...]
    min_channels: int
    thin_first: bool
    min_rows: int
    channel_multiple: int
    depthwise: bool
    grouped_kernel: int
    square_kernels: bool
    gains_from_macs: int
    gains_from_channels: int
    keep_first: bool
    keep_last: bool
