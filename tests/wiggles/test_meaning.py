"""What residuals and features mean: in files, in networks, against options; plain files of others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import made_model, star_features, stars
from tests.wiggles.test_residuals import GRID
from tests.wiggles.test_residuals import made as made_spectra
from tests.wiggles.test_training import NAMES, made
from xpjax.core.errors import XpjaxError, command_line
from xpjax.core.records import Catalogue
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.io.catalogue import write
from xpjax.wiggles.features import Features, make_features, read_features, write_features
from xpjax.wiggles.magnitude import Correcting
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.network import correct_spectra, read_network, write_network
from xpjax.wiggles.residuals import make_residuals, read_residuals, write_residuals
from xpjax.wiggles.training import TrainingSettings, train_network

SHORT = TrainingSettings(widths=(4,), epochs=1)
HOW = {"kind": "multiplicative", "space": "observed", "truncate": False}


def test_a_network_is_what_its_residuals_are(tmp_path: Path) -> None:
    stars_, flux, true, _ = made_spectra(ebv=0.1)
    stars_ = dataclasses.replace(stars_, truncate=True, gaia="columns")
    how = {"kind": "multiplicative", "space": "observed", "law": "odonnell94", "r_v": 2.8, "per_ebv": 2.5}
    found, _ = make_residuals(stars_, GRID, flux, true, **how)
    write_residuals(tmp_path / "r.h5", found)
    with h5py.File(tmp_path / "r.h5") as file:
        assert {k: file.attrs[k] for k in how} == how
        assert bool(file.attrs["truncate"])
        assert file["wavelength"].attrs["unit"] == "nm"
    back = read_residuals(tmp_path / "r.h5")
    assert back.meaning == found.meaning == Meaning(**how, truncate=True, gaia="columns")
    model = train_network(back, SHORT)
    assert (model.kind, model.space, model.law, float(model.r_v), float(model.per_ebv)) == tuple(how.values())
    assert (model.truncate, model.gaia) == (True, "columns")
    write_network(tmp_path / "m.h5", model)
    assert read_network(tmp_path / "m.h5").gaia == "columns"


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [("kind", "additive", "--kind additive"), ("truncate", True, "--truncate"), ("r_v", 4.0, "--r-v 4.0")],
)
def test_contradictions_name_both(option: str, value: object, named: str) -> None:
    own = Meaning("multiplicative", "observed", "ccm89", R_V, AV_PER_SFD, False)
    data = dataclasses.replace(made(40), meaning=own, origin="r.h5")
    with pytest.raises(XpjaxError, match=f"r.h5: made with {option} .*{option}={value!r}"):
        train_network(data, SHORT, **{option: value})
    with command_line(), pytest.raises(XpjaxError, match=f"but {named} was asked for"):
        train_network(data, SHORT, **{option: value})
    assert train_network(data, SHORT, **HOW, r_v=R_V).kind == "multiplicative"


def test_what_residuals_do_not_say_must_be_said(tmp_path: Path) -> None:
    write_residuals(tmp_path / "r.h5", made(40))
    with h5py.File(tmp_path / "r.h5", "a") as file:
        for name in ("kind", "space", "law", "r_v", "per_ebv", "truncate"):
            del file.attrs[name]
    old = read_residuals(tmp_path / "r.h5")
    with pytest.raises(XpjaxError, match=r"r\.h5: the attributes kind, space, truncate, law, r_v, per_ebv are absent"):
        train_network(old, SHORT)
    with command_line(), pytest.raises(XpjaxError, match="--kind additive, --space dereddened, --no-truncate, --law"):
        train_network(old, SHORT)
    with pytest.raises(XpjaxError, match="the attributes law, r_v, per_ebv are absent"):
        train_network(old, SHORT, kind="additive", space="dereddened", truncate=False)
    model = train_network(old, SHORT, **HOW)  # no dust enters
    assert (model.kind, model.space) == ("multiplicative", "observed")
    with h5py.File(tmp_path / "r.h5", "a") as file:
        file.attrs["kind"] = "ratio"
    with pytest.raises(XpjaxError, match=r"r\.h5: attribute kind 'ratio' is not one of"):
        read_residuals(tmp_path / "r.h5")


def test_spectra_and_features_are_truncated_alike() -> None:
    stars_, flux, true, _ = made_spectra()
    full = dataclasses.replace(stars_, truncate=False)
    with pytest.raises(XpjaxError, match="the spectra are truncated, the features are of full ones"):
        make_residuals(full, GRID, flux, true, truncate=True)
    assert make_residuals(full, GRID, flux, true)[0].meaning.truncate is False
    assert make_residuals(stars_, GRID, flux, true)[0].meaning.truncate is None
    model = made_model(truncate=True)
    with pytest.raises(XpjaxError, match="trained on features of truncated spectra, these are of full ones"):
        Correcting(model, stars=dataclasses.replace(star_features(), truncate=False))


def test_features_say_what_they_are_of(tmp_path: Path) -> None:
    table = stars(8)
    given = make_features(table, ("G", "BP-RP"), gaia="columns")
    assert (given.truncate, given.gaia) == (None, "columns"), "no spectrum is in them"
    shape = make_features(table, "shape", truncate=True)
    assert (shape.truncate, shape.gaia) == (True, None)
    for one in (given, shape):
        write_features(tmp_path / "f.h5", one, overwrite=True)
        back = read_features(tmp_path / "f.h5").matched(one.source_id)[np.arange(3)]
        assert (back.truncate, back.gaia) == (one.truncate, one.gaia)


def test_given_and_synthetic_magnitudes_are_told_apart() -> None:
    data = dataclasses.replace(made(40), meaning=Meaning(**HOW, gaia="columns"))
    model = train_network(data, SHORT)
    known = Features(np.arange(1, 3), NAMES, np.ones((2, 3)), gaia="synthetic")
    with pytest.raises(XpjaxError, match=r"trained on given G, BP and RP .*have synthetic .*gaia='columns'"):
        Correcting(model, stars=known)
    with command_line(), pytest.raises(XpjaxError, match="--gaia columns"):
        Correcting(model, ebv="ebv")
    assert Correcting(model, ebv="ebv", gaia="columns").gaia == "columns"


def test_spectra_are_corrected_once() -> None:
    model, known, table = made_model(), star_features()[:5], stars()[:5]
    once = correct_spectra(xpjax.spectra(table, errors=False), model, known)
    with pytest.raises(XpjaxError, match="corrected by a network already"):
        correct_spectra(once, model, known)


def test_quantities_are_converted() -> None:
    from astropy import units as u

    stars_, flux, true, wiggle = made_spectra()
    found, _ = make_residuals(stars_, (GRID * u.nm).to(u.um), flux, true)
    np.testing.assert_allclose(found.residual, wiggle, atol=1e-12)
    again = dataclasses.replace(found, wavelength=(GRID * u.nm).to(u.Angstrom))
    np.testing.assert_allclose(again.wavelength, GRID)
    given = {"G": np.array([14000.0, 15000.0]) * u.mmag, "BP": np.ones(2), "RP": np.zeros(2)}
    made_of = make_features(given, ("G", "BP-RP"))
    np.testing.assert_allclose(made_of.value, [[14, 1], [15, 1]])
    assert made_of.gaia == "columns"
    with pytest.raises(XpjaxError, match="wavelength has the unit"):
        dataclasses.replace(found, wavelength=GRID * u.s)


# --- plain files of others --------------------------------------------------------------------------------------------

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
