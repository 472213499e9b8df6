"""Observations that are kept: found again for the same question, and for no other."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from zoo import Array, model_of

from edgec.calibration import cache as module
from edgec.calibration.cache import VARIABLE, Cache
from edgec.calibration.data import Data, load_data
from edgec.calibration.histogram import Histogram
from edgec.calibration.ranges import observe

NET = """
(float[N,3,8,8] x) => (y)
<float[6,3,3,3] w, float[6] b>
{ h = Conv(x, w, b)  r = Relu(h)  y = Neg(r) }"""


def samples(seed: int = 0, count: int = 10) -> Data:
    x = np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)
    return load_data(x, {"x": (np.dtype(np.float32), (None, 3, 8, 8))})


def assert_equal(a: dict[str, Histogram], b: dict[str, Histogram]) -> None:
    assert list(a) == list(b)
    for name in a:
        for f in fields(Histogram):
            np.testing.assert_array_equal(getattr(a[name], f.name), getattr(b[name], f.name))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that the samples really ran."""
    found: list[int] = []

    def counted(*args: object, **options: object) -> dict[str, Histogram]:
        found.append(1)
        return observe(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "observe", counted)
    return found


def test_the_same_question_is_answered_from_the_file(tmp_path: Path, runs: list[int]) -> None:
    first = Cache(tmp_path / "new" / "folder").observe(model_of(NET), ["h", "x", "y"], samples())
    again = Cache(tmp_path / "new" / "folder")
    second = again.observe(model_of(NET), ["y", "h", "x"], samples(), batch_size=3)
    assert len(runs) == 1
    assert list(second) == ["y", "h", "x"]
    assert_equal({n: second[n] for n in first}, first)
    assert (again.hits, again.notes) == (1, [])
    merged = second["h"].merged(first["h"])  # a Histogram like any other
    assert merged.total == 2 * first["h"].total


def _weights(model: ir.Model) -> ir.Model:
    tensor = model.graph.initializers["b"].const_value
    assert tensor is not None
    array: Array = tensor.numpy().copy()
    array[0] += 1
    model.graph.initializers["b"].const_value = ir.tensor(array, name="b")
    return model


CHANGES: dict[str, Callable[[Cache], object]] = {
    "a weight": lambda c: c.observe(_weights(model_of(NET)), ["h"], samples()),
    "an operator": lambda c: c.observe(
        model_of(NET.replace("Conv(", "Conv<pads = [1,1,1,1]>(")), ["h"], samples()
    ),
    "the samples": lambda c: c.observe(model_of(NET), ["h"], samples(1)),
    "how many": lambda c: c.observe(model_of(NET), ["h"], samples(), samples=5),
    "the names": lambda c: c.observe(model_of(NET), ["h", "r"], samples()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_question_is_asked_anew(change: str, tmp_path: Path, runs: list[int]) -> None:
    Cache(tmp_path).observe(model_of(NET), ["h"], samples())
    CHANGES[change](Cache(tmp_path))
    assert len(runs) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_another_version_asks_anew(
    tmp_path: Path, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    Cache(tmp_path).observe(model_of(NET), ["h"], samples())
    monkeypatch.setattr(module, "__version__", "0.0.0")
    Cache(tmp_path).observe(model_of(NET), ["h"], samples())
    assert len(runs) == 2


def test_what_lies_behind_the_values_is_no_part_of_the_question(
    tmp_path: Path, runs: list[int]
) -> None:
    Cache(tmp_path).observe(model_of(NET), ["h"], samples())
    Cache(tmp_path).observe(model_of(NET.replace("Neg", "Abs")), ["h"], samples())
    assert len(runs) == 1


def _only_file(folder: Path) -> Path:
    (path,) = [p for p in folder.rglob("*") if p.is_file()]
    return path


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pickle(path: Path) -> None:
    np.savez(path, names=np.asarray([{}], object), allow_pickle=True)


def _other_fields(path: Path) -> None:
    np.savez(path, names=np.frombuffer(b'["h"]', np.uint8), counts=np.zeros((1, 7)))


def _bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_cut, _empty, _pickle, _other_fields, _bits])
def test_a_damaged_file_is_noted_and_replaced(
    damage: Callable[[Path], None], tmp_path: Path, runs: list[int]
) -> None:
    first = Cache(tmp_path).observe(model_of(NET), ["h"], samples())
    path = _only_file(tmp_path)
    damage(path)
    cache = Cache(tmp_path)
    assert_equal(cache.observe(model_of(NET), ["h"], samples()), first)
    assert len(runs) == 2
    assert len(cache.notes) == 1
    assert cache.notes[0].startswith(f"{path} cannot be read and is replaced: ")
    assert_equal(Cache(tmp_path).observe(model_of(NET), ["h"], samples()), first)
    assert len(runs) == 2


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "folder")
    assert cache.observe(model_of(NET), ["h"], samples())["h"].samples == 10
    assert len(cache.notes) >= 1
    assert "nothing is kept in" in cache.notes[-1]


def test_samples_that_do_not_say_what_they_are_are_not_kept(tmp_path: Path) -> None:
    data = samples()

    class Bare:
        batches = data.batches

    assert Cache(tmp_path).observe(model_of(NET), ["h"], Bare())["h"].samples == 10
    assert not list(tmp_path.iterdir())


def test_the_environment_chooses_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Cache.default().folder == tmp_path / "xdg" / "edgec"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Cache.default().folder == Path.home() / ".cache" / "edgec"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert Cache.default().folder == tmp_path / "mine"
    for word in ("off", "0", ""):
        monkeypatch.setenv(VARIABLE, word)
        cache = Cache.default()
        assert cache.folder is None
        assert cache.observe(model_of(NET), ["h"], samples())["h"].samples == 10


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    Cache(tmp_path).observe(model_of(NET), ["h"], samples())
    assert stat.S_IMODE(_only_file(tmp_path).stat().st_mode) == 0o600
