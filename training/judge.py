"""Judge the product on hearts that no training has seen: `make judge DATA=../shared/data`.

python -m training.judge --out DIR [--data DATA] [--bundle NAME|DIR|none] [--docs docs/models.md] [--pictures DIR]

Real scans and slices, the same made sharp, plaques laid into real hearts, a second family of phantoms, and own phantoms
outside of what is drawn; each scored by the whole pipeline, with the bundle, by the rules, and with the bundle but
without its slice stage. Writes judge.json and judge.md and prints the latter. What was judged before by the same
program is kept; --fresh does it again. Nobody may choose anything by these scans.

DATA is a folder of openly licensed scans that is not part of HeartLens. A set that is not there is left out with the
reason. Pictures show people: they stay where they are written.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from heartlens.case.case import Case
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import SCORED_ARTERIES
from heartlens.io.volumes import read_labels
from heartlens.networks.bundle import RULES, find_bundle, load_bundle
from heartlens.pipeline import Request
from training.datasets.phantom_sets import SECOND_FAMILY, TEST, generator_hash
from training.engine.cli import DONE, run_command
from training.engine.json_records import to_plain
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation.answers import known_islands
from training.evaluation.judge_tables import (
    HEARTS,
    LAID,
    LIDC,
    MARKS,
    NYSBU,
    PAIRS,
    SECOND,
    TCGA,
    WANTED,
    collected,
    judge_text,
)
from training.evaluation.plots import answer_figure, save_png
from training.evaluation.results import Failure, Patient, Summary
from training.evaluation.sources.hearts import SETS, RealSet
from training.evaluation.sources.judged import PROTOCOL, JudgedScan, judge_once, open_scan
from training.evaluation.sources.kernels import SharpKernel, edge_profile, fit_kernel, sharpened_scans
from training.evaluation.sources.laid import laid_scans
from training.evaluation.sources.phantoms import BUNDLE, BY_RULES, NO_SLICE_STAGE
from training.evaluation.sources.second_family import make_cases
from training.evaluation.sources.shifted import SHIFTED_SETS, TEST_SET, ShiftedSet
from training.evaluation.statistics import summarize
from training.evaluation.tables import put_into
from training.metrics.intervals import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED

SCHEMA = "heartlens.judge/1"

PHANTOMS = 8
"""Of each set of the own generator, unless more are asked for."""

SECOND_CASES = 8
"""Of the second family, unless more are asked for: a case takes half a minute to make, once."""

Source = Callable[[], Iterator[JudgedScan | Failure]]


class Judging:
    """The sources of one run, in the order of the table; files that have to be made go into a folder of its own.

    Parameters
    ----------
    data
        Folder of the real scans.
    out
        Keeps phantoms and answers.
    work
        Folder for files that have to be made; nobody needs it afterwards.
    phantoms
        Of each set of the own generator; 0 leaves them out.
    second
        Cases of the second family; 0 leaves it out.
    test
        Own phantoms of the test range; 0 leaves them out.
    matrix
        Rows and columns of the own phantoms, for a quick trial; the second family is small then, too.
    """

    def __init__(
        self, data: Path, out: Path, work: Path, *, phantoms: int, second: int, test: int, matrix: int | None
    ) -> None:
        self.data, self.out, self.work = data, out, work
        self.phantoms, self.second, self.test, self.matrix = phantoms, second, test, matrix
        self.kernel: SharpKernel | None = None

    def sources(self) -> dict[str, Source]:
        """Every source by name."""
        real: dict[str, Source] = {s.name: partial(self._scans, s) for s in SETS}
        own: dict[str, Source] = {}
        if self.phantoms:
            own = {s.name: partial(self._phantoms, s, self.phantoms) for s in SHIFTED_SETS}
        if self.test:
            own[TEST_SET.name] = partial(self._phantoms, TEST_SET, self.test)
        second: dict[str, Source] = {SECOND: self._second_family} if self.second else {}
        return {**real, PAIRS: self._pairs, LAID: lambda: laid_scans(self.data, self.work / "laid"), **second, **own}

    def _scans(self, of: RealSet) -> Iterator[JudgedScan | Failure]:
        yield from of.scans(self.data, self.work / of.folder)

    def _phantoms(self, shifted: ShiftedSet, count: int) -> Iterator[JudgedScan]:
        yield from shifted.scans(self.out / "phantoms", self.work / "phantoms", count, matrix=self.matrix)

    def _second_family(self) -> Iterator[JudgedScan]:
        seeds, size = SECOND_FAMILY.range[: self.second], "full" if self.matrix is None else "small"
        for case in make_cases(self.out / "second-family", seeds, size=size):
            ct = open_scan(case.scan)
            known = known_islands(ct, read_labels(case.folder / "labels.nrrd", ct), PROTOCOL)
            yield JudgedScan(f"second-{case.seed}", case.scan, ct, known)

    def _pairs(self) -> Iterator[JudgedScan | Failure]:
        """Soft scans made sharp by the kernel that is fitted to the edges of LIDC-0314."""
        by_name = {s.name: s for s in SETS}
        soft, failures = self._found(by_name[HEARTS])
        sharp, more = self._found(by_name[LIDC])
        if failures or more:
            yield Failure(PAIRS, "; ".join(f.reason for f in (*failures, *more)))
            return
        self.kernel = fit_kernel(edge_profile(s.ct for s in soft), edge_profile(s.ct for s in sharp))
        others = [s for name in (TCGA, NYSBU) for s in self._found(by_name[name])[0]]
        yield from sharpened_scans([*soft, *others], self.kernel, self.work / "pairs")

    def _found(self, of: RealSet) -> tuple[list[JudgedScan], list[Failure]]:
        found = list(self._scans(of))
        return [s for s in found if isinstance(s, JudgedScan)], [f for f in found if isinstance(f, Failure)]


def judge_all(
    judging: Judging,
    requests: Mapping[str, Request],
    *,
    only: Sequence[str] = (),
    fresh: bool = False,
    pictures: Path | None = None,
) -> tuple[dict[str, list[Patient]], set[str], dict[str, str]]:
    """Judge every scan of every source.

    Returns
    -------
    patients : dict[str, list[Patient]]
        By source.
    sharp : set[str]
        Names of the scans whose kernel is sharp.
    failures : dict[str, str]
        Why, by what could not be judged.
    """
    patients: dict[str, list[Patient]] = {}
    sharp: set[str] = set()
    failures: dict[str, str] = {}
    for source, scans in judging.sources().items():
        if only and source not in only:
            continue
        kept = judging.out / "judged" / source.replace(" ", "-").replace(",", "")
        kept.mkdir(parents=True, exist_ok=True)
        for scan in scans():
            if isinstance(scan, Failure):
                failures[scan.name] = scan.reason
                continue
            print(f"{source}: {scan.name}", file=sys.stderr)
            on_case = None if pictures is None else Drawer(pictures)
            patient = judge_once(scan, requests, kept, fresh=fresh or pictures is not None, on_case=on_case)
            patients.setdefault(source, []).append(patient)
            sharp |= {scan.name} if scan.is_sharp else set()
    return patients, sharp, failures


class Drawer:
    """Draws what each stage says of a scan; one whose answer is nothing, rightly, is not drawn.

    Parameters
    ----------
    folder
        Made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, scan: JudgedScan, stage: str, case: Case) -> None:
        """Draw the slice with most of what is known or called."""
        known = scan.known.codes(scan.ct) > 0
        called = np.isin(case.scored_codes, SCORED_ARTERIES)
        ids = [lesion for lesion, note in case.lesions.notes.items() if note.undecided]
        undecided = np.isin(case.lesions.labels, ids)
        busy = (known | called | undecided).sum(axis=(1, 2))
        if not busy.any():
            return
        k = int(busy.argmax())
        make_run_folder(self.folder)
        figure = answer_figure(case.source_ct.hu[k], known[k], called[k], undecided[k], f"{scan.name}: {stage}")
        save_png(figure, self.folder / f"{scan.name}-{stage}.png", dpi=90)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.judge", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for figures; resumes an existing run")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real scans (default %(default)s)")
    parser.add_argument("--bundle", metavar="NAME|DIR|none", help="default: the installed one")
    parser.add_argument(
        "--phantoms", type=int, default=PHANTOMS, help="of each set of the own generator (default %(default)s)"
    )
    parser.add_argument(
        "--second", type=int, default=SECOND_CASES,
        help=f"cases of the second family, {SECOND_FAMILY.count} are all (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--test", type=int, default=0,
        help=f"own phantoms of the test range, {TEST.count} are all (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--stage", action="append", default=[], metavar="NAME", help="judge this way of scoring alone (repeatable)"
    )
    parser.add_argument("--matrix", type=int, help="rows and columns of own phantoms, for a quick trial")
    parser.add_argument("--only", action="append", default=[], metavar="SOURCE", help="judge this source (repeatable)")
    parser.add_argument("--fresh", action="store_true", help="judge again, ignoring cached results")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each answer; judges again")
    parser.add_argument("--draws", type=int, default=BOOTSTRAP_DRAWS, help="bootstrap draws (default %(default)s)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="write the tables between the markers of this page")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    requests, words = _requests(options.bundle)
    if unknown := sorted(set(options.stage) - set(requests)):
        raise InputRefused("input", f"--stage: expected one of {', '.join(requests)}; got {unknown[0]}")
    requests = {name: request for name, request in requests.items() if not options.stage or name in options.stage}
    words = {name: words[name] for name in requests}
    make_run_folder(options.out)
    with tempfile.TemporaryDirectory() as temporary:
        judging = Judging(
            options.data, options.out, Path(temporary),
            phantoms=options.phantoms, second=options.second, test=options.test, matrix=options.matrix,
        )  # fmt: skip
        if unknown := sorted(set(options.only) - set(judging.sources())):
            raise InputRefused("input", f"--only: expected one of {', '.join(judging.sources())}; got {unknown[0]}")
        patients, sharp, failures = judge_all(
            judging, requests, only=options.only, fresh=options.fresh, pictures=options.pictures
        )
    if not patients:
        raise InputRefused("input", f"nothing could be judged: {'; '.join(failures.values())}")
    groups = collected(patients, sharp)
    summaries: dict[str, Summary] = {
        name: summarize(found, draws=options.draws, seed=BOOTSTRAP_SEED, wanted=WANTED)
        for name, found in groups.items()
    }
    everyone = [patient for found in patients.values() for patient in found]
    document = {
        "schema": SCHEMA,
        "commit": source_commit(),
        "machine": machine(),
        "generator": generator_hash(),
        "draws": options.draws,
        "stages": words,
        "kernel": None if judging.kernel is None else to_plain(judging.kernel),
        "cautions": dict(Counter(code for p in everyone for code in p.cautions)),
        "failures": failures,
        "patients": {source: to_plain(found) for source, found in patients.items()},
        "summaries": {name: to_plain(summary) for name, summary in summaries.items()},
    }
    text = judge_text(document, summaries)
    with atomic_file(options.out / "judge.json") as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    with atomic_file(options.out / "judge.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    if options.docs is not None:
        put_into(options.docs, text, MARKS)
    print(text)
    return DONE


def _requests(bundle: str | None) -> tuple[dict[str, Request], dict[str, str]]:
    """The bundle as it ships, the rules, the bundle without its slice stage, and what each is called."""
    folder = find_bundle(bundle)
    requests: dict[str, Request] = {}
    words: dict[str, str] = {}
    if folder is not None:
        loaded = load_bundle(folder)
        requests[BUNDLE], words[BUNDLE] = Request(bundle=bundle, device="cpu"), f"{loaded.title}, as it ships"
    requests[BY_RULES], words[BY_RULES] = Request(bundle=RULES, device="cpu"), "`--bundle none`, no network"
    if folder is not None and loaded.slices is not None:
        requests[NO_SLICE_STAGE] = Request(bundle=bundle, device="cpu", slice_stage=False)
        words[NO_SLICE_STAGE] = "its vessel network on every slice with candidates"
    return requests, words


if __name__ == "__main__":
    sys.exit(main())
