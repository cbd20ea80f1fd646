"""What every training does around its steps: resume, guard, log, keep the best, save, and stop on all processes.

A trainer brings its network and says what a step is; the rest is the same for all of them::

    loop = TrainingLoop(run, recipe, parts, "train_x", steps, ...)  # resumes from the newest checkpoint
    with loop:
        for batch in batches_from(loop.done):
            ...                                                     # forward and backward
            if loop.is_finite(value, names):
                optimizer.step()
            optimizer.zero_grad()
            loop.count(images)
            if loop.is_due(recipe.log_every):
                loop.note(loss=value)
            if loop.is_due(recipe.validate_every):
                if loop.is_best(validate()):
                    save_weights()
            if loop.save_or_stop():
                break
    return loop.is_complete
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from heartlens.core.errors import InputRefused
from training.engine.checkpoint import Checkpoints, StopRequest, stop_signals
from training.engine.distributed import Ranks, any_rank, barrier
from training.engine.monitor import NonFiniteGuard
from training.engine.run_log import RunLog


class BestFigure:
    """The best value of one figure so far: what says whose weights are kept.

    Parameters
    ----------
    figure
        Name among the figures of a validation; larger is better.
    value
        The best before; the first validation is better than the default.
    """

    def __init__(self, figure: str, value: float = -math.inf) -> None:
        self.figure, self.value = figure, value

    def take(self, metrics: Mapping[str, float]) -> bool:
        """Note one validation; whether it is the best so far (of equal ones, the first is).

        Parameters
        ----------
        metrics
            Figures of a validation, by name.
        """
        is_best = metrics[self.figure] > self.value
        if is_best:
            self.value = metrics[self.figure]
        return is_best


class TrainingLoop:
    """One run: where it stands, and what comes after each of its steps. All its processes must make the same calls.

    Parameters
    ----------
    run
        Folder of the run.
    recipe
        Its settings; a checkpoint of others is refused.
    parts
        What a checkpoint holds, by name, see `training.engine.checkpoint.Checkpoints.save`; "data" is added.
    stage
        Name in the bar, such as "train_dino".
    steps
        How many there are.
    data
        Checksums of what is trained on, in plain values; part of a checkpoint.
    other_data
        Ends the refusal of a run that was begun with other `data`: "begun ...; what to do".
    ranks
        The processes that share the run.
    save_every
        steps
    keep
        How many of the newest checkpoints are kept.
    best
        The named figure by which `is_best` judges.
    guard
        Ends the run after some steps in a row that are not finite.
    until
        Stop after this step as if a signal had come.
    deadline
        Stop after the first step that ends later than this, in seconds of `time.monotonic`.

    Attributes
    ----------
    done
        Steps that are done, of this and earlier starts.

    Raises
    ------
    InputRefused
        ``input``: the run has another recipe, other parts or other data; ``unreadable``: none of its checkpoints can
        be read
    """

    def __init__(
        self,
        run: Path,
        recipe: Any,
        parts: Mapping[str, Any],
        stage: str,
        steps: int,
        *,
        data: Any,
        other_data: str,
        ranks: Ranks | None = None,
        save_every: int = 1,
        keep: int = 2,
        best: BestFigure | None = None,
        guard: NonFiniteGuard | None = None,
        until: int | None = None,
        deadline: float | None = None,
    ) -> None:
        self.run, self.stage, self.steps, self.ranks = run, stage, steps, ranks or Ranks()
        self.best = best
        self._guard = guard or NonFiniteGuard()
        self._save_every, self._until, self._deadline = save_every, until, deadline
        self._parts = {**parts, "data": data}
        self._checkpoints = Checkpoints(run, recipe, keep=keep)
        self.done, saved = self._checkpoints.resume(self._parts)
        if saved and saved["data"] != data:
            raise InputRefused("input", f"{run} was {other_data}")
        barrier()  # nobody saves before everybody has seen what was saved
        self._stop = StopRequest()
        self._log: RunLog | None = None
        self._stack = ExitStack()

    def __enter__(self) -> TrainingLoop:
        self._stop = self._stack.enter_context(stop_signals())
        self._log = self._stack.enter_context(RunLog(self.run, self.ranks, self.stage, self.steps, self.done))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done."""
        return self.done == self.steps

    @property
    def log(self) -> RunLog:
        """The log of the run, inside of the loop's `with`."""
        if self._log is None:
            raise RuntimeError("a run has a log inside of `with loop:`")
        return self._log

    def is_finite(self, value: float, names: Callable[[], Sequence[str]]) -> bool:
        """Whether the step may be made: loss and gradient are finite on all processes. A bad step would stay for ever.

        Parameters
        ----------
        value
            Loss plus length of the gradient.
        names
            Gives what the step saw, for the message.

        Raises
        ------
        TrainingFailed
            Too many steps in a row are not finite.
        """
        is_bad = any_rank(not math.isfinite(value), self.ranks)
        self._guard.note(self.done + 1, is_bad, list(names()) if is_bad else [])
        return not is_bad

    def count(self, images: int) -> None:
        """Count a step and the images that it saw over all processes."""
        self.done += 1
        self.log.step(self.done, images)

    def is_due(self, every: int) -> bool:
        """Whether something is to be done after the step that was counted: every so many steps, and after the last."""
        return self.is_complete or self.done % every == 0

    def note(self, **metrics: float) -> None:
        """Log figures of the step that was counted."""
        self.log.note(self.done, **metrics)

    def is_best(self, metrics: Mapping[str, float]) -> bool:
        """Log a validation; whether its named figure is the best so far, and the weights are to be kept.

        Parameters
        ----------
        metrics
            Figures by name; the same on all processes.
        """
        self.note(**metrics)
        return self.best is not None and self.best.take(metrics)

    def save_or_stop(self) -> bool:
        """End a step: save when it is time, the run is over, or some process was asked to stop.

        Returns
        -------
        bool
            Whether the run was asked to stop: by a signal, by its deadline, or after this step; the same on all
            processes, so that none waits for another.
        """
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        stopping = any_rank(self._stop.requested or is_late, self.ranks) or self.done == self._until
        if stopping or self.is_due(self._save_every):
            self._checkpoints.save(self.done, self._parts, self.ranks)
        return stopping


def clip_gradient(network: nn.Module, longest: float, *, each: bool = False) -> Tensor:
    """Shorten the gradient of a network to a length.

    Parameters
    ----------
    longest
        0 leaves it as it is.
    each
        The gradient of each tensor is shortened for itself; otherwise all are by one factor.

    Returns
    -------
    Tensor
        (), its length before, over all processes, also where FSDP2 spreads it
    """
    length = nn.utils.clip_grad_norm_(network.parameters(), math.inf if each else longest or math.inf)
    for parameter in network.parameters() if each and longest else ():
        nn.utils.clip_grad_norm_([parameter], longest)
    return length.full_tensor() if hasattr(length, "full_tensor") else length
