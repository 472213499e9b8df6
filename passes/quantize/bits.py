"""How many bits each layer gets: exact, under one bound.

    minimise Σ damage   subject to   Σ cost ≤ budget         bytes, or milliseconds
    minimise Σ cost     subject to   Σ damage ≤ the most

over one precision for each layer (`edgec.passes.knapsack`). FLOAT stands for a layer that stays as
it is, without damage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgec.document import read_json
from edgec.errors import BudgetError, UsageError
from edgec.passes.knapsack import knapsack
from edgec.passes.quantize.placement import Placement
from edgec.passes.quantize.sensitivity import BITS, Layer, Scan

FLOAT = 32
Table = Mapping[str, Mapping[int, float]]
"""Layer → bits → a number."""


@dataclass(frozen=True)
class Allocation:
    """The bits of every layer.

    Attributes:
        bits: Layer → bits.
        damage: Sum of the damages, as far as it is known.
        cost: Sum of the costs.
    """

    bits: Mapping[str, int]
    damage: float
    cost: float


def damages_of(scan: Scan) -> dict[str, dict[int, float]]:
    """Every precision of every layer; FLOAT alone where the method says nothing."""
    found = scan.damages()
    return {layer.name: {FLOAT: 0.0, **found.get(layer.name, {})} for layer in scan.layers}


def stored_bytes(layer: Layer, bits: int) -> int:
    """Bytes of a layer's weight: integers, packed, with a float32 scale and a zero point each."""
    if bits == FLOAT:
        return 4 * layer.params
    return (
        math.ceil(layer.params * bits / 8)
        + layer.channels * 4
        + math.ceil(layer.channels * bits / 8)
    )


def within(damages: Table, costs: Table, budget: float, subject: str = "budget") -> Allocation:
    """The least damage that the budget allows.

    Raises:
        BudgetError: Not even the cheapest precisions fit.
    """
    return _solved(damages, costs, damages, costs, budget, subject)


def up_to(damages: Table, costs: Table, most: float, subject: str = "--max-drop") -> Allocation:
    """The least cost whose damage is at most `most`.

    Raises:
        BudgetError: No choice does as little damage.
    """
    return _solved(damages, costs, costs, damages, most, subject)


def _solved(
    damages: Table, costs: Table, losses: Table, spent: Table, bound: float, subject: str
) -> Allocation:
    options = {
        layer: [b for b in own if b in costs[layer] and math.isfinite(own[b])]
        for layer, own in damages.items()
    }
    for layer, own in options.items():
        if not own:
            raise BudgetError(
                f"layer '{layer}'", "has no precision with both a damage and a cost",
                "give costs for the precisions that are scanned",
            )  # fmt: skip
    values, prices = (
        [np.asarray([sign * table[layer][b] for b in own]) for layer, own in options.items()]
        for sign, table in ((-1.0, losses), (1.0, spent))
    )
    chosen = knapsack(values, prices, bound)
    if chosen is None:
        least = sum(float(own.min()) for own in prices)
        raise BudgetError(
            subject, f"is below the least that can be reached, {least:.6g}",
            "allow more, or let the scan try fewer or more bits",
        )  # fmt: skip
    bits = {layer: own[i] for (layer, own), i in zip(options.items(), chosen, strict=True)}
    total = [sum(table[layer][b] for layer, b in bits.items()) for table in (damages, costs)]
    return Allocation(bits, *total)


def with_bits(placement: Placement, bits: Mapping[str, int]) -> Placement:
    """The placement with the chosen bits of each layer; place it without `floats_of` first.

    Layers that are not named keep the bits they had.
    """
    weights = tuple(
        replace(weight, bits=bits.get(weight.readers[0][0], weight.bits))
        for weight in placement.weights
    )
    return replace(placement, weights=weights)


def floats_of(allocation: Allocation) -> tuple[str, ...]:
    """The layers that stay as they are: what `place` is to exclude."""
    return tuple(layer for layer, bits in allocation.bits.items() if bits == FLOAT)


def read_latencies(path: str | Path, scan: Scan) -> dict[str, dict[int, float]]:
    """Layer → precision → milliseconds, from JSON: `{"conv1": {"8": 0.11, "4": 0.09, "32": 0.3}}`.

    Raises:
        UsageError: The file is something else, or lacks a layer.
    """
    table = read_json(Path(path))
    remedy = 'give milliseconds for every layer: {"conv1": {"8": 0.11, "32": 0.3}, …}'
    if not isinstance(table, dict):
        raise UsageError(str(path), "is no table of layers", remedy)
    missing = [layer.name for layer in scan.layers if layer.name not in table]
    if missing:
        raise UsageError(str(path), f"says nothing about layer '{missing[0]}'", remedy)
    words = {str(bits): bits for bits in (*BITS, FLOAT)}
    found: dict[str, dict[int, float]] = {}
    for layer in scan.layers:
        row = table[layer.name]
        if not isinstance(row, dict) or not row:
            raise UsageError(f"{path}: '{layer.name}'", "is no table of precisions", remedy)
        for word, value in row.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if word not in words or not number or not 0 <= value < math.inf:
                raise UsageError(
                    f"{path}: '{layer.name}'", f"has {word!r}: {value!r}",
                    f"precisions are {', '.join(words)}; times are milliseconds, 0 or more",
                )  # fmt: skip
        found[layer.name] = {words[word]: float(value) for word, value in row.items()}
    return found
