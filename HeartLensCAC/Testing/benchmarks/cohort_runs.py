"""What a run of a cohort does: how much faster two workers are than one, and what memory a worker takes over 200 scans.

`make bench` has these figures among the others; `make bench-cohort` prints those of cohorts alone, with a plot of how
they grow.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cohort_times

SCANS = 200

WARM = 10
"""Scans of each worker before its memory is taken for what it needs: libraries are loaded then."""

LEFT_OUT = "Runs of cohorts were left out: they need Dask; pip install 'heartlens[cohort]'"

Curve = list[tuple[float, float]]
"""Seconds, and scans that are done or rows that are tabled by then."""


def can_run() -> bool:
    return cohort_times.can_run() and importlib.util.find_spec("distributed") is not None


def run_times(series: Path, scans: int = SCANS) -> tuple[list[cohort_times.Row], dict[str, Curve]]:
    """Figures, and the scans that were done against time, for one worker and for two.

    Parameters
    ----------
    series
        A scan as DICOM; each scan of the cohort is this one under another key.
    scans
        So many on two workers, 30 or more; a fifth of them on one.
    """
    scans = max(scans, 3 * WARM)
    with tempfile.TemporaryDirectory() as place:
        one, _ = _run(series, Path(place) / "one", max(2 * WARM, scans // 5), workers=1)
        two, peaks = _run(series, Path(place) / "two", scans, workers=2)
    share = _seconds_a_scan(two) / _seconds_a_scan(one)
    settled = peaks[2 * WARM :]
    return [
        ("cohort: a scan on one worker", _seconds_a_scan(one), 6.0, "s"),
        ("cohort: time on 2 workers, of that on one", share, 1 / 1.8, ""),
        (f"cohort: peak memory of a worker over {scans} scans", max(peaks), 700.0, "MB"),
        ("cohort: growth of that after the first scans", max(settled) - max(peaks[: 2 * WARM]), 35.0, "MB"),
    ], {"1 worker": one, "2 workers": two}


def _run(series: Path, place: Path, scans: int, *, workers: int) -> tuple[Curve, list[float]]:
    from heartlens.cohort.cluster import Workers
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.run import run_cohort
    from heartlens.cohort.settings import settings_of
    from heartlens.dicom.series import find_series

    files = sorted(series.iterdir())
    task = {"files": [file.name for file in files], "bytes": sum(file.stat().st_size for file in files)}
    task |= {"status": "planned", "folder": str(series), "series": find_series(files)[0].series_uid}
    folder = CohortFolder(place)
    folder.write_plan([{**task, "key": f"{n:032x}"} for n in range(scans)], {"options": {"bundle": "none"}})
    made = run_cohort(folder, Workers(workers))
    assert made == {"scored": scans}, made
    settings, _ = settings_of({"bundle": "none"})
    rows = sorted(folder.rows.glob(f"*-{settings}.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    start = rows[0].stat().st_mtime
    found = [folder.row(path.name[:32], settings) for path in rows]
    curve = [(path.stat().st_mtime - start, float(n)) for n, path in enumerate(rows)]
    return curve, [float(row["peak_mb"]) for row in found if row is not None]


def _seconds_a_scan(curve: Curve) -> float:
    """From the first row to the last: without the start of the workers."""
    return curve[-1][0] / curve[-1][1]


def plot(path: Path, charts: Sequence[tuple[str, str, str, dict[str, Curve]]]) -> None:
    """Write charts as one SVG: (title, x axis, y axis, curves by name) each, with axes from zero."""
    parts = []
    for n, (title, x_name, y_name, curves) in enumerate(charts):
        left, most_x = 420 * n + 60, max(x for curve in curves.values() for x, _ in curve) or 1
        most_y = max(y for curve in curves.values() for _, y in curve) or 1
        parts.append(f'<text x="{left}" y="20" font-weight="bold">{title}</text>')
        parts.append(f'<path d="M{left} 40V260H{left + 320}" fill="none" stroke="#444"/>')
        parts.append(f'<text x="{left + 320}" y="280" text-anchor="end">{x_name}, to {most_x:.3g}</text>')
        parts.append(f'<text x="{left + 4}" y="52">{y_name}, to {most_y:.3g}</text>')
        for k, (name, curve) in enumerate(curves.items()):
            points = " ".join(f"{left + 320 * x / most_x:.1f},{260 - 200 * y / most_y:.1f}" for x, y in curve)
            color = ("#2c7bb6", "#a50026", "#1a7f37", "#8250df")[k % 4]
            parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
            parts.append(f'<text x="{left + 8}" y="{72 + 16 * k}" fill="{color}">{name}</text>')
    width = 420 * len(charts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 300" font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="300" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    import bench

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench-cohort.json"))
    parser.add_argument("--plot", type=Path, default=Path("bench-cohort.svg"))
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--rows", type=int, default=cohort_times.SERIES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        small = bench.scan(
            Path(place) / "gated", 48, field_of_view="heart", category="101-400",
            slice_thickness_mm=2.5, increment_mm=2.5,
        )  # fmt: skip
        rows, done = run_times(small, options.scans)
        curves: dict[str, Curve] = {}
        for size in (options.rows // 8, options.rows // 4, options.rows // 2, options.rows):
            figures = cohort_times.many_times(small, Path(place) / str(size), size)
            for what, value, _, _ in figures:
                curves.setdefault(what.partition(": ")[2].partition(" of ")[0], [(0.0, 0.0)]).append((size, value))
        rows += [*cohort_times.overhead_times(small, Path(place) / "one", 5), *figures]
    found = [bench.Figure(*row) for row in rows]
    cores = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{cores}\n{'':<58}{'measured':>10}{'budget':>10}")
    print("\n".join(figure.row() for figure in found))
    options.json.write_text(json.dumps({"machine": cores, "figures": [vars(figure) for figure in found]}, indent=1))
    plot(
        options.plot,
        [
            ("Scans done against time", "seconds", "scans", done),
            ("Tables against size", "series", "seconds", curves),
        ],
    )
    print(f"Plot: {options.plot}")


if __name__ == "__main__":
    main()
