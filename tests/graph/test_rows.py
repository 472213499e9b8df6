"""Rows keep equal counts, whichever blocks lose whatever number a cell."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgec.graph.rows import Rows, Units, class_of

UNITS = 9


@st.composite
def boxes(draw: st.DrawFn) -> list[Units]:
    """A few matrices of units 0 … 8; unit 0 is fixed."""
    shapes = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=3))
    cell = st.integers(0, UNITS - 1)
    return [
        np.array(draw(st.lists(cell, min_size=h * w, max_size=h * w)), np.int64).reshape(h, w)
        for h, w in shapes
    ]


@given(boxes(), st.integers(0, 2**32 - 1))
def test_rows_stay_even(found: list[Units], seed: int) -> None:
    rows = Rows(found, UNITS)
    free = np.ones(rows.cells, bool)
    for unit in rows.clashing:
        free[rows.cell_of[unit]] = False
    free = rows.settle(free)
    blocks = rows.blocks(free)
    rng = np.random.default_rng(seed)
    lost = np.zeros(UNITS, bool)
    for block in np.unique(blocks[free]):
        cells = np.flatnonzero(free & (blocks == block))
        members = [np.flatnonzero(rows.cell_of == cell) for cell in cells]
        count = rng.integers(0, min(map(len, members)) + 1)
        for own in members:
            lost[rng.permutation(own)[:count]] = True
    for box in found:
        assert len(np.unique(lost[box].sum(1))) == 1


def test_a_unit_in_several_rows_binds_them() -> None:
    """Keys 1 and 2 are read by query rows 0, 1 and by rows 2, 3: one cell each, one block."""
    queries = np.array([[1, 2], [1, 2], [3, 4], [3, 4]])
    rows = Rows([queries], 5)
    assert rows.cells == 2
    assert rows.cell_of.tolist() == [-1, 0, 0, 1, 1]
    free = np.ones(2, bool)
    assert rows.settle(free).all()
    assert len(set(rows.blocks(free).tolist())) == 1


def test_a_row_that_cannot_lose_as_much_holds_the_others() -> None:
    rows = Rows([np.array([[1, 2], [3, 0]])], 4)
    assert rows.settle(np.ones(2, bool)).all()  # one each
    assert not rows.settle(np.array([True, False])).any()


def test_unequal_times_in_one_box_clash() -> None:
    rows = Rows([np.array([[1, 1, 2], [1, 3, 3]])], 4)
    assert rows.clashing.tolist() == [1]


def test_sorts_that_are_even_alone_are_apart() -> None:
    """1, 2 lie in the second box too; 3, 4 in the first one only."""
    rows = Rows([np.array([[1, 3], [2, 4]]), np.array([[1], [2]])], 5)
    blocks = rows.blocks(np.ones(rows.cells, bool))
    of = dict(zip(range(1, 5), blocks[rows.cell_of[1:]].tolist(), strict=True))
    assert of[1] == of[2] != of[3] == of[4]


def test_classes() -> None:
    item, place = np.array([0, 1, 1, 3, 3]), np.array([0, 0, 1, 1, 0])
    classes = class_of(item, place, np.ones_like(item), 4, 2)
    assert classes[1] == classes[3]
    assert len(set(classes.tolist())) == 3
