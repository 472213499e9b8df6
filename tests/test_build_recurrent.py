"""The main job on a recurrent classifier, with and without samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from zoo import Array, model_of, run

import edgec
from edgec.calibration.data import load_data
from edgec.calibration.moments import consumer_moments
from edgec.graph.channels import channel_groups
from edgec.passes.prune.criteria import CRITERIA, Evidence, scored
from edgec.passes.repair import REPAIRS

TEXT = """
(float[N,9,6] x) => (y)
<float[6,12] w0, float[2,64,12] w, float[2,64,16] r, float[2,128] b, int64[3] flat = {9, -1, 32},
 float[1,60,32] wg, float[1,60,20] rg, float[1,120] bg, int64[1] ax = {0}, float[20,5] w1,
 float[5] b1>
{
  t = Transpose<perm = [1,0,2]>(x)
  e = MatMul(t, w0)
  h = LSTM<hidden_size = 16, direction = "bidirectional">(e, w, r, b)
  hn = Transpose<perm = [0,2,1,3]>(h)
  hf = Reshape(hn, flat)
  , last = GRU<hidden_size = 20, linear_before_reset = 1>(hf, wg, rg, bg)
  s = Squeeze(last, ax)
  y = Gemm(s, w1, b1)
}"""


def network() -> ir.Model:
    model: ir.Model = model_of(TEXT)
    return model


def samples(count: int = 40) -> dict[str, Array]:
    return {"x": np.random.default_rng(1).standard_normal((count, 9, 6)).astype(np.float32)}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_numbers_and_differ(criterion: str) -> None:
    """Of every criterion that has anything to say about a recurrent layer."""
    groups = channel_groups(network())
    moments = None
    if CRITERIA[criterion].needs == "moments":
        moments, _ = consumer_moments(
            groups.model, load_data(samples(), {"x": (np.float32, (None, 9, 6))})
        )
    scores, silent = scored(criterion, Evidence(groups, np.random.default_rng(0), moments, {}, {}))
    assert np.isfinite(scores).all()
    for group in groups:
        if group.name not in silent:
            assert len(np.unique(scores[group.units])) == len(group.units)
            assert scores[group.units].min() > 0
    if criterion not in ("bn_gamma", "beta_rank"):
        assert silent == {}


@pytest.mark.parametrize(
    ("repair", "with_data"), [("auto", False), ("none", False), *((r, True) for r in REPAIRS)]
)
def test_build(repair: str, with_data: bool, tmp_path: Path) -> None:
    data = samples() if with_data else None
    report = edgec.build(
        network(), output=tmp_path / "out", flops=0.4, data=data, repair=repair, measure=None
    )
    (budget,) = report.budgets
    assert budget.kept is not None
    assert 0.38 < budget.kept <= 0.4
    model = edgec.load(tmp_path / "out" / "model.onnx")
    widths = {
        n.op_type: n.attributes.get_int("hidden_size")
        for n in model.graph
        if "hidden_size" in n.attributes
    }
    assert widths["LSTM"] < 16
    assert widths["GRU"] < 20
    for batch in (1, 3):
        (y,) = run(model, {"x": samples(batch)["x"]})
        assert y.shape == (batch, 5)
        assert np.isfinite(y).all()
