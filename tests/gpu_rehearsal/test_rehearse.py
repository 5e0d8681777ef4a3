"""`python -m open_r1.rehearse`: what it prints of a step, the first error with its place, and what it refuses."""

import subprocess
import sys

import pytest
from helpers.repository import REPO
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

from open_r1.rehearse import cli
from open_r1.rehearse.fake_cuda import hooks
from open_r1.rehearse.flags import as_pairs, as_words, engine_of_file, parse_rehearsal

RUN = "--num_generations 2 --per_device_train_batch_size 4 --gradient_accumulation_steps 3 --max_completion_length 16"


@pytest.fixture
def flags(tiny, digits):
    data = f"--model_name_or_path {tiny} --data_file_paths {digits}/train.jsonl --image_folders {digits}"
    return f"{data} {RUN}".split()


def test_flags_of_a_run_are_parsed_as_on_a_gpu(flags):
    asked = parse_rehearsal([*flags, "--nproc", "8", "--gpu", "l40s", "--use_vllm", "true", "--vllm_mode", "server"])
    assert asked.training.bf16 and asked.vllm and asked.own.nproc == 8 and not asked.engine.deepspeed
    zero = parse_rehearsal(
        [*flags, "--deepspeed", str(REPO / "local_scripts" / "zero3.json"), "--bf16", "true", "--save_steps", "5"]
    )
    assert (zero.engine.stage, zero.training.bf16, zero.model.dtype) == (3, False, "bfloat16")
    offloaded = engine_of_file(str(REPO / "local_scripts" / "zero2_offload.json"))
    assert (offloaded.stage, offloaded.offload_optimizer, offloaded.offload_weights) == (2, True, False)
    assert as_words(as_pairs(["--a", "1", "--b=2", "--c", "x", "y z"])) == ["--a", "1", "--b", "2", "--c", "x", "y z"]


def test_flags_of_a_file_are_flags_of_the_run(flags, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    zero = REPO / "local_scripts" / "zero3.json"
    file.write_text(f"deepspeed: {zero}\nuse_vllm: true\nreward_funcs: [accuracy, format]\nbeta: 0.04\nbf16: true\n")
    asked = parse_rehearsal([*flags, "--config", str(file), "--beta", "0", "--ds3_gather_for_generation", "false"])
    assert (asked.engine.stage, asked.vllm, asked.model.dtype, asked.training.beta) == (3, True, "bfloat16", 0)
    assert asked.task.reward_funcs == ["accuracy", "format"] and not asked.training.ds3_gather_for_generation
    file.write_text("beta: 0\nbeta: 1\ngpus: 8\n")
    assert cli.main([*flags, f"--config={file}"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"{file}:2: beta: got it twice") and told[1].startswith(f"{file}:3: gpus: ")


def test_what_cannot_be_rehearsed_is_refused_in_one_sentence(flags, monkeypatch, capsys):
    assert cli.main([*flags, "--rollout_ahead", "1"]) == 2
    assert capsys.readouterr().err.startswith("--rollout_ahead: got 1, expected none: a rehearsal does not know it")
    assert cli.main([*flags, "--fp16", "true"]) == 2
    assert capsys.readouterr().err.startswith("--fp16: got true, expected none: a rehearsal computes in bfloat16")
    assert cli.main([*flags, "--deepspeed", "no/such.json"]) == 2
    assert capsys.readouterr().err.startswith("--deepspeed: got no/such.json, expected a JSON file")
    monkeypatch.setenv("CXX", "no-such-compiler")
    hooks.cache_clear()
    assert cli.main(flags) == 2
    assert capsys.readouterr().err.startswith("got no C++ compiler (no-such-compiler), expected both: without them")
    hooks.cache_clear()


@pytest.mark.slow
def test_the_first_error_has_its_place(flags, monkeypatch, capsys):
    def broken(self, *args, **kwargs):
        raise RuntimeError("expected all tensors to be on the same device")

    monkeypatch.setattr(modeling_qwen2_5_vl.Qwen2_5_VLModel, "get_image_features", broken)
    assert cli.main(flags) == 1
    error = capsys.readouterr().err
    assert "The step fails: RuntimeError: expected all tensors to be on the same device\nat rollout/" in error


@pytest.mark.slow
def test_a_step_is_reported(flags):
    run = [*flags, "--beta", "0.04", "--gpu", "a100-80", "--save_steps", "2"]
    command = [sys.executable, "-m", "open_r1.rehearse", *run]
    done = subprocess.run([*command, "--gpu_price", "2", "--nproc", "8"], text=True, capture_output=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    for words in (
        "The step runs.",
        "policy: forward, backward",
        "rollout: tokens",
        "completions an hour on 8 x a100-80",
    ):
        assert words in done.stdout
    assert "The run: 4 steps" in done.stdout and "its first checkpoint" in done.stdout
