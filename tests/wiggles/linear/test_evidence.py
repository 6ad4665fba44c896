"""What a linear correction leaves of pairs that it did not see."""

from __future__ import annotations

import numpy as np

from xpjax.wiggles.linear.evidence import band_errors, kind_of, learning_curve, robust
from xpjax.wiggles.linear.fit import (
    Training,
    judged,
    level,
    scaled_reference,
)
from xpjax.wiggles.linear.pairs import Pairs
from xpjax.wiggles.linear.train import Trained


def test_stated_errors_fit_what_is_left(trained: Trained) -> None:
    pulls = np.concatenate([trained.evidence.pulls(trained.correction, s) for s in ("JPLUS", "SDSS", "DECam")], axis=1)
    assert 0.4 < robust(pulls.ravel()) < 1.3
    # Of the uncorrected magnitudes the same errors say nothing.
    before, _ = trained.evidence.magnitudes("JPLUS")
    errors = band_errors(trained.correction, "JPLUS", ("J0410", "J0430"), trained.evidence.pairs.instrument)
    assert np.all(robust(before[:, 2:4]) > 2 * errors)


def test_learning_curve_falls(training: Training) -> None:
    curve = learning_curve(training, (8, 24), n_judged=40)
    assert curve[24] < curve[8]


def test_evidence_says_all_there_is(trained: Trained) -> None:
    text = "\n".join(trained.evidence.table(trained.correction))
    for word in ("400..990 nm", "JPLUS", "pull", "F, G", "by G"):
        assert word in text
    assert trained.curve.keys() == {10, 20}
    assert [kind_of(t) for t in ("sdB3", "DA1.2", "A0V", "G2V", "M4", "")] == [
        "hot subdwarfs, O", "white dwarfs", "A", "F, G", "M and later", "other"
    ]  # fmt: skip


def test_gray_levels_are_taken_from_xp(pairs: Pairs) -> None:
    reference = scaled_reference(pairs)
    used = judged(pairs.instrument)
    np.testing.assert_allclose(reference[:, used].mean(axis=1), level(pairs.coefficients, pairs.instrument)[:, 0])
