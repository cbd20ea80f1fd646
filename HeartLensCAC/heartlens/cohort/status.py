"""How far a cohort is: what is planned, done, in work, and why series have no result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from heartlens.cohort.folder import CohortFolder
from heartlens.cohort.planning.plan import PLANNED
from heartlens.cohort.progress import duration
from heartlens.cohort.settings import latest_settings


@dataclass
class Status:
    """Counts of a cohort.

    Parameters
    ----------
    settings
        Key of version, bundle and options; "" before any run.
    plan
        Series of the plan, by what was planned of them.
    results
        Planned series by status; `waiting` has no row, or one that is damaged.
    reasons
        Series without a result, by status and code.
    in_work
        Keys of series that were begun and not ended.
    seconds
        Of the scans that were scored, together.
    damaged
        Rows that cannot be read; `heartlens cohort run` makes them again.
    """

    settings: str
    plan: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    in_work: list[str] = field(default_factory=list)
    seconds: float = 0.0
    damaged: int = 0

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "settings": self.settings,
            "plan": dict(self.plan),
            "results": dict(self.results),
            "reasons": [{"status": s, "code": c, "series": n} for (s, c), n in sorted(self.reasons.items())],
            "in_work": self.in_work,
            "seconds": self.seconds,
            "damaged": self.damaged,
        }

    def lines(self) -> list[str]:
        """For a person."""
        planned = self.plan[PLANNED]
        others = ", ".join(f"{n} {what}" for what, n in sorted(self.plan.items()) if what != PLANNED)
        lines = [f"{planned} series planned" + (f" ({others})" if others else "")]
        lines += [f"  {n:>7} {what}" for what, n in sorted(self.results.items())]
        if self.reasons:
            lines.append("without a result:")
            lines += [f"  {n:>7} {status}: {code}" for (status, code), n in self.reasons.most_common()]
        if self.damaged:
            lines.append(f"{self.damaged} of those that wait have a damaged row; heartlens cohort run makes it again")
        if self.in_work:
            lines.append(f"in work, or begun by a process that was killed: {', '.join(k[:8] for k in self.in_work)}")
        done = sum(n for what, n in self.results.items() if what != "waiting")
        if done and self.results["waiting"]:
            each = self.seconds / done
            left = duration(each * self.results["waiting"])
            lines.append(f"{each:.1f} s a series so far; {left} of one worker's time left")
        return lines


def status_of(folder: CohortFolder, settings: str = "") -> Status:
    """Count what there is.

    Parameters
    ----------
    folder
        Of the cohort.
    settings
        Key of version, bundle and options, or its beginning; "" for those of the last run.
    """
    status = Status(latest_settings(folder, settings))
    done = folder.keys_with_rows(status.settings) if status.settings else set()
    for planned in folder.planned(("key", "status", "code")):
        status.plan[planned["status"]] += 1
        if planned["status"] != PLANNED:
            if planned["code"]:
                status.reasons[planned["status"], planned["code"]] += 1
            continue
        row = folder.row(planned["key"], status.settings) if planned["key"] in done else None
        if row is None:
            status.results["waiting"] += 1
            status.damaged += planned["key"] in done
            continue
        status.results[row["status"]] += 1
        status.seconds += row["seconds"]
        if row["code"]:
            status.reasons[row["status"], row["code"]] += 1
    status.in_work = folder.in_work(status.settings) if status.settings else []
    return status
