"""What a repair did: one line per layer, with the error before and after."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRecord:
    """One layer.

    Attributes:
        layer: Name of the node.
        method: What was done to it: "least squares", "bias", "recalibrate" or "none".
        before: Output error before, relative to the spread of the original's output:
            ‖y − y₀‖ / ‖y₀ − mean y₀‖, on held-out samples where there are any; None where it
            was not measured.
        after: The same afterwards, for weights solved without those samples. The weights that are
            written are then solved with all samples.
        reason: Why nothing, or less than asked, was done; "" otherwise.
        ridge: λ of the least squares, None for other methods.
    """

    layer: str
    method: str
    before: float | None = None
    after: float | None = None
    reason: str = ""
    ridge: float | None = None


@dataclass(frozen=True)
class RepairRecord:
    """A whole repair.

    Attributes:
        method: The repair asked for, or the one that `auto` chose.
        samples: Samples that were run, 0 for a repair without data.
        layers: One record per layer, in the order in which they were repaired.
        before: Relative error of the model's outputs before, on every fourth sample.
        after: The same afterwards. The weights were solved with these samples too: on unseen ones
            the error is larger.
        notes: Assumptions and choices, for the report.
    """

    method: str
    samples: int
    layers: tuple[LayerRecord, ...] = ()
    before: float | None = None
    after: float | None = None
    notes: tuple[str, ...] = ()
