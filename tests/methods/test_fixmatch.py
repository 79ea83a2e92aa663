"""FixMatch: its losses in double precision, which view is learned from, and who is drawn."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from swath.encoders import build_model
from swath.errors import InputError, LabelError
from swath.labels import LabelTable
from swath.methods import Batch
from swath.methods.fixmatch import FixMatch, fairness_term, self_training_loss
from swath.methods.semi_supervised import log_outcomes, logits_of_views, supervised_loss, unanswered
from swath.scenes.augmentation import strong_view


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def problem(exclusive, seed=0):
    random = np.random.default_rng(seed)
    weak, strong = random.normal(0, 3, (2, 9, 4))
    if exclusive:
        state = np.where(np.arange(4) == random.integers(0, 4, (9, 1)), 1, 0)
        state[random.random(9) < 0.6] = random.integers(-100, 0)
    else:
        state = random.integers(-3, 2, (9, 4))
    return weak, strong, state


def test_single_label_loss_and_gradient_are_those_of_the_formula():
    weak, strong, state = problem(exclusive=True)
    probability, unlabelled = softmax(weak), ~(state == 1).any(axis=1)
    sure, guess = probability.max(axis=1), probability.argmax(axis=1)
    mask = unlabelled & (sure >= 0.8)
    assert 0 < mask.sum() < unlabelled.sum() < 9
    log = np.log(softmax(strong))
    expected = -log[np.arange(9), guess][mask].sum() / unlabelled.sum()  # over all of them, not the accepted
    expected += -log[state == 1].sum() / (~unlabelled).sum()
    given = torch.from_numpy(strong).requires_grad_()
    outcomes, questions = (
        log_outcomes(given, exclusive=True),
        unanswered(torch.from_numpy(state), exclusive=True),
    )
    chosen = torch.from_numpy(guess)[:, None], torch.from_numpy(mask)[:, None]
    loss = self_training_loss(outcomes, *chosen, questions) + supervised_loss(
        outcomes, torch.from_numpy(state)
    )
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)
    target = np.where(unlabelled[:, None], np.eye(4)[guess], state)
    share = np.where(unlabelled, mask / unlabelled.sum(), 1 / (~unlabelled).sum())[:, None]
    np.testing.assert_allclose(given.grad.numpy(), share * (softmax(strong) - target), rtol=1e-9, atol=1e-15)


def test_multi_label_loss_and_gradient_are_those_of_the_formula():
    weak, strong, state = problem(exclusive=False)
    probability, unknown = sigmoid(weak), state < 0
    guess = probability > 0.5
    mask = unknown & (np.maximum(probability, 1 - probability) >= 0.9)
    assert 0 < mask.sum() < unknown.sum()
    seen = sigmoid(strong)
    wrong = -np.where(np.where(unknown, guess, state == 1), np.log(seen), np.log(1 - seen))
    expected = wrong[mask].sum() / unknown.sum() + wrong[~unknown].sum() / (~unknown).sum()
    given = torch.from_numpy(strong).requires_grad_()
    outcomes, questions = (
        log_outcomes(given, exclusive=False),
        unanswered(torch.from_numpy(state), exclusive=False),
    )
    chosen = torch.from_numpy(guess.astype(int)), torch.from_numpy(mask)
    loss = self_training_loss(outcomes, *chosen, questions) + supervised_loss(
        outcomes, torch.from_numpy(state)
    )
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)
    share = np.where(unknown, mask / unknown.sum(), 1 / (~unknown).sum())
    target = np.where(unknown, guess, state == 1)
    np.testing.assert_allclose(given.grad.numpy(), share * (seen - target), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("exclusive", [True, False])
def test_extreme_logits_and_empty_parts_stay_finite(exclusive):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    for state in (torch.full((2, 3), -1), torch.tensor([[0, 1, 0], [1, 0, 0]])):
        outcomes = log_outcomes(logits, exclusive=exclusive)
        questions = unanswered(state, exclusive=exclusive)
        guess = outcomes.argmin(dim=2)
        loss = self_training_loss(outcomes, guess, questions, questions) + supervised_loss(outcomes, state)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_fairness_is_that_of_the_released_code():
    random = np.random.default_rng(3)
    logits = random.normal(0, 2, (12, 5))
    accepted = random.random(12) < 0.7
    mean, histogram = random.dirichlet(np.ones(5), 2)
    seen = softmax(logits)[accepted]
    strong = np.bincount(seen.argmax(axis=1), minlength=5) / accepted.sum()
    assert (strong == 0).any()  # the case that divides by zero
    scale = np.where(strong > 0, 1 / np.where(strong > 0, strong, 1), 0)
    b = seen.mean(axis=0) * scale
    a = mean / histogram
    expected = (a / a.sum() * np.log(b / b.sum() + 1e-12)).sum()
    given = torch.from_numpy(logits).requires_grad_()
    others = torch.from_numpy(accepted), torch.from_numpy(mean), torch.from_numpy(histogram)
    term = fairness_term(given.softmax(dim=1), *others)
    np.testing.assert_allclose(term.item(), expected, rtol=1e-9)
    term.backward()
    assert bool(given.grad.any())
    assert bool((given.grad[~others[0]] == 0).all())
    nobody = fairness_term(given.softmax(dim=1), torch.zeros(12, dtype=torch.bool), *others[1:])
    assert nobody.item() == 0
    assert bool(torch.isfinite(torch.autograd.grad(nobody, given)[0]).all())


class Seen(nn.Module):
    """A network that keeps what it was shown, and with which gradient mode."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, 3))
        self.shown = []

    def forward(self, images):
        self.shown.append((images.detach().clone(), torch.is_grad_enabled()))
        return self.network(images)


def started(state, exclusive, **options):
    method, model = FixMatch(**options), Seen()
    method.start(LabelTable(("water", "forest", "road"), state, exclusive=exclusive), model)
    return method, model


def test_guesses_come_from_the_weak_view_and_gradients_from_the_strong_one_where_something_is_unknown():
    state = np.array([[1, 0, 0], [0, 1, 0], [-1, -1, -1], [1, 0, 0], [-1, -1, -1]])
    images = torch.rand(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    method, model = started(state, True, level=0.51)
    method.step = 7
    method.loss(model, Batch(image=images, labels=torch.from_numpy(state), index=torch.arange(5)))
    guessed, answered, changed = model.shown
    assert [gradients for _, gradients in model.shown] == [False, True, True]
    assert torch.equal(guessed[0], images)
    assert torch.equal(answered[0], images[[0, 1, 3]])
    assert torch.equal(changed[0], strong_view(images, method.generator("strong view"))[[2, 4]])


def test_without_anything_unknown_it_is_supervised_and_looks_once():
    state = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    images = torch.rand(3, 2, 8, 8)
    method, model = started(state, True)
    batch = Batch(image=images, labels=torch.from_numpy(state), index=torch.arange(3))
    loss = method.loss(model, batch)
    assert len(model.shown) == 1
    expected = nn.functional.cross_entropy(model(images), torch.arange(3))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(("labelled", "ratio", "share"), [(4, 7.0, 1 / 8), (4, 1.0, 1 / 2), (60, 7.0, None)])
def test_scenes_with_labels_are_drawn_to_their_share(labelled, ratio, share):
    state = np.full((200, 3), -1)
    state[:labelled] = np.eye(3, dtype=int)[np.arange(labelled) % 3]
    method, _ = started(state, True, unlabelled_ratio=ratio)
    weights = method.draw_weights()
    if share is None:
        assert weights is None
    else:
        assert float(weights[:labelled].sum() / weights.sum()) == pytest.approx(share, rel=1e-6)
        assert float(weights.mean()) == pytest.approx(1, rel=1e-6)


def test_mixed_precision_keeps_its_gradients():
    # Weights that the pass without gradients has cast must not be used again by the pass with gradients.
    state = np.array([[1, 0], [-1, -1], [0, 1], [-1, -1]])
    model = build_model("scene_mixer", ("red", "green"), ("water", "forest"), size=16)
    method = FixMatch()
    method.start(LabelTable(("water", "forest"), state, exclusive=True), model)
    batch = Batch(image=torch.rand(4, 2, 16, 16), labels=torch.from_numpy(state), index=torch.arange(4))
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(model, batch)
    loss.backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_refuses_what_can_only_confirm_a_constant():
    with pytest.raises(LabelError, match="has a label that is absent"):
        started(np.array([[1, -1, -1], [-1, 1, -1]]), False)
    with pytest.raises(LabelError, match="name 1 class"):
        started(np.array([[1, 0, 0], [-1, -1, -1]]), True)
    with pytest.raises(LabelError, match="fairness"):
        started(np.array([[1, 0, -1]]), False, thresholds="freematch", fairness=0.01)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("thresholds", "flex"),
        ("level", 0.5),
        ("level", float("nan")),
        ("weight", -1.0),
        ("unlabelled_ratio", 0.0),
        ("average_decay", 1.0),
        ("threshold_decay", 1.5),
        ("fairness", 0.01),
    ],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(InputError, match=option):
        FixMatch(**{option: value})


def test_without_weight_scenes_without_labels_are_not_looked_at():
    state = torch.tensor([[1, 0], [0, 1], [-1, -1], [-1, -1]])
    labels = LabelTable(("water", "forest"), state.numpy(), exclusive=True)
    images = torch.rand(4, 3, 8, 8)
    found = []
    for others in (images[2:], torch.zeros(2, 3, 8, 8)):
        torch.manual_seed(0)
        model, method = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)), FixMatch(weight=0)
        method.start(labels, model)
        network = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        batch = Batch(image=torch.cat([images[:2], others]), labels=state, index=torch.arange(4))
        loss = method.loss(network, batch)
        loss.backward()
        found.append((loss.item(), model[0].weight.grad.clone(), model[1].running_mean.clone()))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=0, atol=0)
    rows = torch.tensor([2, 3])  # a batch of scenes without labels only
    batch = Batch(image=images[rows], labels=state[rows], index=rows)
    assert method.loss(network, batch).item() == 0


def test_each_view_is_normalised_by_itself_and_running_averages_are_left_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images, other = torch.rand(6, 3, 8, 8), 5 * torch.rand(6, 3, 8, 8) - 2
    rows = torch.tensor([True, False, True, True, False, False])
    same = copy.deepcopy(model)
    expected = torch.empty(6, 4)
    expected[~rows] = same(images[~rows])
    expected[rows] = same(other[rows])
    before = copy.deepcopy(model.state_dict())
    torch.testing.assert_close(logits_of_views(model, images, other, rows), expected)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    for all_of_them in (torch.ones(6, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)):
        expected = copy.deepcopy(model)(torch.where(all_of_them.view(-1, 1, 1, 1), other, images))
        torch.testing.assert_close(logits_of_views(model, images, other, all_of_them), expected)
    for alone in (0, 5):  # a scene by itself has no statistics: both views together
        single = torch.arange(6) == alone
        for which in (single, ~single):
            expected = copy.deepcopy(model)(torch.where(which.view(-1, 1, 1, 1), other, images))
            torch.testing.assert_close(logits_of_views(model, images, other, which), expected)
    with pytest.raises(RuntimeError):
        logits_of_views(model, images, torch.rand(6, 2, 8, 8), rows)
    model(images)
    assert model[1].num_batches_tracked == 1  # counted as ever, after the error too
