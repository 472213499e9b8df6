"""Models as bytes, piece by piece: they mean what the ordinary ones mean, and are never whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_ir import serde

from edgec import model as models
from edgec import model_stream
from edgec.model_stream import pieces

DTYPES = [
    np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int64,
    np.uint8, np.bool_, np.complex64, ml_dtypes.int4, ml_dtypes.uint4,
]  # fmt: skip


def model_with(*tensors: ir.TensorProtocol) -> ir.Model:
    """A model without nodes that holds these tensors and returns them all."""
    values = [
        ir.Value(
            name=t.name, type=ir.TensorType(t.dtype), shape=ir.Shape(t.shape.numpy()), const_value=t
        )
        for t in tensors
    ]
    graph = ir.Graph([], values, nodes=[], initializers=values, opset_imports={"": 21}, name="net")
    return ir.Model(graph, ir_version=10)


def tensor(dtype: type[np.generic], rows: int, name: str = "w") -> ir.TensorProtocol:
    values = np.random.default_rng(0).integers(0, 2, (rows, 3)).astype(dtype)
    return ir.tensor(values, name=name, doc_string="made up")


def joined(model: ir.Model) -> onnx.ModelProto:
    return onnx.load_from_string(b"".join(pieces(model)))


@pytest.mark.parametrize("rows", [0, 1, 7, 100, 6000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_size(
    dtype: type[np.generic], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_stream, "_LARGE_BYTES", 64)
    model = model_with(tensor(dtype, rows), tensor(np.float32, 2, "small"))
    assert joined(model) == serde.serialize_model(model)


def test_strings_and_lazy_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_stream, "_LARGE_BYTES", 1)
    strings = ir.StringTensor([b"a" * 90, b""], shape=ir.Shape((2,)), name="s")
    lazy = ir.LazyTensor(
        lambda: tensor(np.float32, 50), ir.DataType.FLOAT, ir.Shape((50, 3)), name="lazy"
    )
    model = model_with(strings, lazy)
    assert joined(model) == serde.serialize_model(model)


def test_a_weight_in_typed_fields_keeps_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_stream, "_LARGE_BYTES", 1)
    values = [0.5, -1.0, 3.0]
    typed = helper.make_tensor("w", TensorProto.FLOAT, (3,), values)
    model = model_with(serde.deserialize_tensor(typed))
    assert numpy_helper.to_array(joined(model).graph.initializer[0]).tolist() == values


def test_the_model_is_not_changed() -> None:
    large = tensor(np.float32, 9000)
    model = model_with(large)
    first, second = b"".join(pieces(model)), b"".join(pieces(model))
    assert first == second
    assert model.graph.initializers["w"].const_value is large


def test_no_copy_of_all_weights(tmp_path: Path) -> None:
    names = [f"w{number}" for number in range(16)]
    model = model_with(*(tensor(np.float32, 80_000, name) for name in names))  # 16 times 0.96 MB
    models.save(model, tmp_path / "warm.onnx")
    tracemalloc.start()
    models.save(model, tmp_path / "net.onnx")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "net.onnx").stat().st_size > 15e6
    assert peak < 4e6
