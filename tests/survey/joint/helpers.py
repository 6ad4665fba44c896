"""The field that most tests of joint solutions solve."""

from benchmarks.joint import plain_model

BINS = 5
N_EXPOSURE, N_STAR = 24, 300
SIZE = (0.0, 1.0, 0.0, 1.0)
MODEL = plain_model(BINS, min_observations=5)
