"""Windows that share feature maps: the same as windows one by one where nothing sees beyond them, and never a seam."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swath
from swath.encoders import ENCODERS
from swath.errors import InputError, OutputError, RunError
from swath.mapping import shared
from swath.mapping.shared import SharedFeatures


class Maps(nn.Module):
    """An encoder whose features are the mean over its maps."""

    def __init__(self, layers: nn.Module, features: int) -> None:
        super().__init__()
        self.layers, self.num_features = layers, features

    def feature_maps(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.feature_maps(images).mean(dim=(2, 3))


class WhereItIs(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps + torch.linspace(0, 1, maps.shape[3])


def patches(patch: int, *more: nn.Module) -> Any:
    """Make an encoder of patches that see nothing of their neighbours, unless further layers do."""

    def make(bands: int, size: int) -> nn.Module:
        return Maps(nn.Sequential(nn.Conv2d(bands, 8, patch, patch), nn.ReLU(), nn.Conv2d(8, 8, 1), *more), 8)

    return make


ALONE = {f"patches_of_{patch}": patches(patch) for patch in (1, 4, 8)}
REFUSED = {
    "grouped": patches(4, nn.GroupNorm(2, 8)),
    "placed": patches(4, WhereItIs()),
    "far": patches(4, nn.Conv2d(8, 8, 3, padding=150, dilation=150)),
}


@pytest.fixture(autouse=True)
def encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the encoders for these tests alone."""
    for name, encoder in {**ALONE, **REFUSED}.items():
        monkeypatch.setitem(ENCODERS._entries, name, encoder)


def maps_of(make: Any, run: Path, scene: Path, out: Path, **options: Any) -> dict[str, np.ndarray]:
    swath.map_scenes(run, [scene], out=out, **options)
    kinds = ("probability", "labels", "uncertainty")
    return {kind: make.read(out / f"{scene.stem}.{kind}.tif").astype(int) for kind in kinds}


@pytest.mark.parametrize(
    ("encoder", "stride", "height", "width", "edges", "boost"),
    [
        ("patches_of_1", 5, 97, 121, "shift", 1),
        ("patches_of_1", 16, 150, 130, "reflect", 5),
        ("patches_of_1", 3, 20, 121, "reflect", 1),  # lower than a window
        ("patches_of_4", 8, 150, 130, "reflect", 1),
        ("patches_of_4", 12, 96, 120, "shift", 5),
        ("patches_of_8", 32, 64, 96, "shift", 1),
    ],
)
def test_where_patches_see_nothing_of_their_neighbours_the_map_is_the_exact_one(
    make: Any, tmp_path: Path, encoder: str, stride: int, height: int, width: int, edges: Any, boost: int
) -> None:
    model = make.model(encoder, exclusive=boost == 1)
    model.boost(boost)
    run = make.run(tmp_path / "run", model)
    pixels = make.noise(height, width)
    pixels[:, height // 3 : height // 2, width // 2 :] = 0  # nodata
    scene = make.reflectance(tmp_path / "scene.tif", pixels)
    options = {"stride": stride, "edges": edges}
    exact = maps_of(make, run, scene, tmp_path / "exact", **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "BLOCK", 60)
        patch.setattr(shared, "PART", 24)
        found = maps_of(make, run, scene, tmp_path / "shared", shared_features=True, **options)
    for kind in ("probability", "uncertainty"):
        np.testing.assert_array_equal(found[kind] == 65535, exact[kind] == 65535)
        assert np.abs(found[kind] - exact[kind]).max() <= 1  # float32 may fall on the other side of a step
    assert (found["labels"] == exact["labels"]).mean() > 0.999
    assert len(np.unique(exact["probability"])) > 20, "a constant map would prove nothing"


@pytest.mark.parametrize("encoder", ["scene_mixer", "small_resnet", "patches_of_8"])
def test_the_map_is_that_of_the_whole_scene_put_through_the_network_at_once(
    make: Any, tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swath.mapping.compute import ready
    from swath.mapping.grid import WindowGrid
    from swath.mapping.raster import RasterScene
    from swath.mapping.settings import MapSettings
    from swath.mapping.windows import predict_windows, read_tile, tile_pixels

    monkeypatch.setattr(shared, "BLOCK", 80)
    monkeypatch.setattr(SharedFeatures, "part_pixels", 32)
    model = ready(make.model(encoder))
    known = SharedFeatures.of(model)
    pixels = make.noise(131, 155)
    scene = RasterScene([make.reflectance(tmp_path / "scene.tif", pixels)], model.contract)
    grid = WindowGrid(131, 155, model.size, 16)
    found = np.empty((4, *grid.windows), np.float32)
    chunks = grid.chunks(tile_pixels(1024, 3, known), known.context, known.stride)
    assert len(chunks) > 4
    with scene.reading() as reader:
        for chunk in chunks:
            tile = read_tile(reader, scene, model, grid, chunk)
            values = predict_windows(tile, model, grid, chunk, MapSettings(16, shared=known))
            found[:, chunk.rows.windows, chunk.columns.windows] = values.probability
    mean, std = (np.array(values)[:, None, None] for values in (model.contract.mean, model.contract.std))
    image = ((pixels * 1e-4 - mean) / std).astype(np.float32)
    around = known.context + 64  # more than is needed changes nothing
    image = np.pad(
        image, ((0, 0), (around, around - 131 % 16 + 16), (around, around - 155 % 16 + 16)), "reflect"
    )
    with torch.inference_mode():
        logits = model.logit_maps(torch.from_numpy(image)[None])[0].double()
    by_pixel = logits.repeat_interleave(known.stride, 1).repeat_interleave(known.stride, 2)
    for i, top in enumerate(grid.rows.starts + around):
        for j, left in enumerate(grid.columns.starts + around):
            window = by_pixel[:, top : top + model.size, left : left + model.size]
            np.testing.assert_allclose(found[:, i, j], window.mean((1, 2)).softmax(0), atol=1e-5)


@pytest.mark.parametrize("encoder", ["scene_mixer", "small_resnet"])
def test_batch_tile_and_workers_change_no_byte(make: Any, tmp_path: Path, scene: Path, encoder: str) -> None:
    run = make.run(tmp_path / "deep", make.model(encoder))
    options = {"stride": 16, "shared_features": True}
    swath.map_scenes(run, [scene], out=tmp_path / "first", **options)
    kept = make.products(tmp_path / "first")
    for number, others in enumerate(
        ({"batch_size": 1, "tile": 96}, {"batch_size": 7, "tile": 32, "workers": 2})
    ):
        entry = swath.map_scenes(run, [scene], out=tmp_path / str(number), **others, **options).maps[0]
        assert make.products(tmp_path / str(number)) == kept, others
    assert "Windows share feature maps, which is an approximation." in entry.notes


def test_an_unfinished_map_goes_on_and_the_other_mode_is_refused(
    make: Any, tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swath.mapping.work import WorkFolder

    monkeypatch.setattr(shared, "BLOCK", 64)
    run = make.run(tmp_path / "run", make.model("small_resnet"))
    options = {"stride": 16, "shared_features": True}
    real, left = WorkFolder.write, [5]

    def write(self: Any, *arguments: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OutputError("enough")
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "write", write)
        with pytest.raises(OutputError, match="enough"):
            swath.map_scenes(run, [scene], out=tmp_path / "maps", **options)
    with pytest.raises(RunError, match="another job: shared_features was True and is now False"):
        swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=16)
    entry = swath.map_scenes(run, [scene], out=tmp_path / "maps", tile=100, **options).maps[0]
    whole = swath.map_scenes(run, [scene], out=tmp_path / "whole", **options).maps[0]
    assert 0 < entry.windows < whole.windows
    assert make.products(tmp_path / "maps") == make.products(tmp_path / "whole")
    with pytest.raises(RunError, match="another job: shared_features was True and is now False"):
        swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=16)


def test_the_stac_item_and_the_rasters_say_so(make: Any, tmp_path: Path, scene: Path) -> None:
    import rasterio

    run = make.run(tmp_path / "run", make.model("scene_mixer"))
    for mode in (False, True):
        out = tmp_path / str(mode)
        swath.map_scenes(run, [scene], out=out, stride=16, shared_features=mode)
        properties = json.loads((out / "scene.json").read_text())["properties"]
        assert properties["swath:shared_features"] is mode
        assert ("approximate" in properties["processing:lineage"]) is mode
        with rasterio.open(out / "scene.labels.tif") as raster:
            assert json.loads(raster.tags()["SWATH_JOB"])["shared_features"] is mode


def test_nothing_is_computed_from_nodata(make: Any, tmp_path: Path) -> None:
    run = make.run(tmp_path / "run", make.model("small_resnet"))
    pixels, products = make.noise(200, 230), []
    hidden = np.zeros((200, 230), bool)
    hidden[90:170, 110:200] = hidden[:, :40] = True
    for rubbish in (1, 60_000):
        pixels[:, hidden] = rubbish
        pixels[1, hidden] = 0  # one band without data is enough
        scene = make.reflectance(tmp_path / str(rubbish) / "scene.tif", pixels)
        out = tmp_path / f"maps-{rubbish}"
        products.append(maps_of(make, run, scene, out, stride=16, shared_features=True))
    exact = maps_of(make, run, scene, tmp_path / "exact", stride=16)
    for kind, values in products[0].items():
        np.testing.assert_array_equal(values, products[1][kind])
        nowhere = 255 if kind == "labels" else 65535
        np.testing.assert_array_equal(values == nowhere, exact[kind] == nowhere)
        assert 0 < (values == nowhere).mean() < 0.9


@pytest.mark.parametrize(
    ("encoder", "stride", "message"),
    [
        ("small_resnet", 8, r"start where the feature maps of 'small_resnet' have a place, every 16 px\. Strides that "
         r"fit: 16, 32\.$"),
        ("scene_mixer", 7, r"every 4 px\. Strides that fit: 4, 8, 12, 16, 20, 24, 28, 32\.$"),
        ("window_mean", 16, r"needs an encoder that ends in a global average pool .* 'window_mean' does not\. Map "
         r"without --shared-features\."),
        ("grouped", 16, "those of 'grouped' depend on the whole image"),
        ("placed", 16, "on the place in it"),
        ("far", 16, "ground more than 512 px away"),
        ("efficientnet_b0", 32, "those of 'efficientnet_b0' depend on the whole image"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused(
    make: Any, tmp_path: Path, scene: Path, encoder: str, stride: int, message: str
) -> None:
    run = make.run(tmp_path / "run", make.model(encoder))
    with pytest.raises(InputError, match=message):
        swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=stride, shared_features=True)
    assert not (tmp_path / "maps").exists()


def test_windows_smaller_than_a_place_of_the_maps_are_refused() -> None:
    with pytest.raises(InputError, match=r"every 32 px\. None fits windows of 16 px\."):
        SharedFeatures(32, 64, 16, "resnet18").check(8)


@pytest.mark.parametrize(
    ("encoder", "stride", "context"),
    [("small_resnet", 16, 43), ("resnet18", 32, 217), ("patches_of_4", 4, 0)],
)
def test_the_context_is_the_receptive_field(make: Any, encoder: str, stride: int, context: int) -> None:
    """A place's receptive field reaches so many pixels to its left, from the strides and kernels of the layers."""
    found = SharedFeatures.of(make.model(encoder))
    assert (found.stride, found.context) == (stride, -(-context // stride) * stride)


def test_many_bands_make_smaller_blocks_but_never_smaller_than_a_window() -> None:
    from swath.mapping.windows import tile_pixels

    known = SharedFeatures(4, 32, 64, "scene_mixer")
    assert tile_pixels(7, 3, known) == tile_pixels(4096, 3, known) == 1024
    assert 64 < tile_pixels(1024, 200, known) < 300
    assert tile_pixels(1024, 20_000, known) == 64


def test_a_scene_with_so_many_bands_that_tiles_are_smaller_than_asked(make: Any, tmp_path: Path) -> None:
    from swath.encoders import build_model
    from swath.scenes.contract import BandContract

    many = 400
    names = tuple(f"B{number}" for number in range(many))
    contract = BandContract(
        names, classes=("water", "forest"), scale=(1e-4,) * many, unit="reflectance", gsd_m=10.0,
        mean=(0.2,) * many, std=(0.1,) * many,
    )  # fmt: skip
    run = make.run(tmp_path / "run", build_model("window_mean", contract, size=32))
    pixels = np.random.default_rng(0).integers(1, 4000, (many, 40, 230)).astype(np.uint16)
    told = {"scales": (1e-4,) * many, "units": ("reflectance",) * many, "nodata": 0}
    scene = make.scene(tmp_path / "scene.tif", pixels, descriptions=names, **told)
    made = [maps_of(make, run, scene, tmp_path / str(tile), stride=32, tile=tile) for tile in (1024, 64)]
    for kind, values in made[0].items():
        np.testing.assert_array_equal(values, made[1][kind])
