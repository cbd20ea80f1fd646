"""Judge labels against a reference: one command, one report.json and one page, index.html.

python -m training.evaluate --shards DIR --splits FILE --bundle NAME|DIR|none [--backbone NAME=RUN ...] --out DIR
python -m training.evaluate --reference DIR (--prediction DIR [--layout FILE] | --bundle NAME|DIR|none) --out DIR

The first form judges HeartLens on the test patients of a split, a bundle with its slice stage and without. The second
judges any program's segmentations, or HeartLens, on a folder of patients.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from heartlens import __version__
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.core.protocol import PROFILES, ScoringProtocol
from heartlens.networks.bundle import find_bundle, load_bundle
from heartlens.pipeline import Request
from training.datasets.shards import ShardSet
from training.datasets.splits import SPLITS, Splits, check_splits, scans_of
from training.engine.cli import DONE, Progress, run_command
from training.evaluation.classifiers import summarize_classifier
from training.evaluation.galleries.differences import Gallery
from training.evaluation.pairs import Pair, compare_pairs
from training.evaluation.results import (
    SCHEMA,
    SLICE_STAGE,
    BackboneSummary,
    Evaluation,
    Failure,
    Patient,
    Settings,
)
from training.evaluation.sources.folders import count_patients, predicted_pairs, read_pairs, shard_pairs
from training.evaluation.sources.layouts import read_layout
from training.evaluation.statistics import summarize
from training.evaluation.tables import shown
from training.metrics.intervals import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED

__all__ = ["Evaluation", "Failure", "Pair", "evaluate_bundle", "main"]

REPORT_JSON, REPORT_HTML = "report.json", "index.html"


def evaluate_bundle(
    pairs: Iterable[Pair | Failure],
    *,
    title: str = "",
    reference: str = "",
    predicted: str = "",
    bundle: Mapping[str, str] | None = None,
    backbones: Mapping[str, BackboneSummary] | None = None,
    protocol: ScoringProtocol | None = None,
    slice_cutoff: float | None = None,
    annotated: bool = False,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Compare every pair and sum up.

    Parameters
    ----------
    pairs
        May be a generator: one pair is held at a time.
    title, reference, predicted, bundle
        Said on the report.
    backbones
        Judged elsewhere, see `training.evaluation.side_by_side`; shown beside the slice stage.
    protocol
        Scores both sides.
    slice_cutoff
        Least probability of a calcified slice; with it, every prediction is also judged on calcified slices alone (or,
        where the program has a slice stage, as that predicted), and these are the scores that count.
    annotated
        Also judge labels on those slices alone that the reference calls calcified.
    draws, seed
        Of the bootstrap.
    progress
        Called with the name of each patient.

    Raises
    ------
    InputRefused
        ``input``, no patient could be compared
    """
    protocol = protocol or ScoringProtocol()
    compared = list(compare_pairs(pairs, protocol, slice_cutoff, annotated=annotated, on_progress=progress))
    patients = [patient for patient in compared if isinstance(patient, Patient)]
    failures = [failure for failure in compared if isinstance(failure, Failure)]
    if not patients:
        first = f"; the first: {failures[0].name}: {failures[0].reason}" if failures else ""
        raise InputRefused("input", f"no patient could be compared, {len(failures)} failed{first}")
    # All patients have the same stages; the classifier is judged on those with probabilities.
    asked = [
        (next(iter(p.stages.values())).reference_slices, np.array(p.slice_probability[SLICE_STAGE], np.float64))
        for p in patients
        if SLICE_STAGE in p.slice_probability
    ]
    return Evaluation(
        settings=Settings(
            title=title,
            reference=reference,
            predicted=predicted,
            bundle=dict(bundle or {}),
            protocol=protocol.name,
            threshold_hu=protocol.threshold_hu,
            slice_cutoff=slice_cutoff,
            draws=draws,
            seed=seed,
            version=__version__,
        ),
        patients=tuple(patients),
        failures=tuple(failures),
        stages=summarize(patients, draws=draws, seed=seed).stages,
        classifier=summarize_classifier(asked, slice_cutoff, draws=draws, seed=seed) if asked else None,
        backbones=dict(backbones or {}),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(_parser(), arguments)


def _run(options: argparse.Namespace) -> int:
    check_target(options.out, options.force)
    source = _shard_source(options) if options.shards else _folder_source(options)
    bar = Progress("patient", source.patients)
    gallery = Gallery(options.gallery, PROFILES[options.profile].threshold_hu)
    try:
        evaluation = evaluate_bundle(
            gallery.watch(source.pairs),
            title=options.title or source.predicted,
            reference=source.reference,
            predicted=source.predicted,
            bundle=source.bundle,
            backbones=source.backbones,
            protocol=PROFILES[options.profile],
            slice_cutoff=source.slice_cutoff,
            annotated=options.annotated_slices,
            draws=options.draws,
            seed=options.seed,
            progress=bar.step,
        )
    finally:
        bar.close()
    write_report(options.out, evaluation, pictures=source.pictures, gallery=gallery.pictures())
    print(summary_text(evaluation))
    print(f"report: {options.out / REPORT_HTML}")
    return DONE


class EvaluationSource(NamedTuple):
    """What is compared, and what the report says of it; see `evaluate_bundle` for the names."""

    pairs: Iterable[Pair | Failure]
    patients: int
    reference: str
    predicted: str
    bundle: Mapping[str, str]
    slice_cutoff: float | None
    backbones: Mapping[str, BackboneSummary] = MappingProxyType({})
    pictures: Sequence[tuple[str, str]] = ()


def _folder_source(options: argparse.Namespace) -> EvaluationSource:
    if options.splits or options.backbone:
        raise InputRefused(
            "input", "--splits and --backbone go with --shards; give --shards in the place of --reference"
        )
    if options.layout is not None and options.prediction is None:
        raise InputRefused("input", "--layout says how --prediction is laid out; give both, or leave it out")
    layout = None if options.layout is None else read_layout(options.layout)
    count = count_patients(options.reference, options.prediction, layout)
    reference, cutoff = str(options.reference), options.slice_cutoff
    if options.prediction is not None:
        allow = frozenset(options.allow)
        pairs = read_pairs(options.reference, options.prediction, ct=options.ct, allow=allow, layout=layout)
        return EvaluationSource(pairs, count, reference, str(options.prediction), {}, cutoff)
    predicted, facts, cutoff = _predictor(options.bundle, cutoff)
    pairs = predicted_pairs(options.reference, _request(options), ct=options.ct)
    return EvaluationSource(pairs, count, reference, predicted, facts, cutoff)


def _shard_source(options: argparse.Namespace) -> EvaluationSource:
    if options.splits is None or options.bundle is None:
        raise InputRefused(
            "input", "--shards needs --splits, to know whom to judge on, and --bundle, to know what to judge"
        )
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    scans = scans_of(shards, getattr(splits, options.part))
    predicted, facts, cutoff = _predictor(options.bundle, options.slice_cutoff)
    backbones: Mapping[str, BackboneSummary] = {}
    pictures: Sequence[tuple[str, str]] = ()
    if options.backbone:
        from training.evaluation.side_by_side import compare_backbones

        runs = dict(options.backbone)
        backbones, pictures = compare_backbones(
            runs, shards, scans, draws=options.draws, seed=options.seed, device=options.device
        )
    kinds = ", ".join(sorted({shards.scans[n].source for n in scans}))
    scan_count = f"{len(scans)} scans" if len(scans) > 1 else "1 scan"
    reference = f"labels of {scan_count} ({kinds}), {options.part} patients of {options.splits.name}"
    pairs = shard_pairs(shards, scans, _request(options))
    return EvaluationSource(pairs, len(scans), reference, predicted, facts, cutoff, backbones, pictures)


def _request(options: argparse.Namespace) -> Request:
    return Request(allow=frozenset(options.allow), bundle=options.bundle, protocol=PROFILES[options.profile])


def _predictor(name: str, cutoff: float | None) -> tuple[str, dict[str, str], float | None]:
    """What predicts in words, the facts of its bundle, and the cut-off of its slice stage."""
    folder = find_bundle(name)
    if folder is None:
        return "HeartLens rules", {}, cutoff
    bundle = load_bundle(folder)
    if bundle.slices is not None and cutoff is not None:
        raise InputRefused("input", f"{folder} brings a cut-off for slices; leave out --slice-cutoff")
    facts = {name: bundle.texts[name] for name in ("trained_on", "field_of_view", "licence")}
    facts["cut_off"] = f"{bundle.vessel.cut_off:g}"
    facts |= {path: f"SHA-256 {checksum[:16]}…" for path, checksum in bundle.checksums().items()}
    return f"HeartLens bundle {bundle.title}", facts, cutoff if bundle.slices is None else bundle.slices.cut_off


def write_report(
    folder: Path,
    evaluation: Evaluation,
    *,
    pictures: Sequence[tuple[str, str]] = (),
    gallery: Sequence[tuple[str, str]] = (),
) -> None:
    """Write report.json and index.html into a folder, both or neither.

    Parameters
    ----------
    folder
        Made if it does not exist.
    pictures
        (data URL, caption) of further figures, such as attention maps
    gallery
        The same of slices with what was labeled on them.

    Raises
    ------
    InputRefused
        ``output``
    """
    from training.evaluation.page import render_page

    document = json.dumps(evaluation.to_json(), indent=1, allow_nan=False) + "\n"
    page = render_page(evaluation, pictures=pictures, gallery=gallery)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputRefused("output", f"cannot make {folder}: {error.strerror or error}; choose another --out") from None
    with atomic_file(folder / REPORT_JSON) as as_json, atomic_file(folder / REPORT_HTML) as as_html:
        as_json.write_text(document)
        as_html.write_text(page, encoding="utf-8")


def check_target(out: Path, force: bool) -> None:
    """Refuse to write over anything but an earlier evaluation, and over that only with `force`.

    Raises
    ------
    InputRefused
        ``output``
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputRefused("output", f"{out} is a file; --out must name a folder")
    if not any(out.iterdir()):
        return
    try:
        schema = json.loads((out / REPORT_JSON).read_text()).get("schema")
        is_ours = schema.split("/")[0] == SCHEMA.split("/")[0]  # of an older version too
    except (OSError, ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        raise InputRefused("output", f"{out} is not empty and holds no evaluation; choose another --out")
    if not force:
        raise InputRefused("output", f"{out} holds an evaluation; choose another --out, or --force to replace it")


def summary_text(evaluation: Evaluation) -> str:
    """The figures to look at first, one a line, and every patient that failed."""
    from training.evaluation.page import HEADLINES

    lines = [f"{len(evaluation.patients)} patients compared, {len(evaluation.failures)} failed"]
    lines += [f"  failed: {failure.name}: {failure.reason}" for failure in evaluation.failures]
    for label, name in HEADLINES:
        estimate = evaluation.estimate(name)
        lines.append(f"  {label:<48}{'not defined' if estimate.value is None else shown(estimate)}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Evaluate coronary calcium labels against a reference; write report.json and index.html.",
    )
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--reference", type=Path, help="folder of patients with true labels and CT")
    truth.add_argument("--shards", type=Path, nargs="+", action="extend", metavar="DIR", help="labeled scans")
    parser.add_argument("--splits", type=Path, metavar="FILE.json", help="split file, with --shards")
    parser.add_argument("--part", choices=SPLITS, default="test", help="of the splits (default test)")
    parser.add_argument(
        "--backbone", type=_named_run, action="append", default=[], metavar="NAME=RUN",
        help="a run of training.train_slices to show side by side with others, with --shards (repeatable)",
    )  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prediction", type=Path, help="folder of patients of the same names with predicted labels")
    source.add_argument(
        "--bundle", metavar="NAME|DIR|none", help="let HeartLens predict with this bundle; none: by rules"
    )
    parser.add_argument(
        "--layout", type=Path, metavar="FILE.toml",
        help="how another program names what it segmented, see training/layouts: a mask for each structure, or codes",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--ct", type=Path, help="folder of scans of the same names, where none lies beside the labels")
    parser.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        default="agatston-1990",
        help="scoring protocol of reference and prediction",
    )
    parser.add_argument(
        "--slice-cutoff", type=_probability, metavar="P",
        help="also evaluate only the slices of at least this probability",
    )  # fmt: skip
    parser.add_argument(
        "--allow", action="append", default=[], choices=sorted(OVERRIDABLE), metavar="CODE",
        help=f"read a scan despite a refusal: {', '.join(sorted(OVERRIDABLE))} (repeatable)",
    )  # fmt: skip
    parser.add_argument("--annotated-slices", action="store_true", help="also evaluate the labels on those slices "
                        "alone that the reference calls calcified (the paper's Figure 7b)")  # fmt: skip
    parser.add_argument("--gallery", type=_positive, default=0, metavar="N", help="show N slices with reference and "
                        "prediction, those first on which they differ most, each of another patient")  # fmt: skip
    parser.add_argument("--draws", type=_positive, default=BOOTSTRAP_DRAWS, help="bootstrap draws (default 2000)")
    parser.add_argument("--seed", type=int, default=BOOTSTRAP_SEED, help="of the bootstrap")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="of --backbone")
    parser.add_argument("--title", default="", help="of the report")
    parser.add_argument("--force", action="store_true", help="replace an earlier evaluation")
    parser.set_defaults(run=_run)
    return parser


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie in 0..1, got {text}")
    return value


def _named_run(text: str) -> tuple[str, Path]:
    name, equals, run = text.partition("=")
    if not (name and equals and run):
        raise argparse.ArgumentTypeError(f"must be NAME=RUN, got {text}")
    return name, Path(run)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
