"""The shell scripts: what they refuse, how they read, and that they are clean."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torture_table
from helpers.repository import REPO, run_script

SHELL = [
    REPO / "setup.sh",
    REPO / ".ci" / "run",
    *sorted(REPO.glob("run_scripts/*.sh")),
    *sorted(REPO.glob("eval/*.sh")),
]


def bash(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(["bash", *map(str, command)], cwd=REPO, text=True, capture_output=True, env=env)


def test_setup_refuses_what_it_does_not_know():
    done = bash("setup.sh", "--vlm")
    assert done.returncode == 1 and "unknown option --vlm; known: --dev --browser --fuzz --demo --vllm" in done.stderr


def test_flash_attn_is_refused_without_cuda(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    done = bash("setup.sh", "--flash-attn", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1 and "expected one (nvidia-smi lists none)" in done.stderr


def test_a_browser_that_cannot_be_installed_is_named(tmp_path):
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = bash("setup.sh", "--browser", PATH=str(tmp_path))
    assert done.returncode == 1 and "--browser: got no chromium, expected it on PATH" in done.stderr


def test_setup_names_the_python_it_needs(tmp_path):
    done = bash("setup.sh", PYTHON="/nowhere/python", VENV=str(tmp_path / "venv"))
    assert done.returncode == 1 and "got no Python 3.11 or 3.12 (tried: /nowhere/python)" in done.stderr


def test_quickstart_does_not_overwrite_a_run(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    done = bash("run_scripts/quickstart.sh", OUT=str(tmp_path), VENV=sys.prefix)
    assert done.returncode == 1 and "already holds a run" in done.stderr


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shell_scripts_stop_at_the_first_error_and_are_executable(script: Path):
    assert "set -euo pipefail" in script.read_text() and os.access(script, os.X_OK)


@pytest.mark.slow
def test_the_page_lists_every_flag_as_the_code_has_it():
    run_script("local_scripts/dev/readme/flags_table.py", "--check")


def test_the_page_shows_the_newest_table_of_trials():
    assert torture_table.section().is_up_to_date()
