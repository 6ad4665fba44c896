"""Where the package's own files lie."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package."""
DATA = PACKAGE / "data"
"""Models and systems that xpjax ships."""
