"""The whole road on synthetic scans, by one command: from phantoms to a model bundle and its evaluation.

phantoms -> shards -> splits -> DINO, DINO-LG -> slice classifiers -> U-Net -> bundle -> report

python -m training.end_to_end --out DIR [--size mini] [KEY=VALUE ...]

Each stage is one of the commands of training/README.md, as a user would type it; DIR/logs keeps what it said. The same
command again goes on where it was stopped: what is finished is left as it is.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartlens import __version__
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from training.engine.cli import CANCELLED, DONE, command_named, run_command
from training.engine.config import as_dict, differences, load_recipe
from training.engine.run_log import make_run_folder

RUNS = Path(__file__).parent / "runs"
RECORD = "road.json"


@dataclass(frozen=True)
class RoadRecipe:
    """What one road is made of: training/runs/road-SIZE.toml.

    Parameters
    ----------
    phantoms, seed
        How many synthetic patients, and the seed of the first.
    phantom
        KEY=VALUE of `heartlens.phantom.PhantomParameters` for all of them
    proportions
        Of training, validation and test patients.
    dino, slices, unet
        Recipes by name, and KEY=VALUE that differ from them; of `dino` there is one with guidance, NAME-lg, beside it.
    name
        Of the bundle.
    draws
        Of the report's bootstrap.
    """

    phantoms: int = 48
    seed: int = 1
    phantom: tuple[str, ...] = ()
    proportions: tuple[float, float, float] = (0.6, 0.15, 0.25)
    dino: tuple[str, ...] = ("mini-dino",)
    slices: tuple[str, ...] = ("mini-slices",)
    unet: tuple[str, ...] = ("mini-unet",)
    name: str = "mini"
    draws: int = 2000

    def __post_init__(self) -> None:
        for field in ("dino", "slices", "unet"):
            words = getattr(self, field)
            if not words or "=" in words[0]:
                raise ValueError(f"{field} must begin with the name of a recipe in training/runs, got {list(words)}")


@dataclass(frozen=True)
class Stage:
    """One command of the road.

    Parameters
    ----------
    name
        As the road calls it.
    module
        Of `training`, whose main runs.
    arguments
        Of its command line.
    product
        Appears only when the stage is finished; None for a run, which says itself what is left to do.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    product: Path | None = None

    @property
    def command(self) -> str:
        """The stage as it would be typed in a shell."""
        return " ".join(["python -m", f"training.{self.module}", *self.arguments])


def stages_of(recipe: RoadRecipe, out: Path) -> list[Stage]:
    """The commands, in their order."""
    shards, splits, runs, bundle, report = (out / n for n in ("shards", "splits.json", "runs", "bundle", "report"))
    data = ("--shards", str(shards), "--splits", str(splits))

    def words(arguments: tuple[str, ...], ending: str = "") -> tuple[str, ...]:
        return str(RUNS / f"{arguments[0]}{ending}.toml"), *arguments[1:]

    def run(name: str) -> tuple[str, ...]:
        return (*data, "--out", str(runs / name))

    settings = (word for setting in recipe.phantom for word in ("--set", setting))
    phantoms = ("--count", str(recipe.phantoms), "--seed", str(recipe.seed), "--balanced", *settings)
    shares = ("--seed", str(recipe.seed), "--proportions", *map(str, recipe.proportions))
    backbones = {"DINO": "dino", "DINO-LG": "dino-lg"}
    side_by_side = (w for name, n in backbones.items() for w in ("--backbone", f"{name}={runs / f'slices-{n}'}"))
    trained_on = f"trained_on={recipe.phantoms} HeartLens phantoms, seeds from {recipe.seed}; no patient"
    return [
        Stage("phantoms", "prepare", ("phantoms", "--out", str(shards), *phantoms), shards / "index.json"),
        Stage("splits", "prepare", ("split", str(shards), "--out", str(splits), *shares), splits),
        *(
            Stage(name, "train_dino", (*words(recipe.dino, name.removeprefix("dino")), *run(name)))
            for name in backbones.values()
        ),
        *(
            Stage(
                f"slices-{name}",
                "train_slices",
                (*words(recipe.slices), "--backbone", str(runs / name), *run(f"slices-{name}")),
            )
            for name in backbones.values()
        ),
        Stage("unet", "train_unet", (*words(recipe.unet), *run("unet"))),
        Stage(
            "bundle",
            "export",
            (str(runs / "unet"), "--slices", str(runs / "slices-dino-lg"), "--out", str(bundle), "--name", recipe.name,
             *data, "--text", trained_on, "--text", "licence=Apache-2.0"),
            bundle / "manifest.json",
        ),
        Stage(
            "report",
            "evaluate",
            (*data, "--bundle", str(bundle), *side_by_side, "--draws", str(recipe.draws), "--out", str(report)),
            report / "report.json",
        ),
    ]  # fmt: skip


def run_stages(recipe: RoadRecipe, out: Path) -> int:
    """Run every stage that is not finished; one line each on stdout.

    Returns
    -------
    int
        The exit code of the stage that ended the road, or DONE.

    Raises
    ------
    InputRefused
        "output", the folder holds another run
    """
    record = _open_record(recipe, out)
    (out / "logs").mkdir(exist_ok=True)
    for stage in stages_of(recipe, out):
        seconds = record["seconds"].get(stage.name)
        if (stage.product is not None and stage.product.exists()) or (stage.product is None and seconds is not None):
            print(f"{stage.name:<16} already done", flush=True)
            continue
        start, log = time.perf_counter(), out / "logs" / f"{stage.name}.txt"
        main = command_named(stage.module)
        with open(log, "w", encoding="utf-8") as file, redirect_stdout(file):
            print(stage.command, flush=True)
            code = int(main(list(stage.arguments)))
        if code != DONE:
            print(f"{stage.name:<16} ended with {code}; see {log}; run the same command to resume", flush=True)
            return code
        record["seconds"][stage.name] = round(time.perf_counter() - start, 1)
        _write_record(out, record)
        print(f"{stage.name:<16} {record['seconds'][stage.name]:>6.1f} s", flush=True)
    print(f"{'together':<16} {sum(record['seconds'].values()):>6.1f} s   {out / 'report' / 'index.html'}")
    return DONE


def _open_record(recipe: RoadRecipe, out: Path) -> dict[str, Any]:
    """What this road is and how long its stages took, so far."""
    settings = {"version": __version__, **as_dict(recipe)}
    path = out / RECORD
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputRefused("output", f"{out} is there and holds no road; choose another --out")
        make_run_folder(out)
        record: dict[str, Any] = {"settings": settings, "seconds": {}}
        _write_record(out, record)
        return record
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        changed = differences(record["settings"], settings)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputRefused(
            "output", f"{path}: expected the record of a road, found {error}; choose another --out"
        ) from None
    if changed:
        changes = "; ".join(changed[:5])
        raise InputRefused("output", f"{out} holds another run (setting: there, now): {changes}; choose another --out")
    return record


def _write_record(out: Path, record: dict[str, Any]) -> None:
    with atomic_file(out / RECORD) as sibling:
        sibling.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let a stage that has no way of its own to stop clean up: pools of processes would outlive a plain SIGTERM."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    sizes = sorted(path.stem.removeprefix("road-") for path in RUNS.glob("road-*.toml"))
    parser = argparse.ArgumentParser(prog="python -m training.end_to_end", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings that differ from the size's")
    parser.add_argument("--out", type=Path, required=True, help="folder for all results; resumes an existing run")
    parser.add_argument("--size", choices=sizes, default="mini", help="training/runs/road-SIZE.toml (default mini)")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    recipe = load_recipe(RoadRecipe, RUNS / f"road-{options.size}.toml", options.changes)
    with _sigterm_as_ctrl_c():
        try:
            return run_stages(recipe, options.out)
        except KeyboardInterrupt:
            print("stopped; run the same command to resume", file=sys.stderr)
            return CANCELLED


if __name__ == "__main__":
    sys.exit(main())
