"""Criteria against values computed by hand."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from zoo import model_of
from zoo.patterns import PATTERNS

from edgec.calibration.data import load_data
from edgec.calibration.moments import Moments, Spread, consumer_moments
from edgec.errors import UsageError
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.passes.prune.criteria import CRITERIA, Evidence, pq_index, scored
from edgec.passes.prune.products import products, shares

W1 = np.asarray([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]], np.float32)  # three filters
W2 = np.asarray([[1.0, 2.0, 2.0], [0.0, 0.0, 1.0]], np.float32)  # reads three channels
GAMMA = np.asarray([0.5, -2.0, 1.0], np.float32)

TEXT = """(float[4,2,5,5] x) => (y)
<float[3,2,1,1] w1, float[3] s, float[3] t, float[3] m, float[3] v, float[2,3,1,1] w2>
{ c = Conv(x, w1)  n = BatchNormalization(c, s, t, m, v)  r = Relu(n)  y = Conv(r, w2) }"""


def network() -> ChannelGroups:
    model = model_of(TEXT)
    values = {"w1": W1[..., None, None], "w2": W2[..., None, None], "s": GAMMA}
    for name, value in values.items():
        model.graph.initializers[name].const_value = ir.Tensor(value, name=name)
    return channel_groups(model)


def raw(name: str, **facts: object) -> list[float]:
    """Raw scores of the only group, channel by channel."""
    groups = network()
    (group,) = groups.groups
    evidence = Evidence(groups, np.random.default_rng(0), **facts)  # type: ignore[arg-type]
    return [float(v) for v in CRITERIA[name].score(evidence)[group.units]]


def test_l1_is_the_mean_over_the_slices_that_make_and_read_a_channel() -> None:
    assert raw("l1") == pytest.approx([(7 + 1) / 2, (1 + 2) / 2, (14 + 3) / 2])


@pytest.mark.parametrize(
    "name", ["encoder_layer", "attention_microsoft", "fused_matmul_weight_on_the_left"]
)
def test_weights_of_fused_layers_count(name: str) -> None:
    groups = channel_groups(PATTERNS[name]())
    scores, silent = scored("l2", Evidence(groups, np.random.default_rng(0)))
    assert not silent
    assert all((scores[group.units] > 0).all() for group in groups)


def test_what_a_fused_projection_reads_is_observed() -> None:
    model = PATTERNS["attention_microsoft"]()
    groups = channel_groups(model)
    samples = {"x": np.random.default_rng(1).standard_normal((8, 5, 6)).astype(np.float32)}
    moments, _ = consumer_moments(model, load_data(samples, {"x": (np.float32, (2, 5, 6))}))
    assert {name for name, _ in moments} == {"a", "o", "y"}
    _, silent = scored("flap", Evidence(groups, np.random.default_rng(0), moments=moments))
    assert len(silent) == 1  # queries and keys, which meet inside the node


def test_flap_scores_queries_and_keys_by_what_their_products_fluctuate() -> None:
    """No weight reads them: the variance of q[j]·k[j], as a share of all pairs of all heads."""
    groups = channel_groups(PATTERNS["attention_separate"]())
    rng = np.random.default_rng(1)
    (product,) = products(groups)
    assert product.b is not None
    shape = {product.a.value: (2, 3, 5, 4), product.b.value: (2, 3, 4, 5)}  # heads, then columns
    q, k = (rng.standard_normal(s) + 1 for s in shape.values())
    moments = {value: Moments.of(x, value[1]) for value, x in zip(shape, (q, k), strict=True)}
    found = shares(product, moments, groups.units)
    assert found is not None
    expected = np.zeros((3, 4))
    for head, column in np.ndindex(3, 4):
        a, b = q[:, head, :, column], k[:, head, column, :]
        expected[head, column] = (a**2).mean() * (b**2).mean() - a.mean() ** 2 * b.mean() ** 2
    np.testing.assert_allclose(found[product.a.units], (expected / expected.sum()).ravel())


def test_tables_stand_for_matrices_that_are_looked_up() -> None:
    """As a mixture of experts does: an expert's matrix is gathered, then multiplied."""
    model = model_of(
        "(float[5,1,2] x, int64[5] e) => (y) <float[2,2,3] w1, float[2,3,2] w2>"
        "{ m1 = Gather(w1, e)  h = MatMul(x, m1)  r = Relu(h)  m2 = Gather(w2, e)"
        "  y = MatMul(r, m2) }"
    )
    w1 = np.asarray([[[1, 2, 2], [0, 0, 0]], [[2, 0, 0], [2, 1, 0]]], np.float32)
    for name, value in {"w1": w1, "w2": np.ones((2, 3, 2), np.float32)}.items():
        model.graph.initializers[name].const_value = ir.Tensor(value, name=name)
    groups = channel_groups(model)
    (group,) = groups.groups
    scores = CRITERIA["l2"].score(Evidence(groups, np.random.default_rng(0)))
    assert scores[group.units] == pytest.approx([(3 + 2) / 2, (5**0.5 + 2) / 2, (2 + 2) / 2])


def test_l2() -> None:
    assert raw("l2") == pytest.approx([(5 + 1) / 2, (1 + 2) / 2, (10 + np.sqrt(5)) / 2])


def test_fpgm_is_the_distance_to_all_filters_of_the_layer() -> None:
    d01, d02, d12 = np.hypot(3, 3), 5.0, np.hypot(6, 7)
    assert raw("fpgm") == pytest.approx([d01 + d02, d01 + d12, d02 + d12], rel=1e-5)


def test_bn_gamma() -> None:
    assert raw("bn_gamma") == pytest.approx([0.5, 2.0, 1.0])


def test_lamp_divides_by_what_is_not_smaller() -> None:
    s0, s1, s2 = (np.square(v) for v in ((5 + 1) / 2, 1.5, (10 + np.sqrt(5)) / 2))
    assert raw("lamp") == pytest.approx([s0 / (s0 + s2), s1 / (s0 + s1 + s2), 1.0])


def test_flap_is_the_share_of_output_variance() -> None:
    moments = {("y", 1): Moments(np.zeros(3), np.asarray([1.0, 2.0, 3.0]), 10)}
    power = np.asarray([1 * 1.0, 2 * 4.0, 3 * 5.0])
    assert raw("flap", moments=moments) == pytest.approx((power / power.sum()).tolist())


def test_flap_and_fpgm_of_a_layer_in_two_directions() -> None:
    model = model_of(
        "(float[3,1,2] x) => (y) <float[2,2,2] w, float[2,2,2] r, float[4,3] v,"
        " int64[3] flat = {3,1,4}>"
        '{ h = RNN<hidden_size=2, direction="bidirectional">(x, w, r)'
        "  t = Transpose<perm=[0,2,1,3]>(h)  f = Reshape(t, flat)  y = MatMul(f, v) }"
    )
    w, r, v = (model.graph.initializers[n].const_value.numpy() for n in "wrv")  # type: ignore[union-attr]
    groups = channel_groups(model)
    own, read = np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([4.0, 3.0, 2.0, 1.0])
    moments = {
        ("h", 2): Moments(np.zeros(4), own.ravel(), 10),
        ("y", 1): Moments(np.zeros(4), read, 10),
    }
    evidence = Evidence(groups, np.random.default_rng(0), moments)
    recurrent, last = (r**2).sum(1) * own, (v**2).sum(1) * read
    expected = recurrent.ravel() / recurrent.sum() + last / last.sum()
    factor = groups.trace.labels[model.graph[-1].inputs[0]][0]  # type: ignore[index]
    units = groups.unit_of[factor.ids.ravel()]
    assert CRITERIA["flap"].score(evidence)[units] == pytest.approx(expected)
    apart = [np.linalg.norm(a[d, 0] - a[d, 1]) for d in (0, 0, 1, 1) for a in (w, r)]
    assert CRITERIA["fpgm"].score(evidence)[units] == pytest.approx(
        np.add(apart[::2], apart[1::2]),
        rel=1e-3,  # differences of squares, in float32
    )


def test_beta_rank_scales_mean_weight_by_the_change_of_spread() -> None:
    out = np.asarray([[1.0, 3.0], [2.0, 2.0], [0.5, 0.5]])
    spreads = {"c": Spread(out, np.asarray([[1.0, 0.0]]))}  # the second position has no input
    score = np.asarray([3.5 * 1.0, 0.5 * 2.0, 7.0 * 0.5])
    expected = (score - score.min()) / (score.max() - score.min())
    assert raw("beta_rank", spreads=spreads) == pytest.approx(expected.tolist())


def test_random_depends_on_the_seed_alone() -> None:
    assert raw("random") == raw("random")


def test_relative_scores_are_shares_times_readers() -> None:
    groups = network()
    (group,) = groups.groups
    scores, silent = scored("l2", Evidence(groups, np.random.default_rng(0)))
    assert silent == {}
    assert float(scores[group.units].sum()) == pytest.approx(1.0)  # one layer reads the group


def test_a_group_without_evidence_is_named() -> None:
    groups = channel_groups(
        model_of(
            "(float[1,2,4,4] x) => (y) <float[3,2,1,1] w1, float[2,3,1,1] w2>"
            "{ c = Conv(x, w1) r = Relu(c) y = Conv(r, w2) }"
        )
    )
    _, silent = scored("bn_gamma", Evidence(groups, np.random.default_rng(0)))
    assert list(silent) == [groups.groups[0].name]


def test_unknown_criterion() -> None:
    with pytest.raises(UsageError, match="unknown"):
        scored("l3", Evidence(network(), np.random.default_rng(0)))


def test_pq_index() -> None:
    assert pq_index(np.ones(8)) == pytest.approx(0.0)
    one_hot = np.eye(1, 8)[0]
    assert pq_index(one_hot) == pytest.approx(1 - 8 ** (1 - 2))
    assert 0 < pq_index(np.arange(1.0, 9.0)) < pq_index(one_hot)
