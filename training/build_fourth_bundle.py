"""Build the fourth bundle: bundle 3 trained on, on phantoms of both anatomies and on real backgrounds.

python -m training.build_fourth_bundle WORK --from BUNDLE [--data DIR] [--stages data unet bundle] [--minutes M]

Each stage resumes where it stopped: the same command goes on. Data are made part by part, and training takes the parts
that are there, so that a short budget gives fewer people and no error. Without --data there are no backgrounds, and the
manifest says so. The stage "slices" tunes the slice classifier too; without it that of the bundle is taken over.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import MANIFEST, load_bundle
from training.datasets.backgrounds.insertion import SOURCE as BACKGROUND_SOURCE
from training.datasets.backgrounds.marks import read_marks
from training.datasets.hearts import HEARTS
from training.datasets.lifelike_sets import (
    CALIBRATION,
    HELD_OUT,
    REPLAYED,
    REPLAYED_CALIBRATION,
    REPLAYED_VALIDATION,
    TRAINING,
    VALIDATION,
    Found,
    laid,
    made,
)
from training.datasets.phantom_sets import Seeds
from training.datasets.scans import LabeledScan, Skipped
from training.datasets.shard_writer import write_shards
from training.datasets.shards import INDEX, ScanRecord, ShardSet
from training.datasets.sources import pseudonym
from training.datasets.splits import Splits
from training.deploy.bundle_weights import slices_start
from training.deploy.calibration import calibrate, read_scans, write_manifest
from training.deploy.credits import CREDITS, credits_of_scans, credits_of_start, merged_credits
from training.deploy.fusion import fit_fusion, read_opinions
from training.engine.cli import CANCELLED, DONE, command_named, deadline_after, run_command

RECIPES = Path(__file__).parent / "runs"

NAME = "heartlens-embedded"

PART = 8
"""People of one shard folder: what a kill loses at most."""

BACKGROUNDS = "backgrounds"

STAGES = ("data", "unet", "slices", "bundle")

SHARES = (1.0, 1.0, 2.0)
"""What anatomy 2, anatomy 1 and real scans weigh in the fusion: real ones as much as all phantoms together."""

DOMAIN = {"pixel_mm": (0.29, 1.4), "increment_mm": (1.0, 5.0), "kvp": (80.0, 140.0), "field_of_view_mm": (150.0, 420.0)}
"""What `heartlens.phantom.lifelike` draws from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.build_fourth_bundle", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("work", type=Path, help="folder for shards, runs and the bundle")
    parser.add_argument("--from", dest="start", type=Path, required=True, metavar="BUNDLE", help="bundle to go on from")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of real scans, see datasets/backgrounds")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=("data", "unet", "bundle"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the stage unet or slices"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that make phantoms (default 2)")
    parser.add_argument(
        "--minutes", dest="deadline", type=deadline_after, metavar="N",
        help="time budget of the stages together; work is kept, and the same command resumes",
    )  # fmt: skip
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    if options.workers < 1:
        raise InputRefused("input", f"--workers must be 1 or more, got {options.workers}")
    load_bundle(options.start)
    options.work.mkdir(parents=True, exist_ok=True)
    stages: dict[str, Callable[[argparse.Namespace], bool]] = {
        "data": _make_data,
        "unet": _train_unet,
        "slices": _tune_slices,
        "bundle": _export,
    }
    for stage in STAGES:
        if stage in options.stages and not stages[stage](options):
            print("stopped; run the same command to resume", file=sys.stderr)
            return CANCELLED
    return DONE


def parts(work: Path) -> dict[Path, range]:
    """Folders of shards and the people in each, in the order in which they are made."""
    groups = {
        "validation": (VALIDATION, REPLAYED_VALIDATION),
        "training": (TRAINING, REPLAYED),
        "calibration": (CALIBRATION, REPLAYED_CALIBRATION),
    }
    every = {name: _interleaved(work, name, *seeds) for name, seeds in groups.items()}
    # A budget that ends early leaves some of each.
    early = [*every["validation"][:2], *every["training"][:8], *every["calibration"][:4]]
    return dict(early + [part for rest in every.values() for part in rest])


def _interleaved(work: Path, name: str, new: Seeds, replayed: Seeds) -> list[tuple[Path, range]]:
    """Parts of both anatomies in turn, as long as each lasts."""
    two = [
        [(work / f"{name}-{anatomy}-{n:02d}", seeds.range[first : first + PART])
         for n, first in enumerate(range(0, seeds.count, PART))]
        for anatomy, seeds in ((2, new), (1, replayed))
    ]  # fmt: skip
    return [part for pair in zip_longest(*two) for part in pair if part is not None]


def whole_parts(work: Path, *names: str) -> list[Path]:
    """The folders that are there and whole, of these kinds."""
    folders = [*parts(work), work / BACKGROUNDS]
    return [f for f in folders if f.name.split("-")[0] in names and all((f / n).exists() for n in (INDEX, HEARTS))]


def _make_data(options: argparse.Namespace) -> bool:
    if options.data is not None and not whole_parts(options.work, BACKGROUNDS):
        skipped = _write_part(options.work / BACKGROUNDS, laid(read_marks(), options.data))
        for skip in skipped:
            print(f"{skip.name}: {skip.code}: {skip.text}", file=sys.stderr)
    missing = [(f, seeds) for f, seeds in parts(options.work).items() if f not in whole_parts(options.work, *_kinds())]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for folder, seeds in missing:
            if options.deadline is not None and time.monotonic() > options.deadline:
                return False
            _write_part(folder, (found for person in pool.map(made, seeds) for found in person))
    return True


def _kinds() -> tuple[str, ...]:
    return ("training", "validation", "calibration")


def _write_part(folder: Path, found: Iterator[Found | Skipped]) -> tuple[Skipped, ...]:
    """Shards of some scans, and where the heart of each lies; what was cut short is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    hearts: dict[str, list[float]] = {}

    def scans() -> Iterator[LabeledScan | Skipped]:
        for one in found:
            if isinstance(one, Skipped):
                yield one
            else:
                hearts[one[0].name] = one[1]
                yield one[0]

    began = time.monotonic()
    shards = write_shards(folder, scans())
    with atomic_file(folder / HEARTS) as sibling:
        sibling.write_text(json.dumps({scan.voxels_sha256: hearts[scan.name] for scan in shards.scans}))
    print(f"{folder.name}: {len(shards.scans)} scans in {time.monotonic() - began:.0f} s", flush=True)
    return shards.skipped


def _data_of(work: Path, run: Path) -> list[str]:
    """``--shards`` and ``--splits`` of what is there; hearts are laid into the run's folder.

    A run keeps the parts that it began with: later ones would be other data.
    """
    run.mkdir(exist_ok=True)
    record = run / "parts.json"
    if not record.exists():
        with atomic_file(record) as sibling:
            sibling.write_text(json.dumps([f.name for f in whole_parts(work, "training", "validation", BACKGROUNDS)]))
    folders = [work / name for name in json.loads(record.read_text())]
    if not any(f.name.startswith("training") for f in folders):
        record.unlink()
        raise InputRefused("input", f"{work} holds no part for training yet; run the stage data first")
    hearts: dict[str, list[float]] = {}
    for folder in folders:
        hearts |= json.loads((folder / HEARTS).read_text())
    with atomic_file(run / HEARTS) as sibling:
        sibling.write_text(json.dumps(hearts))
    _splits(folders).save(run / "splits.json")
    return ["--shards", *map(str, folders), "--splits", str(run / "splits.json")]


def _splits(folders: Sequence[Path]) -> Splits:
    """Who is trained on, who chooses the best step, and one person for the third part, which nothing reads."""
    held_out = {pseudonym(BACKGROUND_SOURCE, person) for person in HELD_OUT}
    train: set[str] = set()
    validation: set[str] = set()
    for folder in folders:
        patients = {scan.patient for scan in ShardSet.open(folder).scans}
        if folder.name == BACKGROUNDS:
            train, validation = train | (patients - held_out), validation | (patients & held_out)
        elif folder.name.startswith("validation"):
            validation |= patients
        else:
            train |= patients
    spare = min(validation - held_out)
    return Splits(tuple(train), tuple(validation - {spare}), (spare,))


def _train_unet(options: argparse.Namespace) -> bool:
    run = options.work / "unet"
    recipe = [str(RECIPES / "fourth-unet.toml"), *(options.set if "slices" not in options.stages else [])]
    return _command("train_unet", options, [*recipe, "--from", str(options.start)], run)


def _tune_slices(options: argparse.Namespace) -> bool:
    run = options.work / "slices"
    start = slices_start(options.start, options.work / "slices-start")
    recipe = [str(RECIPES / "fourth-slices.toml"), *(options.set if "unet" not in options.stages else [])]
    return _command("finetune_slices", options, [*recipe, "--from", str(start)], run)


def _command(name: str, options: argparse.Namespace, words: list[str], run: Path) -> bool:
    minutes = []
    if options.deadline is not None:
        minutes = ["--minutes", f"{max((options.deadline - time.monotonic()) / 60, 0.01):.2f}"]
    code = command_named(name)([*words, *_data_of(options.work, run), "--out", str(run), *minutes])
    if code not in (DONE, CANCELLED):
        raise SystemExit(code)
    return code == DONE


def _export(options: argparse.Namespace) -> bool:
    work = options.work
    if (work / "bundle" / MANIFEST).exists():
        print(f"{work / 'bundle'} already exists")
        return True
    slices = work / "slices"
    if not (slices / "slice_classifier.pt").exists():
        slices = slices_start(options.start, work / "slices-start")
    uncalibrated = work / "uncalibrated"
    shutil.rmtree(uncalibrated, ignore_errors=True)
    words = [f"--text={name}={text}" for name, text in _texts(work).items()]
    words += [f"--domain={name}={low:g},{high:g}" for name, (low, high) in DOMAIN.items()]
    data = _data_of(work, work / "unet")
    runs = [str(work / "unet"), "--slices", str(slices), "--out", str(uncalibrated)]
    code = command_named("export")([*runs, "--name", NAME, "--half", *data, *words])
    if code != DONE:
        raise SystemExit(code)
    folders = whole_parts(work, "calibration", "validation", BACKGROUNDS)
    if not any(f.name.startswith("calibration") for f in folders):
        raise InputRefused("input", f"{work} holds no part for calibration yet; run the stage data again")
    bundle, shards = load_bundle(uncalibrated), ShardSet.open(*folders)
    scans = mixture(shards)
    changes = calibrate(bundle, scans, shards, cut_off="balanced")
    groups = [read_scans(group, shards) for group in by_origin(shards, scans)]
    fusion = fit_fusion(read_opinions(bundle, groups, SHARES))
    changes["vessel"]["fusion"] = asdict(fusion)
    credit_list = merged_credits(credits_of_start(work / "unet"), credits_of_scans(_trained_on(work)))
    write_manifest(bundle, {**changes, CREDITS: credit_list})
    uncalibrated.rename(work / "bundle")
    return True


def mixture(shards: ShardSet) -> list[int]:
    """Numbers of the scans that cut-off and probability are fitted to: no real background that was trained on."""
    held_out = {pseudonym(BACKGROUND_SOURCE, person) for person in HELD_OUT}
    return [n for n, scan in enumerate(shards.scans) if scan.source != BACKGROUND_SOURCE or scan.patient in held_out]


def by_origin(shards: ShardSet, scans: Sequence[int]) -> list[list[int]]:
    """The scans of anatomy 2, of anatomy 1, and real ones: see `SHARES`."""

    def origin(scan: ScanRecord) -> int:
        return 0 if scan.source == BACKGROUND_SOURCE else int(scan.provenance["parameters"]["anatomy"])

    return [[n for n in scans if origin(shards.scans[n]) == kind] for kind in (2, 1, 0)]


def _trained_on(work: Path) -> list[ScanRecord]:
    folders = [work / name for name in json.loads((work / "unet" / "parts.json").read_text())]
    return [scan for folder in folders for scan in ShardSet.open(folder).scans]


def _texts(work: Path) -> dict[str, str]:
    """What the manifest says in words: how many synthetic people, and how many real scans."""
    scans = _trained_on(work)
    phantoms = {scan.patient for scan in scans if scan.source == "phantom"}
    names = {s.provenance["background"] for s in scans if "background" in s.provenance}
    real = f"plaques inserted into {len(names)} real scans without coronary calcium" if names else "no real scan"
    return {
        "version": "4",
        "licence": "Apache-2.0",
        "trained_on": f"{len(phantoms)} synthetic people of HeartLens (anatomies 1 and 2), begun with the weights of "
        f"bundle 3, and {real}; no patient's own calcium was seen in training",
        "intended_use": "Research and teaching. Not for diagnosis; every lesion is to be checked by a reader.",
        "field_of_view": "CT without contrast that shows the whole heart; fields of 150 to 420 mm, increments of 1 to "
        "5 mm.",
    }


if __name__ == "__main__":
    sys.exit(main())
