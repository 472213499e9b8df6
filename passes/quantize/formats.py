"""The words after --quantize, and the pass that each stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgec.passes.base import Pass
from edgec.passes.quantize.quantize import Quantize
from edgec.passes.quantize.rules import QuantizeRules


@dataclass(frozen=True)
class Options:
    """What the user says about quantisation, besides the word.

    Attributes:
        rules: The target's; None: it has none.
        observer, rounding: Words of their tables.
        keep_float: Patterns of node names.
        samples: How many samples to look at; None: all.
    """

    rules: QuantizeRules | None
    observer: str
    rounding: str
    keep_float: tuple[str, ...]
    samples: int | None


@dataclass(frozen=True)
class Format:
    """Numbers to compute with.

    Attributes:
        summary: What it does, in one line.
        needs_data: Whether activations must be seen.
        needs_rules: Whether the target must have rules for it.
        make: The pass.
    """

    summary: str
    needs_data: bool
    needs_rules: bool
    make: Callable[[Options], Pass]


def _int8(options: Options) -> Pass:
    assert options.rules is not None
    return Quantize(
        options.rules, options.observer, options.rounding, options.keep_float, options.samples
    )


FORMATS: dict[str, Format] = {
    "int8": Format("weights and activations in 8 bits, by the target's rules", True, True, _int8),
}

CALIBS = ("all", "synthetic")
ROUNDINGS = ("nearest",)
