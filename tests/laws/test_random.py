"""The laws over random networks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.random_graphs import random_model

from laws import obey

CHUNK, CHUNKS = 25, 24


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_networks(chunk: int) -> None:
    """Fixed seeds, so that the next run meets the same networks; and they are not all pinned."""
    found = {seed: check(seed) for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK)}
    assert sum(groups > 0 for groups in found.values()) >= CHUNK * 3 // 4
    assert sum(found.values()) >= 2 * CHUNK


@settings(max_examples=25)
@given(st.integers(0, 2**20))
def test_fresh_networks(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.integers(0, 2**20))
def test_many_networks(seed: int) -> None:
    check(seed)


def check(seed: int) -> int:
    """Holds one network to the laws; its number of groups."""
    try:
        return obey(random_model(seed), seed, draws=2).groups
    except Exception as error:
        error.add_note(f"random network {seed}: zoo.random_graphs.random_text({seed})")
        raise
