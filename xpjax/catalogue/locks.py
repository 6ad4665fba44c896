"""Locks of runs, and records that are whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from xpjax.core.errors import XpjaxError
from xpjax.io.atomic import write_bytes
from xpjax.io.hdf5 import NO_LOCKS, locks_wanted

_REMEDY = "remove the file if another program wrote it, or begin another output"


class Busy(XpjaxError):
    """Another run works on the same output."""


class NoLocks(XpjaxError):
    """The file system of the output has no locks, and the user has not said that none are needed."""


@contextlib.contextmanager
def flock(path: Path, *, wait: bool = False, note: bool = True) -> Iterator[IO[str]]:
    """Hold a lock that goes with the process. Raises Busy where another process has it, NoLocks where there are none.

    HDF5_USE_FILE_LOCKING=FALSE in the environment says to go on without locks there.
    """
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise Busy(
                f"{path.parent.parent}: another run is at work on this output ({holder}); wait for it, or stop it"
            ) from None
        except OSError as exc:
            if exc.errno not in NO_LOCKS:
                raise
            if locks_wanted():
                raise NoLocks(
                    f"{path}: the file system has no locks; set HDF5_USE_FILE_LOCKING=FALSE to go on without them, and "
                    "start no second run on the same units, or choose an output on another disk"
                ) from exc
        if note:
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
        yield handle


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all."""
    write_bytes(path, json.dumps(record).encode())


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """A record, empty where there is none. Raises XpjaxError for a file that is none or is without these keys."""
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise XpjaxError(f"{path}: no record of a catalogue run ({error}); {_REMEDY}") from error
    absent = [key for key in keys if key not in record] if isinstance(record, dict) else [*keys]
    if absent or not isinstance(record, dict):
        raise XpjaxError(f"{path}: no record of a catalogue run (without {', '.join(absent) or 'entries'}); {_REMEDY}")
    return record
