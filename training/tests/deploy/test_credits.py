"""Whom a bundle has to name: what its start asked for is not lost when it goes on learning."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import find_bundle
from training.deploy.bundle_weights import slices_start
from training.deploy.credits import credits_of_scans, credits_of_start, keep_credits, merged_credits

DOE = {"cite": "Doe, 2017", "licence": "CC BY 3.0", "scans": ["a", "b"]}


def background(name, licence="CC BY 3.0"):
    provenance = {"background": name, "licence": licence, "attribution": "Doe, 2017"}
    return SimpleNamespace(name=f"background/{name}/0", provenance=provenance)


def test_real_scans_are_cited_once_with_every_scan_and_phantoms_are_not():
    phantom = SimpleNamespace(name="phantom/1", provenance={})
    assert credits_of_scans([background("b"), background("a"), background("a"), phantom]) == [DOE]
    assert len(credits_of_scans([background("a"), background("b", "CC BY 4.0")])) == 2


def test_what_the_shipped_bundle_owes_goes_with_its_slice_stage_and_from_run_to_run(tmp_path):
    shipped = find_bundle("heartlens-embedded")
    owed = json.loads((shipped / "manifest.json").read_text())["attribution"]
    assert len(owed) == 3
    first = slices_start(shipped, tmp_path / "first")
    assert credits_of_start(first) == merged_credits(owed)
    (tmp_path / "second").mkdir()
    keep_credits(tmp_path / "second", first, [background("a"), background("b")])
    assert credits_of_start(tmp_path / "second") == merged_credits(owed, [DOE])


def test_a_run_that_began_with_nothing_owes_nothing(tmp_path):
    keep_credits(tmp_path, None)
    assert credits_of_start(tmp_path) == credits_of_start(tmp_path / "nowhere") == []


@pytest.mark.parametrize("damaged", ["[]", '{"attribution": [{"cite": "Doe"}]}', "{", '{"attribution": 3}'])
def test_credits_that_cannot_be_read_are_refused_and_not_dropped(tmp_path, damaged):
    (tmp_path / "credits.json").write_text(damaged)
    with pytest.raises(InputRefused, match="must be named"):
        credits_of_start(tmp_path)
