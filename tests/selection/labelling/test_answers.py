"""The log of answers: nothing that was acknowledged is ever lost, and what is damaged is said or repaired."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swath.errors import InputError, LabelError, OutputError
from swath.selection.labelling.answers import Answer, AnswerLog, check_labels


def test_lines_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "a" / "log.jsonl"
    records = [{"event": "x", "n": n, "text": "水 \u2028 </script>\n"} for n in range(5)]
    for start in (0, 2):
        log = AnswerLog(path)
        assert log.lines == records[:start]
        for record in records[start : start + 2] if start == 0 else records[2:]:
            log.append(record)
        log.close()
    log = AnswerLog(path)
    assert log.lines == records
    log.close()


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl")
    with pytest.raises(InputError, match="another `swath label`"):
        AnswerLog(tmp_path / "log.jsonl")
    log.close()
    AnswerLog(tmp_path / "log.jsonl").close()


@pytest.mark.parametrize("torn", [b'{"event": "ans', b"\x00\x00\x00\x00\n", b'{"a": "\xff', b"nonsense\n\n"])
def test_a_torn_last_line_is_cut_off_and_the_original_kept(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log.jsonl"
    whole = b'{"n": 1}\n{"n": 2}\n'
    path.write_bytes(whole + torn)
    with pytest.warns(UserWarning, match="line 3"):
        log = AnswerLog(path)
    assert log.lines == [{"n": 1}, {"n": 2}]
    log.append({"n": 3})
    log.close()
    assert path.read_bytes() == whole + b'{"n": 3}\n'
    assert (tmp_path / "log.jsonl.torn-1").read_bytes() == whole + torn


def test_a_line_whose_end_an_editor_took_away_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}')
    log = AnswerLog(path)
    log.append({"n": 3})
    log.close()
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_nonsense_in_the_middle_is_refused_and_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    content = b'{"n": 1}\n[1, 2]\n{"n": 2}\n'
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"line 2 is not a JSON object: '\[1, 2\]'"):
        AnswerLog(path)
    assert path.read_bytes() == content
    with pytest.raises(InputError, match="line 2"):  # not "another swath label": the lock was let go
        AnswerLog(path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = AnswerLog(path)
    log.append({"n": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel itself refuses to let the file grow, as a full disk does: part of the line is written, then an error.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OutputError, match="is not kept"):
            log.append({"n": 2, "text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b'{"n": 1}\n'
    log.append({"n": 3})
    log.close()
    assert path.read_bytes() == b'{"n": 1}\n{"n": 3}\n'


def test_what_was_written_before_a_kill_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from swath.selection.labelling.answers import AnswerLog\n"
        "log = AnswerLog(Path(sys.argv[1]))\n"
        "for n in range(20):\n"
        "    log.append({'n': n})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=False, timeout=240)
    assert done.returncode == -signal.SIGKILL
    log = AnswerLog(path)  # the lock ended with its process
    assert [line["n"] for line in log.lines] == list(range(20))
    log.close()


def test_an_answer_comes_back_as_it_was() -> None:
    answer = Answer(
        "i",
        "a/b.png",
        "anna",
        {"water": 1},
        False,
        2,
        "2026-01-02T03:04:05.678+00:00",
        1.25,
        [("water", 0.5)],
        77,
    )
    assert Answer.from_record(json.loads(json.dumps(answer.record()))) == answer


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"water": 2}},
        {"labels": {"water": "1"}},
        {"labels": ["water"]},
        {"at": "yesterday"},
        {"seconds": "long"},
        {"seconds": float("nan")},
        {"scene": 7},
        {"user": ""},
        {"suggested": [["water"]]},
        {"bytes": None},
    ],
)
def test_records_that_are_no_answers_are_refused(change: dict[str, object]) -> None:
    record = Answer("i", "a", "anna", {"water": 1}, False, 1, "2026-01-02T03:04:05.678+00:00", 1.0).record()
    with pytest.raises(LabelError):
        Answer.from_record(record | change)


@pytest.mark.parametrize(
    ("mode", "labels", "unclear", "reason"),
    [
        ("one-class", {"water": 1}, False, None),
        ("one-class", {"water": 1, "forest": 0}, False, "exactly one"),
        ("one-class", {"water": 0}, False, "exactly one"),
        ("one-positive", {"water": 1}, False, None),
        ("one-positive", {"water": 1, "forest": 1}, False, "exactly one"),
        ("full", {"water": 0, "forest": 1}, False, None),
        ("full", {}, False, "says nothing"),
        ("full", {}, True, None),
        ("full", {"water": 1}, True, "cannot be told"),
        ("full", {"sea": 1}, False, "class 'sea'"),
    ],
)
def test_each_kind_of_labelling_has_its_answers(
    mode: str, labels: dict[str, int], unclear: bool, reason: str | None
) -> None:
    def check() -> None:
        check_labels(labels, unclear=unclear, classes=("water", "forest"), mode=mode)  # type: ignore[arg-type]

    if reason is None:
        check()
    else:
        with pytest.raises(LabelError, match=reason):
            check()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        AnswerLog(tmp_path / "file" / "log.jsonl")
    assert os.listdir(tmp_path) == ["file"]
