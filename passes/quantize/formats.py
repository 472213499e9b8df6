"""The words after --quantize, and the pass that each stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgec.calibration.selection import SELECTIONS
from edgec.passes.base import Pass
from edgec.passes.quantize.halves import Halve
from edgec.passes.quantize.quantize import Quantize, QuantizeRecord
from edgec.passes.quantize.rules import QuantizeRules
from edgec.passes.quantize.weight_only import WeightOnly

ALL, SYNTHETIC = "all", "synthetic"
CALIBS: Mapping[str, str] = {
    ALL: "all of them; the default",
    **{name: selection.summary for name, selection in SELECTIONS.items()},
    SYNTHETIC: "made up to fit the BatchNorm statistics; needs no data",
}
"""Where the samples come from that activations are observed on: word → one line."""


@dataclass(frozen=True)
class Options:
    """What the user says about quantisation, besides the word.

    Attributes:
        rules: The target's; None: it has none.
        observer, rounding: Words of their tables.
        keep_float: Patterns of node names.
        equalise: Whether channels that share a grid are given like ranges before.
        keep: Whether what was observed is kept for the next time.
    """

    rules: QuantizeRules | None
    observer: str
    rounding: str
    keep_float: tuple[str, ...]
    equalise: bool = False
    keep: bool = False


@dataclass(frozen=True)
class Summary:
    """What a pass did, alike for all of them.

    Attributes:
        text: What is in other numbers now, in a few words.
        floats: Node → why it is as it was.
        changed: How many nodes or weights are in other numbers.
        notes: What a reader has to know.
        how: What decided the numbers, if anything did.
        doubtful: Layer → why these numbers hardly make it faster by itself.
    """

    text: str
    floats: Mapping[str, str]
    changed: int
    notes: tuple[str, ...] = ()
    how: str = ""
    doubtful: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """Numbers to compute with.

    Attributes:
        summary: What it does, in one line.
        make: The pass.
        told: What the pass recorded.
        sees_data: Whether it looks at activations if there are samples.
        needs_data: Whether activations must be seen.
        needs_float32: Whether it starts from float32.
        needs_rules: Whether the target must have rules for it.
        takes: Fields of the recipe that it heeds.
    """

    summary: str
    make: Callable[[Options], Pass]
    told: Callable[[Any], Summary]
    sees_data: bool = False
    needs_data: bool = False
    needs_float32: bool = True
    needs_rules: bool = False
    takes: tuple[str, ...] = ()


def _integers(options: Options) -> Pass:
    assert options.rules is not None
    return Quantize(
        options.rules, options.observer, options.rounding, options.keep_float,
        equalise=options.equalise, keep=options.keep,
    )  # fmt: skip


def _of_integers(record: QuantizeRecord) -> Summary:
    layers = f"{record.quantised} of {record.products} layers in integers"
    samples = f"{record.samples} sample{'s' * (record.samples != 1)}"
    how = f"{record.observer}, {samples}" + " (observed before)" * record.remembered
    return Summary(layers, record.floats, record.quantised, record.notes, how, record.doubtful)


def _of_halves(record: Mapping[str, Any]) -> Summary:
    casts = f"{record['casts']} cast{'s' * (record['casts'] != 1)}"
    nodes = f"{record['nodes']} node{'s' * (record['nodes'] != 1)} in {record['format']}"
    return Summary(f"{nodes}, {casts}", record["islands"], record["nodes"])


def _of_weights(record: Mapping[str, Any]) -> Summary:
    count = len(record["stored"])
    text = f"{count} weight{'s' * (count != 1)} in {record['bits']} bits, {record['block']} a scale"
    return Summary(text, record["kept"], count)


ACTIVATIONS = (
    "observer", "calib", "calib_samples", "rounding", "equalise", "keep_float", "max_drop",
    "drop_metric", "bits", "score_quantised",
)  # fmt: skip
"""Fields of the recipe about integers of activations."""

FORMATS: dict[str, Format] = {
    "int8": Format(
        "weights and activations in 8 bits, where the target's rules want them",
        _integers, _of_integers, sees_data=True, needs_data=True, needs_rules=True,
        takes=ACTIVATIONS,
    ),
    "float16": Format(
        "16 bits with islands of float32 where numbers leave their range",
        lambda options: Halve(format="float16"), _of_halves, sees_data=True,
    ),
    "bfloat16": Format(
        "the range of float32 in 16 bits", lambda options: Halve(format="bfloat16"), _of_halves
    ),
    "int8-weights": Format(
        "weights of matrix products in 8 bits, activations as they are",
        lambda options: WeightOnly(bits=8), _of_weights, needs_float32=False,
    ),
    "int4-weights": Format(
        "weights of matrix products in 4 bits, activations as they are",
        lambda options: WeightOnly(bits=4), _of_weights, needs_float32=False,
    ),
}  # fmt: skip
