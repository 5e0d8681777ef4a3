"""What the trainer computes once gives the numbers of computing it G times; what it cannot, it says."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.trainers import batch_of, flash_on_cpu, loss_and_gradients, make_trainer, reference_varlen, rows
from peft import LoraConfig
from torch.nn.attention import varlen
from transformers import LogitsProcessor, LogitsProcessorList
from trl import GRPOTrainer

from open_r1.data.geometry.conventions import CONVENTIONS
from open_r1.models.loading import freeze_vision, load_model
from open_r1.rollout.batching import merge_images, pad_prompts, permute_groups
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompt_cache import why_no_prefill
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.forward import shared_prefix
from open_r1.trainer.generation_batch import LossRows
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]


@pytest.fixture
def trainer(tiny, mixed, tmp_path) -> VLMGRPOTrainer:
    return make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--gradient_accumulation_steps", "1")


def assert_equal(ours: tuple, plain: tuple, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours[0], plain[0], atol=tolerance, rtol=tolerance)
    assert ours[1].keys() == plain[1].keys()
    largest = max(gradient.norm() for gradient in plain[1].values())
    for name, gradient in plain[1].items():
        assert (ours[1][name] - gradient).norm() <= tolerance * max(gradient.norm(), 1e-2 * largest), name


def without(trainer: VLMGRPOTrainer, monkeypatch, flag: str) -> None:
    monkeypatch.setitem(trainer.optimizations.off, flag, "switched off by the test")


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_that_of_padded_rows(trainer, monkeypatch, loss):
    batch = batch_of(trainer, 0, 1, 2)  # one image, text, two images
    trainer.loss_type = loss
    trainer.epsilon_high = 0.2
    batch["old_per_token_logps"] = -torch.rand_like(batch["completion_mask"], dtype=torch.float32)
    packed = loss_and_gradients(trainer, batch)
    without(trainer, monkeypatch, "shared_prefix")
    assert_equal(packed, loss_and_gradients(trainer, batch), tolerance=2e-5)  # 1.01e-5 seen, on one kind of CPU


def test_padded_rows_are_trls(trainer, monkeypatch):
    batch = batch_of(trainer, 0, 1, 2)
    prompts, completions = batch["prompts"], batch["completion_ids"]
    inputs = pad_prompts(prompts)
    width = completions.shape[1]
    extra = {
        "mm_token_type_ids": torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, width)),
        "num_images": [len(p.images.get("image_grid_thw", ())) for p in prompts],
        **merge_images(prompts, packed=False),
    }
    ids = torch.cat([inputs["input_ids"], completions], dim=1)
    mask = torch.cat([inputs["attention_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        trls, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(trainer, trainer.model, ids, mask, width, **extra)
        ours, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, width, batch_size=4, pixel_values=LossRows(prompts)
        )
    torch.testing.assert_close(ours, trls, atol=1e-5, rtol=0)


def test_the_loss_of_many_prompts_is_the_mean_of_single_ones(trainer):
    trainer.loss_type = "grpo"
    batch = batch_of(trainer, 0, 1, 2, 3)
    together = loss_and_gradients(trainer, batch)
    ones = [loss_and_gradients(trainer, {k: v[i : i + 4] if hasattr(v, "__len__") and k != "num_items_in_batch" else v
                                         for k, v in batch.items()}) for i in range(0, 16, 4)]  # fmt: skip
    names = {name for _, gradients in ones for name in gradients}  # a text row has no gradient in the vision tower
    mean = {name: sum(g.get(name, torch.tensor(0.0)) for _, g in ones) / 4 for name in names}
    assert_equal(together, (sum(loss for loss, _ in ones) / 4, mean))


def test_the_order_of_groups_changes_nothing(trainer):
    batch = batch_of(trainer, 0, 1, 2, 3)
    assert_equal(loss_and_gradients(trainer, permute_groups(batch, 4)), loss_and_gradients(trainer, batch))


@pytest.mark.slow
def test_a_model_of_an_unlisted_family_trains_by_the_same_rules(tiny, mixed, tmp_path, monkeypatch):
    monkeypatch.delitem(CONVENTIONS, "qwen2_5_vl")
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--beta", "0.04")
    assert trainer.optimizations["shared_prefix"] and trainer.optimizations["prefill_once"]
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["loss"]) and trainer.state.log_history[0]["grad_norm"] > 0


def test_the_image_matters_to_policy_and_reference(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--beta", "0.04")
    (prompt,) = trainer.prompts_on_device(trainer.loader.take(rows(0)))
    pixels = prompt.images["pixel_values"].clone()
    pixels[:4] += 1  # one token's patches
    other = replace(prompt, images={**prompt.images, "pixel_values": pixels})
    ids = trainer.processing_class.tokenizer("I see 1 2 3", return_tensors="pt")["input_ids"]
    for model in (trainer.model, trainer.ref_model):
        before, after = (trainer.score_completions(model, [p], ids, [ids.shape[1]]).logps for p in (prompt, other))
        assert (before - after).abs().max() > 1e-3


def test_gradient_checkpointing_changes_nothing(trainer):
    batch = batch_of(trainer, 0, 2)
    plain = loss_and_gradients(trainer, batch)
    trainer.model.gradient_checkpointing_enable()
    assert_equal(loss_and_gradients(trainer, batch), plain)


def test_bfloat16_stays_close(trainer, monkeypatch):
    batch = batch_of(trainer, 0, 1, 2)
    exact = trainer.score_completions(trainer.model, batch["prompts"], batch["completion_ids"], [8] * 12).logps
    half = trainer.model.to(torch.bfloat16)
    close = trainer.score_completions(half, batch["prompts"], batch["completion_ids"], [8] * 12).logps
    without(trainer, monkeypatch, "shared_prefix")
    plain = trainer.score_completions(half, batch["prompts"], batch["completion_ids"], [8] * 12).logps
    assert (close - plain).abs().mean() < 1e-2
    assert (close - exact).abs().mean() < 1e-2


@pytest.mark.parametrize("skipped", ["some", "all"])
def test_completions_without_advantage_are_left_out_exactly(trainer, monkeypatch, skipped):
    batch = batch_of(trainer, 0, 1, 2)
    batch["advantages"][4:8] = 0
    batch["advantages"][1] = 0
    if skipped == "all":
        batch["advantages"].zero_()
    ours = loss_and_gradients(trainer, batch)
    without(trainer, monkeypatch, "skip_zero_advantages")
    plain = loss_and_gradients(trainer, batch)
    if skipped == "some":
        assert_equal(ours, plain)
    else:  # zero gradients, not none: an optimizer with momentum still moves
        assert ours[0] == 0 and all((gradient == 0).all() for gradient in ours[1].values())
        assert ours[1].keys() >= plain[1].keys()


def test_a_row_left_out_is_not_computed(trainer, monkeypatch):
    batch = batch_of(trainer, 0, 2)
    batch["advantages"][:4] = 0
    widths = []
    plain = trainer.model.base_model.forward
    monkeypatch.setattr(
        trainer.model.base_model, "forward", lambda **kw: widths.append(kw["input_ids"].shape[1]) or plain(**kw)
    )
    loss_and_gradients(trainer, batch)
    lengths = batch["completion_mask"].sum(dim=1)[4:].sum()
    assert widths == [len(batch["prompts"][4].ids) - 1 + lengths]


class Recorder(LogitsProcessor):
    """Keeps the log-probs of what is sampled from, by the tokens before."""

    def __init__(self):
        self.seen = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, logits in zip(input_ids.tolist(), scores.log_softmax(dim=-1), strict=True):
            self.seen[tuple(row)] = logits
        return scores


def test_a_sampled_rollouts_log_probs_are_the_trainers(trainer):
    torch.manual_seed(0)
    prompts = trainer.prompts_on_device(trainer.loader.take(rows(0, 1, 2, group=4)))
    config, recorder = trainer.generation_config, Recorder()
    config.suppress_tokens = None
    completion_ids = generate_groups(
        trainer.model,
        trainer.model.base_model,
        prompts,
        config,
        trainer.eos_token_ids,
        logits_processor=LogitsProcessorList([recorder]),
    )
    width, pad = pad_prompts(prompts)["input_ids"].shape[1], config.pad_token_id
    sampled = [
        [
            recorder.seen[(*[pad] * (width - len(p.ids)), *p.ids.tolist(), *tokens[:t])][tokens[t]].item()
            for t in range(len(tokens))
        ]
        for p, tokens in zip(prompts, completion_ids, strict=True)
    ]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(tokens) for tokens in completion_ids], batch_first=True)
    with torch.no_grad():
        ours = trainer.score_completions(trainer.model, prompts, ids, [len(tokens) for tokens in completion_ids]).logps
    for row, values in enumerate(sampled):
        torch.testing.assert_close(ours[row, : len(values)], torch.tensor(values), atol=1e-4, rtol=0)


def test_rows_that_ended_leave_the_batch(trainer, monkeypatch):
    prompts = trainer.prompts_on_device(trainer.loader.take(rows(0, 1, 2, group=4)))
    config = trainer.generation_config
    config.do_sample, config.max_new_tokens = False, 24
    widths = []
    plain = trainer.model.base_model.forward
    monkeypatch.setattr(
        trainer.model.base_model, "forward", lambda **kw: widths.append(len(kw["input_ids"])) or plain(**kw)
    )
    ends = (trainer.model, trainer.model.base_model, prompts, config, trainer.eos_token_ids)
    whole, steps = generate_groups(*ends, compact=False), widths.copy()
    widths.clear()
    assert generate_groups(*ends, compact=True) == whole
    assert len({len(tokens) for tokens in whole}) > 1 and sum(widths) < sum(steps)
    assert steps[0] == widths[0] == 3  # one prefill a prompt, not a completion


def test_the_cache_is_used_where_training_recomputes_activations(tiny, mixed, tmp_path, monkeypatch):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--gradient_checkpointing", "true")
    trainer.model.gradient_checkpointing_enable()
    trainer.model.train()
    trainer.agreement_checked = trainer.packing_checked = True  # neither check passes whole rows before the rollout
    lengths = []
    plain = trainer.model.base_model.language_model.forward
    monkeypatch.setattr(
        trainer.model.base_model.language_model,
        "forward",
        lambda **kw: lengths.append(kw["inputs_embeds"].shape[1]) or plain(**kw),
    )
    trainer._generate_and_score_completions(rows(0, group=4))
    assert lengths[0] > 1 and set(lengths[1:]) == {1}


def test_images_are_processed_once_a_prompt_and_never_repeated(trainer, monkeypatch):
    calls = []
    plain = type(trainer.processing_class.image_processor).__call__
    monkeypatch.setattr(
        type(trainer.processing_class.image_processor),
        "__call__",
        lambda self, images, *a, **k: calls.append(1) or plain(self, images, *a, **k),
    )
    transfers, move = [], Prompt.to
    monkeypatch.setattr(Prompt, "to", lambda prompt, device: transfers.append(1) or move(prompt, device))
    batch = batch_of(trainer, 0, 2)
    assert len(calls) == len(transfers) == 2 and len({id(prompt) for prompt in batch["prompts"]}) == 2
    assert "pixel_values" not in batch


def run(tiny, data, out, seed: int, *flags: str) -> VLMGRPOTrainer:
    """A run whose completions are given, by plain SGD."""
    options = ["--optim=sgd", "--learning_rate=1e-3", "--lr_scheduler_type=constant", "--max_grad_norm=0"]
    trainer = make_trainer(tiny, data, out, *options, *flags)
    generator = torch.Generator().manual_seed(seed)
    letters = trainer.processing_class.tokenizer("abcdefgh 12345")["input_ids"]

    def completions(prompt_ids, *args):
        lengths = torch.randint(1, 9, (len(prompt_ids),), generator=generator).tolist()
        pick = torch.randint(0, len(letters), (len(prompt_ids), 8), generator=generator)
        return [[letters[i] for i in row[:n]] for row, n in zip(pick.tolist(), lengths, strict=True)], None

    trainer._generate_single_turn = completions
    trainer.train()
    return trainer


def assert_same_training(one: VLMGRPOTrainer, other: VLMGRPOTrainer) -> None:
    def losses(trainer: VLMGRPOTrainer) -> torch.Tensor:
        return torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])

    torch.testing.assert_close(losses(one), losses(other), atol=1e-4, rtol=0)
    for (name, a), (_, b) in zip(one.model.named_parameters(), other.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    ["", "--beta 0.04", "--num_iterations 2 --steps_per_generation 6", "--steps_per_generation 4"],
    ids=["plain", "reference", "iterations", "misaligned"],
)
def test_training_is_the_same_with_and_without(tiny, mixed, tmp_path, flags):
    flags = ["--max_steps", "20" if not flags else "6", *flags.split()]
    off = "shared_prefix prefill_once skip_zero_advantages reuse_old_logps reuse_vision_features"
    ours = run(tiny, mixed, tmp_path / "a", 0, *flags)
    plain = run(tiny, mixed, tmp_path / "b", 0, *flags, *(f"--{flag}=false" for flag in off.split()))
    assert_same_training(ours, plain)


def test_a_frozen_vision_tower_runs_once_a_prompt_in_all_passes(tiny, mixed, tmp_path, monkeypatch):
    def frozen(*args):
        model = load_model(*args)
        freeze_vision(model)
        return model

    monkeypatch.setattr("helpers.trainers.load_model", frozen)
    trainer = make_trainer(tiny, mixed, tmp_path, "--beta", "0.04", "--max_steps", "1")
    assert trainer.optimizations["reuse_vision_features"]
    calls = []
    for model in (trainer.model, trainer.ref_model):
        model.base_model.visual.register_forward_hook(lambda *_: calls.append(1))
    batch = batch_of(trainer, 0, 1, 2, 3)
    loss, gradients = loss_and_gradients(trainer, batch)
    assert len(calls) == 3 and loss.isfinite() and gradients  # row 1 is text
    without(trainer, monkeypatch, "reuse_vision_features")
    batch["prompts"] = trainer.prompts_on_device(trainer.loader.take(rows(0, 1, 2, 3, group=4)))
    assert_equal((loss, gradients), loss_and_gradients(trainer, batch))


@pytest.mark.slow
def test_processes_of_the_data_loader_leave_pictures_to_the_trainer(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "2", "--dataloader_num_workers", "1")
    trainer.train()
    assert trainer.state.global_step == 2 and len(trainer.loader.batches) == 1


def test_lora_trains_on_shared_prefixes(tiny, mixed, tmp_path, monkeypatch):
    plain = VLMGRPOTrainer.__init__
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    monkeypatch.setattr(VLMGRPOTrainer, "__init__", lambda self, **kw: plain(self, **kw | {"peft_config": lora}))
    torch.manual_seed(0)  # of the adapters' weights
    trainer = make_trainer(tiny, mixed, tmp_path, "--beta", "0.04", "--max_steps", "1")
    assert trainer.optimizations["shared_prefix"] and trainer.ref_model is None
    batch = batch_of(trainer, 0, 1, 2)
    packed = loss_and_gradients(trainer, batch)
    assert all("lora" in name for name in packed[1])
    without(trainer, monkeypatch, "shared_prefix")
    assert_equal(packed, loss_and_gradients(trainer, batch))


def test_the_flash_kernel_gets_the_same_layout(trainer, monkeypatch):
    batch = batch_of(trainer, 0, 1, 2)
    before = loss_and_gradients(trainer, batch)
    seen = flash_on_cpu(monkeypatch, torch.float32)
    assert_equal(loss_and_gradients(trainer, batch), before)
    assert len(seen) == 2 * 4 + 3  # prefixes and suffixes of four text layers, three vision layers


def test_the_flash_kernel_gets_one_half_type_from_autocast(trainer, monkeypatch):
    """Float32 weights: queries and keys leave their rotary positions in float32, values come in bfloat16."""
    batch = batch_of(trainer, 0, 1)
    seen = flash_on_cpu(monkeypatch, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradients = loss_and_gradients(trainer, batch)
    assert set(seen) == {torch.bfloat16} and loss.isfinite() and gradients


@pytest.mark.gpu
def test_torchs_ragged_kernel_is_causal_at_the_last_key():
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(n, heads, 64, device="cuda", dtype=torch.bfloat16) for n, heads in ((7, 4), (19, 2), (19, 2))
    )
    ends = [torch.tensor(e, device="cuda", dtype=torch.int32) for e in ([0, 3, 7], [0, 8, 19])]
    options = {"scale": 0.125, "window_size": (-1, 0), "enable_gqa": True}
    ours = varlen.varlen_attn(q, k, v, *ends, 4, 11, **options)
    plain = reference_varlen(*(s.cpu().float() for s in (q, k, v)), *(e.cpu() for e in ends), 4, 11, **options)
    torch.testing.assert_close(ours.cpu().float(), plain, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(
    ("flags", "off", "why"),
    [
        ("--shared_prefix false", "shared_prefix", "--shared_prefix false"),
        ("--beta 0.04", "skip_zero_advantages", "--beta 0.04 acts on every completion"),
        ("--entropy_coef 0.01", "skip_zero_advantages", "entropy bonus"),
        ("--top_entropy_quantile 0.5", "skip_zero_advantages", "ranks the tokens"),
        ("--cache_implementation static", "prefill_once", "keeps a cache of fixed shape"),
        ("", "reuse_vision_features", "--freeze_vision_modules true freezes it"),
    ],
)
def test_what_is_off_says_why(tiny, mixed, tmp_path, flags, off, why):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", *flags.split())
    assert not trainer.optimizations[off] and any(
        off in line and why in line for line in trainer.optimizations.lines()[1:]
    )


def test_models_that_cannot_share_say_why(trainer, monkeypatch):
    text = trainer.model.config.get_text_config()
    with monkeypatch.context() as patch:
        patch.setattr(text, "attention_dropout", 0.1)
        assert "attention_dropout 0.1" in shared_prefix.why_no_shared_prefix(trainer.model)
    monkeypatch.setattr(text, "layer_types", ["linear_attention", "full_attention"])
    assert "linear_attention" in shared_prefix.why_no_shared_prefix(trainer.model)
    monkeypatch.setattr(text, "layer_types", ["of_next_year", "full_attention"])
    assert "of_next_year" in why_no_prefill(trainer.model, None)
