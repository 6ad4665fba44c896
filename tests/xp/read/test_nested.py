"""Nested coefficients: the layout of the public HATS copy, of xpjax's own catalogues, and of columns that are named."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xpjax
from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3, DR4
from xpjax.core.status import Status
from xpjax.xp.sources import SourceTable

SOURCES = xpjax.simulate_sources(6, seed=3)
MISSING = np.uint32(Status.BP_MISSING)


def values() -> np.ndarray:
    """Coefficients of BP and RP, the third source without BP."""
    out = SOURCES.coefficients.value.copy()
    out[2, : DR3.n_basis[0]] = np.nan
    return out


def lists(array: np.ndarray) -> pa.Array:
    return pa.array(list(array.astype(np.float32)))


def structs(**fields: Any) -> pa.Array:
    return pa.StructArray.from_arrays([pa.array(field) for field in fields.values()], list(fields))


def public(rows: bool = False, text: bool = False) -> pa.Table:
    """As in UniverseTBD/mmu_gaia_gaia; rows: as lists of structures instead; text: ids as text."""
    value, error = values(), SOURCES.coefficients.error
    assert error is not None
    nested: pa.Array = pa.StructArray.from_arrays([lists(value), lists(error)], ["coeff", "coeff_error"])
    if rows:
        both = zip(value.tolist(), error.tolist(), strict=True)
        kind = pa.list_(pa.struct({"coeff": pa.float32(), "coeff_error": pa.float32()}))
        nested = pa.array([[{"coeff": c, "coeff_error": e} for c, e in zip(*one, strict=True)] for one in both], kind)
    known = SOURCES.columns
    ids = pa.array(SOURCES.source_id)
    return pa.table({
        "spectral_coefficients": nested,
        "photometry": structs(phot_g_mean_mag=known["phot_g_mean_mag"], bp_rp=known["bp_rp"]),
        "astrometry": structs(ra=known["ra"].astype(np.float32), parallax=np.arange(6, dtype=np.float32)),
        "ra": known["ra"], "dec": known["dec"], "healpix": np.arange(6),
        "object_id": ids.cast(pa.string()) if text else ids,
    })  # fmt: skip


def check_public(found: SourceTable) -> None:
    assert found.release == DR3
    np.testing.assert_array_equal(found.source_id, SOURCES.source_id)
    c = found.coefficients
    np.testing.assert_array_equal(c.value, values().astype(np.float32))
    np.testing.assert_array_equal(c.error[[0, 1, 3]], SOURCES.coefficients.error[[0, 1, 3]].astype(np.float32))
    assert c.correlation is None
    assert c.n_relevant is None
    assert ((found.status & MISSING) != 0).tolist() == [False, False, True, False, False, False]
    np.testing.assert_array_equal(found.columns["phot_g_mean_mag"], SOURCES.columns["phot_g_mean_mag"])
    np.testing.assert_array_equal(found.columns["parallax"], np.arange(6))
    # What has the name of a column of the table keeps the name of its structure.
    np.testing.assert_array_equal(found.columns["ra"], SOURCES.columns["ra"])
    assert "astrometry.ra" in found.columns


def nested_pandas(table: pa.Table, folder: Path) -> Any:
    pq.write_table(table, folder / "nested.parquet")
    return pytest.importorskip("nested_pandas").read_parquet(folder / "nested.parquet")


KINDS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "arrow": lambda table, folder: table,
    "file": lambda table, folder: pq.write_table(table, folder / "Npix=0.parquet") or folder / "Npix=0.parquet",
    "pandas": lambda table, folder: table.to_pandas(types_mapper=pd.ArrowDtype),
    "nested": nested_pandas,
    "cross-match": lambda table, folder: nested_pandas(table, folder).add_suffix("_gaia"),
}


@pytest.mark.parametrize("rows", [False, True], ids=["lists", "structures"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_public_copy_is_read(tmp_path: Path, kind: str, rows: bool) -> None:
    source = KINDS[kind](public(rows, text=kind == "file"), tmp_path)
    found = xpjax.read(source)
    if kind == "cross-match":
        found = dataclasses.replace(found, columns={n.replace("_gaia", ""): c for n, c in found.columns.items()})
    check_public(found)


def test_there_are_no_errors_without_correlations(tmp_path: Path) -> None:
    """Errors of the coefficients alone are not given as errors of magnitudes, and the flags say so."""
    found = xpjax.photometry(public(), "SDSS")
    assert found.magnitude_error is None
    assert found.flux_error is None
    bits = np.uint32(Status.RP_NO_ERROR)
    assert ((found.status & bits) != 0).all()
    # Magnitudes are those of the same coefficients in the archive's columns.
    bare = xpjax.read({
        "source_id": SOURCES.source_id,
        "bp_coefficients": values()[:, :55].astype(np.float32), "rp_coefficients": values()[:, 55:].astype(np.float32),
    })  # fmt: skip
    np.testing.assert_array_equal(found.magnitude, xpjax.photometry(bare, "SDSS").magnitude)


def test_rows_of_other_lengths_are_bad_and_empty_ones_missing() -> None:
    value = values().astype(np.float32)
    cells = [*map(list, value)]
    cells[1], cells[3], cells[4] = cells[1][:-1], [], None
    table = pa.table({"object_id": SOURCES.source_id, "spectral_coefficients": structs(coeff=cells)})
    found = xpjax.read(table)
    bits = [Status.BP_BAD | Status.RP_BAD, Status.BP_MISSING, Status.BP_MISSING | Status.RP_MISSING]
    seen = found.status & np.uint32(Status.BP_BAD | Status.RP_BAD | Status.BP_MISSING | Status.RP_MISSING)
    assert seen.tolist() == [0, bits[0], bits[1], bits[2], bits[2], 0]
    np.testing.assert_array_equal(found.coefficients.value[5], value[5])
    assert np.isnan(found.coefficients.value[[1, 3, 4]]).all()


def test_releases_are_told_by_length_and_not_mixed() -> None:
    def table(*sizes: int) -> pa.Table:
        cells = structs(coeff=[[1.0] * n for n in sizes])
        return pa.table({"source_id": np.arange(1, len(sizes) + 1), "spectral_coefficients": cells})

    found = xpjax.read(table(106, 106))
    assert found.release == DR4
    assert found.coefficients.value.shape == (2, 106)
    with pytest.raises(XpjaxError, match="several releases"):
        xpjax.read(table(106, 110))
    with pytest.raises(XpjaxError, match=r"107 numbers a row, expected 110 \(Gaia DR3\) or 106 \(Gaia DR4\)"):
        xpjax.read(table(107, 107))
    with pytest.raises(XpjaxError, match=r"106 numbers a row, expected 110 \(Gaia DR3\)"):
        xpjax.read(table(106, 106), release="DR3")
    assert xpjax.read(table(106, 106)[:0], release="DR4").coefficients.value.shape == (0, 106)
    with pytest.raises(XpjaxError, match=r"106|coefficients"):
        xpjax.photometry(table(106, 106), xpjax.load_system("SDSS"))


def test_columns_of_any_layout_are_named() -> None:
    c = SOURCES.coefficients
    assert c.correlation is not None
    table = pa.table({
        "star": SOURCES.source_id, "xp": structs(c=list(c.value), e=list(c.error)), "r": list(c.correlation),
        "g": SOURCES.columns["phot_g_mean_mag"], "n": SOURCES.coefficients.n_relevant[:, 0],
    })  # fmt: skip
    names = {
        "source_id": "star", "coefficients": "xp.c", "coefficient_errors": "xp.e", "coefficient_correlations": "r",
        "phot_g_mean_mag": "g", "bp_n_relevant_bases": "n",
    }  # fmt: skip
    found = xpjax.read(table, columns=names)
    for name in ("value", "error", "correlation"):
        np.testing.assert_array_equal(getattr(found.coefficients, name), getattr(c, name))
    np.testing.assert_array_equal(found.coefficients.n_relevant[:, 0], c.n_relevant[:, 0])
    assert [*found.columns] == ["phot_g_mean_mag"]
    with pytest.raises(XpjaxError, match=r"no column 'xp\.x' for coefficients; did you mean xp"):
        xpjax.read(table, columns={**names, "coefficients": "xp.x"})
    with pytest.raises(XpjaxError, match="columns: 'coefficient' is nothing that is read"):
        xpjax.read(table, columns={"source_id": "star", "coefficient": "r"})
    with pytest.raises(XpjaxError, match=r"no source_id, bp_coefficients.*found star, xp\.c, xp\.e.*by columns=\{"):
        xpjax.read(table)


def test_columns_are_named_in_other_formats_too(tmp_path: Path) -> None:
    """Each XP by itself, in text and FITS."""
    xpjax.write(tmp_path / "a.csv", SOURCES)
    frame = pd.read_csv(tmp_path / "a.csv").rename(columns={"source_id": "id", "bp_coefficients": "blue"})
    frame.to_csv(tmp_path / "b.csv", index=False)
    found = xpjax.read(tmp_path / "b.csv", columns={"source_id": "id", "bp_coefficients": "blue"})
    whole = xpjax.read(tmp_path / "a.csv")
    np.testing.assert_array_equal(found.coefficients.value, whole.coefficients.value)
    np.testing.assert_array_equal(found.source_id, whole.source_id)


def test_of_several_sets_of_coefficients_one_is_named(tmp_path: Path) -> None:
    one, other = public(), public()
    both = {f"{name}_a": one.column(name) for name in one.column_names}
    table = pa.table({**both, **{f"{name}_b": other.column(name) for name in other.column_names}})
    with pytest.raises(XpjaxError, match=r"several sets of XP coefficients: spectral_coefficients_a\.coeff, spectral"):
        xpjax.read(table)
    found = xpjax.read(table, columns={"coefficients": "spectral_coefficients_b.coeff"})
    assert found.coefficients.error is not None
    np.testing.assert_array_equal(found.source_id, SOURCES.source_id)


def hats_folder(folder: Path, table: pa.Table, cuts: tuple[int, ...]) -> Path:
    """A HATS catalogue of order 0 with some rows in each pixel; positions are not looked at."""
    edges = [0, *cuts, len(table)]
    for k, (start, stop) in enumerate(itertools.pairwise(edges)):
        path = folder / "dataset" / "Norder=0" / "Dir=0" / f"Npix={k}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(start, stop - start), path)
    lines = ["Norder,Npix", *(f"0,{k}" for k in range(len(edges) - 1))]
    (folder / "partition_info.csv").write_text("\n".join(lines))
    (folder / "hats.properties").write_text("#HATS catalog\nobs_collection=test\n")
    return folder


def test_a_catalogue_and_a_collection_are_read(tmp_path: Path) -> None:
    main = hats_folder(tmp_path / "main", public(), (2, 2, 5))
    check_public(xpjax.read(main))
    hats_folder(tmp_path / "main_10arcs", public(), (1,))
    (tmp_path / "collection.properties").write_text("obs_collection=x\nhats_primary_table_url=main\nall_margins=m\n")
    check_public(xpjax.read(tmp_path))
    (main / "dataset" / "Norder=0" / "Dir=0" / "Npix=1.parquet").unlink()
    with pytest.raises(XpjaxError, match=r"1 of 4 partitions are not there, such as Norder=0, Npix=1; download"):
        xpjax.read(tmp_path)


def test_a_partition_becomes_a_store(tmp_path: Path) -> None:
    pq.write_table(public(), tmp_path / "Npix=0.parquet")
    report = xpjax.ingest([tmp_path / "Npix=0.parquet"], tmp_path / "store")
    assert not report.failures
    found = xpjax.open_store(tmp_path / "store").read()
    np.testing.assert_array_equal(found.coefficients.value, values().astype(np.float32))
    np.testing.assert_array_equal(found.columns["bp_rp"], SOURCES.columns["bp_rp"])
