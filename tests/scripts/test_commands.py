"""Every flag of a command that a page or a recipe shows is accepted: none of them is unknown, refused or idle."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers.repository import REPO

from open_r1.config.parser import parse
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.rewards.registry import get_method
from open_r1.sft_jsonl import parse_sft

RECIPES = sorted((REPO / "run_scripts").glob("run_*.sh"))
PAGES = [REPO / "README.md", *sorted((REPO / "assets" / "docs").glob("*.md"))]
PAGE_OF_TOOLS, PYTHON = REPO / "assets" / "docs" / "tools.md", re.compile(r"^```python\n(.*?)^```", re.M | re.S)
BLOCK, COMMENT = re.compile(r"^```bash\n(.*?)^```", re.M | re.S), re.compile(r"\s+#\s.*$", re.M)
STARTS_TRAINING = re.compile(r"(?:grpo|grpo_jsonl|grpo_rec|sft_jsonl|run_(?:grpo_)?\w+)\.(?:py|sh)$")
GRPO = ["src/open_r1/grpo_jsonl.py", "--model_name_or_path", "m", "--data_file_paths", "d.jsonl", "--output_dir", "o"]
PROPOSAL = re.compile(r"`(--num_generations [^`]+)`")  # flags of the table of proposals stand in it without a script
READERS_OWN = {
    "clock": "digits",
    "my_task.py:RECEIPTS": "default",
} | dict.fromkeys(  # what a page tells its reader to write, and stand-ins
    ("my_rewards.py:short_thought", "my_rewards.py:box_shows_something", "my_rewards.py:answers_differ"), "length"
)


@pytest.fixture
def accepted(monkeypatch, tmp_path):
    """Parses a command line as on a machine with GPUs, vLLM and a judge, beside the environment of a page."""
    (game,) = (code for code in PYTHON.findall(PAGE_OF_TOOLS.read_text(encoding="utf-8")) if "class HiddenBox" in code)
    (tmp_path / "games.py").write_text(game, encoding="utf-8")
    own = READERS_OWN | {"games.py:HiddenBox": f"{tmp_path}/games.py:HiddenBox"}
    monkeypatch.setattr(
        "open_r1.config.validation.prepare_methods", lambda names: [get_method(name) for name in names]
    )
    monkeypatch.setattr("open_r1.config.parser.prepare", lambda training: None)
    for module in ("validation", "vllm_flags"):
        monkeypatch.setattr(f"open_r1.config.{module}.find_spec", lambda name: True)
        monkeypatch.setattr(f"open_r1.config.{module}.is_cuda_available", lambda: True)

    def accept(script: str, *flags: str) -> None:
        flags = [own.get(flag, flag) for flag in flags]
        if script.endswith("sft_jsonl.py"):
            parse_sft(flags)
        else:
            parse(HubArguments if script.endswith("/grpo.py") else JsonlArguments, flags)

    return accept


def launched(recipe: Path, folder: Path, *flags: str) -> list[str]:
    """Script and flags that a recipe hands to launch.sh."""
    shell = folder / "bash"
    shell.write_text('#!/bin/sh\nshift\nprintf "%s\\n" "$@"\n')
    shell.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SMOKE": "1"}  # makes no rows before
    command = ["/bin/bash", str(recipe), *flags]
    return subprocess.run(command, env=env, text=True, capture_output=True, check=True).stdout.splitlines()


def commands(page: Path) -> list[list[str]]:
    """Words of each command of a page that starts a training script or a recipe, from that word on."""
    lines = [
        shlex.split(COMMENT.sub("", line))
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
    ]
    starts = [(line, i) for line in lines for i, word in enumerate(line) if STARTS_TRAINING.match(Path(word).name)]
    return [line[i:] for line, i in starts]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_flags_of_a_recipe_are_accepted(recipe, accepted, tmp_path):
    accepted(*launched(recipe, tmp_path))


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda path: path.name)
def test_flags_of_the_commands_of_a_page_are_accepted(page, accepted, tmp_path):
    for script, *flags in commands(page):
        if script.endswith(".sh"):
            accepted(*launched(REPO / "run_scripts" / Path(script).name, tmp_path, *flags))
        else:
            accepted(script, *flags)


def test_flags_that_are_proposed_for_a_machine_are_accepted(accepted):
    proposals = PROPOSAL.findall((REPO / "assets" / "docs" / "scaling.md").read_text(encoding="utf-8"))
    assert len(proposals) > 5
    for proposal in proposals:
        accepted(*GRPO, *proposal.split())
