"""Which release an input is of: by lengths, headers and names; Gaia DR4's layouts; contradictions refused by name."""

from __future__ import annotations

import base64
import gzip
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.xp.read.test_archive import MADE, make, write, write_csv
from xpjax.core.archive import release_of_name
from xpjax.core.release import DR3, DR4, Release, stated_release
from xpjax.core.status import Status
from xpjax.xp import peek_release, read_for

DR4_SIZES = (51, 55)


def without_bp(n_basis=(55, 55), n: int = 3) -> dict:
    return make(n, n_basis, missing_bp=range(n))


@pytest.mark.parametrize("suffix", MADE)
def test_lengths_tell_the_release_in_every_format(tmp_path: Path, suffix: str) -> None:
    for n_basis, release in ((DR4_SIZES, DR4), ((55, 55), DR3)):
        (folder := tmp_path / str(n_basis[0])).mkdir()
        path = write(folder / f"made.{suffix}", make(n_basis=n_basis))
        found = xpjax.read(path)
        assert found.release is release
        assert peek_release([path]) in (None, (path, release))
        if suffix.endswith(".gz"):
            continue
        with zipfile.ZipFile(folder / "made.zip", "w") as archive:
            archive.write(path, path.name)
        packed = xpjax.read(folder / "made.zip")
        assert packed.release is release
        np.testing.assert_array_equal(packed.coefficients.value, found.coefficients.value)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("Gaia DR4", DR4), ("Gaia DR4_RC3", DR4), ("GAIA_DR4", DR4), ("gaiadr3", DR3), ("Gaia DR40", None),
        ("Gaia EDR3", None), ("DR4", None), ("", None),
    ],
)  # fmt: skip
def test_what_files_state(text: str, release: Release | None) -> None:
    assert stated_release(text) is release


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("MEAN_SPECTRUM_XP-Gaia DR4 5937083312263887616.csv", DR4),
        ("mean_spectrum_xp_raw.vot", DR4),
        ("XP_MEAN_SPECTRUM_COMBINED.csv", DR4),
        ("XP_CONTINUOUS-Gaia DR3 5937083312263887616.csv", DR3),
        ("XP_CONTINUOUS-Gaia DR4_RC3 593.fits", DR4),
        ("XP_CONTINUOUS_RAW.csv", None),
        ("dr4.csv", None),
        ("my_mean_spectrum_xp.csv", None),
    ],
)
def test_what_names_of_files_tell(name: str, release: Release | None) -> None:
    assert release_of_name(name) is release


def test_names_and_headers_tell_where_bp_is_missing(tmp_path: Path) -> None:
    columns = without_bp()
    told = {
        "MEAN_SPECTRUM_XP_RAW.csv": "",
        "stated.ecsv": "# %ECSV 1.0\n# ---\n# delimiter: ','\n# meta: !!omap\n# - {release: Gaia DR4_RC3}\n",
        "stated.csv": "# release: 'Gaia DR4'\n",
    }
    for name, head in told.items():
        path = write_csv(tmp_path / name, columns, head=head)
        assert xpjax.read(path).release is DR4
        assert xpjax.read(path).coefficients.value.shape == (3, 106)
        store = tmp_path / f"store of {name}"
        assert xpjax.ingest([path], store).failures == {}
        assert xpjax.open_store(store).release == DR4
    with zipfile.ZipFile(tmp_path / "download.zip", "w") as archive:
        archive.write(tmp_path / "stated.csv", "MEAN_SPECTRUM_XP-Gaia DR4 1.csv")
        archive.writestr("EPOCH_PHOTOMETRY-Gaia DR4 1.csv", "source_id,mag\n1,2\n")
    assert xpjax.read(tmp_path / "download.zip").release is DR4
    assert xpjax.read(write(tmp_path / "made.csv", columns), release="DR4").release is DR4
    # The whole set tells, in any order.
    other = make(2, DR4_SIZES, missing_bp=())
    assert {xpjax.read(two).release for two in ([columns, other], [other, columns])} == {DR4}


def test_an_input_that_does_not_tell_is_dr3_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "made.csv", without_bp())
    with pytest.warns(UserWarning, match=r"made\.csv: no source has BP, and neither .* taken as Gaia DR3"):
        assert xpjax.read(path).release is DR3
    with pytest.warns(UserWarning, match=r"taken as Gaia DR3"):
        xpjax.ingest([path], tmp_path / "store")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert xpjax.read(write_csv(tmp_path / "XP_CONTINUOUS_RAW.csv", without_bp())).release is DR3
        assert xpjax.read(make(2, missing_bp=(0,))).release is DR3
        assert xpjax.read(path, release=DR3).release is DR3
    assert peek_release([path]) is None


def test_contradictions_are_refused_by_name(tmp_path: Path) -> None:
    dr3, dr4 = make(3, missing_bp=()), make(3, DR4_SIZES, missing_bp=())
    named = write_csv(tmp_path / "MEAN_SPECTRUM_XP.csv", dr3)
    with pytest.raises(ValueError, match=r"its name says Gaia DR4, .* 51 \+ 55 .* bp_coefficients has 55 .* Gaia DR3"):
        xpjax.read(named)
    stated = write_csv(tmp_path / "stated.csv", dr4, head="# release: Gaia DR3\n")
    with pytest.raises(ValueError, match=r"its header says Gaia DR3, .* has 51 numbers, as Gaia DR4 has"):
        xpjax.read(stated)
    both = write_csv(tmp_path / "MEAN_SPECTRUM_XP_2.csv", without_bp(), head="# release: Gaia DR3\n")
    with pytest.raises(ValueError, match=r"several releases: .* header says Gaia DR3, .* name says Gaia DR4"):
        xpjax.read(both)
    # A user's word overrules them, that of a model does not.
    assert xpjax.read(named, release=DR3).release is DR3
    with pytest.raises(ValueError, match="its name says Gaia DR4"):
        read_for(named, DR3)
    with pytest.raises(ValueError, match="is of Gaia DR4"):
        xpjax.read(dr4, release="Gaia DR3")


def test_two_releases_in_one_input_are_refused(tmp_path: Path) -> None:
    dr3, dr4 = make(3, missing_bp=()), make(3, DR4_SIZES, missing_bp=(), seed=1)
    path, other = write_csv(tmp_path / "a.csv", dr3), write_csv(tmp_path / "b.csv", dr4)
    with pytest.raises(ValueError, match=r"55 in .*a\.csv, 51 in .*b\.csv \(Gaia DR3, Gaia DR4\); read each release"):
        xpjax.read([path, other])
    with pytest.raises(ValueError, match=r"a\.csv is of Gaia DR3 .*b\.csv is of Gaia DR4 .*each release by itself"):
        peek_release([path, other])
    tables = [xpjax.read(path), xpjax.read(other)]
    with pytest.raises(ValueError, match=r"a\.csv is of Gaia DR3 .*b\.csv of Gaia DR4 .* read each release by itself"):
        xpjax.read(tables)
    with pytest.raises(ValueError, match=r"b\.csv is of Gaia DR4 .*but Gaia DR3 with \(55, 55\) is expected"):
        xpjax.read([tables[0], other])
    mixed = {name: [*dr3[name], *dr4[name]] for name in dr3}
    for share in (slice(None), slice(0, 4)):
        some = {name: column[share] for name, column in mixed.items()}
        with pytest.raises(ValueError, match=r"two releases: row 1 has 55 .* row 4 has 51 \(Gaia DR4\)"):
            xpjax.read(write_csv(tmp_path / "mixed.csv", some))
        assert "two releases" in str(xpjax.ingest([tmp_path / "mixed.csv"], tmp_path / "store").failures)
    # Said to be of one release, rows of the other one are bad rows.
    found = xpjax.read(mixed, release=DR3)
    assert [Status.describe(int(s)) for s in found.status[3:]] == ["BP_BAD"] * 3


def test_a_damaged_row_is_no_other_release() -> None:
    columns = make(4, DR4_SIZES, missing_bp=())
    columns["bp_coefficients"][1] = columns["bp_coefficients"][1][:40]
    found = xpjax.read(columns)
    assert found.release is DR4
    assert Status.describe(int(found.status[1])) == "BP_BAD"
    assert not found.status[[0, 2, 3]].any()
    columns = make(4, missing_bp=())  # cut to DR4's length by chance
    columns["bp_coefficients"][1] = columns["bp_coefficients"][1][:51]
    found = xpjax.read(columns)
    assert found.release is DR3
    assert found.status[1] & Status.BP_BAD


def votable(path: Path, rows: list[dict], *, arraysize: str = "*", release: str | None = None) -> Path:
    """A VOTable in BINARY2 packed by hand: variable arrays, null masks, unsigned masks in int16, a wrong utype."""
    sizes = {"bp": DR4_SIZES[0], "rp": DR4_SIZES[1]}
    fields: list[tuple[str, str, str]] = [("source_id", "long", ""), ("transit_flags", "short", "")]
    for xp in sizes:
        arrays = ("coefficients", "coefficient_errors", "coefficient_correlations")
        fields += [(f"{xp}_n_parameters", "short", ""), *((f"{xp}_{name}", "double", arraysize) for name in arrays)]
    kinds = {"long": ">q", "short": ">h", "double": ">d"}
    stream = b""
    for row in rows:
        bits = "".join("1" if row.get(name) is None else "0" for name, *_ in fields).ljust(
            -(-len(fields) // 8) * 8, "0"
        )
        stream += int(bits, 2).to_bytes(len(bits) // 8, "big")
        for name, kind, shape in fields:
            value = row.get(name)
            if shape:
                numbers = np.asarray([] if value is None else value, ">f8")
                stream += struct.pack(">i", len(numbers)) + numbers.tobytes()
            else:
                stream += struct.pack(kinds[kind], 0 if value is None else value)
    declared = "".join(
        f'<FIELD name="{name}" datatype="{kind}"' + (f' arraysize="{shape}"' if shape else "") + "/>"
        for name, kind, shape in fields
    )
    info = f'<INFO name="RELEASE" value="{release}"/>' if release else ""
    path.write_text(
        '<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results" utype="spec:Spectrum">{info}<TABLE utype="spec:Spectrum">{declared}<DATA><BINARY2>'
        f'<STREAM encoding="base64">{base64.b64encode(stream).decode()}</STREAM></BINARY2></DATA></TABLE></RESOURCE>'
        "</VOTABLE>"
    )
    return path


def test_binary2_with_variable_arrays_nulls_and_masks(tmp_path: Path) -> None:
    columns = make(4, DR4_SIZES, missing_bp=(2,))
    rows = [{name: column[i] for name, column in columns.items()} for i in range(4)]
    for row, flags in zip(rows, (0, -32768, -1, None), strict=True):  # the highest bit set: unsigned masks in int16
        row["transit_flags"] = flags
    rows[3]["rp_coefficients"] = rows[3]["rp_coefficient_errors"] = rows[3]["rp_coefficient_correlations"] = []
    found = xpjax.read(votable(tmp_path / "dr4.vot", rows, release="Gaia DR4_RC3"))
    assert found.release is DR4
    np.testing.assert_array_equal(found.coefficients.value[0, :51], columns["bp_coefficients"][0])
    np.testing.assert_array_equal(found.coefficients.correlation[1, 1275:], columns["rp_coefficient_correlations"][1])
    assert [Status.describe(int(s)) for s in found.status] == ["OK", "OK", "BP_MISSING", "RP_MISSING"]
    assert found.columns["transit_flags"].tolist()[:3] == [0, -32768, -1]
    # The header tells where BP is missing throughout.
    for row in rows:
        row.update(dict.fromkeys(("bp_coefficients", "bp_coefficient_errors", "bp_coefficient_correlations")))
    assert xpjax.read(votable(tmp_path / "no_bp.vot", rows, release="Gaia DR4")).release is DR4


@pytest.mark.parametrize("missing", ["", "null", "nan", "[]", "()", "--"])
def test_csv_with_arrays_as_strings_and_words_for_null(tmp_path: Path, missing: str) -> None:
    columns = make(3, DR4_SIZES, missing_bp=(1,))
    plain = write_csv(tmp_path / "made.csv", columns, "[{}]").read_text().splitlines()
    plain[2] = plain[2].replace(",,,,,", f",,{missing},{missing},{missing},", 1)
    path = tmp_path / "words.csv.gz"
    path.write_bytes(gzip.compress("\n".join(plain).encode()))
    found = xpjax.read(path)
    assert found.release is DR4
    assert [Status.describe(int(s)) for s in found.status] == ["OK", "BP_MISSING", "OK"]
    np.testing.assert_array_equal(found.coefficients.value, xpjax.read(tmp_path / "made.csv").coefficients.value)


def test_arrays_tell_by_their_width() -> None:
    for release in (DR3, DR4):
        assert xpjax.xp.as_sources(np.ones((2, release.n_basis_total))).release is release
    with pytest.raises(ValueError, match=r"shape \(2, 107\), expected \(2, 110\)"):
        xpjax.xp.as_sources(np.ones((2, 107)))
