"""Channels of quantised models are scored by what their integers stand for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from quantizing import CPU, TENSORRT
from zoo import Array, run
from zoo.patterns import PATTERNS

import edgec
from edgec.graph.channels import channel_groups
from edgec.graph.stored import reals_of
from edgec.model import copied
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.prune.criteria import scored
from edgec.passes.prune.members import members
from edgec.passes.prune.prune import Prune
from edgec.passes.quantize.quantize import Quantize
from edgec.passes.quantize.rules import QuantizeRules
from edgec.preparing import prepared

DIGITS = Path(edgec.__file__).parents[1] / "examples" / "digits"
CRITERIA = ("l1", "l2", "fpgm", "flap", "beta_rank")
Scores = dict[tuple[str, int], Array]


class Images:
    """The calibration images."""

    def batches(self, batch_size: int) -> Iterator[dict[str, Array]]:
        images = np.load(DIGITS / "calibration.npz")["image"]
        for at in range(0, len(images), batch_size):
            yield {"image": images[at : at + batch_size]}


@cache
def floats() -> ir.Model:
    return FuseBatchNorm()(prepared(edgec.load(DIGITS / "digits.onnx")), Context())


@cache
def integers(rules: QuantizeRules) -> ir.Model:
    return Quantize(rules)(copied(floats()), Context(data=Images()))


def scores_of(model: ir.Model, criterion: str) -> Scores:
    """Of the channels along each axis of each matrix that can be narrowed there."""
    groups = channel_groups(model)
    evidence = Prune(criterion=criterion).evidence(criterion, groups, Context(data=Images()))
    scores, silent = scored(criterion, evidence)
    assert not silent
    free = {int(unit) for group in groups for unit in group.units}
    return {
        (member.name.split(".fused")[0].removesuffix(".q"), member.line.axis): scores[units]
        for member in members(groups)
        for units in [member.line.units.ravel()]
        if member.weight.ndim > 1 and free >= set(units.tolist())
    }


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("rules", [CPU, TENSORRT], ids=["integers", "floats that are rounded"])
def test_scores_are_those_of_the_float_network(criterion: str, rules: QuantizeRules) -> None:
    expected, found = scores_of(floats(), criterion), scores_of(integers(rules), criterion)
    assert len(expected) == 30
    assert expected.keys() == found.keys()
    for key, scores in expected.items():
        np.testing.assert_allclose(found[key], scores, rtol=0.05, atol=0.02 * scores.max())


def test_a_channel_of_small_steps_matters_little() -> None:
    """Equal integers, unequal scales: raw integers would say nothing."""
    model = copied(integers(CPU))
    weight = next(
        m for m in members(channel_groups(model)) if m.role == "out" and m.weight.ndim == 4
    )
    dq = weight.node.inputs[1].producer()  # type: ignore[union-attr]
    assert dq is not None
    scale = dq.inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    steps = scale.const_value.numpy() * np.where(np.arange(16) == 5, 1e-3, 1)
    scale.const_value = ir.tensor(steps.astype(np.float32), name=scale.name)
    groups = channel_groups(model)
    scores, _ = scored("l2", Prune().evidence("l2", groups, Context()))
    units = next(m for m in members(groups) if m.name == weight.name and m.role == "out").units
    assert int(scores[weight.line.units.ravel()].argmin()) == 5
    assert units.size == 16


@pytest.mark.parametrize("name", [n for n in PATTERNS if "quantized" in n or "quantised" in n])
def test_reals_are_what_onnx_runtime_computes(name: str) -> None:
    model = prepared(PATTERNS[name]())
    found = [(n, reals) for n in model.graph if (reals := reals_of(n)) is not None]
    assert found
    names = [node.outputs[0] for node, _ in found]
    feeds = {v.name: np.zeros(v.shape.numpy(), np.float32) for v in model.graph.inputs}  # type: ignore[union-attr]
    model.graph.outputs[:] = names
    for (_, reals), theirs in zip(found, run(model, feeds), strict=True):  # type: ignore[arg-type]
        np.testing.assert_array_equal(reals, theirs)


@pytest.mark.parametrize("criterion", ["l2", "flap", "beta_rank"])
@pytest.mark.parametrize("name", [n for n in PATTERNS if "quantized" in n or "quantised" in n])
def test_every_form_is_scored(name: str, criterion: str) -> None:
    model = PATTERNS[name]()
    shapes = {v.name or "": (8, *v.shape.numpy()[1:]) for v in model.graph.inputs}  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    data: Any = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    report = edgec.build(
        model, data=data, params=0.95, criterion=criterion, round_to=1, repair="none", measure=None
    )
    assert report.costs.after.params < report.costs.before.params
