"""Measure what the checks of docs/method.md section 12 say of phantoms, as they lie and in every wrong orientation.

python scripts/gates.py [--first SEED] [--people 300] [--turned 12] [--folder DIR ...] [--workers 2]

The first table counts findings in upright phantoms: each is a false alarm, but for what a phantom was drawn to have.
The second counts, for each phantom or scan of --folder, what notices its 47 wrong orientations: axes in another order
or direction than the file says, with spacing that goes along.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import heart_region
from heartlens.anatomy.extent import require_possible_extent
from heartlens.anatomy.quality import content_findings
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.io.volumes import checked_volume
from heartlens.phantom import PhantomParameters, lifelike, make_phantom
from heartlens.pipeline import Request, read_ct

FIRST_SEED = 2_100_000
"""Of people who serve nothing else."""

KINDS = ("random", "varied", "lifelike")
MATRIX = 128
WANTED = frozenset({"no-hu", "clipped", "orientation", "no-heart", "hu-jump", "contrast", "metal"})


def phantom(seed: int) -> tuple[str, CTVolume]:
    """A person of one of the three kinds of the generator, and what it shows on purpose."""
    kind = KINDS[seed % len(KINDS)]
    if kind == "lifelike":
        parameters = lifelike(seed, matrix=MATRIX)
    else:
        parameters = getattr(PhantomParameters, kind)(seed, matrix=MATRIX)
    return f"{kind} {parameters.field_of_view}", make_phantom(parameters).ct


def findings(ct: CTVolume) -> set[str]:
    """Codes of what the checks say of one volume."""
    try:
        require_possible_extent(ct)
    except InputRefused as refusal:
        return {refusal.code}
    return {code for code, _ in content_findings(ct, heart_region(ct))}


def upright(seed: int) -> tuple[str, list[str]]:
    """What is said of a phantom that is as it should be."""
    name, ct = phantom(seed)
    return name, sorted(findings(ct) & (WANTED | {"geometry"}))


def orientations() -> Iterator[NDArray[np.float64]]:
    """The 47 (3, 3) matrices that permute and flip axes, without the identity."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if not np.array_equal(matrix, np.eye(3)):
                yield matrix


def turned(ct: CTVolume, matrix: NDArray[np.float64]) -> CTVolume:
    """The same voxels under a header that says a wrong orientation."""
    affine = ct.affine.copy()
    affine[:3, :3] = matrix @ affine[:3, :3]
    header = CTHeader(kvp=ct.header.kvp, slice_thickness_mm=ct.header.slice_thickness_mm)  # as volume files have it
    return checked_volume(np.array(ct.hu), affine, header, where="turned", allow=OVERRIDABLE - {"not-axial"})[0]


def noticed(name: str, ct: CTVolume) -> tuple[str, Counter[str]]:
    """How many wrong orientations are refused by what."""
    count: Counter[str] = Counter()
    for matrix in orientations():
        try:
            found = findings(turned(ct, matrix)) & {"geometry", "orientation", "no-heart"}
        except InputRefused as refusal:
            found = {refusal.code}
        first = sorted(found, key=("geometry", "not-axial", "orientation", "no-heart").index)
        count[first[0] if first else "silent"] += 1
    return name, count


def turned_phantom(seed: int) -> tuple[str, Counter[str]]:
    """`noticed` of a phantom."""
    return noticed(*phantom(seed))


def turned_folder(folder: str) -> tuple[str, Counter[str]]:
    """`noticed` of a scan on disk."""
    ct, *_ = read_ct(Path(folder), Request(allow=OVERRIDABLE))
    return noticed(Path(folder).name, ct)


def print_counts(rows: Iterable[tuple[str, Counter[str]]]) -> None:
    """One line each."""
    for name, count in rows:
        print(f"{name:40s} " + ", ".join(f"{code} {n}" for code, n in count.most_common()), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first person")
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--turned", type=int, default=12)
    parser.add_argument("--folder", action="append", default=[], help="a scan to turn as well")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        count: Counter[str] = Counter()
        for n, (name, codes) in enumerate(
            pool.map(upright, range(arguments.first, arguments.first + arguments.people))
        ):
            count.update(codes)
            if codes:
                print(f"  {arguments.first + n} {name}: {', '.join(codes)}", flush=True)
        print(f"{arguments.people} upright phantoms: " + ", ".join(f"{c} {n}" for c, n in count.most_common()))
        first = arguments.first + arguments.people
        print_counts(pool.map(turned_phantom, range(first, first + arguments.turned)))
        print_counts(pool.map(turned_folder, arguments.folder))


if __name__ == "__main__":
    main()
