"""One function for every source: what it takes, what it refuses, and arrays from memory."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swath.errors import ContractError, InputError, SceneError, SwathError, UnknownNameError
from swath.labels.table import LabelTable
from swath.scenes import ArrayScenes, BandContract, open_images, open_scenes

LABELS = LabelTable(("water", "field"), np.array([[1, -1], [0, 1]]))


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_a_source_passes_through() -> None:
    scenes = ArrayScenes(np.ones((2, 3, 4, 4), np.uint8), LABELS)
    assert open_scenes(scenes) is scenes


def test_the_synthetic_earth_by_name() -> None:
    scenes = open_scenes("earth:scenes=3, size=32,seed=1")
    assert len(scenes) == 3
    assert scenes.read(0).shape[1:] == (32, 32)
    assert open_scenes("earth:scenes=3,size=32,seed=1").fingerprint() == scenes.fingerprint()


def test_a_folder_called_earth_needs_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "earth" / "water" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert open_scenes("./earth").labels.classes == ("water",)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("earth:scene=3", "no option of the synthetic Earth named 'scene'. Did you mean 'scenes'"),
        ("earth:scenes=many", "scenes of the synthetic Earth is a whole number; given 'many'"),
        ("earth:scenes", "'scenes' has no value"),
        ("earth:scenes=1,scenes=2", "'scenes' is given twice"),
        ("earth:scenes=0", "scenes"),
    ],
)
def test_options_of_the_synthetic_earth_are_checked(where: str, said: str) -> None:
    with pytest.raises(SwathError, match=said.replace("?", r"\?")):
        open_scenes(where)


def test_names_take_no_options_of_files() -> None:
    with pytest.raises(InputError, match="takes no nodata"):
        open_scenes("earth", nodata=0)


def test_other_files_are_refused_with_what_can_be_opened(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "a.png", "model.safetensors"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(InputError, match="neither a folder, nor a table"):
            open_scenes(tmp_path / name)
    with pytest.raises(SceneError, match="no file or folder"):
        open_scenes(tmp_path / "nothing")


def test_an_archive_that_was_cut_off_is_to_be_fetched_again(tmp_path: Path) -> None:
    path = tmp_path / "scenes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("water/a.png", bytes(5000))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"nor a whole zip archive.*download it again"):
        open_scenes(path)


def test_images_without_labels_are_opened_for_prediction(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "deep/c.png", "d.txt"):
        save(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("")
    scenes = open_images([tmp_path], ("water", "field"))
    assert [Path(scenes.describe(index)).name for index in range(3)] == ["a.png", "b.png", "c.png"]
    assert (scenes.labels.state == -1).all()
    assert len(open_images([str(tmp_path / "*.png")], ("water",))) == 2
    assert len(open_images([tmp_path / "a.png", tmp_path / "a.png", tmp_path], ("water",))) == 3
    with pytest.raises(SceneError, match=r"no file or folder .*aa\.png\. Did you mean .*a\.png"):
        open_images([tmp_path / "aa.png"], ("water",))
    with pytest.raises(InputError, match="holds no image"):
        open_images([str(tmp_path / "*.tif")], ("water",))


def test_arrays_keep_what_is_given() -> None:
    images = np.random.default_rng(0).integers(0, 9, (2, 4, 5, 6), np.uint16)
    contract = BandContract(("a", "b", "c", "d"), nodata=99)
    scenes = ArrayScenes(images, LABELS, contract, columns={"split": ["train", "test"]}, area=np.ones((2, 2)))
    np.testing.assert_array_equal(scenes.read(1), images[1])
    assert scenes.contract.classes == ("water", "field")
    assert scenes.contract.nodata == 99
    before = scenes.fingerprint()
    images[1, 0, 0, 0] += 1
    assert scenes.fingerprint() != before
    assert ArrayScenes([images[0], images[1][:, :3]], LABELS).read(1).shape == (4, 3, 6)


@pytest.mark.parametrize(
    ("images", "options", "kind", "said"),
    [
        (np.ones((3, 3, 4, 4)), {}, InputError, "3 images were given with labels for 2 scenes"),
        (np.ones((2, 4, 4)), {}, InputError, r"image 0 of shape \(4, 4\)"),
        (
            [np.ones((3, 4, 4)), np.ones((2, 4, 4))],
            {},
            ContractError,
            "2 bands of float64, 3 bands of float64",
        ),
        (np.ones((2, 3, 4, 4)), {"contract": BandContract(("a",))}, ContractError, "need the 1 bands a"),
        (np.ones((2, 3, 4, 4)), {"columns": {"x": [1]}}, InputError, r"Column 'x' has shape \(1,\)"),
        (np.ones((2, 3, 4, 4)), {"area": np.ones((2, 3))}, InputError, "area has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    images: np.ndarray, options: dict[str, object], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        ArrayScenes(images, LABELS, **options)  # type: ignore[arg-type]


def test_nan_in_arrays_is_an_error_when_read() -> None:
    images = np.ones((2, 1, 4, 4), np.float32)
    images[1, 0, 0, 0] = np.nan
    scenes = ArrayScenes(images, LABELS)
    assert scenes.read(0).shape == (1, 4, 4)
    with pytest.raises(SceneError, match=r"arrays\[1\] has 1 NaN"):
        scenes.read(1)


def test_opening_a_folder_loads_neither_torch_nor_gdal(tmp_path: Path) -> None:
    save(tmp_path / "water" / "a.png")
    program = (
        "import sys; from swath.scenes import open_scenes; open_scenes(sys.argv[1]).read(0); "
        "print([name for name in ('torch', 'rasterio', 'pyarrow', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_errors_of_their_kind() -> None:
    with pytest.raises(UnknownNameError):
        open_scenes("earth:colour=red")
