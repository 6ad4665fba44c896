"""Libraries of model spectra: each format as its makers write it; what is wrong with a file is said by its place."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from xpjax.stellar.libraries import FORMATS, read_library
from xpjax.stellar.libraries.library import ModelSpectra, to_vacuum

WAVE = np.linspace(300.0, 1100.0, 81)


def spectrum(teff: float, logg: float, mh: float) -> np.ndarray:
    """Positive, and another for each label."""
    return teff / 5000 * np.exp(-(WAVE - 600) / 400) + 0.1 * logg * (WAVE / 600) + 0.05 * (mh + 3)


def collected(parts: list[ModelSpectra]) -> dict[tuple[float, ...], np.ndarray]:
    return {tuple(row.tolist()): flux for part in parts for row, flux in zip(part.labels, part.flux, strict=True)}


def test_air_to_vacuum() -> None:
    """The sodium D lines, in standard air and in vacuum, of NIST's Atomic Spectra Database."""
    air, vacuum = np.array([588.9950954, 589.5924237]), np.array([589.1583264, 589.7558147])
    assert np.allclose(to_vacuum(air), vacuum, rtol=2e-8, atol=0)
    assert not np.allclose(air, vacuum, rtol=1e-4, atol=0)
    assert to_vacuum(np.array([150.0]))[0] == 150.0


# --- Castelli & Kurucz ------------------------------------------------------------------------------------------------


def write_ck04(folder: Path, teff: int, mh: float, loggs: tuple[float, ...], packed: bool = False) -> Path:
    stem = f"ck{'m' if mh < 0 else 'p'}{round(abs(mh) * 10):02}"
    (folder / stem).mkdir(exist_ok=True, parents=True)
    columns = [fits.Column("WAVELENGTH", "1E", "ANGSTROM", array=10 * WAVE)]
    for k in range(0, 51, 5):
        flux = spectrum(teff, k / 10, mh) if k / 10 in loggs else np.zeros(len(WAVE))
        columns.append(fits.Column(f"g{k:02}", "1E", "FLAM", array=flux))
    primary = fits.PrimaryHDU()
    primary.header.update({"TEFF": teff, "LOG_Z": mh})
    path = folder / stem / f"{stem}_{teff}.fits{'.gz' if packed else ''}"
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns)]).writeto(path)
    return path


def test_ck04(tmp_path: Path) -> None:
    write_ck04(tmp_path, 5000, -0.5, (4.0, 4.5))
    write_ck04(tmp_path, 5250, 0.2, (4.5,), packed=True)
    library = read_library("ck04", tmp_path)
    found = collected(list(library))
    assert library.names == ("teff", "logg", "mh")
    assert set(found) == {(5000.0, 4.0, -0.5), (5000.0, 4.5, -0.5), (5250.0, 4.5, 0.2)}
    for labels, flux in found.items():
        assert np.allclose(flux, spectrum(*labels), rtol=1e-6)
    (first, *_) = library
    assert np.allclose(first.wavelength, WAVE, rtol=1e-6)
    assert np.allclose(first.variance, 10.0**2 / 12, rtol=1e-3)
    assert len(library.checksum()) == 64
    assert set(collected(list(read_library("ck04", tmp_path, limits={"logg": (4.2, None)})))) == set(found) - {
        (5000.0, 4.0, -0.5)
    }
    assert not list(read_library("ck04", tmp_path, limits={"teff": (6000, 7000)}))


def test_ck04_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no models: no file such as ckp00_5750"):
        read_library("ck04", tmp_path)
    path = write_ck04(tmp_path, 5000, 0.0, (4.5,))
    whole = path.read_bytes()
    path.write_bytes(whole[:4000])
    with pytest.raises(ValueError, match=r"ckp00_5000.fits: no data; download it again"):
        list(read_library("ck04", tmp_path))
    fits.BinTableHDU.from_columns([fits.Column("g00", "1E", array=WAVE)]).writeto(path, overwrite=True)
    with pytest.raises(ValueError, match=r"ckp00_5000.fits: no Castelli & Kurucz table: expected keywords TEFF"):
        list(read_library("ck04", tmp_path))


def test_ck04_is_castelli_and_kurucz(shared: Callable[[str], Path]) -> None:
    """2712 models at 312 temperatures and metallicities; the flux of one integrates to sigma T^4 to a percent."""
    from scipy.constants import Stefan_Boltzmann

    library = read_library("ck04", shared("grids/ck04"))
    assert len(library.files) == 312
    (solar,) = read_library("ck04", shared("grids/ck04/ckp00"), limits={"teff": (5750, 5750), "logg": (4.5, 4.5)})
    # erg s-1 cm-2 A-1 over nm: 1e-3 W m-2 A-1, 10 A to the nm.
    total = np.trapezoid(solar.flux[0], solar.wavelength) * 1e-3 * 10
    assert total == pytest.approx(Stefan_Boltzmann * 5750**4, rel=0.01)


# --- NextGen ----------------------------------------------------------------------------------------------------------


def write_nextgen(path: Path, labels: np.ndarray, nlte: np.ndarray | None = None, **changes: np.ndarray) -> Path:
    data = {
        "teff": labels[:, 0].astype(np.int32),
        "logg": labels[:, 1].astype(np.float32),
        "mh": labels[:, 2].astype(np.float32),
        "wave_nm": WAVE,
        "flux": np.stack([spectrum(*row) for row in labels]),
    }
    np.savez(path, **data | ({} if nlte is None else {"nlte": nlte}) | changes)
    return path


def test_nextgen(tmp_path: Path) -> None:
    labels = np.array([[5000, 4.5, -1.3], [5000, 4.5, -0.0], [9000, 4.0, -2.0], [9000, 4.0, -2.0]])
    path = write_nextgen(tmp_path / "g.npz", labels, np.array([False, False, False, True]))
    (lte,), (nlte,) = read_library("nextgen", path), read_library("nextgen", path, nlte=True)
    assert lte.labels.tolist() == [[5000, 4.5, -1.3], [5000, 4.5, 0], [9000, 4.0, -2.0]]
    assert nlte.labels.tolist() == [[9000, 4.0, -2.0]]
    assert np.array_equal(lte.flux[0], spectrum(5000, 4.5, -1.3))
    limits = {"mh": (-2.0, 0.0, 1.0)}
    assert [part.labels[:, 2].tolist() for part in read_library("nextgen", path, limits=limits)] == [[0, -2]]
    with pytest.raises(ValueError, match=r"g.npz: no label alpha to limit; the library has teff, logg, mh"):
        read_library("nextgen", path, limits={"alpha": (0, 1)})
    with pytest.raises(ValueError, match="a step needs a lower limit"):
        list(read_library("nextgen", path, limits={"mh": (None, 0, 0.5)}))


def test_nextgen_that_is_none(tmp_path: Path) -> None:
    labels = np.array([[5000, 4.5, 0.0], [6000, 4.5, 0.0]])
    bad = np.stack([spectrum(*row) for row in labels])
    bad[1, 7] = np.nan
    with pytest.raises(ValueError, match=r"b.npz: the flux of the model \(6000, 4.5, 0\) is nan at sample 8; mend"):
        list(read_library("nextgen", write_nextgen(tmp_path / "b.npz", labels, flux=bad)))
    with pytest.raises(ValueError, match="flux has shape"):
        read_library("nextgen", write_nextgen(tmp_path / "c.npz", labels, flux=bad[:1]))
    with pytest.raises(ValueError, match=r"the wavelengths do not ascend: sample 1 is 1, sample 2 1;"):
        list(read_library("nextgen", write_nextgen(tmp_path / "d.npz", labels, wave_nm=np.ones(81))))
    (tmp_path / "e.npz").write_text("teff")
    with pytest.raises(ValueError, match=r"e.npz: can't be read as an .npz file with teff, logg"):
        read_library("nextgen", tmp_path / "e.npz")


# --- FERRE ------------------------------------------------------------------------------------------------------------

TEFF, LOGG, MH = (5000.0, 5250.0), (4.0, 4.5, 5.0), (-1.0, 0.0)
HEADER = """ &SYNTH
 SYNTHFILE_INTERNAL = 'made = here'
 N_OF_DIM = 3
 N_P = 2 3 2
 NPIX = {npix}
 LABEL(1) = 'METALS'
 LABEL(2) = 'TEFF'
 LABEL(3) = 'LOGG'
 LLIMITS = -1.0, 5000. 4.0
 STEPS = 1.0 2.5D2 0.5
 WAVE = {wave}
 LOGW = {logw}
 {more}
 /
"""
SCALES = {0: lambda x: x, 1: np.log10, 2: np.log}


def ferre_lines(flux: Callable[..., np.ndarray] = spectrum) -> list[str]:
    """[M/H] slowest, log g fastest."""
    return [
        " ".join(f"{x:.9e}" for x in flux(teff, logg, mh))
        for mh, teff, logg in ((m, t, g) for m in MH for t in (5000.0, 5250.0, 5500.0) for g in (4.0, 4.5))
    ]


def write_ferre(path: Path, logw: int = 0, more: str = "VACUUM = 1", lines: list[str] | None = None) -> Path:
    x = SCALES[logw](10 * WAVE[[0, -1]])
    step = (x[1] - x[0]) / (len(WAVE) - 1)
    header = HEADER.format(npix=len(WAVE), wave=f"{x[0]:.15g} {step:.15g}", logw=logw, more=more)
    text = header + "\n".join(ferre_lines() if lines is None else lines) + "\n"
    (path.write_bytes(gzip.compress(text.encode())) if path.suffix == ".gz" else path.write_text(text))
    return path


@pytest.mark.parametrize("logw", [0, 1, 2])
def test_ferre(tmp_path: Path, logw: int) -> None:
    path = write_ferre(tmp_path / f"g.dat{'.gz' if logw else ''}", logw, "VACUUM=1\n RESOLUTION = 1000.")
    library = read_library("ferre", path)
    assert library.names == ("mh", "teff", "logg")
    (part,) = library
    found = collected([part])
    assert len(found) == 12
    assert np.allclose(found[(0.0, 5500.0, 4.5)], spectrum(5500, 4.5, 0.0))
    expected = np.geomspace(300, 1100, 81) if logw else WAVE
    assert np.allclose(part.wavelength, expected, rtol=1e-12)
    assert np.allclose(np.sqrt(part.variance) * np.sqrt(8 * np.log(2)), expected / 1000)
    (part,) = read_library("ferre", path, limits={"teff": (5100, None), "mh": (0, 0)})
    assert set(collected([part])) == {(0.0, t, g) for t in (5250.0, 5500.0) for g in (4.0, 4.5)}


def test_ferre_headers_of_segments_holes_and_air(tmp_path: Path) -> None:
    lines = ferre_lines()
    lines[3] = " ".join(["-999"] * len(WAVE))
    lines[4] = " ".join(["0"] * len(WAVE))
    path = write_ferre(tmp_path / "g.dat", more="MULTI = 2\n INVALID_CODE = -999.\n LABEL = 3*'x'", lines=[])
    step = 10 * (WAVE[1] - WAVE[0])
    segments = "".join(
        f" &SYNTH\n NPIX = {n}\n WAVE = {10 * WAVE[first]} {step}\n LOGW = 0\n VACUUM = 0\n /\n"
        for first, n in ((0, 30), (30, 51))
    )
    path.write_text(path.read_text().replace(" LABEL = 3*'x'\n", "") + segments + "\n".join(lines))
    library = read_library("ferre", path)
    (part,) = library
    assert len(part.flux) == 10
    assert "in air" in library.origin
    assert np.allclose(part.wavelength, to_vacuum(WAVE), rtol=1e-12)
    (part,) = read_library("ferre", path, medium="air", per="frequency")
    assert np.allclose(part.flux[0] * to_vacuum(WAVE) ** 2, spectrum(5000, 4.0, -1.0))
    with pytest.raises(ValueError, match=r"g.dat: VACUUM = 0 contradicts medium='vacuum'"):
        read_library("ferre", path, medium="vacuum")
    path.write_text(path.read_text().replace("VACUUM = 0", "VACUUM = 1", 1))
    with pytest.raises(ValueError, match=r"g.dat: VACUUM = 1 contradicts VACUUM = 0"):
        read_library("ferre", path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace("&SYNTH", "SYNTH"), r"line 1: expected the header &SYNTH .*found ' SYNTH"),
        (lambda s: s.replace(" /\n", ""), "line 1: the header &SYNTH does not end with a line /"),
        (lambda s: s.replace(" N_P = 2 3 2\n", ""), "the header has no N_P; add it"),
        (lambda s: s.replace("N_P = 2 3 2", "N_P = 2 3"), "N_P has 2 values, and N_OF_DIM is 3"),
        (lambda s: s.replace("N_P = 2 3 2", "N_P = 2 3 3"), "ends after line 26, before the last node of N_P; fetch"),
        (lambda s: s.replace("N_P = 2 3 2", "N_P = 2 3 1"), "more lines than the 6 nodes"),
        (lambda s: s.replace("N_P = 2 3 2", "N_P = 2 x 2"), "line 4: N_P = 2 x 2: expected numbers"),
        (lambda s: s.replace("VACUUM = 1", ""), r"does not say \(VACUUM\) whether wavelengths are in air; pass medium"),
        (lambda s: s.replace("VACUUM = 1", "VACUUM = 1\n NPCA = 5 5"), "NPCA grids are not read"),
        (lambda s: s.replace(" WAVE", " WAVES"), "the header has no WAVE = start step"),
        (lambda s: s.replace("\n" + s.splitlines()[16], "\n1 2 3"), "line 17: 3 values, but NPIX is 81"),
        (lambda s: s.replace("e+00", "e+0x", 1), "line 15: a value that is no number"),
    ],
)
def test_ferre_that_is_none(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = write_ferre(tmp_path / "g.dat")
    text = path.read_text()
    changed = change(text)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(ValueError, match=message) as caught:
        list(read_library("ferre", path))
    assert "g.dat" in str(caught.value)


# --- a file for each spectrum -----------------------------------------------------------------------------------------


def test_text_files_by_name(tmp_path: Path) -> None:
    for teff, logg, mh in ((5000, 4.5, -0.5), (12000, 4.0, 0.25)):
        name = f"amm{'m' if mh < 0 else 'p'}{round(abs(mh) * 100):03}t{teff}g{round(10 * logg)}v20.txt"
        rows = [f"{10 * x:.6f}, {y:.9e}" for x, y in zip(WAVE, spectrum(teff, logg, mh), strict=True)]
        (tmp_path / name).write_text("# wavelength, flux\n" + "\n".join(rows))
    (tmp_path / "readme.txt").write_text("about")
    options = {"pattern": "amm{mh/100}t{teff}g{logg/10}*.txt", "unit": "Angstrom", "medium": "air"}
    library = read_library("files", tmp_path, **options)
    found = collected(list(library))
    assert library.names == ("mh", "teff", "logg")
    assert set(found) == {(-0.5, 5000.0, 4.5), (0.25, 12000.0, 4.0)}
    assert np.allclose(found[(-0.5, 5000.0, 4.5)], spectrum(5000, 4.5, -0.5))
    (first, _) = library
    assert np.allclose(first.wavelength, to_vacuum(WAVE), rtol=1e-8)
    assert len(list(read_library("files", tmp_path, limits={"teff": (0, 6000)}, **options))) == 1
    with pytest.raises(ValueError, match="no unit of wavelengths; pass unit="):
        list(read_library("files", tmp_path, **{**options, "unit": None}))
    with pytest.raises(
        ValueError, match=r"ammm050t.*txt: the file does not say whether wavelengths are in air; pass medium"
    ):
        read_library("files", tmp_path, pattern=options["pattern"], unit="nm")
    with pytest.raises(ValueError, match="no file name is like the pattern"):
        read_library("files", tmp_path, pattern="x{teff}", medium="air")
    with pytest.raises(ValueError, match="name each once"):
        read_library("files", tmp_path, medium="air")
    (tmp_path / "ammp000t6000g40v20.txt").write_text("3000, 1\n3100, x\n")
    with pytest.raises(ValueError, match=r"ammp000t6000g40v20.txt: line 2: expected numbers, found '3100  x'; mend it"):
        list(read_library("files", tmp_path, **options))


def test_fits_tables_by_keyword(tmp_path: Path) -> None:
    for k, (teff, logg) in enumerate(((5000, 4.5), (6000, 4.0))):
        columns = [
            fits.Column("Flux", "1D", array=spectrum(teff, logg, 0)[::-1]),
            fits.Column("Wavelength", "1D", "Angstrom", array=10 * WAVE[::-1]),
        ]
        table = fits.BinTableHDU.from_columns(columns)
        table.header.update({"TEFF": teff, "LOGG": logg})
        table.writeto(tmp_path / f"{k}.fits")
    keywords = {"teff": "TEFF", "logg": "LOGG"}
    options = {"keywords": keywords, "medium": "vacuum", "own_resolution": 500.0}
    parts = list(read_library("files", tmp_path, **options))
    assert np.allclose(collected(parts)[(6000.0, 4.0)], spectrum(6000, 4.0, 0))
    assert np.allclose(parts[0].wavelength, WAVE)
    assert np.all(np.diff(parts[0].variance) > 0)
    with pytest.raises(ValueError, match=r"0.fits: the keyword FEH is not there, expected a number"):
        list(read_library("files", tmp_path, keywords={"mh": "FEH"}, medium="vacuum"))


def test_fits_images_with_wavelengths_apart(tmp_path: Path) -> None:
    """As the Goettingen PHOENIX library has it; and with an axis in the header."""
    home = tmp_path / "Z-0.0"
    home.mkdir()
    for teff, logg, mh in ((5000, 4.5, "-0.0"), (5100, 4.5, "+0.5")):
        image = fits.PrimaryHDU(spectrum(teff, logg, float(mh)).astype(">f4"))
        image.writeto(home / f"lte{teff:05}-{logg:.2f}{mh}.PHOENIX-ACES.fits")
    waves = tmp_path / "WAVE.fits"
    fits.PrimaryHDU(10 * WAVE).writeto(waves)
    options = {"pattern": "lte{teff}-{logg}{mh}.PHOENIX*", "medium": "vacuum"}
    library = read_library("files", tmp_path, wavelengths=waves, unit="Angstrom", **options)
    assert set(collected(list(library))) == {(5000.0, 4.5, 0.0), (5100.0, 4.5, 0.5)}
    assert np.allclose(next(iter(library)).wavelength, WAVE)
    with pytest.raises(ValueError, match=r"an image without an axis \(CRVAL1, CDELT1\); pass wavelengths="):
        list(read_library("files", tmp_path, unit="Angstrom", **options))
    for file in home.iterdir():
        with fits.open(file, mode="update") as hdus:
            hdus[0].header.update({"CRVAL1": WAVE[0], "CDELT1": WAVE[1] - WAVE[0], "CUNIT1": "nm"})
    (first, _) = read_library("files", home, **options)
    assert np.allclose(first.wavelength, WAVE)
    with pytest.raises(FileNotFoundError, match=r"none\.fits: no such file"):
        read_library("files", home, wavelengths=tmp_path / "none.fits", unit="nm", **options)


def test_formats(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"choose one of {', '.join(FORMATS)}"):
        read_library("bosz", tmp_path)
    with pytest.raises(FileNotFoundError):
        read_library("ck04", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"format ck04: got an unexpected keyword argument 'nlte'"):
        read_library("ck04", tmp_path, nlte=True)
