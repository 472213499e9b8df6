"""Bits under a bound: as good as trying every choice, and clear where none is good enough."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.errors import BudgetError, UsageError
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
from edgec.passes.quantize.placement import Weight
from edgec.passes.quantize.sensitivity import Layer, Scan, Sensitivity

BITS = (4, 8, FLOAT)
TABLES = st.lists(
    st.tuples(st.floats(0, 5), st.floats(0, 5), st.integers(1, 1000)), min_size=1, max_size=5
)


def tables(rows: list[tuple[float, float, int]]) -> tuple[Table, Table]:
    damages = {f"l{i}": {4: a, 8: b, FLOAT: 0.0} for i, (a, b, _) in enumerate(rows)}
    costs = {f"l{i}": {b: n * b / 8 for b in BITS} for i, (_, _, n) in enumerate(rows)}
    return damages, costs


def every(damages: Table, costs: Table) -> list[Allocation]:
    """All choices there are."""
    found = []
    for bits in product(*(own for own in damages.values())):
        chosen = dict(zip(damages, bits, strict=True))
        sums = [sum(t[n][b] for n, b in chosen.items()) for t in (damages, costs)]
        found.append(Allocation(chosen, *sums))
    return found


@given(TABLES, st.floats(0, 1))
def test_least_damage_within_a_budget(rows: list[tuple[float, float, int]], share: float) -> None:
    damages, costs = tables(rows)
    choices = every(damages, costs)
    low, high = (f(c.cost for c in choices) for f in (min, max))
    budget = low + share * (high - low)
    found = within(damages, costs, budget)
    assert found.cost <= budget * (1 + 1e-9)
    assert found.damage <= min(c.damage for c in choices if c.cost <= budget) + 1e-9
    assert found in [Allocation(c.bits, found.damage, found.cost) for c in choices]


@given(TABLES, st.floats(0, 10))
def test_least_cost_up_to_a_damage(rows: list[tuple[float, float, int]], most: float) -> None:
    damages, costs = tables(rows)
    found = up_to(damages, costs, most)
    assert found.damage <= most + 1e-9
    assert found.cost <= min(c.cost for c in every(damages, costs) if c.damage <= most) + 1e-6


def test_a_damage_without_bound_is_never_chosen() -> None:
    damages = {"a": {4: math.inf, 8: 1.0}, "b": {4: 2.0, 8: math.inf}}
    costs = {name: {4: 1.0, 8: 2.0} for name in damages}
    assert within(damages, costs, 100).bits == {"a": 8, "b": 4}


def test_bounds_that_cannot_be_met() -> None:
    damages, costs = tables([(1.0, 0.5, 80), (1.0, 0.5, 16)])
    with pytest.raises(BudgetError, match="--size 40: is below the least that can be reached, 48"):
        within(damages, costs, 40, "--size 40")
    floatless = {
        name: {b: d for b, d in own.items() if b != FLOAT} for name, own in damages.items()
    }
    with pytest.raises(BudgetError, match="--max-drop: is below the least that can be reached, 1"):
        up_to(floatless, costs, 0.9)
    with pytest.raises(BudgetError, match="'l0': has no precision with both"):
        within(damages, {"l0": {16: 1.0}, "l1": costs["l1"]}, 100)


def layer(name: str, params: int = 72, channels: int = 8) -> Layer:
    return Layer(name, Weight(f"{name}.w", ((name, 1),), 0), "Conv", params, channels)


SCAN = Scan(
    "output", "error", (layer("a"), layer("b")), (Sensitivity("a", 4, 0.5),), {"b": "why"}, 0
)


def test_layers_of_which_nothing_is_known_stay_floats() -> None:
    assert damages_of(SCAN) == {"a": {4: 0.5, FLOAT: 0.0}, "b": {FLOAT: 0.0}}


def test_bytes_are_those_of_the_stored_arrays() -> None:
    own = layer("a", params=9 * 7, channels=7)
    packed = np.zeros(32, np.uint8)  # 63 integers of 4 bits
    scales, zeros = np.zeros(7, np.float32), np.zeros(4, np.uint8)
    assert stored_bytes(own, 4) == packed.nbytes + scales.nbytes + zeros.nbytes
    assert stored_bytes(own, 8) == 63 + 28 + 7
    assert stored_bytes(own, FLOAT) == 252


def test_latencies_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ms.json"
    path.write_text(json.dumps({"a": {"8": 0.5, "32": 1}, "b": {"4": 0.25}, "other": {}}))
    assert read_latencies(path, SCAN) == {"a": {8: 0.5, FLOAT: 1.0}, "b": {4: 0.25}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is no table of layers"),
        ('{"a": {"8": 1}}', "says nothing about layer 'b'"),
        ('{"a": {"8": 1}, "b": 3}', "'b': is no table of precisions"),
        ('{"a": {"8": 1}, "b": {}}', "'b': is no table of precisions"),
        ('{"a": {"8": -1}, "b": {"8": 1}}', "has '8': -1"),
        ('{"a": {"8": true}, "b": {"8": 1}}', "has '8': True"),
        ('{"a": {"int8": 1}, "b": {"8": 1}}', "has 'int8': 1"),
        ("{", "is not"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "ms.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as raised:
        read_latencies(path, SCAN)
    assert raised.value.remedy
