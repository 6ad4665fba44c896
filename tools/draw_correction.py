"""Draw the figures of the guide on the linear correction.

    python tools/draw_correction.py DATA

DATA holds calspec/xp_calspec_pairs.parquet, as for tools/build_correction.py. docs/correction-operator.png is of mock
stars and of the shipped correction alone; docs/correction-left-out.png has medians and 68 % of the pairs, each
corrected by what the others teach, and no spectrum of any one star. It takes half a minute.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

import xpjax
from xpjax.io.figures import new_figure, styled
from xpjax.wiggles.linear.evidence import Evidence
from xpjax.wiggles.linear.figures import draw_left_out, draw_operator
from xpjax.wiggles.linear.fit import Population
from xpjax.wiggles.linear.pairs import read_pairs
from xpjax.wiggles.linear.train import train_linear
from xpjax.xp.correction import load_correction

DOCS = Path(__file__).parents[1] / "docs"
PAIRS = "calspec/xp_calspec_pairs.parquet"


@styled
def draw(evidence: Evidence) -> dict[str, Figure]:
    """Both figures by the names of their files; evidence: of pairs that were left out."""
    model, correction = xpjax.load_instrument(), load_correction()
    assert correction is not None
    operator, left_out = new_figure(11, 7.4), new_figure(10.5, 6.4)
    draw_operator(operator.subplots(2, 2), correction, model)
    draw_left_out(left_out.subplots(2, 1, sharex=True), evidence)
    return {"correction-operator.png": operator, "correction-left-out.png": left_out}


def main() -> None:
    """Train for what is left out, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    correction = load_correction()
    assert correction is not None
    made = train_linear(read_pairs(args.data / PAIRS), Population.known(correction))
    for name, figure in draw(made.evidence).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=120)
        # 128 colors are plenty for lines, and make the file half as large.
        Image.open(buffer).convert("RGB").quantize(128).save(DOCS / name, optimize=True)
        print(f"{DOCS / name} written, {(DOCS / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
