"""eval/lmms_eval.sh: the command line it builds, seen by a fake lmms_eval, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.repository import REPO

SCRIPT = REPO / "eval" / "lmms_eval.sh"
# Stands for an interpreter whose lmms_eval prints what it was asked: what comes before -m accelerate... runs really.
STUB = f"""#!/usr/bin/env bash
if [ "$1" = -m ]; then printf '%s\\n' "$@"; else exec {sys.executable} "$@"; fi
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a module lmms_eval that prints its arguments."""
    package = tmp_path / "lmms_eval"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    (tmp_path / "python").write_text(STUB)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    unset = {
        "FAMILY",
        "TASKS",
        "OUT",
        "NPROC",
        "BATCH",
        "MAX_PIXELS",
        "MAX_NEW_TOKENS",
        "PORT",
        "PYTHON",
        "PYTHONPATH",
    }
    env = {key: value for key, value in os.environ.items() if key not in unset | {"PYTHONPATH"}} | environment
    return subprocess.run(["bash", str(SCRIPT), *args], cwd="/", env=env, text=True, capture_output=True)


def stubbed(fake: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(*args, PYTHONPATH=str(fake), PYTHON=str(fake / "python"), **environment)


def flags(argv: list[str]) -> dict[str, str]:
    """`--flag value` pairs, "" for a flag alone."""
    return {
        flag: value if not value.startswith("--") else ""
        for flag, value in zip(argv, [*argv[1:], "--"], strict=True)
        if flag.startswith("--")
    }


def test_the_defaults(fake):
    done = stubbed(fake, "assets/tiny-vlm", NPROC="2")
    argv = done.stdout.splitlines()
    assert argv[:2] == ["-m", "accelerate.commands.launch"] and done.returncode == 0, done.stderr
    assert flags(argv) == {
        "--num_processes": "2",
        "--main_process_port": "12346",
        "--model": "qwen2_5_vl",  # by its config.json: nothing in the path says so
        "--model_args": "pretrained=assets/tiny-vlm,max_pixels=2359296",
        "--tasks": "mmmu_val,mathvista_testmini,mmmu_pro",
        "--batch_size": "1",
        "--gen_kwargs": "max_new_tokens=4096",
        "--log_samples": "",
        "--output_path": "output/lmms_eval/tiny-vlm",
    }


def test_the_environment_and_more_flags(fake):
    environment = {"FAMILY": "internvl_hf", "TASKS": "mmmu_val", "OUT": "a b", "NPROC": "1", "BATCH": "4"}
    done = stubbed(fake, "some/model", "--limit", "8", **environment, MAX_NEW_TOKENS="64", PORT="7")
    assert flags(done.stdout.splitlines()) == {
        "--num_processes": "1",
        "--main_process_port": "7",
        "--model": "internvl_hf",
        "--model_args": "pretrained=some/model",
        "--tasks": "mmmu_val",
        "--batch_size": "4",
        "--gen_kwargs": "max_new_tokens=64",
        "--log_samples": "",
        "--output_path": "a b",
        "--limit": "8",
    }


@pytest.mark.parametrize(
    ("kind", "family"), [("qwen3_vl_moe", "qwen3_vl"), ("internvl", "internvl_hf"), ("llava", None), (None, None)]
)
def test_the_family_is_that_of_the_checkpoint(fake, kind, family):
    (fake / "qwen2_vl").mkdir()  # the name lies
    (fake / "qwen2_vl" / "config.json").write_text(json.dumps({"model_type": kind} if kind else {}))
    done = stubbed(fake, str(fake / "qwen2_vl"), NPROC="1")
    if family:
        assert flags(done.stdout.splitlines())["--model"] == family
    else:
        assert done.returncode == 1 and f"got a checkpoint of type {kind}, expected one of qwen2_vl" in done.stderr


def test_an_adapter_alone_is_refused(fake):
    done = stubbed(fake, str(fake))
    assert done.returncode == 1 and "got a folder without config.json, expected a whole checkpoint" in done.stderr


@pytest.mark.slow
def test_lmms_eval_is_started_by_accelerate(fake):
    done = run("m", FAMILY="qwen2_vl", NPROC="1", OUT="o", PYTHONPATH=str(fake), PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    (argv,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert flags(argv)["--model"] == "qwen2_vl" and flags(argv)["--output_path"] == "o"


def test_what_is_missing_is_named():
    assert run().returncode == 2 and "got no MODEL" in run().stderr
    done = run("m", PYTHON=sys.executable)
    assert done.returncode == 1 and "has no lmms_eval, expected lmms-eval 0.7" in done.stderr
    assert "uv pip install --python .venv-lmms lmms_eval==0.7.3" in done.stderr


def test_the_script_is_clean_and_executable():
    subprocess.run([Path(sys.executable).with_name("shellcheck"), SCRIPT], check=True)
    assert os.access(SCRIPT, os.X_OK) and "set -euo pipefail" in SCRIPT.read_text()
