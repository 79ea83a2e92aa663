"""The packed store: what goes in comes out, as a model sees it, whatever happens meanwhile."""

import gc
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swath.errors import ContractError, InputError, OutputError, SceneError
from swath.labels import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.packed import PackedScenes
from swath.scenes.packing import cache_folder, pack
from swath.scenes.source import SceneSource

BANDS = ("B02", "B03", "B04")


class Given(SceneSource):
    """Scenes from a list; an exception in the list is raised when its scene is read."""

    def __init__(
        self,
        images: Sequence[Any],
        nodata: float | None = None,
        mark: str = "a",
        bands: tuple[str, ...] = BANDS,
    ) -> None:
        self.name, self.columns, self.mark = "given", {}, mark
        self.images, self.reads = images, 0
        self.contract = BandContract(bands, scale=(0.5, 0.25, 2.0), offset=(1.0, 0.0, -3.0))
        if nodata is not None:
            self.contract = BandContract(bands, nodata=nodata)
        self.labels = LabelTable(("class",), np.zeros((len(images), 1), np.int8))

    def read(self, index: int) -> Any:
        self.reads += 1
        if isinstance(self.images[index], Exception):
            raise self.images[index]
        return self.images[index]

    def describe(self, index: int) -> str:
        return f"scene-{index}.tif"

    def fingerprint(self) -> str:
        return self.mark


def images_of(dtype: str, count: int = 37, size: int = 12, bands: int = 3) -> np.ndarray:
    random = np.random.default_rng(5)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=(count, bands, size, size)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(max(limits.min, -3000), min(limits.max, 9000), (count, bands, size, size)).astype(
        dtype
    )


def expected_batch(images: np.ndarray, contract: BandContract, valid: np.ndarray | None = None) -> np.ndarray:
    def column(values: Sequence[float]) -> np.ndarray:
        return np.array(values, np.float64)[:, None, None]

    value = images.astype(np.float64) * column(contract.scale) + column(contract.offset)
    normalised = (value - column(contract.mean)) / column(contract.std)
    return normalised if valid is None else np.where(valid, normalised, 0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_stored_numbers_are_the_images_and_a_batch_follows_the_formula(tmp_path: Path, dtype: str) -> None:
    images = images_of(dtype)
    store = pack(Given(images), folder=tmp_path / "store")
    np.testing.assert_array_equal(store.images, images)
    assert store.dtype == images.dtype
    rows = np.random.default_rng(0).integers(0, len(images), 100)
    np.testing.assert_array_equal(store.read(rows), images[rows])
    contract = store.contract.with_statistics((10.0, -2.0, 0.5), (3.0, 0.7, 11.0))
    batch = store.batch(rows, contract)
    assert batch.dtype == torch.float32
    np.testing.assert_allclose(batch, expected_batch(images[rows], contract), rtol=1e-5, atol=1e-4)


def test_large_batches_are_shared_between_threads_and_stay_in_order(tmp_path: Path) -> None:
    images = images_of("uint16", count=300, size=40)
    store = pack(Given(images), folder=tmp_path / "store")
    contract = store.contract.with_statistics((1.0, 2.0, 3.0), (3.0, 0.7, 11.0))
    rows = np.random.default_rng(1).permutation(300)
    np.testing.assert_allclose(
        store.batch(rows, contract), expected_batch(images[rows], contract), rtol=1e-5, atol=1e-3
    )


def test_bands_are_found_by_name(tmp_path: Path) -> None:
    images = images_of("uint8")
    store = pack(Given(images), folder=tmp_path / "store")
    wanted = BandContract(("B04", "B02"), scale=(2.0, 0.5), offset=(-3.0, 1.0))
    wanted = wanted.with_statistics((1, 2), (3, 4))
    np.testing.assert_allclose(
        store.batch([3, 1], wanted), expected_batch(images[[3, 1]][:, [2, 0]], wanted), rtol=1e-5, atol=1e-4
    )
    with pytest.raises(ContractError, match="B08"):
        store.batch([0], BandContract(("B08",)).with_statistics((0,), (1,)))
    with pytest.raises(ContractError, match="statistics"):
        store.batch([0], store.contract)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("int16", -3000), ("float32", float("nan"))])
def test_invalid_pixels_are_zero_in_a_batch(tmp_path: Path, dtype: str, nodata: float) -> None:
    images = images_of(dtype)
    gone = np.random.default_rng(2).random(images.shape) < 0.3
    images[gone] = nodata
    store = pack(Given(images, nodata=nodata), folder=tmp_path / "store")
    contract = store.contract.with_statistics((5.0, 6.0, 7.0), (2.0, 3.0, 4.0))
    valid = ~np.isnan(images) if np.isnan(nodata) else images != nodata
    np.testing.assert_allclose(
        store.batch(np.arange(len(images)), contract),
        expected_batch(images, contract, valid),
        rtol=1e-5,
        atol=1e-4,
    )


def test_a_batch_that_is_still_referred_to_never_changes(tmp_path: Path) -> None:
    images = images_of("uint8", count=64)
    store = pack(Given(images), folder=tmp_path / "store")
    contract = store.contract.with_statistics((1.0, 2.0, 3.0), (3.0, 0.7, 11.0))
    random = np.random.default_rng(3)
    held: list[tuple[np.ndarray, Any]] = []
    for _ in range(60):
        rows = random.permutation(64)[: random.integers(1, 64)]
        batch = store.batch(rows, contract)
        # Hold it as itself, as a view, or as an array; let others go, so that their memory is used again.
        hold = (batch, batch[1:], batch.numpy()[:, 0], None)[random.integers(4)]
        del batch
        gc.collect(0)
        if hold is not None:
            held.append((np.array(np.asarray(hold)), hold))
        for before, now in held:
            np.testing.assert_array_equal(before, np.asarray(now))
        if len(held) > 6:
            held.pop(int(random.integers(len(held))))


def test_batches_from_several_threads_at_once(tmp_path: Path) -> None:
    images = images_of("uint16", count=200, size=24)
    store = pack(Given(images), folder=tmp_path / "store")
    contract = store.contract.with_statistics((1.0, 2.0, 3.0), (3.0, 0.7, 11.0))
    wrong: list[int] = []

    def read(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(30):
            rows = random.integers(0, 200, 50)
            if not np.allclose(
                store.batch(rows, contract), expected_batch(images[rows], contract), atol=1e-3
            ):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_process_can_be_given_the_store(tmp_path: Path) -> None:
    images = images_of("uint8")
    store = pickle.loads(pickle.dumps(pack(Given(images), folder=tmp_path / "store")))
    np.testing.assert_array_equal(store.read([5, 2]), images[[5, 2]])


@pytest.mark.parametrize("rows", [[0, 37], [-1], [[0, 1]], [0.5]])
def test_rows_outside_the_store_are_refused(tmp_path: Path, rows: Any) -> None:
    store = pack(Given(images_of("uint8")), folder=tmp_path / "store")
    with pytest.raises(InputError):
        store.read(rows)


def test_no_rows_give_an_empty_batch(tmp_path: Path) -> None:
    store = pack(Given(images_of("uint8")), folder=tmp_path / "store")
    assert store.batch([], store.contract.with_statistics((0, 0, 0), (1, 1, 1))).shape == (0, 3, 12, 12)


# Resizing


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_smaller_images_are_the_means_of_the_ground_they_cover(tmp_path: Path, dtype: str) -> None:
    images = images_of(dtype)
    store = pack(Given(images), 4, tmp_path / "store")
    means = images.reshape(-1, 3, 4, 3, 4, 3).astype(np.float64).mean(axis=(3, 5))
    np.testing.assert_allclose(store.images, means, atol=1e-5 if dtype == "float32" else 0.51)


def test_eight_bit_images_are_resized_without_aliasing(tmp_path: Path) -> None:
    stripes = np.zeros((1, 3, 64, 64), np.uint8)
    stripes[..., ::2] = 200
    store = pack(Given(stripes), 16, tmp_path / "store")
    assert abs(store.images.astype(int) - 100).max() <= 10  # 100, apart from the rims
    flat = np.full((1, 3, 10, 10), 77, np.uint8)
    assert (pack(Given(flat, mark="flat"), 25, tmp_path / "store").images == 77).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_resizing_ignores_nodata(tmp_path: Path, dtype: str) -> None:
    images = np.full((1, 3, 8, 8), 50, dtype)
    images[0, :, :4, :] = 0
    images[0, :, 4, :3] = 0
    store = pack(Given(images, nodata=0), 4, tmp_path / "store")
    assert set(np.unique(store.images)) == {0, 50}
    # Rows of two old rows each: wholly nodata, wholly nodata, at least half valid, valid.
    assert (store.images[0, 0] == 50).sum(axis=1).tolist() == [0, 0, 4, 4]


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    images = [np.full((3, 8, 8), 1, np.uint8)] * 5 + [np.full((3, 8, 9), 1, np.uint8)] * 2
    with pytest.raises(SceneError, match=r"2 sizes: 5 of 8x8, 2 of 8x9.*--size"):
        pack(Given(images), folder=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = pack(Given(images), 4, tmp_path / "store")
    assert store.shape == (7, 3, 4, 4)
    assert store.image_sizes == {"8x8": 5, "8x9": 2}


# What cannot be packed

NAN = np.full((3, 4, 4), np.nan, np.float32)
GOOD = np.ones((3, 4, 4), np.float32)


def test_unreadable_scenes_stop_the_packing_and_are_counted(tmp_path: Path) -> None:
    images = [GOOD, SceneError("scene-1.tif is truncated"), GOOD, NAN, GOOD * np.inf]
    with pytest.raises(SceneError, match=r"scene-1\.tif is truncated\. 2 more of 5 .*--skip-unreadable"):
        pack(Given(images), folder=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_skipped_scenes_are_listed_with_their_reason(tmp_path: Path) -> None:
    good = [GOOD * number for number in range(1, 4)]
    source = Given([good[0], SceneError("truncated"), good[1], NAN, good[2], GOOD * -9], nodata=-9)
    store = pack(source, folder=tmp_path / "store", skip_unreadable=True)
    assert store.kept.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(store.images, np.stack(good))
    assert [scene.row for scene in store.unreadable] == [1, 3, 5]
    assert [scene.name for scene in store.unreadable] == ["scene-1.tif", "scene-3.tif", "scene-5.tif"]
    for scene, word in zip(store.unreadable, ("truncated", "NaN", "nodata"), strict=True):
        assert word in scene.reason
    # The same store, asked for without the permission to skip, is an error again.
    with pytest.raises(SceneError, match="2 more"):
        pack(source, folder=tmp_path / "store")


def test_nothing_readable_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="None of the 2 scenes"):
        pack(Given([NAN, NAN]), folder=tmp_path / "store", skip_unreadable=True)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (np.ones((4, 4, 4), np.float32), "1 with 4 bands of float32"),
        (np.ones((3, 4, 4), np.uint8), "1 with 3 bands of uint8"),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_other_bands_or_number_types_in_the_middle(
    tmp_path: Path, odd: np.ndarray, message: str, skip: bool
) -> None:
    with pytest.raises(SceneError, match=f"9 with 3 bands of float32, {message}"):
        pack(Given([GOOD] * 5 + [odd] + [GOOD] * 4), folder=tmp_path / "store", skip_unreadable=skip)
    assert list(tmp_path.glob("store*")) == []


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_senseless_sizes_are_refused(tmp_path: Path, size: Any) -> None:
    with pytest.raises(InputError, match="size"):
        pack(Given([GOOD]), size, tmp_path / "store")


# Stores that are there already


def test_a_store_is_used_again_until_something_changes(tmp_path: Path) -> None:
    images = images_of("uint8")
    pack(Given(images), folder=tmp_path / "store")
    same = Given(images)
    pack(same, folder=tmp_path / "store")
    assert same.reads == 0
    changes: list[tuple[Given, int | None]] = [
        (Given(images, mark="b"), None),
        (Given(images, mark="b"), 6),
        (Given(images, mark="b", nodata=-1), 6),
        (Given(images[:-1], mark="b", nodata=-1), 6),
        (Given(images[:-1], mark="b", nodata=-1, bands=("x", "y", "z")), 6),
    ]
    for source, size in changes:
        store = pack(source, size, tmp_path / "store")
        assert source.reads == len(source)
        assert len(store) == len(source)
        assert store.shape[2] == (size or 12)


def test_by_default_stores_lie_in_the_cache_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_CACHE", str(tmp_path / "cache"))
    stores = [pack(Given(images_of("uint8")), size) for size in (None, 6)]
    assert cache_folder() == tmp_path / "cache"
    assert {store.folder.parent for store in stores} == {tmp_path / "cache" / "packed"}
    assert stores[0].folder != stores[1].folder
    monkeypatch.delenv("SWATH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "swath"


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 3)


@pytest.mark.parametrize("name", ["images.npy", "rows.npz", "store.json"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink, lambda file: file.write_bytes(b"\x80\x04N.")])
def test_a_damaged_store_is_named_and_packed_again(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    images = images_of("uint8")
    pack(Given(images), folder=tmp_path / "store")
    damage(tmp_path / "store" / name)
    with pytest.raises(SceneError, match="no usable packed store"):
        PackedScenes(tmp_path / "store")
    np.testing.assert_array_equal(pack(Given(images), folder=tmp_path / "store").images, images)


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for folder in (tmp_path, tmp_path / "thesis.tex", tmp_path / "thesis.tex" / "store"):
        with pytest.raises(OutputError, match=r"thesis\.tex"):
            pack(Given([GOOD]), folder=folder)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_store_that_is_cut_short_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    store = pack(Given(images_of("uint8")), folder=tmp_path / "store")
    os.truncate(tmp_path / "store" / "images.npy", 500)
    with pytest.raises(SceneError, match="cut short"):
        store.read([36])
