"""Errors of the libraries underneath, in edgec's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgec.errors import UnsupportedError


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Errors of ONNX Runtime inside become one that says what it was about.

    Raises:
        UnsupportedError: ONNX Runtime failed.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        text = " ".join(str(error).split())
        raise UnsupportedError(
            subject,
            f"ONNX Runtime fails: {text.removeprefix('[ONNXRuntimeError] : ')[:300]}",
            "check that ONNX Runtime runs the original model on such inputs",
        ) from error
