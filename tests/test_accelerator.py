"""The accelerator run, tiny, on a CPU and without the packages that a bare image lacks; and the table of promises."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import accelerator, device, harness, promises
from benchmarks.harness import Row
from benchmarks.promises import Promise

ROOT = Path(__file__).parents[1]
ABSENT = (
    "astropy", "astropy_healpix", "click", "dask", "fastavro", "gaiaxpy", "isal", "matplotlib", "pandas", "psutil",
    "pyarrow", "pytest", "requests", "simdjson", "statsmodels", "threadpoolctl", "tqdm",
)  # fmt: skip
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
TINY = ("--scale", "1e-6", "--network", "small", "--seconds", "0.02")


@pytest.mark.slow
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
    instrument = "12 magnitudes of the corrected instrument"
    begins = (
        "products", "here against", "12 magnitudes, ", "12 magnitudes and errors, ",
        "12 magnitudes and errors of compact", "294 magnitudes and errors of compact", f"{instrument}, ",
        f"{instrument} and errors", "343 fluxes, ", "343 fluxes and errors", "12 corrected", "small network",
        "fits of three labels, ", "fits of three labels with common errors", "joint",
    )  # fmt: skip
    for begin in begins:
        assert any(case.startswith(begin) for case in rows), begin
        assert begin in done.stdout
    assert all(row["seconds"] > 0 and row["n"] > 0 for row in rows.values())
    assert rows["products: TF32 is off"]["error"] < 1e-6
    both = rows["here against the CPU, same sources"]["ratios"]
    assert both["magnitudes, worst [mmag]"] == 0  # this is a CPU
    assert 0 < both["magnitudes here and float64 on the CPU, 99.9 % [mmag]"] < 0.2
    fits = rows["fits of three labels, from and to host memory"]
    assert fits["error"] < 10
    assert fits["ratios"]["converged"] > 0.95
    assert fits["ratios"]["converged inside"] > 0.8
    assert rows["fits of three labels, on the device"]["ratios"]["converged in the first round"] > 0.9
    assert "not measured" in done.stdout  # a CPU keeps no promise of a GPU


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
    assert device.repeat(calls.append, 5, 100.0)[0] == 5
    assert calls == [0, 1, 2, 3, 4]
    assert device.repeat(calls.append, 10**9, 0.0)[0] == 1


class Fake(eqx.Module):
    """A model of which a fit sees the number of rounds alone, and stars that need more than one where bad."""

    rounds: Any = 1


class FakeStar(eqx.Module):
    flux: jax.Array


def test_fits_go_on_with_the_stars_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, np.ndarray]] = []

    def function(constants: Fake, batch: FakeStar) -> dict[str, jax.Array]:
        rounds = int(constants.rounds)
        seen.append((rounds, np.asarray(batch.flux)))
        return {"status": jnp.where((batch.flux < 0) & (rounds == 1), accelerator.STUCK, 0)}

    monkeypatch.setattr(accelerator, "compiled", lambda kernel: function)
    flux = jnp.array([1.0, -2, 3, 4, -5, 6, 7])
    step, each, stuck = accelerator.rounds(Fake(), FakeStar(flux), 32)  # type: ignore[arg-type]
    assert (each, stuck) == (3, 2)
    seen.clear()
    assert not step(0).any()
    assert [rounds for rounds, _ in seen] == [1, 1, 1, accelerator.MORE_ROUNDS]
    np.testing.assert_array_equal(seen[-1][1], [-2, -5, -2, -5, -2, -5, -2])
    step, each, stuck = accelerator.rounds(Fake(), FakeStar(abs(flux)), 4)  # type: ignore[arg-type]
    seen.clear()
    step(0)
    assert (len(seen), each, stuck) == (4, 4, 0)


def test_operations_of_products_are_counted() -> None:
    a, b = np.ones((5, 3)), np.ones((3, 7))
    assert harness.product_flops(jnp.matmul, a, b) == 2 * 5 * 3 * 7
    assert harness.product_flops(jax.jit(jax.vmap(jnp.dot, (0, None))), a, b) == 2 * 5 * 3 * 7
    assert harness.product_flops(lambda a: jax.lax.fori_loop(0, 4, lambda _, x: x @ x, a), np.ones((3, 3))) == 4 * 54
    assert harness.product_flops(lambda a: a + 1, a) == 0


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
    assert empty.count("not measured") == len(every) + 1
    bad = Row("gaiaxpy", "calibrate, DataFrame", 500, 1.0, ratios={"gaiaxpy": 9.9})
    good = Row("gaiaxpy", "calibrate, DataFrame", 500, 1.0, ratios={"gaiaxpy": 10.1})
    assert "1 NOT MET" in promises.table([bad])
    assert "1 met" in promises.table([good])
    assert "1 NOT MET, stored" in promises.table([], stored=[bad])
    assert "1 met" in promises.table([good], stored=[bad])
    large = dataclasses.replace(good, n=5000)
    table = promises.table([bad], stored=[large])
    assert "1 met, stored" in table
    assert " 9.9 " in table  # of this run, beside it
    assert "1 NOT MET" in promises.table([dataclasses.replace(bad, n=50_000)], stored=[large])


def test_results_are_read_back_but_quick_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    limit = harness.Limits(1e9, 1e9)
    made = row("case", 10, float("nan"), speed=3.0, unknown=float("nan"))
    old = {"date": "", "rows": [{"stage": "stage", "case": "case", "n": 10, "ratios": {"speed": 99.0}}]}
    (tmp_path / "cpu_z.json").write_text(json.dumps(old))
    harness.save([made], tmp_path / "cpu_stage.json", limits=limit)
    for other in ("cpu_quick", "gpu_stage", "cpu"):
        harness.save([row("case", 10, 1.0)], tmp_path / f"{other}.json", limits=limit)
    (found,) = harness.stored("cpu", but="cpu")
    assert found.ratios == {"speed": 3.0}
    assert found.error != found.error
    assert found.rate == 5.0
    text = harness.table([made], limit)
    assert "speed 3" in text
    assert len(text.splitlines()) == 2
