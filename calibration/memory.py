"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Lets the C library return what it holds for later.

    A session that was closed leaves as much as its weights and activations behind in glibc's heap,
    where the next one, with other sizes, cannot use it.
    """
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    if sys.platform.startswith("linux"):
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # glibc; musl returns memory by itself
            return library.malloc_trim
    return lambda _: None
