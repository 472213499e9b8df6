"""Samples are streamed as they are, or refused with the reason."""

from __future__ import annotations

import io
import re
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.calibration.data import Data, load_data
from edgec.errors import UsageError

X = {"x": (np.float32, (None, 3))}
X4 = {"x": (np.float32, (4, 3))}
TWO = {"ids": (np.int64, (None, 5)), "mask": (np.float32, (None, 5))}


def samples(n: int) -> np.ndarray:
    return np.arange(3 * n, dtype=np.float32).reshape(n, 3)


def npz(path: Path, *, compress: bool = False, **arrays: Any) -> Path:
    file = path / "data.npz"
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file


def everything(data: Data, size: int, **options: Any) -> np.ndarray:
    return np.concatenate([feeds["x"] for feeds in data.batches(size, **options)])


def items(n: int) -> Iterator[tuple[np.ndarray, int]]:
    yield from ((row, i) for i, row in enumerate(samples(n)))


def uneven(n: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    start, step = 0, 1
    while start < n:
        stop = min(n, start + step)
        yield {"x": samples(n)[start:stop]}, np.arange(start, stop)
        start, step = stop, step % 3 + 1


SOURCES: Mapping[str, Callable[[Path, int], Any]] = {
    "stored": lambda path, n: npz(path, x=samples(n), labels=np.arange(n)),
    "compressed": lambda path, n: npz(path, compress=True, x=samples(n), labels=np.arange(n)),
    "arrays": lambda _, n: {"x": samples(n), "labels": np.arange(n)},
    "samples": lambda _, n: lambda: items(n),
    "uneven batches": lambda _, n: lambda: uneven(n),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(("n", "size"), [(1, 1), (1, 4), (7, 3), (8, 4), (10, 32)])
def test_batches_are_the_samples_in_order(tmp_path: Path, kind: str, n: int, size: int) -> None:
    data = load_data(SOURCES[kind](tmp_path, n), X)
    assert len(data) == n
    lengths = [len(feeds["x"]) for feeds in data.batches(size)]
    assert lengths == [size] * (n // size) + [n % size] * (n % size > 0)
    for _ in range(2):  # as often as asked
        np.testing.assert_array_equal(everything(data, size), samples(n))
    np.testing.assert_array_equal(np.concatenate(list(data.labels(size))), np.arange(n))


def test_the_hash_is_of_the_samples_not_of_their_storage(tmp_path: Path) -> None:
    loaded = [load_data(make(tmp_path, 7), X) for make in SOURCES.values()]
    assert len({data.sha256 for data in loaded}) == 1
    other = samples(7)
    other[6, 2] += 1
    assert load_data({"x": other, "labels": np.arange(7)}, X).sha256 != loaded[0].sha256
    assert load_data({"x": samples(7)}, X).sha256 != loaded[0].sha256


@given(n=st.integers(1, 13), batch=st.integers(1, 5))
def test_a_fixed_batch_is_filled_or_left_out(n: int, batch: int) -> None:
    data = load_data({"x": samples(n), "labels": np.arange(n)}, {"x": (np.float32, (batch, 3))})
    full = n // batch * batch
    kept = [feeds["x"] for feeds in data.batches(99)]
    assert all(len(x) == batch for x in kept)
    assert sum(map(len, kept)) == full
    padded = everything(data, 99, pad=True)
    assert len(padded) == -(-n // batch) * batch
    np.testing.assert_array_equal(padded[:n], samples(n))
    assert (padded[n:] == samples(n)[-1]).all()
    assert [len(labels) for labels in data.labels()] == [batch] * (n // batch) + (
        [n % batch] if n % batch else []
    )


def test_several_inputs() -> None:
    ids, mask = np.ones((6, 5), np.int64), np.zeros((6, 5), np.float32)
    data = load_data({"ids": ids, "mask": mask}, TWO)
    assert [{n: a.shape for n, a in feeds.items()} for feeds in data.batches(4)] == [
        {"ids": (4, 5), "mask": (4, 5)},
        {"ids": (2, 5), "mask": (2, 5)},
    ]


@pytest.mark.parametrize(
    ("have", "want"),
    [("f8", "f4"), ("f2", "f4"), ("i4", "i8"), ("u1", "u2"), (">f4", "f4"), (">i2", "i4")],
)
def test_conversions_that_keep_values_are_made_and_noted(have: str, want: str) -> None:
    data = load_data({"x": samples(4).astype(have)}, {"x": (want, (None, 3))})
    (batch,) = data.batches(4)
    assert batch["x"].dtype == np.dtype(want)
    np.testing.assert_array_equal(batch["x"], samples(4))
    assert f"from {np.dtype(have)} to {np.dtype(want)}" in data.notes[0]
    assert data.describe()["notes"] == list(data.notes)


@pytest.mark.parametrize(
    ("have", "want"), [("u1", "f4"), ("i8", "f4"), ("f4", "f2"), ("f4", "i8"), ("i8", "i4")]
)
def test_other_conversions_are_refused(have: str, want: str) -> None:
    with pytest.raises(UsageError, match="does not fit the model") as caught:
        load_data({"x": samples(4).astype(have)}, {"x": (want, (None, 3))})
    assert str(np.dtype(have)) in caught.value.fact
    assert ("preprocess.toml" in caught.value.fact) == (have == "u1")


def test_one_error_says_all_that_does_not_fit() -> None:
    have = {"ids": np.zeros((3, 5), np.float32), "Mask": np.zeros((2, 4), np.float32)}
    with pytest.raises(UsageError) as caught:
        load_data(have, TWO)
    for fact in ["'mask' is missing", "'Mask' is no input", "'ids' is float32", "ids 3, Mask 2"]:
        assert fact in caught.value.fact
    assert "ids: int64[?, 5], mask: float32[?, 5]" in caught.value.remedy
    assert "ids: float32[?, 5], Mask: float32[?, 4]" in caught.value.remedy


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("kind", ["npz", "function"])
def test_what_is_not_finite_is_refused_before_the_work(
    tmp_path: Path, bad: float, kind: str
) -> None:
    x = samples(4).astype(np.float64)
    x[3, 2] = bad
    with pytest.raises(UsageError, match="NaN" if np.isnan(bad) else "infinity"):
        load_data(npz(tmp_path, x=x) if kind == "npz" else lambda: iter(x), X)


def renamed(path: Path) -> Path:
    file = path / "data.csv"
    file.write_text("1,2,3")
    return file


def cut_short(path: Path) -> Path:
    file = npz(path, x=samples(1000))
    file.write_bytes(file.read_bytes()[:3000])
    return file


def flipped(path: Path) -> Path:
    file = npz(path, x=samples(1000))
    content = bytearray(file.read_bytes())
    content[5000] ^= 255
    file.write_bytes(content)
    return file


def member(path: Path, name: str, content: bytes) -> Path:
    file = path / "data.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def give_two_less() -> Callable[[], Iterator[np.ndarray]]:
    counts = iter([4, 4, 2])
    return lambda: iter(samples(next(counts)))


BROKEN: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "absent": (lambda path: path / "none.npz", "no such file or folder"),
    "another format": (renamed, "is not an .npz file"),
    "cut short": (cut_short, "damaged one"),
    "bit flipped": (flipped, "damaged one: Bad CRC"),
    "random": (lambda p: [f := p / "x.npz", f.write_bytes(b"\7" * 99)][0], "not an .npz file"),
    "no arrays": (lambda path: member(path, "readme.txt", b"hi"), "holds 'readme.txt'"),
    "no npy": (lambda path: member(path, "x.npy", b"\7" * 99), "is not an .npy"),
    "npy cut": (lambda p: member(p, "x.npy", npy(samples(9))[:-1]), "its size is not that of"),
    "pickle": (lambda path: npz(path, x=np.array([{}, 1, 2])), "Python objects"),
    "columns": (lambda path: npz(path, x=np.asfortranarray(samples(4))), "column by column"),
    "scalar": (lambda path: npz(path, x=np.float32(3)), "is a scalar"),
    "scalar array": (lambda _: {"x": np.float32(3)}, "has no axis of samples"),
    "empty": (lambda path: npz(path, x=samples(0)), "holds no samples"),
    "no items": (lambda _: lambda: iter(()), "gives no samples"),
    "shape": (lambda path: npz(path, x=np.zeros((4, 2), "f4")), "samples of shape [2]"),
    "rank": (lambda path: npz(path, x=np.zeros((4, 3, 1), "f4")), "samples of shape [3, 1]"),
    "labels": (lambda path: npz(path, x=samples(4), labels=np.arange(3)), "x 4, labels 3"),
    "late shape": (lambda _: lambda: iter([*samples(2), np.zeros(4, "f4")]), "shape [4]"),
    "late label": (lambda _: lambda: iter([*samples(2), (samples(1)[0], 1)]), "some samples only"),
    "not arrays": (lambda _: lambda: iter([[1.0, 2.0, 3.0]]), "is not of numpy arrays (x: list)"),
    "not iterable": (lambda _: lambda: 7, "failed: TypeError"),
    "raises": (lambda _: lambda: 1 / 0, "failed: ZeroDivisionError"),
    "exits": (lambda _: lambda: sys.exit(0), "failed: it ends the program with sys.exit(0)"),
    "exits late": (lambda _: lambda: (sys.exit() for _ in "a"), "failed: it ends the program"),
    "no module": (lambda _: "no_such_module_:f", "cannot be imported: ModuleNotFoundError"),
    "no function": (lambda _: "math:no_such", "'math' has no 'no_such'"),
    "no callable": (lambda _: "math:pi", "is not a function"),
    "unequal": (lambda _: lambda: iter([(samples(3), np.arange(2))]), "unequal lengths"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_data(tmp_path: Path, case: str) -> None:
    make, fact = BROKEN[case]
    with pytest.raises(UsageError, match=re.escape(fact)):
        load_data(make(tmp_path), X)


def test_one_array_needs_one_input() -> None:
    with pytest.raises(UsageError, match="is one array"):
        load_data(samples(4), TWO)
    with pytest.raises(UsageError, match="is one array"):
        load_data(lambda: iter(samples(4)), TWO)
    assert len(load_data(samples(4), X)) == 4


def test_a_function_that_changes_its_mind() -> None:
    data = load_data(give_two_less(), X)
    with pytest.raises(UsageError, match="gave 2 samples, and 4 when"):
        list(data.batches(2))


@pytest.mark.parametrize("shapes", [((2, 3), (1, 2, 3)), ((), (3,))])
def test_models_without_a_batch_axis(shapes: tuple[tuple[int, ...], ...]) -> None:
    inputs = {name: (np.float32, shape) for name, shape in zip("ab", shapes, strict=True)}
    with pytest.raises(UsageError, match="batch axis"):
        load_data({"a": samples(2), "b": samples(2)}, inputs)


def test_labels_are_asked_for_only_where_there_are_some() -> None:
    with pytest.raises(UsageError, match="has no labels"):
        next(load_data(samples(4), X).labels())


def test_a_function_by_name_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "feeds_of_test.py").write_text(
        "import numpy as np\ndef samples():\n    yield {'x': np.ones(3, np.float32)}\n"
    )
    monkeypatch.chdir(tmp_path)
    data = load_data("feeds_of_test:samples", X)
    assert everything(data, 8).tolist() == [[1, 1, 1]]
    assert data.describe()["kind"] == "callable"


@pytest.mark.parametrize("compress", [False, True])
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path, compress: bool) -> None:
    peaks = []
    for n in (2_000, 16_000):
        file = npz(tmp_path, compress=compress, x=np.ones((n, 1024), np.float32))
        tracemalloc.start()
        data = load_data(file, {"x": (np.float32, (None, 1024))})
        assert sum(len(feeds["x"]) for feeds in data.batches(16)) == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 24 * 2**20  # the array is 64 MiB
    assert peaks[1] < 1.2 * peaks[0]
