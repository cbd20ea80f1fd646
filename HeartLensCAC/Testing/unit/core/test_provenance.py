"""Who found the calcium is a value of a type, never a word in a dict."""

from __future__ import annotations

import json

import pytest

from heartlens.core.provenance import LabelSource, Provenance


@pytest.mark.parametrize(
    ("source", "is_automatic"),
    [(LabelSource.RULES, True), (LabelSource.NETWORK, True), (LabelSource.READER, False), (LabelSource.FILE, False)],
)
def test_rules_and_networks_are_automatic_readers_and_files_are_not(source, is_automatic):
    assert source.is_automatic is is_automatic


def test_a_source_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="oracle"):
        Provenance(labels="oracle")


def test_provenance_comes_back_from_json_without_its_paths():
    told = Provenance(
        LabelSource.NETWORK, "b 2", {"vessel.onnx": "ab"}, None, "cuda", True, "0.2", {"read": 1.5}, ("/scan",)
    )
    document = json.loads(json.dumps(told.to_json()))
    assert "/scan" not in json.dumps(document)
    assert Provenance.from_json({**document, "source": ["/scan"]}) == told


def test_seconds_of_the_first_version_were_one_number():
    assert Provenance.from_json({"labels": "rules", "seconds": 2}).seconds == {"all": 2.0}
