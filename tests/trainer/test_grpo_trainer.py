"""The trainer: groups stay whole, pixels load late and once, batching changes nothing, every image matters."""

import json
from types import SimpleNamespace

import pytest
import torch
from helpers.trainers import make_trainer, rows, sft_trainer
from PIL import Image

from open_r1.data import images
from open_r1.rollout.batching import permute_groups
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.generation_batch import LossRows
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer
from open_r1.trainer.protocols import RolloutTrainer, RunTrainer


@pytest.fixture(scope="module")
def trainer(tiny, mixed, tmp_path_factory) -> VLMGRPOTrainer:
    return make_trainer(tiny, mixed, tmp_path_factory.mktemp("run"), "--max_steps", "1")


def prompts_of(trainer: VLMGRPOTrainer, numbers: list[int]) -> list[Prompt]:
    return trainer.prompts_on_device(trainer.loader.take(rows(*numbers)))


def completion_logps(trainer: VLMGRPOTrainer, prompts: list[Prompt], batch_size: int | None = None) -> torch.Tensor:
    """Log-probs (B, 6) of the same six tokens after each prompt, `batch_size` rows in a forward pass."""
    ids = trainer.processing_class.tokenizer("I see 1 2 3", return_tensors="pt")["input_ids"][:, :6]
    ids = ids.expand(len(prompts), -1)
    with torch.no_grad():
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, torch.ones_like(ids), ids.shape[1], batch_size, pixel_values=LossRows(prompts)
        )
    return logps


def test_a_batch_of_mixed_rows_gives_the_log_probs_of_each_row_alone(trainer):
    prompts = prompts_of(trainer, [0, 1, 2, 3, 4, 5])  # one image, text, two images of different sizes, and again
    together = completion_logps(trainer, prompts)
    for batch_size in (1, 2, 4):
        torch.testing.assert_close(completion_logps(trainer, prompts, batch_size), together, atol=1e-5, rtol=0)
    alone = torch.cat([completion_logps(trainer, prompts_of(trainer, [n])) for n in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("picture", [0, 1])
def test_each_image_matters(trainer, monkeypatch, picture):
    before = completion_logps(trainer, prompts_of(trainer, [2]))
    plain = images.load_images

    def with_a_white_block(records, workers):
        loaded = plain(records, workers=workers)
        loaded[0][picture] = loaded[0][picture].copy()
        loaded[0][picture].paste((255, 255, 255), (0, 0, 28, 28))
        return loaded

    monkeypatch.setattr("open_r1.rollout.prompt_loader.load_images", with_a_white_block)
    trainer.loader.batches.clear()
    assert (completion_logps(trainer, prompts_of(trainer, [2])) - before).abs().max() > 1e-3


def test_equal_rows_share_one_decoded_image(trainer, monkeypatch):
    opened = []
    plain = images.open_image
    monkeypatch.setattr(images, "open_image", lambda *a, **k: opened.append(a[1]) or plain(*a, **k))
    examples = trainer.loader.take(rows(0, 2, 3, 5, group=4))
    assert len(opened) == len(set(opened))
    pictures = {id(picture) for example in examples for picture in example.pictures}
    assert len(pictures) == len(opened) < sum(len(example.pictures) for example in examples)
    assert examples[0].prompt is examples[3].prompt


def test_no_pixel_is_read_until_a_row_is_generated(tiny, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("an image was opened"))
    make_trainer(tiny, mixed, tmp_path, "--max_steps", "1")


def test_images_stand_where_their_tags_stand(trainer):
    (example,) = trainer.loader.take(rows(2))
    chat = trainer.loader.conversation(example.record, example.pictures)[0]["content"]
    assert [part["type"] for part in chat] == ["text", "image", "text", "image", "text"]
    assert chat[3]["image"].size == (168, 84)
    assert example.conversation[0]["content"].startswith("First <image> then <image>")  # TRL copies and logs this one


def test_micro_batches_hold_whole_groups(trainer, monkeypatch):
    groups = torch.arange(6).repeat_interleave(4)
    monkeypatch.setattr(trainer, "_step", 0)
    monkeypatch.setattr(
        trainer, "_generate_and_score_completions", lambda _: {"advantages": groups, "prompts": [None] * 24}
    )
    trainer.model.train()
    micro_batches = []
    for step in range(3):
        monkeypatch.setattr(trainer, "_step", step)
        micro_batches.append(trainer._prepare_inputs(rows(*range(6), group=4))["advantages"])
    assert all(len(set(part[:4].tolist())) == len(set(part[4:].tolist())) == 1 for part in micro_batches)
    assert sorted(torch.cat(micro_batches).tolist()) == groups.tolist()


def test_every_order_of_groups_occurs():
    batch = {"x": torch.arange(6)}
    orders = {tuple(permute_groups(batch, 2)["x"].tolist()) for _ in range(200)}
    assert len(orders) == 6  # 3 groups


def test_no_completion_can_contain_an_image_token(trainer):
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    banned = {trainer.processing_class.tokenizer.convert_tokens_to_ids(name) for name in names}
    assert set(trainer.generation_config.suppress_tokens) == banned


def test_sampling_is_what_the_flags_say_not_what_the_checkpoint_says(trainer):
    config = trainer.generation_config
    assert (config.temperature, config.top_p, config.top_k, config.repetition_penalty) == (1.0, 1.0, 0, 1.0)


def test_a_run_moves_every_part_evaluates_and_leaves_what_it_promises(tiny, mixed, tmp_path, monkeypatch):
    monkeypatch.setenv("DEBUG_MODE", "true")
    monkeypatch.setenv("LOG_PATH", str(tmp_path / "debug.txt"))
    trainer = make_trainer(
        tiny,
        mixed,
        tmp_path,
        "--max_steps",
        "2",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "1",
        "--per_device_eval_batch_size",
        "4",
        "--beta",
        "0.04",
        "--num_iterations",
        "2",
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    still = [name for name, p in trainer.model.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    assert any("eval_reward" in entry for entry in trainer.state.log_history)
    groups = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert len(groups) == 2 and all(len(group["completions"]) == 4 for group in groups)
    for group in groups:
        assert abs(sum(c["advantage"] for c in group["completions"])) < 1e-3  # advantages are centred in a group
        assert all((tmp_path / "rollout_images" / name).exists() for name in group["images"])
        assert all(0 < c["tokens"] <= 8 and c["truncated"] in (True, False) for c in group["completions"])
    assert all(0 <= entry["parse_rate"] <= 1 for entry in trainer.state.log_history if "reward" in entry)
    assert (tmp_path / "debug.txt").read_text().count("Solution: ") == 24


def test_debug_mode_without_a_path_says_so(trainer, monkeypatch):
    monkeypatch.setenv("DEBUG_MODE", "true")
    monkeypatch.delenv("LOG_PATH", raising=False)
    example = SimpleNamespace(record=SimpleNamespace(where="a:1", solution="1"))
    scored = {"completions": ["x"], "rewards": {}, "advantages": [0.0]}
    monkeypatch.setattr(trainer.rollouts, "groups", 0)
    with pytest.raises(ValueError, match="set LOG_PATH"):
        trainer.rollouts.add(0, [example], scored, 1)


def test_rewards_reach_the_log_under_their_names(trainer):
    assert trainer.reward_func_names == ["count_characters"]


def members(protocol: type) -> set[str]:
    return {name for kind in protocol.__mro__ for name in getattr(kind, "__annotations__", {})} - {"_is_protocol"}


def test_both_trainers_have_what_the_room_uses_of_them(trainer, tiny, mixed, tmp_path):
    flags = f"--model_name_or_path {tiny} --data_file_paths {mixed} --image_folders {mixed.parent} --bf16 false"
    assert [name for name in members(RolloutTrainer) if not hasattr(trainer, name)] == []
    sft = sft_trainer([*flags.split(), "--output_dir", str(tmp_path)])
    assert [name for name in members(RunTrainer) if not hasattr(sft, name)] == []
