"""Words for what scanners give of one place: sequences, contrasts and modalities."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"t[12](c|ce|gd|km|n|w|f|s|post|star)?|(t2)?flair|st?ir|ir|pdw?|dwi|adc|hbv|b(0|50|[1-9]\d{2,3})|swi|dti|fa|md"
    r"|dce|dsc|asl|cbf|cbv|mtt|tmax|ttp|lge|de|c0|cine|b?ssfp|(in|out|opp|opposed)(phase)?|ip|op|fat|water"
    r"|(cb|nc|ne|ce)?cta?|mra?|mri|pe?t|suv|fdg|spect|bmode|doppler|elasto(graphy)?"
)


def sequences_in(text: str) -> frozenset[str]:
    """The words of a name that are sequences or modalities, in lower case."""
    return frozenset(filter(_SEQUENCE.fullmatch, re.findall(r"[a-z0-9]+", text.lower())))
