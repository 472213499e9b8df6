"""Accuracy is the mean score, each sample counted once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.calibration.data import load_data
from edgec.calibration.evaluate import TOP1, Accuracy, Metric, evaluate, find_metric, top1
from edgec.errors import UsageError, VerificationError

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(23, 5)).astype(np.float32)
LABELS = RNG.integers(0, 5, 23)
RIGHT = int((SCORES.argmax(1) == LABELS).sum())


def identity(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"y": feeds["x"]}


@given(batch=st.integers(1, 30), fixed=st.booleans())
def test_every_sample_counts_once(batch: int, fixed: bool) -> None:
    inputs = {"x": (np.float32, (batch if fixed else None, 5))}
    data = load_data({"x": SCORES, "labels": LABELS}, inputs)
    assert evaluate(identity, data, batch_size=batch) == Accuracy(RIGHT / 23, 23, "top1")


def test_top1_of_scores_with_trailing_axes() -> None:
    assert top1({"y": SCORES[..., None, None]}, LABELS).sum() == RIGHT


@pytest.mark.parametrize(
    ("outputs", "labels", "fact"),
    [
        ({"y": SCORES, "z": SCORES}, LABELS, "needs one output"),
        ({"y": SCORES[:, 0]}, LABELS, "needs one output"),
        ({"y": SCORES[..., None].repeat(2, 2)}, LABELS, "needs one output"),
        ({"y": SCORES}, LABELS.astype(np.float32), "needs integer labels"),
        ({"y": SCORES}, LABELS[:, None], "needs integer labels"),
        ({"y": SCORES}, LABELS + 1, "the model has 5 classes"),
        ({"y": SCORES}, LABELS - 1, "the model has 5 classes"),
    ],
)
def test_top1_refuses(outputs: Any, labels: np.ndarray, fact: str) -> None:
    with pytest.raises(UsageError, match=fact):
        top1(outputs, labels)


def test_top1_of_nan() -> None:
    scores = SCORES.copy()
    scores[3, 2] = np.nan
    with pytest.raises(VerificationError, match="NaN"):
        top1({"y": scores}, LABELS)


DATA = load_data({"x": SCORES, "labels": LABELS}, {"x": (np.float32, (None, 5))})


@pytest.mark.parametrize(
    ("score", "fact"),
    [
        (lambda outputs, labels: 0.5, r"returned float64\[\]"),
        (lambda outputs, labels: labels[:2], "for 23 samples"),
        (lambda outputs, labels: np.full(len(labels), np.nan), "not finite"),
        (lambda outputs, labels: ["a"] * len(labels), "returned <U1"),
        (lambda outputs, labels: outputs["no"], "failed: KeyError: 'no'"),
    ],
)
def test_a_metric_that_breaks_its_contract(score: Any, fact: str) -> None:
    with pytest.raises(UsageError, match=fact):
        evaluate(identity, DATA, Metric("mine:score", score))


def test_a_metric_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metric_of_test.py").write_text(
        "def distance(outputs, labels):\n    return abs(outputs['y'][:, 0] - labels)\n"
    )
    monkeypatch.chdir(tmp_path)
    found = evaluate(identity, DATA, find_metric("metric_of_test:distance"), batch_size=4)
    assert found.value == pytest.approx(float(np.abs(SCORES[:, 0] - LABELS).mean()))
    assert found.name == "metric_of_test:distance"
    assert find_metric(None) is TOP1


def test_no_labels() -> None:
    data = load_data({"x": SCORES}, {"x": (np.float32, (None, 5))})
    with pytest.raises(UsageError, match="has no labels"):
        evaluate(identity, data)
