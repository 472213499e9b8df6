"""Images become samples as preprocess.toml says, labels come from sub-folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgec.calibration.data import load_data
from edgec.calibration.images import Preprocess
from edgec.errors import UsageError

NCHW = {"x": (np.float32, (None, 3, 2, 2))}
PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20


def folder(path: Path, files: Mapping[str, Any], spec: str = "size = [2, 2]") -> Path:
    for name, pixels in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.asarray(pixels, np.uint8)).save(path / name)
    (path / "preprocess.toml").write_text(spec)
    return path


def loaded(path: Path, inputs: Any = NCHW, **options: Any) -> np.ndarray:
    return np.concatenate([feeds["x"] for feeds in load_data(path, inputs, **options).batches(2)])


def test_pixels_are_scaled_and_normalised(tmp_path: Path) -> None:
    spec = "size = [2, 2]\nmean = [0.5, 0.25, 0]\nstd = [1, 2, 4]"
    x = loaded(folder(tmp_path, {"a.png": PIXELS}, spec))
    expected = (PIXELS / 255 - [0.5, 0.25, 0]) / [1, 2, 4]
    np.testing.assert_allclose(x, expected.transpose(2, 0, 1)[None], rtol=1e-6)
    assert x.dtype == np.float32


def test_mean_and_std_are_in_the_order_of_the_channels(tmp_path: Path) -> None:
    spec = 'size = [2, 2]\ncolor = "BGR"\nlayout = "NHWC"\nmean = [1, 0, 0]'
    x = loaded(folder(tmp_path, {"a.png": PIXELS}, spec), {"x": (np.float32, (None, 2, 2, 3))})
    np.testing.assert_allclose(x[0], PIXELS[..., ::-1] / 255 - [1, 0, 0], rtol=1e-6)


def test_grey(tmp_path: Path) -> None:
    spec = 'size = [2, 2]\ncolor = "L"'
    x = loaded(folder(tmp_path, {"a.png": PIXELS[..., 0]}, spec), {"x": ("f4", (1, 1, 2, 2))})
    np.testing.assert_allclose(x[0, 0], PIXELS[..., 0] / 255, rtol=1e-6)


def test_a_uint8_model_gets_the_pixels(tmp_path: Path) -> None:
    inputs = {"x": (np.uint8, (None, 3, 2, 2))}
    x = loaded(folder(tmp_path, {"a.png": PIXELS}), inputs)
    np.testing.assert_array_equal(x[0], PIXELS.transpose(2, 0, 1))
    with pytest.raises(UsageError, match="the model takes uint8"):
        loaded(tmp_path, inputs, preprocess=Preprocess((2, 2), mean=(0.5,)))


# A 4 x 8 image whose columns are 0, 10, … 70: the largest square cut is columns 2..5.
WIDE = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)


@pytest.mark.parametrize(
    ("crop", "columns"),
    [(1.0, [25, 45]), (0.5, [30, 40]), (0.0, [15, 55])],
)
def test_the_centre_is_cut(tmp_path: Path, crop: float, columns: list[int]) -> None:
    path = folder(tmp_path, {"a.png": WIDE}, f"size = [2, 2]\ncrop = {crop}")
    x = loaded(path) * 255
    np.testing.assert_allclose(x[0, 0], [columns, columns], atol=4)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    names = ["cat/1.png", "cat/0.png", "ant/0.png"]
    files = {name: np.full((2, 2, 3), value) for value, name in enumerate(names)}
    data = load_data(folder(tmp_path, files), NCHW)
    assert np.concatenate(list(data.labels())).tolist() == [0, 1, 1]
    (batch,) = data.batches(8)
    assert (batch["x"][:, 0, 0, 0] * 255).round().tolist() == [2, 1, 0]


def test_numbered_sub_folders_are_their_numbers(tmp_path: Path) -> None:
    path = folder(tmp_path, {f"{i}/a.png": PIXELS for i in (10, 9, 3)})
    assert sorted(np.concatenate(list(load_data(path, NCHW).labels()))) == [3, 9, 10]


def test_the_hash_is_of_files_labels_and_preprocessing(tmp_path: Path) -> None:
    path = folder(tmp_path, {"a/0.png": PIXELS, "b/0.png": PIXELS + 1})
    first = load_data(path, NCHW).sha256
    assert load_data(path, NCHW).sha256 == first
    assert load_data(path, NCHW, preprocess=Preprocess((2, 2), mean=(0.5,))).sha256 != first
    (path / "b").rename(path / "c")
    assert load_data(path, NCHW).sha256 != first


@pytest.mark.parametrize(
    ("files", "spec", "fact"),
    [
        ({}, "size = [2, 2]", "has no images"),
        ({"a.png": PIXELS, "b/a.png": PIXELS}, "size = [2, 2]", "beside sub-folders"),
        ({"a.png": PIXELS}, "size = [2, 3]", r"samples of shape \[3, 2, 3\]"),
        ({"a.png": PIXELS}, "", "has no 'size'"),
        ({"a.png": PIXELS}, "size = 2", "'size' cannot be 2"),
        ({"a.png": PIXELS}, "size = [0, 2]", "cannot be"),
        ({"a.png": PIXELS}, "size = [2.5, 2]", "cannot be"),
        ({"a.png": PIXELS}, "size = [2, 2]\ncolour = 'RGB'", "(?s)unknown key.*mean 'color'"),
        ({"a.png": PIXELS}, "size = [2, 2]\ncolor = 'CMYK'", "cannot be 'CMYK'"),
        ({"a.png": PIXELS}, "size = [2, 2]\nmean = [1, 2]", "mean: cannot be"),
        ({"a.png": PIXELS}, "size = [2, 2]\nstd = [0]", "std: cannot be"),
        ({"a.png": PIXELS}, "size = [2, 2]\ncrop = 2", "crop: cannot be"),
        ({"a.png": PIXELS}, "size = [2, 2]\ncrop = true", "'crop' cannot be True"),
        ({"a.png": PIXELS}, "size [", "not readable as TOML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, files: Any, spec: str, fact: str) -> None:
    with pytest.raises(UsageError, match=fact):
        load_data(folder(tmp_path, files, spec), NCHW)


def test_no_preprocessing_no_images(tmp_path: Path) -> None:
    (folder(tmp_path, {"a.png": PIXELS}) / "preprocess.toml").unlink()
    with pytest.raises(UsageError, match="how to read the images"):
        load_data(tmp_path, NCHW)
    assert loaded(tmp_path, preprocess=Preprocess((2, 2))).shape == (1, 3, 2, 2)


def test_a_model_that_takes_no_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder of images, but"):
        load_data(folder(tmp_path, {"a.png": PIXELS}), {"ids": (np.int64, (None, 5))})


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    folder(tmp_path, {"a.png": PIXELS})
    (tmp_path / "b.png").write_bytes(content)
    data = load_data(tmp_path, NCHW)
    with pytest.raises(UsageError, match=r"b\.png: is not a readable image"):
        list(data.batches(1))


def test_an_image_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, {"a.png": np.zeros((20, 20, 3))})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(UsageError, match="is not a readable image"):
        load_data(tmp_path, NCHW)
