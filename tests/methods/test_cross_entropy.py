"""Softmax cross-entropy against the formula in double precision."""

import numpy as np
import pytest
import torch

from swath.errors import LabelError
from swath.labels import LabelTable
from swath.methods.cross_entropy import CrossEntropy, cross_entropy_loss


def test_loss_and_gradient_are_those_of_the_formula():
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (6, 5))
    table = LabelTable.from_class_index(list("abcde"), [0, 3, -1, 4, 1, -1])
    given = torch.from_numpy(logits).requires_grad_()
    loss = cross_entropy_loss(given, torch.from_numpy(table.state))
    loss.backward()
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    known = table.class_index >= 0
    expected = -np.log(softmax[known, table.class_index[known]]).sum() / len(logits)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)
    gradient = np.where(known[:, None], softmax - (table.state == 1), 0) / len(logits)
    np.testing.assert_allclose(given.grad.numpy(), gradient, rtol=1e-9, atol=1e-300)


def test_nothing_overflows_at_extreme_logits():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = cross_entropy_loss(logits, torch.tensor([[0, 1, 0]]))
    loss.backward()
    assert loss.item() == 20000.0
    assert logits.grad.tolist() == [[1.0, -1.0, 0.0]]


def test_refuses_labels_of_a_single_class():
    table = LabelTable.from_class_index(["water", "forest"], [0, 0, -1])
    with pytest.raises(LabelError, match="at least two"):
        CrossEntropy().start(table, torch.nn.Identity())
