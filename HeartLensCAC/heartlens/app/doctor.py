"""Whether scoring works here: libraries, devices, bundles and their checksums, and two scores whose answer is known."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from heartlens import __version__
from heartlens.app.requirements import missing, requirements
from heartlens.calcium import extract_lesions
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.io.volumes import write_volume
from heartlens.networks.bundle import Bundle, find_bundle, installed_bundles, load_bundle
from heartlens.networks.canary import check_canary
from heartlens.networks.inference import Networks
from heartlens.networks.runtime import cpu_threads, sees_cuda
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.pipeline import Request, score_series
from heartlens.scoring.report import score_lesions

SELF_TEST_SEED = 5
SELF_TEST_SCAN = {
    "matrix": 128, "increment_mm": 5.0, "slice_thickness_mm": 5.0, "kvp": 120.0, "field_of_view": "heart",
    "category": "101-400", "motion_mm": 0.0, "noise_hu": 15.0,
}  # fmt: skip
"""A phantom small enough for a few seconds."""

SELF_TEST_SHARE = 0.25
"""How far a total may be from the phantom's own and the installation still be in order. Not a measure of a method."""


def examine(write_line: Callable[[str], None], *, bundle: str | None = None, device: str = "auto") -> bool:
    """Tell what is installed and whether it works.

    Parameters
    ----------
    write_line
        Takes one line after the other.
    bundle, device
        As for scoring; the self-test uses them.

    Returns
    -------
    bool
        Whether all is in order.
    """
    write_line(f"heartlens {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    fine = [_libraries(write_line)]
    _devices(write_line)
    fine.append(_bundles(write_line, bundle))
    works = _worked_example()
    write_line(f"worked example (10 by hand): {works:g}")
    fine.append(works == 10)
    if fine[1]:
        fine.append(_self_test(write_line, bundle, device))
    return all(fine)


def _libraries(write_line: Callable[[str], None]) -> bool:
    for requirement in requirements():
        write_line(f"  {requirement.line}")
    return not missing()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices(write_line: Callable[[str], None]) -> None:
    threads = cpu_threads()
    runtime = _version("onnxruntime") or "missing"
    write_line(f"cpu:  {threads} {'thread' if threads == 1 else 'threads'}, ONNX Runtime {runtime}")
    torch = _version("torch")
    if torch is None:
        write_line("cuda: no; torch is not installed, and is needed for a GPU alone")
    else:
        write_line(f"cuda: {'yes' if sees_cuda() else 'no GPU seen'}; torch {torch}")


def _bundles(write_line: Callable[[str], None], name: str | None) -> bool:
    """Every installed bundle and the one asked for, with each file checked."""
    folders = list(installed_bundles().values())
    try:
        default = find_bundle(name)
    except InputRefused as refusal:
        write_line(f"bundle: {refusal}")
        return False
    if default is not None and default not in folders:
        folders.append(default)
    if default is None:
        write_line("bundle: none; calcium is found and named by rules")
    intact = True
    for folder in folders:
        try:
            bundle = load_bundle(folder)
            write_line(_describe(bundle, is_used=folder == default))
            write_line(f"  canary: {_canary(bundle)}")
        except InputRefused as refusal:
            write_line(f"bundle: {refusal}")
            intact = False
    return intact


def _describe(bundle: Bundle, *, is_used: bool) -> str:
    stages = "slices and vessels" if bundle.slices else "vessels"
    megabytes = sum(file.bytes for file in bundle.files) / 1e6
    return (
        f"bundle: {bundle.title}{', used here' if is_used else ''}: networks for {stages}, "
        f"{len(bundle.files)} files of {megabytes:.1f} MB, checksums as exported; {bundle.folder}"
    )


def _canary(bundle: Bundle) -> str:
    """Whether the networks answer here what they answered at the export; refused where they do not."""
    try:
        networks = Networks(bundle, "cpu")
        difference = check_canary(bundle, networks.vessel, networks.slices)
    except ModuleNotFoundError as error:
        return f"not asked, {error.name} is missing"
    if difference is None:
        return "none in this bundle: the networks answer, and whether as at the export is not known"
    return f"answered as at the export (largest difference of a probability {difference:.1g})"


def _worked_example() -> float:
    """Two slices of eight pixels of 0.25 mm2: 200 HU with one pixel of 450, and 180 HU. 8 + 2 by hand."""
    hu = np.zeros((2, 8, 8), np.int16)
    hu[0, 2:4, 2:6], hu[1, 2:4, 2:6] = 200, 180
    hu[0, 2, 2] = 450
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]))
    flat = np.flatnonzero(hu)
    protocol = ScoringProtocol()
    return score_lesions(ct, extract_lesions(ct, flat, np.full(flat.size, 2), protocol), protocol).total.agatston


def _self_test(write_line: Callable[[str], None], bundle: str | None, device: str) -> bool:
    """A small phantom scored as a scan would be."""
    begin = time.perf_counter()
    phantom = make_phantom(PhantomParameters.random(SELF_TEST_SEED, **SELF_TEST_SCAN))
    known = sum(artery["agatston"] for artery in phantom.truth["arteries"].values())
    made = time.perf_counter()
    try:
        with TemporaryDirectory() as folder:
            write_volume(Path(folder) / "ct.nrrd", phantom.ct)
            case = score_series(Path(folder) / "ct.nrrd", Request(bundle=bundle, device=device)).case
    except InputRefused as refusal:
        write_line(f"self-test: {refusal}")
        return False
    except ModuleNotFoundError as error:
        write_line(f"self-test: not done, {error.name} is missing; install what is listed above, or score by the rules")
        return False
    score = case.report.total.agatston
    fine = abs(score - known) <= SELF_TEST_SHARE * known
    facts = case.provenance
    by = f"bundle {facts.bundle} on {facts.device}" if facts.bundle else "the rules"
    write_line(
        f"self-test: a phantom of {known:.0f} scored {score:.0f} by {by}: {'in order' if fine else 'WRONG'} "
        f"({made - begin:.1f} s to make it, {time.perf_counter() - made:.1f} s to score it)"
    )
    return fine
