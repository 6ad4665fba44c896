"""Spectra of the archive (DataLink): what is asked, in which spelling, and what an answer means."""

from __future__ import annotations

import dataclasses
import io
import threading
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xpjax.core.archive import STRUCTURES, Archive
from xpjax.core.errors import XpjaxError
from xpjax.io.streams import File
from xpjax.xp.download.cache import Cache
from xpjax.xp.download.request import BUSY, Client, Refused, error_text
from xpjax.xp.read.archive import read
from xpjax.xp.read.loaders import files_of
from xpjax.xp.sources import SourceTable, XPCoefficients

FORMATS = ("csv", "votable")
"""FORMAT of a request, as tried in turn: text is read fastest."""
FEWEST = 100
"""Ids of a request that is not halved where the archive fails on it."""
FEW = 5
"""Ids of a request by which a spelling is found."""
ROUNDS = 4
"""Rounds through the spellings, with growing pauses between them, until a request is given up."""

Spelling = tuple[str, str, str]
"""Product, structure and format of a request."""


@dataclasses.dataclass
class Datalink:
    """Ask for the spectra of one product of one release; the spelling that the archive takes is remembered."""

    client: Client
    archive: Archive
    product: str
    cache: Cache

    def __post_init__(self) -> None:
        self.spelling: Spelling | None = None
        self._lock = threading.Lock()

    def fetch(self, ids: np.ndarray) -> list[SourceTable]:
        """The sources that the archive has of these ids (n,), at most `core.archive.MOST_IDS`; empty for none.

        Where the archive, which has answered before, fails on a request again and again, its halves are asked for.
        Raises Refused and Unreachable.
        """
        try:
            found = self._ask(ids)
        except Refused:
            if self.spelling is None or len(ids) <= FEWEST:
                raise
            half = len(ids) // 2
            return self.fetch(ids[:half]) + self.fetch(ids[half:])
        return [] if found is None else [found]

    def _ask(self, ids: np.ndarray) -> SourceTable | None:
        if self.spelling is None and len(ids) > FEW:
            self._ask(ids[:FEW])  # little is asked for until it is known how
        failures: dict[Spelling, Refused | _Unreadable] = {}
        # Numbers of other columns have other digits in another format: one that was taken once is that of all.
        for kind in FORMATS if self.spelling is None else self.spelling[2:]:
            for k in range(ROUNDS):
                if k:
                    self.client.pause(k - 1)
                answered, found = self._round(ids, kind, k, failures)
                if answered:
                    return found
                if (k or self.spelling is None) and all(error.final for error in failures.values()):
                    break
        told = "; ".join(f"{' '.join(spelling)}: {error}" for spelling, error in [*failures.items()][:4])
        raise Refused(
            f"{self.client.host} gives no spectra of {len(ids):,} sources of {self.archive.label}: {told}; try again "
            "later, or download the spectra by hand and read the file"
        )

    def _round(
        self, ids: np.ndarray, kind: str, k: int, failures: dict[Spelling, Refused | _Unreadable]
    ) -> tuple[bool, SourceTable | None]:
        """Whether the archive answers in one of the spellings, and the sources in the answer; k: the round."""
        empty = False
        for spelling in self._spellings(kind, every=k > 0):
            try:
                # A fault may be of the spelling: the next one is tried before this one is again.
                reply = self.client.post("data-server/data", self._form(ids, spelling), again=BUSY)
                found = self._table(reply.body, ids)
            except (Refused, _Unreadable) as error:
                failures[spelling] = error
                continue
            if found is None and spelling != self.spelling:
                empty = True  # there are none, or the archive says nothing of a product that it does not know
                continue
            with self._lock:
                self.spelling = spelling
            return True, found
        return empty, None

    def _spellings(self, kind: str, every: bool) -> Sequence[Spelling]:
        """The spelling that was taken, then, where every one is wanted or none was taken yet, all others."""
        products = getattr(self.archive, self.product)
        known = [(name, structure, kind) for name in products for structure in STRUCTURES]
        with self._lock:
            taken = [self.spelling] if self.spelling else []
        return taken + [one for one in known if one not in taken] if every or not taken else taken

    def _form(self, ids: np.ndarray, spelling: Spelling) -> dict[str, str]:
        name, structure, kind = spelling
        return {
            "VALID_DATA": "false",
            "ID": ",".join(map(str, ids.tolist())),
            "RELEASE": self.archive.label,
            "DATA_STRUCTURE": structure,
            "FORMAT": kind,
            "RETRIEVAL_TYPE": name,
            "USE_ZIP_ALWAYS": "true",  # a zip file has checksums
        }

    # --- answers

    def _table(self, body: bytes, ids: np.ndarray) -> SourceTable | None:
        """The sources in an answer that were asked for; None where there are none.

        Raises _Unreadable for what holds no spectra, with what it says.
        """
        suffix = _suffix(body)
        if not suffix:
            return None
        with self.cache.scratch() as folder:
            path = folder / f"reply{suffix}"
            path.write_bytes(body)
            try:
                table = self.client.at_home(lambda: self._read(path))
            except (XpjaxError, OSError) as error:
                text = str(error).replace(f"{folder}/", "")
                raise _Unreadable(f"the answer is not as expected: {text}") from error
        if table is None:
            return None
        rows = np.flatnonzero(np.isin(table.source_id, ids))
        if not table.is_epoch:  # a source that is there twice is taken once
            rows = rows[np.sort(np.unique(table.source_id[rows], return_index=True)[1])]
        return _exact(table[rows]) if len(rows) else None

    def _read(self, path: Path) -> SourceTable | None:
        """The sources of a file, or of all that are packed in it."""
        files = files_of(path)
        table = read(_unpacked(files, path.parent) if len(files) > 1 else path, release=self.archive.release)
        return table if len(table) else None


class _Unreadable(Exception):
    """An answer without spectra in it; final: whether it was whole, so that it would be the same again."""

    def __init__(self, message: str, *, final: bool = True) -> None:
        super().__init__(message)
        self.final = final


def _suffix(body: bytes) -> str:
    """The suffix of a file of these bytes, empty where there is nothing in it.

    Raises _Unreadable for a zip file that is damaged, and for a document in the place of data.
    """
    start = body[:4000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return ""
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                damaged = archive.testzip()
                n_member = len(archive.infolist())
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _Unreadable(f"a damaged zip file ({error})", final=False) from error
        if damaged:
            raise _Unreadable(f"a damaged zip file ({damaged})", final=False)
        return ".zip" if n_member else ""
    if start.startswith(b"<"):
        if b"<VOTABLE" in start.upper() or b":VOTABLE" in start.upper():
            return ".vot"
        raise _Unreadable(error_text(body))
    if start[:1] in (b"{", b"["):
        raise _Unreadable(error_text(body))
    known = {b"SIMPLE": ".fits", b"\x1f\x8b": ".csv.gz", b"# %ECSV": ".ecsv", b"PAR1": ".parquet"}
    return next((suffix for sign, suffix in known.items() if start.startswith(sign)), ".csv")


def _unpacked(files: Sequence[File], folder: Path) -> list[Path]:
    """The members of a zip file as files; of text, which may be thousands, one for all that have the same header."""
    out: dict[bytes, Path] = {}
    with zipfile.ZipFile(files[0].path) as archive:  # once for all
        for k, file in enumerate(files):
            body = archive.read(file.member)
            header, line_break, rows = body.partition(b"\n")
            alike = file.suffix == ".csv" and not header.startswith(b"#") and line_break
            key = header.strip() if alike else str(k).encode()
            text = rows if key in out else body
            out.setdefault(key, folder / f"{len(out)}{file.suffix}")
            with out[key].open("ab") as stream:
                stream.write(text if not alike or text.endswith(b"\n") or not text else text + b"\n")
    return [*out.values()]


def _exact(table: SourceTable) -> SourceTable:
    """Errors and correlations in single precision, which the archive has, where text was read as double."""
    c = table.coefficients
    error, correlation = (None if a is None else np.asarray(a, np.float32) for a in (c.error, c.correlation))
    single = XPCoefficients(c.value, error, correlation, c.n_relevant, c.release)
    return dataclasses.replace(table, coefficients=single)
