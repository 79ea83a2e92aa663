"""The loss over several sources against a calculation by hand, and refusals and warnings about their matrices."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swath.errors import InputError, LabelError, UnknownNameError
from swath.labels import LabelTable, lose
from swath.methods.all_known import all_known_loss
from swath.methods.base import Batch
from swath.methods.cross_entropy import cross_entropy_loss
from swath.methods.multi_source import MultiSource, gradient_weights, multi_source_loss

CLASSES = tuple("abcd")
SMALL = "ignore:The overlap of source:UserWarning"


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def statements(shape: tuple[int, int], classes: int, seed: int) -> np.ndarray:
    """(B, S, C) states of exclusive classes; some unsaid, some that only exclude one class."""
    random = np.random.default_rng(seed)
    index = random.integers(-1, classes, shape)
    said = np.where(index[..., None] >= 0, index[..., None] == np.arange(classes), -1).astype(np.int8)
    said[0, 0] = -1
    said[0, 0, 1] = 0
    return said


def by_hand(
    logits: np.ndarray, said: np.ndarray, transition: np.ndarray, q: float
) -> tuple[float, np.ndarray]:
    """Loss and gradient, one statement at a time."""
    total, gradient = 0.0, np.zeros_like(logits)
    for scene, row in enumerate(said):
        for source, states in enumerate(row):
            if transition.ndim == 3:
                if 1 not in states:
                    continue
                p = softmax(logits[scene])
                t = transition[source][:, list(states).index(1)]
                mean = p @ t
                total += -np.log(mean) if q == 0 else (1 - mean**q) / q
                gradient[scene] += p * (1 - t / mean) * mean**q
                continue
            for column, state in enumerate(states):
                if state < 0:
                    continue
                p = 1 / (1 + np.exp(-logits[scene, column]))
                absent, present = transition[source, column, :, state]
                mean = (1 - p) * absent + p * present
                total += -np.log(mean) if q == 0 else (1 - mean**q) / q
                gradient[scene, column] += p * (1 - present / mean) * mean**q
    size = len(logits) if transition.ndim == 3 else logits.size
    return total / size, gradient / size


@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("exclusive", [True, False])
def test_loss_and_gradient_are_those_of_the_formula(exclusive: bool, q: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (6, 4))
    if exclusive:
        said, transition = statements((6, 3), 4, 0), random.dirichlet(np.ones(4), (3, 4))
    else:
        said, transition = random.integers(-2, 2, (6, 3, 4)), random.dirichlet(np.ones(2), (3, 4, 2))
    loss, gradient = by_hand(logits, said, transition, q)
    wanted = torch.from_numpy(logits).requires_grad_()
    ours = multi_source_loss(wanted, torch.from_numpy(said), torch.from_numpy(transition), q)
    ours.backward()
    np.testing.assert_allclose(ours.item(), loss, rtol=1e-10)
    np.testing.assert_allclose(wanted.grad.numpy(), gradient, rtol=1e-9, atol=1e-15)


def test_an_identity_matrix_is_cross_entropy() -> None:
    random = np.random.default_rng(1)
    logits = torch.from_numpy(random.normal(0, 5, (7, 4)))
    index = random.integers(-1, 4, 7)
    state = torch.from_numpy(LabelTable.from_class_index(CLASSES, index).state)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    one = multi_source_loss(ours, state[:, None], torch.eye(4, dtype=torch.float64)[None])
    two = cross_entropy_loss(theirs, state)
    one.backward()
    two.backward()
    np.testing.assert_allclose(one.item(), two.item(), rtol=1e-12)
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-16)
    several = torch.from_numpy(random.integers(-1, 2, (7, 4)))
    one = multi_source_loss(logits, several[:, None], torch.eye(2, dtype=torch.float64).expand(1, 4, 2, 2))
    np.testing.assert_allclose(one.item(), all_known_loss(logits, several).item(), rtol=1e-12)


@given(
    logits=st.lists(st.floats(-6, 6), min_size=3, max_size=3),
    column=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    q=st.sampled_from([0.0, 0.3, 0.7]),
)
def test_the_weights_are_the_gradient(logits: list[float], column: list[float], q: float) -> None:
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(column, dtype=torch.float64)
    mean = (z.softmax(0) * t).sum()
    (-mean.log() if q == 0 else (1 - mean**q) / q).backward()
    p = z.detach().softmax(0)
    weights = gradient_weights(p, t, q)
    np.testing.assert_allclose(p * weights, z.grad, rtol=1e-7, atol=1e-12)
    # A class rises if the statement is likelier under it than the network expects; nothing is gained in sum.
    assert ((weights < 0) == (t > mean.detach())).all() or np.allclose(t, mean.detach())
    assert weights.max() <= 1
    assert abs(float((p * weights).sum())) < 1e-9


def test_a_source_that_says_the_same_whatever_is_true_teaches_nothing() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    said = torch.from_numpy(statements((5, 1), 4, 3))
    rows = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).expand(1, 4, 4)
    multi_source_loss(logits, said, rows).backward()
    np.testing.assert_allclose(logits.grad, 0, atol=1e-15)


@pytest.mark.parametrize("q", [0.0, 0.7])
def test_nothing_overflows_at_extreme_logits(q: float) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, -1e4]], requires_grad=True)
    said = torch.tensor([[[0, 1, 0], [-1, -1, -1]], [[1, 0, 0], [0, 0, 1]]], dtype=torch.int8)
    single = multi_source_loss(logits, said, torch.eye(3).expand(2, 3, 3), q)
    several = multi_source_loss(logits, said, torch.eye(2).expand(2, 3, 2, 2), q)
    (single + several).backward()
    assert torch.isfinite(single)
    assert torch.isfinite(several)
    assert torch.isfinite(logits.grad).all()


# The method ----------------------------------------------------------------------------------------------------


def weak(how: str = "weak-class:0.3/0.2/0.4", scenes: int = 3000, *, exclusive: bool = True) -> LabelTable:
    random = np.random.default_rng(0)
    if exclusive:
        truth = LabelTable.from_class_index(CLASSES, random.integers(0, 4, scenes))
    else:
        truth = LabelTable(CLASSES, (random.random((scenes, 4)) < 0.4).astype(np.int8))
    return lose(truth, how, 2)


def started(labels: LabelTable, **options: object) -> MultiSource:
    method = MultiSource(**options)
    method.start(labels, torch.nn.Identity())
    return method


@pytest.mark.parametrize("exclusive", [True, False])
def test_matrices_are_estimated_where_sources_overlap(exclusive: bool) -> None:
    labels = weak("weak-class:0.3/0.2/0.4" if exclusive else "weak-uniform:0.3/0.2/0.4", exclusive=exclusive)
    method = started(labels)
    assert labels.votes is not None
    for source in range(3):
        said, true = labels.votes[:, source], labels.votes[:, 0]
        for k in range(4):
            chosen = (true[:, k] == 1) & (said >= 0).any(axis=1)
            right = (said[chosen, k] == 1).mean()
            matrix = method.transition[source]
            found = matrix[k, k] if exclusive else matrix[k, 1, 1]
            assert float(found) == pytest.approx(right, abs=0.03)
    report = method.report()
    assert report["reliable"] == "reliable"
    assert report["overlap"] == {"weak-1": 900, "weak-2": 900}
    assert report["right"]["reliable"] == 1
    assert report["warnings"] == []
    assert json.loads(json.dumps(report)) == report


def test_labels_of_single_sources_are_as_good_as_votes() -> None:
    labels = LabelTable(
        ("a", "b"),
        np.array([[1, 0], [0, 1], [1, 0]]),
        exclusive=True,
        source=np.array([[0, 0], [1, 1], [1, 1]]),
        sources=("map", "eye"),
    )
    method = started(labels, transition=[np.eye(2).tolist(), [[0.8, 0.2], [0.4, 0.6]]])
    batch = Batch(image=torch.randn(3, 2), labels=torch.from_numpy(labels.state), index=torch.arange(3))
    batch["source"] = torch.from_numpy(labels.source)
    one = method.loss(torch.nn.Identity(), batch)
    batch["votes"] = torch.from_numpy(labels.said())
    assert torch.equal(one, method.loss(torch.nn.Identity(), batch))


def test_given_matrices_replace_the_estimate(tmp_path: Path) -> None:
    labels = weak()
    matrix = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"weak-2": matrix.tolist()}))
    for matrices in ({"weak-2": matrix.tolist()}, str(path)):
        method = started(labels, transition=matrices)
        np.testing.assert_allclose(method.transition[2], matrix, rtol=1e-6)
        np.testing.assert_allclose(method.transition[0], np.eye(4))
        assert method.report()["overlap"] == {"weak-1": 900}
    named = LabelTable(CLASSES, labels.state, True, votes=labels.votes, sources=("p", "q", "r"))
    assert started(named, transition=[matrix] * 3).report()["reliable"] is None
    assert started(named, reliable="p").report()["reliable"] == "p"


def test_what_is_wrong_with_sources_or_matrices_is_said_before_training() -> None:
    labels = weak(scenes=400)
    named = LabelTable(CLASSES, labels.state, True, votes=labels.votes, sources=("p", "q", "r"))
    apart = labels.votes.copy()
    apart[(apart[:, 0] >= 0).any(axis=1), 2] = -1
    silent = labels.votes.copy()
    silent[:, 2] = -1
    eye = np.eye(4).tolist()
    one_class = np.where(labels.votes >= 0, np.arange(4) == 2, -1)

    def table(votes: np.ndarray) -> LabelTable:
        return LabelTable(CLASSES, labels.state, True, votes=votes, sources=labels.sources)

    for table_given, options, kind, message in (
        (named, {}, LabelError, "named 'reliable'; there are p, q, r"),
        (named, {"reliable": "pp"}, UnknownNameError, "source named 'pp'"),
        (table(apart), {}, LabelError, "'weak-2' .* with 'reliable': no scene was labelled by both"),
        (table(silent), {}, LabelError, "'weak-2' .*says nothing about any"),
        (table(one_class), {}, LabelError, r"name 1 class\(es\)"),
        (labels, {"transition": [eye]}, InputError, "1 transition matrices were given for 3 sources"),
        (labels, {"transition": {"weak-3": eye}}, UnknownNameError, "Did you mean 'weak-"),
        (labels, {"transition": {"weak-1": [[1, 0], [0, 1]]}}, InputError, r"shape \(4, 4\)"),
        (labels, {"transition": {"weak-1": (-np.eye(4)).tolist()}}, InputError, "0 or more"),
        (labels, {"transition": {"weak-1": np.ones((4, 4)).tolist()}}, InputError, "sum to 1"),
        (labels, {"transition": {"weak-1": np.eye(4)[[0, 0, 0, 0]].tolist()}}, LabelError, "never says"),
        (labels, {"transition": "no/such/file.json"}, InputError, "cannot be read"),
    ):
        with warnings.catch_warnings(action="ignore"), pytest.raises(kind, match=message):
            started(table_given, **options)
    for options in ({"q": float("nan")}, {"q": 1.5}, {"q": -0.1}):
        with pytest.raises(InputError, match=next(iter(options))):
            MultiSource(**options)
    positives = LabelTable(CLASSES, np.ones((3, 4), np.int8), source=np.zeros((3, 4)), sources=("reliable",))
    with pytest.raises(LabelError, match="absent"):
        started(positives)
    assert MultiSource.refusal(LabelTable(CLASSES, np.eye(4, dtype=np.int8))) is not None
    assert MultiSource.refusal(labels) is None


def test_small_overlap_and_near_singular_matrices_are_warned_of() -> None:
    with pytest.warns(
        UserWarning, match=r"overlap of source 'weak-1' .* 3 of 4 classes have fewer than 10"
    ) as seen:
        method = started(weak("weak-uniform:0.01/0.3", 2000))
    assert method.report()["warnings"] == [str(entry.message) for entry in seen]
    with pytest.warns(UserWarning, match="'weak-1' is close to singular"):
        started(weak("weak-uniform:0.5/0.75"))
    with pytest.warns(UserWarning, match="'weak-1' is close to singular for a, b, c, d"):
        started(weak("weak-uniform:0.5/0.5", exclusive=False))


def test_errors_are_undone_that_training_on_pooled_labels_would_learn() -> None:
    # Four groups of points; the weak source calls most of class 1 class 2. A linear network learns it.
    random = np.random.default_rng(0)
    truth = LabelTable.from_class_index(CLASSES, random.integers(0, 4, 4000))
    centres = torch.tensor([[2.0, 0], [0, 2], [-2, 0], [0, -2]])
    points = centres[torch.from_numpy(truth.class_index)] + 0.4 * torch.randn(
        4000, 2, generator=torch.Generator().manual_seed(0)
    )
    rates = np.eye(4)
    rates[1] = [0, 0.3, 0.7, 0]
    from swath.labels.simulating import weak_sources

    labels = weak_sources(truth, 0.05, [rates], random)
    accuracy = {}
    for name in ("pooled", "ours"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = torch.nn.Linear(2, 4)
        method = started(labels)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        batch = Batch(image=points, votes=torch.from_numpy(labels.votes), index=torch.arange(4000))
        for _ in range(150):
            if name == "ours":
                loss = method.loss(model, batch)
            else:
                loss = cross_entropy_loss(model(points), torch.from_numpy(labels.state))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy[name] = (model(points).argmax(dim=1).numpy() == truth.class_index).mean()
    assert accuracy["ours"] > 0.97
    assert accuracy["ours"] > accuracy["pooled"] + 0.1
