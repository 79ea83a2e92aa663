"""The viewer, in a real browser without a network: it shows the map, whatever the names."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import swath
from swath.encoders import build_model
from swath.mapping.colours import class_colours
from swath.mapping.viewer import MOST_PIXELS, viewer_shape

HOSTILE = ("</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", '水 & "q" \'', "{{ 7 * 7 }}")


@pytest.fixture
def maps(make: Any, tmp_path: Path) -> Path:
    """A map of classes that may hold together, part of it without data."""
    pixels = make.noise(200, 230)
    pixels[:, 60:140, :90] = 0
    path = make.reflectance(tmp_path / "scene.tif", pixels)
    contract = make.model().contract.with_classes(HOSTILE, exclusive=False)
    model = build_model("window_mean", contract, size=32).eval()
    model.head.load_state_dict(make.model(exclusive=False).head.state_dict())
    swath.map_scenes(make.run(tmp_path / "run", model), [path], out=tmp_path / "maps", stride=8)
    return tmp_path / "maps"


def opened(page: Any, path: Path) -> list[str]:
    """Open a viewer; whatever goes wrong in it is added to the list."""
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.on("request", lambda request: problems.extend(re.findall(r"^(?!data:|file:).*", request.url)))
    page.set_viewport_size({"width": 1000, "height": 700})
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    return problems


def move_slider(page: Any, value: int) -> None:
    page.evaluate(
        "value => { slider.value = value; slider.dispatchEvent(new Event('input')); }",
        value,
    )


def colours_at(page: Any, cells: np.ndarray) -> np.ndarray:
    """What the screen shows at (cells, 2) rows and columns."""
    left, upper, size, aspect = page.evaluate("[left, upper, size, aspect]")
    with Image.open(io.BytesIO(page.screenshot())) as image:
        pixels = np.asarray(image.convert("RGB"))
    y, x = upper + (cells[:, 0] + 0.5) * size * aspect, left + (cells[:, 1] + 0.5) * size
    return pixels[y.astype(int), x.astype(int)]


@pytest.mark.browser
def test_layers_classes_and_threshold_are_those_of_the_map(make: Any, maps: Path, page: Any) -> None:
    problems = opened(page, maps / "scene.html")
    stored = make.read(maps / "scene.probability.tif").astype(int)
    seen = stored[0] != 65535
    assert 0 < seen.mean() < 1
    layers = np.array(page.evaluate("layers.map(layer => [...layer])")).reshape(stored.shape)
    np.testing.assert_array_equal(layers, np.where(seen, stored * 254 // 10000, 255))
    # At the map's own threshold it shows the map's own labels.
    labels = make.read(maps / "scene.labels.tif")
    assert page.evaluate("Number(slider.value)") == 50
    for number in range(4):
        page.locator(f"input[name=view][value='{number}']").check()
        share = float(page.inner_text("#share").split()[0])
        assert share == pytest.approx(100 * (labels[number] == 1).sum() / seen.sum(), abs=0.051)
        move_slider(page, 80)
        share = float(page.inner_text("#share").split()[0])
        assert share == pytest.approx(100 * (stored[number][seen] * 254 // 10000 >= 204).mean(), abs=0.051)
        move_slider(page, 50)
    page.locator("input[name=view][value='-1']").check()
    ranked = np.sort(stored, axis=0)
    # Where a probability is near the threshold or the next one's, steps decide; buttons and the bar cover corners.
    clear = seen & (ranked[-1] - ranked[-2] > 80)
    clear[:4, :4] = clear[-4:, :6] = False
    above = np.argwhere(clear & (ranked[-1] > 5100))
    tops = stored.argmax(axis=0)[tuple(above.T)]
    colours = np.array(class_colours(page.evaluate("content.classes")))
    np.testing.assert_array_equal(colours_at(page, above), colours[tops])
    assert len(above) > 50
    move_slider(page, 80)
    below = np.argwhere(clear & (ranked[-1] < 7900))
    assert len(below) > 5
    assert (colours_at(page, below) == 217).all()
    # Without data the page shows through.
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    nothing = colours_at(page, np.argwhere(~seen))
    assert (nothing == [int(part) for part in re.findall(r"\d+", background)]).all()
    assert not problems


@pytest.mark.browser
def test_it_pans_and_zooms_by_mouse_keys_and_buttons(maps: Path, page: Any) -> None:
    problems = opened(page, maps / "scene.html")

    def where() -> list[float]:
        return list(page.evaluate("[left, upper, size]"))

    start = where()
    page.mouse.move(300, 200)
    place = [float(part) for part in page.inner_text("#readout").splitlines()[0].split(", ")]
    page.mouse.wheel(0, -300)
    assert where()[2] > 1.5 * start[2]
    page.mouse.move(300, 200)
    # What was below the pointer still is.
    again = [float(part) for part in page.inner_text("#readout").splitlines()[0].split(", ")]
    assert again == pytest.approx(place, abs=0.2)
    before = where()
    page.mouse.down()
    page.mouse.move(360, 170, steps=3)
    page.mouse.up()
    assert where() == pytest.approx([before[0] + 60, before[1] - 30, before[2]])
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert where()[0] == pytest.approx(before[0])
    page.keyboard.press("-")
    assert where()[2] == pytest.approx(before[2] / 1.4)
    page.click("#nearer")
    page.click("#farther")
    page.click("#whole")
    assert where() == pytest.approx(start)
    for _ in range(30):
        page.click("#nearer")
    assert where()[2] <= 64
    page.mouse.move(500, 500)
    page.mouse.down()
    page.mouse.move(-20000, -20000)
    page.mouse.up()
    left, upper, size = where()
    assert left + size * 29 > 0, "the map cannot be lost"
    assert upper + size * 25 > 0
    assert not problems


@pytest.mark.browser
def test_the_place_and_the_probabilities_below_the_pointer(make: Any, maps: Path, page: Any) -> None:
    problems = opened(page, maps / "scene.html")
    row, column = 3, 20
    x, y = page.evaluate(
        "([row, column]) => [left + (column + 0.5) * size, upper + (row + 0.5) * size * aspect]",
        [row, column],
    )
    page.mouse.move(x, y)
    first, *rest = page.inner_text("#readout").splitlines()
    assert [float(part) for part in first.split(", ")] == pytest.approx(
        [500_000 + 80 * (column + 0.5), 5_100_000 - 80 * (row + 0.5)], abs=40
    )
    stored = make.read(maps / "scene.probability.tif")[:, row, column] * 1e-4
    for line in rest:
        value, name = line.split(maxsplit=1)
        # Names are shown as they are, markup and all.
        assert float(value) == pytest.approx(stored[HOSTILE.index(name)], abs=0.01)
    assert [label.strip() for label in page.locator("label.view").all_inner_texts()][1:] == list(HOSTILE)
    assert not problems


@pytest.mark.browser
def test_a_phone_shows_it_without_scrolling_sideways(maps: Path, page: Any) -> None:
    problems = opened(page, maps / "scene.html")
    for width in (360, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#whole")
        assert page.evaluate("canvas.width") == width
    assert not problems


def test_names_cannot_leave_their_place_and_nothing_is_loaded(maps: Path) -> None:
    text = (maps / "scene.html").read_text(encoding="utf-8")
    assert text.count("<script") == 2
    assert "<img" not in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|<\w+[^>]*\bsrc=|@import|url\(", text)
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)
    assert found
    assert json.loads(found.group(1))["classes"] == list(HOSTILE)


@pytest.mark.parametrize("cells", [(1, 1), (10, 3000), (20_000, 20_000), (700, 1000)])
@pytest.mark.parametrize("classes", [1, 16, 45, 1000])
def test_the_page_stays_small(cells: tuple[int, int], classes: int) -> None:
    height, width = viewer_shape(cells, classes)
    assert 1 <= height <= min(cells[0], 1024)
    assert 1 <= width <= min(cells[1], 1024)
    assert classes * height * width <= MOST_PIXELS * 1.01


def test_a_large_map_is_averaged_and_nodata_is_left_out(make: Any, tmp_path: Path) -> None:
    pixels = make.noise(1300, 70)
    pixels[:, 400:700] = 0
    path = make.reflectance(tmp_path / "scene.tif", pixels)
    run = make.run(tmp_path / "run", make.model(size=8))
    swath.map_scenes(run, [path], out=tmp_path / "maps", stride=1)
    stored = make.read(tmp_path / "maps" / "scene.probability.tif").astype(float)
    stored[stored == 65535] = np.nan
    text = (tmp_path / "maps" / "scene.html").read_text(encoding="utf-8")
    content = json.loads(re.findall(r'id="content">(.*?)</script>', text, re.DOTALL)[0])
    assert (content["height"], content["width"]) == viewer_shape((1300, 70), 4) == (1024, 55)
    assert "55 × 1024 of the map's 70 × 1300 cells, averaged" in text
    for number, layer in enumerate(content["layers"]):
        with Image.open(io.BytesIO(base64.b64decode(layer))) as image:
            values = np.asarray(image).astype(float)
        values[values == 255] = np.nan
        # Each lies between the smallest and the largest of the cells around it, and is there if any of them is.
        for row in range(0, 1024, 7):
            for column in range(0, 55, 5):
                y, x = row * 1300 // 1024, column * 70 // 55
                around = stored[number, max(0, y - 1) : y + 4, max(0, x - 1) : x + 4]
                if np.isnan(around).all():
                    assert np.isnan(values[row, column])
                elif not np.isnan(around).any():
                    least, most = np.floor(around.min() * 0.0254), np.ceil(around.max() * 0.0254)
                    assert least <= values[row, column] <= most
