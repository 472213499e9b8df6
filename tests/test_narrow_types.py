"""Weights of every type that stores fewer than 32 bits: in, out, checked and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from zoo import model_of

import edgec
from edgec.errors import UnsupportedError, UsageError
from edgec.graph.cost import count
from edgec.graph.facts import facts_of
from edgec.graph.lint import lint
from edgec.model import load, save, to_bytes
from edgec.model_inputs import input_shapes
from edgec.passes.base import Context
from edgec.passes.quantize.halves import Halve
from edgec.passes.quantize.weight_only import WeightOnly

TYPES = (
    "INT4", "UINT4", "INT8", "UINT8", "FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT4E2M1",
)  # fmt: skip
SHAPE = (301, 257)  # an odd number of elements, and more bytes than are written in one piece


def weight(dtype: ir.DataType) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if dtype.is_floating_point():
        return rng.normal(0, 2, SHAPE).astype(np.float32).astype(dtype.numpy())
    return rng.integers(0, 7, SHAPE).astype(dtype.numpy())


def model_with(array: NDArray[Any], dtype: ir.DataType) -> ir.Model:
    """y = x · Cast(w)."""
    model = model_of(f"(float[2,{SHAPE[0]}] x, float[{SHAPE[0]},{SHAPE[1]}] v) => (y)"
                     "{ y = MatMul(x, v) }", opset=23, ir_version=11)  # fmt: skip
    value = ir.val("w", const_value=ir.Tensor(array, dtype=dtype, name="w"))
    model.graph.register_initializer(value)
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
    cast.outputs[0].name = "c"
    model.graph.insert_before(model.graph[0], cast)
    model.graph.inputs[1].replace_all_uses_with(cast.outputs[0])
    model.graph.inputs.pop()
    return model


@pytest.mark.parametrize("name", TYPES)
def test_in_and_out(name: str, tmp_path: Path) -> None:
    dtype = ir.DataType[name]
    array = weight(dtype)
    model = model_with(array, dtype)
    content = to_bytes(model)
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    save(model, tmp_path / "m.onnx")
    onnx.save_model(
        proto,
        str(tmp_path / "e.onnx"),
        save_as_external_data=True,
        location="e.bin",
        size_threshold=1,
    )
    for file in ("m.onnx", "e.onnx"):
        again = load(tmp_path / file)
        lint(again)
        assert to_bytes(again) == content
        tensor = again.graph.initializers["w"].const_value
        assert tensor is not None
        assert tensor.dtype == dtype
        np.testing.assert_array_equal(tensor.numpy().astype(float), array.astype(float))
    totals = count(again, facts_of(again, input_shapes(again)))
    assert totals.params == array.size
    assert totals.size == -(-array.size * dtype.bitwidth // 8)
    assert not edgec.inspect(tmp_path / "m.onnx").totals.uncounted


@pytest.mark.parametrize("name", [t for t in TYPES if t.startswith(("FLOAT16", "BF", "FLOAT8"))])
def test_a_nan_is_refused(name: str) -> None:
    dtype = ir.DataType[name]
    array = weight(dtype)
    array[3, 4] = np.nan
    with pytest.raises(UsageError, match="'w' holds NaN"):
        load(model_with(array, dtype))


NET = (
    "(float[4,64] x) => (y) <float[64,128] w1, float[128] b1, float[128,64] w2, float[64,10] w3>"
    "{ a = Gemm(x, w1, b1) b = Relu(a) c = MatMul(b, w2) d = Relu(c) y = MatMul(d, w3) }"
)


def converted(*passes: Any) -> ir.Model:
    model, context = model_of(NET, opset=21), Context()
    for step in passes:
        model = step(model, context)
    return model


def built(model: ir.Model, folder: Path, **options: Any) -> dict[str, Any]:
    edgec.build(model, output=folder, measure=None, **options)
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def test_a_network_in_float16_is_pruned_and_bundled(tmp_path: Path) -> None:
    manifest = built(converted(Halve()), tmp_path / "out", size=0.6)
    assert manifest["result"]["params"] < 0.6 * manifest["original"]["params"]
    made = load(tmp_path / "out" / "model.onnx")
    assert {v.dtype for v in made.graph.initializers.values()} == {ir.DataType.FLOAT16}


@pytest.mark.parametrize(
    "passes",
    [
        (WeightOnly(smallest=64),),
        (WeightOnly(smallest=64, bits=8, block=0, symmetric=False),),
        (Halve(), WeightOnly(smallest=64)),
        (WeightOnly(smallest=64), Halve()),
    ],
    ids=["int4", "uint8", "float16-int4", "int4-float16"],
)
def test_integers_are_bundled(passes: tuple[Any, ...], tmp_path: Path) -> None:
    """For ONNX's reference: ONNX Runtime's kernel rounds activations too, beyond the tolerance."""
    model = converted(*passes)
    manifest = built(model, tmp_path / "out", size="1MB", backend="reference")  # as it is
    assert manifest["result"]["params"] == manifest["original"]["params"]
    made = load(tmp_path / "out" / "model.onnx")
    kinds = {n: v.dtype for n, v in model.graph.initializers.items()}
    assert {n: v.dtype for n, v in made.graph.initializers.items()} == kinds


def test_a_target_without_kernels_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Gemm"):
        built(converted(Halve("bfloat16")), tmp_path / "out", size=0.6)
