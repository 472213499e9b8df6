"""Inputs made up where there are no samples: coloured noise, fitted to the network's own memory.

A BatchNormalization holds the mean and variance that its input had in training. The noise here has
a mean and a standard deviation per channel, a spectrum that falls as 1/frequency^slope, and
channels that share a part of their variance. These few numbers are searched so that every
BatchNormalization sees what it remembers, as nearly as such noise allows:

    fit = mean over layers and channels of KL(N(m, s²) ‖ N(μ, σ²))
        = mean of  log(σ/s) + (s² + (m − μ)²) / 2σ² − 1/2                          in nats

with m, s of the noise and μ, σ as remembered. The aim is that of ZeroQ (Cai et al., 2020), which
moves every pixel along gradients; this moves the parameters of the noise, and needs none. It tells
ranges far better than plain noise and not as well as samples: what it is, is recorded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Moments, runner
from edgec.errors import UsageError

Array = NDArray[Any]
Floats = NDArray[np.float64]

Distance = Callable[[Mapping[str, "Noise"]], float]

SUBJECT = "--calib synthetic"
_REMEDY = "give samples with --data"
_SAMPLES, _AT_ONCE = 8, 2  # that the fit is measured on; few, as large networks run often
_ROUNDS, _STEP = 5, 1.0  # of the search; in each, steps are half as long as before
_STEEPEST = 3.0
_FEW_CHANNELS = 4  # more than these share one mean and one standard deviation


@dataclass(frozen=True)
class Noise:
    """Coloured noise for one input.

    Args:
        shape: Of a sample: [channels, size…] or [features].
        dtype: Of its numbers.
        mean: float64[channels], or one for all.
        log_std: Likewise, the natural logarithm of the standard deviation.
        slope: Amplitudes fall as 1/frequency^slope along the axes behind the channels.
        shared: Part of the variance that is the same in all channels.
    """

    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    log_std: tuple[float, ...]
    slope: float = 1.0
    shared: float = 0.5

    def sample(self, rng: np.random.Generator) -> Array:
        """One sample."""
        white = rng.standard_normal((self.shape[0] + 1, *self.shape[1:]))
        colour = _coloured(white, self.slope)
        mixed = math.sqrt(self.shared) * colour[:1] + math.sqrt(1 - self.shared) * colour[1:]
        tail = (1,) * (len(self.shape) - 1)
        mean, std = (np.reshape(v, (-1, *tail)) for v in (self.mean, np.exp(self.log_std)))
        return np.asarray(mean + std * mixed).astype(self.dtype)

    def moved(self, step: float) -> list[Noise]:
        """Neighbours: each number by itself, `step` to one side; at an end it stays."""
        found = []
        for i, log_std in enumerate(self.log_std):
            found.append(replace(self, mean=_moved(self.mean, i, step * math.exp(log_std))))
            found.append(replace(self, log_std=_moved(self.log_std, i, step)))
        if len(self.shape) > 1:
            found.append(replace(self, slope=min(max(self.slope + step, 0.0), _STEEPEST)))
        if self.shape[0] > 1:
            found.append(replace(self, shared=min(max(self.shared + step / 2, 0.0), 1.0)))
        return found


def _moved(values: tuple[float, ...], index: int, by: float) -> tuple[float, ...]:
    return (*values[:index], values[index] + by, *values[index + 1 :])


def _coloured(white: Floats, slope: float) -> Floats:
    """Noise of unit variance whose amplitudes fall as 1/frequency^slope along axes 1 and on."""
    axes = tuple(range(1, white.ndim))
    if not axes or slope == 0:
        return white
    squares = np.zeros((1,) * len(axes))
    for i, size in enumerate(white.shape[1:]):
        frequency = np.fft.fftfreq(size)
        squares = squares + np.square(frequency).reshape(
            [-1 if k == i else 1 for k in range(len(axes))]
        )
    least = min((1 / size for size in white.shape[1:] if size > 1), default=1.0)
    gain = np.maximum(np.sqrt(squares), least) ** -slope
    gain /= np.sqrt(np.square(gain).mean())
    return np.asarray(np.fft.ifftn(np.fft.fftn(white, axes=axes) * gain, axes=axes).real)


@dataclass(frozen=True)
class Synthetic:
    """Made-up samples, streamed: each is drawn anew from the seed and its number.

    Args:
        noises: Input name → its noise.
        count: Number of samples.
        seed: Of the draws.
        layers: BatchNormalizations that the noise was fitted to.
        plain, fit: How far they are from what they remember, in nats, under standard normal noise
            and under this.
    """

    noises: Mapping[str, Noise]
    count: int
    seed: int
    layers: int
    plain: float
    fit: float

    def __len__(self) -> int:
        return self.count

    def batches(self, batch_size: int = 32) -> Iterator[dict[str, Array]]:
        """Feeds in order; the last batch may be smaller."""
        return _batches(self.noises, self.count, self.seed, batch_size)

    def describe(self) -> dict[str, Any]:
        """For the manifest: that nobody measured these, and how they were made."""
        made = {name: vars(noise) for name, noise in self.noises.items()}
        text = json.dumps([made, self.count, self.seed], sort_keys=True)
        return {
            "kind": "synthetic",
            "samples": self.count,
            "labels": False,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "seed": self.seed,
            "layers": self.layers,
            "plain_noise_nats": self.plain,
            "fit_nats": self.fit,
            "notes": [
                f"no samples were given: coloured noise was fitted to {self.layers}"
                f" BatchNormalizations ({self.fit:.2f} nats from what they remember;"
                f" plain noise: {self.plain:.2f})"
            ],
        }


def _batches(
    noises: Mapping[str, Noise], count: int, seed: int, batch_size: int
) -> Iterator[dict[str, Array]]:
    for start in range(0, count, batch_size):
        rngs = [
            np.random.default_rng([seed, n]) for n in range(start, min(start + batch_size, count))
        ]
        yield {
            name: np.stack([noise.sample(rng) for rng in rngs]) for name, noise in noises.items()
        }


def synthetic(model: ir.Model, count: int = 64, *, seed: int = 0) -> Synthetic:
    """Samples for a model, from its BatchNormalizations.

    Args:
        model: With its BatchNormalizations, before they are folded.
        count: Number of samples.
        seed: Of the noise.

    Errors:
        UsageError: The model has no BatchNormalization with constants, or an input that noise
            cannot stand for.
    """
    remembered = _remembered(model)
    if not remembered:
        fact = "the network has no BatchNormalization to fit inputs to"
        raise UsageError(SUBJECT, fact, _REMEDY)
    noises = {v.name or "": _start(v) for v in model.graph.inputs}
    run = runner(model, list(noises), remembered)

    def distance(noises: Mapping[str, Noise]) -> float:
        found: dict[str, Moments] = {}
        for feeds in _batches(noises, _SAMPLES, seed, _batch(model) or _AT_ONCE):
            for name, value in run(feeds).items():
                new = Moments.of(value, 1)
                found[name] = found[name].merged(new) if name in found else new
        return float(np.mean([_divergence(found[n], m, v) for n, (m, v) in remembered.items()]))

    plain = {n: replace(x, mean=(0.0,), log_std=(0.0,), slope=0.0, shared=0.0)
             for n, x in noises.items()}  # fmt: skip
    fitted, fit = _search(noises, distance)
    return Synthetic(fitted, count, seed, len(remembered), distance(plain), fit)


def _search(noises: dict[str, Noise], distance: Distance) -> tuple[dict[str, Noise], float]:
    """Moves each number to where it is better, then all again by steps half as long."""
    best = distance(noises)
    for step in (_STEP / 2**i for i in range(_ROUNDS)):
        for name in noises:
            for number in range(len(noises[name].moved(step))):
                for way in (step, -step):
                    moved = noises | {name: noises[name].moved(way)[number]}
                    if moved != noises and (found := distance(moved)) < best:
                        noises, best = moved, found
                        break
    return noises, best


def _remembered(model: ir.Model) -> dict[str, tuple[Floats, Floats]]:
    """Input of each BatchNormalization → the mean and variance that it holds, float64[channels]."""
    found = {}
    for node in model.graph:
        if node.op_type != "BatchNormalization" or node.domain or node.inputs[0] is None:
            continue
        tensors = [v.const_value for v in node.inputs[3:5] if v is not None]
        if any(tensor is None for tensor in tensors):
            continue
        mean, var = (t.numpy().astype(np.float64) for t in tensors if t is not None)
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        found[node.inputs[0].name or ""] = (mean, var + epsilon)
    return found


def _divergence(found: Moments, mean: Floats, var: Floats) -> float:
    """The formula above for one layer; a channel that is constant is told from one nearly so."""
    own = found.var + 1e-3 * var
    nats = np.log(var / own) / 2 + (own + np.square(found.mean - mean)) / (2 * var) - 0.5
    return float(nats.mean())


def _start(value: ir.Value) -> Noise:
    subject = f"input '{value.name}'"
    if value.dtype is None or not value.dtype.is_floating_point():
        raise UsageError(subject, "is not of floats: noise cannot stand for it", _REMEDY)
    shape = [] if value.shape is None else list(value.shape)[1:]
    if not shape or not all(isinstance(size, int) for size in shape):
        raise UsageError(subject, "leaves its size open", f"fix it with --input, or {_REMEDY}")
    sizes = tuple(int(size) for size in shape if isinstance(size, int))
    count = sizes[0] if len(sizes) > 1 and sizes[0] <= _FEW_CHANNELS else 1
    return Noise(sizes, value.dtype.numpy().str, (0.0,) * count, (0.0,) * count)


def _batch(model: ir.Model) -> int | None:
    """The batch size that the model fixes, if it does."""
    sizes = [v.shape[0] for v in model.graph.inputs if v.shape is not None and len(v.shape)]
    return next((size for size in sizes if isinstance(size, int)), None)
