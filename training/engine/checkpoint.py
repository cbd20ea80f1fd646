"""Save a run so that a kill loses at most one interval, and take it up again as if nothing had happened.

A checkpoint is one file, written beside its place and renamed: weights, optimizer, step, random states and the
fingerprint of the recipe. Sample order and augmentation are functions of seed, epoch and sample
(`training.datasets.sampling`), so the step says everything about the position in the data.
"""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from training.engine.config import differences, fingerprint
from training.engine.distributed import Ranks, barrier

logger = logging.getLogger(__name__)

SCHEMA = "heartlens.checkpoint/1"


class Checkpoints:
    """The checkpoints of one run, in ``<run>/checkpoints``.

    Parameters
    ----------
    run
        Folder of the run.
    recipe
        Its settings; a checkpoint of other settings is refused (fields marked `free` may differ).
    keep
        How many of the newest are kept.
    """

    def __init__(self, run: Path, recipe: Any, *, keep: int = 2) -> None:
        self.folder = Path(run) / "checkpoints"
        self.identity = fingerprint(recipe)
        self.keep = keep

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def save(self, step: int, parts: Mapping[str, Any], ranks: Ranks | None = None) -> Path:
        """Write the state after `step` steps; rank 0 writes, all ranks must call.

        Parameters
        ----------
        parts
            By name, anything with ``state_dict`` and ``load_state_dict`` (model, optimizer, loss with a center), or a
            plain value made of tensors, numbers, strings, lists and dicts.

        Raises
        ------
        InputRefused
            ``output``, when the disk does not take it; older checkpoints are left as they were
        """
        ranks = ranks or Ranks()
        path = self.folder / f"step-{step:09d}.pt"
        states = {name: _state_of(name, part, parts) for name, part in parts.items()}
        if ranks.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Random states of rank 0 alone: nothing in a step draws from them (see training.datasets.sampling); they
            # are kept for code that a user adds.
            content = {
                "schema": SCHEMA, "step": step, "parts": states, "random": random_states(), "identity": self.identity,
            }  # fmt: skip
            write_torch(content, path)
            for old in self.paths()[: -self.keep]:
                old.unlink(missing_ok=True)
        barrier()
        return path

    def resume(self, parts: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Load the newest readable checkpoint into `parts`.

        Returns
        -------
        step : int
            0 when there is none
        values : dict[str, Any]
            The plain values that were saved.

        Raises
        ------
        InputRefused
            ``input``, a checkpoint of another recipe (the settings that differ are named) or of other parts;
            ``unreadable``, when there are checkpoints and none can be read
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                content = read_checkpoint(path)
            except InputRefused as refusal:
                logger.warning("%s; taking the one before", refusal.text)
                continue
            self._require_same_recipe(path, content)
            missing = sorted(set(parts) ^ set(content["parts"]))
            if missing:
                raise InputRefused(
                    "input", f"{path}: expected the parts {sorted(parts)}, found {sorted(content['parts'])}"
                )
            for name, part in parts.items():
                if hasattr(part, "load_state_dict"):
                    _load_state(name, part, content["parts"][name], parts, path)
            set_random_states(content["random"])
            plain = {n: v for n, v in content["parts"].items() if not hasattr(parts[n], "load_state_dict")}
            return int(content["step"]), plain
        if paths:
            raise InputRefused(
                "unreadable", f"{self.folder}: none of {len(paths)} checkpoints can be read; start a new run"
            )
        return 0, {}

    def check(self) -> None:
        """Refuse a run of another recipe before anything is done; `resume` would refuse it after the data are read."""
        for path in reversed(self.paths()):
            try:
                content = read_checkpoint(path)
            except InputRefused:
                continue  # `resume` says what is wrong with it
            self._require_same_recipe(path, content)
            return

    def _require_same_recipe(self, path: Path, content: dict[str, Any]) -> None:
        identity = content["identity"]
        if identity["sha256"] != self.identity["sha256"]:
            changed = "; ".join(differences(identity["recipe"], self.identity["recipe"])[:5])
            raise InputRefused(
                "input",
                f"{path} belongs to another recipe (setting: in the checkpoint, now): {changed}; "
                "give the run another folder, or the old settings back",
            )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, tensors on the CPU.

    Raises
    ------
    InputRefused
        ``unreadable``: damaged, or no checkpoint of HeartLens
    """
    try:
        # weights_only: a checkpoint from elsewhere cannot run code here.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        first_line = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputRefused("unreadable", f"{path}: expected a checkpoint, found: {first_line}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputRefused("unreadable", f"{path}: expected a checkpoint with schema {SCHEMA}")
    return content


def write_torch(content: Any, path: Path) -> None:
    """`torch.save`, whole or not at all, and on the disk before it is named."""
    with atomic_file(path) as sibling:
        try:
            with open(sibling, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # torch hides a full disk in one
            raise OSError(str(error).splitlines()[0]) from error


def random_states() -> dict[str, Any]:
    """States of the generators of python, numpy and torch, as plain values that `weights_only` loads."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, words, spare = random.getstate()
    states = {
        "python": [version, list(words), spare],
        "numpy": [kind, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Undo of `random_states`."""
    version, words, spare = states["python"]
    random.setstate((version, tuple(words), spare))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGINT into a request that the loop reads after each step; a second one ends at once."""
    request = StopRequest()

    def note(number: int, frame: Any) -> None:
        if request.signal is not None:
            raise SystemExit(128 + number)
        request.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_signals_to_the_run(worker: int) -> None:
    """First thing in a process that only reads slices (`worker_init_fn`).

    torchrun, SLURM and Ctrl-C tell the whole group of processes. A reader that ended at once would end the run with it,
    in the middle of the step after which it was to save; readers end when the run does.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """Whether the process was asked to stop, and by which signal."""

    signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None


def full_state(model: torch.nn.Module) -> dict[str, Any]:
    """Weights of a model by name, whole and on the CPU also where FSDP2 spreads them; all processes must call."""
    from torch.distributed.checkpoint import state_dict as sharded

    if _is_sharded(model):
        whole = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(sharded.get_model_state_dict(model, options=whole))
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def _is_sharded(model: Any) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(model, torch.nn.Module) and any(isinstance(p, DTensor) for p in model.parameters())


def _owner(parts: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> torch.nn.Module | None:
    """The sharded model whose parameters an optimizer moves."""
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for part in parts.values():
        if _is_sharded(part) and any(id(p) in moved for p in part.parameters()):
            return part
    return None


def _state_of(name: str, part: Any, parts: Mapping[str, Any]) -> Any:
    """State of one part, whole and on the CPU also where FSDP2 spreads it over processes."""
    from torch.distributed.checkpoint import state_dict as sharded

    whole = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)
    if _is_sharded(part):
        return sharded.get_model_state_dict(part, options=whole)
    if isinstance(part, torch.optim.Optimizer):
        model = _owner(parts, part)
        return part.state_dict() if model is None else sharded.get_optimizer_state_dict(model, part, options=whole)
    return part.state_dict() if hasattr(part, "state_dict") else part


def _load_state(name: str, part: Any, state: Any, parts: Mapping[str, Any], path: Path) -> None:
    from torch.distributed.checkpoint import state_dict as sharded

    whole = sharded.StateDictOptions(full_state_dict=True)
    try:
        if _is_sharded(part):
            sharded.set_model_state_dict(part, state, options=whole)
        elif isinstance(part, torch.optim.Optimizer) and (model := _owner(parts, part)) is not None:
            sharded.set_optimizer_state_dict(model, part, state, options=whole)
        else:
            part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        error_text = " ".join(str(error).split())[:300]
        raise InputRefused("input", f"{path}: {name} does not fit this network: {error_text}") from None
