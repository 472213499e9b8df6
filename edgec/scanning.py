"""What `edgec quantize-scan` answers: which layers bear few bits, and how many each should get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from edgec.budget import Budget
from edgec.calibration.data import Data, DataSpec, load_data
from edgec.calibration.grid import Grid
from edgec.calibration.ranges import observe, ranges_of
from edgec.errors import UsageError
from edgec.feeds import fix_shapes_by_sample, input_types
from edgec.foreign import translated
from edgec.graph.cost import is_weight
from edgec.model import load
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.opset import RaiseOpset
from edgec.passes.quantize.bits import (
    FLOAT,
    Allocation,
    Table,
    damages_of,
    read_latencies,
    stored_bytes,
    up_to,
    within,
)
from edgec.passes.quantize.place import place
from edgec.passes.quantize.placement import Placement
from edgec.passes.quantize.sensitivity import Scan, scan
from edgec.preparing import prepared
from edgec.report import finite
from edgec.targets import load_profile

_PAIRS = 13  # the operator set from which on all that is quantised today has its operators
_OBSERVER = "mse"


@dataclass(frozen=True)
class ScanReport:
    """What a scan found, and what follows from it.

    Attributes:
        scan: The damages.
        floats: Products that the target does not quantise, and why.
        allocation: Bits of every layer, if there was a bound.
        cost: What the allocation's costs are: `bytes` of the layers' weights, or `ms`.
    """

    scan: Scan
    floats: Mapping[str, str]
    allocation: Allocation | None
    cost: str

    def to_json(self) -> dict[str, Any]:
        """Plain data; a damage without bound is null."""
        chosen = None if self.allocation is None else self.allocation.bits
        document = {
            "method": self.scan.method,
            "metric": self.scan.metric,
            "resumed": self.scan.resumed,
            "rows": [asdict(row) for row in self.scan.rows],
            "silent": dict(self.scan.silent),
            "floats": dict(self.floats),
            "allocation": None
            if self.allocation is None or chosen is None
            else {
                "bits": dict(chosen),
                "damage": self.allocation.damage,
                self.cost: self.allocation.cost,
            },
        }
        return dict(finite(document))


def quantize_scan(
    model: Any,
    *,
    data: DataSpec | None = None,
    target: str = "cpu",
    bits: Sequence[int] = (8, 4),
    method: str = "output",
    metric: str = "error",
    activations: bool = False,
    samples: int | None = None,
    resume: str | None = None,
    inputs: Mapping[str, Sequence[int]] | None = None,
    size: str | float | None = None,
    latency: float | None = None,
    latencies: str | None = None,
    max_drop: float | None = None,
) -> ScanReport:
    """Ranks the layers of a model by the damage that few bits do to its outputs.

    Args:
        model: See `edgec.load`.
        data: Samples, labelled ones if the metric wants labels.
        target: Its rules say which layers are quantised.
        bits, method, metric, samples, resume: See `edgec.passes.quantize.sensitivity.scan`.
        activations: Whether what a layer reads is rounded with its weight, as the target does it.
        inputs: Concrete shapes for symbolic inputs.
        size: Bound on the bytes of all weights, as a kept ratio or absolute (`0.2`, `4MB`).
        latency: Bound on the milliseconds of the layers in `latencies`.
        latencies: A JSON file: layer → precision → milliseconds.
        max_drop: Bound on the sum of the damages; the smallest (or, with `latencies`, fastest)
            choice within it is taken.

    Raises:
        UsageError: An option is wrong, or the data do not fit.
        BudgetError: No choice of bits meets the bound.
    """
    _check_bounds(size, latency, latencies, max_drop)
    rules = load_profile(target).quantize
    if rules is None:
        raise UsageError(
            f"--target {target}", "computes nothing in integers", "name another target"
        )
    shapes = {k: tuple(v) for k, v in inputs.items()} if inputs else None
    original = load(model, inputs=shapes)
    samples_of = None if data is None else load_data(data, input_types(original))
    if samples_of is not None:
        fix_shapes_by_sample(original, samples_of)
    ready = FuseBatchNorm()(prepared(original), Context())
    if activations:
        ready = RaiseOpset(_PAIRS)(ready, Context())
    placement = place(ready, rules)
    with translated("the model"):
        grids = _grids(ready, placement, samples_of) if activations else None
        found = scan(
            ready, placement, samples_of, bits=bits, method=method, metric=metric,
            grids=grids, samples=samples, resume=resume,
        )  # fmt: skip
    damages = damages_of(found)
    times = None if latencies is None else read_latencies(latencies, found)
    costs: Table = times or {
        layer.name: {b: stored_bytes(layer, b) for b in (*bits, FLOAT)} for layer in found.layers
    }
    allocation = None
    if max_drop is not None:
        allocation = up_to(damages, costs, max_drop)
    elif latency is not None:
        allocation = within(damages, costs, latency, f"--latency {latency:g}")
    elif size is not None:
        budget = Budget.parse("size", size)
        whole = _weight_bytes(ready)
        rest = whole - sum(4 * layer.params for layer in found.layers)
        allocation = within(damages, costs, budget.bound(whole) - rest, f"--size {budget}")
    return ScanReport(found, placement.floats, allocation, "ms" if times else "bytes")


def _grids(model: ir.Model, placement: Placement, data: Data | None) -> dict[str, Grid]:
    """The grids of the activations, as the quantise pass finds them."""
    if data is None:
        raise UsageError("--activations", "needs samples", "give --data")
    seen = observe(model, [point.value for point in placement.points], data)
    return ranges_of(seen, _OBSERVER, placement.rules.activations, placement.tied)


def _check_bounds(
    size: str | float | None, latency: float | None, latencies: str | None, max_drop: float | None
) -> None:
    """One bound at most; wrong ones are told before the work."""
    names = ("--size", "--latency", "--max-drop")
    given = [n for n, v in zip(names, (size, latency, max_drop), strict=True) if v is not None]
    if len(given) > 1:
        raise UsageError(" and ".join(given), "are two bounds", "give one; it is met exactly")
    if size is not None:
        Budget.parse("size", size)
        if latencies is not None:
            raise UsageError("--latencies", "says nothing about --size", "give --latency")
    if latency is not None and latencies is None:
        raise UsageError("--latency", "needs the time of each layer", "give --latencies FILE")
    for name, value in (("--latency", latency), ("--max-drop", max_drop)):
        if value is not None and not 0 <= value < float("inf"):
            raise UsageError(f"{name} {value}", "is no bound", "give a number, 0 or more")


def _weight_bytes(model: ir.Model) -> int:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None and is_weight(tensor))
