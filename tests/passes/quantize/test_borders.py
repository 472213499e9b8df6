"""The fewest casts, against all possibilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from edgec.passes.quantize.borders import half_side

Tensors = list[tuple[int, list[int]]]


def casts(side: Sequence[bool], tensors: Tensors) -> int:
    """One for each tensor that somebody reads on the other side."""
    return sum(any(side[r] != side[p] for r in readers) for p, readers in tensors)


@pytest.mark.parametrize("seed", range(60))
def test_no_choice_has_fewer_casts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 10))
    tensors = [(p, rng.integers(p + 1, size, rng.integers(1, 4)).tolist()) for p in range(size - 1)]
    picked = rng.permutation(size)
    half, full = picked[: size // 4].tolist(), picked[size // 4 : size // 2].tolist()
    found = half_side(size, half, full, tensors)
    assert found >= set(half)
    assert not found & set(full)
    sides = [
        s for s in product([False, True], repeat=size)
        if all(s[i] for i in half) and not any(s[i] for i in full)
    ]  # fmt: skip
    least = min(casts(s, tensors) for s in sides)
    assert casts([i in found for i in range(size)], tensors) == least
    assert len(found) == max(sum(s) for s in sides if casts(s, tensors) == least)


def test_an_island_grows_over_what_lies_between() -> None:
    """0 half; 1 and 3 full; 2 between them."""
    assert half_side(4, [0], [1, 3], [(0, [1]), (1, [2]), (2, [3])]) == {0}
