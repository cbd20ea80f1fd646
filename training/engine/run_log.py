"""What a run says while it runs: JSON lines in its folder, TensorBoard where it is installed, a bar on a terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from training.engine.distributed import Ranks
from training.engine.json_records import write_json

FILE = "log.jsonl"


class RunLog:
    """The log of one stage; only the first process writes.

    A resumed run goes on in the same file; lines of steps that it will do again are taken away.

    Parameters
    ----------
    run
        Folder of the run.
    stage
        name in the bar, such as "train_dino"
    steps, start
        How many there are, and how many are done.

    Raises
    ------
    InputRefused
        ``output``, here and in `note`, when the disk does not take it
    """

    def __init__(self, run: Path, ranks: Ranks, stage: str, steps: int, start: int = 0) -> None:
        self.path = Path(run) / FILE
        self.stage, self.steps = stage, steps
        self._writes = ranks.is_first
        self._bar = self._writes and sys.stderr.isatty()
        self._since, self._images = time.perf_counter(), 0
        self._shown: dict[str, float] = {}
        self._board: Any = None
        if self._writes:
            make_run_folder(self.path.parent)
            kept = [line for line in _lines(self.path) if line["step"] <= start] if start else []
            with atomic_file(self.path) as sibling:
                sibling.write_text("".join(json.dumps(line) + "\n" for line in kept))
            with self._on_disk():
                self._board = _tensorboard(Path(run), start)

    def note(self, step: int, **values: float) -> None:
        """Write some figures of a step."""
        if not self._writes:
            return
        self._shown |= values
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        with self._on_disk():
            with open(self.path, "a") as file:
                file.write(json.dumps({"step": step, **finite}) + "\n")
            if self._board is not None:
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)

    def step(self, step: int, images: int) -> None:
        """Count a step and the images it saw; shows the bar."""
        self._images += images
        if self._bar:
            loss = f" loss {self._shown['loss']:.3f}" if "loss" in self._shown else ""
            text = f"{self.stage} {step} of {self.steps}, {self.images_per_second:.1f} images/s{loss}"
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise InputRefused(
                "output", f"cannot write {self.path}: {reason}; free some space, then run the same command to resume"
            ) from None

    @property
    def images_per_second(self) -> float:
        """Since the start of this process."""
        return self._images / max(1e-9, time.perf_counter() - self._since)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if self._board is not None:
            self._board.close()


def read_log(run: Path) -> dict[int, dict[str, float | None]]:
    """Figures of each logged step of a run."""
    by_step: dict[int, dict[str, float | None]] = {}
    for line in _lines(Path(run) / FILE):
        by_step.setdefault(int(line["step"]), {}).update({n: v for n, v in line.items() if n != "step"})
    return by_step


def make_run_folder(folder: Path) -> None:
    """Make the folder of a run, or resume an existing one.

    Raises
    ------
    InputRefused
        ``output``
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputRefused("output", f"cannot make {folder}: {error.strerror or error}; choose another --out") from None


def begin_folder(record: Path, settings: Mapping[str, Any], what: str, **more: Any) -> None:
    """Make the folder of a run and say what it is, or refuse to go on with one that is something else.

    Parameters
    ----------
    record
        JSON file in the folder; one that is there is left as it is.
    settings
        What must be the same when it goes on.
    what
        Of what kind it is, for the message.
    **more
        Written beside them, and free to differ.

    Raises
    ------
    InputRefused
        ``input``: the folder holds another one; ``output``: it cannot be made
    """
    make_run_folder(record.parent)
    if not record.exists():
        write_json(record, {**settings, **more})
        return
    begun = json.loads(record.read_text(encoding="utf-8"))
    other = [name for name, value in settings.items() if begun.get(name) != value]
    if other:
        raise InputRefused(
            "input", f"{record.parent} holds a {what} with other {', '.join(other)}; choose another --out"
        )


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a log; a kill may have cut the last one."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def _tensorboard(run: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # Steps that were shown before a kill and are done again must not be shown twice.
    return SummaryWriter(str(run / "tensorboard"), purge_step=start + 1 if start else None)
