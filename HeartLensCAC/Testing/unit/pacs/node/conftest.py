"""What the tests of the node begin with."""

from __future__ import annotations

import pytest
import small_chest
from node_place import Place


@pytest.fixture
def place(tmp_path):
    """A node's home, with five images of one series to bring."""
    files = small_chest.write_series(tmp_path / "ct", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")[:5]
    place = Place(tmp_path / "home", files)
    yield place
    place.ledger.close()
