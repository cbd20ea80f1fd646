"""Which voxels are coronary calcium: threshold, islands, lesions; and the rules for when there is no network."""

from heartlens.calcium.arteries_by_rules import name_pieces_by_rules
from heartlens.calcium.carrying import carry_lesions, with_lost
from heartlens.calcium.exclusion import RULES, Removed, apply_rules
from heartlens.calcium.extraction import TOO_SMALL, Candidates, candidate_mask, extract_lesions
from heartlens.calcium.pieces import Pieces, find_pieces
from heartlens.calcium.rules import RulesOpinion, find_lesions, judge_by_rules

__all__ = [
    "RULES",
    "TOO_SMALL",
    "Candidates",
    "Pieces",
    "Removed",
    "RulesOpinion",
    "apply_rules",
    "candidate_mask",
    "carry_lesions",
    "extract_lesions",
    "find_lesions",
    "find_pieces",
    "judge_by_rules",
    "name_pieces_by_rules",
    "with_lost",
]
