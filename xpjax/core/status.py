"""Status bits of sources and of label fits; append-only, so that stored values keep their meaning."""

from __future__ import annotations

import enum
from typing import Self

import numpy as np


class Bits(enum.IntFlag):
    """Flags: a number and a sentence each; append-only, so that stored values keep their meaning."""

    _sentence: str

    def __new__(cls, value: int, sentence: str = "") -> Self:
        """A flag: its number, and what it means."""
        bit = int.__new__(cls, value)
        bit._value_ = value
        bit._sentence = sentence
        return bit

    @property
    def meaning(self) -> str:
        """What the bits that are set say, a sentence each."""
        return " ".join(bit._sentence for bit in type(self) if bit & self)

    @classmethod
    def describe(cls, status: int) -> str:
        """The names of the bits that are set, joined by `|`; `OK` for none."""
        return "|".join(str(bit.name) for bit in cls if bit and bit & status) or "OK"

    @classmethod
    def counts(cls, status: np.ndarray) -> dict[Self, int]:
        """How many of the numbers (n,) have each flag, for those that some have."""
        status = np.asarray(status).astype(np.uint32)
        counts = {bit: int(np.count_nonzero(status & np.uint32(bit))) for bit in cls}
        return {bit: count for bit, count in counts.items() if count}

    @classmethod
    def legend(cls) -> str:
        """What the numbers stand for, as the description of a column."""
        return "Bits: " + ", ".join(f"{int(bit)} {bit.name}" for bit in cls if bit)


class Status(Bits):
    """What is to be known of one source; `Status(5).meaning` says it in words."""

    OK = 0
    BP_MISSING = 1 << 0, "No BP coefficients: what needs BP is NaN."
    RP_MISSING = 1 << 1, "No RP coefficients: what needs RP is NaN."
    BP_BAD = 1 << 2, "A BP coefficient is not finite, or its cell could not be read: BP is not used."
    RP_BAD = 1 << 3, "An RP coefficient is not finite, or its cell could not be read: RP is not used."
    BP_NO_ERROR = 1 << 4, "BP has coefficients, but no usable errors or correlations: errors that need BP are NaN."
    RP_NO_ERROR = 1 << 5, "RP has coefficients, but no usable errors or correlations: errors that need RP are NaN."
    ID_MISSING = 1 << 6, "The row has no source_id; it is written as 0."
    DUPLICATE = 1 << 7, "An earlier row of the same input has the same source_id; both are kept."
    NONPOSITIVE_FLUX = 1 << 8, "The flux of a requested band is zero or negative: its magnitude is NaN."
    BAND_MISSING = 1 << 9, "A requested band or sample needs an XP that is missing or bad: it is NaN."
    COLOR_EXTRAPOLATED = 1 << 10, "A color equation was used outside its color range, where it is linear."
    NO_ERROR_CORRECTION = 1 << 11, "No synthetic G, which error correction needs: the errors are uncorrected."
    CELL_REPAIRED = 1 << 12, "An odd cell, not of a coefficient, was read as missing."
    NOT_CORRECTED = 1 << 13, "A correction was not applied: spectrum and magnitudes are as without it."
    FEATURE_MISSING = 1 << 14, "A magnitude, color or E(B-V) that the correction needs is missing."
    OUTSIDE_TRAINING = (
        1 << 15,
        "The star, or a feature of it, is outside the range that the correction was made for.",
    )
    OUTSIDE_LIMITS = 1 << 16, "Teff, [M/H] or A_V is outside the limits within which the correction is applied."
    CORRECTION_LARGE = 1 << 17, "The linear correction changes a requested band by more than 0.15 mag; by 0.35 at most."


class FitStatus(Bits):
    """How a fit of stellar labels ended; OK: converged inside the grid."""

    OK = 0
    EDGE = 1 << 0, "At least one label ended at the edge of the grid and is held there."
    HOLE = 1 << 1, "The fit wants to go into a hole of the grid."
    BAD_INPUT = 1 << 2, "Flux, errors, E(B-V) or covariance of the star cannot be used: its results are NaN."
    NO_CONVERGENCE = 1 << 3, "A further step would still lower chi2."
