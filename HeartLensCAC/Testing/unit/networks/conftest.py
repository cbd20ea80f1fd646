"""The bundle whose networks can be worked out by hand, loaded once a file."""

from __future__ import annotations

import pytest
from plain_bundle import FOLDER

from heartlens.networks.bundle import load_bundle
from heartlens.networks.inference import Networks


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(FOLDER)


@pytest.fixture(scope="module")
def networks(bundle):
    return Networks(bundle, "cpu")
