"""The launcher's placement and global batch of each recipe: one GPU, one machine, two nodes, SLURM."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.preloaded import ranked, venv
from helpers.repository import REPO, free_port

from open_r1.config.launcher import (
    Placement,
    global_batch_for,
    gpus_here,
    placement_of,
    refuse_no_gpu,
    start_command,
)
from open_r1.errors import UsageError

TWO = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "node0"}
RECIPES = sorted(path.name for path in (REPO / "run_scripts").glob("run_*.sh"))


@pytest.mark.parametrize(
    ("env", "gpus", "flags"),
    [
        ({}, 0, ["--standalone", "--local_addr=127.0.0.1", "--nproc_per_node=1"]),  # torchrun finds a port
        ({"MADE_FOR": "8"}, 4, ["--standalone", "--local_addr=127.0.0.1", "--nproc_per_node=4"]),
        ({"MADE_FOR": "3"}, 8, ["--standalone", "--local_addr=127.0.0.1", "--nproc_per_node=3"]),
        ({"MADE_FOR": "3", "NPROC": "6"}, 8, ["--standalone", "--local_addr=127.0.0.1", "--nproc_per_node=6"]),
        (
            {"MASTER_PORT": "5"},
            1,
            ["--nproc_per_node=1", "--nnodes=1", "--node_rank=0", "--master_addr=127.0.0.1", "--master_port=5"],
        ),
        (
            TWO | {"MADE_FOR": "3"},
            8,
            ["--nproc_per_node=8", "--nnodes=2", "--node_rank=1", "--master_addr=node0", "--master_port=29500"],
        ),
    ],
)
def test_ranks_and_meeting_point_come_from_the_environment(env, gpus, flags):
    assert placement_of(env, gpus).flags() == flags


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"NNODES": "2", "NODE_RANK": "0"},
            "MASTER_ADDR: got nothing, expected machine 0's address, as NNODES is 2; set",
        ),
        ({"NNODES": "2", "MASTER_ADDR": "a"}, "NODE_RANK: got nothing, expected this machine's number, 0 to 1"),
        (TWO | {"NODE_RANK": "2"}, "NODE_RANK: got 2, expected 0 to 1, as NNODES is 2; set NNODES"),
        ({"NODE_RANK": "1"}, "NODE_RANK: got 1, expected 0 to 0, as NNODES is 1; set NNODES"),
        ({"NPROC": "gpu"}, "NPROC: got 'gpu', expected a whole number from 1; set NPROC"),
        ({"NNODES": "0"}, "NNODES: got '0', expected a whole number from 1"),
    ],
)
def test_a_place_that_does_not_exist_is_refused_with_what_to_set(env, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        placement_of(env, gpus=8)


def batch(per_device: int, *steps: int) -> list[str]:
    flags = ["x.py", "--per_device_train_batch_size", str(per_device)]
    return flags + [word for value in steps for word in ("--gradient_accumulation_steps", str(value))]


@pytest.mark.parametrize(
    ("flags", "made_for", "ranks", "steps", "size", "remark"),
    [
        (batch(8, 2), 8, 8, 2, 128, ""),
        (batch(8, 2), 8, 1, 16, 128, "made for 8 GPUs with --gradient_accumulation_steps 2; it is 16 here, so that "),
        (batch(8, 2), 8, 16, 1, 128, "stays 128"),
        (batch(9, 4), 3, 2, 6, 108, "stays 108"),
        (batch(8, 2), 8, 3, 5, 120, "nearest to 128 (that would take 5.33 steps)"),  # 3 x 8 x 5; 16 / 3 steps
        (batch(8, 2), 8, 6, 3, 144, "nearest to 128 (that would take 2.67 steps)"),  # 6 x 8 x 3
        (batch(8, 2, 4), 8, 1, 4, 32, "is your own; the recipe's batch is 8 x 8 x 2 = 128"),
        (batch(8, 1, 1), 8, 16, 1, 128, "is your own; the recipe's batch is 8 x 8 x 1 = 64"),
        (batch(4), 2, 1, 2, 8, "stays 8"),  # without the flag it is 1
        (batch(4, 3), None, 5, 3, 60, ""),  # no recipe: nothing to keep
    ],
)
def test_gradient_accumulation_follows_the_ranks(flags, made_for, ranks, steps, size, remark):
    found = global_batch_for(flags, ranks, made_for)
    assert (found.steps, found.size) == (steps, size)
    assert remark in found.remark and bool(remark) == bool(found.remark)
    assert found.added in ((), ("--gradient_accumulation_steps", str(steps)))


def test_more_ranks_than_the_recipes_batch_are_refused():
    message = "16 ranks: one step of each is 128 already, the recipe's global batch is 8 x 8 x 1 = 64; take at most 8 "
    with pytest.raises(UsageError, match=re.escape(message)):
        global_batch_for(batch(8, 1), ranks=16, made_for=8)


def test_only_visible_gpus_count():
    counts = [gpus_here({"CUDA_VISIBLE_DEVICES": names}) for names in ("", "-1", "3", "0,2,5", "0,-1,1")]
    assert counts == [0, 0, 1, 3, 1]


def test_one_rank_needs_no_torchrun_but_for_its_engine():
    alone = Placement(nproc=1)
    assert start_command(alone, ["x.py", "--bf16", "true"], gpus=1) == ["python"]
    for placement, flags, gpus in ((alone, ["--deepspeed=y.json"], 1), (alone, [], 8), (Placement(2), [], 1)):
        assert start_command(placement, ["x.py", *flags], gpus)[:3] == [
            "python",
            "-m",
            "open_r1.trainer.lifecycle.torchrun_agent",
        ]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which what starts a script says what it was given, and nothing else."""
    bin_ = tmp_path_factory.mktemp("venv") / "bin"
    bin_.mkdir()
    echo = 'printf "%s\\n" "$@"'
    executable(bin_ / "python", f'case "$1 $2" in src/*|*agent) {echo};; *) exec {sys.executable} "$@";; esac')
    return bin_.parent


def executable(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def start(script: str, *flags: object, venv: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    unset = {"NPROC", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "MADE_FOR"}
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"VENV": str(venv), "CUDA_VISIBLE_DEVICES": "0", **environment}  # one GPU, or as the test says
    return subprocess.run(["bash", script, *map(str, flags)], cwd=REPO, text=True, capture_output=True, env=env)


@pytest.mark.parametrize("script", RECIPES)
def test_every_recipe_keeps_its_global_batch_on_one_gpu(script, fake, tmp_path):
    (tmp_path / "train.jsonl").touch()  # DATA is there: nothing is generated
    text = (REPO / "run_scripts" / script).read_text()
    names = ("MADE_FOR=", "--per_device_train_batch_size ", "--gradient_accumulation_steps ")
    made_for, per_device, steps = (int(re.findall(rf"{name}(\d+)", text)[-1]) for name in names)
    done = start(f"run_scripts/{script}", venv=fake, NPROC="1", DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"1 x {per_device} x {made_for * steps} = {made_for * per_device * steps} " in done.stderr
    assert re.findall(r"--gradient_accumulation_steps\n(\d+)", done.stdout)[-1] == str(made_for * steps)


def test_own_accumulation_wins_and_is_named(fake):
    done = start(
        "run_scripts/run_grpo_rec.sh", "--gradient_accumulation_steps", 3, "--lr", "1 2", venv=fake, NPROC="1"
    )
    assert done.stdout.endswith("--gradient_accumulation_steps\n3\n--lr\n1 2\n")  # quoting survives
    assert "1 rank, global batch 1 x 8 x 3 = 24 completions" in done.stderr and "is your own" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", RECIPES)
def test_a_recipe_without_a_gpu_says_what_to_type_before_anything_starts(script, fake, tmp_path):
    """In one line, before data are made; --use_cpu true and SMOKE=1 are the ways around it."""
    made = tmp_path / "data"
    done = start(f"run_scripts/{script}", venv=fake, CUDA_VISIBLE_DEVICES="", DATA=str(made))
    assert done.returncode == 1 and done.stdout == "" and not made.exists()
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("launch.sh: got no GPU on this machine, expected ")
    assert "put SMOKE=1 before the same command (SMOKE=1 bash run_scripts/RECIPE.sh)" in done.stderr


@pytest.mark.parametrize(
    ("argv", "env", "gpus", "refused"),
    [
        (["x.py"], {"MADE_FOR": "8", "CUDA_VISIBLE_DEVICES": ""}, 0, True),
        (["x.py", "--use_cpu", "false"], {"MADE_FOR": "8", "CUDA_VISIBLE_DEVICES": ""}, 0, True),
        (["x.py", "--use_cpu", "true"], {"MADE_FOR": "8"}, 0, False),
        (["x.py", "--use-cpu=true"], {"MADE_FOR": "8"}, 0, False),
        (["x.py", "--use_cpu"], {"MADE_FOR": "8"}, 0, False),
        (["x.py"], {"MADE_FOR": "8"}, 1, False),
        (["x.py"], {"MADE_FOR": ""}, 0, False),  # SMOKE=1
        (["x.py"], {}, 0, False),  # launch.sh by itself
    ],
)
def test_a_gpu_is_needed_by_recipes_alone(argv, env, gpus, refused):
    if refused:
        with pytest.raises(UsageError, match="got no GPU on this machine, expected 8 for this recipe"):
            refuse_no_gpu(argv, env, gpus)
    else:
        refuse_no_gpu(argv, env, gpus)


def test_a_recipe_refuses_a_place_without_a_traceback(fake):
    done = start("run_scripts/run_grpo_rec.sh", venv=fake, NNODES="2", NODE_RANK="0")
    assert done.returncode == 1 and done.stderr.startswith("launch.sh: MASTER_ADDR: got nothing")


def test_what_a_step_samples_and_uses_stays_the_same(fake, tmp_path):
    from open_r1.config.parser import parse
    from open_r1.config.task_arguments import JsonlArguments

    done = start("run_scripts/run_grpo_jsonl.sh", "--output_dir", tmp_path, venv=fake, NPROC="1")
    words = done.stdout.splitlines()
    flags = words[words.index("src/open_r1/grpo_jsonl.py") + 1 :]
    engine = flags.index("--deepspeed")
    _, training, _ = parse(JsonlArguments, [*flags[:engine], *flags[engine + 4 :], "--use_cpu", "true"])
    assert training.generation_batch_size == 8 * 8 * 2 and training.steps_per_generation == 16


def test_generated_data_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "bin").mkdir()
    maker = tmp_path / "bin" / "python"
    executable(maker, f'echo "$@" >> {tmp_path}/calls; mkdir -p "$4"; touch "$4/image.png" "$4/train.jsonl"')
    make, data = (
        ["run_scripts/make_data.sh", "counting", f"{tmp_path}/out/data/", "--rows", 4],
        tmp_path / "out" / "data",
    )
    (tmp_path / "out").mkdir()
    for _ in range(2):  # the second time it is there
        assert start(*make, venv=tmp_path).returncode == 0
        assert (data / "train.jsonl").is_file() and (data / "image.png").is_file()
    calls = (tmp_path / "calls").read_text().splitlines()
    (call,) = (line for line in calls if line.startswith("local_scripts"))  # environment.sh asks python, too
    assert re.fullmatch(rf"local_scripts/make_dataset.py counting --out {data}\.\S+\.part --rows 4", call)
    (data / "train.jsonl").unlink()
    done = start(*make, venv=tmp_path)
    assert done.returncode == 1 and "expected none; remove it, or set DATA=another" in done.stderr
    executable(maker, f'mkdir -p "$4"; touch "$4/train.jsonl" {data}/train.jsonl')  # another node was first
    assert start(*make, venv=tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


SRUN = """
echo "srun $NNODES $NPROC $MASTER_ADDR $MASTER_PORT: $1 $2"
shift 2
for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || exit 1; done
"""


def slurm(fake: Path, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    executable(tmp_path / "srun", SRUN)
    executable(tmp_path / "scontrol", '[ "$*" = "show hostnames gpu[7-8]" ] && printf "gpu7\\ngpu8\\n"')
    job = {"SLURM_SUBMIT_DIR": str(REPO), "SLURM_JOB_NODELIST": "gpu[7-8]", "SLURM_JOB_NUM_NODES": "2"}
    job |= {"SLURM_JOB_ID": "1234567", "SLURM_GPUS_ON_NODE": "4", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return start("run_scripts/slurm.sbatch", *arguments, venv=fake, **job)


def test_slurm_starts_a_recipe_once_on_each_node(fake, tmp_path):
    done = slurm(fake, tmp_path, "run_grpo_rec.sh", "--run_name", "two words")
    assert done.returncode == 0, done.stderr
    assert "srun 2 4 gpu7 24567: --ntasks-per-node=1 --kill-on-bad-exit=1" in done.stdout  # port 20000 + 4567
    placed = [line for line in done.stdout.splitlines() if line.startswith(("--n", "--master"))]
    assert [line for line in placed if "rank" in line] == ["--node_rank=0", "--node_rank=1"]
    assert placed.count("--nproc_per_node=4") == placed.count("--nnodes=2") == placed.count("--master_addr=gpu7") == 2
    assert done.stdout.count("\ntwo words\n") == 2
    assert "launch.sh: 8 ranks (2 nodes x 4), global batch 8 x 8 x 2 = 128 completions\n" in done.stderr


def test_slurm_refuses_what_is_no_recipe(fake, tmp_path):
    done = slurm(fake, tmp_path, "run_grpo_nothing.sh")
    assert done.returncode == 2 and "expected the name of a recipe" in done.stderr


@pytest.mark.distributed
def test_two_nodes_on_loopback_finish_a_recipe(tmp_path):
    env = {**ranked(), "SMOKE": "1", "VENV": venv(), "NNODES": "2"}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NPROC": "1"}
    nodes = [
        subprocess.Popen(
            ["bash", "run_scripts/run_grpo_area.sh"],
            cwd=REPO,
            env=env | {"NODE_RANK": str(rank), "SMOKE_DIR": str(tmp_path / str(rank))},
            stderr=open(tmp_path / f"{rank}.log", "w"),  # noqa: SIM115
            start_new_session=True,
        )
        for rank in range(2)
    ]
    try:
        for node in nodes:
            node.wait(timeout=400)
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
    logs = [(tmp_path / f"{rank}.log").read_text() for rank in range(2)]
    assert [node.returncode for node in nodes] == [0, 0], logs[0][-3000:] + logs[1][-3000:]
    assert "launch.sh: 2 ranks (2 nodes x 1), global batch 2 x 4 x 1 = 8 completions" in logs[0]
    assert "launch.sh" not in logs[1]  # said once a run
    (folder,) = (tmp_path / "0").iterdir()
    config = yaml.safe_load((folder / "resolved_config.yaml").read_text())
    assert config["training"]["generation_batch_size"] == 8
    assert (folder / "checkpoint" / "model.safetensors").is_file()
    (other,) = (tmp_path / "1").iterdir()
    assert not (other / "checkpoint").exists()  # the first node has the model
