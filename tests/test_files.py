"""Nothing at a final path is ever partial, whatever happens while it is written."""

import json
import os
import signal
import subprocess
import sys

import pytest

from swath.errors import OutputError, RunError
from swath.files import append_line, new_folder, write_json, write_text, writing


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one")
    write_text(path, "zwei – 2")
    assert path.read_text(encoding="utf-8") == "zwei – 2"
    assert entries(path.parent) == ["a.txt"]


def test_files_are_shared_like_any_other(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), RunError("theirs")])
def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with writing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["a.txt"]


def test_errors_of_the_system_name_the_path(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (lambda path: write_text(path, ""), lambda path: append_line(path, "x")):
        path = tmp_path / "file" / "a.txt"
        with pytest.raises(OutputError, match=str(path)):
            write(path)
    with pytest.raises(OutputError, match="folder"), new_folder(tmp_path / "file" / "b"):
        pass
    with pytest.raises(OutputError, match="Cannot write"):
        write_text(tmp_path / ("n" * 300), "")


def test_folders_are_replaced_whole(tmp_path):
    target = tmp_path / "store"
    for content in ("one", "two"):
        with new_folder(target) as folder:
            (folder / "part").mkdir()
            (folder / "part" / content).write_text(content)
            assert entries(tmp_path) != ["store"]
    assert entries(target / "part") == ["two"]

    def fail():
        with new_folder(target) as folder:
            (folder / "half").write_text("")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (it is ours)
        fail()
    assert entries(target / "part") == ["two"]
    assert entries(tmp_path) == ["store"]


def test_json_is_strict(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 0.1, "b": None, "ä": "–"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 0.1, "b": None, "ä": "–"}
    assert "ä" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["a"] == 0.1


def test_lines_are_appended_one_each(tmp_path):
    for line in ("one", "two\n"):
        append_line(tmp_path / "a.txt", line)
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"


FULL = """
import resource, signal
from swath.errors import OutputError
from swath.files import append_line, new_folder, write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
def folder():
    with new_folder("folder") as path:
        (path / "a").write_text("x" * 5000)
for action in (lambda: write_text("a.txt", "x" * 5000), folder, lambda: append_line("b.txt", "x" * 5000)):
    try:
        action()
    except OutputError as error:
        print(error)
"""


def test_a_full_disk_is_an_error_with_the_path(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    done = subprocess.run(
        [sys.executable, "-c", FULL], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    said = done.stdout.splitlines()
    assert len(said) == 3
    assert all("File too large" in line for line in said)
    assert "a.txt" in said[0]
    assert "folder" in said[1]
    assert (tmp_path / "a.txt").read_text() == "old"
    assert entries(tmp_path) == ["a.txt", "b.txt"]


KILLED = """
import os, signal
from swath.files import writing
with writing("a.txt") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "old"
    assert all(name.startswith(".a-") for name in entries(tmp_path) if name != "a.txt")
