"""Run as a program by test_dynamics.py, in one process or several: train a tiny network and record its dynamics."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from swath.labels import LabelTable
from swath.methods import METHODS
from swath.training.dynamics import Recorded
from swath.training.loop import fit, make_accelerator
from swath.training.settings import Settings


def record(folder: Path) -> None:
    """Train for three epochs on 21 scenes of two classes, some without a label."""
    random, index = np.random.default_rng(3), np.arange(21) % 3
    images = random.normal(0, 0.5, (21, 2, 6, 6)).astype(np.float32)
    images[:, 0] += index[:, None, None]
    labels = LabelTable.from_class_index("abc", np.where(index == 2, -1, index))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    recorded, accelerator = Recorded(METHODS["cross-entropy"]()), make_accelerator()

    def on_epoch(_: object, __: object, entry: dict[str, float]) -> None:
        if accelerator.is_main_process:
            recorded.keep(folder, int(entry["epoch"]))

    settings = Settings(epochs=3, batch_size=9, learning_rate=0.01, augment=("flips",))
    tensors = torch.from_numpy(images)
    fit(
        network,
        recorded,
        lambda rows: tensors[rows],
        np.arange(21),
        labels,
        settings,
        folder,
        accelerator=accelerator,
        on_epoch=on_epoch,
    )
    if accelerator.is_main_process:
        recorded.gather(folder, 3)


if __name__ == "__main__":
    record(Path(sys.argv[1]))
