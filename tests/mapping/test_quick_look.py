"""The picture: the map's classes in their colours, whatever the map's shape, grid and names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

import swath
from swath.mapping.colours import class_colours
from swath.mapping.quick_look import round_length


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def map_box(pixels: np.ndarray, width: float, height: float) -> np.ndarray:
    """Return the part of a picture that shows the map: 0.3 inch from the left, 0.75 from top, at 120 dpi."""
    return pixels[92 : 88 + round(height * 120), 38 : 34 + round(width * 120)]


def test_each_cell_has_its_class_s_colour(make: Any, tmp_path: Path, linear_run: Path, scene: Path) -> None:
    swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16)
    labels = make.read(tmp_path / "maps" / "scene.labels.tif")[0]
    shown = map_box(picture(tmp_path / "maps" / "scene.png"), 7, 7 * 13 / 15)
    colours = np.array(class_colours(make.CLASSES))
    rows, columns = ((np.arange(side) + 0.5) / side for side in labels.shape)
    at = shown[(rows * len(shown)).astype(int)][:, (columns * shown.shape[1]).astype(int)]
    # Ties between rounded probabilities aside.
    assert (at == colours[labels]).all(axis=2).mean() > 0.97


@pytest.mark.parametrize("shape", [(64, 900), (900, 64), (40, 40)])
def test_any_shape_grid_and_names(make: Any, tmp_path: Path, shape: tuple[int, int]) -> None:
    names = ("$x^2$ & <b>", "水" * 40, "a\nb", "ü")
    contract = make.model().contract.with_classes(names, exclusive=False)
    from swath.encoders import build_model

    run = make.run(tmp_path / "run", build_model("window_mean", contract, size=32).eval())
    degrees = {"crs": "EPSG:4326", "transform": rasterio.Affine(8e-5, 4e-5, 13, 4e-5, -8e-5, 45)}
    path = make.reflectance(tmp_path / "scene.tif", make.noise(*shape), **degrees)
    swath.map_scenes(run, [path], out=tmp_path / "maps", stride=16)
    pixels = picture(tmp_path / "maps" / "scene.png")
    assert 300 < pixels.shape[0] < 1200
    assert 600 < pixels.shape[1] < 1400
    # Nothing is cut off: the border is white.
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()


def test_a_map_without_data_is_white(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = make.reflectance(tmp_path / "scene.tif", np.zeros((3, 64, 64), np.uint16))
    swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16)
    assert (map_box(picture(tmp_path / "maps" / "scene.png"), 7, 7) == 255).all()


@pytest.mark.parametrize("length", [0.0123, 0.1, 1, 1.999, 2, 49.9, 50, 730, 1e5])
def test_a_scale_bar_is_round_and_fits(length: float) -> None:
    found = round_length(length)
    assert found <= length < 2.5 * found * (1 + 1e-9)
    assert f"{found:e}"[0] in "125"


def test_somebody_else_s_picture_is_not_replaced(tmp_path: Path, linear_run: Path, scene: Path) -> None:
    from swath.errors import RunError

    theirs = tmp_path / "maps" / "scene.png"
    theirs.parent.mkdir()
    Image.new("RGB", (4, 4)).save(theirs)
    before = theirs.read_bytes()
    with pytest.raises(RunError, match=r"scene\.png exists and is no map of swath"):
        swath.map_scenes(linear_run, [scene], out=theirs.parent, stride=16)
    assert [path.name for path in theirs.parent.iterdir()] == ["scene.png"]
    assert theirs.read_bytes() == before
