"""Fetch in children of a process that has everything imported: they start quickly, and may be killed.

Each line of the input is a JSON object: `options` of `xpjax.fetch`, a `file` of ids, `most_ids` of a request. It is
answered by two lines: the child's process id, and when it has ended its exit status, negative for a signal.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

import xpjax
from xpjax.core import archive
from xpjax.xp.download import request


def run(order: dict[str, Any]) -> None:
    archive.MOST_IDS = order["most_ids"]
    request.PATIENCE = request.Patience(first=0.002, longest=0.01, unanswered=1.0)
    xpjax.fetch(np.load(order["file"]), gaia_source=False, **order["options"])


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            status = 1
            try:
                run(order)
                status = 0
            finally:
                os._exit(status)
        say(child)
        _, code = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(code))


if __name__ == "__main__":
    # All that a child needs, imported once.
    import h5py  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import requests  # noqa: F401

    import xpjax.io.catalogue
    import xpjax.xp.download.job

    main()
