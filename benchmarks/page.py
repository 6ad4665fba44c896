"""Stored results as a page: every promise beside the figure that was found, speed and accuracy apart."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import harness, promises
from benchmarks.harness import RESULTS, Row
from benchmarks.promises import Promise

SPEED = ("rate", "seconds", "peak_bytes", "compile_seconds")
SAID = ("time", "gaiaxpy", "limit", "reader", "process", "products alone", "for all", "reading", "worker", "of float32")
"""Words of ratios that compare speed or memory; all other figures are of accuracy."""
FIGURES = {
    "cpu": "Rates of every stage, and what limits them",
    "cpu_compact": "Errors of compact covariances beside those of correlations",
    "cpu_joint": "Joint solutions: time and memory against the number of observations",
    "linear": "The linear correction on CALSPEC stars, each corrected without itself",
    "labels_xp_random_1200": "Labels of random stars beside published ones",
    "population": "Simulated stars beside real ones",
}
MARKUP = str.maketrans({"|": "\\|", "*": "\\*", "[": "\\["})
START = """# Results: what was promised, and what was found

After this page you know how fast and how exact xpjax was found to be, on which machine, and by which file each figure
is proven. The files are in `benchmarks/results`; `python -m benchmarks --speed` and `python -m benchmarks --accuracy`
measure anew. Ratios are against a peer or a limit of the same run. Where several cases fit, the worst of the largest
counts.

"""


def page(platform: str = "cpu") -> str:
    """The whole page in Markdown, from the stored results alone."""
    stored = harness.stored_with_source(platform)
    told = {(row.stage, row.case): source for row, source in stored}
    rows = [row for row, _ in stored]
    known = [promise for issue in promises.ISSUES.values() for promise in issue]
    fast = [promise for promise in known if _of_speed(promise)]
    exact = [promise for promise in known if not _of_speed(promise)]
    parts = [START, "## Speed\n", _table(fast, rows, told), "\n## Accuracy\n", _table(exact, rows, told)]
    shown = [f"![{said}](../../benchmarks/results/{name}.png)\n\n{said}." for name, said in FIGURES.items()
             if (RESULTS / f"{name}.png").exists()]  # fmt: skip
    return "\n".join([*parts, "\n## Figures\n", "\n\n".join(shown)]) + "\n"


def _of_speed(promise: Promise) -> bool:
    return promise.key in SPEED or any(word in promise.key for word in SAID)


def _table(chosen: Sequence[Promise], rows: Sequence[Row], told: dict[tuple[str, str], str]) -> str:
    """A row for each promise that was measured; the sources are numbered beneath, and what is lacking is counted."""
    sources: dict[str, int] = {}
    lines = ["| stage, case | figure | promised | found | n | verdict | source |", "|---|---|---|---|---|---|---|"]
    absent: dict[str, int] = {}
    for promise in chosen:
        found = promise.found(rows)
        if found is None:
            absent[promise.stage] = absent.get(promise.stage, 0) + 1
            continue
        of = next(told[row.stage, row.case] for row in rows if promise.found([row]) == found)
        verdict = "met" if promise.met(found[1]) else "NOT MET"
        figure = f"{promise.key} ({promise.where})" if promise.where else promise.key
        cells = [f"{promise.stage}: {promise.case}", figure, promise.text, f"{found[1]:.4g}", f"{found[0]:,}", verdict]
        cells.append(str(sources.setdefault(of, len(sources) + 1)))
        lines.append("| " + " | ".join(cell.translate(MARKUP) for cell in cells) + " |")
    lines += ["", "Sources:", "", *(f"{number}. {source}" for source, number in sources.items())]
    if absent:
        listed = ", ".join(f"{number} of `{stage}`" for stage, number in absent.items())
        lines += ["", f"In no stored run of this kind of machine: {listed}."]
    return "\n".join(lines) + "\n"
