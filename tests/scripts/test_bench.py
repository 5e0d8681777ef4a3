"""The benchmark runs, reports what it promises, and finds TRL's trainer and ours equal; speed is not tested here."""

import json

import pytest
from helpers.repository import run_script

SHAPE = "--size tiny --image-tokens 16 --text-tokens 24 --completion 8 --group 4 --prompts 2 --ragged --device cpu"


@pytest.mark.slow
def test_the_benchmark_finds_both_trainers_equal(tmp_path):
    out = tmp_path / "bench.json"
    run_script("local_scripts/dev/benchmarks/bench_grpo.py", *SHAPE.split(), "--repeats", 1, "--json", out)
    report = json.loads(out.read_text())
    assert {"hardware", "date", "arguments", "peak_definition"} <= set(report)
    for name in ("update", "rollout", "step"):
        figures = report[name]
        assert figures["trl_seconds"] > 0 and figures["ours_seconds"] > 0 and figures["completions_per_second"] > 0
        assert figures["ratio"] == pytest.approx(figures["trl_seconds"] / figures["ours_seconds"])
        assert {"trl_peak_bytes", "ours_peak_bytes"} <= set(figures)
    assert report["logp_max_abs_diff"] < 1e-4
    assert report["grad_rel_diff"] < 1e-4
