"""Models in and out: ONNX files, protobufs and PyTorch in; ONNX out.

Everything behind this file is an `onnx_ir.Model` that is one graph (functions inlined), in
topological order, with every weight at hand and finite, and no weight posing as an input. Operators
on integers are written as float ones between Q and DQ.
"""

from __future__ import annotations

import io
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx.inliner
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx_ir import serde
from onnx_ir.passes.common import InlinePass

from edgec.errors import UnsupportedError, UsageError
from edgec.model_checks import check_call_tree, check_graph
from edgec.model_inputs import fix_input_shapes
from edgec.model_integers import with_floats
from edgec.model_proto import check_proto
from edgec.model_stream import pieces
from edgec.model_tensors import check_weights, forget_weights, release_pages, spool_weights

__all__ = [
    "copied", "forget_weights", "load", "release_pages", "save", "spool_weights", "to_bytes",
]  # fmt: skip

# A protobuf ends at 2 GiB. Well below, one file is handier than two.
_MAX_PROTO_BYTES = (1 << 31) - 1
MAX_EMBEDDED = 1_800_000_000
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def load(
    source: str | os.PathLike[str] | ir.Model | onnx.ModelProto,
    *,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
) -> ir.Model:
    """Read a model, whole and checked, or raise.

    Args:
        source: The path of an ONNX file (operator sets 9–25, external data in the same folder) or
            of a `.pt2` file of torch.export; `package.module:factory`, where `factory()` returns an
            nn.Module; or a model in memory. A model in memory is not changed: the result is
            another object that shares its weights. External data of an onnx.ModelProto are looked
            for in the working directory.
        inputs: Input name → shape. Fixes symbolic dims for this run (`input_shapes` of
            `edgec.model_inputs` tells them); the graph itself stays symbolic. A factory is traced
            with these shapes.

    Raises:
        UsageError: The source is missing or malformed, or does not fit `inputs`.
        UnsupportedError: A well-formed model outside of what edgec takes.
    """
    folder = None
    if isinstance(source, ir.Model):
        subject = source.graph.name or "model"
        check_graph(source, subject)
        model = copied(source)
    elif isinstance(source, onnx.ModelProto):
        subject = source.graph.name or "model"
        model = _from_proto(source, subject)
    else:
        subject = os.fspath(source)
        path = Path(subject)
        if _FACTORY.fullmatch(subject) and not path.exists():
            from edgec.torch_import import from_factory

            model = from_factory(subject, inputs or {})
        else:
            _check_file(path, subject)
            model = _from_path(path, subject)
            folder = path.parent
    _make_one_graph(model, subject)
    check_graph(model, subject)
    check_weights(model, folder, subject)
    model = with_floats(model)
    if inputs:
        fix_input_shapes(model, inputs, subject)
    return model


def copied(model: ir.Model) -> ir.Model:
    """Another graph with the same weights: what `load` gives for a model, without its checks."""
    copy = model.clone()
    copy.meta.update(model.meta)  # it tells where mapped weights lie
    return copy


def save(model: ir.Model, path: str | os.PathLike[str], *, embedded: int = MAX_EMBEDDED) -> None:
    """Write `model` to `path`: written aside, then renamed. The same model gives the same bytes.

    More than `embedded` bytes of weights, at most 1.8 GB, go to `<name>.data` beside it, as ONNX
    external data.

    Raises:
        UsageError: The file cannot be written; what was there before is still there.
    """
    path = Path(path)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as aside:
            new = Path(aside, path.name)
            if _weight_bytes(model) <= min(embedded, MAX_EMBEDDED):
                with new.open("wb") as file:
                    file.writelines(pieces(model))
            else:
                data = f"{path.name}.data"
                ir.save(
                    model,
                    new,
                    format="protobuf",
                    external_data=data,
                    callback=lambda *_: release_pages(model),
                )
                os.replace(Path(aside, data), path.with_name(data))
            os.replace(new, path)
    except OSError as error:
        raise UsageError(
            str(path), f"cannot be written: {error.strerror}", "give a folder that can be written"
        ) from error


def to_bytes(model: ir.Model) -> bytes:
    """`model` as one ONNX protobuf, weights included. The same model gives the same bytes.

    Raises:
        UnsupportedError: The weights exceed what one protobuf can hold, 2 GiB.
    """
    if _weight_bytes(model) > MAX_EMBEDDED:
        raise UnsupportedError(
            model.graph.name or "model",
            f"{_weight_bytes(model) / 1e9:.1f} GB of weights do not fit in one protobuf",
            "save it to a file: its weights then go to external data",
        )
    content = io.BytesIO()
    content.writelines(pieces(model))
    return content.getvalue()


def _weight_bytes(model: ir.Model) -> int:
    weights = [v.const_value for graph in model.graphs() for v in graph.initializers.values()]
    return sum(tensor.nbytes for tensor in weights if tensor is not None)


def _check_file(path: Path, subject: str) -> None:
    """Refuse what can be told without reading the file, a pickle among it."""
    if path.suffix.lower() in _PICKLES:
        _refuse_pickle(subject)
    try:
        if path.is_dir():
            raise UsageError(subject, "is a folder", "give the model file in it")
        if not path.is_file():
            exists = path.exists()
            raise UsageError(
                subject,
                "is not a regular file" if exists else "there is no such file",
                "give an .onnx or .pt2 file, or package.module:factory",
            )
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UsageError(
            repr(subject), f"cannot be looked at: {error}", "check its name"
        ) from error
    if size == 0:
        raise UsageError(subject, "is empty", "export the model again")
    if size > _MAX_PROTO_BYTES and path.suffix.lower() != ".pt2":
        raise UsageError(
            subject,
            f"{size / 2**30:.1f} GiB is more than a protobuf can hold, 2 GiB",
            "store its weights as external data: onnx.save(m, path, save_as_external_data=True)",
        )


def _refuse_pickle(subject: str) -> None:
    raise UsageError(
        subject,
        "is a pickle, by its name or first bytes; reading one can run any code: edgec reads none",
        "save it with torch.export.save(torch.export.export(net, (example,)), 'net.pt2'), or give\n"
        "  package.module:factory, a function of yours that returns the nn.Module",
    )


def _from_path(path: Path, subject: str) -> ir.Model:
    if path.suffix.lower() == ".pt2":
        from edgec.torch_import import from_archive

        return from_archive(path, subject)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            subject, f"cannot be read: {error.strerror}", "check its rights"
        ) from error
    if content.startswith(_PICKLE_MAGIC):
        _refuse_pickle(subject)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise UsageError(
            subject, "is no ONNX file, or a damaged one", "copy or export it again"
        ) from error
    del content  # the parsed weights are a copy: hold the model once, not twice
    return _from_proto(proto, subject)


def _from_proto(proto: onnx.ModelProto, subject: str) -> ir.Model:
    """The model; its functions inlined by the onnx package, so that a stranger gets its names."""
    check_proto(proto, subject)
    model = _deserialized(proto, subject)
    if not model.functions:
        return model
    check_call_tree(model, subject)
    try:
        plain = onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner trusts the functions it is given
        raise _not_inlined(subject, error) from error
    return _deserialized(plain, subject)


def _not_inlined(subject: str, error: Exception) -> UnsupportedError:
    reason = error.__cause__ or error
    return UnsupportedError(
        subject,
        f"its functions cannot be inlined: {str(reason)[:200]}",
        "inline them first: onnx.inliner.inline_local_functions(model)",
    )


def _deserialized(proto: onnx.ModelProto, subject: str) -> ir.Model:
    try:
        with _quiet("onnx_ir.serde"):
            return serde.deserialize_model(proto)
    except Exception as error:  # onnx_ir meets hostile input with whatever error comes up first
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        kind = UnsupportedError if isinstance(reason, NotImplementedError) else UsageError
        text = (str(reason).splitlines() or [type(reason).__name__])[0][:200]
        raise kind(subject, f"is malformed: {text}", "export the model again") from error


def _make_one_graph(model: ir.Model, subject: str) -> None:
    """Inline the functions, and drop the inputs that initializers already fill.

    Up to IR version 3 every initializer had to be an input too; from 4 on none has to be.
    """
    for imports in (model.opset_imports, *(f.opset_imports for f in model.functions.values())):
        if "ai.onnx" in imports:
            imports.setdefault("", imports.pop("ai.onnx"))
    if model.functions:  # of a model in memory, or with an operator set of their own
        check_call_tree(model, subject)
        try:
            InlinePass()(model)
        except Exception as error:  # as above
            raise _not_inlined(subject, error) from error
        model.functions.clear()
    filled = set(model.graph.initializers.values())
    kept = [value for value in model.graph.inputs if value not in filled]
    if len(kept) < len(model.graph.inputs):
        model.graph.inputs[:] = kept
    model.ir_version = max(model.ir_version, 4)


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Silence a library that logs what edgec is about to say as an error."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
