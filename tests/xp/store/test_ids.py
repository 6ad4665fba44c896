"""Source ids that a user names."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xpjax.xp.store.ids import as_ids

BIG = 5937083312263887616


def test_numbers_files_and_both(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(f"# mine\n{BIG}\n7\n")
    assert as_ids([3, 3, BIG]).tolist() == [3, BIG]
    assert as_ids(path).tolist() == [7, BIG]
    assert as_ids([9, path, 7]).tolist() == [7, 9, BIG]
    assert as_ids([str(path), "9", f"Gaia DR3 {BIG}"]).tolist() == [7, 9, BIG]
    assert as_ids(pd.DataFrame({"source_id": [BIG, 7]})).tolist() == [7, BIG]
    assert as_ids(np.empty(0)).tolist() == []


def test_rounded_numbers_and_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"source id 1 is 1\.0; expected an integer"):
        as_ids([1.0, 2.0])
    (tmp_path / "words.txt").write_text("12\nabc\n")
    with pytest.raises(ValueError, match=r"words\.txt: line 2: 'abc' is no source id"):
        as_ids(tmp_path / "words.txt")
