"""Least squares from streamed second moments.

Of rows x[g, f] and residuals e[g, o] = (wanted − present output), per group g:
    n, Σx, Σe, Σx xᵀ, Σx eᵀ, Σe²        float64, whatever the number of rows
Solved for the *change* of the weights, so that the ridge pulls towards the weights there are:
    Δ = C_ex (C_xx + λ·mean diag C_xx · I)⁻¹,   shift = ē − Δ x̄      (C: centred moments)
Without a place for an intercept the moments stay uncentred and the shift is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """What to add to a layer.

    Attributes:
        delta: float64[groups, outputs, features], to its weight.
        shift: float64[groups, outputs], to its output.
    """

    delta: Floats
    shift: Floats


_BUFFERED = 1 << 17  # elements of x to collect before they are multiplied


class Gram:
    """Second moments of the rows seen.

    Attributes:
        n: Number of rows.
    """

    def __init__(self, groups: int, outputs: int, features: int) -> None:
        self.n = 0
        self.x = np.zeros((groups, features))
        self.e = np.zeros((groups, outputs))
        self.xx = np.zeros((groups, features, features))
        self.xe = np.zeros((groups, features, outputs))
        self.ee = np.zeros((groups, outputs))
        self.y = np.zeros((groups, outputs))
        self.yy = np.zeros((groups, outputs))
        self._waiting: list[tuple[Floats, Floats]] = []

    def add(self, x: Array, e: Array, y: Array) -> None:
        """Adds rows.

        Args:
            x: [rows, groups, features].
            e: [rows, groups, outputs], wanted minus present output.
            y: [rows, groups, outputs], the wanted output, for relative errors.
        """
        x, e, y = (np.asarray(a, np.float64) for a in (x, e, y))
        self.n += len(e)
        self.x += x.sum(0)
        self.e += e.sum(0)
        self.ee += (e**2).sum(0)
        self.y += y.sum(0)
        self.yy += (y**2).sum(0)
        if x.size:
            self._waiting.append((x, e))
        if sum(rows.size for rows, _ in self._waiting) > max(_BUFFERED, self.xx.size):
            self.settle()

    def settle(self) -> None:
        """Multiplies what was added: many rows at once, as few rows would only move memory."""
        if not self._waiting:
            return
        x, e = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        for g in range(x.shape[1]):
            rows = np.ascontiguousarray(x[:, g])
            self.xx[g] += rows.T @ rows
            self.xe[g] += rows.T @ e[:, g]

    def __iadd__(self, other: Gram) -> Gram:
        self.settle()
        other.settle()
        self.n += other.n
        for name in ("x", "e", "xx", "xe", "ee", "y", "yy"):
            getattr(self, name).__iadd__(getattr(other, name))
        return self

    @property
    def spread(self) -> float:
        """Σ (y − ȳ)² of the wanted output."""
        return float((self.yy - self.y**2 / max(self.n, 1)).sum())

    def error(self, change: Change | None = None) -> float:
        """Σ e² that is left after a change."""
        if change is None:
            return float(self.ee.sum())
        self.settle()
        d, s = change.delta, change.shift
        left = (
            self.ee
            - 2 * np.einsum("gof,gfo->go", d, self.xe)
            - 2 * s * self.e
            + np.einsum("gof,gof->go", d @ self.xx, d)
            + 2 * s * np.einsum("gof,gf->go", d, self.x)
            + self.n * s**2
        )
        return float(np.maximum(left, 0.0).sum())

    def relative(self, change: Change | None = None) -> float:
        """‖e‖ / ‖y − ȳ‖ after a change; 0 where the output never varies and is right."""
        error = self.error(change)
        return float(np.sqrt(error / max(self.spread, np.finfo(np.float64).tiny))) if error else 0.0

    def mean_change(self) -> Change:
        """The best change of the intercept alone."""
        groups, features = self.x.shape
        outputs = self.e.shape[1]
        return Change(np.zeros((groups, outputs, features)), self.e / max(self.n, 1))

    def solve(self, ridge: float, *, intercept: bool) -> Change | None:
        """The ridge solution; None if the system cannot be solved."""
        self.settle()
        groups, outputs = self.e.shape
        features = self.x.shape[1]
        delta = np.zeros((groups, outputs, features))
        shift = np.zeros((groups, outputs))
        for g in range(groups):
            a, b = self.xx[g], self.xe[g]
            if intercept:
                a = a - np.outer(self.x[g], self.x[g]) / self.n
                b = b - np.outer(self.x[g], self.e[g]) / self.n
            else:
                a = a.copy()
            weight = ridge * np.trace(a) / features
            if weight <= 0:  # the inputs never vary: nothing to learn from them
                shift[g] = self.e[g] / self.n if intercept else 0.0
                continue
            a[np.diag_indices(features)] += weight
            try:
                delta[g] = np.linalg.solve(a, b).T
            except np.linalg.LinAlgError:
                return None
            if intercept:
                shift[g] = (self.e[g] - delta[g] @ self.x[g]) / self.n
        change = Change(delta, shift)
        finite = np.isfinite(delta).all() and np.isfinite(shift).all()
        return change if finite else None
