"""Terms of the reference: what the stars' prior magnitudes themselves are wrong by.

XP's magnitudes x have errors that stars share: with the place on the sky, or with their spectra. A term that describes
them, G a, is one of the reference (`Term.of_reference`). With true magnitudes M and those on XP's scale M',

    M' = M + G a,      x = M' + noise,      M = m + sum of other terms + noise

so that in terms of M' priors stay what they are, and the rows get columns like those of any other term:

    M' = m + sum of other terms + G a + noise

The normal equations are solved for M' and a. What is given back is on the true scale: calibrated magnitudes have the
other terms alone, and stars M = M' - G a, with dM'/dp = D^-1 B and the sensitivity of M to the columns

    dM/dp = D^-1 B - G        and      cov(M) = D^-1 + (D^-1 B - G) cov(p) (D^-1 B - G)'

Residuals are the same on both scales. A star has one G in each band, the same in all its rows. The values a have
priors: what data cannot tell from the other terms, as the mean of a map from the zero-points, stays within these, and
is part of the errors of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.survey.joint.blocks import Block
from xpjax.survey.joint.normal import HostRows
from xpjax.survey.joint.priors import SlotPrior
from xpjax.survey.joint.terms import Term


def check_reference(terms: Sequence[Term], prior: SlotPrior, of_models: bool) -> None:
    """Raise XpjaxError for terms of the reference where stars have no prior magnitudes: they would say nothing.

    of_models: whether these are the models of the observations, without covariances between bands.
    """
    lost = [term.name for term in terms if term.of_reference]
    if lost and not np.any(prior.precision):
        raise XpjaxError(
            f"{lost[0]} is what the stars' prior magnitudes are wrong by, and stars have none: set star_prior = true "
            "and give their models, or leave the term out"
        )
    if of_models and (lost := [term.name for term in terms if term.spectral_prior]):
        raise XpjaxError(
            f"{lost[0]} needs the covariances that spectra give the stars' magnitudes: leave the prior to the term, "
            "without star_prior of the model"
        )


def reference_rows(rows: HostRows, blocks: Sequence[Block]) -> Any:
    """G (n_slot, n_column), sparse: what terms of the reference add to a star in a band; None where there are none."""
    layout, slots = rows.layout, rows.slots
    entries = [
        first + j
        for block, first, width in zip(blocks, layout.first, layout.width, strict=True)
        for j in range(width)
        if block.of_reference
    ]
    if not entries:
        return None
    first = slots.bounds[:-1]
    place = np.repeat(slots.slot, len(entries)), rows.column[first][:, entries].ravel()
    return sparse.csr_array((rows.value[first][:, entries].ravel(), place), shape=(slots.n_slot, layout.n_column))
