"""Folders of class folders: what becomes a scene, a class and a split, and what is said of the rest."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swath.errors import ContractError, InputError, SceneError, SwathError
from swath.scenes import open_scenes


def save(path: Path, value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def test_each_folder_is_a_class_and_classes_exclude_each_other(tmp_path: Path) -> None:
    for name in ("water", "été", "bare soil"):
        for number in range(3):
            save(tmp_path / name / f"{number}.png")
    scenes = open_scenes(tmp_path)
    assert scenes.labels.classes == ("bare soil", "water", "été")
    assert scenes.labels.exclusive
    assert scenes.labels.class_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert scenes.contract.classes == scenes.labels.classes
    assert scenes.contract.exclusive
    assert scenes.columns["path"][3] == "water/0.png"
    assert "water" in scenes.describe(3)


def test_single_top_folders_are_unwrapped_but_a_single_class_is_not(tmp_path: Path) -> None:
    save(tmp_path / "a" / "set" / "inner" / "water" / "0.png")
    save(tmp_path / "a" / "set" / "inner" / "field" / "0.png")
    assert open_scenes(tmp_path / "a").labels.classes == ("field", "water")
    save(tmp_path / "b" / "water" / "0.png")
    assert open_scenes(tmp_path / "b").labels.classes == ("water",)


def test_split_folders_above_the_classes_become_a_column(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("field", "water"):
            save(tmp_path / split / name / "0.png")
    scenes = open_scenes(tmp_path)
    assert scenes.labels.classes == ("field", "water")
    assert sorted(set(scenes.columns["split"])) == ["test", "train", "val"]


def test_classes_may_be_called_like_splits_when_images_lie_directly_in_them(tmp_path: Path) -> None:
    save(tmp_path / "train" / "0.png")
    save(tmp_path / "test" / "0.png")
    assert open_scenes(tmp_path).labels.classes == ("test", "train")


def test_what_is_left_out_is_said_with_counts(tmp_path: Path) -> None:
    save(tmp_path / "water" / "0.png")
    save(tmp_path / "field" / "0.png")
    (tmp_path / "field" / "notes.txt").write_text("x")
    (tmp_path / "field" / "0.aux.xml").write_text("x")
    (tmp_path / "field" / ".DS_Store").write_text("x")
    with pytest.warns(UserWarning, match=r"1 files are not images .*1 x \.txt.*field/notes\.txt"):
        assert len(open_scenes(tmp_path)) == 2
    (tmp_path / "field" / "notes.txt").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="hold no image and are no classes: empty"):
        assert open_scenes(tmp_path).labels.classes == ("field", "water")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0.png", "1.png"], "2 images lie elsewhere, such as 0.png"),
        (["water/0.png", "field/1.png", "2.png"], "1 images lie elsewhere, such as 2.png"),
        (["north/water/0.png", "south/water/0.png"], "2 images lie elsewhere, such as north/water/0.png"),
        ([], "there are no images"),
    ],
)
def test_other_layouts_are_refused_with_an_example(tmp_path: Path, names: list[str], said: str) -> None:
    for name in names:
        save(tmp_path / name)
    with pytest.raises(InputError, match=said):
        open_scenes(tmp_path)


def test_a_missing_folder_is_named_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "eurosat").mkdir()
    with pytest.raises(SceneError, match=r"no file or folder .*eurosta\. Did you mean .*eurosat\?"):
        open_scenes(tmp_path / "eurosta")


def test_a_link_back_up_does_not_loop(tmp_path: Path) -> None:
    save(tmp_path / "data" / "water" / "0.png")
    save(tmp_path / "data" / "field" / "0.png")
    (tmp_path / "data" / "water" / "up").symlink_to(tmp_path / "data", target_is_directory=True)
    assert len(open_scenes(tmp_path / "data")) == 2
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("water", "field"):
        (linked / name).symlink_to(tmp_path / "data" / name, target_is_directory=True)
    (tmp_path / "data" / "water" / "up").unlink()
    assert len(open_scenes(linked)) == 2


def test_fingerprint_follows_the_files_and_not_the_reading(tmp_path: Path) -> None:
    path = save(tmp_path / "water" / "0.png")
    save(tmp_path / "field" / "0.png")
    scenes = open_scenes(tmp_path)
    before = scenes.fingerprint()
    scenes.read(0)
    assert open_scenes(tmp_path).fingerprint() == before
    os.utime(path, ns=(1, 1))
    touched = open_scenes(tmp_path).fingerprint()
    assert touched != before
    assert open_scenes(tmp_path, nodata=0).fingerprint() != touched
    save(tmp_path / "water" / "1.png")
    assert open_scenes(tmp_path).fingerprint() != touched


def test_images_of_several_kinds_are_said_once_with_counts_and_examples(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / "water" / f"{number}.png")
    for number in range(2):
        save(tmp_path / "field" / f"{number}.png", mode="L")
    scenes = open_scenes(tmp_path)
    with pytest.raises(ContractError) as caught:
        scenes.read_many(range(len(scenes)))
    message = str(caught.value)
    assert "5 with 3 bands of uint8 (red, green, blue)" in message
    assert "2 with 1 band of uint8 (band_1), such as" in message
    assert "field/0.png" in message


def test_one_damaged_image_does_not_stop_the_others(tmp_path: Path) -> None:
    damaged = save(tmp_path / "field" / "0.png")
    damaged.write_bytes(b"")
    save(tmp_path / "field" / "1.png", value=3)
    scenes = open_scenes(tmp_path)
    with pytest.raises(SceneError, match=r"field/0\.png is empty"):
        scenes.read(0)
    assert scenes.read(1).shape == (3, 8, 8)


def test_when_no_image_can_be_read_the_first_reason_is_given(tmp_path: Path) -> None:
    for name in ("field", "water"):
        save(tmp_path / name / "0.png").write_bytes(b"hello")
    with pytest.raises(SceneError, match=r"None of the 2 images .*field/0\.png is not an image"):
        open_scenes(tmp_path)


def test_reading_from_many_threads_gives_the_same_images(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / "water" / f"{number:02}.png", value=number)
        save(tmp_path / "field" / f"{number:02}.png", value=number + 100)
    scenes = open_scenes(tmp_path)
    expected = [scenes.read(index) for index in range(len(scenes))]
    wrong: list[int] = []

    def check() -> None:
        wrong.extend(i for i in range(len(scenes)) if not np.array_equal(scenes.read(i), expected[i]))

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_options_of_tables_are_refused_for_class_folders(tmp_path: Path) -> None:
    save(tmp_path / "water" / "0.png")
    with pytest.raises(InputError, match="without a table"):
        open_scenes(tmp_path, complete=True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user who may be refused")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "water" / "0.png")
    (tmp_path / "water").chmod(0)
    try:
        with pytest.raises(SwathError, match="cannot be read"):
            open_scenes(tmp_path)
    finally:
        (tmp_path / "water").chmod(0o755)
