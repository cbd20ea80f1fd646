"""Score phantoms by the rules and say how far from the truth: `make rules`.

The seeds are none of those that the rules were fitted on (0 to 23, 1000 to 1029, 1100 to 1113). The tables go into
docs/method.md as they are.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from heartlens.anatomy import heart_region
from heartlens.calcium import Removed, find_lesions
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.phantom import Phantom, PhantomParameters, make_phantom
from heartlens.scoring.agatston import agatston, weigh_components
from heartlens.scoring.report import score_lesions

PROTOCOL = ScoringProtocol()
EDGES = (0.0, 10.5, 100.5, 400.5)
CATEGORIES = ("0", "1-10", "11-100", "101-400", ">400")
ROWS = ("total", *(artery.name for artery in CORONARY))


@dataclass
class Outcome:
    """One phantom: Agatston scores, estimated and true, and where calcium went."""

    seed: int
    estimate: dict[str, float]
    truth: dict[str, float]
    named: Counter[tuple[str, str]] = field(default_factory=Counter)  # (true, given) -> Agatston
    traps: Counter[str] = field(default_factory=Counter)  # kind -> in view
    fooled: Counter[str] = field(default_factory=Counter)  # kind -> called coronary
    fooled_agatston: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # rule -> Agatston of coronary calcium
    kept_out: Counter[str] = field(default_factory=Counter)  # rule -> Agatston of everything else
    rule_seconds: float = 0.0


def evaluate_seed(seed: int) -> Outcome:
    """Make one phantom and score it."""
    parameters = PhantomParameters.random(seed)
    matrix = 256 if parameters.field_of_view == "heart" else 320
    phantom = make_phantom(PhantomParameters.random(seed, matrix=matrix))
    ct = phantom.ct
    start = time.perf_counter()
    lesions, ledger = find_lesions(ct, heart_region(ct), PROTOCOL)
    seconds = time.perf_counter() - start
    report = score_lesions(ct, lesions, PROTOCOL)
    truth = {a.name: float(phantom.truth["arteries"][a.name]["agatston"]) for a in CORONARY}
    out = Outcome(
        seed,
        {"total": report.total.agatston, **{a.name: report.arteries[a].agatston for a in CORONARY}},
        {"total": sum(truth.values()), **truth},
        rule_seconds=seconds,
    )
    codes = phantom.labels.reshape(-1)
    for lesion in report.lesions:
        voxels = lesions.voxels.flat[lesions.voxels.ids == lesion.id]
        counts = np.bincount(codes[voxels], minlength=7)
        true = Artery(int(counts[1:].argmax()) + 1) if counts[1:].any() else None
        out.named[(true.name if true else "nothing", lesion.artery.name)] += lesion.agatston
        if true not in CORONARY:
            kind = nearest_trap(phantom, np.array(lesion.centroid_lps_mm)) if true else "noise"
            out.fooled[kind] += 1
            out.fooled_agatston[kind] += lesion.agatston
    out.traps.update(trap["kind"] for trap in phantom.truth["traps"] if trap["in_view"])
    for removed in ledger:
        lost, other = split(ct, codes, removed)
        out.lost[removed.rule] += lost
        out.kept_out[removed.rule] += other
    return out


def nearest_trap(phantom: Phantom, place_mm: np.ndarray) -> str:
    traps = [trap for trap in phantom.truth["traps"] if trap["in_view"]]
    if not traps:
        return "noise"
    return min(traps, key=lambda trap: float(np.linalg.norm(np.array(trap["centroid_lps_mm"]) - place_mm)))["kind"]


def split(ct: CTVolume, codes: np.ndarray, removed: Removed) -> tuple[float, float]:
    """Agatston of coronary calcium and of everything else that one rule removed."""
    if not removed.flat.size:
        return 0.0, 0.0
    group = codes[removed.flat]
    components = weigh_components(
        removed.flat,
        ct.hu.reshape(-1)[removed.flat],
        group,
        ct.shape,
        protocol=PROTOCOL,
        pixel_area_mm2=ct.pixel_area_mm2,
    )
    weight = components.weight[components.of_voxel]
    is_coronary = np.isin(group, [int(artery) for artery in CORONARY])
    factor = PROTOCOL.slice_factor(ct.increment_mm, None)
    lost, other = (
        agatston(float(weight[which].sum()), pixel_area_mm2=ct.pixel_area_mm2, slice_factor=factor)
        for which in (is_coronary, ~is_coronary)
    )
    return lost, other


def category(score: np.ndarray) -> np.ndarray:
    """Index into `CATEGORIES`; 0 is exactly 0."""
    return np.where(score == 0, 0, np.digitize(score, EDGES[1:]) + 1)


def correlation(a: np.ndarray, b: np.ndarray) -> str:
    return f"{np.corrcoef(a, b)[0, 1]:.3f}" if a.std() > 0 and b.std() > 0 else "-"


def print_tables(outcomes: list[Outcome], wall_s: float) -> None:
    n = len(outcomes)
    print(f"{n} phantoms, seeds {outcomes[0].seed} to {outcomes[-1].seed}, {wall_s:.0f} s; rules alone "
          f"{np.median([o.rule_seconds for o in outcomes]):.2f} s each (median)\n")  # fmt: skip
    print("| | true > 0 | found > 0 | r | r of log(1 + score) | bias | SD | median error | largest error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        estimate = np.array([o.estimate[row] for o in outcomes])
        truth = np.array([o.truth[row] for o in outcomes])
        error = estimate - truth
        print(
            f"| {row} | {(truth > 0).sum()} | {(estimate > 0).sum()} | {correlation(estimate, truth)} "
            f"| {correlation(np.log1p(estimate), np.log1p(truth))} | {error.mean():+.1f} | {error.std():.1f} "
            f"| {np.median(np.abs(error)):.1f} | {error[np.abs(error).argmax()]:+.1f} |"
        )
    pred = category(np.array([o.estimate["total"] for o in outcomes]))
    true = category(np.array([o.truth["total"] for o in outcomes]))
    print(f"\nCategory right in {(pred == true).sum()} of {n}; off by more than one in {(abs(pred - true) > 1).sum()}.")
    print(f"\n| true \\ found | {' | '.join(CATEGORIES)} |\n|---|{'---|' * len(CATEGORIES)}")
    for index, name in enumerate(CATEGORIES):
        cells = [str(int(((true == index) & (pred == other)).sum())) for other in range(len(CATEGORIES))]
        print(f"| {name} | {' | '.join(cells)} |")

    named: Counter[tuple[str, str]] = sum((o.named for o in outcomes), Counter())
    given = (*(artery.name for artery in CORONARY), Artery.UNASSIGNED.name)
    print(f"\nAgatston by true and given artery:\n\n| true \\ given | {' | '.join(given)} | right |")
    print(f"|---|{'---|' * (len(given) + 1)}")
    for artery in CORONARY:
        cells_agatston = [named[(artery.name, name)] for name in given]
        total = sum(cells_agatston)
        right = f"{100 * named[(artery.name, artery.name)] / total:.0f} %" if total else "-"
        print(f"| {artery.name} | {' | '.join(f'{value:.0f}' for value in cells_agatston)} | {right} |")

    traps: Counter[str] = sum((o.traps for o in outcomes), Counter())
    fooled: Counter[str] = sum((o.fooled for o in outcomes), Counter())
    fooled_agatston: Counter[str] = sum((o.fooled_agatston for o in outcomes), Counter())
    print("\n| trap | in view | lesions called coronary | their Agatston |\n|---|---|---|---|")
    for kind in sorted(set(traps) | set(fooled)):
        print(f"| {kind} | {traps[kind] or '-'} | {fooled[kind]} | {fooled_agatston[kind]:.0f} |")

    lost: Counter[str] = sum((o.lost for o in outcomes), Counter())
    kept_out: Counter[str] = sum((o.kept_out for o in outcomes), Counter())
    everything = sum(o.truth["total"] for o in outcomes)
    print(f"\nOf {everything:.0f} Agatston of coronary calcium:\n")
    print("| rule | coronary calcium lost | other calcium kept out |\n|---|---|---|")
    for rule in outcomes[0].lost:
        print(f"| {rule} | {lost[rule]:.0f} ({100 * lost[rule] / max(everything, 1):.2f} %) | {kept_out[rule]:.0f} |")
    print("\nWorst: " + ", ".join(
        f"seed {o.seed}: {o.estimate['total']:.0f} for {o.truth['total']:.0f}"
        for o in sorted(outcomes, key=lambda o: -abs(o.estimate["total"] - o.truth["total"]))[:5]
    ))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="how many phantoms")
    parser.add_argument("--first-seed", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    seeds = range(options.first_seed, options.first_seed + options.count)
    with ProcessPoolExecutor(options.processes) as pool:
        outcomes = list(pool.map(evaluate_seed, seeds))
    print_tables(outcomes, time.perf_counter() - start)


if __name__ == "__main__":
    main()
