"""Which phantoms serve training, validation, calibration and published figures: no seed has two purposes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import heartlens.phantom
from heartlens.core.errors import InputRefused
from heartlens.phantom import PhantomParameters

GENERATOR = "18673bc8389da7f7ecb64e65907b442631111726b5e2e9a31fdd326029a46b64"
"""SHA-256 of the phantom's source (`generator_hash`); another phantom means training again.

When bundle 2 was trained it began with 8ed23cb5543d2d11. The source was moved and its docstrings rewritten since, and
anatomy 2, `decoys_within_mm` and the heavy mitral ring came beside it; phantoms of anatomy 1 stayed what they
were, voxel by voxel.
"""


@dataclass(frozen=True)
class Seeds:
    """Phantoms of one purpose: no seed has two.

    Parameters
    ----------
    first
        The smallest seed.
    count
        How many follow one another, the first included.
    """

    first: int
    count: int

    @property
    def range(self) -> range:
        """The seeds, in order."""
        return range(self.first, self.first + self.count)


TRAINING, VALIDATION, SPARE = Seeds(500_000, 560), Seeds(600_000, 100), Seeds(690_000, 4)
"""Trained on; looked at while training, and for the cut-off of slices; and a few that fill the splits' third part."""


CALIBRATION = Seeds(720_000, 200)
"""For the cut-off of islands and their probability alone, and so of as many pixels as scanners give."""


TEST = Seeds(740_000, 200)
"""For the published figures alone. Nothing here makes them. Those from 700000 and from 720000 on were judged by before,
and looked into: whatever was chosen afterwards had seen them."""


SHIFTED = Seeds(760_000, 200)
"""For the judge alone (`make judge`): phantoms as drawn, and others outside of what is drawn, so many for each set."""

SHIFTED_OF_A_SET = 40
"""Seeds that each of these sets has for itself."""


SECOND_FAMILY, SECOND_FAMILY_ELSEWHERE = Seeds(820_000, 150), Seeds(830_000, 2000)
"""Of the phantoms in training/evaluation/second_family, which judge: the first never teach and nothing is chosen by
them; the others are for experiments on other sites, whose bundles never ship."""


JUDGE = "second family"
"""Who made a scan of the second family, in its provenance."""


MATRIX = 512
"""Rows and columns of a scan for calibration and for figures, as scanners give them; training has fewer."""


PLAIN = 3
"""Every so many-th phantom of training is drawn as those of validation are. The others have more calcium and decoys:
making a person takes seconds, laying another plaque takes none, and every island is a lesson."""


STENTED = 5
"""Every so many-th phantom of training has a stent: one scan in 25 would teach nothing of them."""


def generator_hash() -> str:
    """SHA-256 over the source files of the phantom, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(Path(heartlens.phantom.__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def training_phantom(seed: int) -> PhantomParameters:
    """The phantom of a seed."""
    if seed in CALIBRATION.range:
        return PhantomParameters.varied(seed, matrix=MATRIX)
    drawn = PhantomParameters.varied(seed)
    if seed not in TRAINING.range:
        return drawn
    traps = drawn.traps
    if seed % STENTED == 0 and "stent" not in traps:
        traps += ("stent",)
    if seed % PLAIN == 0:
        return PhantomParameters.varied(seed, traps=traps)
    if seed % PLAIN == 1:
        return PhantomParameters.varied(seed, traps=traps, category=">400", matched_burden=">400")
    counts = np.random.default_rng([seed, 6]).integers((0, 1, 1, 1), (4, 6, 6, 6))  # LM, LAD, LCX, RCA
    return PhantomParameters.varied(
        seed, traps=traps, plaques=tuple(int(n) for n in counts), matched_burden=">400"
    )  # fmt: skip


def refuse_judges(name: str, provenance: Mapping[str, Any]) -> None:
    """Refuse a scan of the second family in a set that something learns from, but for the seeds set aside for that.

    Parameters
    ----------
    name
        Of the scan, for the message.
    provenance
        Of the scan; `made_by` and `seed` decide.

    Raises
    ------
    InputRefused
        "input": the scan judges
    """
    if provenance.get("made_by") == JUDGE and provenance.get("seed") not in SECOND_FAMILY_ELSEWHERE.range:
        allowed = SECOND_FAMILY_ELSEWHERE.range
        raise InputRefused(
            "input",
            f"{name} judges, and nothing may learn from it; for experiments elsewhere take seeds "
            f"{allowed.start} to {allowed.stop - 1}, whose bundles never ship",
        )
