"""A made survey in files: nights, bands, weak exposures, detections that nobody names, tables of several nights."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = {
    "star": "id", "x": "X", "y": "Y", "ra": "RA", "dec": "DEC", "magnitude": "MAG", "magnitude_error": "ERR",
    "model": "MOD", "model_error": "MODERR", "color": "COL", "exposure": "EXP", "band": "BAND", "time": "MJD",
    "airmass": "AIR",
}  # fmt: skip
MODEL = {"position_order": 1, "color_order": 1, "stacked_flat": True, "bins": 6, "few": 30, "star_offsets": True}
CONFIG: dict[str, Any] = {"columns": COLUMNS, "model": MODEL}


def exposure(k: int, n_star: int = 120) -> pd.DataFrame:
    """Exposure k: nights of four, bands in turn, every seventh with few standards; stars without a name have id -1."""
    stars, rng = np.random.default_rng(1), np.random.default_rng(100 + k)
    ra, dec = 150 + stars.uniform(0, 0.2, n_star), stars.uniform(0, 0.2, n_star)
    color, true = stars.uniform(0.3, 2, n_star), stars.uniform(12, 16, n_star)
    wrong = stars.normal(size=n_star) * 0.005
    x = (ra - 150) / 0.2 * 3000 + rng.uniform(0, 400)
    y = dec / 0.2 * 3000 + rng.uniform(0, 400)
    night, band = divmod(k, 4)[0], "gr"[k % 2]
    error = np.full(n_star, 0.004)
    zero = 22 + 0.05 * night + 0.3 * (band == "r") - 0.2 * (k % 4) * 0.1
    flat = 0.01 * np.sin(x / 300) * np.cos(y / 400) + 0.02 * (x / 1700 - 1)
    table = pd.DataFrame(
        {
            "id": np.where(np.arange(n_star) % 9 == 8, -1, 4_100_000_000_000_000_000 + np.arange(n_star)), "X": x,
            "Y": y, "RA": ra, "DEC": dec, "MAG": true - zero - flat + rng.normal(size=n_star) * error, "ERR": error,
            "MOD": true + wrong + 0.02 * (color - 1), "MODERR": 0.002, "COL": color, "EXP": f"e{k:02d}", "BAND": band,
            "MJD": 60000.5 + night + 0.01 * (k % 4), "AIR": 1 + 0.1 * (k % 4), "kept": [f"d{j}" for j in range(n_star)],
        }
    )  # fmt: skip
    if k % 7 == 6:
        table.loc[25:, "MOD"] = np.nan
    return table[rng.random(n_star) < 0.9]


def write_survey(folder: Path, n_exposure: int = 16) -> list[Path]:
    """A file for each exposure, but one for four of two nights."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = [*range(n_exposure - 5), n_exposure - 2, n_exposure - 1, n_exposure]
    groups = [range(a, b) for a, b in itertools.pairwise(ends)]
    files = []
    for group in groups:
        files.append(folder / f"t{group[0]:02d}.parquet")
        pd.concat([exposure(k) for k in group]).to_parquet(files[-1], index=False)
    return files


def measurements(folder: Path) -> pd.DataFrame:
    """All calibrated measurements in a folder, in the order of the input."""
    parts = [pd.read_parquet(path) for path in sorted(folder.rglob("calibrated.parquet"))]
    return pd.concat(parts).sort_values(["file", "row"]).reset_index(drop=True)
