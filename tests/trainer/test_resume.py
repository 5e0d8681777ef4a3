"""A run that stops after any step and is resumed ends as the one that never stopped; what cannot go on says why."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.preloaded import python, ranked
from helpers.repository import REPO
from helpers.resumed_runs import PLAIN, SMALL, WINDOWS, assert_same, make_checkpoint, train
from helpers.trainers import make_trainer
from safetensors.torch import load_file
from trl.trainer.utils import RepeatSampler

from open_r1 import grpo_jsonl
from open_r1.errors import UsageError
from open_r1.sft_jsonl import parse_sft
from open_r1.trainer.checkpointing import select
from open_r1.trainer.checkpointing.manifest import write_manifest
from open_r1.trainer.checkpointing.resumable import EpochSampler, save_checkpoint_now
from open_r1.trainer.outputs.callbacks import Curves
from open_r1.trainer.sft_trainer import run_sft

SAVED = ["--save_strategy", "steps", "--save_steps", "1"]

TOOLS = "--tools zoom --max_completion_length 100"
LOOKING = "--vision_probe 2 --perception_coef 0.01 --visual_token_share 0.4 --noisy_rollouts 0.5"


@pytest.mark.slow
def test_a_run_resumed_inside_a_window_of_the_second_epoch_ends_as_the_undisturbed_one(tiny, few, tmp_path):
    whole = train(tiny, few, tmp_path, "used twice", "--save_strategy", "steps", "--save_steps", "5")
    saved = tmp_path / "checkpoint-5"
    state = torch.load(saved / "run_state_0.pt")
    assert len(state["window"]) == 2 and "prompts" not in state["window"][0]  # row numbers, no pixels
    assert (saved / "run_state_0.pt").stat().st_size < 100_000
    assert_same(train(tiny, few, tmp_path, "used twice", checkpoint=saved), whole)


@pytest.mark.slow
@pytest.mark.parametrize("window", WINDOWS)
def test_from_every_step(tiny, few, tmp_path, window):
    whole = train(tiny, few, tmp_path, window, *SAVED)
    for step in range(1, whole.state.max_steps):
        assert_same(train(tiny, few, tmp_path / "b", window, checkpoint=tmp_path / f"checkpoint-{step}"), whole)
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4])  # in epochs 0 and 1, each with one of three micro-batches done
def test_a_run_whose_generation_dies_leaves_a_checkpoint_to_go_on_from_exactly(tiny, few, tmp_path, step):
    whole = train(tiny, few, tmp_path, "across steps")
    broken = make_trainer(tiny, few, tmp_path, *SMALL.split(), *WINDOWS["across steps"].split())
    generate = broken._generate_single_turn

    def die(*args, **kwargs):
        if broken.state.global_step == step:
            torch.rand(3)  # what an attempt draws is taken back
            raise ConnectionError("the server is gone")
        return generate(*args, **kwargs)

    broken._generate_single_turn = die
    assert save_checkpoint_now(broken) is None  # nothing was trained yet
    with pytest.raises(ConnectionError):
        broken.train()
    saved = save_checkpoint_now(broken)
    assert saved == tmp_path / f"checkpoint-{step}" and select.missing(saved) == []
    assert save_checkpoint_now(broken) == saved
    assert_same(train(tiny, few, tmp_path, "across steps", checkpoint=saved), whole)


@pytest.mark.slow
def test_a_checkpoint_copied_elsewhere_and_reached_by_links_goes_on_exactly(tiny, few, tmp_path):
    whole = train(tiny, few, tmp_path / "run", "across steps", *SAVED)
    copy, link = tmp_path / "disk" / "copy", tmp_path / "link"
    shutil.copytree(tmp_path / "run", copy)  # with the time of now
    shutil.rmtree(tmp_path / "run")
    link.symlink_to(copy)
    (tmp_path / "checkpoint-4").symlink_to(link / "checkpoint-4")
    for saved in (copy / "checkpoint-2", link / "checkpoint-3", tmp_path / "checkpoint-4"):
        assert select.named_checkpoint(saved) == saved
        assert_same(train(tiny, few, link, "across steps", checkpoint=saved), whole)


@pytest.mark.slow
def test_the_files_of_a_resumed_run_are_those_of_the_undisturbed_one(tiny, few, tmp_path):
    flags = f"--model_name_or_path {tiny} --data_file_paths {few} --image_folders {few.parent} --task_type digits "
    flags += (
        f"{SMALL} {WINDOWS['longer than a step']} --num_generations 4 --bf16 false --disable_tqdm true --save_steps 1"
    )
    flags = flags.replace("--eval_strategy epoch --per_device_eval_batch_size 4", "").split()  # nothing is held out
    whole, again = tmp_path / "whole", tmp_path / "again"
    grpo_jsonl.main([*flags, "--output_dir", str(whole)])
    shutil.copytree(whole, again)
    for step in (6, 7, 8):
        shutil.rmtree(again / f"checkpoint-{step}")
    (again / "checkpoint-5" / "scheduler.pt").unlink()  # so that 4 is the newest complete one
    resume = ["--output_dir", str(again), "--resume_from_checkpoint", "true"]
    grpo_jsonl.main([*flags, *resume])
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert lines(again / name) == lines(whole / name)
    seconds = [json.loads(line)["seconds"] for line in (again / "metrics.jsonl").read_text().splitlines()]
    assert seconds == sorted(seconds)
    first, second = (load_file(out / "checkpoint" / "model.safetensors") for out in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(SystemExit, match="--seed: 42 in the checkpoint, 1 in this run"):
        grpo_jsonl.main([*flags, *resume, "--seed", "1"])


def lines(path: Path) -> list[dict]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if "time" not in k and "second" not in k} for line in entries]


@pytest.mark.slow
def test_sft_from_every_step(tiny, few, tmp_path):
    def train(out, *flags):
        argv = f"--model_name_or_path {tiny} --data_file_paths {few} --image_folders {few.parent} --task_type digits "
        argv += "--per_device_train_batch_size 1 --num_train_epochs 2 --logging_steps 3 --save_steps 1 --bf16 false "
        argv += f"--output_dir {out} --disable_tqdm true --learning_rate 1e-3"
        return run_sft(*parse_sft([*argv.split(), *map(str, flags)]))

    whole = train(tmp_path / "a")  # 8 steps
    for step in range(1, 8):
        resumed = train(tmp_path / "b", "--resume_from_checkpoint", tmp_path / "a" / f"checkpoint-{step}")
        assert_same(resumed, whole)


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("engine", "steps", "flags"),
    [
        ("zero3", "7", ""),  # in a window of the second epoch
        ("zero3", "1,7", f"{LOOKING} {TOOLS}"),  # in one of the first, and of the second
        ("zero2", "4", f"--resample_zero_variance 2 --row_sampling difficulty {LOOKING} {TOOLS}"),  # between them
    ],
    ids=["zero3", "zero3 looking", "zero2 rows and looking"],
)
def test_two_ranks(tiny, digits, tmp_path, engine, steps, flags):
    command = [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    config = REPO / "local_scripts" / f"{engine}.json"
    args = [REPO / "tests" / "helpers" / "resume_on_ranks.py", tiny, digits / "train.jsonl", tmp_path, config, steps]
    args += flags.split()
    env = {**ranked(), "PYTHONPATH": str(REPO / "tests")}
    done = subprocess.run([*command, *map(str, args)], cwd=REPO, text=True, capture_output=True, env=env, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    differences = json.loads((tmp_path / "differences.json").read_text())
    assert list(differences) == steps.split(",") and max(differences.values()) < 1e-6, differences


# --------------------------------------------------------------------------------------------------------------- parts


def test_the_order_of_an_epoch_is_that_of_an_undisturbed_run_of_trls_sampler():
    options = {"data_source": range(7), "mini_repeat_count": 2, "batch_size": 3, "repeat_count": 2, "seed": 42}
    undisturbed = RepeatSampler(**options)
    orders = [list(undisturbed) for _ in range(3)]
    sampler = EpochSampler.like(RepeatSampler(**options))
    for epoch in (2, 0, 1, 1):
        sampler.set_epoch(epoch)
        assert list(sampler) == orders[epoch]
    assert orders[0] != orders[1] != orders[2]


def test_what_was_written_after_the_checkpoint_is_dropped_and_the_clock_goes_on(tmp_path):
    metrics = [{"step": step, "seconds": 10.0 * step} for step in (1, 2, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics) + '{"step": 4, "se')
    (tmp_path / "rollouts.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in (0, 0, 1, 2)))
    curves = Curves(str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=True, global_step=2, log_history=[])
    curves.on_train_begin(None, state, None)
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2, 2]
    assert [line["step"] for line in lines(tmp_path / "rollouts.jsonl")] == [0, 0, 1]  # 2: sampled by the third step
    curves.on_log(None, state, None, {"loss": 1.0})
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 20.0 <= last["seconds"] < 21.0


# ------------------------------------------------------------------------------------------------------------ refusals

RANKS = (
    "trainer_state.json latest scheduler.pt rng_state_0.pth rng_state_1.pth run_state_0.pt run_state_1.pt "
    + " ".join(
        f"global_step2/{name}"
        for name in (
            "zero_pp_rank_0_mp_rank_00_model_states.pt",
            "zero_pp_rank_1_mp_rank_00_model_states.pt",
            "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
            "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt",
        )
    )
)


@pytest.mark.parametrize("name", [*PLAIN.split(), "run_state.json"])
def test_a_checkpoint_without_one_of_its_files_is_incomplete(tmp_path, name):
    folder = make_checkpoint(tmp_path, PLAIN)
    assert select.missing(folder) == []
    (folder / name).unlink()
    assert [pattern.split("|")[0] for pattern in select.missing(folder)] == [name]


@pytest.mark.parametrize("name", [*RANKS.split(), "run_state.json"])
def test_so_is_one_of_deepspeed_without_the_part_of_a_rank(tmp_path, name):
    folder = make_checkpoint(tmp_path, RANKS, engine="deepspeed", ranks=2, zero_stage=3)
    assert select.missing(folder) == []
    (folder / name).unlink()
    assert select.missing(folder) != []


def test_so_is_one_without_a_shard_or_the_reference(tmp_path):
    folder = make_checkpoint(tmp_path, PLAIN, facts={"--sync_ref_model": True})
    assert select.missing(folder) == ["reference.safetensors"]
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-00001-of-00002.safetensors").touch()
    assert "model-00002-of-00002.safetensors" in select.missing(folder)


def test_true_is_the_newest_complete_checkpoint(tmp_path, caplog):
    for step in (2, 10, 9):
        make_checkpoint(tmp_path / f"checkpoint-{step}", PLAIN)
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-12.tmp").mkdir()
    assert select.newest_checkpoint(tmp_path).name == "checkpoint-10"
    assert "checkpoint-11 is left out: it lacks trainer_state.json" in caplog.text


def test_folders_that_cannot_be_continued_from_are_refused_with_a_way_out(tmp_path):
    with pytest.raises(UsageError, match=f"got true, expected a folder checkpoint-N in {tmp_path}, found none"):
        select.newest_checkpoint(tmp_path)
    complete, weights_alone = tmp_path / "checkpoint-1", tmp_path / "checkpoint-2"
    make_checkpoint(complete, PLAIN)
    make_checkpoint(weights_alone, "trainer_state.json model.safetensors")
    (weights_alone / "run_state.json").unlink()
    write_manifest(weights_alone)
    with pytest.raises(UsageError, match=r"lacks optimizer.pt, .*--save_only_model true.*\(checkpoint-1\)") as refused:
        select.named_checkpoint(weights_alone)
    assert f"--model_name_or_path {weights_alone} without" in str(refused.value)
    for path in (tmp_path / "checkpoint-3", tmp_path):
        with pytest.raises(UsageError, match=f"got {path}, .*; there are checkpoint-2, checkpoint-1 in {tmp_path}"):
            select.named_checkpoint(path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--resume_from_checkpoint nowhere", "got nowhere, expected a folder checkpoint-N; correct the path"),
        ("--resume_from_checkpoint true", "found none"),
        ("--resume_from_checkpoint CHECKPOINT --num_generations 2", "--num_generations: 4 in the checkpoint, 2 in"),
        ("--resume_from_checkpoint CHECKPOINT --per_device_train_batch_size 8", "--per_device_train_batch_size: 4 in"),
        ("--resume_from_checkpoint CHECKPOINT --ignore_data_skip true", "rows would be repeated"),
    ],
)
def test_a_run_that_cannot_go_on_is_refused_before_a_model_is_loaded(tiny, few, tmp_path, monkeypatch, flags, message):
    monkeypatch.setattr("open_r1.trainer.run.load_model", lambda *a: pytest.fail("a model was loaded"))
    facts = {"--num_generations": 4, "--per_device_train_batch_size": 4, "rows": 4}
    folder = make_checkpoint(tmp_path / "saved" / "checkpoint-1", PLAIN, facts=facts)
    argv = f"--model_name_or_path {tiny} --data_file_paths {few} --image_folders {few.parent} --num_generations 4 "
    argv += f"--per_device_train_batch_size 4 --output_dir {tmp_path / 'out'} {flags}"
    with pytest.raises(SystemExit, match=message):
        grpo_jsonl.main(argv.replace("CHECKPOINT", str(folder)).split())
