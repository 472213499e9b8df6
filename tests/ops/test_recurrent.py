"""Recurrent layers with the batch first, which ONNX Runtime does not run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from laws import count_law, draw
from onnx.reference import ReferenceEvaluator
from zoo import feeds_of, model_of

from edgec.graph.channels import channel_groups
from edgec.graph.cost import CostModel
from edgec.graph.cut import remove_channels
from edgec.graph.mask import masked_model


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_batch_first(op: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    model = model_of(
        f"(float[2,5,6] x) => (y) <float[1,{gates * 8},6] w, float[1,{gates * 8},8] r,"
        f" float[1,{gates * 16}] b, float[2,1,8] h0, int64[1] ax = {{2}}, float[8,4] v,"
        " float[8,4] u>"
        f"{{ h, last = {op}<hidden_size=8, layout=1>(x, w, r, b, , h0)"
        "  s = Squeeze(h, ax)  p = MatMul(s, v)  q = MatMul(last, u)  y = Add(p, q) }"
    )
    groups = channel_groups(model)
    assert [(len(g.units), g.rows) for g in groups] == [(8, 1)]
    cut = remove_channels(groups, draw(groups, np.random.default_rng(1)))
    count_law(cut, CostModel(groups))
    feeds = feeds_of(model)
    whole, expected, found = (
        np.asarray(next(iter(ReferenceEvaluator(ir.to_proto(m)).run(None, feeds))))
        for m in (model, masked_model(groups, cut.alive), cut.model)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected - whole).max() > 0.1
