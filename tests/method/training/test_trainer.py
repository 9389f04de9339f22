"""One tensor for many parameters: same values, same gradients, same steps."""

from __future__ import annotations

import copy

import torch
from torch import nn

from scbatchnorm._method.training.trainer import flatten_parameters


def network():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net, torch.randn(8, 3, generator=generator)


def test_values_and_gradients_are_shared():
    net, x = network()
    before = [p.detach().clone() for p in net.parameters()]
    whole = flatten_parameters(list(net.parameters()))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    net(x).square().sum().backward()
    learned = whole.grad
    assert learned is not None
    assert learned.abs().sum() > 0
    assert [p.grad.tolist() for p in net.parameters()] == [
        part.view_as(p).tolist() for part, p in zip(learned.split([12, 4, 8, 2]), net.parameters(), strict=True)
    ]
    with torch.no_grad():
        whole.zero_()
    assert all((p == 0).all() for p in net.parameters())


def test_steps_are_those_of_the_parameters():
    (one, x), (other, _) = network(), network()
    alone = torch.optim.AdamW(one.parameters(), lr=0.1)
    together = torch.optim.AdamW([flatten_parameters(list(other.parameters()))], lr=0.1)
    for _ in range(5):
        for net, optimizer in ((one, alone), (other, together)):
            optimizer.zero_grad(set_to_none=False)
            net(x).square().sum().backward()
            optimizer.step()
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_copies_are_on_their_own():
    net, _ = network()
    whole = flatten_parameters(list(net.parameters()))
    copied = copy.deepcopy(net)
    with torch.no_grad():
        whole.zero_()
    assert all((p != 0).any() for p in copied.parameters())
    assert all(p.untyped_storage().nbytes() == p.numel() * 4 for p in copied.parameters())
