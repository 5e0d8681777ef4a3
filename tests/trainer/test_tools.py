"""Training with tools: what tools wrote bears no loss, rewards see the model's last turn, metrics count both."""

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.scripted_tools import Scripted
from helpers.trainers import batch_of, loss_and_gradients, make_trainer
from PIL import Image

from open_r1.data.record import Record
from open_r1.plan.cli import check_arguments, plan_parser, planned_run
from open_r1.plan.dims import read_dims
from open_r1.plan.memory import rollout_bytes
from open_r1.plan.settings import ENGINES
from open_r1.report.thinning import stored_pictures
from open_r1.rewards.tool_use import environment
from open_r1.rollout.prompts import Example
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.limits import ToolLimits
from open_r1.tools.messages import ModelTurn
from open_r1.tools.toolbox import ToolAnswer, Toolbox, make_toolbox, told
from open_r1.trainer import transformers_rollout
from open_r1.trainer.outputs.rollout_log import RolloutLog
from open_r1.trainer.preflight import planned_run_of, preflight_facts, show_preflight
from open_r1.trainer.tool_turns import toolbox_of

# what a plan knows of neither flags nor model
OF_MACHINE_AND_ROWS = ["prompt_tokens", "patches_per_prompt", "bytes_per_computed_number", "autocast"]
OF_MACHINE_AND_ROWS += ["device", "device_bytes"]


@pytest.fixture
def differences(monkeypatch) -> list[float]:
    """What each look at a rollout found."""
    values, plain = [], transformers_rollout.check_agreement
    monkeypatch.setattr(transformers_rollout, "check_agreement", lambda *args: values.append(plain(*args)))
    return values


def with_tools(tiny, data, out, *flags):
    """A trainer whose completions call `Scripted`."""
    trainer = make_trainer(tiny, data, out, "--max_completion_length", "120", "--beta", "0", *flags)
    trainer.toolbox = Scripted()
    return trainer


def test_the_table_before_a_run_names_its_tools(tiny, mixed, tmp_path, capsys):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--use_cpu", "true")
    assert "tools" not in preflight_facts(trainer)
    trainer.toolbox = make_toolbox(
        ["zoom"], trainer.processing_class.chat_template, ToolLimits(2, 3, 50_176), workers=5
    )
    show_preflight(trainer)
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    said = "zoom; at most 2 turns and 3 pictures of at most 50,176 pixels a completion, 5 completions answered at once"
    assert f"tools {said}" in shown


LIMITS = [(), ("--max_tool_images", 2, "--max_tool_pixels", 3136), ("--max_tool_images", 0, "--max_tool_turns", 1)]


@pytest.mark.parametrize("limits", LIMITS)
def test_the_planner_agrees_with_the_table_by_the_flags_of_tools(tiny, mixed, tmp_path, limits):
    shared = ["--tools", "zoom", "--max_pixels", 6272, "--beta", 0, *limits]
    flags = map(str, [*shared, "--max_completion_length", 9, "--use_cpu", "true"])
    trainer = make_trainer(tiny, mixed, tmp_path, *flags)
    trainer.toolbox = toolbox_of(trainer.args, trainer.processing_class)
    planner = ["--model", tiny, "--completion", 9, "--group", 4, "--global_batch", 24, "--batch", 8, *shared]
    asked = plan_parser().parse_args([*map(str, planner), "--engine", "none", "--gradient_checkpointing", "false"])
    check_arguments(asked)
    dims, config = read_dims(tiny)
    by_table = planned_run_of(trainer, 83, ENGINES["none"], 4, 0.0)
    own = {name: getattr(by_table, name) for name in OF_MACHINE_AND_ROWS}
    by_flags = replace(planned_run(asked, config), **own)
    assert by_flags == by_table and by_flags.tools
    assert rollout_bytes(dims, by_flags)["kept rows"] > 0
    # 2 of 3,136 pixels are 2 x 16 patches; 4 of 6,272 are 4 x 32, more than 9 tokens of 4 patches hold
    assert by_flags.patches_per_completion == {0: 36, 4: 32 if "--max_tool_pixels" in limits else 0}[len(limits)]


def test_turns_are_sampled_scored_and_learned_from(tiny, mixed, tmp_path, differences):
    seen = []
    trainer = with_tools(tiny, mixed, tmp_path, "--max_steps", "1", "--use_cpu", "true")
    trainer.reward_funcs[0] = lambda completions, **_: (
        seen.extend(completions) or [float(i) for i in range(len(completions))]
    )
    batch = batch_of(trainer, 0, 1, 2)
    (difference,) = differences
    assert difference < 1e-5
    turns, scored = batch["turns"], batch["completion_mask"] * batch["tool_mask"]
    assert any(one is not None and one.images for one in turns)
    for row, one in enumerate(turns):
        expected = one.scored.long() if one is not None else torch.ones(int(batch["completion_mask"][row].sum()))
        assert batch["tool_mask"][row, : len(expected)].tolist() == expected.long().tolist()
    assert int(batch["num_items_in_batch"]) == int(scored.sum()) < int(batch["completion_mask"].sum())
    assert {messages[-1]["role"] for messages in seen} == {"assistant"}
    assert any(message["role"] == "tool" for messages in seen for message in messages)
    metrics = trainer._metrics["train"]
    assert metrics["tools/calls"][-1] > 0 and 0 < metrics["tools/used_share"][-1] <= 1
    lengths = batch["completion_mask"].sum(dim=1)
    assert metrics["tools/sampled_tokens"][-1] == pytest.approx(scored.sum().item() / len(lengths))
    assert metrics["tools/answer_tokens"][-1] == pytest.approx((lengths.sum() - scored.sum()).item() / len(lengths))
    loss, gradients = loss_and_gradients(trainer, batch)
    other = dict(batch, old_per_token_logps=torch.where(scored.bool(), 0.0, -9.0) + logps_of(trainer, batch))
    again, same = loss_and_gradients(trainer, other)
    torch.testing.assert_close(again, loss, atol=1e-6, rtol=0)
    for name, gradient in gradients.items():  # what old log-probs say of tools' tokens acts on nothing
        torch.testing.assert_close(same[name], gradient, atol=1e-6, rtol=1e-4)


GAME = '''
class Game:
    def reset(self, record, images):
        self.moves = 0
        return ["Begin.", *images[:1]]
    def move(self, to: int) -> str:
        """Moves."""
        self.moves += 1
        return f"moved {self.moves} times <|im_end|>"
    def reward(self):
        return {"reward": self.moves, "moves": 2 * self.moves}
'''


class Moving(Toolbox):
    """Moves in every turn but those of one in eight words."""

    def read(self, text, in_thinking=False):
        return (ToolCall("move", {"to": 1}),) if zlib.crc32(text.encode()) % 8 else ()


def played(tiny, mixed, folder, game: str) -> tuple[Any, Any, list[Any]]:
    """(trainer, batch, completions) of three groups of four that play this game."""
    (folder / "game.py").write_text(game)
    flags = ["--environment", f"{folder / 'game.py'}:Game", "--reward_funcs", "environment", "--max_tool_turns", "3"]
    trainer = make_trainer(tiny, mixed, folder, "--max_completion_length", "120", "--use_cpu", "true", *flags)
    trainer.toolbox = Moving(**vars(make_toolbox([], "", ToolLimits(3, 0), environment=flags[1])))
    trainer.loader.opening = trainer.toolbox.arena.opening
    seen: list[Any] = []
    trainer.reward_funcs[0] = lambda completions, **_: seen.extend(completions) or [float(i) for i in range(12)]
    return trainer, batch_of(trainer, 0, 1, 2), seen


@pytest.mark.slow
def test_an_environment_begins_the_prompt_keeps_its_state_and_pays(tiny, mixed, tmp_path, differences):
    trainer, batch, seen = played(tiny, mixed, tmp_path, GAME)
    assert len(differences) == 1 and max(differences) < 1e-5
    (example,) = trainer.loader.take([{"split": "train", "row": 0}])
    assert example.conversation[-1]["content"].endswith("\nBegin.<image>")
    assert len(example.pictures) == len(example.own_pictures) + 1
    moves = [sum(message["role"] == "tool" for message in messages) for messages in seen]
    assert max(moves) > 1 and len(moves) == 12
    paid = [environment("", example.record, messages) for messages in seen]
    for messages, count, reward in zip(seen, moves, paid, strict=True):
        left_out = "tool_calls" in messages[-1]  # a call that acted, whose answer is over the limit of tokens
        assert reward in (count, count + left_out)
        assert messages[-1]["environment"] == {"reward": reward, "measures": {"moves": 2 * reward}}
    assert trainer._metrics["train"]["environment/moves"][-1] == pytest.approx(2 * sum(paid) / 12)
    assert 0 < batch["tool_mask"].sum() < batch["completion_mask"].sum()


def test_an_environment_ends_completions_with_a_call(tiny, mixed, tmp_path, differences):
    over = "    def is_over(self):\n        return self.moves == 1\n"
    trainer, batch, seen = played(tiny, mixed, tmp_path, GAME + over)
    ended = [messages for messages in seen if messages[-1]["role"] == "tool"]
    assert ended and all([message["role"] for message in messages] == ["assistant", "tool"] for messages in ended)
    assert all(messages[-1]["environment"]["reward"] == 1 for messages in ended)
    assert not any(batch["turns"]) and trainer._metrics["train"]["tools/truncated"][-1] == 0
    assert trainer._metrics["train"]["tools/answer_tokens"][-1] == 0 < trainer._metrics["train"]["tools/calls"][-1]


def logps_of(trainer, batch) -> torch.Tensor:
    """The policy's log-probs of a batch, 0 at tools' tokens."""
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    with torch.no_grad():
        rows = (batch["prompts"], batch["completion_ids"], lengths)
        return trainer.score_completions(trainer.model, *rows, turns=batch["turns"]).logps


def test_turns_are_logged_with_their_pictures_and_boxes(tmp_path):
    record = Record("r", ("a.png",), "", (), "7", {"image_wh": [80, 40], "box_space": "original"}, "a:1", "digits")
    example = Example(record, [{"role": "user", "content": "where?"}], [Image.new("RGB", (80, 40))], None)
    zoomed = ToolAnswer("zoom", (Image.new("RGB", (56, 28), (9, 9, 9)), "there"))
    boxes = ([0, 10, 40, 30], [70, 0, 99, 9])
    calls = [ToolCall("zoom", {"bbox_2d": box, "label": "door"}) for box in boxes]
    turns = [
        ModelTurn("look", calls, (zoomed, told("zoom", "outside"))),
        ModelTurn("7", calls, limit="max_tool_turns 1"),
    ]
    scored = {"completions": ["7"], "rewards": {"accuracy": [1.0]}, "advantages": [1.0]}
    scored |= {"parsed": ["7"], "tokens": [9], "truncated": [False], "turns": [turns]}
    log = RolloutLog(str(tmp_path), 1, rank=0, keep=1)
    log.add(0, [example], scored, 1)
    group = json.loads((tmp_path / "rollouts.jsonl").read_text())
    first, last = group["completions"][0]["turns"]
    assert last == {"text": "7", "answers": [], "limit": "max_tool_turns 1"} and "limit" not in first
    good, bad = first["answers"]
    corners = [[0.0, 0.25], [0.5, 0.25], [0.5, 0.75], [0.0, 0.75]]
    assert good["asked"] == {"points": corners, "label": "door", "image": 0}
    assert (good["text"], good["error"], bad["error"], bad["asked"]) == ("there", False, True, None)
    assert {path.name for path in (tmp_path / "rollout_images").iterdir()} == set(stored_pictures(group))
