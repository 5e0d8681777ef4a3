"""Tools that cannot act are refused with their remedy before a model is loaded."""

import pytest

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "d.jsonl", "--output_dir", "/tmp/o", "--use_cpu", "true"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--max_tool_turns 2", "--max_tool_turns: acts only with --tools or --environment; add it, or remove"),
        ("--tools zoom --max_tool_turns 0", "--max_tool_turns: got 0, expected at least 1"),
        ("--tools zoom --max_tool_pixels 0", "--max_tool_pixels: got 0, expected at least 1"),
        ("--tools zoom --tool_workers 0", "--tool_workers: got 0, expected at least 1"),
        ("--tools zoom --max_tool_images -1", "--max_tool_images: got -1, expected at least 0"),
        ("--tools zoom --tool_seconds nan", "--tool_seconds: got nan, expected a positive number"),
        ("--tools zoom --tool_memory_gb 0", "--tool_memory_gb: got 0, expected a positive number"),
        ("--tools zoom --tool_errors ignore", "invalid choice: 'ignore' (choose from 'tell', 'stop')"),
        ("--tools zom", "zoom"),
        ("--tools nowhere.py:look", "nowhere.py"),
        ("--tools zoom --prefill_once false", "--tools: got zoom with --prefill_once false, which samples one turn"),
        (
            "--tools zoom --use_vllm true --vllm_mode server --rollout_ahead 1",
            "--tools: got zoom with --rollout_ahead, which begins completions of one turn",
        ),
        (
            "--tools zoom --use_vllm true --vllm_structured_outputs_regex a+",
            "--tools: got zoom with --vllm_structured_outputs_regex, which shapes one turn",
        ),
        (
            """--tools zoom --use_vllm true --generation_kwargs {"min_tokens":9}""",
            "--tools: got zoom with --generation_kwargs min_tokens, which counts the tokens of one turn",
        ),
        ("--tools zoom --cache_implementation static", "--tools: got zoom with --cache_implementation, which keeps a"),
    ],
)
def test_what_cannot_act_is_refused(capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*NEEDED, *flags.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


GAME = '''
class Game:
    def reset(self, record): ...
    def zoom(self, to: str):
        """Moves."""
class Paid(Game):
    def reward(self): ...
'''
OWN_REWARD = "--environment FILE:Paid --reward_funcs environment"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--reward_funcs environment", "--reward_funcs: got environment, which acts only with --environment path/to"),
        ("--environment FILE:Game --reward_funcs environment", "has no method reward; write it, or leave environment"),
        ("--environment FILE:Paid", "whose reward() no name in --reward_funcs asks for; add environment to them"),
        ("--environment FILE:Gone", "has no class 'Gone', expected one of Game, Paid"),
        ("--environment FILE:Game --tools zoom", "expected each name once; rename one"),
        ("--environment FILE:Game --vision_probe 5", "FILE:Game with --vision_probe, whose blank pictures"),
        (f"{OWN_REWARD} --per_device_train_batch_size 600 --num_generations 8", "got 600 completions a generation of"),
        (f"{OWN_REWARD} --reward_seconds 5", "--reward_seconds: acts only on your own --reward_funcs"),
    ],
)
def test_an_environment_that_cannot_act_is_refused(capsys, tmp_path, flags, message):
    (tmp_path / "game.py").write_text(GAME)
    with pytest.raises(SystemExit):
        parse(JsonlArguments, [*NEEDED, *flags.replace("FILE", str(tmp_path / "game.py")).split()])
    assert message in capsys.readouterr().err.replace(str(tmp_path / "game.py"), "FILE")


def test_an_environment_is_taken_with_its_reward_and_bounds(tmp_path):
    (tmp_path / "game.py").write_text(GAME)
    flags = f"{OWN_REWARD} --tool_seconds 5 --reward_errors skip".replace("FILE", str(tmp_path / "game.py"))
    task, training, _ = parse(JsonlArguments, [*NEEDED, *flags.split()])
    assert (task.reward_funcs, training.environment.rpartition(":")[2]) == (["environment"], "Paid")


def test_tools_with_their_limits_are_taken():
    flags = "--tools zoom --max_tool_turns 2 --max_tool_images 3 --max_tool_pixels 9999 --tool_seconds 5"
    _, training, _ = parse(JsonlArguments, [*NEEDED, *flags.split()])
    assert (training.tools, training.max_tool_turns, training.max_tool_pixels) == (["zoom"], 2, 9999)


@pytest.mark.parametrize(
    "flags",
    [
        "--resample_zero_variance 1 --noisy_rollouts 0.5 --vision_probe 5",
        "--perception_coef 0.01 --visual_token_share 0.4 --keep_whole_steps 1",
    ],
)
def test_flags_that_act_on_completions_with_tool_turns_are_taken(flags):
    _, training, _ = parse(JsonlArguments, [*NEEDED, "--tools", "zoom", *flags.split()])
    assert training.tools == ["zoom"]
