"""Small runs and scenes that the maps' tests share."""

import http.server
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from swath.encoders import ENCODERS, SceneModel, build_model, register_encoder
from swath.mapping.naming import product_paths
from swath.scenes.contract import BandContract
from swath.training.run import save_model

UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_100_000)}
BANDS = ("B02", "B03", "B04")
CLASSES = ("water", "forest", "field", "roof")

if "window_mean" not in ENCODERS:

    @register_encoder("window_mean")
    class WindowMean(nn.Module):
        """The mean of each band over the window: with the linear head, a model whose map can be computed by hand."""

        def __init__(self, bands: int, size: int = 64) -> None:
            super().__init__()
            self.num_features = bands

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))


def write_scene(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write (bands, height, width) as a GeoTIFF; descriptions, scales, offsets, units and mask may be given too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = {
        key: options.pop(key) for key in ("descriptions", "scales", "offsets", "units") if key in options
    }
    bands, height, width = pixels.shape
    profile = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, **UTM, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=bands, height=height, width=width, dtype=pixels.dtype, **profile
        ) as raster:
            raster.write(pixels)
            for key, value in attributes.items():
                setattr(raster, key, value)
    return path


def noise(height: int, width: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth random uint16 pixels from 1 to about 4000, so that neighbouring windows differ and 0 can be nodata."""
    random = np.random.default_rng(seed)
    coarse = random.integers(200, 3800, (bands, height // 16 + 2, width // 16 + 2))
    fine = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    return np.clip(fine + random.integers(-200, 200, fine.shape), 1, 4000).astype(np.uint16)


def make_run(folder: Path, model: SceneModel) -> Path:
    """Write what a run's folder needs for a map."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("method: none\n")
    save_model(model, folder, {})
    return folder


def make_model(
    encoder: str = "window_mean",
    size: int = 32,
    *,
    exclusive: bool = True,
    sharp: float = 1.5,
    **contract: Any,
) -> SceneModel:
    """Build a model with random weights whose probabilities are far from all the same."""
    chosen = {
        "scale": (1e-4,) * 3,
        "unit": "reflectance",
        "gsd_m": 10.0,
        "mean": (0.2, 0.19, 0.21),
        "std": (0.1, 0.11, 0.09),
        **contract,
    }
    model = build_model(
        encoder, BandContract(BANDS, classes=CLASSES, exclusive=exclusive, **chosen), size=size
    )
    model.eval()
    with torch.no_grad():
        # Logits of noise are spread around 0, so that maps hold several classes.
        patches = torch.randn(64, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
        logits = model(patches.repeat_interleave(8, 2).repeat_interleave(8, 3))
        model.head.weight.mul_(sharp / logits.std(dim=0)[:, None])
        model.head.bias.zero_()
        model.head.bias.sub_(model(patches.repeat_interleave(8, 2).repeat_interleave(8, 3)).mean(dim=0))
    return model


class Make:
    """What the tests make; test modules cannot import from each other."""

    BANDS, CLASSES, UTM = BANDS, CLASSES, UTM
    scene = staticmethod(write_scene)
    noise = staticmethod(noise)
    run = staticmethod(make_run)
    model = staticmethod(make_model)

    @staticmethod
    def by_hand(*arguments: Any, **options: Any) -> np.ndarray:
        """See :func:`by_hand`."""
        return by_hand(*arguments, **options)

    @staticmethod
    def reflectance(path: Path, pixels: np.ndarray, **options: Any) -> Path:
        """Write a scene that fits the models of these tests: scale, unit, band names, nodata 0."""
        told = {"descriptions": BANDS, "scales": (1e-4,) * 3, "units": ("reflectance",) * 3, "nodata": 0}
        return write_scene(path, pixels, **{**told, **options})

    @staticmethod
    def read(path: Path) -> np.ndarray:
        """Read all bands of a raster."""
        with rasterio.open(path) as raster:
            return raster.read()

    @staticmethod
    def products(folder: Path, name: str = "scene") -> dict[str, bytes]:
        """Return the bytes of all of a map's files."""
        return {kind: path.read_bytes() for kind, path in product_paths(folder, name).items()}


@pytest.fixture(scope="session")
def make() -> type[Make]:
    """What the tests make scenes, models and runs with."""
    return Make


@pytest.fixture
def linear_run(tmp_path: Path) -> Path:
    """A run whose model is a linear function of the window's mean, with classes that exclude each other."""
    return make_run(tmp_path / "run", make_model())


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene of 200 x 230 px that fits the models of these tests."""
    return Make.reflectance(tmp_path / "scene.tif", noise(200, 230))


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """A server that answers nothing and counts who asked."""
    asked: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def by_hand(
    pixels: np.ndarray,
    model: SceneModel,
    stride: int,
    *,
    blend: str = "hann",
    edges: str = "shift",
    min_valid: float = 0.5,
    nodata: float | None = 0,
) -> np.ndarray:
    """Compute a linear model's map by plain loops: (classes, rows, columns), NaN where there is none."""
    size, contract = model.size, model.contract
    weight, bias = model.head.weight.detach().double().numpy(), model.head.bias.detach().double().numpy()
    valid = np.isfinite(pixels).all(0) & ((pixels != nodata).all(0) if nodata is not None else True)
    mean, std = np.array(contract.mean)[:, None, None], np.array(contract.std)[:, None, None]
    image = np.where(valid, (np.where(valid, pixels, 0) * 1e-4 - mean) / std, 0)
    height, width = valid.shape

    def starts(length: int) -> list[int]:
        found = [0]
        while found[-1] + size < length:
            found.append(found[-1] + stride)
        if edges == "shift":
            found[-1] = max(0, min(found[-1], length - size))
        return found

    def one(length: int, first: int) -> list[int]:
        """The pixels a window sees along an axis, mirrored at the end."""
        period = max(1, 2 * (length - 1))
        folded = [place % period for place in range(first, first + size)]
        return [place if place < length else period - place for place in folded]

    def weight_of(centre: float, first: int) -> float:
        place = (centre - first) / size
        if not 0 <= place <= 1:
            return 0.0
        if blend == "flat":
            return 1.0
        return float(0.5 - 0.5 * np.cos(2 * np.pi * min(max(place, 0.5 / size), 1 - 0.5 / size)))

    windows = {}
    for top in starts(height):
        for left in starts(width):
            rows, columns = np.ix_(one(height, top), one(width, left))
            if valid[rows, columns].sum() < max(1, min_valid * size**2):
                continue
            logits = weight @ image[:, rows, columns].mean(axis=(1, 2)) + bias
            odds = np.exp(logits - logits.max())
            windows[top, left] = odds / odds.sum() if contract.exclusive else 1 / (1 + np.exp(-logits))
    cells = -(-height // stride), -(-width // stride)
    result = np.full((len(contract.classes), *cells), np.nan)
    for row in range(cells[0]):
        for column in range(cells[1]):
            below, right = min((row + 1) * stride, height), min((column + 1) * stride, width)
            if not valid[row * stride : below, column * stride : right].any():
                continue
            y, x = (row * stride + below) / 2, (column * stride + right) / 2
            shares = {key: weight_of(y, key[0]) * weight_of(x, key[1]) for key in windows}
            total = sum(shares.values())
            if total:
                result[:, row, column] = sum(shares[key] * windows[key] for key in windows) / total
    return result
