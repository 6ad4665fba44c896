"""The reference by task: a page for each, with every public name under the door by which users reach it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

ROOMS = (
    *("xp", "synthetic", "wiggles", "stellar", "extinction", "plot", "io", "lsdb", "catalogue"),
    *("survey", "survey.reading", "survey.exposures", "survey.joint", "survey.scr", "survey.report", "compat.gaiaxpy"),
)

TASKS: dict[str, tuple[str, str, dict[str, str], tuple[str, ...]]] = {
    "sources": (
        "Sources: fetch, read, store, simulate",
        "get XP coefficients into Python, and out again, from ids, files, models or a whole release.",
        {
            "Read and fetch": "read fetch read_table write open_table",
            "Stores": "ingest open_store write_store_file Store",
            "Make": "simulate_sources observe observation_matrix coefficients_of_samples",
            "What comes back": "SourceTable XPCoefficients covariance_matrix Status Release XpjaxError precision",
        },
        ("io",),
    ),
    "spectra": (
        "Spectra and their correction",
        "sample XP spectra, with errors, on any wavelengths, as published or corrected.",
        {
            "Sample": "spectra Spectra read_spectra constant_grid variable_grid extrema",
            "Instrument and correction": "load_instrument Instrument load_correction LinearCorrection "
            "write_correction",
        },
        ("xp",),
    ),
    "magnitudes": (
        "Magnitudes, passbands and telescopes",
        "make magnitudes through published systems, curves of your own and whole telescopes, and fit curves.",
        {
            "Magnitudes": "photometry Photometry lightcurve LightCurve tie_to_gaia "
            "read_photometry",
            "Pure functions, for JAX's transformations": "magnitudes fluxes sampled_spectra",
            "Systems": "available_systems load_system passband_system PhotometricSystem as_system",
            "Passbands": "load_passbands Passband PassbandSet list_passbands describe_passbands "
            "check_passbands write_passbands fetch_passbands "
            "recover_passbands read_gaiaxpy write_gaiaxpy",
            "Telescopes": "read_chain TransmissionChain Atmosphere Curve",
            "Fit a curve": "fit_passband PassbandFit read_passband_fit warp_passband",
        },
        ("", "synthetic"),
    ),
    "wiggles": (
        "Learn corrections, and correct samples",
        "correct sampled spectra, train a linear correction or a network, and apply either.",
        {
            "Sampled spectra": "correct_spectra correct_with_tables read_table_correction",
            "Linear corrections": "train_linear LinearSettings read_pairs",
        },
        ("wiggles",),
    ),
    "labels": (
        "Stellar labels and grids",
        "fit temperature, gravity, metallicity and reddening, on the shipped grid or your own.",
        {"Fit": "LabelFitter LabelFits fit_label_files fit_labels read_labels"},
        ("stellar",),
    ),
    "reddening": ("Reddening", "take E(B-V) from maps, and redden or deredden spectra.", {}, ("extinction",)),
    "catalogues": (
        "Catalogues of the whole sky",
        "run magnitudes, spectra or labels over a store, resume the run, and open the result in LSDB.",
        {"Runs": "run_catalogue read_status export_hats calibrate_units"},
        ("catalogue", "lsdb"),
    ),
    "surveys": (
        "Surveys: tables, selections, simulations",
        "bring tables of detections, standards and passbands together, and simulate surveys with known truth.",
        {"Files": "initial_config check_survey calibrate_survey"},
        ("survey.reading", "survey"),
    ),
    "exposures": (
        "Surveys: exposure by exposure",
        "calibrate exposures with flats and color terms, and read, apply and judge the solution.",
        {},
        ("survey.exposures",),
    ),
    "joint": (
        "Surveys: joint solutions",
        "solve zero-points, flats, air, filters and star magnitudes together, and extend the solution.",
        {"Solve": "solve_survey check_joint apply_joint "
                  "extend_joint JointModel JointSolution"},
        ("survey.joint",),
    ),
    "scr": (
        "Surveys: stellar color regression",
        "predict colors from spectroscopic labels, and bring zero-points of several methods to one scale.",
        {},
        ("survey.scr",),
    ),
    "reports": ("Reports and figures", "make reports of surveys, and draw results.", {}, ("survey.report", "plot")),
    "gaiaxpy": (
        "GaiaXPy's interface",
        "call every public function of GaiaXPy 2.1.5 in xpjax; its own documentation describes arguments in full.",
        {},
        ("compat.gaiaxpy",),
    ),
}  # fmt: skip
"""Pages by file name: title, what a reader can do, names by heading, and rooms whose further names belong here."""


def pages() -> dict[str, str]:
    """Texts of the pages by their paths; each public name stands on one of them."""
    listed = {name for _, _, parts, _ in TASKS.values() for names in parts.values() for name in names.split()}
    done = {id(_get(_found(name))) for name in listed}
    missing = set(ROOMS) - {room for *_, rooms in TASKS.values() for room in rooms}
    if missing:
        raise ValueError(f"no page of the reference shows {sorted(missing)}")
    made, rows = {}, []
    for name, (title, can, parts, rooms) in TASKS.items():
        text = [f"# {title}\n\nAfter this page you can {can}\n"]
        for heading, names in parts.items():
            text += [f"## {heading}\n", _summary([_found(name) for name in names.split()])]
        for room in rooms:
            further = list(_further(room, done))
            if further:
                heading = "Further" if parts else "Names"
                text += [f"## {heading}: `{f'xpjax.{room}'.rstrip('.')}`\n", _summary(further)]
        made[f"reference/{name}.md"] = "\n".join(text)
        rows.append(f"| [{title}]({name}.md) | {can} |")
    contents = "\n".join([*TASKS, "commands", "survey-toml", "telescope-toml", "results"])
    made["reference/index.md"] = (
        "# Reference\n\nAfter this page you know where each function, command and configuration entry is described. "
        "Everything here is made from the code.\n\n| page | what you can do |\n|---|---|\n"
        + "\n".join(rows)
        + "\n| [The command line](commands.md) | every command with all options |"
        + "\n| [survey.toml](survey-toml.md) | every section and entry of a survey's configuration |"
        + "\n| [A telescope in TOML](telescope-toml.md) | every section and entry of a transmission chain |"
        + "\n| [Results](results.md) | what was promised of speed and accuracy, and what was found |"
        + f"\n\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{contents}\n```\n"
    )
    made["reference/telescope-toml.md"] = telescope_toml()
    return made


def telescope_toml() -> str:
    """What `xpjax.synthetic.read_chain` says of its files."""
    module = importlib.import_module("xpjax.synthetic.chain_file")
    _, _, said = (module.__doc__ or "").partition("\n\n")
    return (
        "# A telescope in TOML\n\nAfter this page you can write a telescope as a file: air, mirrors, filters and "
        "detector. `xpjax.load_passbands`, `--passbands` and `[passband] chain` of a survey read it; "
        "[the guide](../guide/telescope.md) builds one step by step.\n\n" + said
    )


def _found(name: str) -> str:
    """A name with the first door that has it."""
    for room in ("", *ROOMS):
        if name in importlib.import_module(f"xpjax.{room}".rstrip(".")).__all__:
            return f"{room}.{name}".lstrip(".")
    raise ValueError(f"docs/site/reference.py lists {name}, which is public nowhere")


def _get(name: str) -> object:
    room, _, last = name.rpartition(".")
    return getattr(importlib.import_module(f"xpjax.{room}".rstrip(".")), last)


def _further(room: str, done: set[int]) -> Iterator[str]:
    """Public names of a room that stand nowhere yet."""
    for name in importlib.import_module(f"xpjax.{room}".rstrip(".")).__all__:
        thing = _get(f"{room}.{name}".lstrip("."))
        if not name.startswith("_") and id(thing) not in done:
            done.add(id(thing))
            yield f"{room}.{name}".lstrip(".")


def _summary(names: list[str]) -> str:
    lines = "\n".join(f"   xpjax.{name}" for name in names)
    return f"```{{eval-rst}}\n.. autosummary::\n   :toctree: api\n   :nosignatures:\n\n{lines}\n```\n"
