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
    """Name the bits of the status of a source.

    The column `xp_status` of every output holds them. New bits are added at the end, so that stored values keep their
    meaning.

    Examples
    --------
    >>> xpjax.Status.describe(5)
    'BP_MISSING|BP_BAD'
    >>> xpjax.Status.BP_MISSING.meaning
    'No BP coefficients; quantities that depend on BP are NaN.'
    >>> xpjax.Status.counts(np.array([0, 1, 1]))
    {<Status.BP_MISSING: 1>: 2}
    """

    OK = 0
    BP_MISSING = 1 << 0, "No BP coefficients; quantities that depend on BP are NaN."
    RP_MISSING = 1 << 1, "No RP coefficients; quantities that depend on RP are NaN."
    BP_BAD = 1 << 2, "A BP coefficient is not finite or could not be read; BP is not used."
    RP_BAD = 1 << 3, "An RP coefficient is not finite or could not be read; RP is not used."
    BP_NO_ERROR = 1 << 4, "No usable errors or correlations of the BP coefficients; errors that depend on BP are NaN."
    RP_NO_ERROR = 1 << 5, "No usable errors or correlations of the RP coefficients; errors that depend on RP are NaN."
    ID_MISSING = 1 << 6, "No source_id; it is given as 0."
    DUPLICATE = 1 << 7, "An earlier row of the same input has the same source_id (and transit_id); both rows are kept."
    NONPOSITIVE_FLUX = 1 << 8, "The flux in a requested band is zero or negative; the magnitude is NaN."
    BAND_MISSING = 1 << 9, "A requested band or sample depends on a missing or bad photometer (BP or RP) and is NaN."
    COLOR_EXTRAPOLATED = 1 << 10, "The color is outside the range of a color equation, which is extrapolated linearly."
    NO_ERROR_CORRECTION = 1 << 11, "No synthetic G magnitude for the correction of errors; the errors are uncorrected."
    CELL_REPAIRED = 1 << 12, "An invalid entry of the input, other than a coefficient, was treated as missing."
    NOT_CORRECTED = 1 << 13, "A requested correction was not applied; spectrum and magnitudes are uncorrected."
    FEATURE_MISSING = 1 << 14, "A magnitude, color or E(B-V) required by the correction is missing."
    OUTSIDE_TRAINING = 1 << 15, "The source, or one of its features, is outside the training range of the correction."
    OUTSIDE_LIMITS = 1 << 16, "Teff, [M/H] or A_V is outside the limits within which the correction is applied."
    CORRECTION_LARGE = 1 << 17, "The linear correction of a requested band exceeds 0.15 mag; at most 0.35 is applied."
    TRANSIT_MISSING = 1 << 18, "No transit_id of an epoch spectrum; it is given as 0."
    TIME_MISSING = 1 << 19, "No time of an epoch spectrum; it is NaN, and in no light curve."


class FitStatus(Bits):
    """Name the bits of the status of a fit of stellar labels; OK is a fit that converged inside the grid.

    Examples
    --------
    >>> xpjax.stellar.FitStatus.describe(9)
    'EDGE|NO_CONVERGENCE'
    >>> xpjax.stellar.FitStatus(1).meaning
    'At least one label is at the edge of the grid.'
    """

    OK = 0
    EDGE = 1 << 0, "At least one label is at the edge of the grid."
    HOLE = 1 << 1, "The fit leads into a hole of the grid, where nodes have no spectrum."
    BAD_INPUT = 1 << 2, "Flux, errors, E(B-V) or covariance are invalid; the labels are NaN."
    NO_CONVERGENCE = 1 << 3, "The fit did not converge; chi2 would still decrease."
