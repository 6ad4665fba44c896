"""Sections of configuration files: what is refused and how it is said; the page that lists the entries."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from xpjax.core.errors import XpjaxError
from xpjax.io.config import Section, check_sections, entry, parse, read_toml, reference, section_of


@dataclasses.dataclass(frozen=True)
class Lens:
    """Describe a lens.

    Parameters
    ----------
    radius : float [mm]
        Radius of the
        lens.
    coated, name : bool or str
        Further things.

    Notes
    -----
    None.
    """

    radius: float = 2.0
    coated: bool = False
    name: str | int = "a"
    size: tuple[float, float] | None = None


class Mount(Section):
    """What holds the lens."""

    kind: Literal["fork", "dome"] = entry("fork", "Kind | of mount")
    limits: Mapping[str, float] = entry({}, "Limits", "deg")
    file: str = entry(..., "File")


Glass = section_of("Glass", Lens)


@pytest.mark.parametrize(
    ("section", "table", "message"),
    [
        (Glass, {"radios": 1.0}, r"unknown entry of \[x\] 'radios'; did you mean radius\?"),
        (Glass, {"radius": "1"}, r"\[x\] radius = '1': expected a number"),
        (Glass, {"radius": True}, "radius = True: expected a number"),
        (Glass, {"coated": 1}, "coated = 1: expected true or false"),
        (Glass, {"name": 1.5}, "name = 1.5: expected text or a whole number"),
        (Glass, {"size": 3}, "size = 3: expected a list"),
        (Glass, {"size": [1, "b"]}, "size.1 = 'b': expected a number"),
        (Glass, {"size": [1]}, r"size = \[1\]: expected more values"),
        (Mount, {}, r"\[x\] has no file"),
        (Mount, {"file": 1}, "file = 1: expected text"),
        (Mount, {"file": "f", "kind": "pier"}, 'kind = \'pier\': expected "fork" or "dome"'),
        (Mount, {"file": "f", "limits": {"low": "a"}}, "limits.low = 'a': expected a number"),
        (Mount, {"file": "f", "limits": 3}, "limits = 3: expected a"),
    ],
)
def test_what_is_wrong_is_said(section: type[Section], table: dict[str, Any], message: str) -> None:
    with pytest.raises(XpjaxError, match=message):
        parse(section, table, "[x]")


def test_records_are_made_of_what_is_said() -> None:
    said = parse(Glass, {"radius": 3, "size": [1, 2]}, "[x]")
    assert said.given() == {"radius": 3.0, "size": (1.0, 2.0)}
    assert said.make(Lens, coated=True) == Lens(3.0, True, "a", (1.0, 2.0))
    with pytest.raises(ValueError, match="frozen"):
        said.radius = 2.0  # type: ignore[attr-defined]


def test_sections_of_a_file(tmp_path: Path) -> None:
    known = {"lens": False, "star": True}
    check_sections({"lens": {}, "star": [{}]}, known)
    for table, message in (
        ({"lense": {}}, "unknown section 'lense'; did you mean lens"),
        ({"lens": 3}, r"expected a section, \[lens\]"),
        ({"star": {}}, r"double brackets, \[\[star\]\]"),
    ):
        with pytest.raises(XpjaxError, match=message):
            check_sections(table, known)
    path = tmp_path / "a.toml"
    path.write_text("[lens]\nradius = 4\n")
    found = read_toml(path, lambda table, folder: (parse(Glass, table["lens"], "[lens]"), folder))
    assert found[1] == tmp_path
    path.write_text("[lens]\nradius = true\n")
    with pytest.raises(XpjaxError, match=r"^a.toml: \[lens\] radius = True"):
        read_toml(path, lambda table, _: parse(Glass, table["lens"], "[lens]"))
    path.write_text("[lens")
    with pytest.raises(XpjaxError, match="not TOML"):
        read_toml(path, lambda table, _: table)


def test_the_page_of_entries() -> None:
    page = reference({"[lens]": Glass, "[mount]": Mount})
    assert "## `[lens]`" in page
    assert "| `radius` | number | mm | 2 | Radius of the lens. |" in page
    assert '| `name` | text or integer |  | `"a"` | Further things. |' in page
    assert "| `size` | list of number |  |  |  |" in page
    assert "What holds the lens." in page
    assert '| `kind` | `"fork"` or `"dome"` |  | `"fork"` | Kind \\| of mount |' in page
    assert "| `file` | text |  | required | File |" in page


def test_an_entry_that_another_section_fills_in_is_not_called_required() -> None:
    class Term(Section):
        sources: str = entry(..., "Spectra; by default those of [standards]")

    assert "| `sources` | text |  |  | Spectra; by default those of [standards] |" in reference({"[[term]]": Term})
