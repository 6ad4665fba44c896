"""Bytes of files as they lie on disk, plain or packed by gzip, bzip2, xz or zip; and what damage is called."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from xpjax.core.errors import XpjaxError

PACKED = (".gz", ".bz2", ".xz", ".zip")
"""Suffixes of packed files, which come after the suffix of what is in them."""
AHEAD = 1 << 23
"""Bytes that are unpacked ahead of what is worked on."""
_SIGNS = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz", b"PK\x03\x04": ".zip"}


def packing(path: Path) -> str:
    """How a file is packed, by its first bytes: one of `PACKED`, or nothing for a plain one."""
    with path.open("rb") as stream:
        start = stream.read(6)
    return next((kind for sign, kind in _SIGNS.items() if start.startswith(sign)), "")


def members(path: Path) -> list[str]:
    """Names of the files in a zip file."""
    with zipfile.ZipFile(path) as archive:
        return [info.filename for info in archive.infolist() if not info.is_dir() and "__MACOSX" not in info.filename]


def open_bytes(path: Path, member: str = "", *, ahead: bool = False) -> IO[bytes]:
    """The unpacked bytes of a file; of one of its members where it is a zip file.

    ahead: gzip is unpacked in a thread of its own, while what came before is worked on.

    Raises XpjaxError for a zip file that holds no file or several, where none is named.
    """
    kind = packing(path)
    if not kind:
        return path.open("rb")
    if kind == ".gz":
        from isal import igzip, igzip_threaded

        return igzip_threaded.open(path, "rb", threads=1, block_size=AHEAD) if ahead else igzip.open(path, "rb")
    if kind == ".bz2":
        return bz2.open(path, "rb")
    if kind == ".xz":
        return lzma.open(path, "rb")
    names = [member] if member else members(path)
    if len(names) != 1:
        raise XpjaxError(
            f"{path}: a zip file with {len(names)} files{f', {names[0]}, ...' if names else ''}; expected one: unzip "
            "it and give its files"
        )
    return zipfile.ZipFile(path).open(names[0])


@dataclasses.dataclass(frozen=True)
class File:
    """A file, or a member of a zip file."""

    path: Path
    member: str = ""

    @property
    def origin(self) -> str:
        """What messages call it."""
        return f"{self.path}[{self.member}]" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """The suffix that tells the format, in lower case."""
        return Path(self.member).suffix.lower() if self.member else plain_suffix(self.path)

    def open(self, *, ahead: bool = False) -> IO[bytes]:
        """Its unpacked bytes."""
        return open_bytes(self.path, self.member, ahead=ahead)

    def source(self) -> Any:
        """The path of a plain file, or the unpacked bytes in memory: what libraries take."""
        if not packing(self.path):
            return self.path
        with self.open() as stream:
            return io.BytesIO(stream.read())


def plain_suffix(path: Path) -> str:
    """The suffix that tells the format, in lower case and without what tells the packing: `.csv` of `A.b.CSV.gz`."""
    name = path.name.lower()
    packed = next((suffix for suffix in PACKED if name.endswith(suffix)), "")
    return Path(name.removesuffix(packed)).suffix


def check_file(path: Path) -> None:
    """Raise FileNotFoundError or XpjaxError for what is no file, is empty, or is not packed as it is called."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise XpjaxError(f"{path}: is a directory; pass the files in it, as a list")
    if path.stat().st_size == 0:
        raise XpjaxError(f"{path}: the file is empty; download it again")
    if path.name.lower().endswith(".gz") and packing(path) != ".gz":
        raise XpjaxError(f"{path}: not a gzip file; download it again, or drop .gz from its name if it is plain")


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Damaged files raise nearly anything from the libraries that read them: say which file, and what to do."""
    try:
        yield
    except (XpjaxError, MemoryError):
        raise
    except EOFError as error:
        raise XpjaxError(f"{path}: the file is {_damage(path)}; download it again ({error})") from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise XpjaxError(f"{path}: the file is corrupt; download it again ({error})") from error
    except Exception as error:
        detail = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise XpjaxError(
            f"{path}: can't be read as {kind}; download it again, or mend its suffix ({detail})"
        ) from error


def _damage(path: Path) -> str:
    """What is wrong with a file that ends too early: corrupt, where a whole gzip stream has something after it."""
    stream = zlib.decompressobj(31)
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return "truncated"
        file.seek(0)
        try:
            while not stream.eof and (block := file.read(1 << 16)):
                stream.decompress(block)
        except zlib.error:
            return "corrupt"
    return "corrupt" if stream.eof else "truncated"


def text_of(path: Path) -> str:
    """All of a text file, unpacked; UTF-8, UTF-16 with its mark, or Latin-1. For small files.

    Raises XpjaxError for a damaged packed file.
    """
    packing(path)  # what is not there, or may not be read, is told by the system
    with reading(path, "text"), open_bytes(path) as stream:
        data = stream.read()
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def text_lines(stream: IO[bytes]) -> io.TextIOWrapper:
    """Lines of unpacked bytes as text; what is not UTF-8 is replaced."""
    return io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
