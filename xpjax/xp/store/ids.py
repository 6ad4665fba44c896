"""Source ids that a user names: numbers, or tables and files of them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from xpjax.core.release import Release
from xpjax.xp.wanted import wanted_ids


def as_ids(source_ids: Any, release: Release | None = None) -> np.ndarray:
    """Ids (m,), each once, of whatever `wanted_ids` takes, or of a list of files and numbers; empty cells are none.

    release: designations of another one are refused. Raises XpjaxError, and FileNotFoundError.
    """
    parts = [source_ids]
    if isinstance(source_ids, list | tuple):
        files = [isinstance(one, os.PathLike) or (isinstance(one, str) and os.path.exists(one)) for one in source_ids]
        ids = [one for one, is_file in zip(source_ids, files, strict=True) if not is_file]
        parts = [ids, *(one for one, is_file in zip(source_ids, files, strict=True) if is_file)]
    found = np.unique(np.concatenate([wanted_ids(part, release=release) for part in parts]))
    return found[found != 0]
