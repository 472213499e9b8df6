"""Graphs in 16 bits: as close to float32 as the format allows, legal, and cast no more than needed.

ONNX Runtime's CPU has few kernels of float16 and none of bfloat16; the rest of float16 it runs in
float32, and drops the casts between. `wide` writes down what a device of 16 bits would round.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from quantizing import values_of
from zoo import feeds_of, model_of, run
from zoo.architectures import ARCHITECTURES
from zoo.light import NAMES, light

from edgec.errors import UsageError
from edgec.model import copied
from edgec.passes.base import Context
from edgec.passes.quantize.halves import Halve
from edgec.preparing import prepared

DIMS = {"batch": 2, "sequence": 7, "target": 4}
HALF = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}


def snr(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Signal to noise, dB."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    return float(10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-300)))


def halved(model: ir.Model, **options: Any) -> tuple[ir.Model, dict[str, Any]]:
    """The model in 16 bits, checked by ONNX with full inference of types; and the record."""
    context = Context()
    made = Halve(**options)(model, context)
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    return made, context.records["halve"]


def wide(model: ir.Model) -> ir.Model:
    """Every node that computes in 16 bits computes in float32 between casts."""
    for node in list(model.graph):
        if node.op_type == "Cast":
            continue
        for i, value in enumerate(node.inputs):
            if value is not None and value.dtype in HALF.values():
                up = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
                up.outputs[0].name = f"{node.outputs[0].name}.{i}.up"
                up.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
                model.graph.insert_before(node, up)
                node.replace_input_with(i, up.outputs[0])
        for value in node.outputs:
            if value.dtype is not None and value.dtype in HALF.values():
                down = ir.node("Cast", [value], {"to": value.dtype.value})
                rounded = down.outputs[0]
                rounded.name, rounded.type = f"{value.name}.down", value.type
                value.replace_all_uses_with(rounded)
                down.replace_input_with(0, value)
                value.type = ir.TensorType(ir.DataType.FLOAT)
                model.graph.insert_after(node, down)
    return model


def logits(model: ir.Model) -> ir.Model:
    """The model without its last Softmax, which multiplies errors by the size of the logits."""
    last = model.graph[-1]
    if last.op_type == "Softmax" and (scores := last.inputs[0]) is not None:
        scores.shape, scores.type = last.outputs[0].shape, last.outputs[0].type
        model.graph.outputs[0] = scores
        model.graph.remove(last, safe=True)
    return model


def rounded(model: ir.Model) -> ir.Model:
    """The network in float32, with weights that float16 holds."""
    copy = model.clone()
    for value in copy.graph.initializers.values():
        if value.const_value is not None and value.dtype == ir.DataType.FLOAT:
            data = value.const_value.numpy().astype(np.float16).astype(np.float32)
            value.const_value = ir.tensor(data, name=value.name)
    return copy


# network: casts, nodes in float32
LIGHT = {
    "bvlc_alexnet": (6, 2),
    "densenet121": (2, 0),
    "inception_v1": (6, 2),
    "inception_v2": (2, 0),
    "resnet50": (2, 0),
    "shufflenet": (2, 0),
    "squeezenet": (2, 0),
    "vgg19": (2, 0),
    "zfnet512": (6, 2),
}


SLOW = ("bvlc_alexnet", "densenet121", "inception_v2", "vgg19", "zfnet512")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NAMES]
)
def test_light(name: str) -> None:
    """Random networks blow errors up from layer to layer: what the weights' rounding alone does
    is the measure."""
    model = logits(prepared(light(name)))
    feeds = feeds_of(model, 0)
    (wanted,) = run(model, feeds)
    (nearest,) = run(rounded(model), feeds)
    made, record = halved(model)
    (found,) = run(wide(made), feeds)
    assert snr(wanted, found) > snr(wanted, nearest) - 8
    assert (record["casts"], len(record["islands"])) == LIGHT[name]
    assert record["bytes"]["after"] < 0.51 * record["bytes"]["before"]


# architecture: casts, nodes in float32
TRANSFORMERS = {
    "bert": (5, 6),
    "gpt2": (9, 8),
    "llama": (17, 26),
    "t5": (37, 61),
    "vit": (6, 6),
    "swin_v2": (26, 20),
    "convnext_v2": (12, 20),
    "whisper": (14, 10),
}


@pytest.mark.parametrize(
    ("name", "format"),
    [*((n, "float16") for n in TRANSFORMERS), *((n, "bfloat16") for n in ("bert", "llama", "vit"))],
)
def test_architectures(name: str, format: str) -> None:
    model = prepared(ARCHITECTURES[name]())
    feeds = feeds_of(model, 0, DIMS)
    wanted = run(model, feeds)
    made, record = halved(model, format=format)
    found = run(wide(made), feeds)
    for a, b in zip(wanted, found, strict=True):
        assert b.dtype == a.dtype
        assert snr(a, b) > (45 if format == "float16" else 24)
    share = 0.6 if format == "float16" else 0.7  # Conv has bfloat16 from operator set 22 on
    assert record["bytes"]["after"] < share * record["bytes"]["before"]
    if format == "float16":
        assert (record["casts"], len(record["islands"])) == TRANSFORMERS[name]


# --- islands --------------------------------------------------------------------------------------

PAIR = (
    "(float[4,8] x) => (y) <float[8,8] w, float[8,8] v{weights}>"
    "{{ a = MatMul(x, w) {body} y = MatMul(b, v) }}"
)


def between(body: str, weights: str = "") -> ir.Model:
    """`body` turns `a` into `b`, between two products."""
    return model_of(PAIR.format(body=body, weights=weights))


def names(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_activations_beyond_float16_are_an_island_where_ranges_say_so() -> None:
    text = "c = Mul(a, s) d = Relu(c) e = Mul(d, t) b = Add(e, a)"
    model = between(text, ", float s = {60000.0}, float t = {0.0001}")
    feeds = feeds_of(model, 0)
    (wanted,) = run(model, feeds)
    (lost,) = run(wide(halved(model.clone())[0]), feeds)
    assert not np.isfinite(lost).all()
    made, record = halved(model, ranges={"c": (-2e5, 2e5), "d": (0.0, 2e5), "e": (0.0, 20.0)})
    (found,) = run(made, feeds)
    assert snr(wanted, found) > 55
    assert set(record["islands"]) == {"c", "d", "e"}
    assert record["islands"]["c"] == "'c' reaches 2e+05; float16 ends at 65504"


def test_ranges_save_a_network_that_overflows() -> None:
    """LeViT with random weights: its last attention reaches 5e5."""
    model = prepared(ARCHITECTURES["levit"]())
    feeds = feeds_of(model, 0, DIMS)
    (wanted,) = run(model, feeds)
    made = [v for n in model.graph for v in n.outputs if v.dtype == ir.DataType.FLOAT]
    seen = values_of(model, [v.name or "" for v in made], feeds)
    ranges = {name: (float(a.min()), float(a.max())) for name, a in seen.items()}
    (lost,) = run(wide(halved(copied(model))[0]), feeds)
    assert not np.isfinite(lost).all()
    half, record = halved(model, ranges=ranges)
    (found,) = run(wide(half), feeds)
    assert snr(wanted, found) > 45
    reasons = Counter("reaches" in why for why in record["islands"].values())
    assert 0 < reasons[True] < 20


def test_attention_of_one_node_keeps_its_softmax_in_float32() -> None:
    model = model_of(
        "(float[2,3,5,8] q, float[2,3,7,8] k) => (y) { y = Attention(q, k, k) }", opset=23
    )
    made, record = halved(model)
    assert record["islands"] == {}
    (node,) = [n for n in made.graph if n.op_type == "Attention"]
    assert node.attributes.get_int("softmax_precision", 0) == ir.DataType.FLOAT.value


def test_bfloat16_has_the_range_of_float32() -> None:
    model = between("b = Relu(a)")
    record = halved(model, format="bfloat16", ranges={"a": (-2e5, 2e5)})[1]
    assert record["islands"] == {}


def test_activations_too_small_are_an_island() -> None:
    record = halved(between("b = Relu(a)"), ranges={"b": (0.0, 1e-7)})[1]
    assert "'b' never exceeds 1e-07" in str(record["islands"])


@pytest.mark.parametrize(
    ("body", "weights", "node", "reason"),
    [
        ("b = Softmax(a)", "", "b", "adds up exponentials"),
        ("b = Exp(a)", "", "b", "overflows"),
        ("b = Mul(a, a)", "", "b", "squares"),
        ("b = Pow(a, p)", ", float p = {2.0}", "b", "overflows"),
        ("c = Abs(a) d = Add(c, p) e = Sqrt(d) b = Div(a, e)", ", float p = {1e-12}", "d",
         "loses 100.0%"),
        ("c = Add(a, p) b = Softmax(c)", ", float p = {-3.4e38}", "c", "may carry 'p'"),
        ("c = Where(k, a, p) b = Relu(c)", ", float p = {-3.4e38}, bool[8] k = {0,1,0,1,1,1,1,1}",
         "b", "may carry 'p'"),
        ("b = Sin(a)", "", "b", "periodic"),
        ("c = Concat<axis=0>(a, a) d = Tile(c, r) s = ReduceSum<keepdims=1>(d, n) b = Add(a, s)",
         ", int64[1] n = {0}, int64[2] r = {33, 1}", "s", "adds up more numbers"),
        ("b = LpNormalization<axis=1>(a)", "", "b", "adds up squares"),
        ("d = Unsqueeze(a, n) c = InstanceNormalization(d, s, t) b = Squeeze(c, n)",
         ", float[8] s, float[8] t, int64[1] n = {2}", "c", "takes statistics"),
    ],
)  # fmt: skip
def test_stays_in_float32(body: str, weights: str, node: str, reason: str) -> None:
    model = between(body, weights)
    feeds = feeds_of(model, 0)
    (wanted,) = run(model, feeds)
    made, record = halved(model)
    assert reason in record["islands"][node]
    (found,) = run(made, feeds)
    assert snr(wanted, found) > 55


@pytest.mark.parametrize(
    ("body", "weights", "ranges"),
    [
        ("b = Exp(a)", "", {"a": (-5.0, 5.0), "b": (0.0, 150.0)}),
        ("b = Mul(a, a)", "", {"a": (-5.0, 5.0), "b": (0.0, 25.0)}),
        ("b = Pow(a, p)", ", float p = {0.5}", {}),
        ("b = Clip(a, p, q)", ", float p = {-3.4e38}, float q = {1.0}", {}),
        ("b = Max(a, p)", ", float p = {-3.4e38}", {}),
        ("c = Where(k, a, p) b = Relu(c)", ", float p = {-inf}, bool[8] k = {0,1,0,1,1,1,1,1}", {}),
        ("s = ReduceSum<keepdims=1>(a, n) b = Add(a, s)", ", int64[1] n = {1}", {}),
        ("b = LayerNormalization(a, s)", ", float[8] s", {}),  # promises float32 inside
    ],
)  # fmt: skip
def test_goes_to_16_bits(body: str, weights: str, ranges: dict[str, tuple[float, float]]) -> None:
    _, record = halved(between(body, weights), ranges=ranges)
    assert record["islands"] == {}


def test_a_mask_is_carried_as_far_as_the_softmax() -> None:
    _, record = halved(between("c = Add(a, p) b = Softmax(c)", ", float p = {-3.4e38}"))
    assert set(record["islands"]) == {"c", "b"}


def test_positions_are_counted_in_float32() -> None:
    """Rotary angles: positions times frequencies, up to the sine; products by weights are not."""
    model = model_of(
        "(int64[2,7] p, float[7,8] x) => (y, z) <float[8,8] w, float[1,4] f, int64[1] n = {2},"
        " float[7,8] v, float c = {0.00390625}>"
        "{ q = Cast<to=1>(p) u = Unsqueeze(q, n) a = MatMul(u, f) s = Cos(a)"
        "  t = ReduceMax<keepdims=0>(s) h = MatMul(x, w) y = Mul(h, t)"
        "  g = Mul(q, c) z = MatMul(g, v) }"
    )
    _, record = halved(model)
    assert set(record["islands"]) >= {"q", "u", "a", "s", "g"}
    assert not {"h", "z"} & set(record["islands"])
    assert "whole numbers" in record["islands"]["a"]


# --- casts ----------------------------------------------------------------------------------------


def test_readers_share_a_cast() -> None:
    model = between("c = Softmax(a) d = Softmax<axis=0>(a) b = Add(c, d)")
    made, record = halved(model)
    assert names(made) == [
        "Cast",
        "MatMul",
        "Cast",
        "Softmax",
        "Softmax",
        "Add",
        "Cast",
        "MatMul",
        "Cast",
    ]
    assert record["casts"] == 4
    assert "between islands" in record["islands"]["b"]


def test_an_island_grows_over_neighbours() -> None:
    """Instead of casting behind the first Softmax and before the second."""
    made, _ = halved(
        between("c = Softmax(a) d = Mul(c, s) e = Neg(d) b = Softmax(e)", ", float s = {3.0}")
    )
    assert Counter(names(made))["Cast"] == 4


def test_inputs_in_16_bits_on_request() -> None:
    model = between("b = Relu(a)")
    feeds = feeds_of(model, 0)
    (wanted,) = run(model, feeds)
    made, record = halved(model, keep_inputs=False)
    assert record["casts"] == 0
    (found,) = run(made, {"x": feeds["x"].astype(np.float16)})
    assert found.dtype == np.float16
    assert snr(wanted, found) > 55


def test_an_output_that_is_read_on_keeps_its_name() -> None:
    model = model_of(
        "(float[4,8] x) => (a, y) <float[8,8] w, float[8,8] v>"
        "{ a = MatMul(x, w) b = Softmax(a) y = MatMul(b, v) }"
    )
    feeds = feeds_of(model, 0)
    wanted = run(model, feeds)
    made, record = halved(model)
    assert record["casts"] == 4  # of x, of a for the caller and for Softmax, of b, of y
    for a, b in zip(wanted, run(made, feeds), strict=True):
        assert b.dtype == np.float32
        assert snr(a, b) > 55


def test_a_constant_on_both_sides_is_stored_twice() -> None:
    model = between(
        "c = Softmax(a) d = Mul(c, s) e = Exp(d) f = Add(e, x) g = MatMul(f, w) b = Mul(g, s)",
        ", float[8] s",
    )
    made, _ = halved(model)
    kinds = {v.name: v.dtype for v in made.graph.initializers.values()}
    assert {kinds["s"], kinds["s.float16"]} == {ir.DataType.FLOAT, ir.DataType.FLOAT16}


def test_what_runs_a_nested_graph_stays_in_float32_with_all_that_it_reads() -> None:
    model = model_of(
        "(float[4,8] x, bool k) => (y) <float[8,8] w, float[8,8] v>"
        "{ a = MatMul(x, w)"
        "  b = If(k) <then_branch = one () => (float[4,8] p) { p = Relu(a) },"
        "             else_branch = two () => (float[4,8] q) { q = Neg(a) }>"
        "  y = MatMul(b, v) }"
    )
    feeds = {"x": feeds_of(model, 0)["x"], "k": np.asarray(True)}
    (wanted,) = run(model, feeds)
    made, record = halved(model)
    assert record["islands"] == {"b": "runs a nested graph"}
    (found,) = run(made, feeds)
    assert snr(wanted, found) > 55


# --- types ----------------------------------------------------------------------------------------


def test_operators_without_the_type_stay() -> None:
    text = PAIR.format(
        body="q = QuantizeLinear(a, s, z) b = DequantizeLinear(q, s, z)",
        weights=", float s = {0.05}, int8 z = {0}",
    )
    old, new = (halved(model_of(text, opset=opset))[1]["islands"] for opset in (18, 19))
    assert old == dict.fromkeys("qb", "has no float16 in operator set 18")
    assert new == {}


def test_einsum_has_no_bfloat16() -> None:
    record = halved(between('b = Einsum<equation="ij,kj->ik">(a, v)'), format="bfloat16")[1]
    assert record["islands"] == {"b": "has no bfloat16 in operator set 20"}


def test_kernels_that_a_target_lacks() -> None:
    record = halved(between("b = Tanh(a)"), lacking={"Tanh": "has no kernel"})[1]
    assert record["islands"] == {"b": "has no kernel"}


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match="float16 or bfloat16"):
        halved(between("b = Relu(a)"), format="float8")
