"""Labels are the data's own movements, done to channel numbers."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgec.ops.labels import (
    Atoms,
    Factor,
    Ids,
    Labels,
    along,
    line_labels,
    on_axis,
    rename_axes,
    reshape,
    view_groups,
)


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(1, n), st.integers(1, n)), max_size=40)
        )
    )
)
def test_union_find_is_reachability(case: tuple[int, list[tuple[int, int]]]) -> None:
    size, ties = case
    atoms = Atoms()
    atoms.fresh(size, "w")
    for a, b in ties:
        atoms.unite(np.array([a]), np.array([b]))
    reach = np.eye(size + 1, dtype=bool)
    for a, b in ties:
        reach[a, b] = reach[b, a] = True
    for middle in range(size + 1):
        reach |= reach[:, middle : middle + 1] & reach[middle]
    roots = atoms.find(np.arange(size + 1))
    assert (reach == (roots[:, None] == roots)).all()


def test_many_ties_at_once_are_all_kept() -> None:
    atoms = Atoms()
    ids = atoms.fresh(5000, "w")  # more than the first table holds
    rng = np.random.default_rng(0)
    for _ in range(3):
        atoms.unite(ids, rng.permutation(ids))
    atoms.unite(ids[:-1], ids[1:])
    assert len(np.unique(atoms.find(ids))) == 1


def test_meeting_a_fixed_channel_pins() -> None:
    atoms = Atoms(here="Add")
    ids = atoms.fresh(3, "w")
    atoms.unite(ids, np.array([0, ids[0], 0]))
    (pin,) = atoms.pins
    assert pin.ids.tolist() == [ids[0], ids[2]]
    assert pin.where == "Add"
    assert atoms.find(ids).tolist() == [ids[0], ids[0], ids[2]]


def factorings(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of `size` elements."""
    divisors = [d for d in range(1, size + 1) if size % d == 0]

    def rest(first: int) -> st.SearchStrategy[tuple[int, ...]]:
        if first == size:
            return st.just((size,))
        return factorings(size // first).map(lambda more: (first, *more))

    return st.sampled_from(divisors[1:] or [1]).flatmap(rest)


shapes = st.sampled_from([(2, 8, 3), (2, 12, 2, 2), (1, 6), (3, 4, 5), (2, 16)])


@given(shapes, st.data())
def test_view_groups_cover_all_axes_in_order(before: tuple[int, ...], data: st.DataObject) -> None:
    after = data.draw(factorings(math.prod(before)))
    groups = view_groups(before, after)
    assert [axis for part, _ in groups for axis in part] == list(range(len(before)))
    assert [axis for _, part in groups for axis in part] == list(range(len(after)))
    for ours, theirs in groups:
        assert math.prod(before[a] for a in ours) == math.prod(after[a] for a in theirs)


def dense(atoms: Atoms, labels: Labels, shape: tuple[int, ...]) -> Ids:
    """The unit of every element; 0 where no factor says one."""
    found = np.zeros(shape, np.int64)
    for factor in labels:
        found = np.where(found == 0, np.broadcast_to(atoms.find(factor.ids), shape), found)
    return found


@given(shapes, st.data())
def test_labels_move_as_the_data_does(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Any chain of views, transposes and ties: the label array is what numpy makes of it.

    Where it no longer says anything, what it said is one unit with all else there, or pinned.
    """
    atoms = Atoms()
    labels = line_labels(atoms.fresh(shape[1], "w"), 1, len(shape))
    truth = dense(atoms, labels, shape)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            after = data.draw(factorings(math.prod(shape)))
            labels = reshape(atoms, labels, shape, after)
            truth = truth.reshape(after)
        else:
            perm = data.draw(st.permutations(range(len(shape))))
            labels = rename_axes(labels, list(perm).index, len(shape))
            truth = truth.transpose(perm)
        shape = truth.shape
        axes = [axis for factor in labels for axis in factor.order]
        assert len(axes) == len(set(axes))
        for factor in labels:
            varying = [a for a, size in enumerate(factor.ids.shape) if size > 1]
            assert sorted(factor.order) == varying
    found = dense(atoms, labels, shape)
    pinned = np.unique(np.concatenate([[0], *(pin.ids for pin in atoms.pins)]))
    silent = found == 0
    assert (found[~silent] == atoms.find(truth)[~silent]).all()
    assert np.isin(atoms.find(truth)[silent], atoms.find(pinned)).all()


def ragged(atoms: Atoms, rows: int, columns: int) -> Factor:
    ids = atoms.fresh(rows * columns, "w").reshape(1, rows, columns)
    return Factor(ids, (1, 2))


def test_fixing_the_inner_axis_leaves_whole_rows() -> None:
    atoms = Atoms()
    (left,) = atoms.fix((ragged(atoms, 3, 4),), 2, "why")
    assert left.order == (1,)
    assert not atoms.pins
    assert len(np.unique(atoms.find(left.ids))) == 3


def test_fixing_the_outer_axis_leaves_every_row_its_own_columns() -> None:
    atoms = Atoms()
    factor = ragged(atoms, 3, 4)
    assert atoms.fix((factor,), 1, "why") == (factor,)
    (whole,) = atoms.wholes
    assert whole.axis == 1
    assert not atoms.ties


def test_blending_the_outer_axis_ties_the_rows() -> None:
    atoms = Atoms()
    factor = ragged(atoms, 3, 4)
    (left,) = atoms.blend((factor,), 1, "why")
    assert left.order == (2,)
    units = atoms.find(factor.ids)
    assert (units == units[:, :1]).all()
    assert len(np.unique(units)) == 4


def test_fixing_a_plain_axis_pins() -> None:
    atoms = Atoms(here="Softmax")
    factor = along(atoms.fresh(3, "w"), 1, 2)
    assert atoms.fix((factor,), 1, "why") == ()
    assert [(p.ids.tolist(), p.where, p.why) for p in atoms.pins] == [([1, 2, 3], "Softmax", "why")]
    assert atoms.fix((factor,), 0, "why") == (factor,)


def test_a_line_of_ragged_labels_ties_the_rows() -> None:
    atoms = Atoms()
    factor = ragged(atoms, 3, 4)
    line = atoms.line((factor,), 2)
    assert line is not None
    assert line.shape == (4,)
    units = atoms.find(factor.ids)
    assert (units == atoms.find(line)).all()
    assert atoms.line((factor,), 0) is None


def test_one_unit_over_a_whole_value_is_pinned() -> None:
    atoms = Atoms()
    ids = atoms.fresh(4, "w")
    atoms.unite(ids, ids[:1])
    assert atoms.settle(along(ids, 0, 1)) is None
    assert [p.why for p in atoms.pins] == ["is the only channel of its axis"]


def test_single_channels_carry_no_labels() -> None:
    assert line_labels(np.array([7]), 1, 3) == ()
    assert line_labels(None, 1, 3) == ()
    assert on_axis(line_labels(np.array([7, 8]), 1, 3), 0) is None


def test_chains_of_ties_stay_near_linear() -> None:
    """Tied from the youngest to the oldest, every root hangs below a younger one."""
    atoms = Atoms()
    lines = [atoms.fresh(64, str(number)) for number in range(2000)]
    for young, old in itertools.pairwise(reversed(lines)):
        atoms.unite(young, old)
    start = time.process_time()
    assert set(atoms.find(np.arange(1, len(atoms))).tolist()) == set(range(1, 65))
    assert time.process_time() - start < 0.2  # a step for each tie takes some times as long
