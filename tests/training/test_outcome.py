"""What a training leaves: the kept network, the progress, the caller's state, and clear errors."""

import json
import math

import numpy as np
import pytest
import torch

from swath.errors import InputError, RunError
from swath.training.loop import make_accelerator


def test_best_epoch_is_kept_and_patience_stops(problem, tmp_path):
    weights, scores = [], iter([0.1, 0.5, 0.4, 0.5, 0.2])

    def validate(network):
        weights.append([value.detach().clone() for value in network.parameters()])
        return next(scores)

    last = []
    kept, history = problem.fit(
        tmp_path,
        validate=validate,
        on_last=lambda network: last.extend(value.detach().clone() for value in network.parameters()),
        settings={"epochs": 30, "patience": 3},
    )
    assert [record["validation_score"] for record in history] == [0.1, 0.5, 0.4, 0.5, 0.2]
    assert all(torch.equal(mine, best) for mine, best in zip(kept.parameters(), weights[1], strict=True))
    assert not kept.training
    assert all(torch.equal(mine, final) for mine, final in zip(last, weights[4], strict=True))
    again, same = problem.fit(tmp_path, validate=validate, settings={"epochs": 30, "patience": 3})
    assert same == history  # nothing is left to do
    assert all(torch.equal(mine, best) for mine, best in zip(again.parameters(), weights[1], strict=True))


def test_a_score_that_is_no_number_is_an_error(problem, tmp_path):
    with pytest.raises(RunError, match="validation score is nan"):
        problem.fit(tmp_path, validate=lambda network: math.nan)


def test_progress_is_one_line_an_epoch_and_strict(problem, tmp_path):
    (tmp_path / "progress.jsonl").write_text('{"epoch": 99}\n')  # of an epoch that never got its checkpoint
    _, history = problem.fit(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert lines == history
    assert [set(line) for line in lines] == [
        {"epoch", "step", "train_loss", "learning_rate", "seconds", "scenes_per_second"}
    ] * 3
    with pytest.raises(InputError, match="JSON"):
        problem.fit(tmp_path / "a", on_epoch=lambda method, network, record: record.update(figure=math.nan))
    with pytest.raises(InputError, match="JSON"):
        problem.fit(
            tmp_path / "b", on_epoch=lambda method, network, record: record.update(figure=np.zeros(2))
        )


def test_callers_random_state_is_left_alone(problem, tmp_path):
    before = torch.get_rng_state()
    problem.fit(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_errors_of_the_reader_arrive_as_they_are(problem, tmp_path):
    def read(rows):
        raise RunError("the store is gone")

    with pytest.raises(RunError, match="the store is gone"):
        problem.fit(tmp_path, read=read)


def test_processes_that_cannot_find_each_other_are_an_error(monkeypatch):
    make_accelerator()
    monkeypatch.setenv("WORLD_SIZE", "2")  # what a launcher says, where this process stands alone
    with pytest.raises(RunError, match=r"2 processes were started, but this one sees 1.*ACCELERATE_USE_CPU"):
        make_accelerator()
