"""Grids of integers: how a range of real numbers becomes a scale and a zero point.

    x ≈ scale · (q − zero),   q = clip(round(x / scale) + zero, low, high)

`round` goes to the nearest even integer at a half, as QuantizeLinear does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

SMALLEST_SCALE = float(np.finfo(np.float32).tiny) * 2**23
"""A channel that is always zero gets this scale: positive, and normal after a product of two."""


@dataclass(frozen=True)
class Scheme:
    """The integers that stand for a tensor.

    Args:
        bits: Their width: 4, 8 or 16.
        signed: Whether they may be negative.
        symmetric: The zero point is 0 (2^(bits−1) if unsigned), and the range as far below as
            above. The lowest signed integer is then left out, as kernels that negate want it.
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = True

    @property
    def low(self) -> int:
        """The least integer in use."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + (1 if self.symmetric else 0)

    @property
    def high(self) -> int:
        """The greatest integer in use."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric range."""
        return 0 if self.signed else 1 << (self.bits - 1)

    @property
    def dtype(self) -> ir.DataType:
        """The element type in the graph: INT8, UINT4, …"""
        return ir.DataType[f"{'' if self.signed else 'U'}INT{self.bits}"]

    @property
    def narrow(self) -> np.dtype[Any]:
        """The narrowest type of numpy's that holds them: int8, uint16, …"""
        return np.dtype(f"{'' if self.signed else 'u'}int{max(self.bits, 8)}")

    @property
    def word(self) -> str:
        """`int8`, `uint4`, …"""
        return self.dtype.name.lower()

    @classmethod
    def parse(cls, word: str, *, symmetric: bool = True) -> Scheme:
        """Reads `int8`, `uint8`, `int4`, …

        Errors:
            ValueError: it is none of them.
        """
        signed, rest = not word.startswith("u"), word.removeprefix("u").removeprefix("int")
        if rest not in ("4", "8", "16") or word != f"{'' if signed else 'u'}int{rest}":
            raise ValueError(word)
        return cls(int(rest), signed, symmetric)


@dataclass(frozen=True)
class Grid:
    """A scale and a zero point, or one of each per index along `axis`.

    Args:
        scheme: The integers.
        scale: float32[] or float32[n]; strictly positive.
        zero: int64, shaped like the scale.
        axis: The axis that the scales run along; None for one scale.
    """

    scheme: Scheme
    scale: Array
    zero: Array
    axis: int | None = None

    @classmethod
    def of_range(
        cls, scheme: Scheme, low: ArrayLike, high: ArrayLike, axis: int | None = None
    ) -> Grid:
        """The grid that spans `low` to `high`, widened to hold zero exactly.

        Args:
            scheme: The integers.
            low, high: Ends of the range, float[] or float[n]; finite.
            axis: The axis that n runs along.
        """
        low, high = np.minimum(low, 0.0, dtype=np.float64), np.maximum(high, 0.0, dtype=np.float64)
        if scheme.symmetric:
            steps = (scheme.high - scheme.low) / 2 if scheme.signed else scheme.middle - 1
            scale = np.maximum(-low, high) / steps
            zero = np.full(np.shape(scale), scheme.middle)
        else:
            scale = (high - low) / (scheme.high - scheme.low)
            scale = np.maximum(scale, SMALLEST_SCALE)
            zero = np.clip(np.rint(scheme.low - low / scale), scheme.low, scheme.high)
        scale = np.maximum(scale, SMALLEST_SCALE).astype(np.float32)
        return cls(scheme, scale, np.asarray(zero, np.int64), axis)

    def integers(self, x: Array) -> Array:
        """The integers that stand for `x`: of its shape, in the narrowest type of numpy's."""
        scale, zero = self._along(x)
        q = np.rint(x.astype(np.float32) / scale) + zero
        return np.asarray(np.clip(q, self.scheme.low, self.scheme.high), self.scheme.narrow)

    def reals(self, q: Array) -> NDArray[np.float32]:
        """What integers stand for, float32."""
        scale, zero = self._along(q)
        return np.asarray((q.astype(np.float32) - zero.astype(np.float32)) * scale, np.float32)

    def rounded(self, x: Array) -> NDArray[np.float32]:
        """`x` as it comes back from its integers, float32."""
        return self.reals(self.integers(x))

    def ends(self) -> tuple[Array, Array]:
        """The least and the greatest number on the grid, float32, shaped like the scale."""
        return (self.scheme.low - self.zero) * self.scale, (
            self.scheme.high - self.zero
        ) * self.scale

    def _along(self, x: Array) -> tuple[Array, Array]:
        if self.axis is None:
            return self.scale, self.zero
        shape = [1] * x.ndim
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero.reshape(shape)
