"""What an adapted last layer is worth on scans with labels, island by island, and as a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.networks.bundle import Bundle, load_bundle
from training.adaptation.islands import ARTERIES, PLACE, ScanIslands, coronary_classes
from training.adaptation.policy import Policy
from training.adaptation.tuned import is_half, recipe_of
from training.deploy.bundle_weights import slices_start, vessel_start
from training.deploy.bundle_writer import BundleMetadata, export_bundle, read_trained_slices, trained_from
from training.deploy.calibration import write_manifest
from training.deploy.credits import credits_of_start
from training.engine.distributed import process_group
from training.metrics.classification import ratio
from training.metrics.intervals import Interval, bootstrap, wilson
from training.segmentation.recipe import SegmentationRecipe

FITS_FROM = -0.5 * 2.5**2
"""A called island lies within two and a half standard deviations of its artery's course (`heartlens.anatomy`)."""

LEAST_IN_ZONE, LEAST_BY_RULES = 0.5, 0.05
"""Of a valid island, most lies where arteries can be, and the rules did not remove it."""


@dataclass(frozen=True)
class IslandCounts:
    """What was said of the islands of one scan.

    Parameters
    ----------
    coronary, found, named
        Islands that are coronary; of these called coronary; of these under the right name, LM and LAD being one.
    called, false, valid
        Islands called coronary; of these not coronary; of these where anatomy allows their artery.
    """

    coronary: int
    found: int
    named: int
    called: int
    false: int
    valid: int


FIGURES = ("recall", "named right", "precision", "valid")
"""Of coronary islands, those found; of those, rightly named; of the called, those that are coronary; and are valid."""


def count_islands(bundle: Bundle, policy: Policy, scan: ScanIslands) -> IslandCounts:
    """What a bundle with this last layer calls the islands of a labeled scan, by its cut-off.

    Parameters
    ----------
    bundle
        Whose cut-off, and whose weights of networks and rules.
    policy
        Its last layer.
    scan
        Islands that nobody labeled count as called alone.
    """
    classes = bundle.vessel.classes
    is_coronary = coronary_classes(classes)
    vote = policy.votes(scan)
    called = is_called(bundle, vote, scan.place)
    said = np.where(called, np.where(is_coronary, vote, -1).argmax(axis=1), 0)
    true = (scan.code >= 0) & is_coronary[scan.code]
    names = np.array(["LAD" if name == "LM" else name for name in classes])
    found = true & called
    return IslandCounts(
        int(true.sum()),
        int(found.sum()),
        int((found & (names[said] == names[scan.code])).sum()),
        int(called.sum()),
        int((called & (scan.code >= 0) & ~true).sum()),
        int((called & is_valid(scan.place, said, classes)).sum()),
    )


def is_called(bundle: Bundle, vote: NDArray[np.float64], place: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(islands,) which are called coronary, as `heartlens.networks.islands` does.

    Parameters
    ----------
    bundle
        Cut-off, or the weights of networks and rules.
    vote
        (islands, classes)
    place
        (islands, len(PLACE))
    """
    p = vote[:, coronary_classes(bundle.vessel.classes)].sum(axis=1)
    fusion = bundle.vessel.fusion
    if fusion is None:
        called: NDArray[np.bool_] = p >= bundle.vessel.cut_off
        return called
    return fusion(p, vote[:, 0], place[:, PLACE.index("rules")].astype(np.float64)) >= fusion.cut_off


def is_valid(place: NDArray[np.float32], code: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.bool_]:
    """(islands,) whether anatomy allows a label: by fixed rules, which nobody was trained on.

    Parameters
    ----------
    place
        (islands, len(PLACE))
    code
        (islands,) class of each; what is not coronary is valid
    classes
        Of the bundle.
    """
    of = {name: place[:, n] for n, name in enumerate(PLACE)}
    fit = np.full((len(place), len(classes)), 0.0)
    for artery in ARTERIES:
        if artery.name in classes:
            fit[:, classes.index(artery.name)] = of[f"fit_{artery.name}"]
    own = fit[np.arange(len(place)), code]
    where = (of["in_zone"] > LEAST_IN_ZONE) & (of["rules"] > LEAST_BY_RULES)
    return ~coronary_classes(classes)[code] | ((own >= FITS_FROM) & where)


def figures(counts: Sequence[IslandCounts]) -> dict[str, tuple[int, int, float, Interval]]:
    """Share of each of `FIGURES` over scans: events, of how many, the share, and its interval over scans.

    Parameters
    ----------
    counts
        One of each patient.
    """
    table = np.array([[getattr(one, f.name) for f in fields(IslandCounts)] for one in counts], np.int64)

    def pairs(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        coronary, found, named, called, false, valid = rows.sum(axis=0).tolist()
        return [(found, coronary), (named, found), (called - false, called), (valid, called)]

    whole = pairs(table)
    intervals = bootstrap(lambda drawn: [ratio(*pair) for pair in pairs(table[drawn])], len(table))
    return {
        name: (a, n, ratio(a, n), wilson(a, n) if interval.low == interval.high else interval)
        for name, (a, n), interval in zip(FIGURES, whole, intervals, strict=True)
    }


def table_of(rows: Mapping[str, Mapping[str, tuple[int, int, float, Interval]]]) -> str:
    """A Markdown table: what was compared in rows, `FIGURES` in columns.

    Parameters
    ----------
    rows
        `figures` by name.
    """
    lines = [f"| | {' | '.join(FIGURES)} |", f"|---|{'---|' * len(FIGURES)}"]
    for name, found in rows.items():
        cells = [
            f"{a} of {n}: {share:.2f} ({interval.low:.2f} to {interval.high:.2f})" if n else "-"
            for a, n, share, interval in (found[figure] for figure in FIGURES)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def export_adapted(
    bundle: Bundle, policy: Policy, work: Path, name: str, scan: CTVolume, lineage: Mapping[str, Any], said: str
) -> Bundle:
    """The bundle with another last layer of its vessel network; cut-offs and the slice stage are what they were.

    Parameters
    ----------
    bundle
        That it began with.
    policy
        The last layer.
    work
        Folder for it; what lies under its name is replaced.
    name
        Of the new bundle.
    scan
        To compare the scores of its two forms on.
    lineage
        What it was made of.
    said
        How it was adapted, for its text.
    """
    folder = work / "candidate"
    shutil.rmtree(folder, ignore_errors=True)  # what was cut short is made anew
    recipe = recipe_of(bundle, SegmentationRecipe())
    with process_group("cpu") as ranks:
        trained = trained_from(vessel_start(bundle.folder, recipe, work, ranks))
    policy.put_into(trained.network.head)
    slices = None if bundle.slices is None else read_trained_slices(slices_start(bundle.folder, work / "slices"))
    vessel = bundle.vessel
    trained_on = f"{bundle.title} ({bundle.texts['trained_on']}), then {said}"
    metadata = BundleMetadata(
        {**bundle.texts, "name": name, "version": "1", "trained_on": trained_on},
        bundle.domain,
        vessel.cut_off,
        vessel.calibration,
        lineage={**lineage, "from": {"title": bundle.title, "files": bundle.checksums()}},
        half=is_half(bundle),
        attribution=credits_of_start(bundle.folder),
    )
    made = export_bundle(trained, folder, metadata, [scan], slices)
    if vessel.fusion is not None:
        write_manifest(made, {"vessel": {"fusion": asdict(vessel.fusion)}})
    return load_bundle(folder)
