"""What weights will weigh as integers is known before the cut, to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from laws import draw
from quantizing import CPU
from zoo import Array, feeds_of, model_of
from zoo.patterns import PATTERNS

import edgec
from edgec.graph.channels import channel_groups
from edgec.graph.cost import CostModel, weights_in
from edgec.graph.cut import remove_channels
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.quantize import Quantize
from edgec.passes.quantize.storage import storage
from edgec.preparing import prepared

DIGITS = Path(edgec.__file__).parents[1] / "examples" / "digits"

NETS = {
    "norms and a sum": """(float[1,8,6,6] x) => (y)
        <float[16,8,3,3] a, float[16] g, float[16] b, float[16] m, float[16] v = {VAR},
         float[16,16,1,1] c, float[16] cb, float[10,16] h>
        { p = Conv<pads=[1,1,1,1]>(x, a)  n = BatchNormalization(p, g, b, m, v)  r = Relu(n)
          q = Conv(r, c, cb)  s = Add(q, r)  t = GlobalAveragePool(s)  f = Flatten(t)
          y = Gemm<transB=1>(f, h) }""",
    "products": """(float[1,5,16] x) => (y) <float[16,32] a, float[32] b, float[32,12] c>
        { p = MatMul(x, a)  q = Add(p, b)  r = Relu(q)  y = MatMul(r, c) }""",
    "a weight for two": """(float[1,8,6,6] x) => (y)
        <float[8,8,1,1] a, float[8] one, float[8] two, float[12,8,1,1] c>
        { p = Conv(x, a, one)  r = Relu(p)  q = Conv(r, a, two)  y = Conv(q, c) }""",
}


class Random:
    """A few batches for a model."""

    def __init__(self, model: ir.Model) -> None:
        self._feeds = [feeds_of(model, seed) for seed in range(3)]

    def batches(self, batch_size: int) -> Iterator[dict[str, Array]]:
        yield from self._feeds


def net(name: str) -> ir.Model:
    if name == "digits":
        return edgec.load(DIGITS / "digits.onnx")
    if name in NETS:
        return model_of(NETS[name].replace("VAR", ", ".join(["1.5"] * 16)))
    return PATTERNS[name]()


ZOO = ("conv_bn_relu", "grouped_conv", "densenet_concat_chain", "se_conv", "c2f", "layer_norm",
       "shared_conv_two_levels", "conv_transpose", "attention_separate")  # fmt: skip


@pytest.mark.parametrize("name", ["digits", *NETS, *ZOO])
def test_count_law(name: str) -> None:
    step = Quantize(replace(CPU, min_channels=1), observer="minmax")  # draws may be thin
    groups = channel_groups(prepared(net(name), Context()))
    costs = CostModel(groups, storage(step, groups.model))
    plain = CostModel(groups)
    rng = np.random.default_rng(0)
    for _ in range(3):
        cut = remove_channels(groups, draw(groups, rng))
        data = Random(cut.model)
        found = step(FuseBatchNorm()(cut.model, Context()), Context(data=data))
        removed = costs.removed(cut.alive)
        assert costs.totals(removed).size == weights_in(found)[1]
        assert costs.totals(removed).params == plain.totals(removed).params
