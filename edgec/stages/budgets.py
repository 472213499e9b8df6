"""Whether the result keeps the budgets: the counted cost decides, not the predicted one."""

from __future__ import annotations

from edgec.budget import human
from edgec.errors import BudgetError
from edgec.graph.cost import Totals
from edgec.stages.job import Job


def check_budgets(job: Job, original: Totals, result: Totals) -> None:
    """Holds the finished network to what was asked.

    Raises:
        BudgetError: It costs more than a budget allows.
    """
    for budget in job.recipe.budgets:
        found = result.get(budget.metric)
        if found <= budget.bound(original.get(budget.metric)):
            continue
        remedy = "this is a defect of edgec; please report the model"
        if budget.metric == "size" and job.quantising is not None:
            remedy = (
                "layers that were counted as integers are in floats: by --max-drop, or as pruning "
                "made them too thin; allow more, or give a larger --round-to"
            )
        raise BudgetError(
            f"the budget {budget} {budget.metric}",
            f"is exceeded by the result: {human(found, budget.metric)}",
            remedy,
        )
