"""Made tables with ids that float64 cannot tell apart, and configurations of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.table import MaskedColumn, Table

from xpjax.survey.reading.config import SurveyConfig, config_from

N = 12


FIRST_ID = 4_100_000_000_000_000_000


COLUMNS = {"star": "source_id", "magnitude": "MAG", "magnitude_error": "ERR", "model": "MOD", "color": "COL"}


PLACED = {"ra": "RA", "dec": "DEC", "magnitude": "MAG", "magnitude_error": "ERR", "model": "MOD"}


BY_POSITION = {"file": "ref.fits", "match": "position"}


GAP = 5


def data(n: int = N, seed: int = 0) -> dict[str, Any]:
    """A made field: ids that float64 cannot tell apart, positions an arcminute apart."""
    rng = np.random.default_rng(seed)
    k = np.arange(n)
    return {
        "source_id": FIRST_ID + 128 * k, "X": rng.uniform(0, 4000, n), "Y": rng.uniform(0, 4000, n),
        "RA": 150 + k / 60, "DEC": np.full(n, 2.0), "MAG": 14 + 0.1 * k, "ERR": np.full(n, 0.01), "MOD": 17 + 0.1 * k,
        "COL": 1 + 0.01 * k,
    }  # fmt: skip


def config(columns: dict[str, Any] | None = None, folder: Path = Path(), **sections: Any) -> SurveyConfig:
    model = {"position_order": 0, **sections.pop("model", {})}
    return config_from({"columns": columns or COLUMNS, "model": model, **sections}, folder)


def pick(table: dict[str, Any], *names: str, rows: Any = slice(None)) -> dict[str, Any]:
    return {name: np.asarray(table[name])[rows] for name in names or table}


def standards(folder: Path, table: dict[str, Any], name: str = "ref.fits") -> None:
    Table({"ra" if k == "RA" else "dec" if k == "DEC" else k: v for k, v in table.items()}).write(folder / name)


def with_gap(path: Path, table: dict[str, Any], *gaps: str) -> Path:
    """The table in a file, without the values of these integer columns in row GAP."""
    if path.suffix == ".parquet":
        frame = pd.DataFrame(table)
        for name in gaps:
            frame[name] = frame[name].astype("Int64")
            frame.loc[GAP, name] = pd.NA
        frame.to_parquet(path)
        return path
    made = Table(table, masked=True)
    for name in gaps:
        made[name] = MaskedColumn(table[name], mask=np.arange(len(table[name])) == GAP, fill_value=-9999)
    options = {".fits": {}, ".vot": {"format": "votable"}, ".csv": {"format": "ascii.csv"}}.get(path.suffix, {})
    made.write(path, **options)
    return path


SUFFIXES = (".parquet", ".fits", ".ecsv", ".csv", ".vot")
