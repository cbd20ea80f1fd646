"""Which process of how many this is, and sums over all of them: one process, or torchrun on many GPUs or CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from heartlens.core.errors import InputRefused

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """One process, the one that asks, among all of the run.

    Parameters
    ----------
    rank, world
        Number of this process, and how many there are.
    local_rank
        Number on this machine, which is also the number of its GPU.
    device
        Where this process computes.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """The process that writes files and talks to the user."""
        return self.rank == 0


@contextmanager
def process_group(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that torchrun started (NCCL on GPUs, gloo on CPUs); alone without torchrun.

    Parameters
    ----------
    device
        "auto" takes a GPU where there is one; "cpu"; "cuda"
    """
    rank, world, local = (
        int(os.environ.get(name, n)) for name, n in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    place = torch.device("cuda", local) if on_gpu else CPU
    if on_gpu:
        torch.cuda.set_device(place)
    launched = "RANK" in os.environ and world > 1
    if launched:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Ranks(rank, world, local, place)
        # None leaves while another still talks: gloo aborts a process whose peer has closed the connection.
        barrier()
    finally:
        if launched:
            dist.destroy_process_group()


def world_size() -> int:
    """How many processes sum together; 1 outside of a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over all processes, of which gradients may be taken.

    Every process then computes the same loss from the same sum, and each differentiates only its own part of it. DDP
    and FSDP average gradients over processes; the backward pass multiplies by their number, so that the average is
    the gradient of the loss of the whole batch.
    """
    return value if world_size() == 1 else _AllSum.apply(value)


def all_mean(value: torch.Tensor) -> torch.Tensor:
    """Mean of a tensor over all processes, without gradient (for a center, or a figure to log)."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def any_rank(flag: bool, ranks: Ranks) -> bool:
    """Whether any process raised a flag; the same answer everywhere, so that all stop at the same step."""
    if world_size() == 1:
        return flag
    flag_tensor = torch.tensor(float(flag), device=ranks.device)
    dist.all_reduce(flag_tensor, op=dist.ReduceOp.MAX)
    return bool(flag_tensor.item())


def data_parallel(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The network as all processes call it: going backward averages gradients over them (DDP). Alone, the network."""
    if ranks.world == 1:
        return network
    on_gpu = [ranks.local_rank] if ranks.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=on_gpu)


def require_even_batch(batch: int, ranks: Ranks) -> None:
    """Refuse a batch that cannot be shared out: the mean over shares would not be the mean of the whole.

    Raises
    ------
    InputRefused
        ``input``
    """
    if batch % ranks.world:
        raise InputRefused(
            "input", f"batch must divide by the {ranks.world} processes, got {batch}; choose another batch size"
        )


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * world_size()
