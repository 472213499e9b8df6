"""Models in and out: what loads, what is refused and how, what a saved file holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from zoo import model_of

from edgec import model as models
from edgec import model_inputs, model_proto, model_tensors
from edgec.errors import EdgecError, UnsupportedError, UsageError
from edgec.model_inputs import input_shapes

Edit = Callable[[onnx.ModelProto], None]


def proto(opset: int = 17, ir_version: int = 8, batch: str = "N") -> onnx.ModelProto:
    """x [batch, 3, 4, 4] → Conv(w) → Relu → y, with Conv's weight as an initializer."""
    text = f"""
        <ir_version: {ir_version}, opset_import: ["" : {opset}]>
        net (float[{batch}, 3, 4, 4] x) => (float[{batch}, 2, 4, 4] y)
        {{
            c = Conv <kernel_shape = [1, 1]> (x, w)
            y = Relu (c)
        }}
    """
    model = parser.parse_model(text)
    model.graph.node[0].name = "conv"
    weight = np.random.default_rng(0).standard_normal((2, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


def write(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def run(content: bytes, **feeds: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, feeds)]


def refused(source: object, kind: type[EdgecError], *words: str) -> EdgecError:
    """Load `source` and return the error, which must be of just this class and say `words`."""
    with pytest.raises(EdgecError) as caught:
        models.load(source)  # type: ignore[arg-type]
    error = caught.value
    assert type(error) is kind
    assert error.remedy
    for word in words:
        assert word in str(error)
    return error


# What loads


@pytest.mark.parametrize("opset", range(9, 26))
def test_every_opset_from_9_to_25_loads(opset: int, tmp_path: Path) -> None:
    model = models.load(write(proto(opset), tmp_path))
    assert model.opset_imports[""] == opset
    assert [node.op_type for node in model.graph] == ["Conv", "Relu"]


@pytest.mark.parametrize("opset", [1, 8, 26])
def test_other_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    refused(write(proto(opset), tmp_path), UnsupportedError, f"{opset} is outside 9–25")


def test_weights_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    old = proto(opset=9, ir_version=3)
    old.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3, 1, 1]))
    model = models.load(write(old, tmp_path))
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert list(model.graph.initializers) == ["w"]
    saved = onnx.load_from_string(models.to_bytes(model))
    assert [v.name for v in saved.graph.input] == ["x"]
    assert saved.ir_version == 4  # before, initializers had to be inputs
    onnx.checker.check_model(saved, full_check=True)


def test_a_model_in_memory_is_not_changed() -> None:
    source = proto(ir_version=3)
    source.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3, 1, 1]))
    before = source.SerializeToString(deterministic=True)
    from_proto = models.load(source)
    assert source.SerializeToString(deterministic=True) == before
    assert len(from_proto.graph.inputs) == 1

    original = ir.from_proto(source)
    from_ir = models.load(original, inputs={"x": (2, 3, 4, 4)})
    assert from_ir is not original
    assert len(original.graph.inputs) == 2
    assert dict(original.meta) == {}
    assert models.to_bytes(from_ir) == models.to_bytes(from_proto)
    assert input_shapes(models.load(from_ir)) == {"x": (2, 3, 4, 4)}


def test_the_long_name_of_the_standard_domain(tmp_path: Path) -> None:
    model = proto()
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    loaded = models.load(write(model, tmp_path))
    assert dict(loaded.opset_imports) == {"": 17}
    assert {node.domain for node in loaded.graph} == {""}


def test_an_unknown_operator_loads(tmp_path: Path) -> None:
    model = proto()
    model.opset_import.add(domain="com.acme", version=1)
    model.graph.node[1].domain = "com.acme"
    model.graph.node[1].op_type = "Fancy"
    assert [n.op_type for n in models.load(write(model, tmp_path)).graph] == ["Conv", "Fancy"]


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    model = proto()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert [n.op_type for n in models.load(write(model, tmp_path)).graph] == ["Conv", "Relu"]


def test_functions_are_inlined(tmp_path: Path) -> None:
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "house" : 1]>
        net (float[2] x) => (float[2] y, float[2] z)
        {
            h = house.scaled <by = 3.0> (x)
            y = house.square (h)
            z = house.scaled <by = 0.5> (y)
        }
        <domain: "house", opset_import: ["" : 17, "house" : 1]>
        scaled <by> (a) => (b) { k = Constant <value_float: float = @by> ()
                                 s = house.square (a)
                                 b = Mul (s, k) }
        <domain: "house", opset_import: ["" : 17]>
        square (a) => (b) { b = Mul (a, a) }
    """)
    loaded = models.load(write(model, tmp_path))
    assert not loaded.functions
    assert {node.op_type for node in loaded.graph} == {"Mul", "Constant"}
    x = np.array([1.0, -2.0], np.float32)
    y, z = run(models.to_bytes(loaded), x=x)
    np.testing.assert_array_equal(y, (3 * x**2) ** 2)
    np.testing.assert_array_equal(z, 0.5 * y**2)


# Malformed graphs


def _no_graph(model: onnx.ModelProto) -> None:
    model.ClearField("graph")


def _no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def _only_other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx.ml"


def _no_ir_version(model: onnx.ModelProto) -> None:
    model.ClearField("ir_version")


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def _dangling(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def _dangling_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node.add().CopyFrom(model.graph.node[1])


def _weight_twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])


def _output_twice(model: onnx.ModelProto) -> None:
    model.graph.output.add().CopyFrom(model.graph.output[0])


def _no_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def _zero_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0


def _stray_reference(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].ref_attr_name = "outer"


def _not_utf8(model: onnx.ModelProto) -> None:
    content = model.SerializeToString().replace(b"conv", b"\x80onv")
    model.ParseFromString(content)


def _short_weight(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.raw_data = weight.raw_data[:-4]


def _enormous_weight(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.dims[0] = 1 << 50


def _strange_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 77


def _in_another_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["c"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    flag = numpy_helper.from_array(np.array(True), "flag")
    model.graph.initializer.append(flag)
    node = helper.make_node("If", ["flag"], ["t"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)
    model.graph.node.append(helper.make_node("Neg", ["inner"], ["u"]))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_no_graph, ["holds no ONNX graph"]),
        (_no_opset, ["names no operator set"]),
        (_only_other_opset, ["does not import the ONNX operator set"]),
        (_no_ir_version, ["names no IR version"]),
        (_cycle, ["cycle", "node 'conv' (Conv)", "the Relu that makes 'y'"]),
        (_dangling, ["node 'conv' (Conv) reads 'nowhere', which nothing produces"]),
        (_dangling_output, ["output is 'nowhere', which nothing produces"]),
        (_twice, ["value 'y' is defined more than once"]),
        (_weight_twice, ["weight 'w' is defined more than once"]),
        (_output_twice, ["graph output 'y' is defined more than once"]),
        (_no_outputs, ["no outputs"]),
        (_zero_size, ["axis 2 of input 'x' has size 0"]),
        (_stray_reference, ["'kernel_shape' refers to an attribute of a function"]),
        (_not_utf8, ["not UTF-8"]),
        (_short_weight, ["'w' does not hold the 6 elements"]),
        (_enormous_weight, ["'w' does not hold"]),
        (_strange_type, ["'w' has the unknown element type 77"]),
        (_in_another_branch, ["reads 'inner', which nothing produces"]),
    ],
)
def test_malformed_graphs(
    edit: Edit, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = proto()
    edit(model)
    path = write(model, tmp_path)
    error = refused(path, UsageError, *words)
    assert error.subject == str(path)
    assert capfd.readouterr() == ("", "")


def test_a_sparse_weight_is_unsupported(tmp_path: Path) -> None:
    model = proto()
    model.graph.sparse_initializer.add().values.name = "s"
    refused(write(model, tmp_path), UnsupportedError, "weight 's' is sparse")


def test_a_malformed_ir_model() -> None:
    model = ir.from_proto(proto())
    model.graph.outputs.append(ir.Value(name="nowhere"))
    refused(model, UsageError, "'nowhere', which nothing produces")


def test_too_many_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(proto(), tmp_path)
    monkeypatch.setattr(model_proto, "MAX_NODES", 2)
    assert len(models.load(path).graph) == 2
    monkeypatch.setattr(model_proto, "MAX_NODES", 1)
    refused(path, UnsupportedError, "more than 1 nodes")


def test_functions_that_would_inline_to_too_many_nodes(tmp_path: Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "h" : 1]>'
    calls = "\n".join(
        f'<domain: "h", opset_import: ["h" : 1]> '
        f"f{i} (a) => (c) {{ b = h.f{i + 1} (a) c = h.f{i + 1} (b) }}"
        for i in range(60)
    )
    last = '<domain: "h", opset_import: ["" : 17]> f60 (a) => (b) { b = Neg (a) }'
    net = f"{head} net (float[2] x) => (float[2] y) {{ y = h.f0 (x) }} {calls} {last}"
    refused(write(parser.parse_model(net), tmp_path), UnsupportedError, "more than 200,000 nodes")


def test_functions_that_call_each_other_in_a_ring(tmp_path: Path) -> None:
    net = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "h" : 1]>
        net (float[2] x) => (float[2] y) { y = h.a (x) }
        <domain: "h", opset_import: ["h" : 1]> a (p) => (q) { q = h.b (p) }
        <domain: "h", opset_import: ["h" : 1]> b (p) => (q) { q = h.a (p) }
    """)
    refused(write(net, tmp_path), UsageError, "call one another", "a → b", "b → a")


# Malformed files


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (proto().SerializeToString()[:-9], "damaged"),
        (np.random.default_rng(0).bytes(64) + b"\xff" * 20, "ONNX"),
        (b"PK\x03\x04 archive", "pickle"),
        (b"\x80\x04\x95", "pickle"),
    ],
)
def test_malformed_files(content: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert refused(path, UsageError, word).subject == str(path)


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", UsageError, "no such file")
    refused(tmp_path, UsageError, "is a folder")
    refused("null\0character.onnx", UsageError)
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", UsageError, "not a regular file")


def test_a_file_beyond_protobuf_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # a hole: takes no space
    refused(path, UsageError, "3.0 GiB", "external data")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PT", ".pkl"])
def test_a_pickle_is_refused_by_its_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"never looked at")
    refused(path, UsageError, "pickle", "torch.export.save", "package.module:factory")


# Weights


def _with_weight(array: np.ndarray, op_type: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M"])],
        [numpy_helper.from_array(array, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("at", [0, -1])
def test_nan_in_a_weight(dtype: type[np.floating], at: int) -> None:
    weight = np.ones((1100, 1100), dtype)  # more than is looked at together
    models.load(_with_weight(weight, "Add"))
    weight.flat[at] = np.nan
    refused(_with_weight(weight, "Add"), UsageError, "the weight 'w' holds NaN")


@pytest.mark.parametrize("sign", [-1, 1])
def test_infinity_is_a_mask_unless_it_is_multiplied(sign: int) -> None:
    weight = np.array([[0, sign * np.inf]], np.float32)
    assert len(models.load(_with_weight(weight, "Add")).graph) == 1
    refused(_with_weight(weight, "MatMul"), UsageError, "the weight 'w' holds an infinity")


@pytest.mark.parametrize(
    ("domain", "op_type", "multiplied"),
    [
        ("", "RMSNormalization", True),
        ("ai.onnx", "DequantizeLinear", True),
        ("", "DeformConv", True),
        ("com.microsoft", "FusedMatMul", True),
        ("com.microsoft", "Attention", True),
        ("com.microsoft", "BiasGelu", False),
        ("com.example", "MatMul", False),
    ],
)
def test_who_multiplies(domain: str, op_type: str, multiplied: bool) -> None:
    model = _with_weight(np.array([[0, np.inf]], np.float32), "MatMul")
    model.graph.node[0].domain, model.graph.node[0].op_type = domain, op_type
    if domain.startswith("com."):
        model.opset_import.append(helper.make_opsetid(domain, 1))
    if multiplied:
        refused(model, UsageError, "the weight 'w' holds an infinity")
    else:
        models.load(model)


def test_a_mask_of_attention_may_be_infinite() -> None:
    model = _with_weight(np.array([[0, -np.inf]], np.float32), "MatMul")
    (node,) = model.graph.node
    node.domain, node.op_type = "com.microsoft", "Attention"
    node.input[:] = [node.input[0], *[""] * 4, "w"]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    models.load(model)


def test_channels_in_blocks() -> None:
    model = _with_weight(np.ones((1, 2), np.float32), "MatMul")
    model.graph.node[0].domain = "com.microsoft.nchwc"
    model.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    refused(model, UnsupportedError, "has its channels in blocks")


def test_nan_in_a_constant_node() -> None:
    model = proto()
    bad = numpy_helper.from_array(np.array([np.nan], np.float32), "bad")
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=bad))
    refused(model, UsageError, "'bad' holds NaN")


def test_bfloat16_and_float8_are_looked_at() -> None:
    for kind, nan in ((TensorProto.BFLOAT16, b"\xc0\x7f"), (TensorProto.FLOAT8E4M3FN, b"\x7f")):
        model = _with_weight(np.ones(1, np.float32), "Add")
        weight = model.graph.initializer[0]
        weight.CopyFrom(TensorProto(name="w", dims=[1], data_type=kind, raw_data=bytes(len(nan))))
        models.load(model)
        weight.raw_data = nan
        refused(model, UsageError, "'w' holds NaN")


def test_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(proto(), tmp_path)
    monkeypatch.setattr(model_tensors, "MAX_BYTES", 24)
    models.load(path)
    monkeypatch.setattr(model_tensors, "MAX_BYTES", 23)
    refused(path, UnsupportedError, "weights")


# External data


def external(folder: Path, location: str = "net.data", **entries: int) -> Path:
    """net.onnx in `folder`, whose weight is said to lie at `location`."""
    model = proto()
    weight = model.graph.initializer[0]
    content = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    for key, value in entries.items():
        weight.external_data.add(key=key, value=str(value))
    if not (folder / "net.data").exists():
        (folder / "net.data").write_bytes(content)
    return write(model, folder)


def test_external_data_are_mapped(tmp_path: Path) -> None:
    path = external(tmp_path, offset=0, length=24)
    model = models.load(path)
    embedded = models.to_bytes(model)
    x = np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    (ours,), (theirs,) = run(embedded, x=x), run(proto().SerializeToString(), x=x)
    np.testing.assert_array_equal(ours, theirs)
    assert model.graph.initializers["w"].const_value is not None
    assert not model.graph.initializers["w"].const_value.numpy().flags.writeable


def test_external_data_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    external(tmp_path)
    monkeypatch.chdir(tmp_path)
    from_path = models.to_bytes(models.load("net.onnx"))
    from_proto = models.load(onnx.load("net.onnx", load_external_data=False))
    assert models.to_bytes(from_proto) == from_path
    assert models.to_bytes(models.load(ir.load("net.onnx"))) == from_path


def test_saved_external_data_load_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(_with_weight(np.arange(400, dtype=np.float32), "Add"))
    embedded = models.to_bytes(model)
    with monkeypatch.context() as patch:
        patch.setattr(models, "MAX_EMBEDDED", 100)
        models.save(model, tmp_path / "net.onnx")
        with pytest.raises(UnsupportedError, match="do not fit in one protobuf"):
            models.to_bytes(model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert (
        (tmp_path / "net.onnx").stat().st_size < 400 < (tmp_path / "net.onnx.data").stat().st_size
    )
    onnx.checker.check_model(tmp_path / "net.onnx")
    assert models.to_bytes(models.load(tmp_path / "net.onnx")) == embedded
    assert models.to_bytes(model) == embedded

    again = models.load(tmp_path / "net.onnx")
    with monkeypatch.context() as patch:  # over the very file that the model reads from
        patch.setattr(models, "MAX_EMBEDDED", 100)
        models.save(again, tmp_path / "net.onnx")
    assert models.to_bytes(models.load(tmp_path / "net.onnx")) == embedded


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_one_open_file_for_many_external_tensors(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.ones(2, np.float32), f"w{i}") for i in range(50)]
    graph = helper.make_graph(
        [helper.make_node("Sum", ["x", *(w.name for w in weights)], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    before = len(os.listdir("/proc/self/fd"))
    loaded = models.load(path)
    weights_read = [
        v.const_value.numpy() for v in loaded.graph.initializers.values() if v.const_value
    ]
    assert np.sum(weights_read) == 100
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_external_data_missing_or_short(tmp_path: Path) -> None:
    refused(external(tmp_path, "absent.data"), UsageError, "'absent.data'", "'w'", "missing")
    refused(external(tmp_path, ""), UsageError, "names no file")
    refused(external(tmp_path, "."), UsageError, "missing")
    refused(external(tmp_path, offset=4), UsageError, "needs bytes 4–28 of 'net.data' (24)")
    refused(external(tmp_path, offset=-4), UsageError)
    refused(external(tmp_path, length=8), UsageError, "needs 24 bytes, and names 8")


@pytest.mark.parametrize("how", ["up", "absolute", "link", "linked folder"])
def test_external_data_outside_are_never_opened(how: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "model", tmp_path / "secret"
    inside.mkdir()
    outside.mkdir()
    os.mkfifo(outside / "pipe")  # whoever opens it, waits for ever
    locations = {"up": "../secret/pipe", "absolute": str(outside / "pipe")}
    locations |= {"link": "innocent", "linked folder": "folder/pipe"}
    (inside / "innocent").symlink_to(outside / "pipe")
    (inside / "folder").symlink_to(outside)
    path = external(inside, locations[how])
    refused(path, UsageError, "outside the model's folder", locations[how])


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    path = external(tmp_path, "link.data")
    (tmp_path / "link.data").symlink_to(tmp_path / "net.data")
    assert len(models.load(path).graph.initializers) == 1


# Saving


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = models.load(proto())
    models.save(model, tmp_path / "a.onnx")
    models.save(models.load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes() == models.to_bytes(model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    onnx.checker.check_model(content, full_check=True)


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    model = models.load(proto())
    with pytest.raises(UsageError, match="cannot be written"):
        models.save(model, tmp_path / "absent" / "net.onnx")
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        models.save(model, tmp_path / "net.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


# Shapes of the inputs


def _two_inputs() -> onnx.ModelProto:
    return parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[B, S, 8] x, float[B, S, 1] mask) => (float[B, S, 8] y) { y = Mul (x, mask) }
    """)


def test_given_shapes_fix_dims_for_the_run_only() -> None:
    plain = models.load(_two_inputs())
    fixed = models.load(_two_inputs(), inputs={"x": (2, 5, 8)})
    assert input_shapes(fixed) == {"x": (2, 5, 8), "mask": (2, 5, 1)}
    assert input_shapes(fixed, default_batch=9) == {"x": (2, 5, 8), "mask": (2, 5, 1)}
    assert models.to_bytes(fixed) == models.to_bytes(plain)
    with pytest.raises(UsageError, match=r"(?s)input 'x'.*'S'.*--input x=1x128x8"):
        input_shapes(plain)


def test_an_open_first_axis_is_the_batch() -> None:
    model = models.load(proto())
    assert input_shapes(model) == {"x": (1, 3, 4, 4)}
    assert input_shapes(model, default_batch=7) == {"x": (7, 3, 4, 4)}
    assert input_shapes(models.load(proto(batch="5")), 7) == {"x": (5, 3, 4, 4)}


def test_an_input_without_rank() -> None:
    model = proto()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError, match="no known rank"):
        input_shapes(models.load(model))
    assert input_shapes(models.load(model, inputs={"x": (1, 3, 9, 9)}))["x"][3] == 9


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"z": (1, 3, 4, 4)}, ["no input 'z'", "x=Nx3x4x4"]),
        ({"x": (1, 3, 4)}, ["4 dims, not 3"]),
        ({"x": (1, 4, 4, 4)}, ["1x4x4x4", "x=Nx3x4x4"]),
        ({"x": (0, 3, 4, 4)}, ["at least 1"]),
        ({"x": (True, 3, 4, 4)}, ["whole number"]),
    ],
)
def test_given_shapes_that_do_not_fit(inputs: dict[str, tuple[int, ...]], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        models.load(proto(), inputs=inputs)
    for word in words:
        assert word in str(caught.value)


def test_one_dim_given_two_sizes() -> None:
    with pytest.raises(UsageError, match="'S' is given as 5 and as 6"):
        models.load(_two_inputs(), inputs={"x": (2, 5, 8), "mask": (2, 6, 1)})


def test_an_input_that_is_no_tensor() -> None:
    model = models.load(
        parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (seq(float[2]) x) => (float[4] y) { y = ConcatFromSequence <axis = 0> (x) }
    """)
    )
    with pytest.raises(UnsupportedError, match="input 'x': is not a tensor"):
        model_inputs.input_shapes(model)


def test_forgotten_weights_keep_their_shapes() -> None:
    """A file need not declare them: the tensor knows."""
    model = model_of("(float[2,3] x) => (y) <float[3,4] w> { y = MatMul(x, w) }")
    value = model.graph.initializers["w"]
    value.shape = None
    models.forget_weights(model)
    assert value.const_value is None
    assert value.shape == ir.Shape([3, 4])
