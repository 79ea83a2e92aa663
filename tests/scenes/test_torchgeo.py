"""TorchGeo's classification data sets by name: nothing is downloaded, and nothing else can be named."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from swath.errors import InputError, LabelError, SceneError, UnknownNameError
from swath.scenes import open_scenes

pytest.importorskip("torchgeo", reason="TorchGeo is not installed: pip install swath[torchgeo]")
pytestmark = pytest.mark.filterwarnings("ignore")  # TorchGeo's and its dependencies' own


@pytest.fixture(scope="module")
def uc_merced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few made-up images in the layout of UC Merced."""
    root = tmp_path_factory.mktemp("torchgeo")
    names = []
    for number, name in enumerate(("beach", "river", "harbor")):
        folder = root / "UCMerced_LandUse" / "Images" / name
        folder.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (16, 16), (number, index, 0)).save(folder / f"{name}{index:02}.tif")
            names.append(f"{name}{index:02}.tif")
    (root / "uc_merced-train.txt").write_text("\n".join(names))
    (root / "uc_merced-val.txt").write_text("\n".join(names))
    (root / "uc_merced-test.txt").write_text("\n".join(names[::2]))
    return root


@pytest.fixture(scope="module")
def eurosat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few made-up images in the layout of EuroSAT's 13 bands."""
    from torchgeo.datasets import EuroSAT

    root = tmp_path_factory.mktemp("torchgeo")
    names = []
    for number, name in enumerate(("Forest", "River")):
        folder = root / EuroSAT.base_dir / name
        folder.mkdir(parents=True)
        pixels = np.arange(13, dtype=np.uint16)[:, None, None] * np.ones((8, 8), np.uint16) + 100 * number
        with rasterio.open(
            folder / f"{name}_1.tif",
            "w",
            driver="GTiff",
            count=13,
            height=8,
            width=8,
            dtype="uint16",
            crs="EPSG:32632",
            transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
        ) as raster:
            raster.write(pixels)
        names.append(f"{name}_1.jpg")
    (root / EuroSAT.split_filenames["train"]).write_text("\n".join(names))
    return root


def test_a_data_set_of_class_folders_is_read_from_its_files(uc_merced: Path) -> None:
    scenes = open_scenes(f"torchgeo:UCMerced,root={uc_merced},split=train")
    assert scenes.labels.classes == ("beach", "harbor", "river")
    assert scenes.labels.exclusive
    assert scenes.labels.class_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert set(scenes.columns["split"]) == {"train"}
    assert scenes.read(3)[:, 0, 0].tolist() == [2, 1, 0]
    assert scenes.contract.names == ("red", "green", "blue")
    assert len(open_scenes(f"torchgeo:UCMerced,root={uc_merced},split=test")) == 3


def test_without_a_split_all_are_opened_and_named(uc_merced: Path) -> None:
    scenes = open_scenes(f"torchgeo:UCMerced,root={uc_merced}")
    assert scenes.columns["split"].tolist() == ["train"] * 6 + ["val"] * 6 + ["test"] * 3
    assert scenes.labels.class_index[-3:].tolist() == [0, 1, 2]


def test_all_bands_keep_their_number_type_and_place(eurosat: Path) -> None:
    scenes = open_scenes(f"torchgeo:EuroSAT,split=train,root={eurosat}")
    assert scenes.read(1).dtype == np.uint16
    assert scenes.contract.gsd_m == 10
    assert scenes.contract.names[:3] == ("B01", "B02", "B03")
    assert len(scenes.contract.names) == 13


def test_chosen_bands_have_the_data_set_s_names(eurosat: Path) -> None:
    scenes = open_scenes(f"torchgeo:EuroSAT,split=train,root={eurosat},bands=B04+B03+B02")
    assert scenes.contract.names == ("B04", "B03", "B02")
    assert scenes.read(1)[:, 0, 0].tolist() == [103, 102, 101]
    assert scenes.labels.class_index.tolist() == [0, 1]
    assert (
        scenes.fingerprint()
        != open_scenes(f"torchgeo:EuroSAT,split=train,root={eurosat},bands=B04+B03+B08").fingerprint()
    )


@pytest.mark.parametrize(
    "name", ["os", "torchgeo.datasets.EuroSAT", "EuroSat", "LandCoverAI", "NonGeoDataset", ""]
)
def test_only_classification_data_sets_have_a_name(name: str) -> None:
    with pytest.raises(UnknownNameError, match="classification data set in TorchGeo"):
        open_scenes(f"torchgeo:{name}")


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SceneError, match=r"cannot open UCMerced with .*download=true"):
        open_scenes(f"torchgeo:UCMerced,root={tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_named(uc_merced: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"option of UCMerced named 'splits'. Did you mean 'split'\?"):
        open_scenes(f"torchgeo:UCMerced,root={uc_merced},splits=train")
    with pytest.raises(UnknownNameError, match="transforms"):
        open_scenes(f"torchgeo:UCMerced,root={uc_merced},transforms=os.system")
    with pytest.raises(InputError, match=r"UCMerced does not take .*split=trian"):
        open_scenes(f"torchgeo:UCMerced,root={uc_merced},split=trian")


class MultiLabel:
    """A data set as TorchGeo makes them, with several labels a scene."""

    classes = ("water", "field", "forest")
    bands = ("B02", "B03")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, object]:
        import torch

        if index >= len(self):
            raise IndexError
        label = torch.tensor([index & 1, (index >> 1) & 1, 1])
        return {"image": torch.full((2, 4, 4), float(index)), "label": label}


def test_any_data_set_object_with_images_and_labels(tmp_path: Path) -> None:
    from swath.scenes.torchgeo import TorchGeoScenes

    scenes = TorchGeoScenes(MultiLabel(), split="test")
    assert not scenes.labels.exclusive
    assert scenes.labels.state.tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    assert scenes.contract.names == ("B02", "B03")
    assert scenes.read(3).max() == 3
    with pytest.raises(SceneError, match=r"cannot read MultiLabel\[9\]"):
        scenes.read(9)

    class Masks(MultiLabel):
        def __getitem__(self, index: int) -> dict[str, object]:
            return {"image": np.ones((2, 4, 4)), "mask": np.ones((4, 4))}

    with pytest.raises(LabelError, match="Masks hold image, mask; scenes need 'image' and 'label'"):
        TorchGeoScenes(Masks())
