"""SceneMixer against the paper's counts and an independent calculation from its weights."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from swath.encoders import build_model
from swath.encoders.scene_mixer import SceneMixer


@pytest.mark.parametrize(("classes", "expected"), [(21, 100_117), (10, 98_698), (30, 101_278)])
def test_parameters_and_running_statistics_are_the_papers(classes, expected):
    model = build_model("scene_mixer", ("red", "green", "blue"), [f"class {k}" for k in range(classes)])
    trainable = sum(value.numel() for value in model.parameters())
    statistics = sum(value.numel() for value in model.buffers() if value.is_floating_point())
    assert trainable + statistics == expected
    assert statistics == 3328


def convolve(maps, weight, bias, *, groups, stride=1):
    """Cross-correlation with zero padding that keeps the size (unless the stride is the kernel)."""
    width = weight.shape[-1]
    margin = 0 if stride == width else width // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    if groups == 1:
        out = np.einsum("bchwij,ocij->bohw", windows, weight)
    else:
        out = np.einsum("bchwij,cij->bchw", windows, weight[:, 0])
    return out + bias[:, None, None]


def gelu_then_normalise(maps, weights, prefix):
    maps = 0.5 * maps * (1 + erf(maps / np.sqrt(2)))
    mean, variance, gain, shift = (
        weights[f"{prefix}.2.{name}"][:, None, None]
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return gain * (maps - mean) / np.sqrt(variance + 1e-5) + shift


def layer(maps, weights, prefix, *, groups=1, stride=1):
    weight, bias = weights[f"{prefix}.0.weight"], weights[f"{prefix}.0.bias"]
    return gelu_then_normalise(convolve(maps, weight, bias, groups=groups, stride=stride), weights, prefix)


def test_structure_is_the_papers():
    torch.manual_seed(0)
    encoder = SceneMixer(bands=3, channels=8, depth=2).double()
    with torch.no_grad():
        for tensor in [*encoder.parameters(), *encoder.buffers()]:
            if tensor.is_floating_point():  # statistics and gains that show in the result
                tensor.normal_(0.5, 0.5).abs_().add_(0.1)
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    images = np.random.default_rng(0).normal(size=(2, 3, 16, 16))
    maps = layer(images, weights, "stem", stride=4)
    for number in range(2):
        prefix = f"blocks.{number}"
        fine = layer(maps, weights, f"{prefix}.fine", groups=8)
        coarse = layer(maps, weights, f"{prefix}.coarse", groups=8)
        maps = layer(maps + fine + coarse, weights, f"{prefix}.mix")  # the point-wise part has no shortcut
    with torch.no_grad():
        found = encoder.eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, maps.mean(axis=(2, 3)), rtol=1e-9)
