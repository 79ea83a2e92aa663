"""The QGIS style: well-formed whatever the names, with the colours of the raster's own palette."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import rasterio

import swath
from swath.encoders import build_model

NAMES = ('a<b>&"c"', "水", "bell \x07 \x00", "x" * 300)


@pytest.mark.parametrize("exclusive", [True, False])
def test_names_and_colours_are_those_of_the_label_map(
    make: Any, tmp_path: Path, scene: Path, exclusive: bool
) -> None:
    contract = make.model().contract.with_classes(NAMES, exclusive=exclusive)
    run = make.run(tmp_path / "run", build_model("window_mean", contract, size=32).eval())
    swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=32)
    # QGIS takes the style of a raster from the file of the same name.
    text = (tmp_path / "maps" / "scene.labels.qml").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    renderer = root.find("pipe/rasterrenderer")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = {int(entry.get("value", "")): entry for entry in renderer.iter("paletteEntry")}
    shown = [name.replace("\x07", "\ufffd").replace("\x00", "\ufffd") for name in NAMES]
    if not exclusive:
        assert (entries[0].get("alpha"), entries[1].get("label")) == ("0", shown[0])
        return
    assert [entries[value].get("label") for value in range(4)] == shown
    with rasterio.open(tmp_path / "maps" / "scene.labels.tif") as raster:
        palette = raster.colormap(1)
    for value in range(4):
        red, green, blue, alpha = palette[value]
        assert entries[value].get("color") == f"#{red:02x}{green:02x}{blue:02x}"
        assert entries[value].get("alpha") == str(alpha)
