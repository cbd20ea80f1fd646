"""Two readings of the chest, as Rita and Ravi make them.

By hand, of the chest with 900 in the LAD and 1800 undecided in the RCA: Rita calls the 1800 LM and takes the 1350 that
were missed for the LCX; Ravi keeps the RCA and takes a column of 3 pixels (150) out of the LAD. They share 33 voxels of
54 and 33, and differ in one artery, one extent and one lesion that Rita alone has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from viewer.reviewed_chest import FREE, RCA, hu

from heartlens.app.review_session import ReviewSession
from heartlens.core.lesions import Artery

FLAT = np.arange(hu().size).reshape(hu().shape)
COLUMN = FLAT[8, 14:17, 22]


def read_first(place: Path) -> None:
    with ReviewSession.open(place, reader="Rita") as session:
        session.assign(RCA, Artery.LM)
        session.relabel(FLAT[FREE].reshape(-1), np.full(18, Artery.LCX, np.uint8))
        session.sign("Reader^Rita", "Clinic", confirmed=True)
        (session.folder / "viewed.json").write_text('{"readers": {"Rita": {"slices": [1], "lesions": [1]}}}')


def read_second(place: Path) -> None:
    with ReviewSession.open(place, reader="Ravi") as session:
        session.assign(RCA, Artery.RCA)
        session.relabel(COLUMN, np.zeros(3, np.uint8))
