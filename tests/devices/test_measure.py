"""Measuring takes bounded time, keeps every sample, and says what it could not find out."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable

import pytest

from edgec.devices import LocalDevice, NullDevice, Pair, Verdict, compare, measure_pair
from edgec.devices.base import Run


def run_a() -> None:
    raise AssertionError("the null device runs nothing")


def run_b() -> None:
    run_a()


def null(a_ns: int, b_ns: int) -> NullDevice:
    def latency(run: Run, count: int) -> int:
        return round((a_ns if run is run_a else b_ns) * (1 + count * 7919 % 100 / 10**5))

    return NullDevice(latency)


def measured(device: NullDevice, budget_s: float = 3.0, **options: int) -> tuple[Pair, float]:
    pair = measure_pair(run_a, run_b, device=device, budget_s=budget_s, **options)
    return pair, device.now() / 1e9


@pytest.mark.parametrize("a_ns", [10_000, 1_000_000, 30_000_000, 180_000_000])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 3.0])
def test_time_is_bounded_and_there_are_enough_blocks(a_ns: int, ratio: float) -> None:
    b_ns = round(a_ns * ratio)
    pair, seconds = measured(null(a_ns, b_ns))
    assert seconds <= 6 + (a_ns + b_ns) / 1e9
    assert len(pair.a.blocks) == len(pair.b.blocks) == pair.comparison.blocks >= 5
    assert pair.comparison.ratio == pytest.approx(ratio, rel=2e-3)
    assert pair.a.steady == pair.b.steady == (2 * (a_ns + b_ns) < 0.2 * 3e9)
    expected = {0.1: Verdict.FASTER, 1.0: Verdict.SAME, 3.0: Verdict.SLOWER}
    assert pair.comparison.verdict is expected[ratio]


@pytest.mark.parametrize("a_ns", [1_000, 100_000, 1_000_000, 20_000_000])
def test_the_time_is_used_unless_there_are_samples_enough(a_ns: int) -> None:
    pair, seconds = measured(null(a_ns, a_ns))
    assert 2.5 <= seconds <= 3.5 or pair.a.n == 80 * 64
    assert len(pair.a.blocks) >= 36


def test_a_model_that_takes_seconds_gets_no_verdict() -> None:
    pair, seconds = measured(null(2_000_000_000, 1_000_000_000))
    assert seconds <= 9
    assert pair.comparison.verdict is Verdict.AMBIGUOUS
    assert "n too small" in pair.comparison.reason
    assert pair.comparison.ratio == 0.5


def test_a_model_that_takes_longer_than_there_is_time() -> None:
    pair, seconds = measured(null(20_000_000_000, 10_000_000_000))
    assert seconds <= 30.1
    assert pair.a.blocks == ((20_000_000_000,),)
    assert pair.a.p50_ms is None
    assert pair.comparison.verdict is Verdict.AMBIGUOUS


def test_every_model_that_is_measured_runs_in_turn() -> None:
    order: list[Run] = []

    def latency(run: Run, count: int) -> int:
        order.append(run)
        return 200_000_000

    pair, _ = measured(NullDevice(latency), seed=3)
    timed = order[-2 * len(pair.a.blocks) :]
    pairs = [tuple(timed[i : i + 2]) for i in range(0, len(timed), 2)]
    assert {frozenset(both) for both in pairs} == {frozenset((run_a, run_b))}
    assert len(set(pairs)) == 2  # in either order


def test_the_first_run_and_the_warm_up_are_kept_apart() -> None:
    def cold(run: Run, count: int) -> int:
        return 500_000_000 if count == 0 else 1_000_000 + 100_000 * max(0, 30 - count)

    pair, _ = measured(NullDevice(cold))
    assert pair.a.first_ns == 500_000_000
    assert max(pair.a.samples) < 1_200_000


def test_a_warm_up_without_an_end_is_said() -> None:
    pair, _ = measured(NullDevice(lambda run, count: round(1_000_000 * 1.03**count)))
    assert not pair.a.steady


def test_same_device_same_result() -> None:
    assert measured(null(10**6, 10**6)) == measured(null(10**6, 10**6))


def test_compare_of_two_latencies_is_the_pairs_comparison() -> None:
    pair, _ = measured(null(10**6, 2 * 10**6))
    assert compare(pair.a, pair.b, margin=0.01) == pair.comparison


def test_the_report_holds_everything() -> None:
    pair, _ = measured(null(10**6, 2 * 10**6), threads=2)
    report = json.loads(json.dumps(pair.to_json()))
    assert report["comparison"]["verdict"] == "SLOWER"
    original = report["original"]
    assert sum(map(len, original["blocks_ns"])) == original["n"] == pair.a.n
    assert original["percentile_method"] == "nearest-rank"
    assert original["threads"] == 2
    assert original["p50_ms"] == pair.a.p50_ms == pytest.approx(1, rel=1e-3)
    assert original["min_ms"] <= original["p50_ms"] <= original["p90_ms"] <= original["p99_ms"]


def spin(ms: float) -> Callable[[], None]:
    def run() -> None:
        end = time.perf_counter_ns() + round(ms * 1e6)
        while time.perf_counter_ns() < end:
            pass

    return run


def test_this_machine() -> None:
    pair = measure_pair(spin(1), spin(4), budget_s=0.5)
    # Each run spins for at least its time, however busy the machine is; nothing else is promised.
    assert min(pair.a.samples) >= 1_000_000
    assert min(pair.b.samples) >= 4_000_000
    assert pair.a.device["name"] == "local"
    json.dumps(pair.to_json())
    assert gc.isenabled()


def test_what_this_machine_says_of_itself() -> None:
    device = LocalDevice()
    facts = device.facts()
    assert facts["cores"] >= 1
    assert device.margin in (0.01, 0.03)
    assert 5e6 <= device.timed(lambda: time.sleep(0.005)) < 5e9
    assert device.now() <= device.now()
