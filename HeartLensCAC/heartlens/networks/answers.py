"""What a manifest promises of a network, held against the graph before its use and against every answer.

A number that is none must never look like a slice that was not asked, and another shape never like another class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import VESSEL, Bundle

FLOAT = "tensor(float)"
"""ONNX Runtime's name for float32."""


@dataclass(frozen=True)
class Promise:
    """Shapes of one network, by its manifest.

    Parameters
    ----------
    path
        Of its file, for messages.
    image
        (channels, rows, columns) of what it takes for a slice.
    answer
        What it gives for a slice: (classes, rows, columns) logits, or () for a probability.
    """

    path: str
    image: tuple[int, int, int]
    answer: tuple[int, ...]

    @classmethod
    def of(cls, bundle: Bundle, role: str, form: str = "onnx") -> Promise:
        """What a bundle promises of the network of a role.

        Raises
        ------
        InputRefused
            "input": the bundle has no such network
        """
        stage = bundle.vessel if role == VESSEL else bundle.slices
        path = bundle.file(role, form).path
        if stage is None:
            raise InputRefused("input", f"{bundle.folder} has no slice stage")
        size = stage.view.size_px
        answer = (len(bundle.vessel.classes), size, size) if role == VESSEL else ()
        return cls(path, (stage.view.channels, size, size), answer)

    def require_graph(self, inputs: Sequence[tuple[str, Any]], outputs: Sequence[tuple[str, Any]]) -> None:
        """Refuse a graph that is not the manifest's, by what it says of itself.

        Parameters
        ----------
        inputs, outputs
            Type and shape of each; a dimension that is no number is open.

        Raises
        ------
        InputRefused
            "unreadable"
        """
        for what, found, promised in (("takes", inputs, self.image), ("gives", outputs, self.answer)):
            fits = len(found) == 1 and found[0][0] == FLOAT and len(found[0][1]) == 1 + len(promised)
            if fits:
                pairs = zip(found[0][1][1:], promised, strict=True)
                fits = all(not isinstance(one, int) or one == other for one, other in pairs)
            if not fits:
                actual = "; ".join(f"{kind} {list(shape)}" for kind, shape in found)[:200]
                raise InputRefused(
                    "unreadable",
                    f"{self.path}: the manifest says that it {what} {FLOAT} {['slices', *promised]}, found {actual}: "
                    "manifest and network do not belong together; export the bundle again",
                )

    def require(self, answer: Any, slices: int) -> NDArray[np.float32]:
        """The answer to so many slices, when it is one.

        Raises
        ------
        InputRefused
            "unreadable"
        """
        expected = (slices, *self.answer)
        if not isinstance(answer, np.ndarray) or answer.dtype != np.float32 or answer.shape != expected:
            actual = f"{answer.dtype} {answer.shape}" if isinstance(answer, np.ndarray) else type(answer).__name__
            raise InputRefused(
                "unreadable",
                f"{self.path}: expected an answer of float32 {expected}, found {actual}; export the bundle again",
            )
        low, high = float(answer.min()), float(answer.max())  # nan where one value is
        is_probability = not self.answer
        if not (np.isfinite(low) and np.isfinite(high)) or (is_probability and not 0 <= low <= high <= 1):
            wanted = "probabilities" if is_probability else "numbers"
            raise InputRefused(
                "unreadable",
                f"{self.path}: expected {wanted}, the network answered {low:g} to {high:g}; its weights are damaged: "
                "export the bundle again",
            )
        return answer
