"""How latency is measured, on any device: in bounded time, warm, in interleaved blocks.

    first run of each            kept apart
    warm-up                      alternating, until steady, for at most a fifth of the time
    block pairs                  a b, b a, … in random order, 40 to 80 pairs of up to 64 runs

A block of three runs or more starts with one that is not timed: the other model has just taken
the caches. Slow models get fewer pairs of single runs. To reach `min_blocks` pairs a measurement
may take twice its time, no more; with fewer pairs the verdict is AMBIGUOUS and says so.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from edgec.devices.base import Device, Latency, Pair, Run
from edgec.devices.local import LocalDevice
from edgec.devices.stats import Comparison, compare_blocks, is_steady

_PAIRS, _MAX_RUNS = 40, 64
_WARM_PART, _WINDOW_PART = 0.2, 0.01
_SETTLED_RUNS = 3


@dataclass(frozen=True)
class Preset:
    """How long to measure.

    Args:
        budget_s: Wall time, both models and the warm-up included, s.
        min_blocks: Pairs of blocks below which there is no verdict.
    """

    budget_s: float
    min_blocks: int


PRESETS = {"rapid": Preset(3, 5), "standard": Preset(10, 9)}


def measure_pair(
    run_a: Run,
    run_b: Run,
    *,
    device: Device | None = None,
    budget_s: float = PRESETS["rapid"].budget_s,
    min_blocks: int = PRESETS["rapid"].min_blocks,
    threads: int = 1,
    seed: int = 0,
) -> Pair:
    """Measure two models side by side.

    Args:
        run_a: One inference of the first (the original).
        run_b: One inference of the second (the result).
        device: Where; this machine if not given.
        budget_s: Wall time for all of it, s; at most doubled, plus one run of each model.
        min_blocks: Pairs of blocks below which there is no verdict.
        threads: Threads that the models compute with; for the record.
        seed: Of the order of the blocks and the bootstrap.
    """
    device = device or LocalDevice()
    runs = (run_a, run_b)
    before = dict(device.facts())
    with _no_collection():
        start = device.now()
        budget = round(budget_s * 1e9)
        first = [device.timed(run) for run in runs]
        steady, cost = [False, False], [float(ns) for ns in first]
        if device.now() - start < budget:
            steady, cost = _warm_up(device, runs, budget)
        left = max(0, budget - (device.now() - start))
        count, pairs = _plan(left, sum(cost), min_blocks)
        rng = np.random.default_rng(seed)
        blocks: tuple[list[tuple[int, ...]], ...] = ([], [])
        for done in range(pairs):
            spent = device.now() - start
            if spent > 2 * budget or (spent > budget and done >= min_blocks):
                break
            for which in rng.permutation(2):
                blocks[which].append(_block(device, runs[which], count))
    facts = {"name": device.name, "before": before, "after": dict(device.facts())}
    if not blocks[0]:  # one run of each took all of the time: these are all there is
        blocks = ([(first[0],)], [(first[1],)])
    a, b = (Latency(tuple(blocks[i]), first[i], steady[i], threads, facts) for i in range(2))
    return Pair(a, b, compare(a, b, margin=device.margin, min_blocks=min_blocks, seed=seed))


def compare(
    a: Latency, b: Latency, *, margin: float = 0.03, min_blocks: int = 5, seed: int = 0
) -> Comparison:
    """The latency of `b` relative to `a`, from blocks that were measured in pairs."""
    return compare_blocks(a.blocks, b.blocks, margin=margin, min_blocks=min_blocks, seed=seed)


def _warm_up(device: Device, runs: tuple[Run, Run], budget: int) -> tuple[list[bool], list[float]]:
    """Run both in turn until steady: whether each was, and its latest median, ns."""
    windows: tuple[list[float], list[float]] = ([], [])
    deadline = device.now() + round(budget * _WARM_PART)
    count = 1
    while True:
        for run, medians in zip(runs, windows, strict=True):
            medians.append(float(np.median([device.timed(run) for _ in range(count)])))
        if all(map(is_steady, windows)) or device.now() >= deadline:
            return [is_steady(medians) for medians in windows], [w[-1] for w in windows]
        cost = sum(medians[-1] for medians in windows)
        count = max(1, min(_MAX_RUNS, int(budget * _WINDOW_PART / max(1.0, cost))))


def _plan(left: int, cost: float, min_blocks: int) -> tuple[int, int]:
    """(runs per block, pairs of blocks) for the time left, when one run of each costs `cost`."""
    total = left / max(1.0, cost)  # runs of each that fit
    count = int(min(_MAX_RUNS, max(1, total // _PAIRS)))
    untimed = int(count >= _SETTLED_RUNS)
    return count, max(min_blocks, min(2 * _PAIRS, int(total // (count + untimed))))


def _block(device: Device, run: Run, count: int) -> tuple[int, ...]:
    if count >= _SETTLED_RUNS:
        device.timed(run)
    return tuple(device.timed(run) for _ in range(count))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the samples."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
