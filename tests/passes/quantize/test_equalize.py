"""Equalisation: no scale changes what a network computes, and ranges become alike."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from laws.test_exports import exported
from zoo import Array, feeds_of, run
from zoo.exports import EXPORTS
from zoo.light import light
from zoo.patterns import PATTERNS

from edgec.graph.channels import channel_groups
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.scaling import scaling_of
from edgec.preparing import prepared

SIZES = {"batch": 2, "time": 5, "N": 2}
# export: layers, those of them that read channels which can be scaled
SCALED = {
    "resnet18": (21, 20), "mobilenet_v3": (34, 18), "regnet_y": (31, 30), "unet": (13, 12),
    "mobilenet_v2": (53, 17), "efficientnet_b0": (52, 10), "convnext": (20, 0),
}  # fmt: skip


def fused(model: ir.Model) -> ir.Model:
    return FuseBatchNorm()(prepared(model), Context())


def same(found: list[Array], wanted: list[Array], tolerance: float = 5e-5) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(np.abs(b).max(initial=0), 1e-6))


def weight(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def scaled_alike(model: ir.Model) -> int:
    """Holds a model to the law: any factors leave its outputs. How many factors there are."""
    feeds = feeds_of(model, dims=SIZES)
    before = run(model, feeds)
    scaling = scaling_of(channel_groups(model))
    factor = np.exp(np.random.default_rng(0).uniform(-1, 1, scaling.count))
    factor[0] = 1.0
    scaling.apply(factor)
    same(run(model, feeds), before)
    return scaling.count - 1


@pytest.mark.parametrize("name", EXPORTS)
def test_any_scales_leave_an_export(name: str) -> None:
    model = fused(exported(name))
    if name in SCALED:
        products = scaling_of(channel_groups(model)).products
        assert (len(products), sum(not p.why for p in products)) == SCALED[name]
    scaled_alike(model)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "inception_v2", "densenet121"])
def test_any_scales_leave_an_old_network(name: str) -> None:
    """Batch norms behind concatenations, constants that are unsqueezed, shuffled channels."""
    assert scaled_alike(fused(light(name))) > 1000


@pytest.mark.parametrize("name", PATTERNS)
def test_any_scales_leave_a_pattern(name: str) -> None:
    scaled_alike(prepared(PATTERNS[name]()))
