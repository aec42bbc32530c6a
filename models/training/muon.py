"""Muon: momentum whose matrix updates are made orthogonal (K. Jordan, 2024), with decoupled weight decay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor


def orthogonal(g: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards U V' of g = U S V', for a stack of matrices (n, rows, columns)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x


_compiled = torch.compile(orthogonal, dynamic=False)


class Muon(torch.optim.Optimizer):
    """For the matrices of the blocks; embeddings and norms belong to AdamW."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure
        for group in self.param_groups:
            stacks: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                stacks[p.shape].append(p)
            for shape, params in stacks.items():
                grads = []
                for p in params:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                    buffer = self.state[p]["momentum"]
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    grads.append(p.grad.lerp(buffer, group["momentum"]))  # Nesterov
                towards = _compiled if params[0].is_cuda else orthogonal
                update = (
                    towards(torch.stack(grads)).to(params[0].dtype) * max(1.0, shape[0] / shape[1]) ** 0.5
                )
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(update.unbind()), alpha=-group["lr"])
