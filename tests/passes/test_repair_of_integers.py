"""Layers whose weights come back from integers are repaired, and stay integers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir import serde
from quantizing import CPU, TENSORRT
from zoo import Array, run

import edgec
from edgec.bundle import MODEL
from edgec.graph.stored import reals_of, source_of
from edgec.model import copied
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.quantize import Quantize
from edgec.passes.quantize.rules import QuantizeRules
from edgec.passes.repair import in_reals
from edgec.passes.repair.layers import read, write
from edgec.preparing import prepared

DIGITS = Path(edgec.__file__).parents[1] / "examples" / "digits"
BOTH = pytest.mark.parametrize("rules", [CPU, TENSORRT], ids=["integers", "rounded floats"])


class Images:
    """The calibration images."""

    def batches(self, batch_size: int) -> Iterator[dict[str, Array]]:
        yield {"image": np.load(DIGITS / "calibration.npz")["image"]}


def quantised(rules: QuantizeRules) -> ir.Model:
    floats = FuseBatchNorm()(prepared(edgec.load(DIGITS / "digits.onnx")), Context())
    return Quantize(rules)(floats, Context(data=Images()))


def layers(model: ir.Model) -> list[ir.Node]:
    return [n for n in model.graph if n.op_type in ("Conv", "Gemm")]


def scale_of(value: ir.Value | None) -> Array:
    assert value is not None
    node = value.producer()
    assert node is not None
    return read(node, 1)


@BOTH
def test_what_does_not_change_stays_to_the_byte(rules: QuantizeRules) -> None:
    model = quantised(rules)
    before = serde.to_proto(model).SerializeToString()
    with in_reals(model):
        for node in layers(model):
            assert node.inputs[1] is not None
            assert node.inputs[1].const_value is not None
    assert serde.to_proto(model).SerializeToString() == before


@BOTH
def test_new_weights_are_stored_on_grids_that_hold_them(rules: QuantizeRules) -> None:
    model = quantised(rules)
    types = [source_of(n.inputs[1]).const_value.dtype for n in layers(model)]  # type: ignore[union-attr]
    expected = copied(model)
    with in_reals(model), in_reals(expected):
        for node, twin in zip(layers(model), layers(expected), strict=True):
            weight, bias = read(node, 1), read(node, 2)
            write(node, 1, 3 * weight)
            write(node, 2, bias + 0.1)
            write(twin, 1, 3 * weight)
            write(twin, 2, bias + 0.1)
        reals = copied(expected)
    assert [source_of(n.inputs[1]).const_value.dtype for n in layers(model)] == types  # type: ignore[union-attr]
    for node, twin in zip(layers(model), layers(reals), strict=True):
        dq = node.inputs[1].producer()  # type: ignore[union-attr]
        if dq is None:  # in floats by the rules
            continue
        first = dq if source_of(dq.inputs[0]) is dq.inputs[0] else dq.inputs[0].producer()  # type: ignore[union-attr]
        assert first is not None
        found = reals_of(first)
        assert found is not None
        step = read(dq, 1).reshape(-1, *[1] * (found.ndim - 1))
        assert (np.abs(found - read(twin, 1)) <= 0.51 * np.broadcast_to(step, found.shape)).all()
        if rules.bias:
            steps = scale_of(node.inputs[0]) * scale_of(node.inputs[1])
            np.testing.assert_allclose(scale_of(node.inputs[2]), steps, rtol=1e-5)
    image = {"image": np.load(DIGITS / "test.npz")["image"][:32]}
    (ours,), (theirs,) = run(model, image), run(reals, image)
    assert np.square(ours - theirs).sum() < 1e-3 * np.square(theirs).sum()


@pytest.mark.parametrize(("repair", "least"), [("none", 0.0), ("bias", 0.8), ("auto", 0.985)])
def test_a_quantised_network_is_pruned_and_repaired(
    repair: str, least: float, tmp_path: Path
) -> None:
    edgec.build(
        DIGITS / "digits.onnx", quantize="int8", measure=None, output=tmp_path / "int8",
        data={"image": np.load(DIGITS / "calibration.npz")["image"]},
    )  # fmt: skip
    report = edgec.build(
        tmp_path / "int8" / MODEL, flops=0.5, repair=repair, measure=None, output=tmp_path / "half",
        data={"image": np.load(DIGITS / "calibration.npz")["image"]},
        eval_data=dict(np.load(DIGITS / "test.npz")),
    )  # fmt: skip
    assert report.criterion == "flap"
    assert report.accuracy is not None
    assert report.accuracy.after.value > least
    assert (report.accuracy.after.value < 0.6) == (repair == "none")
    model = edgec.load(tmp_path / "half" / MODEL)
    stored = [source_of(n.inputs[1]).const_value.dtype for n in layers(model)]  # type: ignore[union-attr]
    assert set(stored) == {ir.DataType.INT8}
    assert report.costs.after.size < 0.7 * report.costs.before.size
