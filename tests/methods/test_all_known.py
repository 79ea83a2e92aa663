"""The loss over known labels against the formula in double precision."""

import numpy as np
import pytest
import torch

from swath.errors import LabelError
from swath.labels import LabelTable
from swath.methods.all_known import AllKnown, all_known_loss


def test_loss_and_gradient_are_those_of_the_formula():
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (5, 7))
    state = random.integers(-3, 2, (5, 7)).astype(np.int8)
    present, known = (state == 1).astype(float), state >= 0
    probability = 1 / (1 + np.exp(-logits))
    entries = -(present * np.log(probability) + (1 - present) * np.log(1 - probability))
    given = torch.from_numpy(logits).requires_grad_()
    loss = all_known_loss(given, torch.from_numpy(state))
    loss.backward()
    np.testing.assert_allclose(loss.item(), entries[known].sum() / logits.size, rtol=1e-12)
    gradient = np.where(known, probability - present, 0) / logits.size
    np.testing.assert_allclose(given.grad.numpy(), gradient, rtol=1e-9, atol=1e-300)


def test_unknown_labels_have_no_gradient_even_where_the_logit_is_absurd():
    logits = torch.tensor([[float("inf"), 3e38, -3e38, 0.0]], requires_grad=True)
    loss = all_known_loss(logits, torch.tensor([[-1, -7, -128, 1]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad[0, :3].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("code", "kind"), [(1, "absent"), (0, "present")])
def test_refuses_labels_that_teach_a_constant(code, kind):
    state = np.array([[code, -1], [-1, code]])
    with pytest.raises(LabelError, match=f"label that is {kind}"):
        AllKnown().start(LabelTable(("water", "forest"), state), torch.nn.Identity())
