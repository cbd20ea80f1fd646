"""What the panel remembers with the scene, and what it remembers of the user."""

import json
from dataclasses import replace
from typing import Any

import slicer

from heartlens.core.lesions import Artery
from heartlens.risk.person import RiskInputs

ORGAN = "HeartLens"
"""Group of the user's settings."""


class _Text:
    """A parameter kept as text; a value that is not among `choices` reads as the default."""

    def __init__(self, default: str = "", choices: tuple[str, ...] = ()) -> None:
        self.default, self.choices = default, choices

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, parameters: "Parameters", owner: type) -> str:
        value = parameters.node.GetParameter(self.name)
        return value if value and (not self.choices or value in self.choices) else self.default

    def __set__(self, parameters: "Parameters", value: str) -> None:
        parameters.node.SetParameter(self.name, value)


class Parameters:
    """Typed view of the module's parameter node, which is saved with the scene.

    Parameters
    ----------
    node
        vtkMRMLScriptedModuleNode
    """

    caseFolder = _Text()
    bundle = _Text()
    device = _Text("auto", ("auto", "cpu", "cuda"))
    scheme = _Text("heartlens")
    sex = _Text("", ("M", "F"))
    race = _Text("", ("white", "chinese", "black", "hispanic"))

    def __init__(self, node: Any) -> None:
        self.node = node

    @property
    def volume(self) -> Any:
        """Node of the CT that is read; None when none was chosen."""
        return self.node.GetNodeReference("volume")

    @volume.setter
    def volume(self, volume: Any) -> None:
        self.node.SetNodeReferenceID("volume", volume.GetID() if volume is not None else None)

    @property
    def ageYears(self) -> "int | None":
        """Age in years; None when it is not known."""
        text = self.node.GetParameter("ageYears")
        return int(text) if text.isdecimal() and int(text) > 0 else None

    @ageYears.setter
    def ageYears(self, years: "int | None") -> None:
        self.node.SetParameter("ageYears", str(years or ""))

    @property
    def method(self) -> "dict[str, Any]":
        """What was said of the method, by the command line's names; what is not said is not there."""
        try:
            said = json.loads(self.node.GetParameter("method") or "{}")
        except ValueError:  # written by hand
            return {}
        kinds: dict[str, Any] = dict.fromkeys(("profile", "connectivity", "normalisation"), str)
        kinds |= dict.fromkeys(("kvp-adapted", "isotropic-volume"), bool)
        kinds |= dict.fromkeys(("kvp", "thickness-mm", "slab-mm", "min-area-mm2", "mass-factor"), (int, float))
        pairs = said.items() if isinstance(said, dict) else ()
        return {name: value for name, value in pairs if name in kinds and isinstance(value, kinds[name])}

    @method.setter
    def method(self, said: "dict[str, Any]") -> None:
        self.node.SetParameter("method", json.dumps(said) if said else "")

    @property
    def artery(self) -> Artery:
        """Where clicks and the brush go."""
        name = self.node.GetParameter("artery")
        return Artery[name] if name in Artery.__members__ else Artery.LAD

    @artery.setter
    def artery(self, artery: Artery) -> None:
        self.node.SetParameter("artery", artery.name)

    def person(self, was: RiskInputs) -> RiskInputs:
        """What a case knew of the person, with what the panel says now; it shows whole years, and loses no others."""
        isSameAge = (self.ageYears or 0) == int(was.age_years or 0)
        age = was.age_years if isSameAge else self.ageYears
        return replace(was, scheme=self.scheme, age_years=age, sex=self.sex or None, race=self.race or None)

    def keepPerson(self, inputs: RiskInputs) -> None:
        """Keep what a case knows of the person."""
        self.ageYears = int(inputs.age_years or 0)
        self.sex, self.race, self.scheme = inputs.sex or "", inputs.race or "", inputs.scheme


def userSetting(name: str, default: str = "") -> str:
    """What this user typed last time, on this computer."""
    return str(slicer.app.userSettings().value(f"{ORGAN}/{name}", default) or default)


def keepUserSetting(name: str, value: str) -> None:
    """Keep a setting in Slicer's user settings, beyond this scene."""
    slicer.app.userSettings().setValue(f"{ORGAN}/{name}", value)
