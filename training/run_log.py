"""What a run tells while it runs: a line on the terminal, JSON lines on disk, TensorBoard; and when it must stop."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

from heartlens.refusal import Refused
from training.command import Progress
from training.distributed import Ranks

logger = logging.getLogger(__name__)

BAD_STEPS = 3
"""So many steps in a row without a finite loss end a run: one may be an unlucky batch, three are not."""


class Stopped(Exception):
    """A run that would be worthless if it went on; the text says why, where, and what to try."""


class RunLog:
    """``log.jsonl`` and TensorBoard events in the run's folder, and progress on stderr; silent on other ranks.

    Parameters
    ----------
    run : folder
    steps : how many there will be
    first : step at which the run goes on; what an earlier, killed process told of later steps is struck out
    """

    def __init__(self, run: Path, what: str, steps: int, first: int, ranks: Ranks) -> None:
        self.is_first = ranks.is_first
        self._since, self._images = time.perf_counter(), 0
        if not self.is_first:
            return
        self.path = Path(run) / "log.jsonl"
        _strike_out_after(self.path, first)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        self._progress = Progress(what, steps)
        self._progress.done = first
        self._board = _tensorboard(Path(run) / "tensorboard", first)

    def step(self, images: int, detail: str = "") -> None:
        """Count one step on the terminal."""
        self._images += images
        if self.is_first:
            self._progress.step(detail)

    def tell(self, step: int, **values: Any) -> None:
        """Write one line: the number of steps done and what is known after them, numbers or words.

        Numbers that JSON cannot hold (NaN, infinity) are written as words.
        """
        if not self.is_first:
            return
        plain = {k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **plain}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def images_per_second(self) -> float:
        """Of this process, since it was last asked."""
        now = time.perf_counter()
        rate = self._images / max(now - self._since, 1e-9)
        self._since, self._images = now, 0
        return rate

    def close(self) -> None:
        if self.is_first:
            self._progress.close()
            self._file.close()
            if self._board is not None:
                self._board.close()


class BadSteps:
    """Counts steps in a row whose loss or gradient is not finite; the third ends the run."""

    def __init__(self, run: Path) -> None:
        self.run, self.count = Path(run), 0

    def is_bad(self, step: int, loss: float, gradient: float, batch: list[str]) -> bool:
        """Whether this step must not move the weights.

        Parameters
        ----------
        batch : names of its samples on this process, written down when the run ends

        Raises
        ------
        Stopped : it is the third in a row
        """
        if math.isfinite(loss) and math.isfinite(gradient):
            self.count = 0
            return False
        self.count += 1
        logger.warning("step %d: loss %s, gradient %s; weights were left as they are", step, loss, gradient)
        if self.count >= BAD_STEPS:
            path = self.run / f"bad-batch-{step}-{os.environ.get('RANK', '0')}.json"
            path.write_text(json.dumps({"step": step, "loss": str(loss), "gradient": str(gradient), "batch": batch}))
            raise Stopped(
                f"step {step}: {BAD_STEPS} steps in a row without a finite loss (loss {loss}, gradient {gradient}); "
                f"the last batch was {', '.join(batch[:4])}{', …' if len(batch) > 4 else ''} (all in {path.name}); "
                "look at these images, or lower the rate"
            )
        return True


def _strike_out_after(path: Path, first: int) -> None:
    """Leave only the lines of steps up to `first`; the resumed run tells the later ones again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= first:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # the line that a kill cut short
    path.write_text("".join(kept), encoding="utf-8")


def _tensorboard(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("tensorboard is not installed; log.jsonl tells the same")
        return None
    try:
        # purge_step: what a killed process told of later steps is struck out here too.
        return SummaryWriter(str(folder), purge_step=first or None)
    except OSError as error:
        raise Refused("output", f"cannot write {folder}: {error.strerror or error}; choose another folder") from None
