"""From samples to grids: the values that a model computes are observed once, in one pass over the
samples; any number of ranges can then be chosen.

Memory does not depend on the number of samples. Each core runs batches of its own, as small as
pays, and one session holds the weights for all.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import onnx_ir as ir

from edgec.calibration.grid import Grid, Scheme
from edgec.calibration.histogram import Histogram
from edgec.calibration.memory import give_back
from edgec.calibration.moments import Batches, batches_of
from edgec.calibration.observers import OBSERVERS
from edgec.calibration.unsound import check_finite
from edgec.calibration.watch import Feeds, Seen, Watch
from edgec.errors import UsageError
from edgec.suggest import check_known

_BATCH_BYTES = 2 << 20  # of the widest tensor: larger batches gain no time and take memory
_LARGEST_BATCH = 64
_VALUES = 1 << 18  # to take of each tensor, over all samples
_HELD_BYTES = 8 << 20  # of values that go into histograms at once


def observe(
    model: ir.Model,
    names: Collection[str],
    data: Batches,
    *,
    samples: int | None = None,
    batch_size: int | None = None,
    channels: Mapping[str, int] | None = None,
) -> dict[str, Histogram]:
    """Statistics of values over the samples.

    Args:
        model: Computes the values; not changed.
        names: The values; float tensors, inputs of the model among them.
        data: The samples.
        samples: Observe so many of them, spread evenly; None: all.
        batch_size: Samples to run at once; None: as many as pay. A model may fix it.
        channels: Value → the axis of its channels, if the mean of each is wanted. Not 0.

    Errors:
        UsageError: A name is no such value; there are no samples; a value is not finite.
    """
    if not names:
        return {}
    first = next(batches_of(model, data, 1), None)
    if first is None:
        raise UsageError(
            "calibration data",
            "hold no full batch",
            "give as many samples as the model takes at once",
        )
    count = len(data) if isinstance(data, Sized) else samples or _VALUES // 512
    taken = min(max(_VALUES // max(min(count, samples or count), 1), 256), 4096)
    watch = Watch(model, names, first, taken=taken, threads=1, channels=channels)
    size = batch_size or min(max(_BATCH_BYTES // watch.widest, 1), _LARGEST_BATCH)
    found = {name: Histogram.empty() for name in watch.names}
    held: dict[str, list[Seen]] = {name: [] for name in watch.names}
    waiting = 0
    for feeds, seen in _in_turn(watch, batches_of(model, data, size, samples)):
        for name, part in seen.items():
            if not np.isfinite(part.mean).all():
                check_finite(model, name, feeds)  # a mean of finite values may overflow
            held[name].append(part)
        waiting += sum(part.values.nbytes for part in seen.values())
        if waiting >= _HELD_BYTES:
            _pour(held, found, watch.by_channel)
            waiting = 0
    _pour(held, found, watch.by_channel)
    del watch
    give_back()
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_turn(watch: Watch, batches: Iterable[Feeds]) -> Iterator[tuple[Feeds, dict[str, Seen]]]:
    """The batches and what they show, in their order; each core runs one at a time."""
    workers = _cores()
    running: deque[tuple[Feeds, Future[dict[str, Seen]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, feeds in enumerate(batches):
                running.append((feeds, pool.submit(watch, feeds, number)))
                if len(running) > workers:
                    before, seen = running.popleft()
                    yield before, seen.result()
            for before, seen in running:
                yield before, seen.result()
        finally:
            for _, seen in running:
                seen.cancel()


def _pour(
    held: dict[str, list[Seen]], found: dict[str, Histogram], by_channel: Collection[str]
) -> None:
    for name, parts in held.items():
        if parts:
            new = Histogram.of(
                np.concatenate([p.values for p in parts]),
                np.concatenate([p.low for p in parts]),
                np.concatenate([p.high for p in parts]),
                sum(p.total for p in parts),
                np.concatenate([p.mean for p in parts]) if name in by_channel else None,
            )
            found[name] = found[name].merged(new)
            parts.clear()


def ranges_of(
    histograms: Mapping[str, Histogram],
    observer: str,
    scheme: Scheme,
    tied: Iterable[frozenset[str]] = (),
) -> dict[str, Grid]:
    """The grid of each tensor.

    Args:
        histograms: What was observed.
        observer: A name in OBSERVERS.
        scheme: The integers.
        tied: Sets of tensors that share one grid: the union of their ranges.

    Errors:
        UsageError: The observer is unknown, or has seen too few samples.
    """
    check_known(f"observer '{observer}'", observer, OBSERVERS)
    rule = OBSERVERS[observer]
    ranges = {}
    for name, found in histograms.items():
        _check(name, found, observer)
        ranges[name] = rule.range(found, scheme)
    for names in tied:
        for name in names:
            check_known(f"tied activation '{name}'", name, ranges)
        low, high = (f(ranges[n][i] for n in names) for i, f in enumerate((min, max)))
        ranges |= dict.fromkeys(names, (low, high))
    return {name: Grid.of_range(scheme, low, high) for name, (low, high) in ranges.items()}


def _check(name: str, found: Histogram, observer: str) -> None:
    subject, least = f"activation '{name}'", OBSERVERS[observer].samples
    if found.nonfinite:
        fact = f"held {found.nonfinite} values that are not finite"
        raise UsageError(subject, fact, "keep it out of quantisation, or mend the model there")
    if not found.total:
        raise UsageError(subject, "was never seen with data", "observe it on some samples first")
    if found.samples < least:
        fact = f"needs {least} samples, and has seen {found.samples} of '{name}'"
        raise UsageError(f"observer '{observer}'", fact, "give more samples, or take 'minmax'")


def remarks(histograms: Mapping[str, Histogram]) -> dict[str, str]:
    """What is odd about tensors, for the record; their grids are sound all the same."""
    found = {}
    for name, seen in histograms.items():
        if seen.total and seen.least == seen.greatest:
            found[name] = f"is always {seen.least:g}"
    return found
