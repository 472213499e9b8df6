"""A folder of images as samples: how pixels become a model's input, and labels from sub-folders.

preprocess.toml, in the folder, holds the fields of `Preprocess`:

    size = [224, 224]
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from edgec.calibration.sources import Array, Chunk, Header
from edgec.errors import UsageError, missing_extra

SPEC = "preprocess.toml"
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_SEE = "for example: size = [224, 224], mean = [0.485, 0.456, 0.406], color = 'RGB', crop = 0.875"
_CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a sample.

    An image is cropped, resized to `size` with bilinear filtering, and read in `color`. For a
    float model the sample is (pixel / 255 − mean) / std; for a uint8 model it is the pixels.

    Args:
        size: (height, width) of the sample, pixels.
        mean: One number per channel in the order of `color`, or one for all; white is 1.
        std: Likewise.
        layout: ``NCHW`` or ``NHWC``.
        color: ``RGB``, ``BGR`` or ``L`` (grey, one channel).
        crop: The cut is at the image's centre, has the aspect ratio of `size`, and takes this
            part of the largest such cut's sides: 1 the largest, 0.875 is common for ImageNet.
            0: no cut; the image is stretched to `size`.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    color: str = "RGB"
    crop: float = 1.0

    def __post_init__(self) -> None:
        channels = _CHANNELS.get(self.color)
        facts = {
            "size": len(self.size) == 2 and all(0 < side <= 2**14 for side in self.size),
            "color": channels is not None,
            "layout": self.layout in ("NCHW", "NHWC"),
            "mean": len(self.mean) in (1, channels),
            "std": len(self.std) in (1, channels) and all(value > 0 for value in self.std),
            "crop": 0 <= self.crop <= 1,
        }
        for name, holds in facts.items():
            if not holds:
                raise UsageError(
                    f"preprocessing: {name}",
                    f"cannot be {getattr(self, name)!r}",
                    "size = [height, width], color = RGB | BGR | L, layout = NCHW | NHWC,\n"
                    "  mean and std = one number, or one per channel, std > 0, crop = 0 .. 1",
                )

    @classmethod
    def read(cls, path: Path) -> Preprocess:
        """Read a preprocess.toml.

        Errors:
            UsageError: it is absent or not TOML; a key is unknown, missing, or of a wrong type.
        """
        subject = str(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            remedy = "create it, with at least: size = [height, width]"
            raise UsageError(subject, "is not there: how to read the images?", remedy) from None
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(subject, f"is not readable as TOML: {error}", _SEE) from None
        known = {field.name for field in fields(cls)}
        for key in table.keys() - known:
            near = get_close_matches(key, known, 1)
            remedy = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
            raise UsageError(subject, f"has the unknown key '{key}'", remedy)
        if "size" not in table:
            raise UsageError(subject, "has no 'size'", "add: size = [height, width]")
        wrong = [key for key, value in table.items() if not _KINDS[key](value)]
        if wrong:
            raise UsageError(subject, f"'{wrong[0]}' cannot be {table[wrong[0]]!r}", _SEE)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
        }
        return cls(**values)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one sample."""
        channels = _CHANNELS[self.color]
        return (channels, *self.size) if self.layout == "NCHW" else (*self.size, channels)

    def sample(self, pixels: Array) -> Array:
        """float32 sample from uint8[height, width, channels] pixels of `size`, in RGB or L."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = self._colored(pixels).astype(np.float32) / np.float32(255)
        return self._laid_out((scaled - mean) / std)

    def raw(self, pixels: Array) -> Array:
        """uint8 sample: the pixels themselves."""
        if any(self.mean) or any(value != 1 for value in self.std):
            raise UsageError(
                "preprocessing", "has a mean or std, but the model takes uint8", "leave both away"
            )
        return self._laid_out(self._colored(pixels))

    def _colored(self, pixels: Array) -> Array:
        return pixels[..., ::-1] if self.color == "BGR" else pixels

    def _laid_out(self, values: Array) -> Array:
        return np.ascontiguousarray(values.transpose(2, 0, 1) if self.layout == "NCHW" else values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


_KINDS = {
    "size": lambda value: _is_numbers(value) and all(isinstance(side, int) for side in value),
    "mean": _is_numbers,
    "std": _is_numbers,
    "layout": lambda value: isinstance(value, str),
    "color": lambda value: isinstance(value, str),
    "crop": _is_number,
}


@dataclass(frozen=True)
class Images:
    """The images of a folder, in the order of their names.

    Images in sub-folders are labelled with the sub-folder: with its number if all sub-folders'
    names are numbers, otherwise with its place among the sorted names, from 0.

    Args:
        folder: The folder.
        preprocess: How to read them.
        name: The model's input.
        dtype: float32 or uint8.
    """

    folder: Path
    preprocess: Preprocess
    name: str
    dtype: np.dtype[Any]
    kind = "images"

    @property
    def subject(self) -> str:
        """The folder's path."""
        return str(self.folder)

    def files(self) -> list[tuple[Path, int | None]]:
        """Every image with its label.

        Errors:
            UsageError: images both with and without a label.
        """
        flat = _images(self.folder)
        classes = [f for f in sorted(self.folder.iterdir()) if f.is_dir() and _images(f)]
        if flat and classes:
            fact = f"has images beside sub-folders of images ({classes[0].name}, …)"
            raise UsageError(self.subject, fact, "one sub-folder per class, or none at all")
        if flat:
            return [(path, None) for path in flat]
        numbered = all(folder.name.isdecimal() for folder in classes)
        labels = [int(f.name) if numbered else i for i, f in enumerate(classes)]
        return [
            (path, label)
            for folder, label in zip(classes, labels, strict=True)
            for path in _images(folder)
        ]

    def header(self) -> Header:
        """The shape that preprocessing makes, and the number of images."""
        files = self.files()
        if not files:
            known = ", ".join(sorted(SUFFIXES))
            raise UsageError(self.subject, "has no images", f"edgec reads {known}")
        shapes = {self.name: (self.dtype, self.preprocess.shape)}
        return Header(shapes, files[0][1] is not None, {self.name: len(files)})

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """`rows` images at a time."""
        files = self.files()
        convert = self.preprocess.raw if self.dtype == np.uint8 else self.preprocess.sample
        for start in range(0, len(files), rows):
            part = files[start : start + rows]
            samples = np.stack([convert(self._pixels(path)) for path, _ in part])
            labelled = part[0][1] is not None
            labels = np.array([label for _, label in part], np.int64) if labelled else None
            yield {self.name: samples}, labels

    def _pixels(self, path: Path) -> Array:
        """uint8[height, width, channels], resized and cropped; RGB or L."""
        try:
            from PIL import Image
        except ImportError:
            raise missing_extra(self.subject, "pillow", "images") from None
        height, width = self.preprocess.size
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as file:
                    opened = file.convert("L" if self.preprocess.color == "L" else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError,
                Image.DecompressionBombWarning) as error:  # fmt: skip
            raise UsageError(str(path), f"is not a readable image: {error}", "remove it") from None
        box = (0.0, 0.0, float(opened.width), float(opened.height))
        if self.preprocess.crop:
            scale = self.preprocess.crop * min(opened.width / width, opened.height / height)
            left, top = (opened.width - width * scale) / 2, (opened.height - height * scale) / 2
            box = (left, top, left + width * scale, top + height * scale)
        image = opened.resize((width, height), Image.Resampling.BILINEAR, box)
        return np.asarray(image, np.uint8).reshape(height, width, -1)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
