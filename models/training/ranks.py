"""The processes that train one model together, one for each GPU; ``torchrun`` starts them.

Each computes its own part of a batch, and the gradients are averaged before the optimizers see them. Everything
that depends on the time follows the clock of the first process, so that all of them take the same steps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among ``count``."""

    rank: int = 0
    count: int = 1
    clocks: distributed.ProcessGroup | None = None
    """For numbers that live on the CPU: a broadcast here does not wait for the GPU."""

    @classmethod
    def join(cls) -> Ranks:
        """Meet the others that ``torchrun`` has started; alone, there is nobody to meet."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if cuda else "gloo")
        return cls(int(os.environ["RANK"]), count, distributed.new_group(backend="gloo"))

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def clock(self, seconds: float) -> float:
        """The first process' number for all of them."""
        if self.count == 1:
            return seconds
        value = torch.tensor([seconds], dtype=torch.float64)
        distributed.broadcast(value, 0, group=self.clocks)
        return float(value)

    def average(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by the mean of all processes'."""
        if self.count == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        distributed.all_reduce(flat)
        flat /= self.count
        for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            g.copy_(part.view_as(g))

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values: equal steps may still round differently."""
        if self.count > 1:
            for t in tensors:
                distributed.broadcast(t.detach(), 0)

    def leave(self) -> None:
        """Part from the others at the end."""
        if self.count > 1:
            distributed.barrier(group=self.clocks)
            distributed.destroy_process_group()
