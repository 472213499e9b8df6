"""Whatever is wrong with what a user gives ends in one clear message and the right exit code.

One row of `CASES` is one mistake: the command line, the exit code, and words that the message must
hold. Every row is held to the same rules: nothing on stdout, one `error:` with a remedy below it,
no traceback, no talk of a defect, no code for a terminal, and nothing written anywhere.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, numpy_helper
from zoo import model_of

from edgec.cli import main

CNN = """
(float[N,3,8,8] x) => (float[N,10] y)
<float[16,3,3,3] w1, float[32,16,3,3] w2, float[32,10] w3>
{
  a = Conv<pads = [1,1,1,1]>(x, w1)
  b = Relu(a)
  c = Conv<pads = [1,1,1,1]>(b, w2)
  d = Relu(c)
  e = GlobalAveragePool(d)
  f = Flatten(e)
  y = Gemm(f, w3)
}
"""
MLP = """
(KIND[N,8] x) => (float[N,4] y)
<float[8,32] w1, float[32,4] w2>
{
  f = Cast<to = 1>(x)
  a = MatMul(f, w1)
  b = OP(a)
  y = MatMul(b, w2)
}
"""
CONV, RELU, CONV2 = 0, 1, 2
W1 = 0


def cnn() -> onnx.ModelProto:
    """A small CNN, its nodes named as what they are."""
    proto = ir.to_proto(model_of(CNN, opset=17))
    for node, name in zip(proto.graph.node, ("c1", "r1", "c2", "r2", "p", "f", "fc"), strict=True):
        node.name = name
    return proto


def mlp(kind: str = "float", op: str = "Relu") -> onnx.ModelProto:
    """Two layers on an input of any type, with one operator between."""
    return ir.to_proto(model_of(MLP.replace("KIND", kind).replace("OP", op), opset=17))


# --- models with one fault each ------------------------------------------------------------------


def cyclic() -> onnx.ModelProto:
    model = cnn()
    model.graph.node[CONV].input[0] = "d"
    return model


def dangling() -> onnx.ModelProto:
    model = cnn()
    model.graph.node[CONV2].input[0] = "nowhere"
    return model


def old_opset() -> onnx.ModelProto:
    model = cnn()
    model.opset_import[0].version = 8
    return model


def new_opset() -> onnx.ModelProto:
    model = cnn()
    model.opset_import[0].version = 99
    return model


def no_outputs() -> onnx.ModelProto:
    model = cnn()
    del model.graph.output[:]
    return model


def no_rank() -> onnx.ModelProto:
    model = cnn()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


def no_type() -> onnx.ModelProto:
    model = cnn()
    model.graph.input[0].ClearField("type")
    return model


def zero_dim() -> onnx.ModelProto:
    model = cnn()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    return model


def open_dims() -> onnx.ModelProto:
    model = cnn()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    return model


def weights(change: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    """The CNN with every weight changed."""
    model = cnn()
    for tensor in model.graph.initializer:
        array = change(numpy_helper.to_array(tensor)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def contradiction() -> onnx.ModelProto:
    """A Reshape to a size that its input has not: only running it shows that."""
    text = "(float[1,8] x) => (y) <float[8,32] w, float[24,4] v, int64[2] t = {1, 24}> "
    body = "{ a = MatMul(x, w) b = Reshape(a, t) y = MatMul(b, v) }"
    return ir.to_proto(model_of(text.replace("(y)", "(float[1,4] y)") + body))


def empty_weight() -> onnx.ModelProto:
    """Two products over an axis of size 0."""
    model = mlp()
    shapes = {"w1": (8, 0), "w2": (0, 4)}
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros(shapes[tensor.name], "f4"), tensor.name))
    return model


def custom_operator() -> onnx.ModelProto:
    model = mlp(op="Relu")
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    node.op_type, node.domain, node.name = "Fancy", "com.acme", "fancy_1"
    model.opset_import.add(domain="com.acme", version=1)
    return model


def barrier() -> onnx.ModelProto:
    """ONNX Runtime runs it, edgec has no rule for it."""
    model = mlp(op="Relu")
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    node.op_type, node.domain, node.name = "SampleOp", "com.microsoft", "sample"
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def double() -> onnx.ModelProto:
    model = cnn()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def mismatch() -> onnx.ModelProto:
    """A convolution for 16 channels reads 3."""
    model = cnn()
    model.graph.node[CONV2].input[0] = "x"
    return model


def future() -> onnx.ModelProto:
    model = cnn()
    model.ir_version = 999
    return model


def unimported() -> onnx.ModelProto:
    model = cnn()
    model.graph.node[RELU].domain = "com.acme"
    return model


def wide() -> onnx.ModelProto:
    """An image with a million rows and columns."""
    model = cnn()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 1_000_000
    return model


def texts() -> onnx.ModelProto:
    text = "(float[N,8] x, string[2] s) => (float[N,4] y, string[2] t) <float[8,4] w> "
    return ir.to_proto(model_of(text + "{ y = MatMul(x, w) t = Identity(s) }"))


def half() -> onnx.ModelProto:
    """Two layers that compute in float16."""
    model = mlp(kind="float16")
    del model.graph.node[0]  # the Cast
    model.graph.node[0].input[0] = "x"
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def pairs() -> onnx.ModelProto:
    """A layer that reads through integers."""
    text = """
    (float[N,8] x) => (float[N,4] y) <float[8,4] w, float s = {0.1}, int8 z = {0}>
    {
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      y = MatMul(d, w)
    }
    """
    return ir.to_proto(model_of(text))


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cnn": cnn,
    "cyclic": cyclic,
    "dangling": dangling,
    "opset8": old_opset,
    "opset99": new_opset,
    "no_outputs": no_outputs,
    "no_rank": no_rank,
    "no_type": no_type,
    "zero_dim": zero_dim,
    "open": open_dims,
    "nan": lambda: weights(lambda w: w * np.nan),
    "huge": lambda: weights(lambda w: np.sign(w) * 1e30),
    "contradiction": contradiction,
    "custom": custom_operator,
    "barrier": barrier,
    "double": double,
    "texts": texts,
    "mlp": mlp,
    "log": lambda: mlp(op="Log"),
    "half": half,
    "pairs": pairs,
    "passthrough": lambda: ir.to_proto(model_of("(float[1,3] x) => (float[1,3] x) {}")),
    "no_nodes": lambda: ir.to_proto(model_of("() => () {}")),
    "relu": lambda: ir.to_proto(model_of("(float[1,3] x) => (y) { y = Relu(x) }")),
    "linear": lambda: ir.to_proto(
        model_of("(float[1,8] x) => (y) <float[8,4] w> { y = MatMul(x, w) }")
    ),
    "empty_weight": empty_weight,
    "mismatch": mismatch,
    "future": future,
    "unimported": unimported,
    "wide": wide,
    "sequence": lambda: ir.to_proto(
        model_of("(float[N,T,8] x) => (y) <float[8,4] w> { y = MatMul(x, w) }")
    ),
}  # fmt: skip


def samples(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return arrays


X = np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32)
ARRAYS: dict[str, dict[str, np.ndarray]] = {
    "good": samples(x=X, labels=np.arange(12) % 10),
    "unlabelled": samples(x=X),
    "name": samples(z=X),
    "extra": samples(x=X, z=X),
    "shape": samples(x=X[..., 0]),
    "dtype": samples(x=X.astype(np.complex64)),
    "objects": samples(x=np.asarray([None] * 12)),
    "none": samples(x=X[:0]),
    "nan": samples(x=X * np.nan),
    "short": samples(x=X, labels=np.arange(3)),
    "classes": samples(x=X, labels=np.full(12, 99)),
    "halves": samples(x=X, labels=np.full(12, 0.5)),
    "few": samples(x=X[:3]),
    "zeros": samples(x=X * 0),
    "wide": samples(x=X * 1e30),
    "rows": samples(x=X[:, 0, 0]),
}
RECIPES = {
    "bad": "flops = = 3",
    "unknown": "flopz = 0.4",
    "section": "[prune]\nflops = 0.4",
    "boolean": "flops = true",
    "word": 'seed = "a"',
    "text": 'flops = 0.5\ninclude = "c1"',
    "negative": "flops = 0.5\nseed = -1",
    "grid": "flops = 0.5\nround_to = 0",
    "target": 'flops = 0.5\ntarget = "cpuu"',
    "infinite": "flops = inf",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything the cases name."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, make in MODELS.items():
        (folder / f"{name}.onnx").write_bytes(make().SerializeToString())
    for name, arrays in ARRAYS.items():
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    for name, text in RECIPES.items():
        (folder / f"{name}.toml").write_text(text)
    whole = (folder / "cnn.onnx").read_bytes()
    (folder / "cut_off.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "random.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("hello")
    (folder / "leaver.py").write_text("import sys\ndef leave(*any): sys.exit(0)\n")
    (folder / "quitter.py").write_text("raise SystemExit\n")
    (folder / "node.onnx").write_bytes(cnn().graph.node[0].SerializeToString())
    (folder / "net.pt").write_bytes(b"\x80\x02abc")
    (folder / "net.pt2").write_bytes(b"abc")
    (folder / "bytes.toml").write_bytes(b"\xff\xfe")
    (folder / "damaged.npz").write_bytes(b"PK\x03\x04abc")
    (folder / "data.txt").write_text("1 2 3")
    (folder / "folder").mkdir()
    (folder / "occupied").mkdir()
    (folder / "occupied" / "thesis.txt").write_text("precious")
    external(folder / "lost.onnx", "lost.bin")
    (folder / "lost.bin").unlink()
    external(folder / "outside.onnx", "../../etc/passwd")
    external(folder / "behind.onnx", "behind.bin", offset="-4")
    external(folder / "nowhere.onnx", "nowhere.bin", offset="zz")
    (folder / "long.toml").write_text("#" * 2_000_000)
    (folder / "bundle").mkdir()
    (folder / "bundle" / "net.onnx").write_bytes(whole)
    return folder


def external(path: Path, location: str, **more: str) -> None:
    """The CNN with its weights in a file of their own, said to be at `location`."""
    onnx.save(
        cnn(), path, save_as_external_data=True, location=f"{path.stem}.bin", size_threshold=0
    )
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = {"location": location, **more}.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())


BUILD = "build cnn.onnx -o OUT --flops 0.5"
FLOATS = "build cnn.onnx -o OUT --measure none"
INT8 = f"{FLOATS} --quantize int8"
HALF = "--flops 0.5 -o OUT"
Case = tuple[str, int, str]
CASES: list[Case] = [
    # the model
    (f"build missing.onnx {HALF}", 2, "missing.onnx: there is no such file"),
    (f"build folder {HALF}", 2, "folder: is a folder"),
    (f"build cut_off.onnx {HALF}", 2, "is no ONNX file, or a damaged one"),
    (f"build random.onnx {HALF}", 2, "is no ONNX file, or a damaged one"),
    (f"build text.onnx {HALF}", 2, "is no ONNX file, or a damaged one"),
    (f"build empty.onnx {HALF}", 2, "is empty"),
    (f"build node.onnx {HALF}", 2, "holds no ONNX graph"),
    (f"build net.pt {HALF}", 2, "is a pickle"),
    (f"build net.pt2 {HALF}", 2, "no archive of torch.export"),
    (f"build no.module:factory --input x=1x3x8x8 {HALF}", 2, "no.module"),
    (f"build json:loads {HALF}", 2, "the shapes of its inputs are not known"),
    (f"build cyclic.onnx {HALF}", 2, "has a cycle: node 'c1'"),
    (f"build dangling.onnx {HALF}", 2, "node 'c2' (Conv) reads 'nowhere'"),
    (f"build opset8.onnx {HALF}", 4, "operator set 8 is outside 9–25"),
    (f"build opset99.onnx {HALF}", 4, "operator set 99 is outside 9–25"),
    (f"build no_outputs.onnx {HALF}", 2, "the graph has no outputs"),
    (f"build no_nodes.onnx {HALF}", 2, "the graph has no outputs"),
    (f"build no_rank.onnx {HALF}", 2, "input 'x': has no type or no rank"),
    (f"build no_type.onnx {HALF}", 2, "input 'x': has no type or no rank"),
    (f"build zero_dim.onnx {HALF}", 2, "axis 0 of input 'x' has size 0"),
    (f"build open.onnx {HALF}", 2, "nothing fixes its dim 2 ('H')"),
    (f"build lost.onnx {HALF}", 2, "the external data 'lost.bin' of the weight 'w1' is missing"),
    (f"build outside.onnx {HALF}", 2, "lies outside the model's folder: '../../etc/passwd'"),
    (f"build nan.onnx {HALF}", 2, "the weight 'w1' holds NaN"),
    (f"build mismatch.onnx {HALF}", 2, "node 'c2': reads 3 channels with a weight for 16"),
    ("inspect mismatch.onnx", 2, "node 'c2': reads 3 channels with a weight for 16"),
    (f"build future.onnx {HALF}", 4, "is of IR version 999"),
    (f"build unimported.onnx {HALF}", 2, "of the domain 'com.acme', which is not imported"),
    (f"build wide.onnx {HALF}", 2, "1x3x1000000x1000000 elements, more than edgec draws"),
    (f"build behind.onnx {HALF}", 2, "the external data of 'w3' have the offset '-4'"),
    (f"build nowhere.onnx {HALF}", 2, "the external data of 'w3' have the offset 'zz'"),
    (f"build sequence.onnx {HALF}", 2, "--input x=1x128x8"),
    (f"build contradiction.onnx {HALF}", 4, "fails in ONNX Runtime"),
    (f"build custom.onnx {HALF}", 4, "com.acme::Fancy fancy_1"),
    (f"build custom.onnx --backend reference {HALF}", 4, "com.acme::Fancy fancy_1"),
    (f"build barrier.onnx {HALF}", 3, "com.microsoft::SampleOp, at sample"),
    (f"build double.onnx {HALF}", 4, "Conv c1"),
    (f"build texts.onnx {HALF}", 3, "has no channels that can be removed"),
    (f"build passthrough.onnx {HALF}", 3, "the model has no FLOPs that could go"),
    (f"build relu.onnx {HALF}", 3, "it has no channels that can be removed"),
    ("build relu.onnx --params 0.5 -o OUT", 3, "the model has no parameters that could go"),
    (f"build linear.onnx {HALF}", 3, "(4 channels) is a graph output, at output y"),
    (f"build empty_weight.onnx {HALF}", 3, "the model has no FLOPs that could go"),
    (f"build huge.onnx --measure none {HALF}", 7, "output 'y': holds"),
    # shapes of inputs
    (f"{BUILD} --input x=1x3x8", 2, "it has 4 dims, not 3"),
    (f"{BUILD} --input x=1x4x8x8", 2, "the model fixes other sizes"),
    (f"{BUILD} --input x=0x3x8x8", 2, "at least 1"),
    (f"{BUILD} --input z=1x3x8x8", 2, "has no input 'z'"),
    (f"{BUILD} --input x", 2, "--input x: is not NAME=SIZES"),
    (f"{BUILD} --input x=1x-3x8x8", 2, "is not NAME=SIZES"),
    (f"{BUILD} --input x=1x3x8x²", 2, "is not NAME=SIZES"),
    (f"{BUILD} --input x=99999999999999999999x3x8x8", 2, "is not NAME=SIZES"),
    (f"{BUILD} --input x=1x3x8x8 --input x=2x3x8x8", 2, "gives 'x' a second time"),
    (f"{BUILD} --input x=999999999x3x8x8", 2, "more than edgec draws"),
    # budgets
    ("build cnn.onnx -o OUT", 2, "budget: is missing"),
    ("build cnn.onnx -o OUT --flops 0", 2, "--flops 0: is not above zero"),
    ("build cnn.onnx -o OUT --flops 2", 2, "--flops 2: is above 1"),
    ("build cnn.onnx -o OUT --flops -1", 2, "--flops -1: is not above zero"),
    ("build cnn.onnx -o OUT --flops nan", 2, "--flops nan: is not a budget"),
    ("build cnn.onnx -o OUT --flops inf", 2, "--flops inf: is not a budget"),
    ("build cnn.onnx -o OUT --flops 1e-400", 2, "--flops 1e-400: is not above zero"),
    ("build cnn.onnx -o OUT --flops 1e400", 2, "--flops 1e400: is too large"),
    ("build cnn.onnx -o OUT --flops ''", 2, "--flops '': is not a budget"),
    ("build cnn.onnx -o OUT --flops 0.4.5", 2, "--flops 0.4.5: is not a budget"),
    ("build cnn.onnx -o OUT --flops 40%", 2, "--flops 40%: is not a budget"),
    ("build cnn.onnx -o OUT --flops 0,4", 2, "--flops 0,4: is not a budget"),
    ("build cnn.onnx -o OUT --flops 4MB", 2, "--flops 4MB: is not a budget"),
    ("build cnn.onnx -o OUT --size 4XB", 2, "--size 4XB: is not a budget"),
    ("build cnn.onnx -o OUT --size 0.5B", 2, "--size 0.5B: is an absolute budget of 1 or less"),
    ("build cnn.onnx -o OUT --flops 0.01", 3, "the floor is 0.158"),
    ("build cnn.onnx -o OUT --flops 0.5 --params 0.01", 3, "54 params"),
    ("build cnn.onnx -o OUT --flops 0.5 --exclude *", 3, "kept by --include/--exclude"),
    # words and numbers
    (f"{BUILD} --target cpuu", 2, "did you mean 'cpu'?"),
    (f"{BUILD} --target ../cpu", 2, "target '../cpu'"),
    (f"{BUILD} --backend onnxruntim", 2, "did you mean 'onnxruntime'?"),
    (f"{BUILD} --criterion fpmg", 2, "--criterion fpmg: is unknown did you mean 'fpgm'?"),
    (f"{BUILD} --criterion flap", 2, "looks at activations, and no data was given"),
    (f"{BUILD} --allocator mckpp", 2, "--allocator mckpp: is unknown did you mean 'mckp'?"),
    (f"{BUILD} --repair leastsquares", 2, "did you mean 'least-squares'?"),
    (f"{BUILD} --repair least-squares", 2, "needs samples, and no data was given"),
    (f"{BUILD} --repair recalibrate", 2, "needs samples, and no data was given"),
    (f"{BUILD} --measure rapd", 2, "did you mean 'rapid'?"),
    (f"{BUILD} --round-to 0", 2, "--round-to: is 0"),
    (f"{BUILD} --round-to -3", 2, "--round-to: is -3"),
    (f"{BUILD} --round-to a", 2, "--round-to: 'a' is not a valid integer"),
    (f"{BUILD} --round-to 1000000", 3, "try --round-to below 1000000"),
    (f"{BUILD} --round-to 99999999999999999999999", 2, "wider than any layer"),
    (f"{BUILD} --seed -1", 2, "--seed: is -1"),
    (f"{BUILD} --seed x", 2, "--seed: 'x' is not a valid integer"),
    (f"{BUILD} --threads 0", 2, "--threads: 0 is not in the range"),
    (f"{BUILD} --threads 100000", 2, "the cores of this machine"),
    (f"{BUILD} --include nope*", 2, "--include nope*: matches no node that makes channels"),
    (f"{BUILD} --exclude nope*", 2, "--exclude nope*: matches no node that makes channels"),
    (f"{BUILD} --include fc", 2, "'fc' is a graph output"),
    (f"{BUILD} --include ''", 2, "--include '': matches no node"),
    (f"{BUILD} --flopz 0.5", 2, "no such option '--flopz'"),
    # data
    (f"{BUILD} --data missing.npz", 2, "missing.npz: there is no such file or folder"),
    (f"{BUILD} --data ''", 2, "--data: is empty"),
    (f"{BUILD} --data data.txt", 2, "is not an .npz file"),
    (f"{BUILD} --data damaged.npz", 2, "damaged.npz: is not an .npz file, or a damaged one"),
    (f"{BUILD} --data folder", 2, "preprocess.toml: is not there"),
    (f"{BUILD} --data name.npz", 2, "'x' is missing; 'z' is no input of the model"),
    (f"{BUILD} --data extra.npz", 2, "'z' is no input of the model"),
    (f"{BUILD} --data shape.npz", 2, "'x' has samples of shape [3, 8]"),
    (f"{BUILD} --data dtype.npz", 2, "'x' is complex64"),
    (f"{BUILD} --data objects.npz", 2, "Python objects"),
    (f"{BUILD} --data none.npz", 2, "none.npz: holds no samples"),
    (f"{BUILD} --data nan.npz", 2, "nan.npz: 'x' holds NaN"),
    (f"{BUILD} --data short.npz", 2, "lengths differ: x 12, labels 3"),
    (f"{BUILD} --data classes.npz", 2, "labels are 99..99, the model has 10 classes"),
    (f"{BUILD} --data halves.npz", 2, "needs integer labels"),
    (f"{BUILD} --data no.module:f", 2, "no.module:f: cannot be imported"),
    (f"{BUILD} --data json:nothing", 2, "'json' has no 'nothing'"),
    (f"{BUILD} --data os:getcwd", 2, "os:getcwd"),
    (
        f"{BUILD} --data leaver:leave",
        2,
        "leaver:leave: failed: it ends the program with sys.exit(0)",
    ),
    (f"{BUILD} --data quitter:f", 2, "quitter:f: cannot be imported: it ends the program"),
    (f"{BUILD} --eval leaver:leave --data good.npz", 2, "leaver:leave: failed: it ends"),
    (f"build leaver:leave --input x=1x3x8x8 {HALF}", 2, "leaver:leave: failed: it ends"),
    (f"{BUILD} --eval json:loads", 2, "--eval: needs labelled samples"),
    (f"{BUILD} --eval json:loads --data unlabelled.npz", 2, "--eval: needs samples with labels"),
    (f"{BUILD} --eval json:loads --data good.npz", 2, "json:loads: failed: TypeError"),
    (f"{BUILD} --eval topp1 --data good.npz", 2, "topp1: cannot be imported"),
    (f"{BUILD} --eval-data unlabelled.npz", 2, "--eval-data: needs samples with labels"),
    (f"{BUILD} --eval-data missing.npz", 2, "missing.npz: there is no such file"),
    # quantisation
    (f"{INT8}", 2, "--quantize int8: needs to see activations, and no data was given"),
    (f"{FLOATS} --quantize int9", 2, "--quantize int9: is unknown did you mean 'int8'?"),
    (f"{FLOATS} --quantize ''", 2, "is unknown one of: int8, float16"),
    (f"{INT8} --data few.npz", 2, "observer 'mse': needs 8 samples, and has seen 3"),
    (f"{INT8} --data zeros.npz", 2, "calibration data: are all alike: activation 'x' is always 0"),
    (f"{INT8} --data nan.npz", 2, "nan.npz: 'x' holds NaN"),
    (f"{INT8} --data name.npz", 2, "'x' is missing; 'z' is no input of the model"),
    (f"{INT8} --data good.npz --observer msee", 2, "--observer msee: is unknown did you mean"),
    (f"{INT8} --data good.npz --rounding up", 2, "--rounding up: is unknown one of: nearest"),
    (f"{INT8} --data good.npz --calib randon", 2, "--calib randon: is unknown did you mean"),
    (f"{INT8} --data good.npz --calib synthetic", 2, "--calib synthetic: is given with --data"),
    (f"{INT8} --calib synthetic", 2, "the network has no BatchNormalization to fit inputs to"),
    (
        f"{INT8} --data good.npz --calib all --calib-samples 8",
        2,
        "--calib-samples 8: contradicts --calib all",
    ),
    (f"{INT8} --data good.npz --calib first --calib-samples 0", 2, "--calib-samples: is 0"),
    (f"{INT8} --data good.npz --calib first --calib-samples 4", 2, "needs 8 samples, and has seen"),
    (
        f"{INT8} --data unlabelled.npz --calib class-stratified --calib-samples 8",
        2,
        "unlabelled.npz: has no labels",
    ),
    (f"{INT8} --data good.npz --keep-float nope", 2, "--keep-float nope: matches no node that"),
    (f"{INT8} --data good.npz --keep-float ''", 2, "--keep-float '': matches no node that"),
    (f"{INT8} --data good.npz --keep-float c* --keep-float fc", 4, "c1: kept by --keep-float"),
    (f"{BUILD} --observer minmax", 2, "--observer: needs --quantize int8"),
    (f"{BUILD} --equalise", 2, "--equalise: needs --quantize int8"),
    (f"{BUILD} --max-drop 0.1", 2, "--max-drop: needs --quantize int8"),
    (f"{INT8} --data good.npz --max-drop 0", 2, "--max-drop 0: is no bound"),
    (f"{INT8} --data good.npz --bits 4", 2, "--bits: needs --max-drop"),
    (f"{INT8} --data good.npz --max-drop 1 --bits 3", 2, "--bits 3: are no widths of weights"),
    (f"{INT8} --data good.npz --max-drop 1e-12", 3, "--max-drop 1e-12 error: "),
    (f"{BUILD} --keep-float c1", 2, "--keep-float: needs --quantize int8"),
    (f"{FLOATS} --quantize float16 --rounding adaround", 2, "--rounding: means nothing to float16"),
    (f"{FLOATS} --quantize int4-weights --calib kl", 2, "--calib: means nothing to int4-weights"),
    (f"{FLOATS} --quantize float16 --data wide.npz", 4, "c1: 'x' reaches"),
    (f"{FLOATS} --quantize int4-weights", 4, "finds nothing to do fc: 'w3' has 320 elements only"),
    (f"{FLOATS} --quantize bfloat16", 4, "makes what onnxruntime has no kernels for: Gemm (fc)"),
    ("build relu.onnx -o OUT --quantize float16", 4, "--quantize float16: finds nothing to do"),
    ("build relu.onnx -o OUT --quantize int4-weights", 4, "the model has no such layer"),
    ("build log.onnx -o OUT --quantize int8 --data rows.npz", 2, "holds NaN: Log"),
    ("build half.onnx -o OUT --quantize float16", 4, "the model: computes in float16 already"),
    (
        "build pairs.onnx -o OUT --quantize int8 --data rows.npz",
        4,
        "is quantised already: it has 2",
    ),
    ("build pairs.onnx -o OUT --quantize float16", 4, "such as QuantizeLinear"),
    # recipes
    ("build cnn.onnx -o OUT --recipe missing.toml", 2, "missing.toml: cannot be read: No such"),
    ("build cnn.onnx -o OUT --recipe folder", 2, "folder: is not a regular file"),
    ("build cnn.onnx -o OUT --recipe bytes.toml", 2, "bytes.toml: is not TOML"),
    ("build cnn.onnx -o OUT --recipe bad.toml", 2, "is not TOML: Invalid value (at line 1"),
    ("build cnn.onnx -o OUT --recipe /dev/zero", 2, "/dev/zero: is not a regular file"),
    ("build cnn.onnx -o OUT --recipe long.toml", 2, "long.toml: is larger than 1 MB"),
    ("build cnn.onnx -o OUT --recipe unknown.toml", 2, "'flopz' did you mean 'flops'?"),
    ("build cnn.onnx -o OUT --recipe section.toml", 2, "unknown option 'prune'"),
    ("build cnn.onnx -o OUT --recipe boolean.toml", 2, "option 'flops' is True"),
    ("build cnn.onnx -o OUT --recipe word.toml", 2, "option 'seed' is 'a'"),
    ("build cnn.onnx -o OUT --recipe text.toml", 2, "option 'include' is 'c1'"),
    ("build cnn.onnx -o OUT --recipe negative.toml", 2, "--seed: is -1"),
    ("build cnn.onnx -o OUT --recipe grid.toml", 2, "--round-to: is 0"),
    ("build cnn.onnx -o OUT --recipe target.toml", 2, "did you mean 'cpu'?"),
    ("build cnn.onnx -o OUT --recipe infinite.toml", 2, "--flops inf: is not a budget"),
    # where to write
    ("build cnn.onnx --flops 0.5", 2, "-o/--output: is missing"),
    ("build cnn.onnx --flops 0.5 -o ''", 2, "--output: is empty"),
    ("build cnn.onnx --flops 0.5 -o occupied", 2, "output 'occupied': exists"),
    ("build cnn.onnx --flops 0.5 -o occupied --force", 2, "exists and is not a bundle"),
    ("build cnn.onnx --flops 0.5 -o data.txt --force", 2, "exists and is not a folder"),
    ("build cnn.onnx --flops 0.5 -o data.txt/x/y", 2, "data.txt', which is a file"),
    ("build cnn.onnx --flops 0.5 -o /dev/full/x", 2, "/dev/full', which is a file"),
    ("build cnn.onnx --flops 0.5 -o /proc/x", 2, "output '/proc/x': '/proc' cannot be written"),
    ("build cnn.onnx --flops 0.5 -o OUT\udcff", 2, "is not UTF-8"),
    ("build bundle/net.onnx --flops 0.5 -o bundle --force", 2, "holds 'bundle/net.onnx', which"),
    # the other commands
    ("build --flops 0.5 -o OUT", 2, "MODEL: is missing see edgec build --help"),
    ("frobnicate", 2, "no such command 'frobnicate'"),
    ("biuld cnn.onnx", 2, "Did you mean 'build'"),
    ("targets extra", 2, "got unexpected extra argument (extra)"),
    ("inspect missing.onnx", 2, "missing.onnx: there is no such file"),
    ("inspect missing.onnx --json", 2, "missing.onnx: there is no such file"),
    ("inspect open.onnx", 2, "nothing fixes its dim 2 ('H')"),
    ("inspect contradiction.onnx", 4, "fails in ONNX Runtime"),
    ("explain cnn.onnx", 2, "--channel: is missing"),
    ("explain cnn.onnx --channel c1", 2, "--channel c1: is not NODE:INDEX"),
    ("explain cnn.onnx --channel c1:x", 2, "--channel c1:x: is not NODE:INDEX"),
    ("explain cnn.onnx --channel c1:²", 2, "is not NODE:INDEX"),
    ("explain cnn.onnx --channel c1:-1", 2, "--channel c1:-1: is not NODE:INDEX"),
    ("explain cnn.onnx --channel c1:16", 2, "'c1' has 16 channels"),
    ("explain cnn.onnx --channel c3:1", 2, "node 'c3': makes no channels did you mean"),
    ("explain relu.onnx --channel r:1", 2, "the model makes none"),
    ("compare cnn.onnx missing.onnx", 2, "missing.onnx: there is no such file"),
    ("compare cnn.onnx mlp.onnx", 2, "take different inputs: x float32[?, 3, 8, 8] and"),
    ("compare cnn.onnx cnn.onnx --data shape.npz", 2, "'x' has samples of shape [3, 8]"),
    ("compare custom.onnx custom.onnx", 4, "com.acme:Fancy"),
    ("compare texts.onnx texts.onnx", 2, "input 's': is text"),
    ("compare cnn.onnx cnn.onnx --restore", 2, "second model: has no product that reads what a"),
    ("quantize-scan cnn.onnx", 2, "--method output: needs samples give --data, or take 'zd'"),
    ("quantize-scan cnn.onnx --activations", 2, "--activations: needs samples"),
    ("quantize-scan cnn.onnx --method zdd", 2, "did you mean 'zd'?"),
    ("quantize-scan cnn.onnx --bits 8,x", 2, "--bits 8,x: is no list of widths"),
    ("quantize-scan cnn.onnx --bits 3 --method zd", 2, "3 is no width that ONNX stores"),
    ("quantize-scan cnn.onnx --target cpuu --method zd", 2, "did you mean 'cpu'?"),
    ("quantize-scan cnn.onnx --method zd --size 0.5 --max-drop 1", 2, "are two bounds"),
    ("quantize-scan cnn.onnx --method zd --size half", 2, "--size half: is not a budget"),
    ("quantize-scan cnn.onnx --method zd --size 0.001", 3, "is below the least that can be"),
    ("quantize-scan cnn.onnx --method zd --latency 1", 2, "--latency: needs the time of each"),
    ("quantize-scan cnn.onnx --method zd --max-drop nan", 2, "--max-drop nan: is no bound"),
    ("quantize-scan cnn.onnx --method zd --latency 1 --latencies bad.toml", 2, "bad.toml: is not"),
    ("quantize-scan cnn.onnx --data unlabelled.npz --metric top1", 2, "has no labels"),
    ("quantize-scan cnn.onnx --data shape.npz", 2, "'x' has samples of shape [3, 8]"),
    ("quantize-scan cnn.onnx --data good.npz --resume bytes.toml", 2, "bytes.toml"),
    ("quantize-scan cnn.onnx --data good.npz --resume folder", 2, "folder: cannot be used"),
    ("quantize-scan relu.onnx --method zd", 4, "has no layer that is quantised"),
    ("compare cnn.onnx cnn.onnx --seed -1", 2, "--seed: -1 is not in the range"),
]


def invoke(command: str, out: Path) -> Result:
    """Runs a command line in this process; `OUT` is the place of the bundle."""
    words = [word.replace("OUT", str(out)) for word in shlex.split(command)]
    return CliRunner().invoke(main, words)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; folders as empty entries."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b""
        for p in folder.rglob("*")
    }


def message(stderr: str) -> str:
    """The one error on stderr as one line; progress stands above it, its remedy below it."""
    lines = stderr.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert len(starts) == 1, stderr
    assert all(line.startswith("  ") and line.strip() for line in lines[starts[0] + 1 :]), stderr
    assert len(lines) > starts[0] + 1, f"no remedy:\n{stderr}"
    return re.sub(r"\s+", " ", " ".join(lines[starts[0] :]))


@pytest.mark.parametrize(("command", "code", "words"), CASES, ids=[c[0] for c in CASES])
def test_one_clear_message(
    command: str, code: int, words: str, inputs: Path, tmp_path: Path
) -> None:
    before = contents(inputs)
    with chdir(inputs):
        result = invoke(command, tmp_path / "out")
    text = message(result.stderr)
    assert words in text, result.stderr
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    for stain in ("Traceback", "this is a defect", "\x1b", "👎", "Errno"):
        assert stain not in result.stderr
    assert os.listdir(tmp_path) == []
    assert contents(inputs) == before


def test_every_case_is_there_once() -> None:
    commands = [case[0] for case in CASES]
    assert sorted(commands) == sorted(set(commands))
