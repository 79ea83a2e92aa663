"""AdaGC's mathematics against formulas, and its state against an uninterrupted run."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swath.errors import InputError, LabelError
from swath.labels import LabelTable
from swath.methods.adagc import AdaGC, adagc_loss, calibration_term, strength_from_memory
from swath.methods.assume_negative import assume_negative_loss
from swath.methods.base import Batch

SCENES, CLASSES = 12, 5


def draw(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(0, 3, (SCENES, CLASSES)))
    state = torch.from_numpy(random.integers(-1, 2, (SCENES, CLASSES)).astype(np.int8))
    return logits, state, torch.from_numpy(random.random((SCENES, CLASSES)))


def gradient(logits: Tensor, state: Tensor, target: Tensor, strength: Tensor | float) -> Tensor:
    logits = logits.clone().requires_grad_()
    adagc_loss(logits, state, target, strength).backward()
    assert logits.grad is not None
    return logits.grad


def test_loss_is_the_formula() -> None:
    logits, state, target = draw()
    z, y, t = logits.numpy(), (state == 1).numpy(), target.numpy()
    p = 1 / (1 + np.exp(-z))
    assumed = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / z.size
    calibration = ((state.numpy() < 0) * np.log(1 - p * t)).sum() / z.size  # the same normaliser: B * C
    expected = assumed + 3.5 * calibration
    assert float(adagc_loss(logits, state, target, 3.5)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("strength", [0.5, 1.0, 4.0, 9.0])
def test_gradient_is_the_closed_form(strength: float) -> None:
    logits, state, target = draw(1)
    p, t = logits.sigmoid(), target
    unknown = p * (1 - strength * t * (1 - p) / (1 - p * t))
    known = p - (state == 1).double()
    expected = torch.where(state < 0, unknown, known) / logits.numel()
    torch.testing.assert_close(gradient(logits, state, target, strength), expected, rtol=1e-10, atol=1e-14)


def test_calibration_raises_the_logit_where_the_teacher_believes() -> None:
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    calibration_term(logits, torch.tensor([[0.9, 0.5, 0.0]]), torch.ones(1, 3)).backward()
    assert logits.grad is not None
    strong, weak, none = logits.grad[0].tolist()
    assert strong < weak < 0 == none


def test_without_belief_it_is_the_assumed_negative_loss() -> None:
    logits, state, target = draw(2)
    loss = adagc_loss(logits, state, torch.zeros_like(target), 7.0)
    assert float(loss) == float(assume_negative_loss(logits, state))


def test_full_belief_at_strength_one_cancels_the_gradient_of_a_false_negative() -> None:
    logits, _, target = draw(3)
    state = torch.full(logits.shape, -1, dtype=torch.int8)
    assert float(gradient(logits, state, torch.ones_like(target), 1.0).abs().max()) < 1e-15


def test_no_gradient_through_the_target() -> None:
    logits, state, target = draw(4)
    target.requires_grad_()
    loss = adagc_loss(logits.requires_grad_(), state, target, 4.0)
    loss.backward()
    assert target.grad is None


def test_finite_at_any_logit_and_belief() -> None:
    logits = torch.tensor([[-1e4, -50.0, 0.0, 50.0, 1e4]]).repeat(3, 1)
    target = torch.tensor([0.0, 0.5, 1.0]).view(3, 1).expand(3, 5)
    state = torch.full((3, 5), -1, dtype=torch.int8)
    assert torch.isfinite(gradient(logits, state, target, 9.0)).all()
    assert torch.isfinite(adagc_loss(logits, state, target, 9.0))


def test_every_unknown_code_is_the_same_and_known_absent_is_never_calibrated() -> None:
    logits, state, target = draw(5)
    other = torch.where(state < 0, torch.tensor(-7, dtype=torch.int8), state)
    assert float(adagc_loss(logits, state, target, 4.0)) == float(adagc_loss(logits, other, target, 4.0))
    absent = state == 0
    torch.testing.assert_close(
        gradient(logits, state, target, 4.0)[absent], logits.sigmoid()[absent] / logits.numel()
    )


@pytest.mark.parametrize("classes_in_scene", [1, 2, 3, 7])
def test_strength_follows_the_number_of_labels_in_the_scene(classes_in_scene: int) -> None:
    target = torch.zeros(1, 17, dtype=torch.float64)
    target[0, :classes_in_scene] = 1 / classes_in_scene
    assert float(strength_from_memory(target)) == pytest.approx(1 + 2 * classes_in_scene)


def test_gradient_turns_at_half_the_typical_probability() -> None:
    target = torch.tensor([[0.3, 0.3, 0.3, 0.0]], dtype=torch.float64)
    strength = strength_from_memory(target)
    confidence = float((target**2).sum() / target.sum())
    for share, sign in ((0.45, 1), (0.55, -1)):
        p = torch.full((1, 4), share * confidence, dtype=torch.float64)
        slope = gradient(torch.logit(p), torch.full((1, 4), -1), p, strength)
        assert torch.sign(slope).eq(sign).all()


# ---- the method, run by hand


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def table(code: int = -1) -> LabelTable:
    state = np.full((SCENES, CLASSES), code, np.int8)
    state[np.arange(SCENES), np.arange(SCENES) % CLASSES] = 1
    state[3, 4] = 0
    return LabelTable(tuple("abcde"), state)


def train(
    method: AdaGC, model: nn.Module, labels: LabelTable, epochs: range, optimizer: torch.optim.Optimizer
) -> list[float]:
    images = torch.from_numpy(np.random.default_rng(9).normal(size=(SCENES, 4)).astype(np.float32))
    losses, history = [], []
    for epoch in epochs:
        method.epoch = epoch
        for position, index in enumerate(torch.arange(SCENES).view(2, -1)):
            method.step = 2 * epoch + position
            model.train()
            method.train()
            batch = Batch(image=images[index], labels=torch.from_numpy(labels.state)[index], index=index)
            loss = method.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(model)
            losses.append(loss.item())
        history.append({})
        method.after_epoch(epoch, history)
    return losses


def begin(labels: LabelTable, **options: object) -> tuple[AdaGC, nn.Module, torch.optim.Optimizer]:
    model, method = network(), AdaGC(**options)  # type: ignore[arg-type]
    method.epochs = 10
    method.start(labels, model)
    return method, model, torch.optim.AdamW(model.parameters(), 1e-2)


OPTIONS = [{}, {"start_epoch": 2}, {"start_epoch": 0, "strength": 4.0}, {"start_epoch": 1, "mixup": 0.4}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_restored_state_goes_on_exactly(options: dict[str, object]) -> None:
    method, model, optimizer = begin(table(), **options)
    expected = train(method, model, table(), range(10), optimizer)
    method, model, optimizer = begin(table(), **options)
    first = train(method, model, table(), range(6), optimizer)
    saved = copy.deepcopy([part.state_dict() for part in (method, model, optimizer)])
    method, model, optimizer = begin(table(), **options)
    for part, state in zip((method, model, optimizer), saved, strict=True):
        part.load_state_dict(state)
    assert first + train(method, model, table(), range(6, 10), optimizer) == expected


def test_what_is_stored_under_unknown_changes_nothing() -> None:
    runs = []
    for code in (-1, -100):
        method, model, optimizer = begin(table(code), start_epoch=2)
        runs.append(train(method, model, table(code), range(5), optimizer))
    assert runs[0] == runs[1]


def test_memory_is_the_bias_corrected_average_of_the_teacher() -> None:
    method, model, _ = begin(table(), prediction_decay=0.9)
    images = torch.randn(SCENES, 4)
    batch = Batch(image=images, labels=torch.from_numpy(table().state), index=torch.arange(SCENES))
    seen = []
    for step in range(4):
        method.step = step
        seen.append(method.teacher(images).sigmoid())
        method.loss(model, batch)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1)
        method.after_step(model)
    weights = torch.tensor([0.9**age for age in (3, 2, 1, 0)])
    expected = sum(w * p for w, p in zip(weights / weights.sum(), seen, strict=True))
    torch.testing.assert_close(method.predictions(), expected)


def test_teacher_is_never_trained_and_stays_in_evaluation_mode() -> None:
    method, model, optimizer = begin(table(), start_epoch=0)
    train(method, model, table(), range(3), optimizer)
    assert method.training
    assert not method.teacher.training
    assert not any(parameter.requires_grad for parameter in method.parameters())
    assert method.deployed(model) is method.teacher
    assert int(method.teacher[1].num_batches_tracked) == int(model[1].num_batches_tracked) > 0  # type: ignore[index]


def test_report_says_when_and_why() -> None:
    method, model, optimizer = begin(table())
    train(method, model, table(), range(10), optimizer)
    report = method.report()
    assert report["reason"] in ("peak", "latest")
    assert 1 <= report["calibrating_from"] <= 5
    assert report["strength"] >= 3.0


def test_roll_back_names_the_peak() -> None:
    method, _, _ = begin(table(), roll_back=True)
    assert method.rolls_back
    confidences = iter([0.1, 0.2, 0.3, 0.3, 0.1])
    for epoch in range(5):
        method.visits.fill_(1.0)
        method.memory.fill_(next(confidences) * (1 - method.prediction_decay))
        back = method.after_epoch(epoch, [{}])
    assert method.trigger.fired
    assert back == method.trigger.peak()


@pytest.mark.parametrize(
    "options",
    [
        {"level": 0.0},
        {"level": 1.5},
        {"strength": 0.0},
        {"strength": float("nan")},
        {"mixup": -1.0},
        {"teacher_decay": 1.0},
        {"prediction_decay": -0.1},
        {"start_epoch": -1},
        {"start_epoch": 3, "roll_back": True},
    ],
    ids=str,
)
def test_refuses_numbers_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        AdaGC(**options)  # type: ignore[arg-type]


def test_refuses_labels_without_a_positive() -> None:
    with pytest.raises(LabelError, match="present"):
        AdaGC().start(LabelTable(("a",), np.array([[-1], [0]])), network())
