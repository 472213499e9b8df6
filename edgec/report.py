"""What a build found out, for people and for report.json."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgec.budget import Metric, amount, human
from edgec.calibration.evaluate import Accuracy
from edgec.compare import Difference
from edgec.devices.base import Pair
from edgec.explanation import Explanation, explain
from edgec.graph.channels import ChannelGroups
from edgec.graph.cost import Totals
from edgec.passes.prune.prune import Decision
from edgec.passes.quantize.formats import Summary
from edgec.passes.repair import RepairRecord
from edgec.verify import Check


@dataclass(frozen=True)
class BudgetResult:
    """A budget, and what became of it.

    Attributes:
        metric: `flops`, `macs`, `params` or `size`.
        asked: As the user wrote it.
        bound: The same as an absolute number.
        floor: The least that the graph allows on the grid.
        achieved: What the result has; None after a dry run.
        original: What the original has.
    """

    metric: Metric
    asked: str
    bound: float
    floor: float
    achieved: int | None
    original: int

    @property
    def kept(self) -> float | None:
        """achieved / original."""
        return None if self.achieved is None else self.achieved / max(self.original, 1)


@dataclass(frozen=True)
class BeforeAfter:
    """One figure of original and result."""

    before: Any
    after: Any


@dataclass(frozen=True)
class Quantised:
    """What the result computes with, where that is not what the original computes with.

    Attributes:
        numbers: The word after --quantize.
        summary: What is in these numbers, and why the rest is not.
        differences: The network before against the quantised graph, one per output.
        gain: Latencies of the network before and of the result, if they were measured.
    """

    numbers: str
    summary: Summary
    differences: tuple[Difference, ...]
    gain: Pair | None = None

    @property
    def snr_db(self) -> float:
        """That of the output that changed most."""
        return min((d.snr_db for d in self.differences), default=math.inf)

    def __str__(self) -> str:
        """One line."""
        apart = "equal to" if self.snr_db == math.inf else f"{self.snr_db:.1f} dB from"
        text = f"{self.numbers}: {self.summary.text}, {apart} the network before"
        if self.gain is not None:
            found = self.gain.comparison
            text += f", {found.ratio:.3f} of its latency ({found.verdict})"
        return text

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "numbers": self.numbers,
            "summary": self.summary.text,
            "how": self.summary.how,
            "floats": dict(self.summary.floats),
            "doubtful": dict(self.summary.doubtful),
            "differences": [asdict(d) for d in self.differences],
            "gain": None if self.gain is None else self.gain.to_json(),
        }


@dataclass(frozen=True)
class Report:
    """The result of a build.

    Attributes:
        path: The bundle's folder, None if none was written.
        target: Target and backend.
        costs: FLOPs, MACs, parameters, bytes of weights; before and after. None after a dry run.
        file_bytes: Size of the model file; before and after. None after a dry run.
        budgets: One per budget.
        criterion, allocator: How channels were chosen.
        decisions: One per channel group.
        repair: What the repair did.
        cut: The cut network against the masked original: the proof of the cut.
        quantised: What was quantised, None if nothing was.
        artifact: The loaded artifact against the network it was made from.
        drift: The loaded artifact against the original, on the same inputs.
        accuracy: Before and after, if there were labels.
        latency: Measured side by side on this machine, None if measuring was switched off.
        notes: What a reader has to know: missing data, assumptions.
        seconds: Phase → wall time, s.
        groups: The analysis of the original, without the values of its weights.
    """

    path: Path | None
    target: str
    costs: BeforeAfter
    file_bytes: BeforeAfter
    budgets: tuple[BudgetResult, ...]
    criterion: str
    allocator: str
    decisions: tuple[Decision, ...]
    repair: RepairRecord
    cut: Check
    quantised: Quantised | None
    artifact: Check
    drift: tuple[Difference, ...]
    accuracy: BeforeAfter | None
    latency: Pair | None
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    groups: ChannelGroups

    def __str__(self) -> str:
        """The table that the command line shows."""
        from edgec.console import printer, show_report

        text = io.StringIO()
        show_report(self, printer(text))
        return text.getvalue()

    def explain(self, channel: str) -> Explanation:
        """Why a channel is tied or pinned (`NODE:INDEX`)."""
        return explain(self.groups, channel)

    def to_json(self) -> dict[str, Any]:
        """Plain data; raw latency samples included."""
        document = {
            "path": None if self.path is None else str(self.path),
            "target": self.target,
            "costs": {"original": asdict(self.costs.before), "result": _data(self.costs.after)},
            "file_bytes": asdict(self.file_bytes),
            "budgets": [{**asdict(b), "kept": b.kept} for b in self.budgets],
            "criterion": self.criterion,
            "allocator": self.allocator,
            "groups": [asdict(d) for d in self.decisions],
            "repair": asdict(self.repair),
            "cut": _check(self.cut),
            "quantised": None if self.quantised is None else self.quantised.to_json(),
            "artifact": _check(self.artifact),
            "drift": [asdict(d) for d in self.drift],
            "accuracy": None
            if self.accuracy is None
            else {"original": asdict(self.accuracy.before), "result": asdict(self.accuracy.after)},
            "latency": None if self.latency is None else self.latency.to_json(),
            "notes": list(self.notes),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }
        return dict(finite(document))


def summary(totals: Totals) -> str:
    """The cost of a model on one line."""
    text = (
        f"{human(totals.params, 'params')} params · {amount(totals.flops, 'flops', 'FLOPs')} "
        f"({amount(totals.macs, 'macs', 'MACs')})"
    )
    if totals.uncounted:
        text += f" · not counted: {', '.join(totals.uncounted)}"
    return text


def _check(check: Check) -> dict[str, Any] | None:
    if not check.differences:  # a dry run
        return None
    return {
        "tolerance": check.tolerance,
        "differences": [asdict(d) for d in check.differences],
    }


def finite(value: Any) -> Any:
    """The same data with infinities and NaN as None: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _data(record: Any) -> dict[str, Any] | None:
    return None if record is None else asdict(record)


__all__ = [
    "Accuracy", "BeforeAfter", "BudgetResult", "Quantised", "Report", "Totals", "finite", "summary",
]  # fmt: skip
