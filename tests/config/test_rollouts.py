"""What a recipe's rollouts run on: vLLM where it can be, else transformers with the reason; typed flags win."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from helpers.repository import REPO

from open_r1.config import rollouts
from open_r1.config.rollouts import Machine, Vllm, choose_rollouts
from open_r1.errors import UsageError

GPUS = Machine(ranks=8, nodes=1, gpus=8, gpu_memory=80.0, vllm=Vllm("0.31.0", for_cpu=False))
CPU = Machine(ranks=1, nodes=1, gpus=0, gpu_memory=None, vllm=Vllm("0.31.0", for_cpu=True))
SCRIPT = ["src/open_r1/grpo_rec.py", "--model_name_or_path", "M"]
SLEEPING = "--use_vllm true --vllm_mode colocate --vllm_enable_sleep_mode true"


@pytest.fixture
def planner(monkeypatch) -> dict[str, str | None]:
    """What the planner answers, in place of a process that reads a model."""
    answer = {"refused": None, "share": "0.20"}
    monkeypatch.setattr(rollouts, "ask_planner", lambda *args: (answer["refused"], answer["share"]))
    return answer


def chosen(flags: str = "", machine: Machine = GPUS, **env: str) -> tuple[str, str]:
    found = choose_rollouts([*SCRIPT, *flags.split()], env, machine, (8, 2))
    return found.line, " ".join(found.added)


def test_vllm_where_it_is_installed_and_a_gpu_is_used(planner):
    line = "vLLM 0.31 on these GPUs, colocated with 0.20 of the memory, as planned; USE_VLLM=0 for transformers"
    assert chosen() == (line, f"{SLEEPING} --vllm_gpu_memory_utilization 0.20")
    assert chosen(machine=replace(GPUS, ranks=1))[0].startswith("vLLM 0.31 on this GPU, colocated")
    planner["share"] = None
    assert chosen() == (line.replace(" with 0.20 of the memory, as planned", ", memory not planned"), SLEEPING)


@pytest.mark.parametrize(
    ("flags", "added"),
    [
        ("--vllm_gpu_memory_utilization 0.5", SLEEPING),
        ("--vllm_enable_sleep_mode=false", "--use_vllm true --vllm_mode colocate --vllm_gpu_memory_utilization 0.20"),
        ("--vllm-mode server", "--use_vllm true"),
        ("--use_vllm true", ""),
        ("--use_vllm false", ""),
    ],
)
def test_what_is_typed_stays(planner, flags, added):
    assert chosen(flags)[1] == added
    assert chosen(flags, USE_VLLM="1")[1] == added


def test_a_yaml_file_types_flags_too(planner, tmp_path):
    (tmp_path / "run.yaml").write_text("use_vllm: false\nbeta: 0.1\n")
    assert chosen(f"--config {tmp_path}/run.yaml") == ("transformers, as --use_vllm says", "")
    assert chosen(f"--config {tmp_path}/run.yaml --use_vllm true") == ("vLLM, as --use_vllm says", "")


REASONS = [
    ("", replace(GPUS, gpus=0), "no CUDA device is used here"),
    ("--use_cpu true", GPUS, "no CUDA device is used here"),
    ("", replace(GPUS, vllm=None), "vllm is not installed: bash setup.sh --vllm"),
    ("", replace(GPUS, vllm=CPU.vllm), "the vllm installed here is the CPU build, and a CUDA device is used"),
    ("--fsdp true", GPUS, "--fsdp is given, whose weights vLLM does not get"),
    ("--loss_type vespo", GPUS, "--loss_type vespo needs a token_ mode of --vllm_importance_sampling_mode"),
    ("--load_in_4bit true", GPUS, "--load_in_4bit is given, and its engine would hold all weights in 16 bits"),
    ("--cache_implementation static", GPUS, "--cache_implementation is given, whose values are those of transformers"),
]


@pytest.mark.parametrize(("flags", "machine", "reason"), REASONS)
def test_without_vllm_the_line_says_why(planner, flags, machine, reason):
    line, added = chosen(flags, machine)
    assert line.startswith(f"transformers, because {reason}") and added == ""


@pytest.mark.parametrize(("flags", "machine", "reason"), REASONS[2:])
def test_demanded_where_it_cannot_be_it_is_refused(planner, flags, machine, reason):
    with pytest.raises(UsageError, match=re.escape(f"USE_VLLM: got 1, but {reason}")):
        chosen(flags, machine, USE_VLLM="1")


def test_a_model_that_vllm_has_not_rolls_out_by_transformers(planner):
    planner["refused"] = "vLLM 0.31.0 has no model for ['New']"
    assert chosen() == ("transformers, because vLLM 0.31.0 has no model for ['New']", "")
    with pytest.raises(UsageError, match=re.escape("USE_VLLM: got 1, but vLLM 0.31.0 has no model for ['New']")):
        chosen(USE_VLLM="1")


def test_it_can_be_turned_off_and_demanded_on_a_cpu(planner):
    assert chosen(USE_VLLM="0") == ("transformers, because USE_VLLM=0", "")
    planner["share"] = None
    line, added = chosen("--use_cpu true", CPU, USE_VLLM="1")
    assert line.startswith("vLLM 0.31 on the CPU, colocated;") and added == "--use_vllm true --vllm_mode colocate"
    assert chosen(SMOKE="1")[0].startswith("transformers, because SMOKE=1 tries a recipe in small")
    assert chosen(SMOKE="1", USE_VLLM="1")[0].startswith("vLLM 0.31")
    with pytest.raises(UsageError, match="USE_VLLM: got 'yes', expected 0 or 1"):
        chosen(USE_VLLM="yes")


def test_supervised_training_has_no_rollouts(planner):
    assert choose_rollouts(["src/open_r1/sft_jsonl.py"], {}, GPUS, (8, 2)) is None
    with pytest.raises(UsageError, match=r"USE_VLLM: got 1, but sft_jsonl\.py makes no rollouts"):
        choose_rollouts(["src/open_r1/sft_jsonl.py"], {"USE_VLLM": "1"}, GPUS, (8, 2))


# ---------------------------------------------------------------------------------------------- through the recipe

FAKE_VLLM = """
from types import SimpleNamespace
from transformers import AutoConfig
__version__ = "0.31.0"
ModelRegistry = SimpleNamespace(models={})
SamplingParams = None
class EngineArgs:
    def __init__(self, model, **options):
        self.model = model
    def create_model_config(self):
        return SimpleNamespace(hf_config=AutoConfig.from_pretrained(self.model))
"""


@pytest.fixture(scope="module")
def with_gpu(tmp_path_factory) -> dict[str, str]:
    """The environment of a machine with two GPUs of 24 and 80 GiB and a vLLM, whose recipes print their command."""
    folder = tmp_path_factory.mktemp("machine")
    scripts = {
        "python": f'case "$1 $2" in src/*|*agent) printf "%s\\n" "$@";; *) exec {sys.executable} "$@";; esac',
        "nvidia-smi": 'case "$1" in -L) echo "GPU 0: A"; echo "GPU 1: B";; *) echo 81920; echo 24576;; esac',
    }
    (folder / "bin").mkdir()
    for name, body in scripts.items():
        (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    package, facts = folder / "site" / "vllm", folder / "site" / "vllm-0.31.0.dist-info"
    for made in (package, facts):
        made.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE_VLLM)
    (package / "sampling_params.py").write_text("StructuredOutputsParams = None\n")
    (package / "multimodal.py").write_text("MULTIMODAL_REGISTRY = None\n")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.31.0\n")
    return {"VENV": str(folder), "PYTHONPATH": str(folder / "site"), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}


def start(script: str, env: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", f"run_scripts/{script}"]
    return subprocess.run(command, cwd=REPO, text=True, capture_output=True, env={**env, **more})


@pytest.mark.slow
def test_a_recipe_asks_the_planner_and_vllm(with_gpu, tmp_path):
    """The share of the smallest GPU: weights, KV cache and 2 GiB of work are 10 % of 24 GiB."""
    done = start("run_grpo_rec_more_params.sh", with_gpu, MODEL=str(REPO / "assets" / "tiny-vlm"))
    first = "launch.sh: rollouts: vLLM 0.31 on these GPUs, colocated with 0.10 of the memory, as planned; USE_VLLM=0"
    assert done.returncode == 0 and done.stderr.startswith(first), done.stderr
    added = done.stdout.split()[-8:]
    assert " ".join(added) == f"{SLEEPING} --vllm_gpu_memory_utilization 0.10"
