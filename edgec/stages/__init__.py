"""The stages of a build, one file each, in the order of `edgec/build.py`.

A stage takes the `Job` and what the stages before it gave, and gives a value of its own.
"""

from edgec.stages.job import Job
from edgec.stages.loading import load
from edgec.stages.lowering import lower
from edgec.stages.manifest import manifest
from edgec.stages.measuring import evaluate, measure, measure_gain
from edgec.stages.pruning import analyse, prune
from edgec.stages.quantizing import finish
from edgec.stages.repairing import repair
from edgec.stages.reporting import Result, report

__all__ = [
    "Job", "Result", "analyse", "evaluate", "finish", "load", "lower", "manifest", "measure",
    "measure_gain",
    "prune", "repair", "report",
]  # fmt: skip
