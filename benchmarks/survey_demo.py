"""From detections to zero-points: `survey simulate`, `init` and `calibrate` as they come, held against the truth.

By itself: python -m benchmarks.survey_demo [--seeds 20]. Twenty seeds of a small survey say whether errors are honest:
as it comes, where XP has a pattern on the sky and systematic errors of its spectra, by the total error of a zero-point;
and with XP as its errors say, by the error of a zero-point beside those of the other exposures.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import RESULTS, PeakMemory, Row, limits, report
from xpjax.survey.exposures import read_solution
from xpjax.survey.reading import calibrate_survey, initial_config, read_config
from xpjax.survey.simulation.files import simulate_survey
from xpjax.survey.simulation.setup import SurveyEffects, SurveySetup

KNOWN = SurveyEffects(sky=0.0, instrument=0.0)
"""XP as its stated errors say."""
LARGE = 6
"""Seeds of surveys of full size."""


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """A survey from files to zero-points: seconds of each step, and what zero-points are off by, (n_frame,) [mag].

    error, systematic (n_frame,) [mag]: beside the other exposures, and common to all. clear: without clouds.
    """

    seconds: dict[str, float]
    n: int
    off: np.ndarray
    error: np.ndarray
    systematic: np.ndarray
    band: np.ndarray
    clear: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """What a zero-point is off by beside the median of its band [mag]."""
        out = self.off.copy()
        for band in np.unique(self.band):
            out[self.band == band] -= np.median(out[self.band == band])
        return out


def demonstrate(setup: SurveySetup) -> Demonstration:
    """The three commands on one survey, in a folder of its own."""
    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        survey = simulate_survey(setup, folder / "mock")
        files = sorted((folder / "mock" / "detections").iterdir())
        seconds["simulate"] = time.perf_counter() - started
        started = time.perf_counter()
        spectra, chain = folder / "mock" / "xp.parquet", folder / "mock" / "telescope.toml"
        initial_config(files, spectra=spectra, passband=chain).write(folder / "survey.toml")
        seconds["init"] = time.perf_counter() - started
        started = time.perf_counter()
        config = read_config(folder / "survey.toml")
        if not setup.effects.sky:  # what there is not is not to be in the errors
            config = dataclasses.replace(config, sky_floor=False)
        found = calibrate_survey(files, config, folder / "solution")
        seconds["calibrate"] = time.perf_counter() - started
        solution = read_solution(folder / "solution")
    fits = solution.fits
    true = survey.true_zero_points(color_zero=float(fits.scaling.color_zero))
    order = [int(name[1:]) for name in solution.frames.exposure.tolist()]  # of one detector
    table = found.zero_points().columns
    return Demonstration(
        seconds, len(found.calibrated), fits.zero_point - true[order], fits.zero_point_error,
        table["zero_point_systematic"], solution.frames.band, survey.plan.cloud[order] == 0,
    )  # fmt: skip


def whole(quick: bool) -> Row:
    """60 exposures of 2,000 stars."""
    setup = SurveySetup(n_exposure=12, n_star=300, n_night=2) if quick else SurveySetup()
    with PeakMemory() as memory:
        found = demonstrate(setup)
    total = sum(found.seconds.values())
    row = Row("survey_demo", f"simulate, init and calibrate {setup.n_exposure} exposures", found.n, total)
    row.peak_bytes = memory.bytes
    row.error, row.error_of = float(found.own.std()), "scatter of zero-points about the truth [mag]"
    row.ratios = {f"seconds of {step}": value for step, value in found.seconds.items()}
    return row


def pulls(case: str, effects: SurveyEffects, seeds: int, **size: int) -> Row:
    """Pulls of the zero-points of small surveys, or of such a size, each with a seed of its own."""
    size = size or {"n_exposure": 24, "n_star": 600, "n_night": 3}
    setups = [SurveySetup(seed=k, effects=effects, **size) for k in range(seeds)]
    return pull_row(case, [demonstrate(setup) for setup in setups])


def pull_row(case: str, made: Sequence[Demonstration]) -> Row:
    """Pulls of the zero-points of several surveys."""
    seconds = sum(sum(one.seconds.values()) for one in made)
    row = Row("survey_demo", f"{case}, {len(made)} seeds", sum(one.n for one in made), seconds)
    own, error, clear = (np.concatenate([getattr(one, n) for one in made]) for n in ("own", "error", "clear"))
    off, systematic = (np.concatenate([getattr(one, n) for one in made]) for n in ("off", "systematic"))
    row.error, row.error_of = float(own.std()), "scatter of zero-points about the truth [mag]"
    row.ratios = {
        "pull by the total error": float(np.sqrt(np.mean((off / np.hypot(error, systematic)) ** 2))),
        "pull beside the other exposures": float((own / error).std()),
        "the same without clouds": float((own / error)[clear].std()),
        "stated error [mmag]": 1e3 * float(np.median(error)),
        "stated systematic error [mmag]": 1e3 * float(np.median(systematic)),
    }
    return row


def run(quick: bool = False, seeds: int = 20) -> list[Row]:
    """The whole survey, and pulls over seeds; quick: smaller, and three seeds."""
    seeds = 3 if quick else seeds
    return [
        whole(quick),
        pulls("XP with its errors on the sky and of its spectra", SurveyEffects(), seeds),
        pulls("XP as its errors say", KNOWN, seeds),
        *([] if quick else [pulls("60 exposures of 2,000 stars", SurveyEffects(), LARGE, n_exposure=60, n_star=2000)]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survey_demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds")
    parser.add_argument("--quick", action="store_true", help="smaller, and three seeds")
    options = parser.parse_args()
    path = RESULTS / f"survey_demo{'_quick' * options.quick}.json"
    print(report(run(options.quick, options.seeds), path, limits()))


if __name__ == "__main__":
    main()
