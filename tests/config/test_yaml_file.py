"""`--config FILE.yaml`: flat keys; each defect is one sentence with its line."""

from pathlib import Path

import pytest
import yaml

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--bf16", "false"]
EASYR1 = """\
data:
  train_files: hiyouga/geometry3k@train
  max_response_length: 2048
algorithm:
  kl_coef: 1.0e-2
worker:
  actor:
    optim:
      lr: 1.0e-6
  rollout:
    n: 5
    enforce_eager: false
"""


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*NEEDED, *map(str, words)])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  learning_rate: 1e-6\n", ":2: training.learning_rate: flags have no sections here; write "
         "learning_rate: 1e-6 at a line's start, or --learning_rate 1e-6"),
        ("grpo:\n  loss:\n    beta: 0.1\n", ":3: grpo.loss.beta: flags have no sections here; write beta: 0.1"),
        ("model:\n  path: x\n", ":2: model.path: unknown flag"),
        ("a:\n  kl_coef: 0.1\n", ":2: a.kl_coef: a name of several projects; use --beta 0.1"),
        ("worker.rollout.n: 5\n", ":1: worker.rollout.n: a name of EasyR1; use --num_generations 5"),
        ("rollout_n: 5\n", ":1: rollout_n: a name of several projects; use --num_generations 5"),
        ("beta: 1\n\nlearning_rate:\t1\n\tbeta: 2\n", "got a tab, expected spaces"),
        ("beta:\n\t- 1\n", ":2: got a tab, expected spaces; replace each tab of the file by spaces"),
        ("beta: 1\nseed: 2\nbeta: 3\n", ":3: beta: got it twice (also in line 1), expected it once; remove one"),
        ("", ": got an empty file, expected a YAML file of lines `flag: value`"),
        ("# nothing\n", ": got an empty file"),
        ("- beta\n- seed\n", ":1: got a list, expected a YAML file of lines"),
        ("--beta 0.1 --seed 3\n", ":1: got text without flags, expected a YAML file"),
        ("beta = 0.1\nseed = 3\n", ":1: got text without flags, expected a YAML file"),
        ("beta: [1\n", "got no YAML ("),
        ("beta: 1\n---\nbeta: 2\n", "got no YAML ("),
        ("learning-rate: 1e-6\n", ":1: learning-rate: got dashes, expected learning_rate: 1e-6; names"),
        ("--beta: 0.1\n", ":1: --beta: got dashes, expected beta: 0.1"),
        ("beta: {a: 1}\n", ":1: beta: got a map, expected one value"),
        ("data_file_paths: [a.jsonl, b.jsonl]\n", ":1: data_file_paths: got a list, expected one value; several are "
         "separated by colons: data_file_paths: a.jsonl:b.jsonl"),
        ("reward_funcs: {accuracy: 1}\n", ":1: reward_funcs: got a map, expected one value"),
        ("? [a, b]\n: 1\n", ":1: [a, b]: unknown flag"),
    ],
)  # fmt: skip
def test_a_file_with_a_defect_is_answered_in_one_sentence(capsys, tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    err = said(capsys, "--config", path)
    assert message in err and "Traceback" not in err and len(err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config"], "--config: got nothing, expected a YAML file"),
        (["--config", "--beta", "0.1"], "--config: got nothing"),
        (["--config="], "--config: got nothing"),
        (["--config", "none.yaml"], "--config: got none.yaml, expected a YAML file"),
        (["--config=none.yaml"], "--config: got none.yaml, expected a YAML file"),
        (["--config", "src"], "--config: got src, a folder, expected a YAML file"),
        (["--config", "a.yaml", "--config", "b.yaml"], "--config: got it twice, expected one file"),
        (["--config", "assets/tiny-vlm/model.safetensors"], "model.safetensors: got a file that is no text"),
    ],
)
def test_a_config_flag_that_names_no_file_is_answered(capsys, words, message):
    assert message in said(capsys, *words)


def test_a_file_of_easyr1_is_answered_line_by_line(capsys, tmp_path):
    path = tmp_path / "easyr1.yaml"
    path.write_text(EASYR1, encoding="utf-8")
    lines = said(capsys, "--config", path).splitlines()
    assert [line.removeprefix(str(path)) for line in lines] == [
        ":2: data.train_files: a name of verl; use --data_file_paths FILE.jsonl --image_folders FOLDER of "
        "grpo_jsonl.py, or --dataset_name of grpo.py",
        ":3: data.max_response_length: a name of verl; use --max_completion_length 2048",
        ":5: algorithm.kl_coef: a name of EasyR1; use --beta 1.0e-2",
        ":9: worker.actor.optim.lr: a name of EasyR1; use --learning_rate 1.0e-6",
        ":11: worker.rollout.n: a name of EasyR1; use --num_generations 5",
        ":12: worker.rollout.enforce_eager: a name of another project without counterpart here; remove it",
    ]


def test_many_complaints_are_capped(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("".join(f"zzqq{i}: 1\n" for i in range(60)), encoding="utf-8")
    lines = said(capsys, "--config", path).splitlines()
    assert len(lines) == 21 and lines[-1].endswith("and 40 more")


def test_lists_and_maps_where_a_flag_takes_them_act(tmp_path: Path):
    path = tmp_path / "run.yaml"
    given = {
        "reward_funcs": ["accuracy", "format"],
        "reward_weights": [1.0, 0.5],
        "generation_kwargs": {"typical_p": 0.9},
    }
    path.write_text(yaml.safe_dump(given | {"env": {"OPEN_R1_TEST_OF_YAML": 1}}), encoding="utf-8")
    data, training, _ = parse(JsonlArguments, [*NEEDED, f"--config={path}"])
    assert data.reward_funcs == given["reward_funcs"] and training.reward_weights == [1.0, 0.5]
    assert training.generation_kwargs == {"typical_p": 0.9}
