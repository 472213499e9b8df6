"""Errors of the libraries underneath, in edgec's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgec.errors import UnsupportedError, UsageError


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Errors of ONNX and ONNX Runtime inside become one that says what it was about.

    Args:
        subject: What fails: a model.

    Raises:
        UsageError: ONNX's checker or shape inference finds the model invalid.
        UnsupportedError: ONNX Runtime fails on it.
    """
    try:
        yield
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        text = " ".join(str(error).split())
        if library == "onnx":
            raise UsageError(
                subject,
                f"is not valid ONNX: {text[:300]}",
                "onnx.checker.check_model(path, full_check=True) tells more; export it again",
            ) from error
        if library == "onnxruntime":
            raise UnsupportedError(
                subject,
                f"fails in ONNX Runtime: {text.removeprefix('[ONNXRuntimeError] : ')[:300]}",
                "check that ONNX Runtime runs the original model on such inputs",
            ) from error
        raise
