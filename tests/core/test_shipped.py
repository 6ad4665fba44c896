"""What xpjax ships: where it lies, and what headers say without being read as tables."""

from __future__ import annotations

from pathlib import Path

import pytest

import xpjax
from xpjax.core import shipped
from xpjax.core.shipped import filters_folder, list_passbands, shipped_passbands


def test_folder_is_found_in_a_wheel_first(tmp_path: Path) -> None:
    package = tmp_path / "xpjax"
    (package / "_filters").mkdir(parents=True)
    assert filters_folder(package) == package / "_filters"
    (package / "_filters").rmdir()
    (tmp_path / "filters").mkdir()
    assert filters_folder(package) == tmp_path / "filters"
    (tmp_path / "filters").rmdir()
    with pytest.raises(FileNotFoundError, match="reinstall xpjax"):
        filters_folder(package)


def test_the_list_says_what_the_files_say() -> None:
    listed = {one.name: one for one in list_passbands()}
    assert list(listed) == list(shipped_passbands())
    chain = listed["minisitian"]
    assert (chain.n_band, chain.kind) == (3, "chain")
    assert "stand-in" in chain.description
    sdss = xpjax.load_passbands("sdss2010")
    assert (listed["sdss2010"].n_band, listed["sdss2010"].kind) == (len(sdss), sdss["g"].meta["kind"])


def test_no_filters_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "filters_folder", lambda: tmp_path)
    assert list_passbands() == ()
