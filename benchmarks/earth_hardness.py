"""How much of the synthetic Earth can be told from mean colours, and how much a small network sees.

Run ``python benchmarks/earth_hardness.py``; it prints one JSON object. A logistic regression for each class on
the means of the bands (and on means and standard deviations) stands against a plain network of 0.1 M parameters,
with the same training scenes, all labels known; every fifth region is kept for the test.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from swath.randomness import stream
from swath.scenes.earth import SyntheticEarth


def block(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def linear(features: np.ndarray, state: np.ndarray, train: np.ndarray) -> np.ndarray:
    columns = []
    for column in range(state.shape[1]):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        columns.append(model.fit(features[train], state[train, column]).predict_proba(features[~train])[:, 1])
    return np.stack(columns, axis=1)


def network(images: np.ndarray, state: np.ndarray, train: np.ndarray, epochs: int, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    mean = images[train].mean(axis=(0, 2, 3), keepdims=True)
    std = images[train].std(axis=(0, 2, 3), keepdims=True)
    scenes, target = torch.from_numpy((images - mean) / std), torch.from_numpy(state.astype(np.float32))
    model = nn.Sequential(
        block(images.shape[1], 32, 5, 2),
        block(32, 48, 3, 1),
        block(48, 64, 3, 2),
        block(64, 96, 3, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, state.shape[1]),
    )
    rows = np.flatnonzero(train)
    steps = len(rows) // 32
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        order = stream(seed, "order", epoch).permutation(rows)
        for step in range(steps):
            batch = order[32 * step : 32 * step + 32]
            turned = torch.rot90(scenes[batch], epoch % 4, (2, 3))
            loss = nn.functional.binary_cross_entropy_with_logits(model(turned), target[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        parts = [model(part).sigmoid() for part in scenes[torch.from_numpy(~train)].split(100)]
    return torch.cat(parts).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    earth = SyntheticEarth(arguments.scenes, seed=arguments.seed)
    images = np.stack(earth.read_many(range(len(earth)))).astype(np.float32) * np.float32(1e-4)
    state = earth.labels.state
    train = earth.columns["group"] % 5 != 0
    means, spreads = images.mean(axis=(2, 3)), images.std(axis=(2, 3))
    probability = {
        "share of each class": np.tile(state[train].mean(axis=0), ((~train).sum(), 1)),
        "linear on band means": linear(means, state, train),
        "linear on band means and spreads": linear(np.concatenate([means, spreads], axis=1), state, train),
        "small network": network(images, state, train, arguments.epochs, arguments.seed),
    }
    results = {}
    for name, values in probability.items():
        precision = average_precision_score(state[~train], values, average=None)
        results[name] = {
            "map_macro": round(float(precision.mean()), 4),
            "f1_macro": round(
                float(f1_score(state[~train], values > 0.5, average="macro", zero_division=0)), 4
            ),
            "per_class": dict(zip(earth.labels.classes, precision.round(3).tolist(), strict=True)),
        }
    per_scene = state.sum(axis=1)
    settings = {**vars(arguments), "threshold": 0.5, "test_scenes": int((~train).sum())}
    labels = {
        "per_scene": round(float(per_scene.mean()), 2),
        "scenes_by_number": np.bincount(per_scene).tolist(),
        "share_of_scenes": dict(zip(earth.labels.classes, state.mean(axis=0).round(3).tolist(), strict=True)),
    }
    print(json.dumps({"settings": settings, "labels": labels, "results": results}, indent=2))


if __name__ == "__main__":
    main()
