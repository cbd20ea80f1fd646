"""How well rules name where calcium lies that is not coronary, on phantoms that no rule was set on.

`python HeartLensCAC/Testing/benchmarks/sites_on_phantoms.py` prints a table;
`--count 25` that of docs/method.md, section 14.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy.spatial import cKDTree

from heartlens.anatomy import heart_region
from heartlens.calcium import extract_lesions
from heartlens.calcium.sites import sites_of_lesions
from heartlens.core.lesions import Artery, LesionMap, Site
from heartlens.core.protocol import ScoringProtocol
from heartlens.phantom import Phantom, PhantomParameters, make_phantom
from heartlens.phantom.body.anatomy import draw_anatomy
from heartlens.phantom.calcium.traps import make_traps
from heartlens.phantom.image.scan import plan_scan

SETTING, JUDGING = 850_000, 860_000
"""First seeds of the phantoms that the rules were set on, and of those that judge them; no other purpose has these."""

SITE_OF_KIND = {
    "aortic_wall_ascending": "ascending_aorta",
    "aortic_wall_arch": "aortic_arch",
    "aortic_wall_descending": "descending_aorta",
    "aortic_valve": "aortic_valve",
    "mitral_annulus": "mitral_annulus",
    "mitral_annulus_heavy": "mitral_annulus",
    "hilar_node": "hilar_node",
    "atrial_node": "hilar_node",
    "pericardium": "pericardium",
    "stent": "stent_or_graft",
    "surgical_clip": "stent_or_graft",
    "graft_marker": "stent_or_graft",
}
"""What each trap of a phantom is; all others are elsewhere."""

CHANCE = {
    "aortic_wall_ascending": 0.6, "aortic_wall_arch": 0.6, "aortic_wall_descending": 0.6, "aortic_valve": 0.6,
    "mitral_annulus": 0.6, "hilar_node": 0.5, "airway_ring": 0.4, "pericardium": 0.4, "stent": 0.2, "pacing_wire": 0.1,
    "sternal_wire": 0.1, "costal_cartilage": 0.4, "osteophyte": 0.4, "atrial_node": 0.3, "surgical_clip": 0.15,
    "graft_marker": 0.15, "catheter": 0.1, "bronchial_wall": 0.3,
}  # fmt: skip
"""Of each trap in a phantom: more than people have, so that every site is there often enough to count."""

MATRIX = 144
"""Rows and columns: places, not scores, are judged, and blocks of 3 mm are what anatomy is found on."""

NOT_KNOWN = "not known"

NEAR_MM = 4.0
"""A lesion is what the nearest trap is, when that is as near in the mean."""


def parameters_of(seed: int) -> PhantomParameters:
    """A phantom of either anatomy with many traps."""
    rng = np.random.default_rng([seed, 77])
    anatomy = 1 + seed % 2
    late = ("atrial_node", "surgical_clip", "graft_marker", "catheter", "bronchial_wall")
    traps = tuple(k for k, p in CHANCE.items() if rng.random() < p and (anatomy == 2 or k not in late))
    return PhantomParameters.random(
        seed, matrix=MATRIX, slice_thickness_mm=3.0, increment_mm=3.0, traps=traps, anatomy=anatomy
    )


def lesions_and_truth(phantom: Phantom, parameters: PhantomParameters) -> tuple[LesionMap, dict[int, str]]:
    """All lesions of a phantom by its labels, and what each that is not coronary is."""
    flat = np.flatnonzero(phantom.labels)
    lesions = extract_lesions(phantom.ct, flat, phantom.labels.reshape(-1)[flat], ScoringProtocol())
    anatomy = draw_anatomy(parameters)
    grid = plan_scan(anatomy, parameters)
    traps = make_traps(anatomy, parameters.traps, parameters.generator, parameters.kvp)
    if not traps:
        return lesions, {}
    trees = [cKDTree(grid.table_from_body(trap.cloud.points)) for trap in traps]
    truth = {}
    for number, artery in lesions.arteries.items():
        if artery is Artery.OTHER and lesions.notes[number].counts:
            voxels = lesions.voxels.flat[lesions.voxels.ids == number]
            places = phantom.ct.lps_mm(np.stack(np.unravel_index(voxels, phantom.ct.shape), axis=-1))
            away = [float(tree.query(places)[0].mean()) for tree in trees]
            nearest = int(np.argmin(away))
            if away[nearest] < NEAR_MM:
                truth[number] = SITE_OF_KIND.get(traps[nearest].kind, "elsewhere")
    return lesions, truth


def judge_seed(seed: int) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """How often each true site of a phantom was called what, and how many coronary lesions would be called anything."""
    parameters = parameters_of(seed)
    phantom = make_phantom(parameters)
    lesions, truth = lesions_and_truth(phantom, parameters)
    named = sites_of_lesions(phantom.ct, heart_region(phantom.ct), lesions)
    table = Counter((true, str(named.get(number, NOT_KNOWN))) for number, true in truth.items())
    coronary = [n for n, a in lesions.arteries.items() if a is not Artery.OTHER and lesions.notes[n].counts]
    return table, Counter("named" if n in named else NOT_KNOWN for n in coronary)


def print_table(table: Counter[tuple[str, str]], coronary: Counter[str], phantoms: int) -> None:
    """Rows are what calcium is, columns what the rules call it."""
    rows = [site.value for site in Site]
    columns = [name for name in (*rows, NOT_KNOWN) if any(table[(row, name)] for row in rows)]
    print(f"| true \\ named | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {row} | {' | '.join(str(table[(row, name)]) for name in columns)} |")
    named = sum(n for (_, name), n in table.items() if name != NOT_KNOWN)
    right = sum(n for (true, name), n in table.items() if name == true)
    print(
        f"\n{phantoms} phantoms, {sum(table.values())} lesions that are not coronary: {named} named, {right} of them "
        f"rightly. Of {sum(coronary.values())} coronary lesions {coronary['named']} lie where a rule would name a site."
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="how many phantoms")
    parser.add_argument("--first-seed", type=int, default=JUDGING)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    table: Counter[tuple[str, str]] = Counter()
    coronary: Counter[str] = Counter()
    with ProcessPoolExecutor(options.processes) as pool:
        for one, other in pool.map(judge_seed, range(options.first_seed, options.first_seed + options.count)):
            table += one
            coronary += other
    print_table(table, coronary, options.count)


if __name__ == "__main__":
    main()
