"""Mean teacher: its loss in double precision, its ramp, and who teaches whom."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from swath.errors import InputError
from swath.evaluation.metrics import average_precision
from swath.labels import LabelTable
from swath.methods import Batch
from swath.methods.mean_teacher import SECOND_VIEW, MeanTeacher, consistency_loss, consistency_ramp
from swath.methods.semi_supervised import log_outcomes, supervised_loss
from swath.scenes.augmentation import augment
from swath.testing import MethodTester


@pytest.mark.parametrize("exclusive", [True, False])
def test_consistency_and_gradient_are_those_of_the_formula(exclusive):
    random = np.random.default_rng(0)
    logits, teacher = random.normal(0, 2, (6, 4)), random.random((6, 4))
    unknown = random.random((6, 1 if exclusive else 4)) < 0.6
    every = np.broadcast_to(unknown, (6, 4))
    given = torch.from_numpy(logits).requires_grad_()
    student = given.softmax(dim=1) if exclusive else given.sigmoid()
    target = torch.from_numpy(teacher).requires_grad_()
    loss = consistency_loss(student, target, torch.from_numpy(unknown))
    loss.backward()
    p = student.detach().numpy()
    np.testing.assert_allclose(loss.item(), ((p - teacher) ** 2)[every].sum() / every.sum(), rtol=1e-12)
    pull = np.where(every, 2 * (p - teacher), 0) / every.sum()
    inner = p * (pull - (pull * p).sum(axis=1, keepdims=True)) if exclusive else pull * p * (1 - p)
    np.testing.assert_allclose(given.grad.numpy(), inner, rtol=1e-9, atol=1e-15)
    assert target.grad is None


def test_ramp_is_linear_over_its_share_and_then_whole():
    assert [consistency_ramp(epoch, 50, 0.4) for epoch in (0, 5, 10, 20, 49)] == [0, 0.25, 0.5, 1, 1]
    assert consistency_ramp(0, 50, 0.0) == 1


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_step_is_that_of_the_parts(exclusive):
    state = np.array([[1, 0, 0], [-1, -1, -1], [0, 1, 0], [-1, -1, -1]])
    if not exclusive:
        state[0] = [1, -1, 0]
    images = torch.rand(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, 3))
    method = MeanTeacher(weight=30.0)
    method.epochs = 10
    method.start(LabelTable(("water", "forest", "road"), state, exclusive=exclusive), model)
    with torch.no_grad():
        model[1].weight.mul_(2)
    method.epoch, method.step = 2, 5
    given = torch.from_numpy(state)
    loss = method.loss(model, Batch(image=images, labels=given, index=torch.arange(4)))
    second = augment(images, SECOND_VIEW, method.generator("second view"), total=4, first=0)
    rows = (given < 0).any(dim=1)
    logits = model(torch.where(rows[:, None, None, None], second, images))
    probability = torch.Tensor.sigmoid if not exclusive else (lambda values: values.softmax(dim=1))
    taught = probability(method.average(images))
    unknown = (given < 0).double() if not exclusive else rows[:, None].double().expand(4, 3)
    consistency = ((probability(logits) - taught) ** 2 * unknown).sum() / unknown.sum()
    known = supervised_loss(log_outcomes(logits, exclusive=exclusive), given)
    torch.testing.assert_close(loss, (known + 30 * 0.5 * consistency).float())


def test_what_is_kept_names_the_classes_of_every_scene(tmp_path):
    """Of those that nobody labelled too: one in five."""
    tiny = type("Tiny", (MethodTester,), {"method": MeanTeacher, "single_label": True})()
    kept, _ = tiny.fit(MeanTeacher(), tmp_path, epochs=12)
    with torch.no_grad():
        before, after = (
            average_precision(tiny.truth(), network.eval()(tiny.images())).mean()
            for network in (tiny.model(), kept)
        )
    assert before < 0.7
    assert after > 0.95


def test_the_average_moves_by_its_decay_and_is_what_is_kept():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    method = MeanTeacher(average_decay=0.9)
    method.start(LabelTable(("water", "forest"), np.eye(2, dtype=int), exclusive=True), model)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            value.add_(1)
    for step, keep in ((0, 0.1), (2, 0.25), (10_000, 0.9)):
        method.step = step
        earlier = {name: value.clone() for name, value in method.average.state_dict().items()}
        method.after_step(model)
        for name, value in method.deployed(model).state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, keep * earlier[name] + (1 - keep) * (before[name] + 1))
            else:
                assert int(value) == int(before[name]) + 1
    assert not method.train().average.training
    assert not any(value.requires_grad for value in method.average.parameters())


@pytest.mark.parametrize(("option", "value"), [("ramp", 1.1), ("ramp", -0.1), ("weight", float("inf"))])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(InputError, match=option):
        MeanTeacher(**{option: value})
