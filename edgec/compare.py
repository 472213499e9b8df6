"""Numeric comparison of two models' outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.errors import VerificationError

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Difference:
    """How far output `name` of two models is apart.

    Attributes:
        name: The output.
        samples: Inputs compared.
        max_abs: Largest absolute difference.
        max_rel: That, divided by the largest magnitude of the first model's output.
        snr_db: 10·log10(Σ a² / Σ (a−b)²); inf where equal.
        cosine: Cosine of the two outputs as vectors.
    """

    name: str
    samples: int
    max_abs: float
    max_rel: float
    snr_db: float
    cosine: float


class Comparison:
    """Accumulates differences over batches."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._peaks: dict[str, tuple[float, float]] = {}
        self._samples = 0

    def add(self, a: Arrays, b: Arrays, samples: int) -> None:
        """Compares one batch of outputs.

        Raises:
            VerificationError: Names or shapes differ.
        """
        if list(a) != list(b):
            raise VerificationError(
                "outputs",
                f"are named {list(a)} in one, {list(b)} in the other",
                "compare models with the same outputs",
            )
        self._samples += samples
        for name, first in a.items():
            second = b[name]
            if first.shape != second.shape:
                raise VerificationError(
                    f"output '{name}'",
                    f"has shape {first.shape} in one, {second.shape} in the other",
                    "compare models whose outputs have the same shapes",
                )
            x, y = _numbers(first, second)
            with np.errstate(all="ignore"):
                gaps = x - y
                sums = np.asarray([x @ x, gaps @ gaps, x @ y, y @ y])
            self._sums[name] = self._sums.get(name, np.zeros(4)) + sums
            apart, size = self._peaks.get(name, (0.0, 0.0))
            if x.size:
                gap = float(np.abs(gaps).max())
                # NaN compares as larger than anything: a broken result must not pass as equal.
                apart = gap if np.isnan(gap) else max(apart, gap)
                size = max(size, float(np.abs(x).max()))
            self._peaks[name] = (apart, size)

    def result(self) -> list[Difference]:
        """One Difference per output."""
        with np.errstate(all="ignore"):  # a result that is not finite is told as it is
            return [self._difference(name, *sums) for name, sums in self._sums.items()]

    def _difference(
        self, name: str, xx: np.float64, dd: np.float64, xy: np.float64, yy: np.float64
    ) -> Difference:
        apart, size = self._peaks[name]
        return Difference(
            name,
            self._samples,
            apart,
            float(np.float64(apart) / size) if size > 0 else (0.0 if apart == 0 else float("inf")),
            float("inf") if dd == 0 else float(10 * np.log10(max(xx, 1e-300) / dd)),
            float(xy / np.sqrt(xx * yy)) if xx > 0 and yy > 0 else float(xx == yy),
        )


def _numbers(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as vectors of float64; of what is no number, whether it is the same."""
    if {first.dtype.kind, second.dtype.kind} & set("OSU"):
        same = np.asarray(first == second)
        return np.ones(first.size), same.astype(np.float64).ravel()
    if "c" in (first.dtype.kind, second.dtype.kind):
        first, second = (np.stack([a.real, a.imag]) for a in (first, second))
    return first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
