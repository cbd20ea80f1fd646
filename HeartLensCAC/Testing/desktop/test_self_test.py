"""The journey that a real Slicer runs, walked here on the stand-ins: its steps are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from desktop.reader import Reader

from heartlens.core.lesions import Artery

pytestmark = pytest.mark.slow


@pytest.fixture
def hands(module, phantom_ct):
    """Clicks, views and strokes are the journey's own; Paint and Erase are those of `desktop.brushes`."""
    from HeartLensCACLib.SelfTest import Hands

    Reader(module, phantom_ct)
    return Hands(module.widget)


def test_the_journey_for_a_real_slicer_goes_through_on_the_stand_ins(module, hands):
    from HeartLensCACLib.SelfTest import journey

    steps = []
    journey(module.widget, steps.append, hands)
    assert steps[0] == "A synthetic CT is made and loaded"
    assert steps[-1].startswith("Close and re-open")
    assert module.dialogs.shown == []
    assert not module.cases.exists()


def test_the_journey_stops_where_a_step_does_not_do_what_it_should(module, hands, monkeypatch):
    from HeartLensCACLib.SelfTest import journey

    review = hands.panel.review
    monkeypatch.setattr(review, "_actions", replace(review._actions, assign=lambda lesion, artery: None))
    with pytest.raises(AssertionError):
        journey(module.widget, lambda step: None, hands)


def test_the_second_way_to_the_score_counts_by_hand(module, hands):
    """One slice, 4 voxels of 300 HU at 0.25 mm2 each: 1 mm2 times 3, times 3 mm / 3."""
    from types import SimpleNamespace

    import slicer

    from heartlens.core.ct import CTVolume
    from HeartLensCACLib.SelfTest import scoreOfSegmentation

    hu = np.zeros((3, 8, 8), np.int16)
    hu[1, 2:4, 2:4] = 300
    hu[1, 6, 6] = 900  # too small alone
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]))
    keep = slicer.util.arrayFromSegmentBinaryLabelmap
    slicer.util.arrayFromSegmentBinaryLabelmap = lambda node, name, volume: (hu > 0) if name == "LAD" else None
    try:
        score = scoreOfSegmentation(SimpleNamespace(segmentation=None, volume=None), SimpleNamespace(source_ct=ct))
    finally:
        slicer.util.arrayFromSegmentBinaryLabelmap = keep
    assert score == {Artery.LM: 0.0, Artery.LAD: 3.0, Artery.LCX: 0.0, Artery.RCA: 0.0}
