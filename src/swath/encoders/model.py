"""An encoder with a linear head, and the contract of the bands and classes it was made for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from swath.errors import InputError, UnknownNameError
from swath.registry import Registry
from swath.scenes.contract import BandContract

__all__ = ["ENCODERS", "Encoder", "SceneModel", "build_model", "list_encoders", "register_encoder"]


class Encoder(Protocol):
    """What an encoder offers: ``num_features``, and images (B, bands, H, W) to features (B, num_features).

    One that ends in a global average pool also offers ``feature_maps``: images to (B, num_features, h, w), whose mean
    over the positions is the features.
    """

    num_features: int

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of a batch of images."""


ENCODERS: Registry[Callable[..., nn.Module]] = Registry("encoder")
register_encoder = ENCODERS.register


class SceneModel(nn.Module):
    """Images to logits: an encoder and a linear head.

    With :meth:`boost`, the head is applied at every position of the encoder's maps instead of to their mean, and
    positive scores count several times.

    Args:
        encoder: Maps (B, bands, H, W) to (B, num_features).
        contract: Bands and classes; the head has one logit per class.
        name: The encoder's registered name, which with ``size`` is enough to build the model again.
        size: Height and width of the images in pixels.

    Example:
        >>> model = build_model("scene_mixer", bands=("red", "green", "blue"), classes=("water", "forest"))
        >>> model(torch.zeros(4, 3, 64, 64)).shape
        torch.Size([4, 2])
    """

    def __init__(self, encoder: nn.Module, contract: BandContract, *, name: str, size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(cast(Encoder, encoder).num_features, len(contract.classes))
        self.contract = contract
        self.name = name
        self.size = size
        self.cam_boost = 1.0

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, num_features) of normalised images (B, bands, H, W)."""
        features: Tensor = self.encoder(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, classes) of normalised images (B, bands, H, W)."""
        if self.cam_boost == 1:
            logits: Tensor = self.head(self.features(images))
            return logits
        return self.logit_maps(images).mean(dim=(2, 3))

    def to_probability(self, logits: Tensor, dim: int = 1) -> Tensor:
        """Return probabilities of logits, float32: they add up to 1 where classes exclude each other."""
        logits = logits.float()
        return logits.softmax(dim=dim) if self.contract.exclusive else logits.sigmoid()

    def logit_maps(self, images: Tensor) -> Tensor:
        """Return (B, classes, h, w) whose mean over positions is the logits: the activation maps, boosted if told so.

        Raises:
            InputError: The encoder has no feature maps.
        """
        scores = self.activation_maps(images)
        return scores if self.cam_boost == 1 else torch.where(scores > 0, scores * self.cam_boost, scores)

    def activation_maps(self, images: Tensor) -> Tensor:
        """Return what the head says at each position, (B, classes, h, w); the mean over positions is the plain logits.

        Raises:
            InputError: The encoder has no feature maps.
        """
        self._check_maps("Class activation maps need")
        maps: Tensor = self.encoder.feature_maps(images)  # type: ignore[operator]
        return functional.conv2d(maps, self.head.weight[:, :, None, None], self.head.bias)

    def boost(self, factor: float) -> None:
        """Multiply positive class activations by a factor before they are averaged, now and in the saved model.

        Args:
            factor: 1 or more; 1 is the plain head.

        Raises:
            InputError: The factor is out of its range, or the encoder has no feature maps.

        Source:
            BoostLU, Kim et al. 2023 (arXiv 2304.01804), in which the factor is 5.

        Example:
            >>> model = build_model("small_resnet", ("red", "green", "blue"), ("water",), size=16).eval()
            >>> before = model(torch.ones(1, 3, 16, 16))
            >>> model.boost(5.0)
            >>> bool((model(torch.ones(1, 3, 16, 16)) >= before - 1e-6).all())
            True
        """
        if not (math.isfinite(factor) and factor >= 1):
            raise InputError(f"The boost of class activations is {factor}; expected a number of 1 or more.")
        if factor != 1:
            self._check_maps(f"A boost of {factor:g} needs")
        self.cam_boost = float(factor)

    def card(self) -> dict[str, Any]:
        """Return what is needed, besides the weights, to build and feed the model again, as JSON values."""
        return {
            "encoder": self.name,
            "size": self.size,
            "cam_boost": self.cam_boost,
            "contract": self.contract.to_json(),
        }

    def _check_maps(self, what: str) -> None:
        if not hasattr(self.encoder, "feature_maps"):
            raise InputError(
                f"{what} an encoder that ends in a global average pool over feature maps, and {self.name!r} does not. "
                f"Choose small_resnet, scene_mixer or a timm network such as resnet18."
            )


def build_model(
    encoder: str,
    bands: Sequence[str] | BandContract,
    classes: Sequence[str] | None = None,
    *,
    size: int = 64,
    pretrained: bool = False,
    seed: int = 0,
) -> SceneModel:
    """Build a model by the name of its encoder.

    Args:
        encoder: A registered name such as ``"scene_mixer"``, or the name of any timm model.
        bands: Band names, or a contract that holds the classes too.
        classes: Class names; may be left out if ``bands`` is a contract that has them.
        size: Height and width of the images in pixels.
        pretrained: Whether to start from published weights (timm models; needs a download once).
        seed: Seed of the initial weights.

    Returns:
        The model, in training mode, on the CPU.

    Raises:
        UnknownNameError: No encoder has that name; the message has the nearest real one.
        InputError: There are no classes, or the encoder does not take this size or number of bands.

    Example:
        >>> model = build_model("scene_mixer", bands=("B04", "B03", "B02", "B08"), classes=("water",))
        >>> model.features(torch.zeros(1, 4, 64, 64)).shape
        torch.Size([1, 128])
    """
    contract = bands if isinstance(bands, BandContract) else BandContract(tuple(bands))
    if classes is not None:
        contract = contract.with_classes(classes, contract.exclusive)
    if not contract.classes:
        raise InputError("A model needs classes: give `classes`, or a band contract that has them.")
    if size < 1:
        raise InputError(f"size is {size}; expected the images' height and width in pixels, 1 or more.")
    # The initial weights depend on the seed alone, and the caller's random state is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _make_encoder(encoder, bands=len(contract.names), size=size, pretrained=pretrained)
        return SceneModel(network, contract, name=encoder, size=size)


def list_encoders(pattern: str = "*") -> list[str]:
    """Return the names of encoders that match a pattern, swath's own first, then timm's.

    Args:
        pattern: Shell-style wildcards, such as ``"resnet*"``.

    Returns:
        Names for :func:`build_model`.
    """
    import fnmatch

    import timm

    return [name for name in sorted(ENCODERS) if fnmatch.fnmatch(name, pattern)] + list(
        timm.list_models(pattern)
    )


def _make_encoder(name: str, *, bands: int, size: int, pretrained: bool) -> nn.Module:
    if name not in ENCODERS:
        from swath.encoders.timm_encoder import is_timm_model, make_timm_encoder

        if not is_timm_model(name):
            raise UnknownNameError("encoder", name, list_encoders())
        return make_timm_encoder(name, bands=bands, size=size, pretrained=pretrained)
    if pretrained:
        raise InputError(f"The encoder {name!r} has no published weights; leave `pretrained` out.")
    return ENCODERS[name](bands=bands, size=size)
