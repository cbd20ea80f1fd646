"""What to know before trusting a score: how the scan was made and what its voxels show.

Every text says what the finding does to the score. Sections 1.4, 1.5 and 8.1 of the specification; docs/method.md.
"""

from __future__ import annotations

from heartlens.anatomy import HeartRegion, find_metal
from heartlens.anatomy.hu_scale import scale_findings
from heartlens.anatomy.metal import find_clips
from heartlens.anatomy.orientation import orientation_finding
from heartlens.anatomy.region import noise_in_blood_hu
from heartlens.core.ct import CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.protocol import EDGES_BY_KVP_HU, ScoringProtocol
from heartlens.core.reconstruction_kernel import kernel_class

USUAL_MM = (2.5, 3.0)
"""Slice thickness and increment that Agatston scores were validated with."""

TOLERANCE_MM = 0.05

CONTRAST_BLOOD_HU = 90.0
"""Blood without contrast medium measures 30 to 60 HU; venous and arterial phases measure 120 to 450."""

CONTRAST_CORE_HU = 75.0
"""The heart measures more than this at its most frequent HU when its blood is enhanced, 20 to 60 otherwise. A circle
that was taken for the aorta may hold bone or streaks; the heart as a whole does not."""

PLAUSIBLE_BLOOD_HU = (-20.0, 600.0)

HIGH_NOISE_HU = 30.0
"""Standard deviation in blood: 130 HU is then three deviations above it, and noise alone makes islands."""


def acquisition_cautions(
    ct: CTVolume, protocol: ScoringProtocol, *, is_count_unverified: bool = False
) -> list[WarningRecord]:
    """What header, geometry and who brought the images say about how far the score can be compared.

    Parameters
    ----------
    ct
        As read.
    protocol
        How it is scored.
    is_count_unverified
        Nobody could say whether these are all images of the series.
    """
    count = _count(ct) if is_count_unverified else []
    return [*count, *_voltage(ct, protocol), *_slices(ct, protocol), *_kernel(ct), *_gating(ct)]


def _count(ct: CTVolume) -> list[WarningRecord]:
    text = (
        f"nobody confirmed that all images of the series are here: {ct.shape[0]} slices were scored, and calcium on a "
        "missing one is not in the score; compare their number with the archive's"
    )
    return [WarningRecord("image-count", text)]


def _voltage(ct: CTVolume, protocol: ScoringProtocol) -> list[WarningRecord]:
    kvp = ct.header.kvp
    if kvp is None:
        text = "tube voltage unknown: thresholds are those of 120 kVp; give --kvp N when you know it"
        return [WarningRecord("kvp", text)]
    if abs(kvp - 120) <= 1:
        return []
    direction = "more" if kvp < 120 else "less"
    try:
        protocol.adapted_to(kvp)
        way_out = f"--kvp-adapted uses the thresholds published for {kvp:g} kVp"
    except ValueError:
        way_out = "no thresholds are published for it"
    if protocol.edges_hu == EDGES_BY_KVP_HU[120]:
        text = (
            f"{kvp:g} kVp scored with the 120 kVp thresholds: calcium is {'brighter' if kvp < 120 else 'darker'}, "
            f"so the score is {direction} than at 120 kVp; {way_out}"
        )
    else:
        text = (
            f"{kvp:g} kVp scored with weights from {', '.join(f'{edge:g}' for edge in protocol.edges_hu)} HU; "
            "adapted thresholds move some patients to another category"
        )
    return [WarningRecord("kvp", text)]


def _slices(ct: CTVolume, protocol: ScoringProtocol) -> list[WarningRecord]:
    cautions = []
    increment, thickness = ct.increment_mm, ct.header.slice_thickness_mm
    if not USUAL_MM[0] - TOLERANCE_MM <= increment <= USUAL_MM[1] + TOLERANCE_MM:
        text = f"slices every {increment:g} mm (usual: 2.5 to 3 mm): "
        if protocol.normalisation == "increment":
            text += f"each counts {increment / 3:.3g} times, which makes the score comparable only in the mean"
        else:
            text += "not made comparable to 3 mm slices by the increment, as the protocol asks"
        cautions.append(WarningRecord("increment", text))
    if thickness is None:
        text = "slice thickness unknown: overlap, gaps and thin slices cannot be seen; give --thickness-mm X"
        return [*cautions, WarningRecord("unknown-thickness", text)]
    if not USUAL_MM[0] - TOLERANCE_MM <= thickness <= USUAL_MM[1] + TOLERANCE_MM:
        effect = (
            "thin slices raise the score (3 mm to 1 mm: about +30 % Agatston)"
            if thickness < USUAL_MM[0]
            else "thick slices dilute small plaques below the threshold, so the score can be too low and a 0 uncertain"
        )
        cautions.append(WarningRecord("thickness", f"slices {thickness:g} mm thick (usual: 2.5 to 3 mm): {effect}"))
    if thickness < 2 - 1e-6:
        text = f"{thickness:g} mm slices are noisy at 130 HU; --slab-mm 3 averages them before scoring"
        cautions.append(WarningRecord("thin-slices", text))
    if increment < 0.9 * thickness:
        text = (
            f"slices overlap: {thickness:g} mm thick every {increment:g} mm; "
            "plaque is seen more than once and is counted by the increment, not by the thickness"
        )
        cautions.append(WarningRecord("overlap", text))
    if increment > 1.2 * thickness:
        text = (
            f"gaps of {increment - thickness:g} mm between slices of {thickness:g} mm: what lies in them is "
            "extrapolated from its neighbors; the risk category is withheld"
        )
        cautions.append(WarningRecord("extrapolated-gaps", text))
    return cautions


def _kernel(ct: CTVolume) -> list[WarningRecord]:
    kernel = ct.header.kernel
    if not kernel:
        text = "convolution kernel unknown: a sharp kernel would raise peaks and noise, and the score with them"
        return [WarningRecord("unknown-kernel", text)]
    if kernel_class(kernel) == "sharp":
        text = f"sharp kernel {kernel}: raises peaks and noise, so the score is too high; score a soft-tissue series"
        return [WarningRecord("sharp-kernel", text)]
    return []


def _gating(ct: CTVolume) -> list[WarningRecord]:
    if ct.header.is_gated:
        return []
    state = "not ECG-gated" if ct.header.is_gated is False else "ECG gating unknown, reported as not gated"
    text = (
        f"{state}: an estimated Agatston score; motion blurs plaque, 38 % of patients change category, mostly downward"
    )
    return [WarningRecord("non-gated", text)]


def content_findings(
    ct: CTVolume, region: HeartRegion, *, scored_ct: CTVolume | None = None, source_ct: CTVolume | None = None
) -> list[tuple[str, str]]:
    """What the voxels show, as (code, text).

    Parameters
    ----------
    ct
        In which the heart was found.
    region
        Of it.
    scored_ct
        What is scored, where `ct` is a softened copy of it.
    source_ct
        The scan as it was read, where slabs of it are scored.

    Returns
    -------
    list[tuple[str, str]]
        "no-hu", "clipped", "orientation" and "contrast" are refusals unless labels are given; the others are warnings.
    """
    scored_ct = scored_ct or ct
    findings = scale_findings(source_ct or scored_ct, region.grid)
    if region.blood_hu is not None and "no-hu" not in dict(findings):
        findings += _implausible_blood(region.blood_hu)
    turned = orientation_finding(region)
    if turned:
        findings.append(("orientation", turned))
    if not region.in_view:
        text = "no heart found between two lungs: expected a chest or a heart-cropped CT"
        return [*findings, ("no-heart", text)]
    blood, noise = region.blood_hu, noise_in_blood_hu(scored_ct, region)
    if blood is not None and blood > CONTRAST_BLOOD_HU and region.core_hu > CONTRAST_CORE_HU:
        text = (
            f"blood pool measures {blood:.0f} HU, expected 30 to 60 without contrast medium: enhanced blood is scored "
            "as calcium; use the non-contrast series"
        )
        findings.append(("contrast", text))
    if noise is not None and noise > HIGH_NOISE_HU:
        text = (
            f"noise of {noise:.0f} HU in blood (at most {HIGH_NOISE_HU:g} wanted): specks of noise pass 130 HU and "
            "peaks are raised, so small scores are uncertain"
        )
        findings.append(("high-noise", text))
    for code, end, cut in (("heart-cut-top", "top", region.cut_top), ("heart-cut", "bottom", region.cut_bottom)):
        if cut:
            findings.append((code, f"the scan ends inside the heart at its {end}: calcium beyond is not counted"))
    slices = find_metal(ct, region)[:, 0]
    clips = find_clips(scored_ct, region)
    if clips.size and not slices.size:
        levels = clips // (ct.shape[1] * ct.shape[2])
        text = (
            f"small dense islands alike on slices {levels.min() + 1} to {levels.max() + 1}, as clips, graft markers or "
            "struts make them: they may be counted as plaque; ask for a bypass or a stent"
        )
        findings.append(("metal", text))
    if slices.size:
        text = (
            f"metal near the heart on slices {slices.min() + 1} to {slices.max() + 1}: streaks imitate plaque; "
            "rules count nothing within 25 mm of it, networks may: look there first"
        )
        findings.append(("metal", text))
    return findings


def _implausible_blood(blood_hu: float) -> list[tuple[str, str]]:
    if PLAUSIBLE_BLOOD_HU[0] <= blood_hu <= PLAUSIBLE_BLOOD_HU[1]:
        return []
    text = f"blood pool measures {blood_hu:.0f} HU, expected 30 to 60: values are not HU"
    return [("no-hu", f"{text}; read the original DICOM series")]
