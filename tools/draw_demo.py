"""Draw the figure of the first page: the spectra of four mock sources, as `xpjax demo` draws them.

    python tools/draw_demo.py

It takes some seconds.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

import xpjax

TARGET = Path(__file__).parents[1] / "docs" / "demo-spectra.png"


def main() -> None:
    """Draw, with few enough colors to be a small file."""
    sources = xpjax.simulate_sources(20_000, seed=0)[:4]
    figure = xpjax.plot.plot_spectra(xpjax.spectra(sources), system="JPLUS")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120)
    Image.open(drawn).convert("RGB").quantize(128).save(TARGET, optimize=True)
    print(f"{TARGET} written, {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
