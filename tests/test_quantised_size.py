"""`build --size --quantize int8`: the budget is about the bytes that lie in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgec
from edgec.bundle import MODEL
from edgec.errors import BudgetError

DIGITS = Path(edgec.__file__).parents[1] / "examples" / "digits"
STORED = {"float32", "int8", "uint8", "int32"}  # int64 are shapes


def build(tmp_path: Path, **options: Any) -> tuple[edgec.Report, int]:
    """The report, and the bytes of all weights in the file."""
    report = edgec.build(
        DIGITS / "digits.onnx", output=tmp_path / "out", force=True, measure=None,
        data={"image": np.load(DIGITS / "calibration.npz")["image"]},
        eval_data=dict(np.load(DIGITS / "test.npz")), **options,
    )  # fmt: skip
    graph = onnx.load(tmp_path / "out" / MODEL).graph
    arrays = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    return report, sum(a.nbytes for a in arrays if a.ndim and a.dtype.name in STORED)


def test_the_file_has_the_size_and_no_channel_too_few(tmp_path: Path) -> None:
    report, size = build(tmp_path, size=0.12, quantize="int8")
    (budget,) = report.budgets
    assert report.costs.after.size == budget.achieved == size <= budget.bound
    assert size > 0.97 * budget.bound
    assert report.accuracy is not None
    assert report.accuracy.after.value > 0.98
    floats, size = build(tmp_path, size=0.12)
    assert size <= budget.bound
    assert floats.costs.after.params < 0.4 * report.costs.after.params


def test_nothing_goes_where_integers_alone_are_small_enough(tmp_path: Path) -> None:
    report, size = build(tmp_path, size=0.3, quantize="int8")
    assert report.costs.after.params == report.costs.before.params
    assert size <= 0.3 * report.costs.before.size


def test_floats_that_were_counted_as_integers_are_told(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="is exceeded by the result") as told:
        build(tmp_path, size=0.12, quantize="int8", max_drop=2e-5)
    assert "--max-drop" in str(told.value)
