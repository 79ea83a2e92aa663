"""What curricula over domains have in common: they measure features and choose which scenes come when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from swath.encoders import SceneModel
from swath.errors import InputError
from swath.labels import LabelTable
from swath.methods.base import Batch
from swath.methods.domains import domain_entropy
from swath.methods.model_parts import feature_width
from swath.methods.wrapper import Wrapper
from swath.randomness import stream

__all__ = ["DomainCurriculum"]

KEPT_FEATURES = (
    64  # numbers kept for each scene; wider features are projected at random, which keeps distances
)


class DomainCurriculum(Wrapper):
    """Remembers each scene's features, and says how well its domain can be told from them.

    It works with every base method, because it changes only how often a scene is drawn, never a loss.
    """

    needs: ClassVar[Sequence[str]] = ("domain",)
    own_per_scene: ClassVar[Sequence[str]] = ("features", "measured_in")
    own_survivors: ClassVar[Sequence[str]] = ("entropy",)
    domain: Tensor
    features: Tensor
    measured_in: Tensor
    entropy: Tensor
    projection: Tensor | None

    @classmethod
    def refusal(cls, labels: LabelTable) -> str | None:
        """Return why not: above all if all scenes are of one domain."""
        reason = super().refusal(labels)
        if reason is None and len(np.unique(labels.columns["domain"])) < 2:
            reason = (
                f"its {len(labels)} training scenes are all of one domain, and a curriculum needs two or more"
            )
        return reason

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Let the base method start, and make an empty memory of every scene's features."""
        super().start(labels, model)  # first, because a base method may change what the head works on
        width = feature_width(model, type(self).__name__)
        self.single_label = labels.exclusive
        kept = min(width, KEPT_FEATURES)
        random = stream(self.seed, "method: projection of features")
        # Signs in whole numbers: averaging over processes leaves those as they are.
        signs = random.choice(np.array([-1, 1], np.int8), (width, kept)) if kept < width else None
        projection = None if signs is None else torch.from_numpy(signs)
        self.register_buffer("projection", projection, persistent=False)
        self.register_buffer("domain", torch.from_numpy(labels.columns["domain"]), persistent=False)
        self.register_buffer("features", torch.zeros(len(labels), kept))
        self.register_buffer("measured_in", torch.zeros(len(labels), dtype=torch.int64))
        self.register_buffer("entropy", torch.ones(len(labels)))

    def draw_weights(self) -> Tensor | None:
        """Return the curriculum's weights times those of the base method."""
        mine, others = self.curriculum_weights(), super().draw_weights()
        if mine is None or others is None:
            return others if mine is None else mine
        both = mine * others
        # A base method may want only scenes that do not come yet.
        return both if bool(both.any()) else mine

    def curriculum_weights(self) -> Tensor | None:
        """Return how often each scene is to come in the running epoch, (n,), or None: each once."""
        raise NotImplementedError

    def report(self) -> Mapping[str, Any]:
        """Return the base method's figures, and how well domains can be told (1: not at all)."""
        return {**super().report(), "domain_entropy": float(self.entropy.mean())}

    @torch.no_grad()
    def measure(self, model: nn.Module, batch: Batch) -> Tensor:
        """Remember the features of a batch, as the network sees it when it predicts; return its logits."""
        network = cast(SceneModel, model)
        with _evaluating(network):
            features = network.features(batch["image"])
            logits: Tensor = network.head(features)
        if self.projection is not None:
            features = features @ self.projection.to(features) / self.projection.shape[1] ** 0.5
        self.features[batch["index"]] = features.float()  # mixed precision multiplies in half of it
        self.measured_in[batch["index"]] = self.epoch + 1
        return logits.float()

    def update_entropy(self, epoch: int) -> None:
        """Measure the entropy of the scenes that were drawn in an epoch; that of others stays.

        Features of an older epoch are of another network: a classifier would tell epochs apart, not domains.
        """
        seen = self.measured_in == epoch + 1
        found = domain_entropy(
            self.features[seen].cpu().numpy(),
            self.domain[seen].cpu().numpy(),
            stream(self.seed, "method: folds", epoch),
        )
        self.entropy[seen] = torch.from_numpy(found).to(self.entropy)

    def _check(self, name: str, value: float, *, fits: bool, expected: str) -> None:
        if not fits:
            raise InputError(f"{type(self).__name__}'s {name} is {value}; expected {expected}.")


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set a network to evaluation for a while; parts that were there before stay there."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
