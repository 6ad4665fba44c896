"""The engine: padding, compiles, chunks, precision scopes, devices; results depend on none of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xpjax
from tests import oracles
from xpjax.core import engine


def kernel(constants: jax.Array, source: jax.Array) -> dict[str, jax.Array]:
    return {"sum": jnp.sum(source * constants), "double": 2 * source}


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("batch_rows", [None, 64, 192])
def test_batches_equal_a_loop(rng, n: int, batch_rows: int | None) -> None:
    x, weight = rng.normal(size=(n, 7)).astype("f4"), rng.normal(size=7).astype("f4")
    out = engine.run(kernel, weight, x, batch_rows=batch_rows)
    np.testing.assert_allclose(out["sum"], x @ weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out["double"], 2 * x)


def test_no_sources_give_empty_results() -> None:
    out = engine.run(kernel, np.ones(7, "f4"), np.empty((0, 7), "f4"))
    assert out["sum"].shape == (0,)
    assert out["double"].shape == (0, 7)


def test_one_compile_for_a_job_and_for_the_next(caplog) -> None:
    traced = []

    def counted(constants: jax.Array, source: jax.Array) -> jax.Array:
        traced.append(1)
        return source @ constants

    def compiles(x: np.ndarray, batch_rows: int | None = None) -> int:
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            engine.run(counted, np.ones((7, 3), "f4"), x, batch_rows=batch_rows)
        return sum("Compiling" in record.message for record in caplog.records)

    x = np.ones((1000, 7), "f4")
    assert compiles(x, 128) == 1
    assert compiles(x[:777], 128) == 0
    assert compiles(x[:990]) == 1
    assert compiles(x[:1000]) == 0  # rounded to the same number of rows
    assert len(traced) == 1  # the shapes of the result and every size of batch come of one trace


def test_photometry_compiles_once_for_any_number_of_stars(caplog) -> None:
    value = oracles.coefficients(np.random.default_rng(0), 8).value
    system = xpjax.load_system("IPHAS")
    xpjax.photometry(value, system, errors=False)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for n in (1, 3, 8):
            xpjax.photometry(np.repeat(value, n, axis=0), system, errors=False)
    assert not [r for r in caplog.records if "Compiling" in r.message]


def test_row_counts_are_rounded_to_few_values() -> None:
    counts = {engine._round_rows(n, 64) for n in range(1, 65536)}
    assert len(counts) < 50
    for n in (1, 64, 65, 1000, 65536, 100_000):
        assert n <= engine._round_rows(n, 64) <= max(64, 1.25 * n + 64)


def test_float64_is_scoped_to_the_call_and_thread() -> None:
    x = np.full((4, 7), 1 / 3)
    assert engine.run(kernel, np.ones(7), x, float64=True)["sum"].dtype == np.float64
    assert engine.run(kernel, np.ones(7), x)["sum"].dtype == np.float32
    assert not jax.config.jax_enable_x64
    results = {}

    def work(name: str, float64: bool) -> None:
        results[name] = engine.run(kernel, np.ones(7), x, float64=float64)["sum"].dtype

    threads = [threading.Thread(target=work, args=(str(f), f)) for f in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"True": np.float64, "False": np.float32}


def test_products_are_traced_at_full_precision() -> None:
    # A bare `@`, as in other libraries' layers: on recent GPUs it would run in TF32.
    with engine.precision(False):
        text = str(jax.make_jaxpr(lambda a, b: a @ b)(np.ones((2, 2), "f4"), np.ones((2, 2), "f4")))
    assert "HIGHEST" in text


def test_progress_counts_rows() -> None:
    seen: list[int] = []
    engine.run(kernel, np.ones(7, "f4"), np.ones((300, 7), "f4"), batch_rows=128, progress=seen.append)
    assert seen == [128, 256, 300]


def test_devices_are_named_or_counted() -> None:
    assert len(engine.find_devices("cpu")) >= 1
    assert len(engine.find_devices(1)) == 1
    assert len(engine.find_devices("1")) == 1
    with pytest.raises(ValueError, match="JAX sees"):
        engine.find_devices(1000)
    assert engine.find_devices(jax.devices()[0]) == (jax.devices()[0],)
    for odd in ([], ["cpu"], "cpu:x"):
        with pytest.raises(ValueError, match="devices"):
            engine.find_devices(odd)
    with pytest.raises(ValueError, match="no 'abacus' device"):
        engine.find_devices("abacus")


def test_aligned_arrays_are_aligned() -> None:
    for shape in ((3, 110), (1000, 2970)):
        assert engine.aligned(shape).ctypes.data % 64 == 0
        assert engine.aligned(shape).shape == shape


@pytest.mark.slow
def test_two_devices_give_what_one_gives() -> None:
    script = textwrap.dedent("""
        import jax, numpy as np, xpjax
        from tests import oracles
        assert len(jax.devices()) == 2
        c = oracles.coefficients(np.random.default_rng(0), 150)
        for float64 in (False, True):
            for call in (
                lambda d: xpjax.photometry(c, ["JPLUS", "SDSS_Std"], devices=d, float64=float64),
                lambda d: xpjax.photometry(c.value, "SDSS", devices=d, float64=float64),
                lambda d: xpjax.spectra(c, np.arange(400., 900, 50), correlation=True, devices=d, float64=float64),
            ):
                one, two = call(1), call(2)
                np.testing.assert_allclose(two.flux, one.flux, rtol=1e-12 if float64 else 2e-5)
                if one.flux_error is not None:
                    np.testing.assert_allclose(two.flux_error, one.flux_error, rtol=1e-11 if float64 else 1e-5)
                np.testing.assert_array_equal(two.status, one.status)
        print("agree")
    """)
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "agree" in done.stdout
