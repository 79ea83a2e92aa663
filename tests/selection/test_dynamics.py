"""What a training shows of each scene: by the formulas, in float64; and what scores are made of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from swath.errors import InputError, RunError
from swath.labels import LabelTable
from swath.methods import METHODS
from swath.selection.scores import aum, contradicted, el2n, forgetting, prediction_entropy, tdds
from swath.testing.processes import start_processes
from swath.training.checkpoint import read_tensors
from swath.training.dynamics import Dynamics, Recorded, check_recordable, load_dynamics, measure
from swath.training.loop import fit
from swath.training.settings import Settings


def made(**columns: list[list[float]]) -> Dynamics:
    """Dynamics with some columns; the others are zero."""
    shape = np.shape(next(iter(columns.values())))
    fields = {name: np.zeros(shape, np.float16) for name in ("difference", "el2n", "margin", "entropy")}
    fields |= {"correct": np.ones(shape, np.int8)}
    for name, values in columns.items():
        fields[name] = np.array(values, fields[name].dtype)
    return Dynamics(**fields)


def test_single_label_figures_are_the_formulas() -> None:
    random = np.random.default_rng(0)
    now, before = (random.dirichlet(np.ones(4), 6).astype(np.float32) for _ in range(2))
    labels = LabelTable.from_class_index("abcd", [0, 1, 2, 3, -1, 2])
    drawn, drawn_before = np.array([1, 1, 1, 0, 1, 1], bool), np.array([1, 1, 1, 1, 1, 0], bool)
    shown = measure(now, before, labels, drawn, drawn_before)
    for scene, label in enumerate(labels.class_index):
        p, q = now[scene].astype(float), before[scene].astype(float)
        difference = abs(sum(a * (np.log(a + 1e-8) - np.log(b + 1e-8)) for a, b in zip(p, q, strict=True)))
        want = difference if drawn[scene] and drawn_before[scene] else np.nan
        assert shown.difference[scene, 0] == pytest.approx(want, rel=2e-3, abs=1e-4, nan_ok=True)
        want = -sum(a * np.log(a) for a in p) if drawn[scene] else np.nan
        assert shown.entropy[scene, 0] == pytest.approx(want, rel=2e-3, nan_ok=True)
        asked = drawn[scene] and label >= 0
        onehot = np.eye(4)[label]
        want = np.linalg.norm(p - onehot) if asked else np.nan
        assert shown.el2n[scene, 0] == pytest.approx(want, rel=2e-3, nan_ok=True)
        want = p[label] - np.delete(p, label).max() if asked else np.nan
        assert shown.margin[scene, 0] == pytest.approx(want, rel=2e-3, abs=1e-3, nan_ok=True)
        assert shown.correct[scene, 0] == (int(p.argmax() == label) if asked else -1)


def test_multi_label_figures_are_about_known_labels_only() -> None:
    random = np.random.default_rng(1)
    now, before = random.random((5, 3)).astype(np.float32), random.random((5, 3)).astype(np.float32)
    state = np.array([[1, 0, -1], [0, 0, 1], [-1, -1, -1], [1, -1, -1], [-1, 1, 0]], np.int8)
    labels, every = LabelTable(("a", "b", "c"), state), np.ones(5, bool)
    shown = measure(now, before, labels, every, every)
    for scene in range(5):
        known = state[scene] >= 0
        if not known.any():
            assert np.isnan(
                [shown.difference[scene], shown.el2n[scene], shown.margin[scene], shown.entropy[scene]]
            ).all()
            assert shown.correct[scene] == -1
            continue
        p, q, y = now[scene, known].astype(float), before[scene, known].astype(float), state[scene, known]
        change = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        assert shown.difference[scene, 0] == pytest.approx(np.mean(change), rel=2e-3, abs=1e-4)
        assert shown.el2n[scene, 0] == pytest.approx(np.sqrt(np.mean((p - y) ** 2)), rel=2e-3)
        assert shown.margin[scene, 0] == pytest.approx(
            np.mean(np.where(y == 1, 2 * p - 1, 1 - 2 * p)), rel=2e-3, abs=1e-3
        )
        assert shown.entropy[scene, 0] == pytest.approx(
            np.mean(-p * np.log(p) - (1 - p) * np.log(1 - p)), rel=2e-3
        )
        assert shown.correct[scene, 0] == int(((p >= 0.5) == (y == 1)).all())
    # Whatever the network says of a class that is unknown changes nothing.
    other = np.where(state < 0, 0.99, now).astype(np.float32)
    again = measure(other, np.where(state < 0, 0.01, before).astype(np.float32), labels, every, every)
    for name in ("difference", "el2n", "margin", "entropy", "correct"):
        np.testing.assert_array_equal(getattr(shown, name), getattr(again, name))


def test_tdds_slides_windows_and_weighs_the_newest_most() -> None:
    random = np.random.default_rng(2)
    difference = random.random((4, 9)).astype(np.float16)
    difference[:, 0] = np.nan  # the first epoch has none before it
    shown, (epochs, window, decay) = made(difference=difference), (8, 5, 0.7)
    found = tdds(shown, epochs=epochs, window=window, decay=decay)
    for scene in range(4):
        delta = difference[scene, 1:].astype(float)  # delta[t]: from epoch t to t + 1
        total = 0.0
        for k in range(epochs - window + 1):
            part = delta[k : k + window - 1]
            total += decay * (1 - decay) ** (epochs - window - k) * np.linalg.norm(part - part.mean())
        assert found[scene] == pytest.approx(total, rel=1e-5)
    # The default is one window with weight 0.9.
    many = made(difference=np.concatenate([[[np.nan]], random.random((1, 12))], axis=1))
    part = many.difference[0, 1:10].astype(float)
    assert tdds(many)[0] == pytest.approx(0.9 * np.linalg.norm(part - part.mean()), rel=1e-5)
    with pytest.raises(InputError, match=r"looks at 10 epochs and the run recorded 9.*by-options.epochs 9"):
        tdds(shown)
    with pytest.raises(InputError, match="windows of 2"):
        tdds(shown, epochs=5, window=2)


def test_scores_of_scenes_that_some_epochs_did_not_draw() -> None:
    nan = np.nan
    shown = made(
        difference=[[nan, 1, nan, 3], [nan, nan, nan, 1], [nan, nan, nan, nan]],
        el2n=[[0.5, nan, 1, 0], [nan] * 4, [1, 1, 1, 1]],
        margin=[[1, nan, -1, 0.5], [nan] * 4, [-1, -1, -1, -1]],
        entropy=[[1, 2, 3, nan], [nan] * 4, [0, 0, 0, 1]],
        correct=[[1, -1, 0, 1], [-1] * 4, [0, 0, 0, 0]],
    )
    assert tdds(shown, epochs=4, window=4)[0] == pytest.approx(0.9 * np.sqrt(2))
    assert np.isnan(tdds(shown, epochs=4, window=4)[1:]).all()
    np.testing.assert_allclose(el2n(shown), [0.5, nan, 1])
    np.testing.assert_allclose(el2n(shown, epochs=1), [0.5, nan, 1])
    np.testing.assert_allclose(aum(shown), [-1 / 6, nan, 1], rtol=1e-3)
    np.testing.assert_allclose(prediction_entropy(shown), [3, nan, 1])
    np.testing.assert_array_equal(forgetting(shown), [1, nan, np.inf])
    np.testing.assert_array_equal(contradicted(shown), [False, False, True])


def test_contradicted_looks_at_the_last_three_epochs_that_drew_the_scene() -> None:
    correct = np.random.default_rng(2).integers(-1, 2, (500, 9))
    latest = [[right for right in row if right >= 0][-3:] for row in correct]
    expected = [bool(row) and not any(row) for row in latest]
    assert 0 < sum(expected) < 500
    np.testing.assert_array_equal(contradicted(made(correct=correct)), expected)


class _Tiny:
    """Images of two classes, a network without head, and one with."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.index = np.arange(21) % 3
        images = random.normal(0, 0.5, (21, 2, 6, 6)).astype(np.float32)
        images[:, 0] += self.index[:, None, None]
        self.images = torch.from_numpy(images)
        self.labels = LabelTable.from_class_index("abc", np.where(self.index == 2, -1, self.index))

    def run(
        self, folder: Path, *, epochs: int = 4, stop: int | None = None, method: str = "cross-entropy"
    ) -> Recorded:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
        recorded = Recorded(METHODS[method]())

        def on_epoch(_: object, __: object, record: dict[str, float]) -> None:
            recorded.keep(folder, int(record["epoch"]))
            if stop is not None and record["epoch"] == stop:
                raise KeyboardInterrupt

        settings = Settings(epochs=epochs, batch_size=7, learning_rate=0.01, augment=("flips",))
        fit(
            network,
            recorded,
            lambda rows: self.images[rows],
            np.arange(21),
            self.labels,
            settings,
            folder,
            on_epoch=on_epoch,
        )
        recorded.gather(folder, epochs)
        return recorded


def test_probabilities_are_those_of_the_training_pass(tmp_path: Path) -> None:
    tiny, calls = _Tiny(), []
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    network.register_forward_hook(lambda _, given, logits: calls.append(len(logits)))
    recorded = Recorded(METHODS["cross-entropy"]())
    settings = Settings(epochs=1, batch_size=30, learning_rate=0.0001, augment=())
    expected = network(tiny.images).softmax(dim=1).detach()
    calls.clear()
    fit(network, recorded, lambda rows: tiny.images[rows], np.arange(21), tiny.labels, settings, tmp_path)
    assert calls == [21]  # one step, one pass
    torch.testing.assert_close(recorded.before, expected, rtol=1e-5, atol=1e-6)
    assert recorded.shown is not None
    np.testing.assert_array_equal(recorded.shown.correct[:, 0] == -1, tiny.index == 2)
    assert np.isnan(recorded.shown.difference).all()


def test_a_killed_training_records_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    tiny = _Tiny()
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    tiny.run(tmp_path / "whole")
    for stop in (0, 2):  # after its dynamics are written, before its checkpoint is
        with pytest.raises(KeyboardInterrupt):
            tiny.run(tmp_path / "broken", stop=stop)
    tiny.run(tmp_path / "broken")
    one, other = (read_tensors(tmp_path / name / "dynamics.safetensors")[0] for name in ("whole", "broken"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.shape == (21, 4)
        np.testing.assert_array_equal(value.numpy(), other[name].numpy())
    shown = load_dynamics(tmp_path / "whole")
    assert np.isnan(shown.difference[:, 0]).all()
    assert np.isfinite(shown.difference[:, 1:]).all()
    # Nine bytes a scene and epoch, and a header.
    assert sum(value.nbytes for value in one.values()) == 9 * 21 * 4


@pytest.mark.slow
def test_two_processes_record_what_one_does(tmp_path: Path) -> None:
    script = Path(__file__).with_name("recorded.py")
    for name, count in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        start_processes([sys.executable, str(script), str(tmp_path / name)], count=count)
    one, two = (load_dynamics(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_array_equal(one.correct, two.correct)
    for name in ("difference", "el2n", "margin", "entropy"):
        values = (getattr(shown, name).astype(float) for shown in (one, two))
        np.testing.assert_allclose(*values, rtol=2e-3, atol=1e-3)
    assert np.isfinite(two.entropy).all()  # the scenes of both processes are there


def test_recording_changes_no_weight(tmp_path: Path) -> None:
    tiny, kept = _Tiny(), []
    for record in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
        method = METHODS["fixmatch"]()
        folder = tmp_path / str(record)
        folder.mkdir()
        settings = Settings(epochs=2, batch_size=7)
        model, _ = fit(
            network,
            Recorded(method) if record else method,
            lambda rows: tiny.images[rows],
            np.arange(21),
            tiny.labels,
            settings,
            folder,
        )
        kept.append(model.state_dict())
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_methods_that_mix_scenes_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="adagc, with these options, never has the plain probabilities"):
        check_recordable(METHODS["adagc"](mixup=0.4), "adagc")
    with pytest.raises(InputError, match="mime"):
        check_recordable(METHODS["mime"](), "mime")
    check_recordable(METHODS["adagc"](), "adagc")
    check_recordable(METHODS["ddsc"](base="fixmatch"), "ddsc")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Record them: swath train DATA --record-dynamics"):
        load_dynamics(tmp_path)
    (tmp_path / "dynamics.safetensors").write_bytes(b"nonsense")
    with pytest.raises(RunError, match="cannot be read"):
        load_dynamics(tmp_path)
