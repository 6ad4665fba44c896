"""Status bits: what numbers mean must never change."""

import numpy as np

from xpjax.core.status import FitStatus, Status

BITS = {
    "BP_MISSING": 1, "RP_MISSING": 2, "BP_BAD": 4, "RP_BAD": 8, "BP_NO_ERROR": 16, "RP_NO_ERROR": 32, "ID_MISSING": 64,
    "DUPLICATE": 128, "NONPOSITIVE_FLUX": 256, "BAND_MISSING": 512, "COLOR_EXTRAPOLATED": 1024,
    "NO_ERROR_CORRECTION": 2048, "CELL_REPAIRED": 4096, "NOT_CORRECTED": 8192, "FEATURE_MISSING": 16384,
    "OUTSIDE_TRAINING": 32768, "OUTSIDE_LIMITS": 65536, "CORRECTION_LARGE": 131072,
    "TRANSIT_MISSING": 262144, "TIME_MISSING": 524288,
}  # fmt: skip


def test_bits_keep_their_numbers() -> None:
    assert {name: int(Status[name]) for name in BITS} == BITS
    assert {bit.name: int(bit) for bit in FitStatus if bit} == {
        "EDGE": 1,
        "HOLE": 2,
        "BAD_INPUT": 4,
        "NO_CONVERGENCE": 8,
    }


def test_every_bit_says_what_it_means() -> None:
    for bit in (*Status, *FitStatus):
        assert not bit or bit.meaning.endswith(".")
    assert Status(5).meaning == f"{Status.BP_MISSING.meaning} {Status.BP_BAD.meaning}"


def test_numbers_in_words() -> None:
    assert Status.describe(0) == "OK"
    assert Status.describe(129) == "BP_MISSING|DUPLICATE"
    assert Status.counts(np.array([0, 1, 129])) == {Status.BP_MISSING: 2, Status.DUPLICATE: 1}
    assert FitStatus.legend() == "Bits: 1 EDGE, 2 HOLE, 4 BAD_INPUT, 8 NO_CONVERGENCE"
