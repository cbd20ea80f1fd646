"""A simulated site by its command, on small scans: what is signed is the truth, and nothing that judges is in it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from needed import need, torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.app.review_session import ReviewSession
from heartlens.case.seal import SealState
from heartlens.core.lesions import CORONARY
from heartlens.io.nrrd import read_nrrd
from training import simulated_site
from training.datasets.phantom_sets import SECOND_FAMILY_ELSEWHERE
from training.datasets.readings import signed_scans
from training.datasets.scans import LabeledScan
from training.engine.cli import CANCELLED, DONE, REFUSED
from training.evaluation.sources.second_family import generator_hash

pytestmark = pytest.mark.slow

WITH_CALCIUM = SECOND_FAMILY_ELSEWHERE.first + 1


def words(out, *more, count=2, first=WITH_CALCIUM, rate=0):
    asked = [f"--out={out}", f"--count={count}", f"--first={first}", f"--error-rate={rate}", "--size=small"]
    return [*asked, "--bundle=none", *more]


def said_and_true(out, person):
    """(k, j, i) coronary codes of the signed case and of the truth."""
    with ReviewSession.open(out / "cases" / str(person)) as session:
        assert session.seal.state is SealState.HOLDS
        codes = session.case.scored_codes
    truth = read_nrrd(out / "scans" / generator_hash()[:12] / "small" / str(person) / "labels.nrrd").values
    return tuple(np.where(np.isin(one, CORONARY), one, 0) for one in (codes, truth))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two people: first with no time at all, then to the end."""
    out = tmp_path_factory.mktemp("site") / "out"
    codes = [simulated_site.main(words(out, "--minutes", "0.00001")), simulated_site.main(words(out))]
    return out, codes


def test_it_stops_when_its_time_is_over_and_the_same_command_ends_it(site):
    out, codes = site
    assert codes == [CANCELLED, DONE]
    assert [one["person"] for one in json.loads((out / "site.json").read_text())["cases"]] == [830001, 830002]


def test_what_a_reader_without_errors_signed_has_the_score_of_the_truth(site):
    out, _ = site
    (first, second) = json.loads((out / "site.json").read_text())["cases"]
    assert first["errors"] == second["errors"] == 0
    assert first["agatston"]["truth"] > 100
    assert first["agatston"]["program"] != pytest.approx(first["agatston"]["truth"], rel=0.01)
    for one in (first, second):
        assert one["agatston"]["reader"] == pytest.approx(one["agatston"]["truth"], rel=1e-6)
        said, true = said_and_true(out, one["person"])
        assert (said == true)[said > 0].all()


def test_its_cases_are_what_learning_takes(site):
    out, _ = site
    scans = list(signed_scans(sorted((out / "cases").iterdir())))
    assert [type(scan) for scan in scans] == [LabeledScan, LabeledScan]
    assert {scan.provenance["signed"]["observer"] for scan in scans} == {"Reader^Simulated"}
    assert len({scan.patient for scan in scans}) == 2


def test_a_site_grows_and_what_is_there_is_not_read_again(site):
    out, _ = site
    journal = out / "cases" / str(WITH_CALCIUM) / "case" / "edits.jsonl"
    before = journal.stat().st_mtime_ns
    assert simulated_site.main(words(out, count=3)) == DONE
    assert journal.stat().st_mtime_ns == before
    assert len(json.loads((out / "site.json").read_text())["cases"]) == 3


def test_a_reader_who_always_errs_puts_no_calcium_where_it_is(tmp_path, capsys):
    out = tmp_path / "out"
    assert simulated_site.main(words(out, count=1, rate=1)) == DONE
    (one,) = json.loads((out / "site.json").read_text())["cases"]
    assert one["errors"] == one["listed"] + one["missed"] > 0
    assert f"{one['errors']} errors" in capsys.readouterr().out
    said, true = said_and_true(out, WITH_CALCIUM)
    assert (true > 0).any()
    assert not ((said == true) & (true > 0)).any()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--first=820000"], "found 820000 to 820001; others judge, and nothing may learn from them"),
        (["--first=831999"], "found 831999 to 832000"),
        (["--count=0"], "--count: expected 1 or more people"),
        (["--error-rate=1.5"], "--error-rate: expected 0 to 1, found 1.5"),
    ],
)
def test_people_who_judge_and_shares_that_are_none_are_refused_before_anything_is_written(
    tmp_path, capsys, more, message
):
    assert simulated_site.main(words(tmp_path / "out", *more)) == REFUSED
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_reader_is_another_site(site, capsys):
    out, _ = site
    assert simulated_site.main(words(out, rate=0.5)) == REFUSED
    assert "holds a site with other error_rate; choose another --out" in capsys.readouterr().err
