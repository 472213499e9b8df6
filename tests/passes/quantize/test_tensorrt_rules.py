"""Every rule by which TensorRT fuses explicit quantisation, on the smallest graph that shows it.

What is read through Q and DQ stands in brackets, with the axis of the scales where there are many.
"""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

import numpy as np
import onnx_ir as ir
import pytest
from quantizing import TENSORRT, after, grids_of, quantised, weights_of
from zoo import feeds_of, model_of

from edgec.errors import UnsupportedError, UsageError
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.insert import insert
from edgec.passes.quantize.place import place
from edgec.passes.quantize.rules import QuantizeRules

ALL = replace(TENSORRT, keep_last=False)
"""The rules without the one that would leave nothing of a graph with one product."""

IMAGE = "(float[2,16,8,8] x) => (y)"
K3 = "pads = [1,1,1,1]"


def check(text: str, expected: str, rules: QuantizeRules = ALL) -> None:
    assert after(text, rules) == dedent(expected).strip()


CONV = f"{IMAGE} <float[16,16,3,3] w, float[16] b> {{ y = Conv<{K3}>(x, w, b) }}"


def one_conv() -> tuple[ir.Model, dict[str, ir.Node]]:
    model, _ = quantised(model_of(CONV), ALL, feeds_of(model_of(CONV)))
    return model, {node.name or "": node for node in model.graph}


def test_inputs_of_products_and_no_outputs() -> None:
    check(CONV, "y = Conv([x], [w:0], b)")
    check(
        f"{IMAGE} <float[16,16,2,2] w> {{ y = ConvTranspose(x, w) }}",
        "y = ConvTranspose([x], [w:1])",
    )
    check("(float[4,16] x) => (y) <float[16,24] w> { y = Gemm(x, w) }", "y = Gemm([x], [w:1])")
    check(
        "(float[4,16] x) => (y) <float[24,16] w> { y = Gemm<transB = 1>(x, w) }",
        "y = Gemm([x], [w:0])",
    )
    check(
        "(float[4,7,16] x) => (y) <float[16,24] w> { y = MatMul(x, w) }", "y = MatMul([x], [w:1])"
    )


def test_transposed_convolutions_in_groups_have_one_scale() -> None:
    """Output channel o of every group lies at index o of axis 1: a scale there means all groups."""
    check(
        f"{IMAGE} <float[16,8,4,4] w> {{ y = ConvTranspose<group = 2>(x, w) }}",
        "y = ConvTranspose([x], [w])",
    )


def test_zero_points_are_given_and_zero_and_scales_are_float32() -> None:
    _, nodes = one_conv()
    pairs = [n for n in nodes.values() if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 4
    for node in pairs:
        assert len(node.inputs) == 3
        _, scale, zero = node.inputs
        assert scale is not None
        assert zero is not None
        assert scale.const_value is not None
        assert zero.const_value is not None
        assert scale.dtype == ir.DataType.FLOAT
        assert zero.dtype == ir.DataType.INT8
        assert (scale.const_value.numpy() > 0).all()
        assert not zero.const_value.numpy().any()


def test_a_dead_channel_has_a_positive_scale() -> None:
    model = model_of(CONV)
    weight = model.graph.initializers["w"].const_value
    assert weight is not None
    dead = weight.numpy().copy()
    dead[3] = 0
    model.graph.initializers["w"].const_value = ir.tensor(dead, name="w")
    after_it, _ = quantised(model, ALL, feeds_of(model))
    scale = after_it.graph.initializers["w.scale"].const_value
    assert scale is not None
    assert (scale.numpy() > 0).all()


def test_weights_are_floats_with_q_and_dq() -> None:
    model, nodes = one_conv()
    floats = nodes["w.q"].inputs[0]
    assert floats is not None
    assert floats.dtype == ir.DataType.FLOAT
    assert floats.is_initializer()
    assert nodes["w.dq"].inputs[0] is nodes["w.q"].outputs[0]
    assert "w" not in model.graph.initializers


def test_biases_are_plain_floats() -> None:
    model, nodes = one_conv()
    assert nodes["y"].inputs[2] is model.graph.initializers["b"]


def test_operator_sets_without_a_scale_per_channel_are_refused() -> None:
    model = model_of(CONV, opset=12)
    placement = place(model, ALL)
    grids = grids_of(model, placement, feeds_of(model))
    with pytest.raises(UnsupportedError, match=r"(?s)operator set 12.*13 or newer"):
        insert(model, placement, grids, weights_of(model, placement))


def test_nothing_between_conv_batchnorm_and_relu() -> None:
    text = f"""{IMAGE} <float[16,16,3,3] w, float[16,16,3,3] v, float[16] s, float[16] t,
      float[16] m, float[16] n> {{
      c = Conv<{K3}>(x, w)
      b = BatchNormalization(c, s, t, m, n)
      r = Relu(b)
      y = Conv<{K3}>(r, v) }}"""
    check(
        text,
        """
        c = Conv([x], [w:0])
        b = BatchNormalization(c, s, t, m, n)
        r = Relu(b)
        y = Conv([r], [v:0])
        """,
    )
    folded = FuseBatchNorm()(model_of(text), Context())
    placement = place(folded, ALL)
    assert [point.value for point in placement.points] == ["x", "r"]


def test_residual_only_the_shortcut() -> None:
    """One pair serves the block's first convolution and the Add."""
    check(
        f"""{IMAGE} <float[16,16,3,3] w, float[16,16,3,3] v, float[16,16,3,3] u> {{
          a = Conv<{K3}>(x, w)
          r = Relu(a)
          c = Conv<{K3}>(r, v)
          s = Add(c, x)
          t = Relu(s)
          y = Conv<{K3}>(t, u) }}""",
        """
        a = Conv([x], [w:0])
        r = Relu(a)
        c = Conv([r], [v:0])
        s = Add(c, [x])
        t = Relu(s)
        y = Conv([t], [u:0])
        """,
    )


def test_residual_of_two_convolutions() -> None:
    """The one that is computed last takes the other's output along."""
    check(
        f"""{IMAGE} <float[16,16,3,3] w, float[16,16,1,1] v, float[16,16,3,3] u> {{
          a = Conv<{K3}>(x, w)
          d = Conv(x, v)
          s = Add(a, d)
          t = Relu(s)
          y = Conv<{K3}>(t, u) }}""",
        """
        a = Conv([x], [w:0])
        d = Conv([x], [v:0])
        s = Add([a], d)
        t = Relu(s)
        y = Conv([t], [u:0])
        """,
    )


def test_residual_whose_shortcut_is_in_floats() -> None:
    check(
        f"""{IMAGE} <float[16,16,3,3] w, float[16,16,3,3] u> {{
          a = Conv<{K3}>(x, w)
          f = Sin(a)
          c = Conv<{K3}>(a, u)
          y = Add(c, f) }}""",
        """
        a = Conv([x], [w:0])
        f = Sin([a])
        c = Conv([a], [u:0])
        y = Add(c, f)
        """,
    )


@pytest.mark.parametrize(
    "pool",
    [
        "AveragePool<kernel_shape = [2,2]>(a)",
        "GlobalAveragePool(a)",
        "MaxPool<kernel_shape = [2,2]>(a)",
    ],
)
def test_pools_between_products_read_integers(pool: str) -> None:
    op = pool.split("(")[0].split("<")[0]
    check(
        f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v> {{
          a = Conv(x, w)
          p = {pool}
          y = Conv(p, v) }}""",
        f"""
        a = Conv([x], [w:0])
        p = {op}([a])
        y = Conv([p], [v:0])
        """,
    )


def test_a_pool_at_the_end_reads_integers() -> None:
    """The convolution before it writes int8 then: 0.73 → 0.67 ms in the TREx example."""
    check(
        f"""{IMAGE} <float[16,16,1,1] w> {{
          a = Conv(x, w)
          r = Relu(a)
          y = GlobalAveragePool(r) }}""",
        """
        a = Conv([x], [w:0])
        r = Relu(a)
        y = GlobalAveragePool([r])
        """,
    )


def test_resize_between_products_reads_integers() -> None:
    check(
        f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v, float[4] f = {{1.0,1.0,2.0,2.0}}> {{
          a = Conv(x, w)
          p = Resize<mode = "nearest">(a, , f)
          y = Conv(p, v) }}""",
        """
        a = Conv([x], [w:0])
        p = Resize([a], , f)
        y = Conv([p], [v:0])
        """,
    )


def test_concat_shares_one_scale() -> None:
    text = f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v, float[16,32,1,1] u> {{
      a = Conv(x, w)
      b = Conv(x, v)
      c = Concat<axis = 1>(a, b)
      y = Conv(c, u) }}"""
    check(
        text,
        """
        a = Conv([x], [w:0])
        b = Conv([x], [v:0])
        c = Concat([a], [b])
        y = Conv([c], [u:0])
        """,
    )
    assert place(model_of(text), ALL).tied == (frozenset("abc"),)


def test_tied_tensors_with_different_grids_are_refused() -> None:
    model = model_of(
        f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v> {{
          a = Conv(x, w)
          p = MaxPool<kernel_shape = [2,2]>(a)
          y = Conv(p, v) }}"""
    )
    placement = place(model, ALL)
    grids = grids_of(model, placement, feeds_of(model))
    grids["p"] = replace(grids["p"], scale=grids["p"].scale * np.float32(2))
    with pytest.raises(UsageError, match="must have the grid of 'a'"):
        insert(model, placement, grids, weights_of(model, placement))


@pytest.mark.parametrize(
    ("op", "more", "conv"),
    [
        ("Reshape(a, to)", "int64[4] to = {2,16,4,16}", "[16,16,1,1]"),
        ("Transpose<perm = [0,1,3,2]>(a)", "", "[16,16,1,1]"),
        ("Gather<axis = 2>(a, to)", "int64[2] to = {1,0}", "[16,16,1,1]"),
        ("Slice(a, to, end, to)", "int64[1] to = {2}, int64[1] end = {4}", "[16,16,1,1]"),
        ("Pad(a, to)", "int64[8] to = {0,0,1,1,0,0,1,1}", "[16,16,1,1]"),
        ("Sigmoid(a)", "", "[16,16,1,1]"),
        ("Softmax(a)", "", "[16,16,1,1]"),
        ("LayerNormalization(a, g)", "float[8] g", "[16,16,1,1]"),
        ("Gelu(a)", "", "[16,16,1,1]"),
    ],
)
def test_what_moves_numbers_or_needs_floats_gets_nothing(op: str, more: str, conv: str) -> None:
    """The pair behind it stands where the next product reads; TensorRT moves it through."""
    check(
        f"""{IMAGE} <float[16,16,1,1] w, float{conv} v{", " * bool(more)}{more}> {{
          a = Conv(x, w)
          m = {op}
          y = Conv(m, v) }}""",
        f"""
        a = Conv([x], [w:0])
        m = {op.split("(")[0].split("<")[0]}({op.split("(")[-1]}
        y = Conv([m], [v:0])
        """,
    )


def test_q_and_dq_are_seen_through_what_they_move_through() -> None:
    """The Concat behind the Reshape counts as between convolutions."""
    check(
        f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v, float[16,32,1,1] u,
          int64[4] to = {{2,16,4,16}}> {{
          a = Conv(x, w)
          r = Reshape(a, to)
          b = Conv(x, v)
          q = Reshape(b, to)
          c = Concat<axis = 1>(r, q)
          s = Transpose<perm = [0,1,3,2]>(c)
          y = Conv(s, u) }}""",
        """
        a = Conv([x], [w:0])
        r = Reshape(a, to)
        b = Conv([x], [v:0])
        q = Reshape(b, to)
        c = Concat([r], [q])
        s = Transpose(c)
        y = Conv([s], [u:0])
        """,
    )


TWO = f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v> {{ a = Conv(x, w)  y = Conv(a, v) }}"""


def test_the_last_product_stays_in_floats() -> None:
    check(TWO, "a = Conv([x], [w:0])\ny = Conv(a, v)", TENSORRT)


def test_the_first_product_stays_in_floats_if_asked() -> None:
    check(TWO, "a = Conv(x, w)\ny = Conv([a], [v:0])", replace(ALL, keep_first=True))


def floats(text: str, rules: QuantizeRules = ALL) -> dict[str, str]:
    return dict(place(model_of(text), rules).floats)


@pytest.mark.parametrize(
    ("weight", "attributes", "reason"),
    [
        ("[16,8,3,3]", "", "8 → 16 channels: fewer than 16"),
        ("[8,16,3,3]", "", "16 → 8 channels: fewer than 16"),
        ("[17,17,3,3]", "", "17 → 17 channels: no multiple of 8"),
        ("[24,17,3,3]", "", None),
        ("[16,16,3,1]", "", "its kernel is 3x1, not square"),
        ("[16,1,3,3]", "group = 16", "depthwise"),
        ("[16,8,1,1]", "group = 2", "grouped, with a kernel below 3"),
        ("[16,8,3,3]", "group = 2", None),
        ("[18,8,3,3]", "group = 2", "16 → 18 channels: no multiple of 8"),
    ],
)
def test_convolutions_that_gain_nothing(weight: str, attributes: str, reason: str | None) -> None:
    inputs = int(weight.split(",")[1]) * (
        int(attributes[-2:].strip("= ") or 1) if attributes else 1
    )
    text = f"(float[1,{inputs},8,8] x) => (y) <float{weight} w> {{ y = Conv<{attributes}>(x, w) }}"
    found = floats(text.replace("<>", ""))
    assert found == ({} if reason is None else {"y": reason})


@pytest.mark.parametrize(
    ("x", "w", "reason"),
    [
        ("[1,64]", "[64,32]", "it is a matrix times a vector"),
        ("[64,64]", "[64,1]", "it is a matrix times a vector"),
        ("[64]", "[64,32]", "it multiplies by a vector"),
        ("[64,12]", "[12,32]", "12 → 32 channels: fewer than 16"),
        ("[64,32]", "[32,12]", "32 → 12 channels: fewer than 16"),
        ("[1,7,64]", "[64,32]", None),
        ("[2,1,64]", "[64,32]", None),
    ],
)
def test_matrix_products_that_gain_nothing(x: str, w: str, reason: str | None) -> None:
    found = floats(f"(float{x} x) => (y) <float{w} w> {{ y = MatMul(x, w) }}")
    assert found == ({} if reason is None else {"y": reason})


ATTENTION = """(float[2,64,32] x) => (y) <float[32,32] q, float[32,32] k, float[32,32] v> {
  a = MatMul(x, q)
  b = MatMul(x, k)
  c = MatMul(x, v)
  t = Transpose<perm = [0,2,1]>(b)
  s = MatMul(a, t)
  p = Softmax(s)
  y = MatMul(p, c) }"""
PROJECTIONS = """
    a = MatMul([x], [q:1])
    b = MatMul([x], [k:1])
    c = MatMul([x], [v:1])
    t = Transpose(b)
    """


def test_attention_reads_floats_at_both_inputs() -> None:
    check(
        ATTENTION,
        PROJECTIONS
        + """s = MatMul(a, t)
    p = Softmax(s)
    y = MatMul(p, c)""",
    )


def test_attention_reads_integers_at_both_inputs_if_asked() -> None:
    check(
        ATTENTION,
        PROJECTIONS
        + """s = MatMul([a], [t])
    p = Softmax(s)
    y = MatMul([p], [c])""",
        replace(ALL, two_activations=True),
    )


def test_one_pair_for_all_readers() -> None:
    text = f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v> {{
      a = Conv(x, w)  b = Conv(x, v)  y = Sub(a, b) }}"""
    model, _ = quantised(model_of(text), ALL, feeds_of(model_of(text)))
    pairs = [
        n
        for n in model.graph
        if n.op_type == "QuantizeLinear" and n.inputs[0] in model.graph.inputs
    ]
    assert len(pairs) == 1


def test_float_operators_that_read_the_same_tensor_read_it_in_floats() -> None:
    check(
        f"{IMAGE} <float[16,16,1,1] w> {{ s = Sin(x)  a = Conv(x, w)  y = Sub(a, s) }}",
        """
        s = Sin(x)
        a = Conv([x], [w:0])
        y = Sub(a, s)
        """,
    )
