"""The journey of one CT, from files to a scored `Case`, on one page. Read this first.

read -> heart -> candidate calcium -> slices -> arteries -> score -> risk
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heartlens import __version__
from heartlens.anatomy.extent import require_possible_extent
from heartlens.anatomy.quality import acquisition_cautions, content_findings
from heartlens.anatomy.sharpness import softened
from heartlens.calcium import carry_lesions, extract_lesions, find_lesions, judge_by_rules, with_lost
from heartlens.calcium.sites import doubted_by_place, with_sites
from heartlens.case.case import Case
from heartlens.case.result import Result
from heartlens.case.signature import now
from heartlens.core.ct import CTVolume
from heartlens.core.disk.packed import VOLUME_ENDINGS
from heartlens.core.disk.reading import file_sha256
from heartlens.core.errors import OVERRIDABLE, InputRefused, WarningRecord, refuse_or_warn
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.core.slabs import average_slabs, slab_labels, slices_per_slab
from heartlens.io.label_proof import label_cautions, shares_at_threshold
from heartlens.io.volumes import origin_of_labels, read_labels, read_volume
from heartlens.risk.doubts import doubts
from heartlens.risk.person import RiskInputs

if TYPE_CHECKING:
    import pydicom

    from heartlens.anatomy import HeartRegion
    from heartlens.anatomy.sharpness import Softened
    from heartlens.dicom.stacks.series import Series
    from heartlens.networks.bundle import Bundle

Progress = Callable[[str, float], None]
"""Called with the stage's name and the fraction of the whole that is done, 0 to 1."""


@dataclass(frozen=True)
class Request:
    """What the user asked for; the names are those of the command line.

    Parameters
    ----------
    allow
        Refusal codes that become warnings.
    series_uid
        Which series to score when there are several.
    segmentation
        Labels to score instead of finding calcium.
    bundle
        Networks: an installed name or a folder; "none" is the rules; None the installed default, or the rules when none
        is installed.
    device
        Of the networks: "auto", "cpu" or "cuda"
    slice_stage
        Let the bundle's slice classifier choose slices; evaluation switches it off to see what it is worth.
    protocol
        How calcium is scored.
    kvp
        Tube voltage, kV, where the file does not say it.
    kvp_adapted
        Use the thresholds published for the scan's tube voltage.
    thickness_mm
        Slice thickness, where the file does not say it.
    unverified_count
        Nobody could say whether these are all images of the series; the result says so.
    risk
        What the user says about the person.
    """

    allow: frozenset[str] = frozenset()
    series_uid: str | None = None
    segmentation: Path | None = None
    bundle: str | None = None
    device: str = "auto"
    slice_stage: bool = True
    protocol: ScoringProtocol = field(default_factory=ScoringProtocol)
    kvp: float | None = None
    kvp_adapted: bool = False
    thickness_mm: float | None = None
    unverified_count: bool = False
    risk: RiskInputs = field(default_factory=RiskInputs)


def score_series(
    source: Path | Sequence[Path], request: Request | None = None, *, progress: Progress | None = None
) -> Result:
    """Score one CT.

    Parameters
    ----------
    source
        A DICOM folder (searched recursively), a DICOM file, a list of DICOM files, or a volume file.
    request
        What the user asked for; None is every default.
    progress
        Hears the stage's name and which part of it is done.

    Raises
    ------
    InputRefused
        The input cannot be scored honestly; nothing was written.
    """
    request = request or Request()
    on_progress = progress or (lambda stage, fraction: None)
    clock = _Clock()

    on_progress("reading", 0.0)
    ct, series, cautions = read_ct(source, request, on_progress)
    if series is not None and request.segmentation is not None:
        cautions += origin_of_labels(request.segmentation, ct, series.patient_keys)
    protocol = _protocol_for(ct, request)
    cautions += acquisition_cautions(ct, protocol, is_count_unverified=request.unverified_count)
    clock.lap("read")

    on_progress("finding the heart", 0.2)
    scored_ct = ct if protocol.slab_mm is None else _slabs(ct, protocol, cautions)
    soft = softened(scored_ct)
    region = _heart(ct, soft, request, cautions)
    clock.lap("anatomy")

    on_progress("finding calcium", 0.3)
    calcium = find_calcium(ct, soft, region, protocol, request, on_progress)
    cautions += calcium.cautions
    clock.lap("calcium")

    on_progress("scoring", 0.9)
    lesions = with_sites(scored_ct, region, calcium.lesions)
    if request.segmentation is None:
        cautions += doubts(scored_ct, region, lesions)
        lesions = doubted_by_place(lesions)
    case = Case.of(
        ct,
        lesions,
        protocol,
        slice_probability=calcium.slice_probability,
        risk_inputs=_risk_inputs(ct, request),
        cautions=tuple(dict.fromkeys(cautions)),
        provenance=replace(calcium.provenance, version=__version__, scored_at=now(), source=_source_paths(source)),
    )
    clock.lap("score")
    sources = _source_headers(series, ct)
    on_progress("scored", 1.0)
    return Result(case.with_seconds(clock.seconds), sources)


def read_ct(
    source: Path | Sequence[Path], request: Request, on_progress: Progress = lambda stage, fraction: None
) -> tuple[CTVolume, Series | None, list[WarningRecord]]:
    """Read the CT that the user means: a volume file, or the best series of a DICOM folder."""
    read_options: dict[str, Any] = {
        "allow": request.allow, "kvp": request.kvp, "slice_thickness_mm": request.thickness_mm,
    }  # fmt: skip
    if isinstance(source, Path) and source.name.lower().endswith(VOLUME_ENDINGS):
        ct, cautions = read_volume(source, **read_options)
        _require_extent(ct, request)
        return ct, None, list(cautions)
    from heartlens.dicom.read import read_series
    from heartlens.dicom.series import choose_series, find_series, rank_series

    all_series = find_series(source, on_progress=lambda done: on_progress("reading", 0.08 * done))
    series = choose_series(rank_series(all_series), request.series_uid, request.allow)
    ct, cautions = read_series(
        series, **read_options, on_progress=lambda done: on_progress("reading", 0.08 + 0.12 * done)
    )
    _require_extent(ct, request)
    return ct, series, list(cautions)


def _require_extent(ct: CTVolume, request: Request) -> None:
    require_possible_extent(ct, is_axial="not-axial" not in request.allow, is_part=request.segmentation is not None)


def _protocol_for(ct: CTVolume, request: Request) -> ScoringProtocol:
    protocol = request.protocol
    if request.kvp_adapted:
        if ct.header.kvp is None:
            raise InputRefused(
                "input", "--kvp-adapted needs the tube voltage, which the file does not say; give --kvp N"
            )
        try:
            protocol = protocol.adapted_to(ct.header.kvp)
        except ValueError as error:
            raise InputRefused("input", f"--kvp-adapted: {error}") from error
    if protocol.normalisation == "thickness" and ct.header.slice_thickness_mm is None:
        raise InputRefused("input", "--normalisation thickness needs the slice thickness; give --thickness-mm X")
    return protocol


def _slabs(ct: CTVolume, protocol: ScoringProtocol, cautions: list[WarningRecord]) -> CTVolume:
    assert protocol.slab_mm is not None
    try:
        count = slices_per_slab(ct, protocol.slab_mm)
    except ValueError as error:
        raise InputRefused("input", f"--slab-mm: {error}") from error
    left_out = ct.shape[0] % count
    text = f"{count} slices of {ct.increment_mm:g} mm averaged to one before scoring"
    if left_out:
        text += f"; the {left_out} uppermost slices make no whole slab and were not scored"
    cautions.append(WarningRecord("slabs", text))
    return average_slabs(ct, count)


def _heart(source_ct: CTVolume, soft: Softened, request: Request, cautions: list[WarningRecord]) -> HeartRegion:
    """Where the heart is; with given labels, content findings only warn and a missing heart is no matter."""
    from heartlens.anatomy import heart_region

    region = heart_region(soft.ct)
    for code, text in content_findings(soft.ct, region, scored_ct=soft.original, source_ct=source_ct):
        if code not in OVERRIDABLE or request.segmentation:
            cautions.append(WarningRecord(code, text))
        else:
            cautions.append(refuse_or_warn(code, text, request.allow))
    return region


@dataclass(frozen=True, eq=False)
class CalciumResult:
    """Lesions on the scored grid, and how they came about."""

    lesions: LesionMap
    provenance: Provenance
    cautions: tuple[WarningRecord, ...] = ()
    slice_probability: NDArray[np.float64] | None = None


def find_calcium(
    ct: CTVolume,
    soft: Softened,
    region: HeartRegion,
    protocol: ScoringProtocol,
    request: Request,
    on_progress: Progress,
) -> CalciumResult:
    """Calcium by given labels, by a bundle's networks or by rules.

    Parameters
    ----------
    ct
        As read.
    soft
        The scan as scored, `ct` or its slabs, and its copy in which calcium is looked for.
    region
        Of that copy.
    protocol
        How calcium is scored.
    request
        Says how to find it.
    on_progress
        Hears the stage's name and which part of it is done.

    Raises
    ------
    InputRefused
        Labels or a bundle that cannot be used.
    """
    scored_ct = soft.original
    if request.segmentation is not None:
        codes = slab_labels(read_labels(request.segmentation, ct), ct.shape[0] // scored_ct.shape[0])
        flat = np.flatnonzero(codes)
        shares = shares_at_threshold(scored_ct, codes, protocol.threshold_hu)
        lesions = extract_lesions(scored_ct, flat, codes.reshape(-1)[flat], protocol)
        counted = any(lesions.notes[n].counts for n, artery in lesions.arteries.items() if artery is not Artery.OTHER)
        cautions = label_cautions(shares, protocol.threshold_hu, request.segmentation, counted=counted)
        checksum = file_sha256(request.segmentation)
        provenance = Provenance(LabelSource.FILE, labels_sha256=checksum, labels_at_threshold=shares)
        return CalciumResult(lesions, provenance, tuple(cautions))
    if soft.sigma_mm:
        found = _in_copy_and_scan(soft, region, protocol, request, on_progress)
    else:
        found = _by_program(scored_ct, region, protocol, request, on_progress)
    if found.slice_probability is None:
        return found
    from heartlens.networks.inference import discordance_cautions

    contradictions = discordance_cautions(scored_ct, found.slice_probability, found.lesions)
    return replace(found, cautions=(*found.cautions, *contradictions))


def _in_copy_and_scan(
    soft: Softened, region: HeartRegion, protocol: ScoringProtocol, request: Request, on_progress: Progress
) -> CalciumResult:
    """What is found in the softened copy, and what stands in the scan itself and was lost in the copy."""
    found = _by_program(soft.ct, region, protocol, request, _half_of(on_progress, 0))
    lesions = carry_lesions(found.lesions, soft.original, protocol)
    if region.noise_hu is not None:
        in_scan = _by_program(soft.original, region, protocol, request, _half_of(on_progress, 1)).lesions
        lesions = with_lost(lesions, in_scan, soft, protocol, blood_hu=region.core_hu, noise_hu=region.noise_hu)
    sharp = (
        "a sharp reconstruction kernel, by its noise: calcium was looked for in a copy softened by "
        f"{soft.sigma_mm:.1f} mm, and in the scan itself for what the copy lost; it is scored as it stands in the "
        "scan; a sharp kernel raises the score"
    )
    return replace(found, lesions=lesions, cautions=(*found.cautions, WarningRecord("softened", sharp)))


def _half_of(on_progress: Progress, half: int) -> Progress:
    """Of the same journey made twice, 0.3 to 0.9."""
    return lambda stage, fraction: on_progress(stage, 0.3 + 0.3 * half + (fraction - 0.3) / 2)


def _by_program(
    ct: CTVolume, region: HeartRegion, protocol: ScoringProtocol, request: Request, on_progress: Progress
) -> CalciumResult:
    """By the bundle that is asked for, or by rules."""
    from heartlens.networks.bundle import RULES, find_bundle, load_bundle

    folder = find_bundle(request.bundle)
    if folder is not None:
        return _by_networks(ct, region, protocol, load_bundle(folder), request, on_progress)
    found_by = "calcium was found and named by rules, not by a reader or a trained network: check every lesion"
    caution = WarningRecord("rules", found_by)
    if request.bundle != RULES:
        caution = WarningRecord("no-bundle", f"no network bundle is installed; {found_by}")
    return CalciumResult(find_lesions(ct, region, protocol)[0], Provenance(LabelSource.RULES), (caution,))


def _by_networks(
    ct: CTVolume,
    region: HeartRegion,
    protocol: ScoringProtocol,
    bundle: Bundle,
    request: Request,
    on_progress: Progress,
) -> CalciumResult:
    """The slice classifier chooses slices among those with candidates; the vessel network names islands on them."""
    from heartlens.networks.inference import Networks, classify_slices, network_caution, slices_with_candidates
    from heartlens.networks.islands import segment_vessels

    chosen = slices_with_candidates(ct, region, protocol)
    networks = Networks(bundle, request.device, slices=int(chosen.sum()))
    cautions = [network_caution(bundle), *bundle.domain.cautions(ct)]
    probability = None
    if bundle.slices is not None and networks.slices is not None and request.slice_stage:
        probability = classify_slices(
            ct, region, networks.slices, bundle.slices.view, chosen, batch=networks.batch,
            on_progress=lambda done: on_progress("choosing slices", 0.3 + 0.3 * done),
        )  # fmt: skip
        chosen = chosen & (np.nan_to_num(probability, nan=-1.0) >= bundle.slices.cut_off)
    lesions = segment_vessels(
        ct, region, networks.vessel, bundle.vessel, protocol, chosen_slices=chosen, batch=networks.batch,
        rules=judge_by_rules(ct, region, protocol) if chosen.any() else None,
        on_progress=lambda done: on_progress("naming arteries", 0.6 + 0.3 * done),
    )  # fmt: skip
    provenance = Provenance(
        LabelSource.NETWORK,
        bundle=bundle.title,
        checksums=bundle.checksums(),
        device=networks.device,
        slice_stage=probability is not None,
    )
    return CalciumResult(lesions, provenance, (*cautions, *networks.cautions), probability)


def _risk_inputs(ct: CTVolume, request: Request) -> RiskInputs:
    """Age and sex from the header where the user said nothing. Race is never taken from a header."""
    given = request.risk
    return replace(
        given,
        age_years=ct.header.patient_age_years if given.age_years is None else given.age_years,
        sex=ct.header.patient_sex if given.sex is None else given.sex,
    )


def _source_headers(series: Series | None, ct: CTVolume) -> Sequence[pydicom.Dataset]:
    if series is None:
        return ()
    from heartlens.dicom.read import source_datasets

    return source_datasets(series, ct)


def _source_paths(source: Path | Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(p.resolve()) for p in ([source] if isinstance(source, Path) else source))


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 4)
        self._last = now
