"""A whole regression in Python: what it gives is what the command writes, and comes back."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scr import BANDS, Sky
from xpjax.survey.scr import ScrSolution, read_scr, run_scr

CONFIG = {
    "columns": {
        "tile": "tile", "teff": "teff", "feh": "feh", "reddening": "e", "bp": "BP", "rp": "RP",
        "magnitude": "{band}", "magnitude_error": "{band}_err", "model": "{band}_xp",
    },
    "regression": {"order": 2},
    "band": [{"name": "i", "gaia": "RP"}, {"name": "none", "gaia": "BP", "magnitude": "empty", "magnitude_error": 0.1}],
}  # fmt: skip


@pytest.fixture(scope="module")
def solution() -> ScrSolution:
    sky, rng, k = Sky.make(2, 20, 60, noisy=False, common=False), np.random.default_rng(9), BANDS.index("i")
    color, error = sky.color(k)
    rp = rng.uniform(13, 15, len(color))
    labels = np.where((sky.tile >= 17)[:, None], np.nan, sky.labels)
    stars = {
        "tile": sky.tile, "teff": labels[:, 0], "feh": labels[:, 1], "e": labels[:, 2], "BP": rp + 0.8, "RP": rp,
        "i": rp - color, "i_err": error, "empty": np.full(len(rp), np.nan), "none_xp": rp,
        "i_xp": rp - color + sky.zero_point[sky.tile, k] - 0.05 + 0.01 * rng.normal(size=len(rp)),
    }  # fmt: skip
    return run_scr(stars, CONFIG)


def test_a_band_that_fails_is_named(solution: ScrSolution) -> None:
    assert list(solution.regressions) == ["i"]
    assert "too few" in solution.failed["none"]
    assert any(line.startswith("not fitted: band none") for line in solution.summary())
    assert (solution.zero_points.method == np.where(np.arange(20) < 17, "SCR", "XPSP")).all()


def test_a_solution_comes_back(solution: ScrSolution, tmp_path: Path) -> None:
    solution.write(tmp_path, record={"command": "made"})
    back = read_scr(tmp_path)
    np.testing.assert_array_equal(back.regressions["i"].value, solution.regressions["i"].value)
    np.testing.assert_array_equal(back.zero_points.value, solution.zero_points.value)
    np.testing.assert_array_equal(back.predicted.columns["i_scr"], solution.predicted.columns["i_scr"])
    assert back.predicted.to_table()["i_scr_error"].description
    assert back.notes == solution.notes
    with pytest.raises(FileExistsError, match="overwrite=True"):
        solution.write(tmp_path)
    (tmp_path / "zeropoints.ecsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no zeropoints\.ecsv"):
        read_scr(tmp_path)
