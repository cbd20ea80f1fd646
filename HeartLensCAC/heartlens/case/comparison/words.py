"""What is said of a change and of a disagreement: terminal, page and JSON read it here."""

from __future__ import annotations

from collections import Counter

from heartlens.case.comparison.noise import ROOT_VOLUME_FLOOR, Range, Verdict
from heartlens.case.comparison.progress import Progress
from heartlens.case.comparison.readers import Comparison
from heartlens.scoring.report import display_agatston


def progress_lines(progress: Progress) -> tuple[str, ...]:
    """What has changed, the decisive first; each a sentence.

    Parameters
    ----------
    progress
        Of two scans.
    """
    lines = [_headline(progress)]
    if not progress.withheld:
        lines.append(_total(progress))
        per_year, why = progress.per_year
        lines.append(f"Per year: {signed(per_year)} Agatston." if per_year is not None else f"Per year: none, {why}.")
        lines.append(_floor(progress))
        lines.append(_category(progress))
    if progress.lesions is not None:
        kinds = Counter(one.kind for one in progress.lesions)
        parts = [f"{kinds[kind]} {kind}" for kind in ("matched", "new", "gone", "not shown") if kinds[kind]]
        assert progress.alignment is not None
        back_mm = progress.alignment.inconsistency_mm
        aligned = f"the hearts were aligned and came back to within {back_mm:.1f} mm of themselves"
        lines.append(f"Lesions: {', '.join(parts) or 'none in either scan'}; {aligned}.")
    for one in progress.differences:
        effect = f": {one.effect}" if one.effect else ""
        lines.append(f"Differs, {one.what}: {one.prior}, then {one.current}{effect}.")
    return (*lines, *progress.notes)


def comparison_lines(compared: Comparison) -> list[str]:
    """Where two readings agree, in sentences.

    Parameters
    ----------
    compared
        Two readings of one scan.
    """
    lines = agreement_lines(compared)
    for lesion in compared.lesions:
        ids = "; ".join(
            f"lesion {', '.join(map(str, some))} of {name}" for name, some in (("A", lesion.a), ("B", lesion.b)) if some
        )
        arteries = " against ".join("+".join(some) for some in (lesion.arteries_a, lesion.arteries_b) if some)
        more = ", named and not coronary in the other" if lesion.says_other else ""
        arteries = "+".join(lesion.arteries_a) if lesion.kind == "both" else arteries
        arteries = "not coronary in either" if lesion.kind == "open" else arteries
        lines.append(
            f"  {lesion.kind}: {ids}: {arteries}, Agatston {lesion.agatston_a:.0f} and {lesion.agatston_b:.0f}{more}"
            f"{', undecided' if lesion.undecided else ''}"
        )
    lines += [f"Differs, {d.what}: {d.prior} and {d.current}." for d in compared.differences]
    return lines


def agreement_lines(compared: Comparison) -> list[str]:
    """What each of two readings says, and how far they agree over all; each a sentence.

    Parameters
    ----------
    compared
        Two readings of one scan.
    """
    lines = []
    for name, one, state in zip("AB", (compared.a, compared.b), compared.states, strict=True):
        total = shown((one.total_low, one.total_high)) if one.has_total else "none"
        lines.append(f"{name}: Agatston {total}, {one.headline()} ({state}).")
    word = "the same" if compared.same_category else "different"
    if compared.category_withheld:
        word = f"not compared, because {compared.category_withheld}"
    lines.append(f"Category: {word}.")
    if compared.dice is not None:
        lines.append(f"Overlap of what is called coronary (Dice): {compared.dice:.2f}.")
    return lines


def shown(bounds: Range) -> str:
    """A score, or the range that it lies in.

    Examples
    --------
    >>> shown((53.2, 53.2)), shown((53.2, 150.0))
    ('53', '53 to 150')
    """
    low, high = (display_agatston(one) for one in bounds)
    return low if low == high else f"{low} to {high}"


def signed(bounds: Range) -> str:
    """A change with its sign, or the range that it lies in.

    Examples
    --------
    >>> signed((12.4, 12.4)), signed((-3.0, 40.6)), signed((0.2, 0.2))
    ('+12', '-3 to +41', '0')
    """
    texts = ["0" if round(one) == 0 else f"{one:+.0f}" for one in bounds]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _headline(progress: Progress) -> str:
    verdict = progress.verdict
    if verdict is Verdict.WITHHELD:
        return f"Nothing is said of a change: {progress.withheld}."
    if verdict is Verdict.OPEN:
        ids = (progress.prior.undecided, progress.current.undecided)
        named = [
            f"{', '.join(map(str, some))} of the {name} scan"
            for name, some in zip(("prior", "current"), ids, strict=True)
            if some
        ]
        undecided = f"lesion {' and '.join(named)}" if named else "what is undecided"
        return f"Whether calcium has changed depends on {undecided}: a reader must decide."
    return {
        Verdict.INCREASE: "Calcium has increased beyond measurement noise.",
        Verdict.DECREASE: "Calcium has decreased beyond measurement noise.",
        Verdict.NONE: "No change beyond measurement noise.",
    }[verdict]


def _total(progress: Progress) -> str:
    total = progress.total
    arteries = ", ".join(
        f"{artery.name} {signed(change.change)}" for artery, change in progress.arteries.items() if any(change.change)
    )
    text = f"Agatston {shown(total.prior)}, then {shown(total.current)}: {signed(total.change)}"
    return f"{text} ({arteries})." if arteries else f"{text}."


def _floor(progress: Progress) -> str:
    low, high = progress.root_volume.change
    root = f"{low:+.1f}" if abs(high - low) < 0.05 else f"{low:+.1f} to {high:+.1f}"
    text = f"Square root of the volume {root}; noise reaches {ROOT_VOLUME_FLOOR:g}"
    if progress.floor_agatston is not None:
        text += f", and where slabs begin moves these scores by {progress.floor_agatston:.0f} Agatston"
    return f"{text}."


def _category(progress: Progress) -> str:
    names = [" or ".join(row.label for row in one.categories) for one in (progress.prior, progress.current)]
    if progress.category_change is None:
        return "Category: none to compare."
    if progress.category_change == "same":
        return f"Category unchanged: {names[0]}."
    word = {"higher": "higher", "lower": "lower", "open": "open until a reader decides"}[progress.category_change]
    text = f"Category {names[0]}, then {names[1]}: {word}"
    if progress.verdict is Verdict.NONE and progress.category_change != "open":
        text += ", across a border and within measurement noise"
    return f"{text}."
