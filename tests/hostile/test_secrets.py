"""Keys and tokens come from the environment, and nothing that is written or printed holds one."""

import json
import os
from pathlib import Path

import pytest
import yaml
from helpers.fake_endpoint import Reply, serving, verdict
from helpers.repository import run_script
from helpers.trainers import make_trainer

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.errors import UsageError
from open_r1.redaction import TOKEN_FLAGS, command_line, redacted
from open_r1.rewards.judge import method as judge
from open_r1.sft_jsonl import parse_sft

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--bf16", "false"]
WORD = "canary5f1e"  # part of every secret below, so that a piece of one is found too
SECRETS = {
    "HF_TOKEN": f"hf_{WORD}hub",
    "HF_HUB_TOKEN": f"hf_{WORD}old",
    "OPENAI_API_KEY": f"sk-{WORD}key",
    "WANDB_API_KEY": f"{WORD}wandb".ljust(40, "0"),
}
PASSWORD = f"{WORD}password"


def grpo(argv):
    return parse(JsonlArguments, argv)


def refused(parser, argv, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        parser(argv)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("parser", [grpo, parse_sft])
@pytest.mark.parametrize("flag", TOKEN_FLAGS)
def test_no_flag_takes_a_token(flag, parser, capsys, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"beta: 0.1\n{flag}: {WORD}\n")
    for argv in ([f"--{flag}", WORD], [f"--{flag}={WORD}"], ["--config", str(config)]):
        said = refused(parser, NEEDED + argv, capsys)
        assert f"{flag}: no flag takes a secret; export " in said and WORD not in said
    assert f"{config}:2: {flag}" in said


ADDRESSES = [f"http://me:{WORD}@host:8000", f"https://{WORD}@host", f"http://host/v1?x=1&access_token={WORD}"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_flag_takes_an_address_with_a_secret_in_it(address, capsys, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"beta: 0.1\nreward_funcs: [accuracy, '{address}']\n")
    flag = "--vllm_server_base_url"
    for argv in ([flag, address], [f"{flag}={address}"], ["--config", str(config)]):
        said = refused(grpo, NEEDED + argv, capsys)
        assert "got an address with a user, password or token in it, expected one without" in said and WORD not in said
        assert said.startswith((flag, f"{config}:2: reward_funcs"))


def test_a_command_line_is_shown_without_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])
    typed = ["x.py", "--api-key", WORD, *ADDRESSES, f"--name={SECRETS['HF_TOKEN']}", "--include_tokens", "7"]
    shown = command_line(typed)
    assert WORD not in shown and "http://...@host:8000" in shown and "--name=[HF_TOKEN] --include_tokens 7" in shown


def test_short_and_unrelated_variables_are_no_secrets():
    assert (
        redacted("none of it, in /home/me", {"OPENAI_API_KEY": "none", "HOME": "/home/me"})
        == "none of it, in /home/me"
    )


@pytest.mark.slow
def test_a_saved_model_has_no_pickle_beside_it(tiny, digits, tmp_path):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path / "run")
    trainer.save_model(str(tmp_path / "saved"))
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"model.safetensors", "config.json", "processor_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


# ------------------------------------------------------------------------------------------------------- the canaries


def leaks(folder: Path, *texts: str) -> list[str]:
    """Files below a folder, and "said", whose bytes or names hold a canary."""
    found = [str(path) for path in sorted(folder.rglob("*")) if WORD in path.name]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files, "nothing was written"
    found += [str(path) for path in files if WORD.encode() in path.read_bytes()]
    return found + [f"said: {text}" for text in texts if WORD in text]


def environment(server) -> dict[str, str]:
    """Secrets where a run finds them, and every way of writing down what happens."""
    url = server.url.replace("http://", f"http://me:{PASSWORD}@")
    judge = {"JUDGE_MODEL": "m", "JUDGE_SECONDS": "20", "JUDGE_IMAGES": "true", "JUDGE_GROUP": "true"}
    return {**os.environ, **SECRETS, **judge, "OPENAI_BASE_URL": url, "JUDGE_PRICE_IN": "1"}


@pytest.mark.slow
def test_nothing_that_a_run_writes_or_says_holds_a_secret(tiny, digits, tmp_path):
    out, config = tmp_path / "out", tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"env": {"MY_OTHER_TOKEN": f"{WORD}yaml"}, "learning_rate": 1e-5}))
    flags = f"--data_file_paths {digits}/train.jsonl --image_folders {digits} --bf16 false --num_generations 4"
    flags += " --per_device_train_batch_size 8 --max_completion_length 20 --max_steps 2 --save_steps 1"
    flags += f" --gradient_checkpointing false --reward_method llm --report_to wandb --config {config}"
    with serving(lambda request, served: verdict(request, True)) as server:
        logs = {
            "DEBUG_MODE": "true",
            "LOG_PATH": str(out / "debug.log"),
            "WANDB_MODE": "offline",
            "WANDB_DIR": str(out),
        }
        done = run_script(
            "src/open_r1/grpo_jsonl.py",
            *("--model_name_or_path", tiny, "--output_dir", out, *flags.split()),
            env=environment(server) | logs,
        )
        assert server.requests, "the judge was not asked"
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if "judge/calls" in line][-1]
    assert last["judge/tokens_in"] == 100 * last["judge/calls"] > 0
    assert last["judge/cost"] == pytest.approx(last["judge/tokens_in"] / 1e6)
    assert sum("image_url" in str(request) for request in server.requests) == last["judge/calls"]
    run_script("src/open_r1/report/__main__.py", out)
    wanted = (
        "checkpoint-2/optimizer.pt",
        "checkpoint/README.md",
        "resolved_config.yaml",
        "rollouts.jsonl",
        "debug.log",
    )
    assert not [name for name in (*wanted, "report.html") if not (out / name).is_file()]
    assert list(out.rglob("*.wandb")), "wandb wrote nothing"
    assert leaks(out, done.stdout, done.stderr) == []


@pytest.mark.slow
def test_nothing_that_an_evaluation_and_a_failed_start_say_holds_a_secret(tiny, digits, tmp_path):
    with serving(lambda request, served: Reply(status=401)) as server:
        given = environment(server)
        flags = f"--model {tiny} --data_file_paths {digits}/heldout.jsonl --image_folders {digits} --limit 2"
        done = run_script("eval/digits.py", *flags.split(), "--output_dir", tmp_path / "fine", env=given)
        judge_it = ("--reward_method", "llm", "--output_dir", tmp_path / "judged")
        judged = run_script("eval/evaluate.py", *flags.split(), *judge_it, env=given, check=False)
        assert server.requests, "the judge was not asked"
    asked = f"--model {tiny} --task digits --host 203.0.113.1"  # an address of no machine
    demo = run_script("eval/demo.py", *asked.split(), env=given, check=False)
    assert judged.returncode != 0 and "status 401" in judged.stderr, judged.stderr
    assert demo.returncode != 0 and "which cannot be served" in demo.stderr, demo.stderr
    assert leaks(tmp_path, *(text for one in (done, demo, judged) for text in (one.stdout, one.stderr))) == []


@pytest.mark.parametrize(
    "url", [f"http://me:{PASSWORD}@127.0.0.1:9/v1", f"http://me:{PASSWORD}/x@host/v1", f"me:{PASSWORD}@host"]
)
def test_an_endpoint_that_cannot_be_asked_is_named_without_its_password(monkeypatch, url):
    for name, value in {**SECRETS, "OPENAI_BASE_URL": url, "JUDGE_MODEL": "m", "JUDGE_SECONDS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with pytest.raises((UsageError, RuntimeError)) as caught:
        judge.current_judge().endpoint.chat([{"role": "user", "content": "hi"}])
    assert WORD not in str(caught.value) and json.dumps(str(caught.value))
