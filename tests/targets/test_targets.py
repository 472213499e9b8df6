"""Targets agree with the reference, and refuse with reasons what they cannot take."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import model as models
from edgec.errors import UnsupportedError, UsageError
from edgec.targets import (
    TARGETS,
    Artifact,
    Runnable,
    Target,
    load_profile,
    profile_names,
    refuse,
    resolve,
)
from edgec.targets.cpu import CpuTarget
from edgec.targets.profile import parse_profile
from edgec.targets.quantize_rules import load_rules, parse_rules

NET = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 4, 6, 6] x) => (float[n, 8, 6, 6] y, float[n, 8] z)
<float[8, 4, 3, 3] w, int64[2] shape = {0, 8}> {
    c = Conv <pads = [1, 1, 1, 1]> (x, w)
    y = Relu (c)
    p = GlobalAveragePool (y)
    z = Reshape (p, shape)
}
"""


def model_of(text: str) -> ir.Model:
    """A model from ONNX text; weights that are declared without data are seeded."""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for declared in proto.graph.value_info:
        shape = [dim.dim_value for dim in declared.type.tensor_type.shape.dim]
        values = rng.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, declared.name))
    del proto.graph.value_info[:]
    return ir.from_proto(proto)


def loaded(target: Target, model: ir.Model, folder: Path) -> Runnable:
    assert target.supports(model) == ()
    artifact = target.build(model, folder)
    assert artifact.entry in artifact.files
    assert all(path.is_file() and path.parent == folder for path in artifact.files)
    return target.load(artifact)


@pytest.mark.parametrize("backend", TARGETS)
@pytest.mark.parametrize("n", [1, 3])
def test_backends_agree_with_the_reference(tmp_path: Path, backend: str, n: int) -> None:
    model = models.load(model_of(NET))
    feeds = {"x": np.random.default_rng(1).normal(size=(n, 4, 6, 6)).astype(np.float32)}
    outputs = loaded(resolve("cpu", backend), model, tmp_path).run(feeds)
    (tmp_path / "reference").mkdir()
    expected = loaded(resolve("cpu", "reference"), model, tmp_path / "reference").run(feeds)
    assert list(outputs) == ["y", "z"]
    for name, array in outputs.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5)


def test_the_model_is_not_changed_by_asking(tmp_path: Path) -> None:
    model = models.load(model_of(NET))
    before = models.to_bytes(model)
    for target in map(resolve, profile_names()):
        target.supports(model)
        target.build(model, tmp_path)
    assert models.to_bytes(model) == before
    assert (tmp_path / "model.onnx").read_bytes() == before


STRANGE = """
<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
net (float[1, 4] x) => (float[1, 4] y, uint8[1, 4] v) {
    a = com.acme.Fancy (x)
    b = com.acme.Fancy (x)
    c = Add (a, b)
    d = Relu (x)
    y = com.acme.Plain (c, d)
    u = Cast <to = 2> (x)
    v = Relu (u)
}
"""


def test_cpu_refuses_everything_at_once() -> None:
    refusals = CpuTarget(load_profile("cpu")).supports(model_of(STRANGE))
    assert {(r.op, r.nodes) for r in refusals} == {
        ("com.acme::Fancy", ("a", "b")),
        ("com.acme::Plain", ("y",)),
        ("Relu", ("v",)),
    }
    with pytest.raises(UnsupportedError) as caught:
        refuse(resolve("cpu"), refusals)
    assert caught.value.exit_code == 4
    assert "com.acme::Fancy  a, b" in caught.value.remedy
    for machinery in ("ONNXRuntimeError", "onnxruntime_src", "::Model("):
        assert machinery not in str(caught.value)


def test_cpu_refuses_types_that_have_no_kernel() -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    net (int16[1, 4] x, float[1, 4] f) => (int16[1, 4] y, float[1, 4] g) {
        y = Relu (x)
        g = Relu (f)
    }
    """
    (refusal,) = CpuTarget(load_profile("cpu")).supports(model_of(text))
    assert (refusal.op, refusal.nodes) == ("Relu", ("y",))
    assert "Relu" in refusal.reason


def test_reference_refuses_everything_at_once() -> None:
    refusals = resolve("cpu", "reference").supports(model_of(STRANGE))
    assert {(r.op, r.nodes) for r in refusals} == {
        ("com.acme::Fancy", ("a", "b")),
        ("com.acme::Plain", ("y",)),
    }


def test_a_graph_that_is_refused_as_a_whole() -> None:
    model = model_of(NET)
    model.graph.opset_imports[""] = 99
    (refusal,) = CpuTarget(load_profile("cpu")).supports(model)
    assert (refusal.op, refusal.nodes) == ("", ())
    assert "Opset 99" in refusal.reason
    assert "onnxruntime::" not in refusal.reason


def test_refuse_without_refusals() -> None:
    refuse(resolve("cpu"), ())


@pytest.mark.parametrize("backend", TARGETS)
def test_feeds_that_do_not_fit(tmp_path: Path, backend: str) -> None:
    run = loaded(resolve("cpu", backend), models.load(model_of(NET)), tmp_path).run
    x = np.zeros((1, 4, 6, 6), np.float32)
    with pytest.raises(UsageError, match="'x': is not fed"):
        run({})
    with pytest.raises(UsageError, match="'q': is not the model's"):
        run({"x": x, "q": x})
    with pytest.raises(UsageError, match="is no array but list"):
        run({"x": x.tolist()})
    with pytest.raises((UsageError, UnsupportedError), match="fails while running"):
        run({"x": x[:, :3]})


def test_cpu_names_a_wrong_dtype(tmp_path: Path) -> None:
    run = loaded(resolve("cpu"), models.load(model_of(NET)), tmp_path).run
    with pytest.raises(UsageError, match="Unexpected input data type"):
        run({"x": np.zeros((1, 4, 6, 6))})


@pytest.mark.parametrize("backend", TARGETS)
def test_an_artifact_that_cannot_be_loaded(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "model.onnx"
    for content in (None, b"\7 no model"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnsupportedError, match="cannot be loaded"):
            resolve("cpu", backend).load(Artifact((path,), path))


@pytest.mark.parametrize(
    ("name", "backend", "fact"),
    [
        ("cpuu", None, "(?s)target 'cpuu'.*did you mean 'cpu'"),
        ("cpu", "onnxruntim", "(?s)backend 'onnxruntim'.*did you mean 'onnxruntime'"),
        ("zzz", None, "(?s)target 'zzz': is not known.*known: "),
        ("../cpu", None, "is not known"),
    ],
)
def test_unknown_names(name: str, backend: str | None, fact: str) -> None:
    with pytest.raises(UsageError, match=fact):
        resolve(name, backend)


def test_every_profile_is_served_by_known_backends() -> None:
    assert "cpu" in profile_names()
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert set(profile.backends) <= set(TARGETS)
        assert resolve(name).backend == profile.backends[0]
        assert resolve(name).profile == profile


GOOD = 'title = "T"\nbackends = ["reference"]\nchannel_grid = 4\nprecisions = ["float32"]\n'


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (GOOD + "chanel_grid = 3", "(?s)key 'chanel_grid'.*did you mean 'channel_grid'"),
        (GOOD.replace("4", "0"), "'channel_grid' cannot be 0"),
        (GOOD.replace("4", "true"), "'channel_grid' cannot be True"),
        (GOOD.replace('["reference"]', "[]"), "'backends' cannot be"),
        (GOOD.replace('"T"', "1"), "'title' cannot be 1"),
        (GOOD.replace('title = "T"', ""), "lacks 'title'"),
        (GOOD + "=", "is not TOML"),
    ],
)
def test_profiles_are_checked(text: str, fact: str) -> None:
    assert parse_profile("mine", GOOD).channel_grid == 4
    with pytest.raises(UsageError, match=fact):
        parse_profile("mine", text)


def test_a_backend_that_does_not_serve_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    import edgec.targets

    monkeypatch.setattr(edgec.targets, "load_profile", lambda name: parse_profile(name, GOOD))
    with pytest.raises(UsageError, match=r"(?s)is not served by.*--backend reference"):
        resolve("mine", "onnxruntime")


def test_rules_of_quantisation_are_a_table_or_a_name() -> None:
    cpu, shared = load_profile("cpu").quantize, load_rules("tensorrt")
    assert cpu is not None
    assert (cpu.activations.word, cpu.activations.symmetric) == ("uint8", False)
    assert parse_profile("mine", GOOD).quantize is None
    assert parse_profile("mine", GOOD + 'quantize = "tensorrt"').quantize == shared


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("min_rows = 2", "min_row = 2", "(?s)key 'min_row'.*did you mean 'min_rows'"),
        ("min_rows = 2", "", "lacks 'min_rows'"),
        ("min_rows = 2", "min_rows = true", "'min_rows' cannot be True"),
        ('activations = "int8"', 'activations = "int7"', "'activations' cannot be 'int7'"),
        ('residual = "shortcut"', 'residual = "none"', "'residual' cannot be 'none'"),
        ('epilogues = ["Relu"', 'epilogues = ["Conv"', "'Conv' cannot be an epilogue and have"),
    ],
)
def test_rules_of_quantisation_are_checked(old: str, new: str, fact: str) -> None:
    text = (files("edgec.targets.rules") / "tensorrt.toml").read_text()
    assert old in text
    with pytest.raises(UsageError, match=fact):
        parse_rules("mine", tomllib.loads(text.replace(old, new)))
    with pytest.raises(UsageError, match=r"rules 'tensort'.*(?s:.*)did you mean 'tensorrt'"):
        parse_profile("mine", GOOD + 'quantize = "tensort"')
