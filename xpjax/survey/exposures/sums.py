"""Sums over the measurements of a star, which parts of a survey make apart from each other and then together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from xpjax.core.records import Record


@dataclasses.dataclass(frozen=True, repr=False)
class StarSums(Record):
    """Sums by name (n,) of each star in each kind of frame that it is seen on.

    labels (n_kind, k): names of the kinds, such as band and detector; star, kind (n,): of each sum, by star and kind.
    code (n_row,): the sum to which a row contributed.
    """

    labels: np.ndarray
    star: np.ndarray
    kind: np.ndarray
    sums: Mapping[str, np.ndarray]
    code: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.star)

    def places(self, part: StarSums) -> np.ndarray:
        """Where the sums (n_part,) of a part lie among these."""
        stars = np.unique(self.star)
        return np.searchsorted(_keys(self, self.labels, stars), _keys(part, self.labels, stars))

    def without_code(self) -> StarSums:
        """The same without what is as long as the rows."""
        return dataclasses.replace(self, code=np.zeros(0, np.int64))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, for a file."""
        own = {"labels": self.labels, "star": self.star, "kind": self.kind}
        return own | {f"sums/{name}": values for name, values in self.sums.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> StarSums:
        """What `arrays` gave, without codes of rows."""
        sums = {name[5:]: values for name, values in arrays.items() if name.startswith("sums/")}
        return cls(arrays["labels"], arrays["star"], arrays["kind"], sums)


def by_star(star: np.ndarray, kind: np.ndarray, labels: np.ndarray, **values: np.ndarray) -> StarSums:
    """Sums of values (n_row,) over the rows of each star (n_row,) in each kind (n_row,) of labels (n_kind, k).

    Kinds of the same label are one.
    """
    labels, same = np.unique(labels, axis=0, return_inverse=True)
    stars, number = np.unique(star, return_inverse=True)
    key, code = np.unique(number * max(len(labels), 1) + same.ravel()[kind], return_inverse=True)
    sums = {name: np.bincount(code, row, len(key)) for name, row in values.items()}
    return StarSums(labels, stars[key // max(len(labels), 1)], key % max(len(labels), 1), sums, code)


def together(parts: Sequence[StarSums]) -> tuple[StarSums, list[np.ndarray]]:
    """The sums of all parts, and for each part the places (n_part,) of its sums among them."""
    if len(parts) == 1:
        return parts[0], [np.arange(len(parts[0]))]
    labels = np.unique(np.concatenate([part.labels for part in parts]), axis=0)
    stars = np.unique(np.concatenate([part.star for part in parts]))
    keys = [_keys(part, labels, stars) for part in parts]
    key = np.unique(np.concatenate(keys))
    places = [np.searchsorted(key, mine) for mine in keys]
    sums = {name: np.zeros(len(key)) for name in parts[0].sums}
    for part, place in zip(parts, places, strict=True):
        for name, values in part.sums.items():
            sums[name][place] += values
    return StarSums(labels, stars[key // max(len(labels), 1)], key % max(len(labels), 1), sums), places


def _keys(part: StarSums, labels: np.ndarray, stars: np.ndarray) -> np.ndarray:
    """Numbers (n_part,) of the stars and kinds of a part among sorted stars and labels."""
    index = {tuple(label): k for k, label in enumerate(labels.tolist())}
    kind = np.array([index[tuple(label)] for label in part.labels.tolist()], int)[part.kind]
    return np.searchsorted(stars, part.star) * max(len(labels), 1) + kind
