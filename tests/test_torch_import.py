"""PyTorch in: the numbers stay torch's, BatchNormalization stays, and no file runs code."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest
import torch
from torch import nn

from edgec import model as models
from edgec import torch_import
from edgec.errors import UnsupportedError, UsageError
from edgec.model_inputs import input_shapes
from edgec.torch_archive import read_program


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        first, second = x.chunk(2, dim=1)
        x = torch.cat((second, first), dim=1)
        head: torch.Tensor = self.head(self.drop(x.mean((2, 3))))
        return head


def net() -> Net:
    """The network in train mode, with statistics that no initialisation has."""
    torch.manual_seed(0)
    made = Net()
    assert made.norm.running_mean is not None
    assert made.norm.running_var is not None
    nn.init.normal_(made.norm.running_mean)
    nn.init.uniform_(made.norm.running_var, 0.5, 2)
    nn.init.uniform_(made.norm.weight, 0.5, 2)
    return made.train()


class Difference(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left - right


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    shapes = ({0: torch.export.Dim("batch")},)
    example = (torch.zeros(2, 3, 8, 8),)
    torch.export.save(torch.export.export(net().eval(), example, dynamic_shapes=shapes), path)
    return path


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `user_code` in the working directory, with factories of every kind."""
    code = """
        import torch
        from torch import nn
        import test_torch_import as here

        class Make:
            net = staticmethod(here.net)

        def difference(): return here.Difference()
        def no_module(): return 3
        def broken(): raise KeyError("weights")
        def spectral():
            class Spectral(nn.Module):
                def forward(self, x): return torch.linalg.eigvals(x).real
            return Spectral()
        def half():
            return nn.Linear(3, 2).half()
        constant = 3
    """
    (tmp_path / "user_code.py").write_text("\n".join(line[8:] for line in code.splitlines()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "test_torch_import", sys.modules[__name__])
    monkeypatch.delitem(sys.modules, "user_code", raising=False)


def outputs(content: bytes, **feeds: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def sample(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_an_archive_computes_what_torch_computes(
    archive: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = models.load(archive)
    assert capfd.readouterr() == ("", "")
    made = [node.op_type for node in model.graph if node.op_type not in ("Constant", "Identity")]
    assert made == ["Conv", "BatchNormalization", "Relu", "Split", "Concat", "ReduceMean", "Gemm"]
    parameters = set(net().state_dict()) - {"norm.num_batches_tracked"}
    assert parameters <= set(model.graph.initializers)
    assert input_shapes(model, default_batch=5) == {"x": (5, 3, 8, 8)}
    x = sample(5, 3, 8, 8)
    expected = net().eval()(x).detach().numpy()
    np.testing.assert_allclose(outputs(models.to_bytes(model), x=x.numpy()), expected, 1e-5, 1e-5)


def test_an_archive_imports_to_the_same_bytes(archive: Path) -> None:
    content = models.to_bytes(models.load(archive))
    assert content == models.to_bytes(models.load(archive))
    assert b".py" not in content  # the exporter's stack traces name files of the machine


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize("name", ["x", "pixels"])
def test_a_factory_computes_what_torch_computes(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = list(sys.path)
    model = models.load("user_code:Make.net", inputs={name: (2, 3, 8, 8)})
    assert capfd.readouterr() == ("", "")
    assert sys.path == path
    assert input_shapes(model) == {name: (2, 3, 8, 8)}
    assert [n.op_type for n in model.graph].count("BatchNormalization") == 1
    x = sample(2, 3, 8, 8)
    expected = net().eval()(x).detach().numpy()
    got = outputs(models.to_bytes(model), **{name: x.numpy()})
    np.testing.assert_allclose(got, expected, 1e-5, 1e-5)


@pytest.mark.usefixtures("factories")
def test_inputs_are_matched_by_name_or_else_by_order() -> None:
    left, right = sample(2, 3), sample(1, 3)
    expected = (left - right).numpy()
    by_name = models.load("user_code:difference", inputs={"right": (1, 3), "left": (2, 3)})
    got = outputs(models.to_bytes(by_name), left=left.numpy(), right=right.numpy())
    np.testing.assert_array_equal(got, expected)
    by_order = models.load("user_code:difference", inputs={"a": (2, 3), "b": (1, 3)})
    got = outputs(models.to_bytes(by_order), a=left.numpy(), b=right.numpy())
    np.testing.assert_array_equal(got, expected)


@pytest.mark.usefixtures("factories")
def test_a_factory_is_traced_in_its_own_type() -> None:
    model = models.load("user_code:half", inputs={"x": (1, 3)})
    assert str(model.graph.inputs[0].dtype) == "FLOAT16"


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("spec", "inputs", "kind", "words"),
    [
        ("user_code:Make.net", None, UsageError, "--input x=1x3x224x224"),
        ("user_code:Make.net", {"x": (1, 0)}, UsageError, "at least 1"),
        ("no_such_package:net", {"x": (1,)}, UsageError, "cannot be imported"),
        ("user_code:absent", {"x": (1,)}, UsageError, "has no 'absent'"),
        ("user_code:constant", {"x": (1,)}, UsageError, "is not a function"),
        ("user_code:no_module", {"x": (1,)}, UsageError, "returned a int, not an nn.Module"),
        ("user_code:broken", {"x": (1,)}, UsageError, "failed: KeyError: 'weights'"),
        ("user_code:Make.net", {"x": (1, 5, 8, 8)}, UnsupportedError, "cannot export"),
        ("user_code:spectral", {"x": (3, 3)}, UnsupportedError, "cannot export"),
    ],
)
def test_factories_that_fail(
    spec: str, inputs: Any, kind: type[Exception], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((UsageError, UnsupportedError)) as caught:
        models.load(spec, inputs=inputs)
    assert type(caught.value) is kind
    assert caught.value.subject == spec
    assert words in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_without_torch(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_import, "find_spec", lambda name: None)
    for source in (archive, "user_code:net"):
        with pytest.raises(UsageError, match=r"pip install 'edgec\[torch\]'"):
            models.load(source, inputs={"x": (1,)})


class Evil:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["net.pt", "net.onnx", "net.pt2", "net.bin"])
def test_a_pickle_is_never_unpickled(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / name
    torch.save({"net": Evil(mark)}, path)
    with pytest.raises(UsageError, match=r"torch\.export\.save"):
        models.load(path)
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(UsageError, match=r"torch\.export\.save"):
        models.load(path)
    assert not mark.exists()
    torch.load(io.BytesIO(_saved(Evil(mark))), weights_only=False)
    assert mark.exists()  # so the pickle does bite where it is read


def _saved(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def edited(archive: Path, record: str, edit: Callable[[bytes], bytes]) -> bytes:
    """The archive with one record changed, or added if it has none of that name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        root = names[0].split("/")[0]
        for name in names:
            content = old.read(name)
            new.writestr(name, edit(content) if name == f"{root}/{record}" else content)
        if f"{root}/{record}" not in names:
            new.writestr(f"{root}/{record}", edit(b""))
    return buffer.getvalue()


def test_an_archive_that_is_only_repacked_still_loads(archive: Path) -> None:
    program = read_program(edited(archive, "models/model.json", lambda content: content), "net")
    assert isinstance(program, torch.export.ExportedProgram)


def _replace(old: str, new: str) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return edit


def _pickled(content: bytes) -> bytes:
    config = json.loads(content)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config).encode()


def _custom_object(content: bytes) -> bytes:
    return b'{"config": {"thing": {"path_name": "custom_obj_0", "is_param": false}}}'


_SYMBOL = "Symbol('s77', positive=True, integer=True)"
_EVAL = json.dumps("__import__('pathlib').Path('MARK').touch() or 2")[1:-1]


@pytest.mark.parametrize(
    ("record", "edit", "words"),
    [
        ("models/model.json", _replace(_SYMBOL, _EVAL), "a size is given as"),
        ("models/model.json", _replace(_SYMBOL, "Symbol('s77').__class__"), "a size is given as"),
        ("models/model.json", _replace(_SYMBOL, "exec(chr(97))"), "a size is given as"),
        (
            "models/model.json",
            _replace("torch.ops.aten.relu.default", "torch.os.system"),
            "calls 'torch.os.system'",
        ),
        (
            "models/model.json",
            _replace("torch.ops.aten.relu.default", "torch.ops.load_library"),
            "calls 'torch.ops.load_library'",
        ),
        ("data/weights/model_weights_config.json", _pickled, "pickled"),
        ("data/constants/model_constants_config.json", _custom_object, "pickled"),
        ("data/aotinductor/model/net.so", lambda _: b"\x7fELF", "'data/aotinductor/model/net.so'"),
        ("models/other.json", lambda _: b"{}", "'models/other.json'"),
    ],
)
def test_an_archive_that_would_run_code(
    record: str,
    edit: Callable[[bytes], bytes],
    words: str,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedError) as caught:
        read_program(edited(archive, record, edit), "net.pt2")
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_pickled_example_inputs_are_held_to_tensors(archive: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = edited(archive, "data/sample_inputs/model.pt", lambda _: _saved((Evil(mark),)))
    with pytest.raises(UsageError, match="torch cannot load it"):
        read_program(evil, "net.pt2")
    assert not mark.exists()


def test_a_damaged_archive(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    content = archive.read_bytes()
    for damaged in (content[:-100], content[100:], b"PK\x03\x04", b"nothing of the kind"):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="no archive of"):
            models.load(path)
    broken = _replace('"nodes"', '"knots"')
    path.write_bytes(edited(archive, "models/model.json", broken))
    with pytest.raises(UsageError, match="torch cannot load it"):
        models.load(path)
