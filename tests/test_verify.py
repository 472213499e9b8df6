"""A cut that holds for one size of the inputs only is refused."""

from __future__ import annotations

import numpy as np
import pytest
from laws import prepared
from laws.attacks import ATTACKS
from zoo import model_of, run

from edgec.errors import VerificationError
from edgec.feeds import sample_feeds, split
from edgec.graph.channels import channel_groups
from edgec.graph.cut import CutResult, remove_channels
from edgec.graph.stored import unrounded
from edgec.model import load
from edgec.ops.tracing import LabelContext
from edgec.verify import check_cut, check_other_sizes


def narrowest(text_or_name: str) -> CutResult:
    model = ATTACKS[text_or_name]() if text_or_name in ATTACKS else model_of(text_or_name)
    groups = channel_groups(prepared(model))
    removed = [unit for group in groups for unit in group.units[:-1]]
    return remove_channels(groups, np.asarray(removed, np.int64))


def test_a_cut_is_proven_at_another_size_too() -> None:
    found = check_other_sizes(narrowest("table_looked_up_by_length"), 0)
    assert found is not None
    assert found.worst <= found.tolerance


def test_rows_that_longer_inputs_read_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told that no size decides, the analysis would cut the rows that one sample does not reach."""
    monkeypatch.setattr(LabelContext, "settled", lambda self, i, entry=None: True)
    cut = narrowest("table_as_long_as_the_batch")
    assert check_cut(cut, sample_feeds(cut.groups.model, None, 0, batch=1))
    with pytest.raises(VerificationError):
        check_other_sizes(cut, 0)


def test_without_symbolic_dims_there_is_no_other_size() -> None:
    assert check_other_sizes(narrowest("norm_expanded"), 0) is None


def test_an_original_that_runs_at_one_size_only_is_not_asked() -> None:
    text = (
        "(float[1,N] x) => (y) <float[1,5] p, float[5,8] a, float[8,4] b>"
        " { s = Add(x, p)  h = MatMul(s, a)  y = MatMul(h, b) }"
    )
    groups = channel_groups(prepared(load(model_of(text), inputs={"x": (1, 5)})))
    assert check_other_sizes(remove_channels(groups, groups.groups[0].units[:2]), 0) is None


def test_an_original_that_looks_beyond_its_table_is_not_asked() -> None:
    """ONNX Runtime calls an index out of bounds an invalid argument."""
    text = (
        "(float[N,3,6] x) => (y) <float[6,8] w0, int64 i0 = {0}, int64 i1 = {1},"
        " float[2,1,8] table, float[8,4] w1> { h = MatMul(x, w0)  s = Shape(h)  n = Gather(s, i0)"
        "  i = Range(i0, n, i1)  t = Gather<axis = 0>(table, i)  a = Add(h, t)  y = MatMul(a, w1) }"
    )
    model = prepared(load(model_of(text), inputs={"x": (2, 3, 6)}))
    groups = channel_groups(model)
    assert check_other_sizes(remove_channels(groups, groups.groups[0].units[:2]), 0) is None


def test_large_samples_are_run_one_by_one() -> None:
    model = load(model_of("(float[N,3,9] x, float[N,2] z) => (y) { y = Relu(x) }"))
    feeds = {"x": np.arange(108.0).reshape(4, 3, 9), "z": np.arange(8.0).reshape(4, 2)}
    parts = split(model, feeds, largest=100)
    assert [part["z"].tolist() for part in parts] == [[[0, 1]], [[2, 3]], [[4, 5]], [[6, 7]]]
    assert len(split(model, feeds)) == 1
    fixed = load(model_of("(float[4,3,9] x) => (y) { y = Relu(x) }"))
    assert len(split(fixed, {"x": feeds["x"]}, largest=100)) == 1


def test_without_its_rounding_a_network_keeps_weights_and_outputs() -> None:
    model = model_of(
        "(float[N,3] x) => (y) <float s = {0.5}, int8 z = {0}, int8[3,2] w = {1,-2,3,0,2,1}>"
        "{ q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)"
        "  v = DequantizeLinear(w, s, z)  m = MatMul(d, v)"
        "  p = QuantizeLinear(m, s, z)  y = DequantizeLinear(p, s, z) }"
    )
    floats = unrounded(model)
    assert floats is not None
    x = np.asarray([[0.3, -0.1, 0.4]], np.float32)
    ((found,), (rounded,)) = (run(one, {"x": x}) for one in (floats, model))
    assert found.tolist() == [[0.5, 0.0]]  # 0.4, -0.1 on the grid of the output
    assert rounded.tolist() == [[1.0, 0.0]]  # of 0.5, 0, 0.5: 0.75, -0.25
    assert unrounded(model_of("(float[2] x) => (y) { y = Relu(x) }")) is None
