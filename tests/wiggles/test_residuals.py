"""Training sets and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import NAMES, made
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.residuals import read_residuals, write_residuals

IDS = np.array([2**62 + 1, 2**62 + 129, 2**62 + 257])


TABLE = {"source_id": IDS, "BP-RP": np.array([0.5, 0.7, np.nan]), "G": np.array([14.0, 15.0, 16.0])}


def test_files(tmp_path: Path) -> None:
    data = made(20, weight=np.ones((20, 60)), ebv=np.zeros(20))
    write_residuals(tmp_path / "r.h5", data)
    back = read_residuals(tmp_path / "r.h5")
    for name in ("source_id", "features", "wavelength", "residual", "weight", "ebv"):
        np.testing.assert_array_equal(getattr(back, name), getattr(data, name))
    assert back.names == NAMES
    with pytest.raises(FileExistsError):
        write_residuals(tmp_path / "r.h5", data)
    with h5py.File(tmp_path / "r.h5", "a") as file:
        del file["residual"]
    with pytest.raises(ValueError, match="no file of residuals"):
        read_residuals(tmp_path / "r.h5")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"residual": np.zeros((200, 59))}, r"residual has shape \(200, 59\), expected \(200, 60\)"),
        ({"features": np.zeros((200, 2))}, "features have shape"),
        ({"weight": np.ones((3, 60))}, "weight has shape"),
        ({"weight": -np.ones((200, 60))}, "negative"),
        ({"wavelength": np.linspace(900, 400, 60)}, "ascend"),
    ],
)
def test_wrong_shapes(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        made(200, **change)


def test_residuals_of_others(tmp_path: Path) -> None:
    data = made(40, weight=np.full((40, 1), 0.5), ebv=np.zeros(40))
    columns = dict(zip(NAMES, data.features.T, strict=True))
    angstrom = np.tile(10 * data.wavelength, (40, 1))
    rows = {"source_id": data.source_id, **columns, "residual": data.residual, "weight": data.weight[:, 0]}
    write(tmp_path / "r.parquet", Catalogue({**rows, "wavelength": angstrom}, {"wavelength": "Angstrom"}))
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file.update({**rows, "wavelength": 10 * data.wavelength})
        file["wavelength"].attrs["units"] = "Angstrom"
    for name in ("r.parquet", "r.h5"):
        found = read_residuals(tmp_path / name)
        np.testing.assert_allclose(found.wavelength, data.wavelength)
        np.testing.assert_array_equal(found.residual, data.residual)
        np.testing.assert_array_equal(found.weight, data.weight)
        np.testing.assert_array_equal(found.stars.select(NAMES).value, data.features)
        assert found.meaning == Meaning()
    with h5py.File(tmp_path / "r.h5", "a") as file:
        file["wavelength"].attrs["units"] = "Hz"
    with pytest.raises(XpjaxError, match="none of a wavelength"):
        read_residuals(tmp_path / "r.h5")


def test_residuals_are_tables_and_come_back(tmp_path: Path) -> None:
    data = made(20, weight=np.ones((20, 60)), ebv=np.zeros(20))
    assert len(data.to_pandas()) == 20
    xpjax.write(tmp_path / "r.parquet", data)
    back = read_residuals(tmp_path / "r.parquet")
    assert (back.names, back.meaning) == (data.names, data.meaning)
    for key in ("source_id", "features", "wavelength", "residual", "weight", "ebv"):
        np.testing.assert_array_equal(getattr(back, key), getattr(data, key))
    assert data[3:5].residual.shape == (2, 60)
