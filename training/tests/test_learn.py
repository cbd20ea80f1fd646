"""A site's signed cases make a bundle better, or none: the whole way on chests that are drawn by formulas."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from needed import need, torch
from schematic_chest import schematic_chest

from heartlens.case.case import Case
from heartlens.case.folder import load_case, save_case
from heartlens.case.seal import sign_case
from heartlens.case.signature import Signature
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.networks.bundle import Calibration, Domain, load_bundle
from heartlens.pipeline import Request, score_series
from training import learn
from training.adaptation.judged import ScanError
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, scans_of
from training.deploy.bundle_writer import BundleMetadata, Trained, export_bundle
from training.engine.cli import CANCELLED, DONE, REFUSED
from training.engine.config import load_recipe
from training.segmentation.networks import build_network
from training.segmentation.recipe import SegmentationRecipe

pytestmark = pytest.mark.slow

PATIENTS = 17
OWED = {"cite": "Lee, 2017", "licence": "CC BY 3.0", "scans": ["a"]}
FAST = ["--set", "steps=40", "batch=4", "optimizer.rate=0.2", "optimizer.warmup_steps=0", "validate_every=20"]


def make_case(folder, number, *, reader="One^R", artery=Artery.LAD, signed=True):
    """A chest with three spots that the program calls something else, and that its reader gives to an artery."""
    ct = schematic_chest(add=tuple((40 - 12 * n, -20, -30 - 8 * n, 3.5, 400 + 10 * n + number) for n in range(3)))
    labels = np.zeros(ct.shape, np.uint16)
    for n in range(3):
        labels[ct.hu == 400 + 10 * n + number] = n + 1
    auto = LesionMap(labels, dict.fromkeys((1, 2, 3), Artery.OTHER))
    provenance = Provenance(LabelSource.NETWORK, bundle="start 1")
    case = Case.of(ct, auto, ScoringProtocol(), provenance=provenance)
    for n in (1, 2, 3):
        case = case.reassign(n, artery, who=reader)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_case(case, folder)
    if signed:
        sign_case(folder, load_case(folder), Signature(reader, "Hospital", "2026-01-04T10:00:00+00:00"))
    return folder


def elsewhere(number):
    """A chest of somebody else, whose three spots are LAD."""
    ct = schematic_chest(add=tuple((40 - 12 * n, -20, -30 - 8 * n, 3.5, 500 + 10 * n + number) for n in range(3)))
    labels = np.where(np.isin(ct.hu, [500 + 10 * n + number for n in range(3)]), int(Artery.LAD), 0)
    return LabeledScan(f"phantom/{number}", f"else-{number}", "phantom", ct, labels.astype(np.uint8))


def make_start(folder, name="start", bias=(4.0, 0.0, 0.0, 0.0, 0.0, 0.0)):
    """A bundle whose vessel network says the same of everything: that it is none, unless told otherwise."""
    recipe = load_recipe(
        SegmentationRecipe, None, ["view.size_px=64", "view.spacing_mm=2.8", "network.base=4", "network.depth=2",
                                   "network.groups=2"],
    )  # fmt: skip
    torch.manual_seed(len(name))
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor(bias))
    texts = {"name": name, "version": "1", "licence": "Apache-2.0", "trained_on": "nothing"}
    metadata = BundleMetadata(texts, Domain(kvp=(80, 100)), 0.5, Calibration())
    metadata = replace(metadata, attribution=[OWED])
    export_bundle(Trained(network.eval(), recipe, 0, {}), folder, metadata, [schematic_chest()])
    return folder


class World:
    """One site, run once: first with no time at all, then to the end."""

    def __init__(self, folder):
        self.folder, self.start, self.out = folder, make_start(folder / "start"), folder / "out"
        self.cases = [
            make_case(folder / f"case{n}", n, reader="Two^R" if n % 3 == 0 else "One^R") for n in range(PATIENTS)
        ]
        self.cases += [
            make_case(folder / "unsigned", 20, signed=False),
            make_case(folder / "again", 0, reader="Three^R"),  # says what case0 says
            make_case(folder / "one", 21),
            make_case(folder / "other", 21, reader="Three^R", artery=Artery.RCA),
            make_case(folder / "gone", 22),
        ]
        (folder / "gone" / "ct.nrrd").unlink()
        self.codes = [self.run("--minutes", "0.0001"), self.run()]

    def run(self, *words, cases=None, out=None, start=None):
        said, self.errors = io.StringIO(), io.StringIO()
        places = self.cases if cases is None else cases
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(self.errors):
            code = learn.main(
                [*map(str, places), f"--start={start or self.start}", f"--out={out or self.out}",
                 f"--work={self.folder / 'work'}", *FAST, *words]
            )  # fmt: skip
        self.said = said.getvalue()
        return code


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    need("onnxscript")
    made = World(tmp_path_factory.mktemp("site"))
    made.first_words = made.said
    return made


def test_it_stops_when_its_time_is_over_and_the_same_command_ends_it(world):
    assert world.codes == [CANCELLED, DONE]


def test_the_bundle_is_better_on_patients_whom_it_has_not_seen_and_says_what_it_learned_from_whom(world):
    manifest = json.loads((world.out / "manifest.json").read_text())
    learned = manifest["learned"]
    (site,) = learned["judged"]
    assert site["verdict"] == "better"
    assert site["wrong_share"]["before"] == 1  # the start called nothing
    assert site["wrong_share"]["after"] < 0.05
    assert learned["cases"] == {
        "given": PATIENTS + 5, "used": PATIENTS, "taught": learned["patients"]["train"],
        "skipped": {"disagreement": 2, "input": 1, "second-reading": 1, "unsigned": 1},
    }  # fmt: skip
    assert learned["patients"]["test"] == 5
    assert sum(learned["readers"].values()) == learned["patients"]["train"]
    assert set(learned["readers"]) == {"One^R, Hospital", "Two^R, Hospital"}
    assert learned["contradictions"][0]["readers"] == ["One^R", "Three^R"]
    assert manifest["trained_on"].startswith("start 1 (nothing), then ")
    assert manifest["lineage"]["from"]["title"] == "start 1"
    assert manifest["attribution"] == [OWED]  # what the start owed, this one owes
    assert manifest["domain"]["kvp"] == [80, 120]  # widened to what it has now seen
    assert "cut-off and calibration are those of start 1" in world.first_words  # all islands were of one kind


def test_nobody_who_judges_has_taught(world):
    splits = Splits.load(world.folder / "work" / "splits.json")
    shards = ShardSet.open(world.folder / "work" / "site")
    assert not set(splits.train) & set(splits.test)
    taught = json.loads((world.out / "manifest.json").read_text())["lineage"]["data"]["train"]
    assert taught["scans"] == len(scans_of(shards, splits.train)) == len(splits.train)
    assert Counter(skip.code for skip in shards.skipped)["disagreement"] == 2


def test_the_new_bundle_scores_a_chest_that_nobody_gave(world, tmp_path):
    from heartlens.io.volumes import write_volume

    write_volume(tmp_path / "ct.nrrd", schematic_chest(add=((30, -22, -40, 3.5, 450),)))
    old, new = (
        score_series(tmp_path / "ct.nrrd", Request(bundle=str(folder))).case.report.arteries[Artery.LAD].agatston
        for folder in (load_bundle(world.start).folder, load_bundle(world.out).folder)
    )
    assert (old, new > 20) == (0, True)


def test_a_worse_bundle_is_not_written_and_the_record_says_what_would_settle_it(world, monkeypatch):
    def errors(bundle, shards, scans, **_):
        is_old = bundle == world.start
        return {n: ScanError(0.2 if is_old else 0.3 + 0.1 * (m % 2), 100.0, 100.0) for m, n in enumerate(scans)}

    monkeypatch.setattr(learn, "scan_errors", errors)
    monkeypatch.setattr(learn, "export_candidate", lambda *_: (load_bundle(world.out), ()))
    out = world.folder / "worse"
    assert world.run("--accept-unsettled", out=out) == REFUSED
    assert not out.exists()
    assert "error: not shipped: held-out patients of the site: worse (gain -0.140)" in world.errors.getvalue()
    record = json.loads((world.folder / "work" / "learn.json").read_text())
    assert record["shipped"] is False
    assert record["judged"][0]["verdict"] == "worse"


def test_other_cases_are_other_work_and_a_bundle_is_never_replaced(world):
    assert world.run(cases=world.cases[:-1], out=world.folder / "new") == REFUSED
    assert "was begun with other cases" in world.errors.getvalue()
    assert world.run() == REFUSED
    assert "exists; choose another --out" in world.errors.getvalue()


def test_a_run_that_began_with_one_bundle_does_not_go_on_as_one_of_another(world):
    other = make_start(world.folder / "start-again", name="another")
    assert world.run(start=other, out=world.folder / "new") == REFUSED
    assert "was begun with the weights of start 1, and these are of another 1" in world.errors.getvalue()


def test_judges_are_called_by_what_they_are_and_the_manifest_names_no_folder(world):
    """Whoever judges elsewhere lies in a folder with a person's name."""
    folder = world.folder / "Doe^Jane"
    write_shards(folder, [elsewhere(n) for n in range(2)])
    out = world.folder / "Roe^Richard-out"
    assert world.run("--judge", str(folder), "--name", "ours", out=out) == DONE
    text = (out / "manifest.json").read_text()
    judged = json.loads(text)["learned"]["judged"]
    assert [one["what"] for one in judged] == ["held-out patients of the site", "scans of --judge 1 (phantom)"]
    assert not any(name in text for name in ("Doe", "Roe", str(world.folder)))
    assert "Doe" not in world.said


def test_too_few_patients_are_told_how_many_are_needed(world, tmp_path, capsys):
    words = [str(world.cases[0]), f"--start={world.start}", f"--out={tmp_path / 'out'}"]
    assert learn.main(words) == REFUSED
    assert "1 patients with a signed case; expected 17 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "message"), [("none", "rules have no weights"), ("plain", "expected a safetensors file for vessel-unet")]
)
def test_a_start_without_weights_is_refused_before_any_case_is_read(world, tmp_path, capsys, start, message):
    from plain_bundle import FOLDER

    name = str(FOLDER) if start == "plain" else start
    assert learn.main([str(world.cases[0]), f"--start={name}", f"--out={tmp_path / 'out'}"]) == REFUSED
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
