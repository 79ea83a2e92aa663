"""A tiny problem for the loop: scenes that a network without batch normalisation learns in a second."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from swath.labels import LabelTable
from swath.methods import METHODS
from swath.training.loop import fit
from swath.training.settings import Settings


class Problem:
    """Images, labels and a network; ``fit`` trains it."""

    def __init__(self, scenes: int = 26) -> None:
        random = np.random.default_rng(0)
        truth = random.integers(0, 2, (scenes, 3)).astype(np.int8)
        truth[:, 0] |= ~truth.any(axis=1)
        images = random.normal(0, 0.3, (scenes, 2, 8, 8)).astype(np.float32)
        images[:, 0] += truth[:, 0, None, None]
        images[:, :, ::2] += 2 * truth[:, 1, None, None, None]
        images[:, 1] -= truth[:, 2, None, None]
        self.images = torch.from_numpy(images)
        self.labels = LabelTable(
            ("water", "forest", "road"), np.where(random.random(truth.shape) < 0.3, -1, truth)
        )

    def network(self, normalise: bool = False) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            middle = [nn.BatchNorm2d(6)] if normalise else []
            return nn.Sequential(
                nn.Conv2d(2, 6, 3),
                *middle,
                nn.Tanh(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(24, 3),
            )

    def fit(self, folder: Path, method="assume-negative", network=None, read=None, settings=None, **others):
        network = self.network() if network is None else network
        method = METHODS[method]() if isinstance(method, str) else method
        chosen = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "augment": ("flips",)} | (
            settings or {}
        )
        kept, history = fit(
            network,
            method,
            (lambda rows: self.images[rows]) if read is None else read,
            np.arange(len(self.images)),
            others.pop("labels", self.labels),
            Settings(**chosen),
            folder,
            **others,
        )
        return kept, history


@pytest.fixture
def problem() -> Problem:
    return Problem()
