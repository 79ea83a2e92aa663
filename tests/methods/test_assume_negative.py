"""The assumed-negative loss against the formula in double precision."""

import numpy as np
import torch

from swath.methods.assume_negative import assume_negative_loss


def test_loss_and_gradient_are_those_of_the_formula():
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (5, 7))
    state = random.integers(-3, 2, (5, 7)).astype(np.int8)
    present = (state == 1).astype(float)
    probability = 1 / (1 + np.exp(-logits))
    expected = -(present * np.log(probability) + (1 - present) * np.log(1 - probability)).mean()
    given = torch.from_numpy(logits).requires_grad_()
    loss = assume_negative_loss(given, torch.from_numpy(state))
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)
    # d/dz of binary cross-entropy is p - y, and the mean runs over scenes and classes.
    np.testing.assert_allclose(given.grad.numpy(), (probability - present) / logits.size, rtol=1e-9)


def test_nothing_overflows_at_extreme_logits():
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]], requires_grad=True)
    loss = assume_negative_loss(logits, torch.tensor([[1, 1, -1, 0]]))
    loss.backward()
    assert loss.item() == 5000.0  # two of four are wholly wrong, by 10,000 each
    assert logits.grad.tolist() == [[0.0, -0.25, 0.25, 0.0]]


def test_half_precision_logits_are_taken():
    loss = assume_negative_loss(torch.zeros(2, 3, dtype=torch.bfloat16), torch.ones(2, 3, dtype=torch.int8))
    assert abs(loss.item() - np.log(2)) < 0.01
