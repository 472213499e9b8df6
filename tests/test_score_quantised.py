"""`build --score-quantised`: the criterion sees what activations are once they are quantised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantizing import CPU

import edgec
from edgec.calibration.data import load_data
from edgec.calibration.moments import consumer_moments
from edgec.errors import UsageError
from edgec.feeds import input_types
from edgec.graph.channels import channel_groups
from edgec.model import copied
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.prune.prune import Prune
from edgec.passes.quantize.quantize import Quantize
from edgec.preparing import prepared

DIGITS = Path(edgec.__file__).parents[1] / "examples" / "digits"
IMAGES = {"image": np.load(DIGITS / "calibration.npz")["image"]}


def build(**options: Any) -> edgec.Report:
    return edgec.build(
        DIGITS / "digits.onnx", data=IMAGES, eval_data=dict(np.load(DIGITS / "test.npz")),
        measure=None, score_quantised=True, **options,
    )  # fmt: skip


def test_every_layer_is_seen_behind_its_rounded_input() -> None:
    original = edgec.load(DIGITS / "digits.onnx")
    data = load_data(IMAGES, input_types(original))
    model = prepared(original)
    coarse = Quantize(CPU)(FuseBatchNorm()(copied(model), Context()), Context(data=data))
    groups = channel_groups(model)
    plain = Prune().evidence("flap", groups, Context(data=data)).moments
    seen = Prune().evidence("flap", groups, Context(data=data, twin=coarse)).moments
    assert plain is not None
    assert seen is not None
    assert plain.keys() == seen.keys()
    rounded, _ = consumer_moments(coarse, data)
    assert {m.var.tobytes() for m in seen.values()} == {m.var.tobytes() for m in rounded.values()}
    for key, moments in plain.items():
        assert not np.array_equal(moments.var, seen[key].var)
        np.testing.assert_allclose(moments.var, seen[key].var, atol=0.1 * moments.var.max())


def test_digits() -> None:
    report = build(flops=0.4, quantize="int8")
    assert "channels are scored in int8" in report.notes
    assert report.accuracy is not None
    assert report.accuracy.after.value > 0.98


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flops": 0.4}, "needs --quantize int8"),
        ({"quantize": "int8"}, "needs a budget"),
        ({"flops": 0.4, "quantize": "int8", "criterion": "l2"}, "nothing to the criterion l2"),
    ],
)
def test_where_it_changes_nothing_it_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(**options)
