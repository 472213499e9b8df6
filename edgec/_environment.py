"""What must be set before the libraries underneath are imported.

ONNX Runtime's official builds report their use to Microsoft, under an identifier that they keep on
disk, unless told otherwise when they start. edgec tells them otherwise; whoever wants it back sets
ORT_DISABLE_TELEMETRY=0.

Loading them takes a second or two. Where `edgec` is the program, Ctrl-C in that time ends it as it
does later: with one word and code 130. Nothing is written by then, and nothing is to be cleaned up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Handles SIGINT until the command line takes over."""
    os.write(2, b"interrupted\n")
    os._exit(130)


_is_the_program = Path(sys.argv[0] if sys.argv else "").stem == "edgec"
if _is_the_program and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, end_at_once)
