"""The accelerator run, tiny, on a CPU and without the packages that a bare image lacks; and the table of promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import accelerator, harness, promises
from benchmarks.harness import Row
from benchmarks.promises import Promise

ROOT = Path(__file__).parents[1]
ABSENT = ("astropy", "click", "fastavro", "gaiaxpy", "isal", "matplotlib", "pandas", "psutil", "pyarrow", "tqdm")
BARE = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"no {{name}} on this machine", name=name)
sys.meta_path.insert(0, Absent())
from benchmarks import accelerator
sys.exit(accelerator.main(sys.argv[1:]))
"""
QUICK_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TINY = ("--scale", "1e-6", "--network", "small", "--seconds", "0.2")


def test_the_whole_run_needs_little_and_leaves_json(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-c", BARE, *TINY, "--output", str(output)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": QUICK_COMPILE}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["gaps"] == {}
    rows = {row["case"]: row for row in found["rows"]}
    for begin in ("products", "here against", "12 magnitudes", "12 corrected", "small network", "fits", "joint"):
        assert any(case.startswith(begin) for case in rows), begin
        assert begin in done.stdout
    assert all(row["seconds"] > 0 and row["n"] > 0 for row in rows.values())
    assert rows["products: TF32 is off"]["error"] < 1e-6
    both = rows["here against the CPU, same sources"]["ratios"]
    assert both["magnitudes, worst [mmag]"] == 0  # this is a CPU
    assert 0 < both["magnitudes here and float64 on the CPU, 99.9 % [mmag]"] < 0.2
    fits = rows["fits of three labels, from and to host memory"]
    assert fits["error"] < 10
    assert fits["ratios"]["converged inside"] > 0.8
    assert "not measured here" in done.stdout  # a CPU keeps no promise of a GPU


def test_a_part_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def joint(plan: accelerator.Plan) -> list[Row]:
        raise RuntimeError("no such device")

    monkeypatch.setattr(accelerator, "PARTS", (accelerator.precision, joint))
    output = tmp_path / "found.json"
    assert accelerator.main([*TINY, "--output", str(output)]) == 1
    assert json.loads(output.read_text())["gaps"] == {"joint": "failed: RuntimeError: no such device"}
    assert "joint: failed: RuntimeError: no such device" in capsys.readouterr().out


def test_lower_precision_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operands with the 11 bits of TF32 are told from float32 by a hundredfold."""
    import jax.numpy as jnp

    def rounded(a: jnp.ndarray) -> jnp.ndarray:
        bits = jnp.asarray(a).view(jnp.uint32)
        return ((bits + 0x1000) & jnp.uint32(0xFFFFE000)).view(jnp.float32)

    plan = accelerator.Plan(1e-6, "small", 0.1, 0.0)
    (good,) = accelerator.precision(plan)
    monkeypatch.setattr(accelerator.linalg, "dot", lambda a, b: jnp.matmul(rounded(a), rounded(b)))
    (bad,) = accelerator.precision(plan)
    assert good.error < 1e-6 < 1e-5 < bad.error


def test_loops_end_when_time_is_up() -> None:
    calls: list[int] = []
    assert accelerator.repeat(calls.append, 5, 100.0)[0] == 5
    assert calls == [0, 1, 2, 3, 4]
    assert accelerator.repeat(calls.append, 10**9, 0.0)[0] == 1


def row(case: str, n: int, error: float, **ratios: float) -> Row:
    return Row("stage", case, n, 2.0, error=error, ratios=ratios)


def test_promises_take_the_worst_of_the_largest() -> None:
    rows = [row("a 1", 10, 9.0), row("a 2", 100, 1.0), row("a 3", 100, 3.0), row("b", 10**6, 99.0)]
    upper = Promise("stage", "a *", "error", high=2)
    assert upper.found(rows) == (100, 3.0)
    assert not upper.met(3.0)
    lower = Promise("stage", "a *", "error", 2)
    assert lower.found(rows) == (100, 1.0)
    assert Promise("stage", "a *", "error", -2, 2).text == "-2..2"
    assert Promise("stage", "a *", "nothing").found(rows) is None
    assert Promise("other", "a *", "error", 1).found(rows) is None


def test_no_promise_is_hidden() -> None:
    every = [p for some in promises.ISSUES.values() for p in some]
    assert all(p.low > -float("inf") or p.high < float("inf") for p in every)
    empty = promises.table([])
    assert len(empty.splitlines()) == len(every) + 2
    assert empty.count("not measured here") == len(every) + 1
    bad = Row("gaiaxpy", "calibrate, DataFrame", 500, 1.0, ratios={"gaiaxpy": 9.9})
    good = Row("gaiaxpy", "calibrate, DataFrame", 500, 1.0, ratios={"gaiaxpy": 10.1})
    assert "1 NOT MET" in promises.table([bad])
    assert "1 met" in promises.table([good])
    assert "1 NOT MET, earlier run" in promises.table([], stored=[bad])
    assert "1 met" in promises.table([good], stored=[bad])


def test_results_are_read_back_but_quick_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    limit = harness.Limits(1e9, 1e9)
    made = row("case", 10, float("nan"), speed=3.0, unknown=float("nan"))
    harness.save([made], tmp_path / "cpu_stage.json", limits=limit)
    harness.save([made], tmp_path / "cpu_quick.json", limits=limit)
    (found,) = harness.stored("cpu*.json", but=tmp_path / "cpu.json")
    assert found.ratios == {"speed": 3.0}
    assert found.error != found.error
    assert found.rate == 5.0
    text = harness.table([made], limit)
    assert "speed 3" in text
    assert len(text.splitlines()) == 2
