"""Files of features: those of others, units and identifiers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import star_features
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.wiggles.feature_files import read_features

IDS = np.array([2**62 + 1, 2**62 + 129, 2**62 + 257])


TABLE = {"source_id": IDS, "BP-RP": np.array([0.5, 0.7, np.nan]), "G": np.array([14.0, 15.0, 16.0])}


@pytest.mark.parametrize("name", ["f.parquet", "f.csv", "f.ecsv", "f.fits", "f.h5"])
def test_columns_named_as_features(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, Catalogue({**TABLE, "ebv": np.array([0.1, 0.2, 0.3]), "teff": np.ones(3)}))
    found = read_features(tmp_path / name)
    assert set(found.names) == {"BP-RP", "G"}
    assert found.source_id.dtype == np.int64
    np.testing.assert_array_equal(found.source_id, IDS)
    np.testing.assert_array_equal(found.select(("BP-RP", "G")).value, np.stack([TABLE["BP-RP"], TABLE["G"]], axis=1))
    np.testing.assert_allclose(found.ebv, [0.1, 0.2, 0.3], rtol=1e-6)
    assert (found.base, found.truncate, found.gaia) == ("none", None, None)
    np.testing.assert_array_equal(read_features(tmp_path / name, ("teff",)).value, np.ones((3, 1)))
    assert read_features(tmp_path / name, ("G", "E(B-V)")).value[2].tolist() == [16.0, pytest.approx(0.3)]
    with pytest.raises(XpjaxError, match="did you mean teff"):
        read_features(tmp_path / name, ("tef",))


def test_units_and_ids_of_features(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(
        tmp_path / "m.ecsv", Catalogue({"source_id": IDS, "E(B-V)": np.array([100.0, 200.0, 50.0])}, {"E(B-V)": "mmag"})
    )
    np.testing.assert_allclose(read_features(tmp_path / "m.ecsv").ebv, [0.1, 0.2, 0.05])
    gap = pa.table({"source_id": pa.array([IDS[0].item(), None, IDS[2].item()]), "G": pa.array([14.0, None, 16.0])})
    pq.write_table(gap, tmp_path / "gap.parquet")
    found = read_features(tmp_path / "gap.parquet")
    np.testing.assert_array_equal(found.source_id, [IDS[0], 0, IDS[2]])
    np.testing.assert_array_equal(found.value[:, 0], [14, np.nan, 16])
    write(tmp_path / "float.parquet", Catalogue({**TABLE, "source_id": IDS.astype(float)}))
    with pytest.raises(XpjaxError, match=r"'source_id' holds identifiers as floating-point"):
        read_features(tmp_path / "float.parquet")
    write(tmp_path / "text.parquet", Catalogue({**TABLE, "source_id": np.array(["a", "b", "c"])}))
    with pytest.raises(XpjaxError, match="expected integers"):
        read_features(tmp_path / "text.parquet")
    write(tmp_path / "none.parquet", Catalogue({"source_id": IDS, "color": np.ones(3)}))
    with pytest.raises(XpjaxError, match=r"no column is named as a feature, such as BP-RP or shape-1; it has"):
        read_features(tmp_path / "none.parquet")


@pytest.mark.parametrize("name", ["f.parquet", "f.fits", "f.h5", "f.ecsv"])
def test_features_are_tables_and_come_back(tmp_path: Path, name: str) -> None:
    chosen = star_features()[:6]
    if name.endswith("fits"):  # its columns g and G are one
        chosen = chosen.select(("BP-RP", "E(B-V)", "G"))
    features = dataclasses.replace(chosen, truncate=False, gaia="synthetic", base="standard")
    table = features.to_table()
    assert str(table["BP-RP"].unit) == "mag"
    assert len(features[2:4]) == 2
    xpjax.write(tmp_path / name, features)
    back = read_features(tmp_path / name)
    assert (back.names, back.base, back.truncate, back.gaia) == (features.names, "standard", False, "synthetic")
    for key in ("source_id", "value", "ebv"):
        np.testing.assert_array_equal(getattr(back, key), getattr(features, key))
