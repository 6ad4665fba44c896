"""The published systems by name, and files that are none of systems."""

from __future__ import annotations

import numpy as np
import pytest

import xpjax


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
