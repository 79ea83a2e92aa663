"""Curricula over domains: whom they draw when, what they measure, and that they leave every base method as it is."""

import math

import numpy as np
import pytest
import torch

from swath.encoders import build_model
from swath.errors import InputError, LabelError, UnknownNameError
from swath.labels import LabelTable
from swath.methods import METHODS, Batch
from swath.methods.ddsc import DDSC, ddsc_weights, known_loss
from swath.methods.entropy_curriculum import EntropyCurriculum, active_share
from swath.training.checkpoint import read_tensors
from swath.training.loop import fit
from swath.training.settings import Settings

SCENES = 60


def images():
    """Half of the scenes show their domain in a third band; the class shows in the first."""
    random = np.random.default_rng(0)
    values = random.normal(0, 0.3, (SCENES, 3, 16, 16)).astype(np.float32)
    values[:, 0] += 2 * (np.arange(SCENES) % 2)[:, None, None]
    values[shown(), 2] += 4 * domain()[shown(), None, None] - 2
    return torch.from_numpy(values)


def domain():
    return np.arange(SCENES) // 2 % 2


def shown():
    return np.arange(SCENES) // 4 % 2 == 0


def labels(*, exclusive=True, domains=None):
    state = np.eye(2, dtype=np.int8)[np.arange(SCENES) % 2]
    columns = {"domain": domain() if domains is None else domains}
    return LabelTable(("water", "forest"), state, exclusive=exclusive, columns=columns)


def train(
    folder, method, *, epochs=10, exclusive=True, table=None, read=None, network="scene_mixer", **others
):
    settings = Settings(epochs=epochs, batch_size=12, learning_rate=0.005, augment=(), **others)
    table = labels(exclusive=exclusive) if table is None else table
    model = build_model(network, ("red", "green", "blue"), table.classes, size=16)
    pictures = images()
    asked = [] if read is None else read

    def rows(wanted):
        asked.append(wanted)
        return pictures[wanted]

    kept, history = fit(model, method, rows, np.arange(SCENES), table, settings, folder)
    return kept, history, method


def drawn(asked, epochs):
    """How often each scene was read in each epoch."""
    steps = len(asked) // epochs
    parts = [np.concatenate(asked[start : start + steps]) for start in range(0, len(asked), steps)]
    return np.array([np.bincount(part, minlength=SCENES) for part in parts])


def test_the_active_share_grows_as_the_formula_says():
    for epoch in range(6, 60):
        expected = min(1.0, 0.5 + 0.5 * (epoch - 6) / (0.6 * 60 - 6))
        assert active_share(epoch, 60, begins=6, first=0.5, full_at=0.6) == pytest.approx(expected)
    assert active_share(1, 2, begins=1, first=0.5, full_at=0.5) == 1


def test_scenes_whose_domain_does_not_show_come_first(tmp_path):
    asked = []
    _, history, method = train(tmp_path, EntropyCurriculum(), read=asked)
    counts = drawn(asked, 10)
    assert counts.sum(axis=1).tolist() == [SCENES] * 10  # an epoch keeps its steps
    entropy = method.entropy.numpy()
    assert entropy[~shown()].mean() > entropy[shown()].mean() + 0.3
    for epoch in range(10):
        share = 1.0 if epoch == 0 else min(1.0, 0.5 + 0.5 * (epoch - 1) / 5)
        active = np.argsort(-entropy, kind="stable")[: math.ceil(share * SCENES)]
        assert set(np.flatnonzero(counts[epoch])) <= set(active)
        assert counts[epoch][active].min() >= 1  # all of them, and none much more than others
        assert counts[epoch].max() - counts[epoch][active].min() <= 1
        assert history[epoch]["active_share"] == pytest.approx(share)
    assert counts[6:].min() == 1
    assert 0 < history[0]["domain_entropy"] < 1
    assert method.report()["domain_entropy"] == pytest.approx(history[0]["domain_entropy"])


@pytest.mark.parametrize(
    ("base", "exclusive"), [("cross-entropy", True), ("adagc", False), ("fixmatch", True)]
)
def test_a_curriculum_that_leaves_nothing_out_is_the_base_method_to_the_bit(tmp_path, base, exclusive):
    alone, plain, _ = train(tmp_path / "alone", METHODS[base](), epochs=3, exclusive=exclusive)
    wrapped = EntropyCurriculum(base=base, first_share=1.0)
    around, history, _ = train(tmp_path / "around", wrapped, epochs=3, exclusive=exclusive)
    assert [record["train_loss"] for record in history] == [record["train_loss"] for record in plain]
    others = around.state_dict()
    assert all(torch.equal(value, others[name]) for name, value in alone.state_dict().items())


@pytest.mark.parametrize(
    "make",
    [
        lambda: EntropyCurriculum(base="fixmatch", base_options={"thresholds": "flexmatch"}, full_at=0.9),
        lambda: DDSC(base="fixmatch", base_options={"thresholds": "freematch"}),
    ],
)
def test_interrupted_and_resumed_it_draws_and_ends_the_same(tmp_path, make):
    state = labels().state.copy()
    state[6:] = -1  # few labels: the base method draws by weights as well
    table = LabelTable(("water", "forest"), state, exclusive=True, columns={"domain": domain()})
    whole = []
    train(tmp_path / "whole", make(), epochs=5, table=table, read=whole)
    for stop in (1, 3):
        method, folder, before = make(), tmp_path / f"broken-{stop}", []
        goes_on = method.after_epoch

        def after_epoch(epoch, history, goes_on=goes_on, stop=stop):
            if epoch == stop:
                raise KeyboardInterrupt
            return goes_on(epoch, history)

        method.after_epoch = after_epoch
        with pytest.raises(KeyboardInterrupt):
            train(folder, method, epochs=5, table=table, read=before)
        asked = []
        train(folder, make(), epochs=5, table=table, read=asked)
        assert [part.tolist() for part in asked] == [part.tolist() for part in whole[stop * 5 :]]
        one, other = (
            read_tensors(path / "checkpoint.safetensors")[0] for path in (tmp_path / "whole", folder)
        )
        assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


def started(method, table=None, network="small_resnet"):
    table = labels() if table is None else table
    model = build_model(network, ("red", "green", "blue"), table.classes, size=16)
    method.epochs = 10
    method.start(table, model)
    return method, model.train()


def batch_of(rows, table=None):
    table = labels() if table is None else table
    return Batch(
        image=images()[rows], labels=torch.from_numpy(table.state[rows]), index=torch.from_numpy(rows)
    )


def test_measuring_sees_what_the_network_predicts_and_leaves_it_as_it_was():
    method, model = started(DDSC())
    frozen = next(part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d))
    frozen.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    rows = np.array([3, 8, 21])
    method.epoch = 4
    logits = method.measure(model, batch_of(rows))
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not logits.requires_grad
    with torch.no_grad():
        model.eval()
        features = model.features(images()[rows])
        torch.testing.assert_close(logits, model(images()[rows]))
    wide = features.shape[1] > 64
    expected = features @ method.projection.float() / 8 if wide else features
    torch.testing.assert_close(method.features[rows], expected)
    assert method.measured_in[rows].tolist() == [5, 5, 5]
    assert int((method.measured_in > 0).sum()) == 3


def test_wide_features_keep_their_distances_in_few_numbers():
    method, model = started(DDSC(), network="scene_mixer")
    with torch.no_grad():
        features = model.eval().features(images())
        method.measure(model.train(), batch_of(np.arange(SCENES)))
    assert features.shape[1] == 128
    assert method.features.shape[1] == 64
    in_full = method.features.clone()
    with torch.autocast("cpu", torch.bfloat16):
        method.measure(model.train(), batch_of(np.arange(SCENES)))
    torch.testing.assert_close(method.features, in_full, rtol=0.02, atol=0.05)
    method.features.copy_(in_full)
    ratio = torch.pdist(method.features) / torch.pdist(features)
    assert 0.9 < float(ratio.median()) < 1.1


def test_only_scenes_of_the_epoch_are_judged_anew():
    method, model = started(DDSC())
    method.epoch = 2
    seen = np.flatnonzero(np.arange(SCENES) % 3 > 0)
    method.measure(model, batch_of(seen))
    method.entropy.fill_(0.123)
    method.update_entropy(2)
    left = np.setdiff1d(np.arange(SCENES), seen)
    assert bool((method.entropy[left] == torch.tensor(0.123)).all())
    assert bool((method.entropy[seen] != torch.tensor(0.123)).all())


@pytest.mark.parametrize("exclusive", [True, False])
def test_distance_from_known_labels_is_that_of_the_formula(exclusive):
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (8, 3))
    state = (
        np.where(np.arange(3) == random.integers(0, 3, (8, 1)), 1, 0)
        if exclusive
        else random.integers(-2, 2, (8, 3))
    )
    state[2] = -5
    loss, known = known_loss(torch.from_numpy(logits), torch.from_numpy(state), exclusive=exclusive)
    for row in range(8):
        if row == 2:
            expected = 0.0
        elif exclusive:
            expected = np.log(np.exp(logits[row]).sum()) - logits[row][state[row] == 1][0]
        else:
            entries = np.log1p(np.exp(np.where(state[row] == 1, -1, 1) * logits[row]))[state[row] >= 0]
            expected = entries.mean() if len(entries) else 0.0
        assert loss[row].item() == pytest.approx(expected, rel=1e-9)
        assert bool(known[row]) == bool((state[row] >= 0).any())
    extreme = known_loss(torch.tensor([[1e4, -1e4]]), torch.tensor([[0, 1]]), exclusive=exclusive)[0]
    assert bool(torch.isfinite(extreme).all())


def test_ddsc_weights_are_those_of_the_formula():
    random = np.random.default_rng(2)
    entropy, progress = random.random(50), random.normal(0, 0.3, 50)
    measured = random.random(50) < 0.8
    falls = np.maximum(progress, 0)
    largest = np.quantile(falls[measured], 0.95, method="higher")
    gain = np.minimum(falls / largest, 1)
    gain[~measured] = gain[measured].mean()
    for time in (0.0, 0.3, 1.0):
        fused = (1 - time) * entropy + time * gain
        expected = 0.8 * fused / fused.mean() + 0.2
        given = [torch.from_numpy(values) for values in (entropy, progress, measured)]
        weights = ddsc_weights(*given, time, 0.2).numpy()
        np.testing.assert_allclose(weights, expected, rtol=1e-9)
        assert weights.mean() == pytest.approx(1)
        assert weights.min() >= 0.2
    # Nothing measured, or nothing that falls: all alike.
    still = torch.zeros(4)
    for measured in (torch.zeros(4) > 0, torch.ones(4) > 0):
        assert ddsc_weights(torch.zeros(4), still, measured, 1.0, 0.1).tolist() == [1.0] * 4
    assert ddsc_weights(torch.zeros(4), still, measured, 0.0, 0.1).tolist() == pytest.approx([1.0] * 4)


def test_progress_is_the_running_average_of_the_fall_from_visit_to_visit():
    method, _ = started(DDSC(progress_decay=0.7))
    random = np.random.default_rng(3)
    last, average, visits = np.zeros(SCENES), np.zeros(SCENES), np.zeros(SCENES, int)
    for _ in range(12):
        rows = random.permutation(SCENES)[:20]
        loss = random.random(20).astype(np.float32)
        known = rows != 5  # nothing is known of one scene
        loss[~known] = 0
        method._remember(torch.from_numpy(rows), torch.from_numpy(loss), torch.from_numpy(known))
        for row, value, told in zip(rows, loss, known, strict=True):
            if told and visits[row] == 1:
                average[row] = last[row] - value
            elif told and visits[row] > 1:
                average[row] = 0.7 * average[row] + 0.3 * (last[row] - value)
            visits[row] += told
            last[row] = value
    np.testing.assert_allclose(method.progress.numpy(), average, rtol=1e-4, atol=1e-6)
    assert np.array_equal(method.visits.numpy(), visits)
    assert visits[5] == 0


def test_ddsc_draws_what_hides_its_domain_first_and_keeps_a_floor(tmp_path):
    asked = []
    _, history, method = train(tmp_path, DDSC(floor=0.3), read=asked)
    counts = drawn(asked, 10)
    assert counts[0].tolist() == [1] * SCENES
    early = counts[1:4].sum(axis=0)
    assert early[~shown()].mean() > early[shown()].mean()
    assert counts.sum(axis=0).min() >= 2
    assert all(0 <= record["domain_entropy"] <= 1 for record in history)
    method.epoch = 5
    assert float(method.draw_weights().min()) >= 0.3


def test_weights_of_the_base_method_count_as_well():
    state = labels().state.copy()
    state[6:] = -1
    table = LabelTable(("water", "forest"), state, exclusive=True, columns={"domain": domain()})
    method, _ = started(EntropyCurriculum(base="fixmatch"), table)
    own = method.base.draw_weights()
    assert own is not None
    assert torch.equal(method.draw_weights(), own)  # the warm-up leaves nothing out
    method.epoch = 1
    method.entropy.copy_(torch.linspace(0, 1, SCENES))
    assert torch.equal(method.draw_weights() > 0, torch.arange(SCENES) >= SCENES // 2)
    method.entropy.copy_(1 - method.entropy)
    assert torch.equal(method.draw_weights()[:30], own[:30])


@pytest.mark.parametrize("kind", [EntropyCurriculum, DDSC])
def test_one_domain_is_refused_before_training(kind):
    one = labels(domains=np.full(SCENES, 3))
    assert "all of one domain" in kind.refusal(one)
    with pytest.raises(LabelError, match="all of one domain"):
        started(kind(), one)
    without = LabelTable(("water", "forest"), labels().state, exclusive=True)
    assert "each scene's domain" in kind.refusal(without)
    assert kind.refusal(labels()) is None
    with pytest.raises(LabelError, match=r"AllKnown cannot learn.*it is for multi-label"):
        started(kind(base="all-known"))


@pytest.mark.parametrize("kind", [EntropyCurriculum, DDSC])
def test_base_and_its_options_are_checked_at_once(kind):
    with pytest.raises(UnknownNameError, match="Did you mean 'adagc'"):
        kind(base="adagk")
    with pytest.raises(UnknownNameError, match="option of adagc"):
        kind(base="adagc", base_options={"levle": 1})
    with pytest.raises(InputError, match="level is 7"):
        kind(base="adagc", base_options={"level": 7})
    with pytest.raises(InputError, match="without a base"):
        kind(base_options={"level": 0.5})
    with pytest.raises(InputError, match="works on the features of a model"):
        kind().start(labels(), torch.nn.Identity())


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (EntropyCurriculum, "warmup", 1.0),
        (EntropyCurriculum, "first_share", 0.0),
        (EntropyCurriculum, "full_at", 1.2),
        (DDSC, "progress_decay", 1.0),
        (DDSC, "floor", 0.0),
        (DDSC, "floor", float("nan")),
    ],
)
def test_options_out_of_range_are_refused(kind, option, value):
    with pytest.raises(InputError, match=option):
        kind(**{option: value})


def test_names_of_the_base_methods_memory_are_passed_on():
    multi = labels(exclusive=False)
    method, _ = started(DDSC(base="adagc", base_options={"roll_back": True}), multi)
    assert {"features", "progress", "base.memory", "base.visits"} <= set(method.per_scene)
    assert {"entropy", "base.trigger.fired_after"} <= set(method.survives_roll_back)
    assert method.rolls_back
    buffers = dict(method.named_buffers())
    assert all(len(buffers[name]) == SCENES for name in method.per_scene)
    assert set(method.survives_roll_back) <= set(buffers)
