"""The module in a real Slicer: discovered, entered, used as a reader uses it, reloaded, and left without a trace."""

import importlib.metadata
import os
import sys
import unittest
from pathlib import Path

import slicer

PICTURES = os.environ.get("HEARTLENS_PICTURES", "")
"""A folder for pictures of the panel, for the tutorial; empty: none."""


def module_widget():
    return slicer.modules.heartlenscac.widgetRepresentation().self()


def installed():
    return {(distribution.name, distribution.version) for distribution in importlib.metadata.distributions()}


def workers():
    """Scoring processes on this computer, where the system tells."""
    process_ids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"heartlens" in words and b"worker" in words:
            process_ids.append(int(entry.name))
    return process_ids


class TestModule(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear()
        slicer.util.selectModule("HeartLensCAC")
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        slicer.app.processEvents()

    def tearDown(self):
        slicer.util.selectModule("Data")
        slicer.mrmlScene.Clear()
        assert "torch" not in sys.modules, "Slicer's own process never imports torch"

    def picture(self, name):
        if PICTURES:
            slicer.app.processEvents()
            slicer.util.mainWindow().grab().save(os.path.join(PICTURES, f"{name}.png"))

    def test_the_module_lies_under_cardiac(self):
        assert slicer.modules.heartlenscac.title == "HeartLens CAC"
        assert "Cardiac" in list(slicer.modules.heartlenscac.categories)

    def test_entering_the_module_installs_nothing_and_starts_no_process(self):
        before = installed()
        slicer.util.selectModule("Data")
        slicer.util.selectModule("HeartLensCAC")
        slicer.app.processEvents()
        assert installed() == before
        assert workers() == []

    def test_the_phantom_is_registered_in_sample_data(self):
        from HeartLensCACLib.SampleCT import NAME

        sources = [s for group in slicer.modules.sampleDataSources.values() for s in group]
        (source,) = [source for source in sources if source.sampleName == NAME]
        (volume,) = source.customDownloader(source)  # as the button of the module Sample Data does
        assert volume.GetClassName() == "vtkMRMLScalarVolumeNode"

    def test_the_readers_journey(self):
        from HeartLensCACLib.SelfTest import journey

        widget = module_widget()
        journey(widget, lambda step: (print(step), self.picture(step.split(",")[0].lower().replace(" ", "-"))))
        assert workers() == []

    def test_the_keys_are_there_only_while_the_module_is_open(self):
        widget = module_widget()
        assert widget.panel.shortcuts.areInstalled
        slicer.util.selectModule("Data")
        assert not widget.panel.shortcuts.areInstalled
        assert not widget.panel.views.clicks.areInstalled

    def test_a_closed_scene_ends_the_run(self):
        from HeartLensCACLib import SampleCT
        from HeartLensCACLib.SelfTest import PHANTOM, Hands

        hands = Hands(module_widget())
        hands.ui.volumeSelector.setCurrentNode(SampleCT.load(**PHANTOM))
        hands.ui.bundleComboBox.setCurrentIndex(hands.ui.bundleComboBox.findData("none"))
        hands.click(hands.ui.scoreButton)
        hands.wait(lambda: hands.ui.progressBar.value > 0, "the worker says how far it is")
        slicer.mrmlScene.Clear()
        hands.wait(lambda: not workers(), "the worker is gone")
        assert hands.panel.score.state == "idle"

    def test_a_reloaded_module_has_a_new_panel(self):
        widget = module_widget()
        widget.onReload()
        slicer.util.selectModule("HeartLensCAC")
        again = module_widget()
        from HeartLensCACLib.SelfTest import journey  # of the modules that were read again

        assert again.panel is not widget.panel
        journey(again)

    def test_slicer_exports_the_segmentation_as_dicom(self):
        """Slicer's own DICOM SEG writer takes our segments: terminology and algorithm are set on each of them."""
        from HeartLensCACLib import SampleCT
        from HeartLensCACLib.SelfTest import PHANTOM, Hands

        hands = Hands(module_widget())
        volume = SampleCT.load(**PHANTOM)
        hands.ui.volumeSelector.setCurrentNode(volume)
        hands.ui.bundleComboBox.setCurrentIndex(hands.ui.bundleComboBox.findData("none"))
        hands.click(hands.ui.scoreButton)
        hands.wait(lambda: hands.panel.score.state == "idle", "the run ends")
        import DICOMSegmentationPlugin

        plugin = DICOMSegmentationPlugin.DICOMSegmentationPluginClass()
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(hands.panel.nodes.segmentation)
        exportables = plugin.examineForExport(item)
        assert exportables


if __name__ == "__main__":
    unittest.main()
