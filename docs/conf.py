"""The documentation: `sphinx-build -W --keep-going docs site`. No network; notebooks run once (docs/site/notebooks.py).

What is made when the site is built lies in docs/tutorials and docs/reference, which git ignores.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "site"))

from sphinx.application import Sphinx  # noqa: E402

import xpjax  # noqa: E402

project = "xpjax"
author = "The xpjax developers"
copyright = "The xpjax developers"
version = release = xpjax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "make_pages",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without a network
]
exclude_patterns = ["site", "_build", "**.ipynb_checkpoints"]
templates_path = ["site/templates"]
nitpicky = False
suppress_warnings = ["mystnb.unknown_mime_type"]  # the text of widgets beside their pictures

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # they come executed
nb_merge_streams = True

autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"  # numpydoc's tables have them, with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries = False

html_theme = "pydata_sphinx_theme"
html_title = f"xpjax {version}"
html_static_path = ["site/static"]
html_css_files = ["xpjax.css"]
html_search_scorer = str(HERE / "site" / "static" / "docs_first.js")
smartquotes = False  # -- is an option, not a dash
html_sidebars = {page: [] for page in ("index", "install", "tour")}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app: Sphinx) -> None:
    """Docstrings are plain text: a bar in them, |x|, is no substitution."""
    app.connect("autodoc-process-docstring", plain_bars)


def plain_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape bars outside examples and indented blocks of code."""
    lines[:] = [line if line.startswith((">>>", "...")) else line.replace("|", "\\|") for line in lines]
