"""The figure of what a network was trained on, predicts and leaves."""

from __future__ import annotations

import numpy as np

from tests.wiggles.helpers import made, made_model
from xpjax.wiggles import plot_patterns, predict_residuals


def test_three_panels_that_add_up() -> None:
    data = made(40, noise=0.0)
    model = made_model(names=data.names, wavelength=data.wavelength)
    true, predicted, remaining = plot_patterns(model, data).axes
    assert len(true.lines) == 5, "four groups of color and a line at zero"
    assert [axis.get_title(loc="left") for axis in (true, predicted, remaining)] == ["true", "predicted", "remaining"]
    assert true.get_ylabel() == "Residual [%]"
    group = data.features[:, 0] <= np.quantile(data.features[:, 0], 0.25)
    expected = np.median(predict_residuals(model, data.stars)[group], axis=0)
    np.testing.assert_allclose(predicted.lines[0].get_ydata(), 100 * expected, atol=1e-5)
