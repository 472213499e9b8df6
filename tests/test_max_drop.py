"""`build --quantize int8 --max-drop`: the result is measured here again, by other means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest

import edgec
from edgec.bundle import MODEL
from edgec.errors import BudgetError, UsageError

DIGITS = Path(edgec.__file__).parents[1] / "examples" / "digits"
JUDGED = 64  # what an error is measured on


def arrays(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(DIGITS / name))


def build(tmp_path: Path, **options: Any) -> tuple[edgec.Report, Path]:
    output = tmp_path / "out"
    report = edgec.build(
        DIGITS / "digits.onnx", output=output, data={"image": arrays("calibration.npz")["image"]},
        eval_data=arrays("test.npz"), measure=None, quantize="int8", force=True, **options,
    )  # fmt: skip
    return report, output / MODEL


def judged() -> np.ndarray:
    """Evenly chosen test images."""
    images = arrays("test.npz")["image"]
    return images[np.arange(JUDGED) * len(images) // JUDGED]


def outputs(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0], np.float64)


def error(path: Path) -> float:
    """Noise over signal."""
    images = judged()
    floats, found = (outputs(p, images) for p in (DIGITS / "digits.onnx", path))
    return float(((floats - found) ** 2).sum() / (floats**2).sum())


def in_floats(path: Path) -> int:
    """Convolutions whose weight does not come from integers."""
    graph = onnx.load(path).graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    return sum(
        made.get(node.input[1]) != "DequantizeLinear"
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    )


def note(report: edgec.Report) -> str:
    (found,) = [n for n in report.notes if n.startswith("--max-drop")]
    return found


def test_layers_stay_in_floats_until_the_bound_holds(tmp_path: Path) -> None:
    free = error(build(tmp_path)[1])
    loose, path = build(tmp_path, max_drop=2 * free)
    assert (in_floats(path), "in floats" in note(loose)) == (0, False)
    tight, path = build(tmp_path, max_drop=free / 4)
    assert error(path) == pytest.approx(float(note(tight).split("measured ")[1].split()[0]), 0.01)
    assert error(path) <= free / 4
    assert 0 < in_floats(path) < 15
    assert loose.costs.after.size < tight.costs.after.size
    assert "in floats: " in note(tight)


def test_layers_get_4_bits_where_that_is_allowed(tmp_path: Path) -> None:
    eight, _ = build(tmp_path)
    sizes = [eight.costs.after.size]
    for bound in (5e-4, 5e-3):
        report, path = build(tmp_path, max_drop=bound, bits=(8, 4))
        assert error(path) <= bound
        assert "in 4 bits: " in note(report)
        sizes.append(report.costs.after.size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.6 * sizes[0]


def test_points_are_counted_where_there_are_labels(tmp_path: Path) -> None:
    report, _ = build(tmp_path, max_drop=0.003, drop_metric="top1", bits=(8, 4))
    assert report.accuracy is not None
    assert report.accuracy.before.value - report.accuracy.after.value <= 0.003
    assert "447 samples" in note(report)


def test_what_cannot_be_kept_is_told_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(
        BudgetError, match=r"lets no layer be quantised: the least .* is \d"
    ) as told:
        build(tmp_path, max_drop=1e-12)
    assert told.value.exit_code == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": (8, 4)}, "needs --max-drop"),
        ({"drop_metric": "kl"}, "needs --max-drop"),
        ({"max_drop": 0.1, "bits": (2,)}, "no widths of weights"),
        ({"max_drop": 0.0}, "is no bound"),
        ({"max_drop": 0.1, "drop_metric": "nonsense"}, "nonsense"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(tmp_path, **options)


def test_points_need_labels() -> None:
    with pytest.raises(UsageError, match="needs samples with labels"):
        edgec.build(
            DIGITS / "digits.onnx", data={"image": arrays("test.npz")["image"]}, measure=None,
            quantize="int8", max_drop=0.1, drop_metric="top1",
        )  # fmt: skip


def test_it_is_about_integers() -> None:
    with pytest.raises(UsageError, match="means nothing to float16"):
        edgec.build(DIGITS / "digits.onnx", measure=None, quantize="float16", max_drop=0.1)
