"""Slice views whose events go the way that they go in Slicer: its interactor style and its displayable managers.

The window is never drawn, so no display is needed; which renderer a point is in, and who takes a click there, is
decided all the same. What Qt adds (qMRMLSliceWidget, qMRMLSliceView) is a handful of getters.
"""

from __future__ import annotations

from typing import Any

from installed import need

need("slicer", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

import slicer  # noqa: E402
import vtk  # noqa: E402

MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)
"""As qMRMLSliceView::initDisplayableManagers asks for them (Libs/MRML/Widgets/qMRMLSliceView.cxx:134), and the
Markups module's; without those that only draw in a corner."""

SIZE = 400

_views: dict[str, SliceView] = {}


def slice_view(name: str) -> SliceView:
    """The view of that name; like Slicer's it is made once and stays when a scene closes."""
    if name not in _views:
        _views[name] = SliceView(name)
    view = _views[name]
    view.reset()
    return view


def add_singletons(scene: Any) -> None:
    """Nodes that the application makes at its start, and every scene keeps."""
    for kind, tag in (("Crosshair", "default"), ("Interaction", "Singleton"), ("Selection", "Singleton")):
        node = getattr(slicer, f"vtkMRML{kind}Node")()
        node.SetSingletonTag(tag)
        scene.AddNode(node)


class SliceView:
    """qMRMLSliceWidget and its qMRMLSliceView in one.

    Parameters
    ----------
    name : such as "Red"
    """

    def __init__(self, name: str) -> None:
        application = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
        if self.node is None:
            self.node = self.logic.AddSliceNode(name)
        else:  # the layout has made it, as in Slicer
            self.logic.SetSliceNode(self.node)
        application.GetSliceLogics().AddItem(self.logic)
        self._window = vtk.vtkGenericOpenGLRenderWindow()
        self._window.SetSize(SIZE, SIZE)
        self._renderer = vtk.vtkRenderer()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.EnableRenderOff()
        self._none = vtk.vtkInteractorStyleUser()
        self._interactor.SetInteractorStyle(self._none)
        self._interactor.UpdateSize(SIZE, SIZE)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application)
        for manager in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._managers = factory.InstantiateDisplayableManagers(self._renderer)
        self._managers.SetMRMLDisplayableNode(self.node)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(self.logic)
        self._style.SetDisplayableManagers(self._managers)
        self._style.SetInteractor(self._interactor)
        self.reset()

    def reset(self) -> None:
        self.node.SetOrientation("Axial")
        self.node.SetDimensions(SIZE, SIZE, 1)
        self.node.SetFieldOfView(200, 200, 1)
        self.node.SetSlabReconstructionEnabled(False)
        self.logic.GetSliceCompositeNode().SetLinkedControl(False)
        self.logic.GetSliceCompositeNode().SetHotLinkedControl(False)

    # As PythonQt offers them

    def sliceView(self) -> SliceView:
        return self

    def interactor(self) -> Any:
        return self._interactor

    def mrmlSliceNode(self) -> Any:
        return self.node

    def mrmlSliceCompositeNode(self) -> Any:
        return self.logic.GetSliceCompositeNode()

    def renderWindow(self) -> Any:
        return self._window

    def scheduleRender(self) -> None:
        """Nothing is drawn here."""

    # A mouse

    def click(
        self,
        x: int,
        y: int,
        *,
        ctrl: bool = False,
        ctrl_at_release: bool | None = None,
        shift: bool = False,
        drag_to: tuple[int, int] | None = None,
    ) -> None:
        """A press and a release; Ctrl is held at both, or at the release as said."""

        def at(px: int, py: int, held: bool, *events: str) -> None:
            self._interactor.SetEventInformation(px, py, int(held), int(shift))
            for event in events:
                self._interactor.InvokeEvent(event)

        at(x, y, ctrl, "EnterEvent", "MouseMoveEvent", "LeftButtonPressEvent")
        if drag_to is not None:
            at(*drag_to, ctrl, "MouseMoveEvent")
        released = ctrl if ctrl_at_release is None else ctrl_at_release
        at(*(drag_to or (x, y)), released, "LeftButtonReleaseEvent", "LeaveEvent")

    def drag(self, *places: tuple[int, int], release: bool = True) -> None:
        """A stroke: the button goes down at the first place, the mouse comes by the others, and it goes up at the last.

        Parameters
        ----------
        places : columns and rows of the view
        release : False leaves the button down
        """
        self.hover(*places[0])
        self._interactor.InvokeEvent("LeftButtonPressEvent")
        for x, y in places[1:]:
            self._interactor.SetEventInformation(x, y, 0, 0)
            self._interactor.InvokeEvent("MouseMoveEvent")
        if release:
            self.let_go()

    def let_go(self) -> None:
        """The button goes up where the mouse is, and the mouse out of the view."""
        for event in ("LeftButtonReleaseEvent", "LeaveEvent"):
            self._interactor.InvokeEvent(event)

    def hover(self, x: int, y: int) -> None:
        """The mouse comes, and stays there."""
        self._interactor.SetEventInformation(x, y, 0, 0)
        for event in ("EnterEvent", "MouseMoveEvent"):
            self._interactor.InvokeEvent(event)

    def leave(self) -> None:
        """The mouse goes out of the view."""
        self._interactor.InvokeEvent("LeaveEvent")
