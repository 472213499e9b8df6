"""Where quantisation goes in a graph: data that `place` decides and `insert` carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgec.passes.quantize.rules import QuantizeRules

Reader = tuple[str, int]
"""A node's name and the input at which it reads."""


@dataclass(frozen=True)
class Point:
    """A pair of QuantizeLinear and DequantizeLinear on an activation.

    Args:
        value: The tensor's name.
        readers: Who reads what comes back from the integers; all others read the tensor itself.
        as_output: Whether the graph's output of that name is what comes back.
    """

    value: str
    readers: tuple[Reader, ...]
    as_output: bool = False


@dataclass(frozen=True)
class Weight:
    """A weight that is stored as integers.

    Args:
        initializer: Its name.
        readers: The products that read it; their biases can be quantised with it.
        axis: The axis of its output channels; None: one scale for all.
        bits: The integers' width.
    """

    initializer: str
    readers: tuple[Reader, ...]
    axis: int | None
    bits: int = 8


@dataclass(frozen=True)
class Placement:
    """Everything that is quantised, and why the rest is not.

    Args:
        points: The activations.
        weights: The weights.
        tied: Sets of activations that share one grid.
        floats: Node → why it stays in floats, for every product and follower that does.
        rules: The rules that it follows.
    """

    points: tuple[Point, ...]
    weights: tuple[Weight, ...]
    tied: tuple[frozenset[str], ...]
    floats: Mapping[str, str]
    rules: QuantizeRules
