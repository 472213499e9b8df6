"""The bundle: the folder a build writes, whole or not at all.

    build/r50/
    ├── model.onnx       the result, and whatever else the target made (engine, external data)
    ├── plan.json        which original channels were kept      plan.schema.json
    ├── manifest.json    what this is, and the sha256 of the files above    manifest.schema.json
    └── report.json      what was measured: latency, host, times

The same inputs, options, seed and versions give the same bytes, with one exception: report.json.
(Another kind of processor may round sums otherwise; repaired weights and differences show it.)
Whatever depends on the time or the machine goes there and nowhere else, and for that reason the
manifest does not hash it.

Files are written into a folder beside the destination, on the same file system, which is renamed
when it is complete. An interrupted build leaves nothing behind; a forced rebuild keeps the old
bundle until the new one is complete.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from platform import python_version
from typing import Any

from edgec._version import __version__
from edgec.document import Place, canonical, read_json
from edgec.errors import LockError, UsageError
from edgec.plan import Plan

FORMAT = 1
MODEL, PLAN, MANIFEST, REPORT = "model.onnx", "plan.json", "manifest.json", "report.json"


@dataclass(frozen=True)
class Source:
    """The original model: file name (no folder) or factory, sha256 (hexadecimal), bytes."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Costs:
    """What a model costs for one sample. 1 MAC = 2 FLOPs; `bytes` is the file's size."""

    flops: int
    macs: int
    params: int
    bytes: int


@dataclass(frozen=True)
class Budgeted:
    """A budget: its kind (``flops``, ``macs``, ``params``, ``size``), as asked, and as met.

    `asked` is the text the user gave (``0.4``, ``300M``); `limit`, `achieved` and `original`
    are counts in the kind's unit.
    """

    kind: str
    asked: str
    limit: int
    achieved: int
    original: int


@dataclass(frozen=True)
class Numeric:
    """A comparison of two models' outputs on the same inputs.

    `check` says which two (``cut``: zeroed original against cut; ``quantised``: the network before
    quantisation against the quantised graph; ``artifact``: result as edgec computes it against the
    loaded artifact). `max_abs` and `max_rel` are the largest absolute difference, and that divided
    by the largest magnitude of the output; `snr_db` is None where both are equal. `tolerance` is
    the largest `max_rel` that passes; None: what passes is an SNR above 0 dB.
    """

    check: str
    output: str
    samples: int
    max_abs: float
    max_rel: float
    snr_db: float | None
    tolerance: float | None


@dataclass(frozen=True)
class Scored:
    """The accuracy of the original and of the result on the same `n` labelled samples."""

    metric: str
    n: int
    original: float
    result: float


@dataclass(frozen=True)
class Reason:
    """Why something is as it is: `subject` is a group, a node, a pass."""

    subject: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle is and how to make it again; nothing that depends on time or machine.

    Args:
        source: The original model.
        argv: The command's arguments, without those that only say where to write (`command`).
        seed: The seed of everything random.
        target: Name of the target, and of the backend that made the artifact.
        passes: Each pass that ran, with all its options, in order.
        data: `Data.describe()` of the calibration data; None: nothing was calibrated.
        weights: ``original``: those of the source, cut; otherwise what changed them
            (``least-squares``, ``finetune``, …).
        quantisation: The numbers it computes with, the options that chose them, and what stays in
            floats for which reason; None: those of the original.
    """

    source: Source
    argv: tuple[str, ...]
    seed: int
    target: Mapping[str, str]
    passes: tuple[Mapping[str, Any], ...]
    data: Mapping[str, Any] | None
    weights: str
    budgets: tuple[Budgeted, ...]
    original: Costs
    result: Costs
    numerics: tuple[Numeric, ...]
    accuracy: tuple[Scored, ...] = ()
    reasons: tuple[Reason, ...] = ()
    quantisation: Mapping[str, Any] | None = None

    def to_json(self, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """In the form manifest.schema.json describes, with the versions that made it."""
        return {**asdict(self), "format": FORMAT, "versions": versions(), "files": dict(files)}


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files have the hashes that its manifest gives.

    Args:
        path: Its folder.
        manifest: The parsed manifest.json; `format` and `files` are checked, the rest is as read.
        plan: The parsed plan.json.
    """

    path: Path
    manifest: Mapping[str, Any]
    plan: Plan

    @property
    def model(self) -> Path:
        """The result as ONNX."""
        return self.path / MODEL


class Writer:
    """A bundle in the making: put files under `folder`, then `seal` it once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sealed = False

    def seal(self, manifest: Manifest, plan: Plan, report: Mapping[str, Any]) -> None:
        """Write the three documents; hash all files that are in the folder by now."""
        if not (self.folder / MODEL).is_file():
            raise ValueError(f"a bundle needs {MODEL}")
        _write(self.folder / PLAN, plan.to_json())
        files = {
            name: {"sha256": file_hash(path), "bytes": path.stat().st_size}
            for name, path in _files(self.folder).items()
        }
        _write(self.folder / MANIFEST, manifest.to_json(files))
        _write(self.folder / REPORT, report)
        self.sealed = True


@contextmanager
def writing(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Writer]:
    """Write a bundle that appears at `path` when the block ends, or not at all.

    Args:
        path: The bundle's folder: absent, or an empty folder, or with `force` a bundle.
        force: Replace the bundle that is there, once the new one is complete.

    Errors:
        UsageError: something else is at `path`, or its parent cannot be written.
    """
    path = Path(path)
    check_output(path, force=force)
    path = Path(os.path.abspath(path))
    created = _make_parents(path.parent)
    aside = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        try:
            aside.mkdir()
        except OSError as error:
            raise _cannot_write(path, error) from None
        writer = Writer(aside)
        yield writer
        if not writer.sealed:
            raise ValueError("the bundle was not sealed")
        check_output(path, force=force)
        _swap(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        _remove_empty(created)
        raise


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise the UsageError that `writing` would raise, before any work is done."""
    path, subject = Path(path), f"output '{path}'"
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UsageError(subject, "exists and is not a folder", "choose another --output")
    if not path.exists() or not any(path.iterdir()):
        return
    if not force:
        raise UsageError(subject, "exists", "choose another --output, or --force to replace it")
    try:  # --force must not delete what edgec did not write
        known = {*_listed(read_json(path / MANIFEST)), MANIFEST, REPORT}
        others = sorted({*_files(path)} - known)
    except (UsageError, LockError) as error:
        remedy = f"remove it yourself, or choose another --output\n({error.fact})"
        raise UsageError(subject, "exists and is not a bundle", remedy) from None
    if others:
        raise UsageError(
            subject,
            f"holds a file that is not the bundle's: {others[0]}",
            "move it away, or choose another --output",
        )


def read(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and verify it; nothing in it is trusted.

    Errors:
        UsageError: it is not a bundle, or one of its documents is malformed.
        LockError: a file is missing, added, a link, or differs from the manifest.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise UsageError(
            f"'{path}'",
            f"is not a bundle: it has no {MANIFEST}",
            "name the folder that edgec build wrote",
        )
    manifest = read_json(path / MANIFEST)
    listed, found = _listed(manifest), _files(path)
    for name in [*listed, *sorted(found)]:
        fact = None
        if name not in found:
            fact = "is in the manifest but not in the bundle"
        elif name in listed:
            size, sha256 = listed[name]
            if found[name].stat().st_size != size or file_hash(found[name]) != sha256:
                fact = "differs from the manifest"
        elif name not in (MANIFEST, REPORT):
            fact = "is in the bundle but not in the manifest"
        if fact:
            raise LockError(f"'{path}': {name}", fact, "build the bundle again")
    return Bundle(path, manifest, Plan.from_json(read_json(path / PLAN)))


def versions() -> dict[str, str]:
    """The versions of edgec, Python, and the packages that decide a bundle's bytes."""
    packages = {name: version(name) for name in ("numpy", "onnx", "onnx-ir", "onnxruntime")}
    return {"edgec": __version__, "python": python_version(), **packages}


def command(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` without the options that do not change the bundle: where to write, how to print."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if word in ("-o", "--output"):
            next(words, None)
        elif not (word.startswith(("--output=", "-o")) or word in ("--force", "--json", "--debug")):
            kept.append(word)
    return tuple(kept)


def file_hash(path: str | os.PathLike[str]) -> str:
    """sha256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, document: Mapping[str, Any]) -> None:
    try:
        path.write_bytes(canonical(document).encode(errors="backslashreplace"))
    except OSError as error:  # a full disk names no file
        raise _cannot_write(path, error) from None


def _listed(manifest: Any) -> dict[str, tuple[int, str]]:
    """name → (bytes, sha256) of the files a manifest names, after refusing names that lead out."""
    top = Place(manifest, "manifest")
    if top.integer("format", low=1) != FORMAT:
        raise top.error(f"is of format {manifest['format']}, this edgec reads {FORMAT}")
    files = top.object("files")
    listed: dict[str, tuple[int, str]] = {}
    for name in files.value:
        parts = name.split("/")
        if (
            any(part in ("", ".", "..") or part[-1] in " ." for part in parts)
            or not name.isprintable()
            or set(name) & set('\\:*?"<>|')
        ):
            raise files.error(f"names a file outside the bundle: {name!a}")
        entry = files.object(name)
        listed[name] = (entry.integer("bytes"), entry.text("sha256"))
    for name in (MODEL, PLAN):
        if name not in listed:
            raise files.error(f"does not name {name}")
    return listed


def _files(folder: Path) -> dict[str, Path]:
    """name with ``/`` → path of every file below `folder`; links and devices are refused."""
    found: dict[str, Path] = {}
    for top, folders, names in os.walk(folder):
        for name in sorted(folders + names):
            path = Path(top, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found[str(PurePosixPath(path.relative_to(folder)))] = path
            elif not stat.S_ISDIR(mode):
                raise LockError(f"'{path}'", "is a link or a device, not a file", "remove it")
    return found


def _make_parents(folder: Path) -> list[Path]:
    """Create `folder` and its parents; those created, innermost first."""
    if folder.is_dir():
        return []
    created = _make_parents(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        _remove_empty(created)
        raise _cannot_write(folder, error) from None
    return [folder, *created]


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty: someone else uses it by now
            folder.rmdir()


def _swap(aside: Path, path: Path) -> None:
    """Rename `aside` to `path`; what was at `path` is put back if that fails, else deleted."""
    old = aside.with_suffix(".old")
    try:
        if path.exists():
            path.rename(old)
        try:
            aside.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise _cannot_write(path, error) from None
    shutil.rmtree(old, ignore_errors=True)


def _cannot_write(path: Path, error: OSError) -> UsageError:
    remedy = "choose another --output, or check the rights and the space left"
    return UsageError(f"output '{path}'", f"cannot be written: {error.strerror}", remedy)
