"""The laws of channel removal, as checks on any model.

- `cut`: the cut network computes what the original computes with the removed channels masked.
- `plan`: a stranger with plan.json, numpy and onnx alone comes to the same result.
- `permutation`: reordering the channels of a group everywhere changes no output.
- `identity`: removing nothing changes no byte.
- `count`: what is predicted of a cut is what is counted on it.

`obey` holds a model to all of them and says what it found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from zoo import check, feeds_of

import edgec.preparing
from edgec.graph.channels import ChannelGroups, Group, channel_groups
from edgec.graph.cost import CostModel, count
from edgec.graph.cut import CutResult, remove_channels
from edgec.graph.facts import facts_of
from edgec.graph.lint import lint
from edgec.graph.mask import masked_model
from edgec.model_inputs import input_shapes
from edgec.passes.base import Context
from laws.permutation import permuted
from laws.running import Array, Feeds, Lean, lean, outputs_of, run
from laws.stranger import Document, check_arrays, check_weights, masked_proto

TOLERANCE = 1e-5
"""Of the largest value of an output, before or after the masking."""


@dataclass(frozen=True)
class Found:
    """What a model was like under the laws.

    Attributes:
        groups: Channel groups.
        units: Units that can be removed, over all groups.
        pins: Entries of `ChannelGroups.pinned`.
        moved: Units that changed places under the permutation law.
        changed: Largest relative change of an output that masking made; 0 proves nothing.
    """

    groups: int
    units: int
    pins: int
    moved: int
    changed: float


def prepared(model: ir.Model) -> ir.Model:
    """The model as every build analyses it."""
    return edgec.preparing.prepared(model, Context())


def obey(
    model: ir.Model,
    seed: int = 0,
    draws: int = 3,
    dims: Mapping[str, int] | None = None,
    reordering: float = TOLERANCE,
    across_norms: bool = False,
    drop_heads: Sequence[str] = (),
) -> Found:
    """Holds a model to every law; an AssertionError names the law that is broken.

    Args:
        model: The model; it is folded first.
        seed: Of the removed sets, the permutation and the inputs.
        draws: How many removed sets are tried.
        dims: Sizes of symbolic input dims at run time (2 otherwise); the analysis is not told.
        across_norms, drop_heads: As for `channel_groups`.
        reordering: Tolerance of the permutation law, which adds up in another order.
    """
    original = lean(model)
    groups = channel_groups(prepared(model), across_norms=across_norms, drop_heads=drop_heads)
    feeds = feeds_of(groups.model, seed, dims)
    rng = np.random.default_rng(seed)
    costs = CostModel(groups)
    whole = run(groups.model, feeds)
    changed = 0.0
    for _ in range(draws):
        cut = remove_channels(groups, draw(groups, rng))
        outputs = cut_law(cut, feeds, whole)
        plan_law(cut, original, feeds, outputs, whole)
        count_law(cut, costs)
        changed = max(changed, *(gap(a, b, b) for a, b in zip(outputs, whole, strict=True)))
    identity_law(groups, costs)
    moved = permutation_law(groups, feeds, whole, rng, reordering)
    units = sum(len(group.units) for group in groups)
    return Found(len(groups), units, len(groups.pinned), moved, changed)


# --- which sets may be removed -------------------------------------------------------------------


def draw(groups: ChannelGroups, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random set of units that may be removed: as many of every row of a group."""
    picked = [
        unit for group in groups for unit in some_of(group, rng, int(rng.integers(group.depth)))
    ]
    return np.asarray(sorted(picked), np.int64)


def some_of(group: Group, rng: np.random.Generator, lost: int) -> list[int]:
    """`lost` random units of every row of a group."""
    rows = [group.units[group.cells == row] for row in range(group.rows)]
    return [int(unit) for row in rows for unit in rng.choice(row, lost, replace=False)]


# --- the laws ------------------------------------------------------------------------------------


def cut_law(cut: CutResult, feeds: Feeds, whole: list[Array]) -> list[Array]:
    """The cut model is well formed and equals the masked original; returns its outputs."""
    lint(cut.model)
    check(cut.model)
    outputs = run(cut.model, feeds)
    assert_equal("cut law", outputs, run(masked_model(cut.groups, cut.alive), feeds), whole)
    return outputs


def plan_law(
    cut: CutResult, original: Lean, feeds: Feeds, outputs: list[Array], whole: list[Array]
) -> None:
    """A stranger who holds the original file and plan.json comes to the same result."""
    document = Document.of(cut)
    proto, weights = original
    everything = {**feeds, **weights}
    masked = outputs_of(masked_proto(proto, document, everything), everything)
    assert_equal("cut law by plan.json", outputs, masked, whole)
    check_arrays(cut, document)
    check_weights(original, cut, document)


def count_law(cut: CutResult, costs: CostModel) -> None:
    """FLOPs, MACs, parameters and bytes are as predicted, to the last one."""
    shapes = dict(input_shapes(cut.groups.model))
    counted = count(cut.model, facts_of(cut.model, shapes))
    predicted = costs.totals(costs.removed(cut.alive))
    for metric in ("flops", "macs", "params", "size"):
        now, told = getattr(counted, metric), getattr(predicted, metric)
        assert now == told, f"count law: {metric} {now}, predicted {told}"


def identity_law(groups: ChannelGroups, costs: CostModel) -> None:
    """Removing nothing changes no byte."""
    cut = remove_channels(groups, [])
    count_law(cut, costs)
    before, after = lean(groups.model), lean(cut.model)
    assert before[0].SerializeToString() == after[0].SerializeToString(), "identity law"
    assert before[1].keys() == after[1].keys(), "identity law"
    for name, weight in before[1].items():
        assert weight.tobytes() == after[1][name].tobytes(), f"identity law: {name}"


def permutation_law(
    groups: ChannelGroups,
    feeds: Feeds,
    outputs: list[Array],
    rng: np.random.Generator,
    tolerance: float = TOLERANCE,
) -> int:
    """Reordering channels changes no output; how many units moved."""
    model, moved = permuted(groups, rng)
    if moved:
        assert_equal("permutation law", run(model, feeds), outputs, outputs, tolerance)
    return moved


def assert_equal(
    law: str,
    ours: list[Array],
    theirs: list[Array],
    whole: list[Array],
    tolerance: float = TOLERANCE,
) -> None:
    """Equal shapes, and values to `tolerance` of the largest.

    The largest is that of `theirs` or of the untouched outputs `whole`: where a mask leaves almost
    nothing of an output, rounding is still that of the numbers it was computed from.
    """
    for number, (a, b, c) in enumerate(zip(ours, theirs, whole, strict=True)):
        assert a.shape == b.shape, f"{law}: output {number} has shape {a.shape}, not {b.shape}"
        found = gap(a, b, c)
        assert found <= tolerance, f"{law}: output {number} is off by {found:.1e}"


def gap(a: Array, b: Array, c: Array) -> float:
    """Largest difference of a and b, relative to the largest value of b and c; NaN if one is."""
    if not a.size:
        return 0.0
    scale = float(max(np.abs(b).max(), np.abs(c).max()))
    difference = float(np.abs(a.astype(np.float64) - b).max())
    return difference / scale if scale > 0 else difference
