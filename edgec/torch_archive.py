"""What a `.pt2` file may hold before torch reads it.

`torch.export.load` trusts its file: it unpickles weights marked so, evaluates size expressions as
Python, resolves operator names through any attribute of torch, and loads compiled code. So the
archive is looked through first, with torch's own reader (two zip readers can disagree), and
unpickling is held to plain tensors meanwhile.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgec.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_RECORDS = re.compile(
    r"models/model\.json|data/(weights|constants|sample_inputs)/[\w.]+"
    r"|archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version"
    r"|\.storage_alignment|extra/.*"
)
_PAYLOADS = re.compile(r"(weight|tensor)_\d+")
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims?|higher_order|quantized_decomposed|torchvision)\.\w+(\.\w+)?"
    r"|torch\.sym_\w+|math\.[a-z]\w*|_operator\.(?!attrgetter|itemgetter|methodcaller)[a-z]\w*"
)
_SYMBOL = re.compile(r"[A-Za-z]\w*", re.ASCII)
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_REMEDY = "give package.module:factory instead, or an ONNX file"


def read_program(content: bytes, subject: str) -> ExportedProgram:
    """The ExportedProgram in a `.pt2` file.

    Raises:
        UsageError: It is no such file, or a damaged one.
        UnsupportedError: It holds what could run code: see the module's docstring.
    """
    from torch.export.pt2_archive._package import PT2ArchiveReader, load_pt2

    try:
        with PT2ArchiveReader(io.BytesIO(content)) as archive:
            records = {name: _json(archive, name) for name in archive.get_file_names()}
    except Exception as error:  # the reader's C++ side raises RuntimeError, its Python side others
        raise UsageError(
            subject,
            "is no archive of torch.export, or a damaged one",
            "write it with torch.export.save(torch.export.export(net, (example,)), 'net.pt2')",
        ) from error
    if "models/model.json" not in records:
        raise UsageError(subject, "holds no exported program", "write it with torch.export.save")
    for name, document in records.items():
        if not _RECORDS.fullmatch(name):
            raise UnsupportedError(subject, f"holds '{name}', which edgec does not load", _REMEDY)
        _check(document, subject)
    with _plain_tensors_only():
        try:
            program = load_pt2(io.BytesIO(content)).exported_programs["model"]
        except Exception as error:  # as above
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UsageError(
                subject, f"torch cannot load it: {reason}", "save it again with this torch"
            ) from error
    program._guards_code = []  # Python source that torch would compile and run
    return program


def _json(archive: Any, name: str) -> Any:
    return json.loads(archive.read_bytes(name)) if name.endswith(".json") else None


def _check(document: Any, subject: str) -> None:
    """Look through a JSON document of the archive for what torch would evaluate or unpickle."""
    pending = [document]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(item.values())
            _check_entry(item, subject)


def _check_entry(entry: dict[str, Any], subject: str) -> None:
    if entry.get("use_pickle") or not _PAYLOADS.fullmatch(str(entry.get("path_name", "weight_0"))):
        raise UnsupportedError(subject, "holds pickled Python objects", _REMEDY)
    expression = entry.get("expr_str", "0")
    if not _is_arithmetic(expression):
        raise UnsupportedError(subject, f"a size is given as {expression!r:.80}", _REMEDY)
    for key in ("target", "as_operator"):
        operator = entry.get(key)
        if isinstance(operator, str) and not _OPERATORS.fullmatch(operator):
            raise UnsupportedError(subject, f"calls '{operator:.80}'", _REMEDY)


def _is_arithmetic(text: Any) -> bool:
    """Is `text` a size expression: numbers, symbols, operators, and functions like FloorDiv?"""
    if not (isinstance(text, str) and text.isascii() and text.isprintable() and len(text) < 4096):
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError):
        return False
    return all(_is_harmless(node) for node in ast.walk(tree))


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id[:1].isupper()
    if isinstance(node, ast.Constant):
        value = node.value  # a string is the name in Symbol('s0', integer=True)
        return isinstance(value, int | float) or (
            isinstance(value, str) and _SYMBOL.fullmatch(value) is not None
        )
    harmless = (
        ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Tuple,
        ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
    )  # fmt: skip
    return isinstance(node, harmless)


@contextlib.contextmanager
def _plain_tensors_only() -> Iterator[None]:
    """Make every torch.load inside refuse anything but tensors and plain containers."""
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before
