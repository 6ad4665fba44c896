"""Published systems: names, bands, stacking and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest

import xpjax
from xpjax.core.release import Release
from xpjax.synthetic.system import from_projection, select_bands, stack


def test_names_are_found_in_any_case() -> None:
    for name in ("JPLUS", "jplus", "Jplus", "Gaia_DR3_Vega", "gaiadr3vega"):
        assert xpjax.load_system(name).labels[0] in ("Jplus", "GaiaDr3Vega")


def test_unknown_names_list_close_ones() -> None:
    with pytest.raises(ValueError, match="did you mean JPLUS"):
        xpjax.load_system("JPLS")
    with pytest.raises(ValueError, match="known: "):
        xpjax.load_system("???")
    with pytest.raises(ValueError, match="at least one"):
        xpjax.load_system()


def test_bands_may_be_chosen() -> None:
    part = xpjax.load_system("JPLUS:J0515,uJAVA")
    whole = xpjax.load_system("JPLUS")
    assert part.names == ("J0515", "uJAVA")
    np.testing.assert_array_equal(part.projection, whole.projection[:, [6, 0]])
    np.testing.assert_array_equal(part.error_correction.factor, whole.error_correction.factor[:, [6, 0]])
    with pytest.raises(ValueError, match="no band 'x'"):
        xpjax.load_system("JPLUS:x")
    with pytest.raises(ValueError, match=r"needs \['B', 'V'\]"):
        xpjax.load_system("JKC_Std:U")
    assert xpjax.load_system("JKC_Std:V,U,B").color_equations[0].band == 1


def test_the_broken_band_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Halpha01nm of HalphaCustomAb is refused.*2e61"):
        xpjax.load_system("Halpha_Custom_AB:Halpha01nm")


def test_stacking_keeps_everything() -> None:
    parts = [xpjax.load_system("SDSS"), xpjax.load_system("DECam"), xpjax.load_system("JKC_Std")]
    both = stack(parts)
    assert both.columns == sum((p.columns for p in parts), ())
    assert both.color_equations[0].band == 10
    factor = both.error_correction.factor
    assert np.all(factor[:, 5:10] == 1)  # DECam has no table
    assert np.any(factor[:, :5] != 1)
    with pytest.raises(ValueError, match="twice"):
        xpjax.load_system("SDSS", "sdss")


def test_projection_must_fit_the_release() -> None:
    release = Release("DR4-like", (51, 55))
    with pytest.raises(ValueError, match=r"expected \(106, 1\)"):
        from_projection(np.zeros((110, 1)), np.zeros(1), ("x",), "Made", release)
    with pytest.raises(ValueError, match="not finite"):
        from_projection(np.full((106, 1), np.nan), np.zeros(1), ("x",), "Made", release)
    other = from_projection(np.ones((106, 1)), np.zeros(1), ("x",), "Made", release)
    with pytest.raises(ValueError, match="different releases"):
        stack([other, xpjax.load_system("SDSS")])
    assert select_bands(other, ["x"]).names == ("x",)


def test_scaling_changes_no_digit() -> None:
    import h5py

    from xpjax.xp.instrument import DATA

    system = xpjax.load_system("SDSS")
    with h5py.File(DATA / "systems_dr3.h5") as file:
        np.testing.assert_array_equal(system.projection * system.scale, file["Sdss/projection"][()])
        assert file.attrs["source_version"] == "2.1.5"
        assert "BSD-3-Clause" in file.attrs["source_licence"]


def test_other_files_are_refused_by_name(tmp_path) -> None:
    import h5py

    (tmp_path / "junk.h5").write_bytes(b"junk")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name in ("junk.h5", "other.h5"):
        with pytest.raises(ValueError, match=rf"{name} is no xpjax system file"):
            xpjax.load_system(str(tmp_path / name))
        with pytest.raises(ValueError, match=rf"{name} is no xpjax instrument file"):
            xpjax.load_instrument(path=tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no system file"):
        xpjax.load_system(str(tmp_path / "absent.h5"))
    with pytest.raises(ValueError, match="no instrument model 'x'"):
        xpjax.load_instrument("x")


def test_band_lists_are_checked() -> None:
    with pytest.raises(ValueError, match="names no band"):
        xpjax.load_system("JPLUS:")
    with pytest.raises(ValueError, match="twice"):
        xpjax.load_system("JPLUS:J0515,J0515")
