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
    known = "--dev --browser --fuzz --demo --quant --vllm"
    assert done.returncode == 1 and f"unknown option --vlm; known: {known}" in done.stderr


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


# the tools of setup.sh that a machine has without any Python
TOOLS = ("bash", "dirname", "rm", "sed")


def stand_in_machine(folder: Path, **versions: str) -> str:
    """A PATH with the interpreters `versions` (name -> version): each answers `-c` and `-V`, and fails at `-m`."""
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    for name, version in versions.items():
        info = ", ".join(version.split("."))
        lines = (
            f'[ "$1" = -V ] && echo Python {version} && exit',
            f'[ "$1" = -c ] && exec {sys.executable} -c "import sys; sys.version_info = ({info}); $2"',
            'echo "$0 $*" >&2; exit 3',
        )
        (folder / name).write_text("#!/bin/bash\n" + "\n".join(lines) + "\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({"python3": "3.11.2"}, "python3"),
        ({"python3": "3.13.5"}, "python3"),
        ({"python3": "3.14.0"}, "python3"),
        ({"python3": "3.9.18", "python3.13": "3.13.1"}, "python3.13"),
        ({"python3": "3.15.0", "python3.14": "3.14.2", "python3.12": "3.12.1"}, "python3.12"),
    ],
)
def test_setup_takes_each_python_that_the_pins_have_wheels_for(tmp_path, versions, chosen):
    done = bash("setup.sh", PATH=stand_in_machine(tmp_path / "bin", **versions), VENV=str(tmp_path / "venv"))
    assert f"with {chosen} (Python {versions[chosen]})" in done.stdout
    assert f"{chosen} -m venv {tmp_path / 'venv'}" in done.stderr and "made no environment" in done.stderr


@pytest.mark.parametrize("versions", [{}, {"python3": "3.10.13"}, {"python3": "3.15.0"}])
def test_setup_lets_uv_fetch_a_python_where_none_fits(tmp_path, versions):
    path = stand_in_machine(tmp_path / "bin", **versions)
    (tmp_path / "bin" / "uv").write_text('#!/bin/bash\necho "uv $*" >&2; exit 2\n')
    (tmp_path / "bin" / "uv").chmod(0o755)
    done = bash("setup.sh", PATH=path, VENV=str(tmp_path / "venv"))
    assert done.returncode == 1 and "uv fetches Python 3.12 for" in done.stdout
    assert (f"Python {versions['python3']}" if versions else "no python3") in done.stdout
    assert f"uv venv --quiet --python 3.12 {tmp_path / 'venv'}" in done.stderr and "could not fetch" in done.stderr


def test_setup_says_how_uv_would_come(tmp_path):
    path = stand_in_machine(tmp_path / "bin", python3="3.10.13")
    done = bash("setup.sh", PATH=path, VENV=str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "got no way to install uv (Python 3.10.13), expected python3 with venv and pip" in done.stderr


@pytest.mark.parametrize(("version", "got"), [("3.10.13", "Python 3.10.13"), ("", "which does not run")])
def test_setup_names_the_python_it_needs(tmp_path, version, got):
    path = stand_in_machine(tmp_path / "bin", **({"mine": version} if version else {}))
    done = bash("setup.sh", PATH=path, PYTHON="mine", VENV=str(tmp_path / "venv"))
    assert done.returncode == 1 and f"PYTHON: got mine ({got}), expected Python 3.11 to 3.14" in done.stderr


def test_setup_refuses_an_environment_of_another_python(tmp_path):
    stand_in_machine(tmp_path / "bin", python="3.10.13")
    done = bash("setup.sh", VENV=str(tmp_path))
    assert done.returncode == 1 and f"VENV: got {tmp_path} with Python 3.10.13, expected Python 3.11" in done.stderr


@pytest.mark.parametrize("script", ["launch.sh", "make_data.sh", "vllm_server.sh"])
def test_scripts_name_the_environment_that_is_missing(tmp_path, script):
    path = stand_in_machine(tmp_path / "bin")
    done = bash(f"run_scripts/{script}", "area", tmp_path / "data", PATH=path, VENV=str(tmp_path / "venv"))
    assert done.returncode == 1 and done.stderr.startswith(f"{script}: got no python without the package open_r1")
    assert "bash setup.sh" in done.stderr and "pip install -e ." in done.stderr


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
