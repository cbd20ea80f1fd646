"""The judge as a command: three small phantoms by the rules, without any real scan, and again from what was kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import training.judge
from training.evaluation.judge_tables import AIMS, MARKS
from training.evaluation.sources.shifted import SHIFTED_SETS
from training.judge import _requests, main

SMALL = {
    "field_of_view": "heart", "pixel_mm": (3.0, 3.0), "slice_thickness_mm": 8.0, "increment_mm": 8.0, "traps": (),
    "noise_hu": 8.0,
}  # fmt: skip

SOURCES = ("second family", "own phantoms, as drawn", "own phantoms, kernel that overshoots")


def by_rules(tmp_path, *, cases: int) -> list[str]:
    """Without real scans, and with so many cases of each made source."""
    folders = ["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    return [*folders, "--bundle", "none", "--phantoms", str(cases), "--second", str(cases)]


@pytest.mark.slow
def test_three_cases_are_judged_printed_and_kept(tmp_path, capsys, monkeypatch):
    small = tuple(replace(s, overrides=lambda seed, s=s: {**s.overrides(seed), **SMALL}) for s in SHIFTED_SETS)
    monkeypatch.setattr(training.judge, "SHIFTED_SETS", small)
    page = tmp_path / "models.md"
    page.write_text(f"# Models\n{MARKS[0]}\nold\n{MARKS[1]}\nrest\n")
    command = by_rules(tmp_path, cases=1)
    command += ["--matrix", "64", "--draws", "20", "--docs", str(page), "--pictures", str(tmp_path / "pictures")]
    command += [word for source in SOURCES for word in ("--only", source)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "out" / "judge.md").read_text()
    assert text in printed
    assert page.read_text() == f"# Models\n{MARKS[0]}\n{text.rstrip()}\n{MARKS[1]}\nrest\n"
    document = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert list(document["patients"]) == list(SOURCES)
    first = document["patients"][SOURCES[1]][0]
    assert first["name"] == "phantom-760000"
    answer = first["answers"]["rules"]
    assert answer["total"] == pytest.approx(first["stages"]["rules"]["predicted_agatston"]["all"])
    assert f"| {SOURCES[1]} (1) | category of five right |" in text
    assert document["failures"] == {}
    kept = sorted((tmp_path / "out" / "judged").rglob("*.json"))
    before = [path.stat().st_mtime_ns for path in kept]
    again = [word for word in command if word not in ("--pictures", str(tmp_path / "pictures"))]
    assert main(again) == 0
    assert len(kept) == 3
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert capsys.readouterr().out.startswith(text)


def test_without_scans_the_reason_is_said(tmp_path, capsys):
    command = by_rules(tmp_path, cases=0)
    assert main(command) == 3
    assert "is not there: this set is not distributed" in capsys.readouterr().err
    assert main([*command, "--only", "patients of mine"]) == 3
    assert "expected one of heart slices, soft, " in capsys.readouterr().err


def test_every_aim_of_the_table_has_a_name_in_words_once():
    lines = [(aim.group, aim.words) for aim in AIMS]
    assert len(set(lines)) == len(lines)


def test_a_way_of_scoring_that_is_not_there_is_named(tmp_path, capsys):
    command = [*by_rules(tmp_path, cases=0), "--stage", "bundle"]
    assert main(command) == 3
    assert "--stage: expected one of rules; got bundle" in capsys.readouterr().err


def test_the_bundle_is_judged_with_and_without_its_slice_stage():
    requests, words = _requests(None)
    assert list(requests) == list(words) == ["bundle", "rules", "bundle without its slice stage"]
    assert [request.slice_stage for request in requests.values()] == [True, True, False]
    assert requests["rules"].bundle == "none"
