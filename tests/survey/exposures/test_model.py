"""The model of an exposure."""

import pytest

from xpjax.survey.exposures.model import ExposureModel


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("position_order", 10, "0..9"), ("color_order", -1, "0..3"), ("robust", "median", "robust must be one of"),
        ("clip", -1, "must not be negative"), ("error_floor", -0.1, "error_floor"), ("magnitude_order", True, "0..2"),
    ],
)  # fmt: skip
def test_models_that_cannot_be(entry: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExposureModel(**{entry: value})  # type: ignore[arg-type]
