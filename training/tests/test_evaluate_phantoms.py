"""Phantoms as a source of patients: recounted plainly, held against the pipeline and against another source."""

from __future__ import annotations

import json
import shutil

import numpy as np
import plain_bundle
import pytest
from needed import torch  # noqa: F401
from scipy import ndimage

from heartlens.anatomy import heart_region
from heartlens.anatomy.sharpness import softened
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.io.nrrd import write_nrrd
from heartlens.pipeline import find_calcium, score_series
from heartlens.scoring.counted import scored_voxels
from training.engine.json_records import from_plain, to_plain
from training.evaluate_phantoms import evaluate_on_phantoms, main
from training.evaluation.pairs import compare_pairs
from training.evaluation.results import SEGMENTATION, Patient
from training.evaluation.sources.folders import predicted_pairs
from training.evaluation.sources.islands import lesions_on_nothing, trap_components
from training.evaluation.sources.phantoms import (
    BUNDLE,
    BY_LABELS,
    BY_RULES,
    check_pipeline,
    evaluate_phantom,
    make_phantoms,
)
from training.evaluation.statistics import summarize
from training.evaluation.tables import PHANTOM_MARKS, phantom_tables

pytestmark = pytest.mark.slow

SMALL = {
    "matrix": 112, "field_of_view": "heart", "slice_thickness_mm": 4.0, "increment_mm": 4.0, "category": "101-400",
    "matched_burden": "101-400",
}  # fmt: skip


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    made = list(make_phantoms(cache, (690201, 690202), overrides=SMALL))
    assert [p.folder for p in made] == [p.folder for p in make_phantoms(cache, (690201, 690202))]
    return made


@pytest.fixture(scope="module")
def evaluations(phantoms):
    return [evaluate_phantom(phantom, "none") for phantom in phantoms]


def test_the_reference_is_the_truth_of_the_noisy_image(phantoms, evaluations):
    for phantom, one in zip(phantoms, evaluations, strict=True):
        comparison = one.stages[BY_LABELS]
        for artery, row in phantom.truth["arteries"].items():
            assert comparison.reference_agatston[artery] == pytest.approx(row["agatston"])
            assert one.synthetic.noise_free[artery] == row["agatston_noise_free"]
        assert comparison.reference_agatston == comparison.predicted_agatston


def test_slices_recounted_plainly(phantoms, evaluations):
    """A slice is calcified where a 4-connected island of one coronary code has 1 mm2 at 130 HU."""
    for phantom, one in zip(phantoms, evaluations, strict=True):
        ct, codes = phantom.read()
        report = score_series(phantom.scan, phantom.request(bundle="none")).case
        scored_codes = report.scored_codes
        for which, labels in (("reference", codes), ("predicted", scored_codes)):
            plain = []
            for hu, on_slice in zip(ct.hu, labels, strict=True):
                areas = [0.0]
                for artery in (1, 2, 3, 4, 6):
                    islands, count = ndimage.label((on_slice == artery) & (hu >= 130))
                    areas += [(islands == n).sum() * ct.pixel_area_mm2 for n in range(1, count + 1)]
                plain.append(max(areas) >= 1)
            assert list(getattr(one.stages[BY_RULES], f"{which}_slices")) == plain
        check_pipeline(phantom, one, "none")


def test_another_score_than_the_pipelines_is_refused(phantoms, evaluations):
    comparison = evaluations[0].stages[BY_RULES]
    wrong = {**comparison.predicted_agatston, "all": comparison.predicted_agatston["all"] + 1}
    document = to_plain(evaluations[0])
    document["stages"][BY_RULES]["predicted_agatston"] = wrong
    with pytest.raises(InputRefused, match="the pipeline scores"):
        check_pipeline(phantoms[0], from_plain(Patient, document), "none")


def test_every_trap_is_called_when_everything_is(phantoms, tmp_path):
    phantom = phantoms[0]
    ct, codes = phantom.read()
    region = heart_region(ct)
    islands = trap_components(ct, codes, region, phantom.truth)
    assert islands.kinds
    assert any(kind.startswith("decoy_") for kind in islands.kinds)
    wrong = np.where(codes == 5, 2, codes).astype(np.uint8)
    for labels, called in ((codes, False), (wrong, True)):
        assert {trap.called for trap in islands.called(labels)} == {called}


def test_what_is_called_on_nothing_is_counted(phantoms, tmp_path):
    """A lesion of labels that touch neither calcium nor a trap; all others lie on what the truth has."""
    phantom = phantoms[0]
    ct, codes = phantom.read()
    free = np.argwhere((codes == 0) & (ct.hu < 0))[0]
    hu = ct.hu.copy()
    k, j, i = free
    labels = codes.copy()
    labels[k, j : j + 3, i : i + 3] = np.where(codes[k, j : j + 3, i : i + 3] == 0, 2, codes[k, j : j + 3, i : i + 3])
    hu[labels != codes] = 300
    bright = type(ct)(hu, ct.affine, ct.header)
    write_nrrd(tmp_path / "labels.nrrd", labels, ct.affine)
    request = phantom.request(segmentation=tmp_path / "labels.nrrd")
    soft = softened(bright)
    calcium = find_calcium(bright, soft, heart_region(ct), ScoringProtocol(), request, lambda stage, fraction: None)
    predicted = scored_voxels(bright, calcium.lesions, ScoringProtocol())
    assert lesions_on_nothing(calcium.lesions, codes, predicted) == 1


def test_what_was_judged_is_kept_and_reads_back_equal(phantoms, evaluations, tmp_path):
    for one in evaluations:
        assert from_plain(Patient, json.loads(json.dumps(to_plain(one)))) == one
    first = evaluate_on_phantoms(phantoms, tmp_path, bundle="none", draws=10)
    kept = sorted((tmp_path / "judged").iterdir())
    times = [path.stat().st_mtime_ns for path in kept]
    again = evaluate_on_phantoms(phantoms, tmp_path, bundle="none", draws=10)
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert again[0]["summaries"] == first[0]["summaries"]
    assert phantom_tables(*again) == phantom_tables(*first)
    evaluate_on_phantoms(phantoms, tmp_path, bundle="none", draws=10, fresh=True)
    assert [path.stat().st_mtime_ns for path in kept] != times


@pytest.fixture
def bundle(tmp_path):
    """Calls every bright pixel LAD where its slice stage lets it; the cut-off of 1 lets no slice through."""
    pytest.importorskip("onnxruntime")

    def made(cut_off: float) -> str:
        folder = tmp_path / f"bundle-{cut_off}"
        shutil.copytree(plain_bundle.FOLDER, folder)
        document = plain_bundle.manifest(folder, slices={"input": plain_bundle.SLICE_VIEW, "cut_off": cut_off})
        document["vessel"]["cut_off"] = 0.0
        (folder / "manifest.json").write_text(json.dumps(document))
        return str(folder)

    return made


def test_what_another_bundle_was_judged_by_is_not_taken_for_this_one(phantoms, bundle, tmp_path):
    """Three starts in one folder: no bundle, a bundle, and the same networks with another cut-off of slices."""
    one = phantoms[:1]
    without = evaluate_on_phantoms(one, tmp_path / "out", bundle="none", draws=5)
    open_wide, shut = (evaluate_on_phantoms(one, tmp_path / "out", bundle=bundle(c), draws=5) for c in (0.0, 1.0))
    assert list(without[1][0].stages) == [BY_RULES, BY_LABELS]
    scores = [result[1][0].stages[BUNDLE].predicted_agatston["all"] for result in (open_wide, shut)]
    assert scores[0] > 0
    assert scores[1] == 0
    assert open_wide[0]["classifier"]["cut_off"] == 0
    assert shut[0]["summaries"]["all"]["stages"][BUNDLE]["estimates"]["slices.sensitivity"]["value"] == 0
    text = phantom_tables(*open_wide)
    assert "| reached | bundle | bundle without its slice stage | the slice stage's part | rules | labels |" in text
    assert "The slice classifier alone, on the " in text


def test_the_same_patients_have_the_same_statistics_wherever_they_come_from(phantoms, evaluations):
    """Scored by rules as phantoms, and as a folder of patients that anybody could have made."""
    folder = phantoms[0].folder.parent
    pairs = predicted_pairs(folder, phantoms[0].request(bundle="none"))
    from_folder = list(compare_pairs(pairs, ScoringProtocol()))
    as_phantoms = [Patient(p.name, {SEGMENTATION: p.stages[BY_RULES]}) for p in evaluations]
    assert [p.name for p in from_folder] == [p.name for p in as_phantoms]
    one, other = (summarize(patients, draws=20, seed=1) for patients in (from_folder, as_phantoms))
    assert one == other
    assert one.stages[SEGMENTATION].zeros.tp > 0


def test_the_command_writes_its_tables_between_the_marks(tmp_path, phantoms):
    page = tmp_path / "models.md"
    begin, end = PHANTOM_MARKS
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    cache = phantoms[0].folder.parents[1]
    arguments = ["--seeds", "690201", "2", "--workers", "1", "--bundle", "none", "--draws", "10", "--docs", str(page)]
    (tmp_path / "images").mkdir()
    assert main(["--out", str(tmp_path / "out"), "--cache", str(cache), *arguments]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n2 phantoms, seeds 690201 to 690202, 112 x 112 pixels; no bundle;")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert (tmp_path / "images" / "embedded-scores.png").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "numbers.json").read_text())["phantoms"] == 2
