"""What a bundle makes of the few real scans whose answer is known, with a picture of every miss.

python -m training.evaluate_real DATA --out DIR [--bundle NAME|DIR|none] [--docs docs/models.md]

DATA is a folder of openly licensed scans that is not part of HeartLens; training never sees it. The pictures show
people: they stay in --out and go nowhere else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery
from heartlens.networks.bundle import RULES, find_bundle, load_bundle
from heartlens.pipeline import Request, score_series
from training.engine.cli import DONE, run_command
from training.engine.run_log import make_run_folder
from training.evaluation.phantom_tables import put_into

BEGIN, END = "<!-- judge-real: begin -->", "<!-- judge-real: end -->"

Box = tuple[tuple[int, int], tuple[int, int]]
"""(first, last + 1) row and column."""


@dataclass(frozen=True)
class RealScan:
    """One scan and what is known of it, by an engineer's reading; nobody here is a radiologist.

    Parameters
    ----------
    name
        Shown.
    source
        Below the data folder: a DICOM file, or a zip of a series.
    copies
        So many slices are made of a single one, so that it has a third dimension.
    lad
        Box that holds calcium of the left anterior descending artery; None where no coronary calcium is.
    not_coronary
        Boxes that hold other calcium, by what it is.
    """

    name: str
    source: str
    copies: int = 1
    lad: Box | None = None
    not_coronary: tuple[tuple[str, Box], ...] = ()


_SLICES = "covid19_nysbu_slices"
_LAD, _ROOT = ((195, 250), (295, 345)), ((195, 252), (228, 292))

SCANS = (
    RealScan("whole chest without coronary calcium (5 mm, 64 slices)", "lung_pet_ct_dx_a0001/series.zip"),
    RealScan("clean heart (one slice, 5 mm)", f"{_SLICES}/clean_heart_TOSHIBA_5mm.dcm"),
    RealScan("clean heart (that slice, five times)", f"{_SLICES}/clean_heart_TOSHIBA_5mm.dcm", 5),
    RealScan(
        "LAD and aortic root (one slice, 2.5 mm)", f"{_SLICES}/cac_lad_aortic_root_GE_2p5mm.dcm", 1, _LAD,
        (("aortic root", _ROOT),),
    ),
    RealScan(
        "LAD and aortic root (that slice, five times)", f"{_SLICES}/cac_lad_aortic_root_GE_2p5mm.dcm", 5, _LAD,
        (("aortic root", _ROOT),),
    ),
    RealScan(
        "plaque of the descending aorta (one slice, 5 mm)", f"{_SLICES}/aorta_plaque_GE_5mm.dcm",
        not_coronary=(("aortic wall", ((255, 290), (295, 345))),),
    ),
    RealScan("metal beside the heart (one slice, 5 mm)", f"{_SLICES}/metal_hilum_GE_5mm.dcm"),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What one way made of one scan.

    Parameters
    ----------
    agatston
        Total.
    misses
        In words; empty when all is as it should be.
    """

    agatston: float
    misses: tuple[str, ...]


def evaluate_case(scan: RealScan, case: Case) -> Verdict:
    """Compare a scored case with what is known of its scan."""
    codes, report = case.scored_codes, case.report
    coronary = np.isin(codes, SCORED_ARTERIES)
    misses = []
    for what, box in scan.not_coronary:
        count = int(_inside(coronary, box).sum())
        if count:
            misses.append(f"{what} called coronary ({count} voxels)")
    elsewhere = coronary.copy()
    for box in (*(box for _, box in scan.not_coronary), *([scan.lad] if scan.lad else [])):
        _inside(elsewhere, box)[...] = False
    if elsewhere.any():
        named = sorted({Artery(int(code)).name for code in np.unique(codes[elsewhere])})
        misses.append(f"called coronary elsewhere: {', '.join(named)} ({int(elsewhere.sum())} voxels)")
    if scan.lad is not None:
        here = _inside(codes, scan.lad)
        if not np.isin(here, SCORED_ARTERIES).any():
            misses.append("calcium of the LAD not found")
        elif not (here == Artery.LAD).any():
            names = sorted(a.name for a in CORONARY if (here == a).any())
            misses.append(f"calcium of the LAD called {', '.join(names)}")
    return Verdict(report.total.agatston, tuple(misses))


def _inside(values: NDArray, box: Box) -> NDArray:
    (top, bottom), (left, right) = box
    return values[:, top:bottom, left:right]


def read(scan: RealScan, data: Path, folder: Path) -> Path:
    """Lay a scan out as the pipeline takes it: a folder of DICOM files."""
    source, folder = data / scan.source, folder / f"{Path(scan.source).stem}-{scan.copies}"
    folder.mkdir()
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
        return folder
    for n in range(scan.copies):
        dataset = pydicom.dcmread(source)
        if n:
            uid = f"{dataset.SOPInstanceUID[:58]}.{n}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            x, y, z = (float(v) for v in dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x, y, z + float(dataset.SliceThickness) * n]
        dataset.save_as(folder / f"{n}.dcm")
    return folder


def draw_miss(scan: RealScan, case: Case, title: str, path: Path) -> None:
    """The slice with most of what was called coronary, or else the middle one: called in red, known boxes in green."""
    from matplotlib.figure import Figure

    from training.evaluation.plots import save_png

    called = np.isin(case.scored_codes, SCORED_ARTERIES)
    count = called.sum(axis=(1, 2))
    k = int(count.argmax()) if count.any() else len(count) // 2
    figure = Figure(figsize=(6.4, 6.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(case.source_ct.hu[k], cmap="gray", vmin=-200, vmax=500)
    if called[k].any():
        axes.contour(called[k], levels=[0.5], colors="#ff3b30", linewidths=0.9)
    for what, box in (*(("LAD", box) for box in ([scan.lad] if scan.lad else [])), *scan.not_coronary):
        (top, bottom), (left, right) = box
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="#34c759", linewidth=0.8)
        axes.text(left, top - 3, what, color="#34c759", fontsize=8)
    axes.set_title(f"{title}, slice {k}", fontsize=9, loc="left")
    axes.axis("off")
    with atomic_file(path) as sibling:
        save_png(figure, sibling, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate_real", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder of the real scans")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table and pictures of misses")
    parser.add_argument("--bundle", metavar="NAME|DIR|none", help="default: the installed one")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="write the table between the markers of this page")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    if not options.data.is_dir():
        raise InputRefused(
            "input", f"{options.data}: expected the folder of real scans, found none; it is not distributed"
        )
    make_run_folder(options.out)
    base_request = Request(bundle=options.bundle, device="cpu", allow=frozenset({"few-slices"}))
    ways: dict[str, Request] = {}
    folder = find_bundle(options.bundle)
    if folder is not None:
        title = f"bundle {load_bundle(folder).title}"
        ways = {title: base_request, "without its slice stage": replace(base_request, slice_stage=False)}
    ways["rules"] = replace(base_request, bundle=RULES)
    lines = [f"| scan | expected | {' | '.join(ways)} |", "|---|---|" + "---|" * len(ways)]
    with tempfile.TemporaryDirectory() as temporary:
        for number, scan in enumerate(SCANS, start=1):
            source = read(scan, options.data, Path(temporary))
            cells = []
            for way, request in ways.items():
                case = score_series(source, request).case
                verdict = evaluate_case(scan, case)
                misses = f": **{'; '.join(verdict.misses)}**" if verdict.misses else ""
                cells.append(f"{verdict.agatston:.1f}{misses}")
                if verdict.misses:
                    name = f"miss-{number}-{way.replace(' ', '-')}.png"
                    draw_miss(scan, case, f"{scan.name}: {way}", options.out / name)
                    print(f"picture of a miss: {options.out / name}", file=sys.stderr)
            expected = "0" if scan.lad is None else "LAD, and nothing else"
            lines.append(f"| {scan.name} | {expected} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    with atomic_file(options.out / "real.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    if options.docs is not None:
        put_into(options.docs, text, marks=(BEGIN, END))
    print(text)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
