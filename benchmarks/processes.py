"""Whole processes, timed from their start to their end, with the largest memory the kernel saw.

A process starts with the peak of the one that made it, as Linux counts, so the one that times
others must stay small: nothing is imported here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One process.

    Args:
        seconds: Wall time, s.
        megabytes: Largest resident set, MB.
    """

    seconds: float
    megabytes: float


def timed(command: Sequence[str]) -> Run:
    """Run a command to its end.

    Raises:
        SystemExit: It failed; what it printed is shown.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)}\n{output.read().decode(errors='replace')}")
    per_kilobyte = 1 if sys.platform == "darwin" else 1024
    return Run(seconds, usage.ru_maxrss * per_kilobyte / 1e6)
