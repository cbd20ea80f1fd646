"""How many corrected cases does a bundle need? What training.learn gains from 10, 25, 50 and 100, and in which order.

python -m training.learning_curve CASE ... --start BUNDLE --out DIR [--sizes 10 25 50 100] [--seeds 0 1]
    [--orders random active] [--minutes N] [--set KEY=VALUE ...]

Each seed splits the patients as training.learn does; of those who may teach, the first so many of an order do, and both
bundles score the patients who judge. No bundle is shipped. The same command resumes, and more sizes, seeds or orders
add to what is there. Writes curve.json and table.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import Bundle, find_bundle, load_bundle
from training.adaptation.curve import CurveCell, curve_table, keep_cell, kept_cell, kept_errors, to_document
from training.adaptation.judged import judge, scan_errors
from training.adaptation.selection import ORDERS, Doubt, order_patients, read_doubts
from training.adaptation.site import SPLITS_FILE, Site, read_site, split_site
from training.adaptation.tuned import export_candidate, recipe_of, tune_bundle
from training.datasets.readings import state_of_cases
from training.datasets.splits import Splits, scans_of
from training.engine.cli import CANCELLED, DONE, Progress, deadline_after, run_command
from training.engine.config import fingerprint, load_recipe
from training.engine.json_records import write_json
from training.engine.provenance import source_commit
from training.engine.run_log import begin_folder, make_run_folder
from training.segmentation.recipe import SegmentationRecipe

RECIPE = Path(__file__).parent / "runs" / "learn.toml"

RECORD, TABLE, DOUBTS, BEFORE = "curve.json", "table.md", "doubts.json", "before.json"

SCHEMA = "heartlens.learning-curve/1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.learning_curve", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("case", type=Path, nargs="+", help="case folder, or report folder with one, that was signed")
    parser.add_argument("--start", required=True, metavar="BUNDLE", help="name or folder of the bundle to go on from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the curve; resumes an existing one")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 25, 50, 100], metavar="N",
                        help="patients who teach (default 10 25 50 100)")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="N", help="default 0 1")
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS), help="default: both")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings other than runs/learn.toml")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--minutes", dest="deadline", type=deadline_after, metavar="N",
        help="time budget: the training that runs is saved and stopped then; the same command resumes",
    )  # fmt: skip
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    folder = find_bundle(options.start)
    if folder is None:
        raise InputRefused("input", "--start none: rules have no weights; give a bundle")
    if min(options.sizes) < 1:
        raise InputRefused("input", f"--sizes: expected 1 or more patients, found {min(options.sizes)}; give others")
    curve = Curve(load_bundle(folder), options)
    finished: list[CurveCell] = []
    is_complete = True
    for cell in curve.cells():
        done = kept_cell(cell, options.out) or curve.train(cell)
        if done is None:
            is_complete = False
            break
        finished.append(done)
    head = {"schema": SCHEMA, "commit": source_commit(), **curve.head}
    write_json(options.out / RECORD, to_document(finished, head))
    text = curve_table(finished) if finished else ""
    with atomic_file(options.out / TABLE) as sibling:
        sibling.write_text(text, encoding="utf-8")
    print(text, end="")
    if not is_complete:
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    print(f"Curve: {options.out}")
    return DONE


class Curve:
    """One curve in its folder.

    Parameters
    ----------
    start
        The bundle that all trainings go on from.
    options
        Of the command line.
    """

    def __init__(self, start: Bundle, options: argparse.Namespace) -> None:
        self.start, self.options, self.out = start, options, options.out
        self.recipe = recipe_of(start, load_recipe(SegmentationRecipe, RECIPE, options.set))
        self.head = {
            "start": start.title,
            "start_files": start.checksums(),
            "cases": state_of_cases(options.case),
            "recipe": fingerprint(replace(self.recipe, seed=0)),
        }
        begin_folder(self.out / RECORD, self.head, "curve", schema=SCHEMA)
        first = read_site(options.case, self.out / "cases", 0)
        used = first.learned_from()["cases"]
        skipped = ", ".join(f"{count} {code}" for code, count in sorted(used["skipped"].items()))
        print(f"{used['used']} of {used['given']} cases used{f'; skipped: {skipped}' if skipped else ''}", flush=True)
        self.sites = {seed: self._site(first, seed) for seed in options.seeds}

    def _site(self, first: Site, seed: int) -> Site:
        """The same cases, split by another seed; the first one's splits are those of the cases' folder."""
        if seed == first.splits.seed:
            return first
        folder = self.out / f"seed-{seed}"
        make_run_folder(folder)
        return first._replace(splits=split_site(first.shards, folder / SPLITS_FILE, seed))

    def cells(self) -> Iterator[CurveCell]:
        """Size by size, so that a curve that is cut short is whole as far as it goes."""
        for size in sorted(set(self.options.sizes)):
            for seed in self.options.seeds:
                for order in self.options.orders:
                    yield CurveCell(order, seed, size)

    def train(self, cell: CurveCell) -> CurveCell | None:
        """Train and judge one cell, and keep it; None where it was asked to stop.

        Parameters
        ----------
        cell
            Which.
        """
        site, work = self.sites[cell.seed], self.out / cell.folder
        work.mkdir(parents=True, exist_ok=True)
        pool = site.splits.train
        if len(pool) < cell.size:
            done = replace(cell, why_not=f"only {len(pool)} patients may teach")
            keep_cell(done, self.out)
            return done
        taught = self._ordered(cell, site)[: cell.size]
        smaller = Splits(tuple(taught), site.splits.validation, site.splits.test, cell.seed, site.splits.proportions)
        own = site._replace(splits=smaller)
        scans = scans_of(own.shards, smaller.train)
        if not any(own.shards.scans[n].calcified_slices for n in scans):
            done = replace(cell, why_not="no coronary calcium among those who teach")
        else:
            recipe = replace(self.recipe, seed=cell.seed)
            data = (own.shards, smaller)
            if not tune_bundle(
                self.start, recipe, data, work, device=self.options.device, deadline=self.options.deadline
            ):
                return None
            candidate, _ = export_candidate(self.start, own, data, work, "curve")
            done = self._judged(cell, own, candidate)
        keep_cell(done, self.out)
        print(f"{cell.size} cases, {cell.order} order, seed {cell.seed}: {done.why_not or f'gain {done.gain:+.3f}'}")
        return done

    def _ordered(self, cell: CurveCell, site: Site) -> list[str]:
        def doubts(scans: Sequence[int]) -> dict[int, Doubt]:
            bar = Progress("doubt", len(scans))
            try:
                return read_doubts(self.start.folder, site.shards, scans, self.out / DOUBTS, bar.step)
            finally:
                bar.close()

        return order_patients(site.splits.train, cell.order, cell.seed, shards=site.shards, doubts=doubts)

    def _judged(self, cell: CurveCell, site: Site, candidate: Bundle) -> CurveCell:
        judges = scans_of(site.shards, site.splits.test)
        errors = partial(scan_errors, shards=site.shards, scans=judges)
        before = kept_errors(self.out / f"seed-{cell.seed}" / BEFORE, partial(errors, self.start.folder))
        judgement = judge("held-out patients", site.shards, before, errors(candidate.folder))
        gain = judgement.gain
        if not gain.n:
            first = f"; the first: {judgement.failures[0].reason}" if judgement.failures else ""
            raise InputRefused("input", f"no scan of the patients who judge could be scored by both bundles{first}")
        low, high = (None if value != value else value for value in (gain.low, gain.high))
        return replace(cell, gain=gain.mean, low=low, high=high, judged=gain.n)


if __name__ == "__main__":
    sys.exit(main())
