"""Recipes: dataclass <- TOML <- key=value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from heartlens.core.errors import InputRefused
from training.engine.config import as_dict, differences, fingerprint, from_dict, load_recipe, runtime_only, write_recipe


@dataclass(frozen=True)
class Loss:
    name: Literal["ce", "tversky"] = "ce"
    alpha: float = 0.3


@dataclass(frozen=True)
class Recipe:
    steps: int = 10
    rate: float = 1e-4
    flag: bool = False
    widths: tuple[int, ...] = (16, 32)
    window: tuple[float, float] = (-200.0, 1000.0)
    init: Path | None = None
    loss: Loss = field(default_factory=Loss)
    every: int = runtime_only(100)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('steps = 20\nrate = 1\n[loss]\nname = "tversky"\n')
    recipe = load_recipe(Recipe, file, ["steps=30", "loss.alpha=0.9", "widths=[8]", "init=weights.pt"])
    assert recipe == Recipe(30, 1.0, widths=(8,), init=Path("weights.pt"), loss=Loss("tversky", 0.9))
    assert isinstance(recipe.rate, float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["step=5"], "unknown key step; did you mean steps?"),
        (["loss.alhpa=0.5"], "unknown key loss.alhpa; did you mean loss.alpha?"),
        (["steps=2.5"], "steps: expected int, found 2.5"),
        (["flag=1"], "flag: expected bool, found 1"),
        (["rate=fast"], "rate: expected float, found 'fast'"),
        (["loss.name=dice"], "loss.name: expected one of ce, tversky, found 'dice'"),
        (["loss=ce"], "loss: expected a table, found 'ce'"),
        (["widths=[1, true]"], "widths[1]: expected int, found True"),
        (["window=[1]"], "window: expected a list of 2, found [1]"),
        (["steps"], "expected key=value, found 'steps'"),
        (["steps=0"], "steps must be at least 1, got 0"),
        (["steps.more=1", "steps=2", "steps.more=1"], "steps is a value, not a table"),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused(changes, words):
    with pytest.raises(InputRefused) as refusal:
        load_recipe(Recipe, None, changes)
    assert refusal.value.code == "input"
    assert words in refusal.value.text


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(InputRefused, match=r"cannot read .*absent.toml"):
        load_recipe(Recipe, tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = \n")
    with pytest.raises(InputRefused, match=r"broken.toml: expected a TOML recipe"):
        load_recipe(Recipe, broken)


def test_the_resolved_recipe_reads_back_equal(tmp_path):
    recipe = Recipe(7, 0.1, True, (), (-1e-30, 3e20), Path('odd "name".pt'), Loss("tversky", 1 / 3), 5)
    write_recipe(recipe, tmp_path / "config.toml")
    assert load_recipe(Recipe, tmp_path / "config.toml") == recipe
    assert from_dict(Recipe, as_dict(recipe), "checkpoint") == recipe
    write_recipe(Recipe(), tmp_path / "plain.toml")
    assert load_recipe(Recipe, tmp_path / "plain.toml", ["steps=7"]) == Recipe(7)


def test_the_fingerprint_changes_with_every_setting_but_the_free_ones():
    plain = fingerprint(Recipe())
    assert fingerprint(Recipe(every=1)) == plain
    other = fingerprint(Recipe(rate=2e-4, loss=Loss(alpha=0.4)))
    assert other["sha256"] != plain["sha256"]
    assert differences(plain["recipe"], other["recipe"]) == ["loss.alpha: 0.3, 0.4", "rate: 0.0001, 0.0002"]
