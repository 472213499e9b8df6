"""Train the example network and write `digits.onnx`, `calibration.npz` and `test.npz`.

A residual network of the CIFAR kind (three stages of two blocks, 16, 32 and 64 channels) on the
1,797 handwritten digits that ship inside scikit-learn: 8x8 pixels, ten classes. The images are
split once, stratified by class: 1,100 to train on, 250 to calibrate with, 447 to test with.

    python examples/digits/train.py            # a minute on two cores; needs edgec[test]

The seeds are fixed. The same PyTorch on the same kind of processor gives the same weights;
another one gives weights that differ in the last digits and an accuracy within a few images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import torch
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import remove_optional_bias_from_conv_rule
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent
INPUT = "image"
TRAIN, CALIBRATION, TEST = 1100, 250, 447


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut projects where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float32[n, c_in, h, w] to float32[n, c, h / stride, w / stride]."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """float32[n, 1, 8, 8], pixels in 0..1, to logits float32[n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.stages = nn.Sequential(
            nn.Sequential(Block(16, 16, 1), Block(16, 16, 1)),
            nn.Sequential(Block(16, 32, 2), Block(32, 32, 1)),
            nn.Sequential(Block(32, 64, 2), Block(64, 64, 1)),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores before the softmax."""
        x = torch.relu(self.stem(image))
        return self.head(self.stages(x).mean((2, 3)))


def split() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The three sets: images float32[n, 1, 8, 8] in 0..1 and labels int64[n]."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    train_x, rest_x, train_y, rest_y = train_test_split(
        images, labels, train_size=TRAIN, stratify=labels, random_state=0
    )
    calib_x, test_x, calib_y, test_y = train_test_split(
        rest_x, rest_y, train_size=CALIBRATION, test_size=TEST, stratify=rest_y, random_state=0
    )
    return {
        "train": (train_x, train_y),
        "calibration": (calib_x, calib_y),
        "test": (test_x, test_y),
    }


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Each batch moved by at most one pixel each way; the border is empty."""
    dy, dx = (int(v) for v in torch.randint(0, 3, (2,)))
    height, width = x.shape[2:]
    return nn.functional.pad(x, (1, 1, 1, 1))[:, :, dy : dy + height, dx : dx + width]


def train(images: np.ndarray, labels: np.ndarray, *, seed: int, epochs: int) -> DigitNet:
    """SGD with momentum, one-cycle learning rate, label smoothing, batches of 50."""
    torch.manual_seed(seed)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    net, batch = DigitNet(), 50
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(batch):
            optimiser.zero_grad()
            loss_of(net(shifted(x[index])), y[index]).backward()
            optimiser.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: DigitNet, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy as a share of 1."""
    return float((net(torch.from_numpy(images)).argmax(1).numpy() == labels).mean())


def export(net: DigitNet, path: Path) -> None:
    """Write ONNX with a free batch axis, weights inside, BatchNormalization kept."""
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 1, 8, 8),),
        dynamo=True,
        optimize=False,  # the optimiser would fold BatchNormalization into the convolutions
        input_names=[INPUT],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),
        opset_version=18,
        verbose=False,
    )
    assert program is not None
    model = program.model
    fold_constants(model)  # each Conv's absent bias arrives as a chain of five nodes: now zeros
    rewrite(model, [remove_optional_bias_from_conv_rule])
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.ClearMetadataAndDocStringPass()(model)
    for node in model.graph:  # a layer carries its module's name: stages.1.0.conv2
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if weight is not None and str(weight.name).endswith(".weight"):
            node.name = str(weight.name).removesuffix(".weight")
    ir.save(model, path)


def main() -> None:
    """Train, report the accuracies, write the three files beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()

    sets = split()
    net = train(*sets["train"], seed=options.seed, epochs=options.epochs)
    for name, (images, labels) in sets.items():
        print(f"{name:12} {len(labels):5} images  top-1 {accuracy(net, images, labels):.4f}")
    print(f"parameters   {sum(p.numel() for p in net.parameters()):,}")

    options.out.mkdir(parents=True, exist_ok=True)
    export(net, options.out / "digits.onnx")
    for name in ("calibration", "test"):
        images, labels = sets[name]
        np.savez_compressed(options.out / f"{name}.npz", **{INPUT: images, "labels": labels})


if __name__ == "__main__":
    main()
