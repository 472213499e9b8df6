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
        products: Operators that multiply by a weight (or two activations) in integers.
        epilogues: Operators that the kernel of a product takes along: nothing is placed between.
        followers: Other operators with integer kernels; they pay where all they read is quantised.
        carriers: Operators that move or choose numbers: one grid before and behind.
        tied: Operators whose inputs and output share one grid.
        residual: Which inputs of the Add behind a product are quantised: both, or only that which
            is not the product's.
        float_outputs: Products that may give floats; behind all others a grid is wanted.
        min_channels: Products with fewer input or output channels stay in floats.
        keep_first, keep_last: Whether the first and the last product stay in floats.
    """

    activations: Scheme
    weights: Scheme
    stored: Stored
    bias: bool
    products: tuple[str, ...]
    epilogues: tuple[str, ...]
    followers: tuple[str, ...]
    carriers: tuple[str, ...]
    tied: tuple[str, ...]
    residual: Residual
    float_outputs: tuple[str, ...]
    min_channels: int
    keep_first: bool
    keep_last: bool
