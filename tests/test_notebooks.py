"""The notebooks run from top to bottom in a kernel of their own, show figures, and warn of nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
sys.path.insert(0, str(ROOT / "docs" / "site"))

from notebooks import execute  # noqa: E402


def outputs(path: Path) -> list[dict[str, Any]]:
    return [out for cell in json.loads(path.read_text())["cells"] for out in cell.get("outputs", ())]


def faults(shown: list[dict[str, Any]]) -> list[str]:
    """What a reader should not see, or would miss."""
    found = ["".join(out["text"]) for out in shown if out.get("name") == "stderr"]
    said = ["".join(out["text"]) for out in shown if out.get("name") == "stdout"]
    found += [text for text in said if "Warning" in text]
    data = [out["data"] for out in shown if "data" in out]
    if not any("image/png" in mime for mime in data):
        found.append("no figure")
    # A figure or an artist whose picture is missing shows as its type and address.
    bare = ["".join(mime["text/plain"]) for mime in data if not {"image/png", "text/html"} & set(mime)]
    found += [text for text in bare if text.startswith(("<Figure", "<matplotlib", "[<matplotlib", "<XpjaxFigure"))]
    return found + ["nothing printed"] * (not said)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ---\n# jupyter:")
    assert "# %% [markdown]" in text
    assert not faults(outputs(execute(path, ROOT / "build" / "notebooks")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import warnings; warnings.warn('slow'); print(1)", "UserWarning: slow"),
        ("from matplotlib.figure import Figure; print(1); Figure()", "no figure"),
        ("from matplotlib.figure import Figure; print(1); Figure()", "<Figure size"),
    ],
)
def test_faults_are_found(tmp_path: Path, code: str, fault: str) -> None:
    (tmp_path / "bad.py").write_text(f"# %%\n{code}\n")
    assert any(fault in text for text in faults(outputs(execute(tmp_path / "bad.py", tmp_path))))
