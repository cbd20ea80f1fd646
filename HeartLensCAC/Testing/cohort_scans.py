"""Scans of a small cohort with scores known by hand, and its folder after a plan."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from dicom_builder import write_ct_series
from schematic_chest import schematic_chest

from heartlens.__main__ import main
from heartlens.cohort.folder import CohortFolder
from heartlens.cohort.tables.parquet import connect
from heartlens.cohort.tables.table import CohortTable

RCA_MM = (-20.0, -25.0, -25.0)

AGATSTON_OF_A_VOXEL = 2.8 * 2.8 * 2
"""At 250 HU, weight 2, of a slice of 3 mm."""


PLAN = {
    "status": "planned", "folder": "/scans", "files": ["1.dcm"], "bytes": 1, "series": "1.2", "age": None, "sex": None,
    "race": None,
}  # fmt: skip
"""What a row of a plan needs."""


def write_chest(folder: Path, voxels: int, *, slices: slice = slice(None), **tags: Any) -> list[Path]:
    """A schematic chest with a plaque of so many voxels on one slice of the right coronary artery."""
    chest = schematic_chest()
    hu = np.array(chest.hu)
    k, j, i = np.rint(chest.index_kji(RCA_MM)).astype(int)
    hu[k, j, i : i + voxels] = 250
    x, y, z = chest.affine[:3, 3]
    first = slices.indices(hu.shape[0])[0]
    corner = (x, y, z + first * chest.spacing_mm[0])
    tags = {"CardiacSynchronizationTechnique": "PROSPECTIVE", **tags}
    return write_ct_series(folder, hu[slices], spacing_mm=chest.spacing_mm, corner_lps_mm=corner, **tags)


SCANS = 30
"""Of a cohort in which everything occurs that may happen to a scan; see `write_scans`."""


def write_scans(place: Path) -> None:
    """Small chests: 24 with plaques of 0 to 5 voxels, two that begin too low, two cut short, a copy, and a part."""
    for n in range(SCANS - 2):
        who = {"PatientID": f"P{n}", "PatientName": f"Doe{n}^Jane", "StudyDate": f"20200{1 + n % 9}01"}
        files = write_chest(
            place / f"chest-{n:02d}", n % 6, slices=slice(0, 16) if n in (24, 25) else slice(None), **who
        )
        if n in (26, 27):
            files[7].write_bytes(files[7].read_bytes()[:-2000])
    for n, name in enumerate(("copy", "part")):
        shutil.copytree(place / f"chest-{n:02d}", place / name)
    next(iter(sorted((place / "part").iterdir()))).unlink()


def plan(*sources: Path, out: Path, options: tuple[str, ...] = ()) -> CohortFolder:
    """The folder of a cohort that the command line has planned."""
    assert main(["cohort", "plan", *map(str, sources), "--out", str(out), "--bundle", "none", *options]) == 0
    return CohortFolder.open(out)


def texts_of(path: Path) -> str:
    """Everything that a table says, as text: Parquet and DuckDB pack their words."""
    con = connect(path if path.suffix == ".duckdb" else None)
    try:
        names = [name for (name,) in con.execute("SHOW TABLES").fetchall()] or [f"'{path}'"]
        return "\n".join(str(row) for name in names for row in con.execute(f"SELECT * FROM {name}").fetchall())
    finally:
        con.close()


STATE = "key, status, code, agatston, category, rca_lesions, voxels_sha256, edits"
"""What does not depend on when and where a scan was scored."""


def state(folder: CohortFolder, *, without: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """The tables made anew, and what of them must be the same whatever happened meanwhile."""
    CohortTable(folder).write()
    rows = {row["key"]: Path(row["folder"]).name for row in folder.planned(("key", "folder"))}
    return [row for row in table(folder, STATE) if rows[row[0]] not in without]


def table(folder: CohortFolder, columns: str = "*", name: str = "series", order: str = "ALL") -> list[tuple[Any, ...]]:
    """Rows of a table of the cohort's database."""
    con = connect(folder.path / "cohort.duckdb")
    try:
        return con.execute(f"SELECT {columns} FROM {name} ORDER BY {order}").fetchall()
    finally:
        con.close()
