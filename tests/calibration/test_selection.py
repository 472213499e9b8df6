"""Chosen samples: the right ones, streamed, and described so that they can be told apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from zoo import Array, model_of

from edgec.calibration.data import Data, load_data
from edgec.calibration.ranges import observe
from edgec.calibration.selection import SELECTIONS, Selected, divergence, select
from edgec.errors import UsageError

LOGITS = model_of("(float[N,3] x) => (y) { y = Identity(x) }")


def data_of(x: Array, labels: Array | None = None, batch: int | None = None) -> Data:
    arrays = {"x": x} if labels is None else {"x": x, "labels": labels}
    return load_data(arrays, {"x": (x.dtype, (batch, *x.shape[1:]))})


def numbered(count: int, labels: Array | None = None, batch: int | None = None) -> Data:
    return data_of(np.arange(count, dtype=np.float32)[:, None], labels, batch)


def streamed(chosen: Selected, batch_size: int = 32) -> list[int]:
    return [int(v) for feeds in chosen.batches(batch_size) for v in feeds["x"][:, 0]]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("how", ["first", "random"])
def test_what_is_chosen_is_what_is_streamed(how: str, batch_size: int) -> None:
    chosen = select(numbered(50), 20, how)
    assert streamed(chosen, batch_size) == list(chosen.chosen)
    assert len(chosen) == len(set(chosen.chosen)) == 20
    assert (how == "first") == (list(chosen.chosen) == list(range(20)))
    sizes = [len(feeds["x"]) for feeds in chosen.batches(batch_size)]
    assert all(size == batch_size for size in sizes[:-1])


def test_a_fixed_batch_is_kept_and_a_partial_one_left_out() -> None:
    chosen = select(numbered(50, batch=8), 20, "random")
    assert streamed(chosen) == list(chosen.chosen[:16])
    last = select(numbered(9, batch=8), 8, "random", seed=3)
    assert streamed(last) == list(last.chosen)  # its ninth sample lies in a batch of its own


def test_the_same_seed_chooses_the_same() -> None:
    a, b, c = (select(numbered(100), 10, seed=seed) for seed in (1, 1, 2))
    assert list(a.chosen) == list(b.chosen) != list(c.chosen)


def test_there_are_no_more_than_there_are() -> None:
    for how in SELECTIONS:
        assert streamed(select(numbered(5), 5, how)) == list(range(5))
        assert len(select(numbered(5), 100, how)) == 5


def test_each_class_has_its_share() -> None:
    labels = np.repeat([7, 1, 3], [90, 8, 2])
    chosen = select(numbered(100, labels), 31, "class-stratified")
    found = dict(zip(*np.unique(labels[chosen.chosen], return_counts=True), strict=True))
    assert found == {3: 2, 1: 8, 7: 21}
    even = select(numbered(100, np.arange(100) % 5), 50, "class-stratified")
    assert set(np.unique(even.chosen % 5, return_counts=True)[1]) == {10}


def test_classes_need_labels() -> None:
    with pytest.raises(UsageError, match="has no labels"):
        select(numbered(10), 5, "class-stratified")


def test_coverage_takes_rare_margins_first() -> None:
    """A thousand easy samples and ten hard ones: half of twenty are hard."""
    x = np.zeros((1010, 3), np.float32)
    x[:, 1] = 10
    hard = np.arange(1010) % 101 == 0
    x[hard, 1] = 0.1
    chosen = select(data_of(x), 20, "coverage", model=LOGITS)
    assert hard[chosen.chosen].sum() == 10
    assert hard[select(data_of(x), 20, "random").chosen].sum() < 5


@pytest.mark.parametrize("fixed", [None, 7])
def test_coverage_spreads_over_the_margins(fixed: int | None) -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((2000, 3), np.float32)
    x[:, 2] = np.abs(rng.normal(size=2000))
    model = model_of(f"(float[{fixed or 'N'},3] x) => (y) {{ y = Identity(x) }}")
    chosen = select(data_of(x, batch=fixed), 100, "coverage", model=model)
    any_of_them = select(data_of(x), 100, "random")
    assert x[chosen.chosen, 2].std() > 1.3 * x[any_of_them.chosen, 2].std()


def test_coverage_of_equal_margins_is_random() -> None:
    chosen = select(data_of(np.ones((50, 3), np.float32)), 20, "coverage", model=LOGITS)
    assert len(set(chosen.chosen)) == 20


def test_coverage_needs_the_model_and_one_row_for_a_sample() -> None:
    x = np.ones((50, 3), np.float32)
    with pytest.raises(UsageError, match="needs the model"):
        select(data_of(x), 20, "coverage")
    model = model_of("(float[N,3] x) => (y) { y = ReduceMax<keepdims = 1>(x) }")
    with pytest.raises(UsageError, match="'y': gives 2 rows for 50 samples"):
        select(data_of(x), 20, "coverage", model=model)


def test_kl_takes_the_set_of_least_score() -> None:
    asked: list[int] = []

    def score(chosen: Selected) -> float:
        asked.append(chosen.seed)
        return abs(chosen.seed - 7)

    chosen = select(numbered(100), 10, "kl", seed=5, score=score)
    assert asked == [5, 6, 7, 8, 9]
    assert list(chosen.chosen) == list(select(numbered(100), 10, "random", seed=7).chosen)
    assert (chosen.how, chosen.seed) == ("kl", 5)
    with pytest.raises(UsageError, match="needs a score"):
        select(numbered(100), 10, "kl")


def test_divergence() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 4)).astype(np.float32)
    assert divergence(a, a + 5) == pytest.approx(0, abs=1e-6)
    b = rng.normal(size=(6, 4)).astype(np.float32)
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (a, b))
    assert divergence(a, b) == pytest.approx(float((p * np.log(p / q)).sum(1).mean()), rel=1e-4)
    assert divergence(1e4 * a, 1e4 * a) == 0


def test_a_selection_says_what_it_is() -> None:
    data = numbered(100)
    one, two = select(data, 10, seed=1), select(data, 10, seed=2)
    said = one.describe()
    assert json.loads(json.dumps(said)) == said
    assert said["samples"] == 10
    assert said["chosen_from"] == 100
    assert (said["selection"], said["seed"]) == ("random", 1)
    assert said["chosen_sha256"] != two.describe()["chosen_sha256"]
    assert said["sha256"] == data.sha256


def test_selected_samples_are_observed_like_any() -> None:
    model = model_of("(float[N,1] x) => (y) { y = Relu(x) }")
    chosen = select(numbered(100), 10, "first")
    found = observe(model, ["y"], chosen)["y"]
    assert (found.samples, found.greatest) == (10, 9)


def test_wrong_words_and_counts_are_refused() -> None:
    with pytest.raises(UsageError, match="selection 'randm': is unknown"):
        select(numbered(10), 5, "randm")
    with pytest.raises(UsageError, match="of 0 samples"):
        select(numbered(10), 0)
