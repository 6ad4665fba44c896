"""The page that all reports share: a summary, sections of text, tables and figures, and what could not be made.

The page is `report.html`, its figures are PNG files in `report_figures` beside it. Nothing else is loaded.
"""

from __future__ import annotations

import dataclasses
import html
import io
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpjax.core.errors import XpjaxError
from xpjax.io.atomic import check_output, whole_files
from xpjax.io.figures import STYLE as FIGURE_STYLE, new_figure
from xpjax.survey.report.statistics import Missing

if TYPE_CHECKING:
    import matplotlib.figure

PAGE = "report.html"
WIDTH = 9.5
"""Width of the page's text column in inches of a figure: what is wider is shown smaller."""
SHORT = 25
"""Rows of a table that is not broken across printed pages."""
ONE_LINE = 16
"""Characters of a cell that stays in one line."""
MOST_INPUTS = 10
"""Names of inputs that a page lists."""
DPI = 150
"""Enough for print on A4."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of a page: `draw` gets an empty matplotlib Figure, WIDTH wide, which it may resize.

    name: of its file, and its alternative text. caption: what is seen, and how many stars. A `draw` that raises
    Missing is no error: the figure is listed among those that could not be made.
    """

    name: str
    caption: str
    draw: Callable[[matplotlib.figure.Figure], None]

    def make(self) -> matplotlib.figure.Figure:
        """The figure, for a notebook or a paper. Raises Missing."""
        from matplotlib.style import context

        with context(["default", FIGURE_STYLE]):
            canvas = new_figure(WIDTH, 4.0)
            self.draw(canvas)
        return canvas


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page: headings with units, and rows of cells as they are shown (integers get their commas)."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int]]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page: paragraphs, a list, tables, figures, in this order. One without any of these is not shown."""

    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    items: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Page:
    """A page that was written: its file, its sections, and what could not be made, with what that would need."""

    path: Path
    title: str
    sections: Sequence[Section]
    missing: Mapping[str, str]


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em; line-height: 1.25 } p { max-width: 52em }
h2 { font-size: 1.25em; margin-top: 2.2em; border-top: 1px solid #ccc; padding-top: 0.8em }
nav { columns: 3; font-size: 0.92em; margin: 1.2em 0 } nav a { display: block; color: #1f3a5f }
figure { margin: 1.4em 0 } figcaption, caption { color: #444; font-size: 0.92em; text-align: left; max-width: 62em }
img { height: auto; display: block; margin-bottom: 0.4em } caption { padding-bottom: 0.5em }
.table { overflow-x: auto; margin: 1.2em 0 } table { border-collapse: collapse; font-size: 0.88em }
th, td { padding: 0.25em 0.6em; text-align: left; vertical-align: bottom } tr > :first-child { padding-left: 0 }
th { border-bottom: 2px solid #1f3a5f; line-height: 1.25 } td { border-bottom: 1px solid #e4e4e4; vertical-align: top }
.n { text-align: right; font-variant-numeric: tabular-nums } td.n { white-space: nowrap }
@page { size: A4; margin: 15mm }
@media print {
  body { font-size: 10.5pt; max-width: none; margin: 0; padding: 0 } nav { display: none }
  h1, h2 { break-after: avoid } p { orphans: 3; widows: 3 } figure, tr { break-inside: avoid }
  .table { overflow: visible } table { font-size: 8pt } th, td { padding: 0.2em 0.45em }
  .short, caption { break-inside: avoid } caption { break-after: avoid }
  caption { font-size: 9pt } thead { display: table-header-group } a { color: inherit; text-decoration: none }
}
"""


def write_page(
    folder: Path,
    title: str,
    summary: Sequence[str],
    sections: Sequence[Section],
    missing: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    *,
    name: str = PAGE,
    overwrite: bool = False,
) -> Page:
    """Write a page and its figures into a folder, whole or not at all.

    summary: paragraphs. missing: what could not be made, and what it would need; figures that raise Missing join it.
    Raises XpjaxError for a name that is no .html, OSError for files that exist or cannot be written.
    """
    page = folder / name
    check_page(page, overwrite=overwrite)
    figures = page.with_name(f"{page.stem}_figures")
    old = set(figures_of(page)) if page.is_file() else set()
    images, lacking, shown = dict[str, bytes](), dict(missing), list[tuple[Section, list[Drawn]]]()
    for section in sections:
        drawn = list[Drawn]()
        for figure in section.figures:
            try:
                file = file_name(figure.name, images)
                images[file], width = _png(figure)
                drawn.append(Drawn(f"{figures.name}/{file}", figure, width))
            except Missing as why:
                lacking[figure.name] = str(why)
        shown.append((section, drawn))
    if images:
        figures.mkdir(exist_ok=True)
    with whole_files() as temporary:
        for file, image in images.items():
            temporary(figures / file).write_bytes(image)
        temporary(page).write_text(page_of(title, summary, shown, lacking), encoding="utf-8")
    for file in old - set(images):
        (figures / file).unlink(missing_ok=True)
    return Page(page, title, sections, lacking)


def check_page(page: Path, *, overwrite: bool = False) -> None:
    """Refuse the file of a page before anything is computed: it is no .html, exists, or cannot be written."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise XpjaxError(f"{page.name}: the suffix of a report is .html")
    check_output(page, overwrite=overwrite)


def figures_of(page: Path) -> list[str]:
    """File names of the figures of a page that was written."""
    return re.findall(rf"<img src='{re.escape(page.stem)}_figures/([^'/]+)'", page.read_text(encoding="utf-8"))


def file_name(name: str, taken: Iterable[str] = ()) -> str:
    """The file of a figure, in letters, digits, _ and - alone, and another one where it is taken."""
    stem = re.sub(r"[^\w-]+", "_", name, flags=re.ASCII).strip("_").lower() or "figure"
    number = 1
    while (found := f"{stem}{f'_{number}' * (number > 1)}.png") in taken:
        number += 1
    return found


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure and its file, relative to the page, with its width as a part of that of the page."""

    file: str
    figure: Figure
    width: float


def _png(figure: Figure) -> tuple[bytes, float]:
    """The file of a figure, and its width as a part of that of the page."""
    out, made = io.BytesIO(), figure.make()
    made.savefig(out, format="png", dpi=DPI)
    return out.getvalue(), float(min(made.get_figwidth() / WIDTH, 1.0))


def made_by(record: Mapping[str, Any]) -> list[str]:
    """A paragraph of how products were made: version, date, command, correction and inputs; none where not known."""
    said = [f"{name}: {record[name]}" for name in ("version", "date", "command", "correction") if name in record]
    if "inputs" in record:
        inputs = list(record["inputs"])
        more = f" and {len(inputs) - MOST_INPUTS} more" * (len(inputs) > MOST_INPUTS)
        said.append("inputs: " + ", ".join(map(str, inputs[:MOST_INPUTS])) + more)
    return ["; ".join(said) + "."] if said else []


# --- HTML -------------------------------------------------------------------------------------------------------------


def page_of(
    title: str,
    summary: Sequence[str],
    sections: Sequence[tuple[Section, Sequence[Drawn]]],
    missing: Mapping[str, str],
) -> str:
    """The page as text."""
    body = [(section, drawn) for section, drawn in sections if section.text or section.items or section.tables or drawn]
    ids = [f"s{number}" for number in range(1, len(body) + 1)]
    links = [f"<a href='#{id}'>{_text(section.title)}</a>" for id, (section, _) in zip(ids, body, strict=True)]
    parts = [f"<h1>{_text(title)}</h1>", *_paragraphs(summary)]
    tables, plates, said = itertools.count(1), itertools.count(1), dict[str, int]()
    if missing:
        links.append("<a href='#missing'>What could not be made</a>")
    parts.append(f"<nav>{''.join(links)}</nav>")
    for id, (section, drawn) in zip(ids, body, strict=True):
        parts += [f"<section id='{id}'><h2>{_text(section.title)}</h2>", *_paragraphs(section.text)]
        parts += [_list(section.items)] * bool(section.items)
        parts += [table_of(table, next(tables)) for table in section.tables]
        parts += [_figure(one, next(plates), said) for one in drawn]
        parts.append("</section>")
    if missing:
        parts.append(f"<section id='missing'><h2>What could not be made</h2>{_missing(missing)}</section>")
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{_text(title)}</title>"
    return (
        f"<!doctype html>\n<html lang='en'><head>{head}<style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _text(text: str) -> str:
    return html.escape(str(text))


def _paragraphs(text: Sequence[str]) -> list[str]:
    return [f"<p>{_text(paragraph)}</p>" for paragraph in text]


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"


def _figure(drawn: Drawn, number: int, said: dict[str, int]) -> str:
    """A figure with its caption; a caption that was said before is that of the other figure, by number."""
    name, caption = drawn.figure.name, drawn.figure.caption
    first = said.setdefault(caption, number)
    text = _text(caption if first == number else f"{name}. As Figure {first}.")
    image = f"<img src='{drawn.file}' alt='{_text(name)}' style='width: {100 * drawn.width:.0f}%'>"
    return f"<figure>{image}<figcaption><b>Figure {number}.</b> {text}</figcaption></figure>"


NUMBER = re.compile(r"(-|(<\s)?[+\u2212-]?[\d,]*\.?\d+([eE][+-]?\d+)?)(\s?\u00b1\s?[\d.,]+)?(\s\([\d.]+\s?%\))?")
"""Cells that are set flush right."""


def table_of(table: Table, number: int) -> str:
    """A table as HTML; a column of numbers is flush right, its heading with it."""
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    numbers = [
        bool(rows) and all(NUMBER.fullmatch(row[k]) for row in rows if row[k]) for k in range(len(table.columns))
    ]

    def line(tag: str, cells: Sequence[str]) -> str:
        shown = (f"<{tag}{' class=n' * n}>{_text(c)}</{tag}>" for c, n in zip(cells, numbers, strict=True))
        return f"<tr>{''.join(shown)}</tr>"

    head, body = line("th", table.columns), "".join(line("td", row) for row in rows)
    caption = f"<caption><b>Table {number}.</b> {_text(table.caption)}</caption>"
    kind = "table short" if len(rows) <= SHORT else "table"
    return f"<div class='{kind}'><table>{caption}<thead>{head}</thead><tbody>{body}</tbody></table></div>"


def _cell(cell: str | int) -> str:
    """A cell as it is shown; short ones in one line."""
    text = f"{cell:,}" if isinstance(cell, int) else str(cell)
    return text.replace(" ", "\u00a0") if len(text) <= ONE_LINE else text


def _missing(missing: Mapping[str, str]) -> str:
    """What could not be made, grouped by what it would need."""
    by_need: dict[str, list[str]] = {}
    for what, need in missing.items():
        by_need.setdefault(need, []).append(what)
    return _list([f"{'; '.join(what)}: {need}." for need, what in by_need.items()])
