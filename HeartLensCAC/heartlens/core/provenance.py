"""Where a result comes from: who named the calcium, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any


class LabelSource(str, Enum):
    """Who says that a voxel is coronary calcium; it decides what may be claimed. The values are those on disk."""

    RULES = "rules"
    NETWORK = "network"
    READER = "reader"
    FILE = "segmentation"  # labels that were handed over, whoever made them

    def __str__(self) -> str:
        return self.value

    @property
    def is_automatic(self) -> bool:
        """Whether no person has looked yet."""
        return self in (LabelSource.RULES, LabelSource.NETWORK)


@dataclass(frozen=True)
class Provenance:
    """How the lesions of a case came about.

    Parameters
    ----------
    labels
        Who found and named the calcium before any edit; None when a case does not say.
    bundle
        Name and version of the networks.
    checksums
        SHA-256 of the bundle's files, by their names.
    labels_sha256
        Of the file of labels that was handed over.
    device
        "cpu" or "cuda"
    slice_stage
        Whether a slice classifier chose slices; None without networks.
    version
        Of the HeartLens that scored; "" for this one.
    seconds
        Of each stage of the pipeline.
    source
        Paths of the CT; on the disk of a case alone, never in a report.
    scored_at
        When, ISO 8601 with the offset from UTC; "" where a case does not say.
    labels_at_threshold
        Part of the voxels labeled by the file that was handed over which reach the threshold, by artery.
    """

    labels: LabelSource | None = None
    bundle: str | None = None
    checksums: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    labels_sha256: str | None = None
    device: str = "cpu"
    slice_stage: bool | None = None
    version: str = ""
    seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    source: tuple[str, ...] = ()
    scored_at: str = ""
    labels_at_threshold: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", LabelSource(self.labels))

    def to_json(self) -> dict[str, Any]:
        """What a report says of it: everything but paths. What is unknown is left out."""
        document: dict[str, Any] = {"version": self.version} if self.version else {}
        document |= {"labels": None if self.labels is None else self.labels.value, "bundle": self.bundle}
        document |= {"checksums": dict(self.checksums)} if self.checksums else {}
        document |= {} if self.labels_sha256 is None else {"labels_sha256": self.labels_sha256}
        document |= {"labels_at_threshold": dict(self.labels_at_threshold)} if self.labels_at_threshold else {}
        document["device"] = self.device
        document |= {} if self.slice_stage is None else {"slice_stage": self.slice_stage}
        document |= {"scored_at": self.scored_at} if self.scored_at else {}
        return document | ({"seconds": dict(self.seconds)} if self.seconds else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Provenance:
        """Read what `to_json` wrote, with or without paths; what is not there is unknown."""
        seconds = document.get("seconds", {})
        return cls(
            labels=document.get("labels"),
            bundle=document.get("bundle"),
            checksums=dict(document.get("checksums", {})),
            labels_sha256=document.get("labels_sha256"),
            labels_at_threshold=dict(document.get("labels_at_threshold", {})),
            device=document.get("device", "cpu"),
            slice_stage=document.get("slice_stage"),
            version=document.get("version", ""),
            seconds=dict(seconds) if isinstance(seconds, Mapping) else {"all": float(seconds)},
            scored_at=document.get("scored_at", ""),
            source=tuple(document.get("source", ())),
        )
