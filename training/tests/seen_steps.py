"""What an optimizer is given, whichever trainer steps it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from needed import torch


@contextmanager
def gradient_lengths() -> Iterator[list[float]]:
    """The length of the whole gradient by which each step is made, step after step."""
    lengths: list[float] = []

    def note(optimizer: Any, *_: Any) -> None:
        parts = [p.grad.norm() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        lengths.append(float(torch.stack(parts).norm()))

    handle = import_module("torch.optim.optimizer").register_optimizer_step_pre_hook(note)
    try:
        yield lengths
    finally:
        handle.remove()
