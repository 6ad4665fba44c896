"""Files as they lie on disk: packed or plain, whole or damaged."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pytest

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import File, check_file, members, packing, plain_suffix, reading, text_of

TEXT = "name,value\nVega,0.03\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {kind: tmp_path / f"a.csv{kind}" for kind in ("", ".gz", ".bz2", ".xz", ".zip")}
    paths[""].write_text(TEXT)
    for kind, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        paths[kind].write_bytes(pack(TEXT.encode()))
    with zipfile.ZipFile(paths[".zip"], "w") as archive:
        archive.writestr("a.csv", TEXT)
    return paths


@pytest.mark.parametrize("kind", ["", ".gz", ".bz2", ".xz", ".zip"])
def test_every_packing_is_read(files: dict[str, Path], kind: str) -> None:
    path = files[kind]
    assert packing(path) == kind
    assert plain_suffix(path) == ".csv"
    assert text_of(path) == TEXT
    with File(path).open(ahead=True) as stream:
        assert stream.read() == TEXT.encode()
    check_file(path)


def test_members_of_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("one.csv", "two.CSV", "__MACOSX/one.csv"):
            archive.writestr(name, TEXT)
    assert members(tmp_path / "a.zip") == ["one.csv", "two.CSV"]
    file = File(tmp_path / "a.zip", "two.CSV")
    assert (file.suffix, file.origin) == (".csv", f"{tmp_path / 'a.zip'}[two.CSV]")
    with pytest.raises(XpjaxError, match=r"a zip file with 2 files, one\.csv, \.\.\.; expected one"):
        File(tmp_path / "a.zip").open()


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\u00c5ngstr\u00f6m".encode("latin-1"))
    (tmp_path / "b.txt").write_bytes("\ufeffname".encode())
    assert [text_of(tmp_path / name) for name in ("a.txt", "b.txt")] == ["\u00c5ngstr\u00f6m", "name"]


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "plain.gz").write_text(TEXT)
    for name, message in ((".", "is a directory"), ("empty", "the file is empty"), ("plain.gz", "not a gzip file")):
        with pytest.raises(XpjaxError, match=message):
            check_file(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        check_file(tmp_path / "none")


@pytest.mark.parametrize(("cut", "said"), [(-6, "truncated"), (None, "corrupt")])
def test_damage_is_named(files: dict[str, Path], cut: int | None, said: str) -> None:
    packed = files[".gz"].read_bytes()
    files[".gz"].write_bytes(packed[:cut] if cut else packed[:15] + b"\xff" * 8 + packed[23:])
    refused = pytest.raises(XpjaxError, match=rf"a\.csv\.gz: .*{said}.*download it again")
    with refused, reading(files[".gz"], "text"), gzip.open(files[".gz"]) as stream:
        stream.read()
