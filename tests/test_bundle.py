"""A bundle is there whole or not at all, the same bytes each time, and read with suspicion."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgec
from edgec import bundle
from edgec.bundle import Budgeted, Costs, Manifest, Numeric, Reason, Scored, Source
from edgec.document import canonical, read_json
from edgec.errors import LockError, UsageError
from edgec.plan import Cut, Plan

SCHEMA = json.loads((Path(edgec.__file__).parent / "manifest.schema.json").read_text())
PLAN = Plan("a" * 64, (Cut("w", 0, 4, (0, 2), "out", "conv", 1),))
MANIFEST = Manifest(
    source=Source("model.onnx", "a" * 64, 1000),
    argv=("build", "model.onnx", "--flops", "0.4"),
    seed=0,
    target={"name": "cpu", "backend": "onnxruntime"},
    passes=({"name": "prune", "criterion": "l2", "ratio": np.float32(0.5)},),
    data=None,
    weights="original",
    budgets=(Budgeted("flops", "0.4", 400, 398, 1000),),
    original=Costs(1000, 500, 20, 80),
    result=Costs(398, 199, 9, 40),
    numerics=(Numeric("cut", "y", 8, 1e-7, 3.1e-7, 130.2, 1e-5),),
    accuracy=(Scored("top1", 100, 0.76, 0.75),),
    reasons=(Reason("fc", "is a graph output"),),
)


def write(path: Path, content: bytes = b"onnx", **options: Any) -> Path:
    with bundle.writing(path, **options) as writer:
        (writer.folder / "model.onnx").write_bytes(content)
        (writer.folder / "engine").mkdir()
        (writer.folder / "engine" / "a.bin").write_bytes(b"\0" * 10)
        writer.seal(MANIFEST, PLAN, {"format": 1, "latency": {"p50_ms": 1.5}})
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    read = bundle.read(write(tmp_path / "deep" / "out"))
    assert read.plan == PLAN
    assert read.model.read_bytes() == b"onnx"
    assert set(read.manifest["files"]) == {"model.onnx", "plan.json", "engine/a.bin"}
    for name, entry in read.manifest["files"].items():
        content = (read.path / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_the_manifest_fits_its_schema(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(read_json(write(tmp_path / "out") / "manifest.json"), SCHEMA)
    assert set(SCHEMA["required"]) == set(SCHEMA["properties"])


def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    assert contents(write(tmp_path / "a")) == contents(write(tmp_path / "b"))


@pytest.mark.parametrize("force", [False, True])
def test_an_empty_folder_is_taken(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out").mkdir()
    bundle.read(write(tmp_path / "out", force=force))


def test_force_replaces_a_bundle(tmp_path: Path) -> None:
    write(tmp_path / "out")
    with pytest.raises(UsageError, match="--force"):
        write(tmp_path / "out", b"new")
    assert bundle.read(tmp_path / "out").model.read_bytes() == b"onnx"
    write(tmp_path / "out", b"new", force=True)
    assert bundle.read(tmp_path / "out").model.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


def plain_file(path: Path) -> None:
    path.write_text("x")


def link(path: Path) -> None:
    path.symlink_to(path.parent)


def other_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("x")


def bundle_with_notes(path: Path) -> None:
    write(path)
    (path / "notes.txt").write_text("x")


@pytest.mark.parametrize("make", [plain_file, link, other_folder, bundle_with_notes])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_else_is_ever_replaced(
    tmp_path: Path, make: Callable[[Path], None], force: bool
) -> None:
    make(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"--output|--force"):
        bundle.check_output(tmp_path / "out", force=force)
    with pytest.raises(UsageError):
        write(tmp_path / "out", force=force)
    assert contents(tmp_path) == before


class Fault(BaseException):
    """Not an Exception, like KeyboardInterrupt."""


class Broken(dict[str, Any]):
    """A report that raises when it is written, last of all documents."""

    def __iter__(self) -> Any:
        raise Fault


def fail_before_files(writer: bundle.Writer) -> None:
    raise Fault


def fail_midway(writer: bundle.Writer) -> None:
    (writer.folder / "model.onnx").write_bytes(b"half")
    raise Fault


def fail_in_the_report(writer: bundle.Writer) -> None:
    (writer.folder / "model.onnx").write_bytes(b"new")
    writer.seal(MANIFEST, PLAN, Broken(a=1))


def fail_after_sealing(writer: bundle.Writer) -> None:
    (writer.folder / "model.onnx").write_bytes(b"new")
    writer.seal(MANIFEST, PLAN, {})
    raise Fault


@pytest.mark.parametrize(
    "fail", [fail_before_files, fail_midway, fail_in_the_report, fail_after_sealing]
)
@pytest.mark.parametrize("old", [False, True])
def test_a_fault_leaves_things_as_they_were(
    tmp_path: Path, fail: Callable[[bundle.Writer], None], old: bool
) -> None:
    out = tmp_path / "new" / "out"
    if old:
        write(out)
    before = contents(tmp_path)
    with pytest.raises(Fault), bundle.writing(out, force=old) as writer:
        fail(writer)
    assert contents(tmp_path) == before
    assert (tmp_path / "new").exists() == old


@pytest.mark.parametrize("failing", [1, 2])
def test_a_fault_in_the_rename_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write(tmp_path / "out")
    before = contents(tmp_path)
    rename, calls = Path.rename, []

    def fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(UsageError, match="No space left"):
        write(tmp_path / "out", b"new", force=True)
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_bundle_that_is_not_sealed_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not sealed"), bundle.writing(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        write(tmp_path / "file" / "a" / "out")
    assert os.listdir(tmp_path) == ["file"]


def changed(path: Path) -> None:
    (path / "model.onnx").write_bytes(b"onny")


def grown(path: Path) -> None:
    (path / "engine" / "a.bin").write_bytes(b"\0" * 11)


def removed(path: Path) -> None:
    (path / "plan.json").unlink()


def added(path: Path) -> None:
    (path / "engine" / "b.bin").write_bytes(b"")


def linked(path: Path) -> None:
    (path / "model.onnx").rename(path.parent / "elsewhere")
    (path / "model.onnx").symlink_to(path.parent / "elsewhere")


def linked_folder(path: Path) -> None:
    (path / "engine").rename(path.parent / "elsewhere")
    (path / "engine").symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize("tamper", [changed, grown, removed, added, linked, linked_folder])
def test_a_changed_bundle_is_locked_out(tmp_path: Path, tamper: Callable[[Path], None]) -> None:
    tamper(write(tmp_path / "out"))
    with pytest.raises(LockError) as caught:
        bundle.read(tmp_path / "out")
    assert caught.value.exit_code == 8


def test_the_report_may_change(tmp_path: Path) -> None:
    (write(tmp_path / "out") / "report.json").write_text("{}")
    bundle.read(tmp_path / "out")


OUTSIDE = ["../x", "/etc/passwd", "a/../../x", "./x", "a//b", "", "C:x", "a\\b", "a\0b", "x/", "x."]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "out") / "manifest.json"
    manifest = read_json(path)
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 0}
    path.write_text(canonical(manifest))
    with pytest.raises(UsageError, match="outside the bundle"):
        bundle.read(tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        *["", "{", "[]", "null", "\xff", '{"format": 2}', '{"format": 1}', '{"format": NaN}'],
        *['{"format": 1, "format": 1}', "[" * 100_000, '{"format": 1, "files": {}}'],
        *['{"format": 1, "files": {"model.onnx": 3}}', "9" * 10_000],
    ],
)
def test_malformed_manifests(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "out") / "manifest.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError):
        bundle.read(tmp_path / "out")


def test_no_bundle(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="is not a bundle"):
            bundle.read(path)


@given(st.data())
def test_mutated_manifests_end_in_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated"
    if not path.exists():
        write(path)
        (path.parent / "good.json").write_bytes((path / "manifest.json").read_bytes())
    content = bytearray((path.parent / "good.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (path / "manifest.json").write_bytes(content)
    with suppress(UsageError, LockError):  # any other error is a failure
        bundle.read(path)


def test_only_what_changes_the_bundle_is_recorded() -> None:
    argv = ["build", "m.onnx", "-o", "out", "--flops", "0.4", "--output=x", "-oy", "--output", "z"]
    assert bundle.command([*argv, "--json", "--force"]) == ("build", "m.onnx", "--flops", "0.4")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)  # fmt: skip
def test_canonical_json_is_json(value: Any) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert text == canonical(copy.deepcopy(value))
    assert text.endswith("\n")


def test_canonical_json_is_pinned() -> None:
    value = {"b": [1, 2], "a": [[np.int64(1)], {}], "c": {"é": 1e-07, "d": (True, None)}}
    assert canonical(value) == (
        '{\n "a": [\n  [1],\n  {}\n ],\n "b": [1, 2],\n'
        ' "c": {\n  "d": [true, null],\n  "é": 1e-07\n }\n}\n'
    )
    with pytest.raises(ValueError, match="no JSON form"):
        canonical([float("nan")])
    with pytest.raises(TypeError, match="keys must be strings"):
        canonical({1: 2})
