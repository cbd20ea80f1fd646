"""The 3D Slicer module HeartLens CAC: the doorbell. The panel is in HeartLensCACLib, everything else in heartlens."""

import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class HeartLensCAC(ScriptedLoadableModule):
    """What Slicer shows of the module: title, category, help, and the phantom in Sample Data."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("HeartLens CAC")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Cardiac")]
        self.parent.dependencies = ["Segmentations", "SegmentEditor"]
        self.parent.contributors = ["The HeartLens developers"]
        self.parent.helpText = _(
            "Finds, names and scores coronary artery calcium on CT without contrast, lets a reader correct and sign "
            "the result, and writes DICOM SEG, DICOM SR and a page. Research software, not a medical device."
        )
        self.parent.acknowledgementText = _("The formulas and their sources are in docs/method.md of the project.")
        slicer.app.connect("startupCompleted()", self.registerSampleData)

    def registerSampleData(self):
        """Offer the phantom in the Sample Data module, once Slicer has started."""
        from HeartLensCACLib.Environment import tooOld

        if tooOld():  # the panel says so
            return
        from HeartLensCACLib import SampleCT

        SampleCT.register(str(Path(__file__).parent / "Resources" / "Icons" / "HeartLensPhantom.png"))


class HeartLensCACWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel in Slicer, which passes what happens to the module and the scene on to `Panel`."""

    def __init__(self, parent=None):
        self.panel = None
        self._isEntered = False
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        """Build the panel, observe the scene, and open again the case that the scene shows."""
        ScriptedLoadableModuleWidget.setup(self)
        from HeartLensCACLib.Environment import tooOld

        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/HeartLensCAC.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HeartLensCACLogic()
        if tooOld():
            self.ui.noticeLabel.setText(tooOld())
            for name in ("worklist", "input", "score", "review", "result", "sign"):
                getattr(self.ui, f"{name}Section").setEnabled(False)
            return
        from HeartLensCACLib.Panel import Panel

        self.panel = Panel(self.ui)
        self._setParameters()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        slicer.app.connect("aboutToQuit()", self.onAboutToQuit)
        self.panel.reopen()

    def enter(self):
        """The reader comes to the module: keys and clicks work from now on."""
        self._isEntered = True
        if self.panel is not None:
            self.panel.enter(slicer.util.mainWindow() or self.parent)

    def exit(self):
        """The reader leaves the module: edits go to the disk, keys and clicks are given back."""
        self._isEntered = False
        if self.panel is not None:
            self.panel.exit()

    def cleanup(self):
        """Before a reload, and at the end of Slicer."""
        if self.panel is not None:
            slicer.app.disconnect("aboutToQuit()", self.onAboutToQuit)
            self.removeObservers()
            self.panel.close()
            self.panel = None

    def onReload(self):
        """Developer mode: every module of ours is read again, and works where the reader is already there."""
        isEntered = self._isEntered
        self.cleanup()  # by the classes that the panel was made of, before new ones take their names
        for name in [n for n in sys.modules if n.split(".")[0] in ("heartlens", "HeartLensCACLib")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        fresh = getattr(slicer.modules, f"{self.moduleName}Widget", None)
        if isEntered and fresh is not None:
            fresh.enter()  # Slicer calls it only when the reader comes from another module

    def onSceneStartClose(self, caller, event):
        """Stop what runs and let go of the scene before it closes."""
        self.panel.leaveScene()

    def onSceneEndClose(self, caller, event):
        """Take up the parameter node of the empty scene."""
        self._setParameters()

    def onSceneEndImport(self, caller, event):
        """Take up the parameter node of the loaded scene, and open the case that the scene shows."""
        self._setParameters()
        self.panel.later.do(self.panel.reopen)  # when the scene is done with its event

    def onAboutToQuit(self):
        """Stop what runs and bring edits to the disk before Slicer ends."""
        self.cleanup()

    def _setParameters(self):
        from HeartLensCACLib.Parameters import Parameters

        self.panel.setParameters(Parameters(self.logic.getParameterNode()))


class HeartLensCACLogic(ScriptedLoadableModuleLogic):
    """What scripts can do without the panel; it waits for the result, so it is not for a person who watches."""

    def score(self, source, out, **options):
        """Score DICOM files or a volume file in the worker process and return the case folder.

        Parameters
        ----------
        source
            Path, or a list of DICOM files.
        out
            Folder to make.
        options
            the command line's names, with _ for -

        Raises
        ------
        RuntimeError
            It was refused or failed; the text says why and what to do.
        """
        import subprocess

        from heartlens.app.messages import Run
        from HeartLensCACLib.ScoreRun import LIBRARY_FOLDER, pythonProgram

        words = {name.replace("_", "-"): value for name, value in options.items()}
        what = {"input": source} if isinstance(source, (str, Path)) else {"files": source}
        run = Run(out=out, options=words, **what)
        command = [pythonProgram(), "-u", "-m", "heartlens", "worker"]
        with subprocess.Popen(command, cwd=LIBRARY_FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
            worker.stdin.write(run.command)
            worker.stdin.flush()  # and stays open: a worker whose stdin ends drops its job
            while not run.is_over and (line := worker.stdout.readline()):
                run.feed(line)
        run.ended(worker.returncode)
        if run.last.kind != "done":
            raise RuntimeError(run.last.text)
        return Path(run.last.case)


class HeartLensCACTest(ScriptedLoadableModuleTest):
    """The reader's journey in a real Slicer: Reload and Test in developer mode, or the scripts in Testing/in_slicer."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run every test of the module, as Slicer's Reload and Test does."""
        self.setUp()
        self.test_journey()

    def test_journey(self):
        """Take the reader's journey in the module's own panel."""
        from HeartLensCACLib.SelfTest import journey

        journey(slicer.modules.heartlenscac.widgetRepresentation().self(), self.delayDisplay)
