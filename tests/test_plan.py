"""plan.json: what it says can be read back, checked against its schema, and carried out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgec
from edgec.document import canonical
from edgec.errors import UsageError
from edgec.patterns import taken
from edgec.plan import Cut, Group, Mask, Norm, Plan, Slice, Weight, masked

SCHEMA = json.loads((Path(edgec.__file__).parent / "plan.schema.json").read_text())

# A convolution with 2 groups: 4 outputs, each reading 3 of 6 inputs. Group 0 keeps its inputs
# 0 and 2, group 1 its inputs 1 and 2; output 3 is dropped.
GROUPED = (
    Cut("w", 1, 3, ((0, 2), (1, 2)), "in", "conv", 1, rows=((0, 2),)),
    Cut("w", 0, 4, (0, 1, 2), "out", "conv", 1),
)
PLAN = Plan(
    "0" * 64,
    (*GROUPED, Cut("gamma", 0, 6, (1, 5), "both", "bn", 1)),
    (Mask("lrn", 0, 1, 6, (1, 5)),),
    (Norm("ln", 6, (1, 5), ((0, 2), (1, 0)), ((0, 2),)),),
    (Group("w", 4, (0, 1, 2), "flap"),),
    (
        Weight("w", (Slice(1, 3, ((0, 2), (1, 2)), ((0, 2),)), Slice(0, 4, (0, 1, 2)))),
        Weight("g", (), "its readers keep different parts of it"),
    ),
)


def test_reads_back_what_it_wrote() -> None:
    assert Plan.from_json(json.loads(canonical(PLAN.to_json()))) == PLAN


def test_fits_its_schema() -> None:
    jsonschema.validate(json.loads(canonical(PLAN.to_json())), SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_rows_cut_each_block_by_itself() -> None:
    weight = np.arange(12).reshape(4, 3)
    assert taken(weight, GROUPED).tolist() == [[0, 2], [3, 5], [7, 8]]
    # The output cut has no say in what is zeroed.
    assert masked(weight, GROUPED).tolist() == [[0, 0, 2], [3, 0, 5], [0, 7, 8], [0, 10, 11]]


def test_rows_over_two_axes() -> None:
    weight = np.arange(2 * 4 * 2).reshape(2, 4, 2)
    cut = Cut("w", 2, 2, ((0,), (1,), (1,), (0,)), "in", "n", 1, rows=((0, 2), (1, 2)))
    assert taken(weight, [cut])[..., 0].tolist() == [[0, 2, 5, 7], [9, 11, 12, 14]]


def test_rows_that_follow_the_axis() -> None:
    cut = Cut("w", 0, 3, ((0, 1), (1, 2)), "in", "n", 1, rows=((1, 2),))
    assert taken(np.arange(6).reshape(3, 2), [cut]).tolist() == [[0, 3], [2, 5]]


def test_a_dropped_block_keeps_nothing() -> None:
    cuts = (
        Cut("w", 1, 3, ((0, 2), ()), "in", "conv", 1, rows=((0, 2),)),
        Cut("w", 0, 4, (0, 1), "out", "conv", 1),
    )
    assert taken(np.arange(12).reshape(4, 3), cuts).tolist() == [[0, 2], [3, 5]]


def test_refuses_what_is_not_a_box() -> None:
    lopsided = Cut("w", 1, 3, ((0, 2), (1,)), "in", "conv", 1, rows=((0, 2),))
    with pytest.raises(UsageError, match="unequal numbers"):
        taken(np.zeros((4, 3)), [lopsided])


@pytest.mark.parametrize("shape", [(4,), (4, 2), (3, 3)])
def test_refuses_an_array_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        GROUPED[0].mask(shape)


@given(st.data())
def test_taking_is_indexing(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    array = np.arange(np.prod(shape)).reshape(shape)
    expected, zeroed, cuts = array, array.copy(), []
    for axis, size in enumerate(shape):
        kept = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
        cuts.append(Cut("w", axis, size, tuple(kept), "in", "n", 1))
        expected = np.take(expected, kept, axis)
        dropped = [i for i in range(size) if i not in kept]
        zeroed[(slice(None),) * axis + (dropped,)] = 0
    np.testing.assert_array_equal(taken(array, cuts), expected)
    np.testing.assert_array_equal(masked(array, cuts), zeroed)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every value inside a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    inner = [
        deeper
        for key, child in items
        if isinstance(child, dict | list)
        for deeper in places(child, (*path, key))
    ]
    return [
        (*path, key) for key in (value if isinstance(value, dict) else range(len(value)))
    ] + inner


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(places(PLAN.to_json())), JSON)
def test_hostile_documents_are_usage_errors(path: tuple[Any, ...], value: Any) -> None:
    document = PLAN.to_json()
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    try:
        plan = Plan.from_json(document)
    except UsageError:
        return
    # Whatever is accepted is a plan: the schema agrees, and it reads back.
    jsonschema.validate(document, SCHEMA)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("path", "value", "fact"),
    [
        (("format",), 2, "format 2"),
        (("source", "sha256"), "xyz", "64 hexadecimal"),
        (("cuts", 0, "axis"), -1, "out of range"),
        (("cuts", 0, "axis"), True, "not an integer"),
        (("cuts", 0, "kept"), [[0, 2]], "another number of blocks"),
        (("cuts", 0, "kept"), [[0, 2], [1]], "unequal length"),
        (("cuts", 0, "rows"), [[1, 2]], "every axis once"),
        (("cuts", 1, "kept"), [0, 0], "not increasing"),
        (("cuts", 1, "kept"), [0, 4], "not increasing"),
        (("cuts", 1, "kept"), [-1], "not increasing"),
        (("cuts", 1, "role"), "through", "not one of"),
        (("cuts", 1, "extra"), 1, "unknown key"),
        (("masks",), None, "not a list"),
        (("groups", 0, "kept"), [99], "not increasing"),
    ],
)
def test_each_error_is_named(path: tuple[Any, ...], value: Any, fact: str) -> None:
    document = PLAN.to_json()
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UsageError, match=fact):
        Plan.from_json(document)
