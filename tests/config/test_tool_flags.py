"""Tools that cannot act are refused with their remedy before a model is loaded."""

import pytest

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "d.jsonl", "--output_dir", "/tmp/o", "--use_cpu", "true"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--max_tool_turns 2", "--max_tool_turns: acts only with --tools; add it, or remove --max_tool_turns"),
        ("--tools zoom --max_tool_turns 0", "--max_tool_turns: got 0, expected at least 1"),
        ("--tools zoom --max_tool_pixels 0", "--max_tool_pixels: got 0, expected at least 1"),
        ("--tools zoom --max_tool_images -1", "--max_tool_images: got -1, expected 0 or more"),
        ("--tools zoom --tool_seconds nan", "--tool_seconds: got nan, expected a positive number"),
        ("--tools zoom --tool_memory_gb 0", "--tool_memory_gb: got 0, expected a positive number"),
        ("--tools zoom --tool_errors ignore", "invalid choice: 'ignore' (choose from 'tell', 'stop')"),
        ("--tools zom", "zoom"),
        ("--tools nowhere.py:look", "nowhere.py"),
        ("--tools zoom --prefill_once false", "--tools: got zoom with --prefill_once false, which samples one turn"),
        (
            "--tools zoom --vision_probe 5",
            "--tools: got zoom with --vision_probe, whose passes take pictures",
        ),
        ("--tools zoom --perception_coef 0.01", "--tools: got zoom with --perception_coef, which masks pictures of"),
        ("--tools zoom --visual_token_share 0.4", "--tools: got zoom with --visual_token_share, which weighs tools'"),
        ("--tools zoom --resample_zero_variance 1", "--tools: got zoom with --resample_zero_variance, which sends"),
    ],
)
def test_what_cannot_act_is_refused(capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*NEEDED, *flags.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_tools_with_their_limits_are_taken():
    flags = "--tools zoom --max_tool_turns 2 --max_tool_images 3 --max_tool_pixels 9999 --tool_seconds 5"
    _, training, _ = parse(JsonlArguments, [*NEEDED, *flags.split()])
    assert (training.tools, training.max_tool_turns, training.max_tool_pixels) == (["zoom"], 2, 9999)
