"""What ONNX Runtime on a CPU makes integer kernels of: where Q/DQ goes, and that it does.

What is read through Q and DQ stands in brackets, with the axis of the scales where there are many.
Below the graph are the operators with numbers that ONNX Runtime's optimiser leaves of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import onnx_ir as ir
import pytest
from quantizing import CPU, TENSORRT, after, optimised, quantised, shown
from zoo import feeds_of, model_of, run

from edgec.errors import UsageError
from edgec.passes.quantize.place import place
from edgec.passes.quantize.rules import QuantizeRules

IMAGE = "(float[1,16,8,8] x) => (y)"
K3 = "pads = [1,1,1,1]"
MOVES = {
    "QuantizeLinear",
    "DequantizeLinear",
    "Transpose",
    "Reshape",
    "ReorderInput",
    "ReorderOutput",
}


def check(
    tmp_path: Path, text: str, expected: str, kernels: str, rules: QuantizeRules = CPU
) -> None:
    """The placement, the kernels, and that the kernels compute what the graph says."""
    model = model_of(text)
    result, _ = quantised(model, rules, feeds_of(model))
    assert shown(result) == dedent(expected).strip()
    ops, outputs = optimised(result, str(tmp_path / "optimised.onnx"))
    assert " ".join(op for op in ops if op not in MOVES) == kernels
    for fused, plain, real in zip(
        outputs, run(result, feeds_of(model)), run(model, feeds_of(model)), strict=True
    ):
        spread = np.ptp(real)
        np.testing.assert_allclose(fused, plain, atol=2 * spread / 255)
        np.testing.assert_allclose(plain, real, atol=0.1 * spread)


def test_a_convolution_has_grids_on_both_sides(tmp_path: Path) -> None:
    check(
        tmp_path,
        f"{IMAGE} <float[16,16,3,3] w, float[16] b> {{ y = Conv<{K3}>(x, w, b) }}",
        """
        y.float = Conv([x], [w:0], [b:0])
        out [y]
        """,
        "QLinearConv",
    )


def test_nothing_between_a_convolution_and_its_activation(tmp_path: Path) -> None:
    check(
        tmp_path,
        f"""{IMAGE} <float[16,16,3,3] w, float[16,1,3,3] v, float zero = {{0.0}},
          float six = {{6.0}}> {{
          a = Conv<{K3}>(x, w)
          r = Relu(a)
          b = Conv<{K3}, group = 16>(r, v)
          y = Clip(b, zero, six) }}""",
        """
        a = Conv([x], [w:0])
        r = Relu(a)
        b = Conv([r], [v:0])
        y.float = Clip(b, zero, six)
        out [y]
        """,
        "QLinearConv QLinearConv",
    )


def test_activations_without_a_kernel_stand_between_grids(tmp_path: Path) -> None:
    check(
        tmp_path,
        f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v> {{
          a = Conv(x, w)
          h = HardSwish(a)
          y = Conv(h, v) }}""",
        """
        a = Conv([x], [w:0])
        h = HardSwish([a])
        y.float = Conv([h], [v:0])
        out [y]
        """,
        "QLinearConv HardSigmoid Mul QLinearConv",
    )


def test_silu(tmp_path: Path) -> None:
    check(
        tmp_path,
        f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v> {{
          a = Conv(x, w)
          s = Sigmoid(a)
          m = Mul(a, s)
          y = Conv(m, v) }}""",
        """
        a = Conv([x], [w:0])
        s = Sigmoid([a])
        m = Mul([a], [s])
        y.float = Conv([m], [v:0])
        out [y]
        """,
        "QLinearConv QLinearSigmoid QLinearMul QLinearConv",
    )


def test_squeeze_and_excite(tmp_path: Path) -> None:
    check(
        tmp_path,
        f"""{IMAGE} <float[16,16,1,1] w, float[4,16,1,1] down, float[16,4,1,1] up,
          float[16,16,1,1] v> {{
          a = Conv(x, w)
          p = GlobalAveragePool(a)
          d = Conv(p, down)
          r = Relu(d)
          u = Conv(r, up)
          s = Sigmoid(u)
          m = Mul(a, s)
          y = Conv(m, v) }}""",
        """
        a = Conv([x], [w:0])
        p = GlobalAveragePool([a])
        d = Conv([p], [down:0])
        r = Relu(d)
        u = Conv([r], [up:0])
        s = Sigmoid([u])
        m = Mul([a], [s])
        y.float = Conv([m], [v:0])
        out [y]
        """,
        "QLinearConv QLinearGlobalAveragePool QLinearConv QLinearConv QLinearSigmoid QLinearMul"
        " QLinearConv",
    )


def test_residual_reads_integers_on_both_sides(tmp_path: Path) -> None:
    check(
        tmp_path,
        f"""{IMAGE} <float[16,16,3,3] w, float[16,16,1,1] v> {{
          a = Conv<{K3}>(x, w)
          s = Add(a, x)
          r = Relu(s)
          y = Conv(r, v) }}""",
        """
        a = Conv([x], [w:0])
        s = Add([a], [x])
        r = Relu(s)
        y.float = Conv([r], [v:0])
        out [y]
        """,
        "QLinearConv QLinearAdd QLinearConv",
    )


def test_concat_and_what_moves_numbers_keep_one_grid(tmp_path: Path) -> None:
    text = f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v, float[16,32,1,1] u> {{
      a = Conv(x, w)
      b = Conv(x, v)
      c = Concat<axis = 1>(a, b)
      p = MaxPool<kernel_shape = [2,2]>(c)
      y = Conv(p, u) }}"""
    check(
        tmp_path,
        text,
        """
        a = Conv([x], [w:0])
        b = Conv([x], [v:0])
        c = Concat([a], [b])
        p = MaxPool([c])
        y.float = Conv([p], [u:0])
        out [y]
        """,
        "QLinearConv QLinearConv QLinearConcat NhwcMaxPool QLinearConv",
    )
    assert place(model_of(text), CPU).tied == (frozenset("abcp"),)


@pytest.mark.parametrize(
    ("op", "more", "kernel"),
    [
        ("MaxPool<kernel_shape = [2,2]>(a)", "", "NhwcMaxPool"),
        ("Slice(a, i, j, k)", "int64[1] i = {1}, int64[1] j = {4}, int64[1] k = {2}", "Slice"),
        ("Gather<axis = 2>(a, two)", "int64[2] two = {1,0}", "Gather"),
        ("DepthToSpace<blocksize = 2>(a)", "", "DepthToSpace"),
        ("Resize<mode = \"nearest\">(a, , twice)", "float[4] twice = {1.0,1.0,2.0,2.0}", "Resize"),
    ],
)  # fmt: skip
def test_carriers_move_integers(tmp_path: Path, op: str, more: str, kernel: str) -> None:
    name, inputs = op.split("(")[0].split("<")[0], op.split("(")[1].removeprefix("a").rstrip(")")
    channels = 4 if name == "DepthToSpace" else 16
    check(
        tmp_path,
        f"""{IMAGE} <float[16,16,1,1] w, float[16,{channels},1,1] v{", " * bool(more)}{more}> {{
          a = Conv(x, w)
          m = {op}
          y = Conv(m, v) }}""",
        f"""
        a = Conv([x], [w:0])
        m = {name}([a]{inputs})
        y.float = Conv([m], [v:0])
        out [y]
        """,
        f"QLinearConv {kernel} QLinearConv",
    )


def test_split_has_one_grid_for_all_parts() -> None:
    text = f"""{IMAGE} <float[16,16,1,1] w, float[8,8,1,1] v> {{
      a = Conv(x, w)
      b, c = Split<axis = 1, num_outputs = 2>(a)
      d = Conv(b, v)
      e = Sin(c)
      y = Add(d, e) }}"""
    placement = place(model_of(text), CPU)
    assert placement.tied == (frozenset("abc"),)


@pytest.mark.parametrize(
    ("op", "more"),
    [
        ("AveragePool<kernel_shape = [2,2]>(a)", ""),
        ("Resize<mode = \"linear\">(a, , twice)", ", float[4] twice = {1.0,1.0,2.0,2.0}"),
        ("Tanh(a)", ""),
    ],
)  # fmt: skip
def test_what_is_slower_in_integers_stays_in_floats(op: str, more: str) -> None:
    text = f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v{more}> {{
      a = Conv(x, w)  m = {op}  y = Conv(m, v) }}"""
    placement = place(model_of(text), CPU)
    assert [p.value for p in placement.points] == ["x", "a", "m", "y"]
    assert placement.tied == ()


def test_linear_layers_give_floats_and_have_int32_biases(tmp_path: Path) -> None:
    """With a float bias, ONNX Runtime would multiply in floats."""
    check(
        tmp_path,
        """(float[4,16] x) => (y) <float[24,16] w, float[24] b> {
          y = Gemm<transB = 1>(x, w, b) }""",
        "y = Gemm([x], [w:0], [b:0])",
        "QGemm",
    )
    check(
        tmp_path,
        """(float[1,4,16] x) => (y) <float[16,24] w, float[24] b, float[24,8] v, float[8] c> {
          m = MatMul(x, w)
          a = Add(m, b)
          g = Gelu(a)
          n = MatMul(g, v)
          y = Add(c, n) }""",
        """
        m = MatMul([x], [w:1])
        a = Add(m, [b:0])
        g = Gelu(a)
        n = MatMul([g], [v:1])
        y = Add([c:0], n)
        """,
        "QGemm Gelu QGemm",
    )


def test_a_linear_layer_between_linear_layers_gives_integers(tmp_path: Path) -> None:
    check(
        tmp_path,
        """(float[4,16] x) => (y) <float[16,24] w, float[24] b, float[24,8] v> {
          m = Gemm(x, w, b)
          r = Relu(m)
          y = Gemm(r, v) }""",
        """
        m = Gemm([x], [w:1], [b:0])
        r = Relu(m)
        y = Gemm([r], [v:1])
        """,
        "QGemm QGemm",
    )


def test_a_classifier_behind_a_pool(tmp_path: Path) -> None:
    check(
        tmp_path,
        f"""{IMAGE} <float[16,16,3,3] w, float[10,16] v, float[10] b> {{
          a = Conv<{K3}>(x, w)
          p = GlobalAveragePool(a)
          f = Flatten(p)
          y = Gemm<transB = 1>(f, v, b) }}""",
        """
        a = Conv([x], [w:0])
        p = GlobalAveragePool([a])
        f = Flatten([p])
        y = Gemm([f], [v:0], [b:0])
        """,
        "QLinearConv QLinearGlobalAveragePool Flatten QGemm",
    )


def test_followers_between_floats_stay_in_floats() -> None:
    assert after(
        "(float[1,16,8,8] x) => (y) { s = Sin(x)  a = Add(s, x)  y = Sigmoid(a) }", CPU
    ) == ("s = Sin(x)\na = Add(s, x)\ny = Sigmoid(a)")
    text = f"{IMAGE} <float[16,16,1,1] w> {{ a = Conv(x, w)  s = Sigmoid(a)  y = Sin(s) }}"
    assert "s = Sigmoid([a])\ny = Sin(s)" in after(text, CPU)
    assert place(model_of(text), CPU).floats == {
        "s": "nothing that reads it computes in integers",
    }


def test_a_follower_that_adds_a_float_tensor_stays_in_floats() -> None:
    text = f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v> {{
      a = Conv(x, w)  t = Tan(x)  s = Add(a, t)  y = Conv(s, v) }}"""
    assert place(model_of(text), CPU).floats == {"s": "not all that it reads comes from integers"}


def test_thin_products_stay_in_floats() -> None:
    text = """(float[1,16,8,8] x) => (y) <float[3,16,3,3] w, float[16,3,1,1] v> {
      a = Conv(x, w)  y = Conv(a, v) }"""
    assert after(text, CPU) == "a = Conv(x, w)\ny = Conv(a, v)"


def test_the_first_product_may_read_few_channels() -> None:
    text = """(float[1,3,8,8] x) => (y) <float[16,3,3,3] w, float[16,16,1,1] v> {
      a = Conv(x, w)  y = Conv(a, v) }"""
    assert after(text, CPU) == ("a = Conv([x], [w:0])\ny.float = Conv([a], [v:0])\nout [y]")


MIDDLE = f"""{IMAGE} <float[16,16,1,1] w, float[16,16,1,1] v, float[16] b, float[16,16,1,1] u> {{
  a = Conv(x, w)  c = Conv(a, v, b)  y = Conv(c, u) }}"""


def test_floats_between_grids_stay_floats(tmp_path: Path) -> None:
    """ONNX Runtime rounds the float weights of such a layer, unless it cannot read its bias."""
    model = model_of(MIDDLE)
    skewed = np.geomspace(1e-3, 1, 16).astype(np.float32).reshape(16, 1, 1, 1)
    tensor = model.graph.initializers["v"].const_value
    assert tensor is not None
    model.graph.initializers["v"].const_value = ir.tensor(tensor.numpy() * skewed, name="v")
    errors, ops = [], []
    for rules in (replace(CPU, rounds_floats=False), CPU):
        result, _ = quantised(model, rules, feeds_of(model), exclude=("c",))
        assert ("c = Conv([a], v, b)" in shown(result)) is not rules.rounds_floats
        fused, outputs = optimised(result, str(tmp_path / "optimised.onnx"))
        error = np.abs(outputs[0] - run(result, feeds_of(model))[0]).max() / np.ptp(outputs[0])
        ops.append([op for op in fused if "Conv" in op])
        errors.append(error)
    assert ops == [["QLinearConv"] * 3, ["QLinearConv", "Conv", "QLinearConv"]]
    assert errors[1] < 1 / 255 < errors[0]


def test_the_bias_that_holds_floats_is_exact() -> None:
    model = model_of(MIDDLE)
    result, _ = quantised(model, CPU, feeds_of(model), exclude=("c",))
    made = next(n for n in result.graph if n.name == "c").inputs[2]
    assert made is not None
    bias = model.graph.initializers["b"].const_value
    assert bias is not None
    result.graph.outputs[:] = [made]
    np.testing.assert_array_equal(run(result, feeds_of(model))[0], bias.numpy())


def floats(text: str) -> dict[str, str]:
    return dict(place(model_of(text), CPU).floats)


@pytest.mark.parametrize(
    ("text", "node", "reason"),
    [
        (
            "(float[4,8] x, float[8,8] w) => (y) { y = MatMul(x, w) }",
            "y",
            "it multiplies two activations",
        ),
        (
            "(float[4,8] x) => (y) <float[4,4] w> { y = MatMul(w, x) }",
            "y",
            "its first factor is a constant",
        ),
        (
            "(float[1,8,4,4] x, float[8,8,1,1] w) => (y) { y = Conv(x, w) }",
            "y",
            "its weight is computed",
        ),
        (
            "(double[4,8] x, double[8,8] w) => (y) { y = MatMul(x, w) }",
            "y",
            "the element type of 'x' is double, not float32",
        ),
        (
            "(float[4,8] x) => (y) <float[8,8] w> { y = Gemm<alpha = 0.5>(x, w) }",
            "y",
            "it scales its product",
        ),
        (
            "(float[4,8] x) => (y) <float[8,8] w, float[8] b> { y = Gemm<beta = 0.5>(x, w, b) }",
            "y",
            "it scales its bias",
        ),
        (
            "(float[4,8] x, float[8] b) => (y) <float[8,8] w> { y = Gemm(x, w, b) }",
            "y",
            "its bias is not one number per output",
        ),
        (
            "(float[4,8] x) => (y) <float[8,8] w> { a = MatMul(x, w)  y = Gemm<transB = 1>(a, w) }",
            "a",
            "'y' reads its weight along another axis",
        ),
        (
            "(float[8,8] x) => (y) <float[8,8] w> { a = MatMul(x, w)  y = Add(a, w) }",
            "a",
            "'y' reads its weight too",
        ),
        (
            "(float[1,8,4,4] x) => (y) <float[8,8,2,2] w> { y = ConvTranspose(x, w) }",
            "y",
            "the target has no integer kernel for it",
        ),
        (
            "(float[1,8,4,4] x) => (y) <float[8,8,1,1] w, float[8,1,1] c>"
            " { a = Conv(x, w)  s = Mul(a, c) y = Conv(s, w) }",
            "s",
            "it reads a constant",
        ),
    ],
)
def test_reasons(text: str, node: str, reason: str) -> None:
    assert floats(text)[node] == reason


def test_a_weight_that_two_products_share_is_stored_once() -> None:
    text = f"{IMAGE} <float[16,16,1,1] w> {{ a = Conv(x, w)  y = Conv(a, w) }}"
    assert after(text, CPU) == "a = Conv([x], [w:0])\ny.float = Conv([a], [w:0])\nout [y]"
    (weight,) = place(model_of(text), CPU).weights
    assert weight.readers == (("a", 1), ("y", 1))


def test_nested_graphs_read_floats() -> None:
    text = f"""{IMAGE} <float[16,16,1,1] w, bool yes = {{1}}> {{
      a = Conv(x, w)
      y = If (yes) <
        then_branch = t () => (float[1,16,8,8] u) {{ u = Sin(a) }},
        else_branch = e () => (float[1,16,8,8] v) {{ v = Cos(a) }}> }}"""
    model = model_of(text)
    (x, a) = place(model, CPU).points
    assert (x.readers, a.readers) == ((("a", 0),), ())


THREE = f"""{IMAGE} <float[16,16,1,1] u, float[16,16,1,1] v, float[16,16,1,1] w> {{
  a1 = Conv(x, u)  a2 = Conv(a1, v)  b1 = Conv(a2, w)  y = Sigmoid(b1) }}"""


def test_include_and_exclude_go_by_name() -> None:
    assert set(place(model_of(THREE), CPU, include=["a*"]).floats) == {"b1", "y"}
    found = place(model_of(THREE), CPU, include=["a*"], exclude=["*2"]).floats
    assert found["a2"] == "kept by --keep-float"
    assert found["b1"] == "not named by --include"
    with pytest.raises(
        UsageError, match=r"(?s)--keep-float c\*.*matches no node that could be quan"
    ):
        place(model_of(THREE), CPU, exclude=["c*"])


def test_nothing_of_a_network_without_products() -> None:
    placement = place(model_of("(float[1,16] x) => (y) { y = Sin(x) }"), TENSORRT)
    assert (placement.points, placement.weights, dict(placement.floats)) == ((), (), {})
