"""A 4-bit base model under LoRA: exact passes, its reference, exact resuming, what is saved, evaluated and merged."""

import json
import logging
from types import SimpleNamespace

import merge_lora
import pytest
import torch
from helpers.trainers import batch_of, loss_and_gradients, make_trainer
from safetensors.torch import load_file

from open_r1 import grpo_jsonl
from open_r1.config.model_arguments import VLMConfig
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.models.loading import load_model
from open_r1.models.lora import load_adapter, lora_config
from open_r1.models.model_parts import bare_model, vision_parameters, vision_parts
from open_r1.models.plain import load_plain
from open_r1.models.quantization import (
    FOUR_BIT_FILE,
    FourBit,
    base_of,
    is_packed,
    packed_weights,
    recorded_four_bit,
    stored_bytes,
)
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

pytestmark = pytest.mark.quant
FLAGS = ("--use_peft", "true", "--load_in_4bit", "true")


def four_bit_trainer(name, data, out, *more: str) -> VLMGRPOTrainer:
    return make_trainer(name, data, out, "--max_steps", "1", "--beta", "0.04", *FLAGS, *more)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """As after some training: adapters begin as no change at all."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B.default" in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


@pytest.mark.parametrize("lora_vision", [False, True])
def test_shared_prefixes_are_rows_of_the_same_rounded_model(tiny, mixed, tmp_path, lora_vision):
    trainer = four_bit_trainer(tiny, mixed, tmp_path, "--lora_vision", str(lora_vision))
    shaken(trainer.model)
    batch = batch_of(trainer, 0, 1, 2)  # one image, text, two images
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    assert trainer.optimizations["shared_prefix"] and base_of(trainer.model) == FourBit()

    def logps(shared: bool) -> torch.Tensor:
        rows = (trainer.model, batch["prompts"], batch["completion_ids"], lengths)
        return trainer.score_completions(*rows, shared=shared).logps * batch["completion_mask"]

    torch.testing.assert_close(logps(True), logps(False), atol=1e-5, rtol=0)
    loss, gradients = loss_and_gradients(trainer, batch)
    trainer.optimizations.off["shared_prefix"] = "compared"
    loss_of_rows, gradients_of_rows = loss_and_gradients(trainer, batch)
    torch.testing.assert_close(loss, loss_of_rows, atol=1e-6, rtol=0)
    assert gradients.keys() == gradients_of_rows.keys() and len(gradients) == 2 * (45 if lora_vision else 28)
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32 and gradient.any(), name
        torch.testing.assert_close(gradient, gradients_of_rows[name], atol=1e-5, rtol=1e-4)


def test_the_reference_is_the_rounded_model_without_adapters(tiny, mixed, tmp_path):
    trainer = four_bit_trainer(tiny, mixed, tmp_path)
    shaken(trainer.model)
    batch = batch_of(trainer, 0, 1, 2)
    lengths, rounded = batch["completion_mask"].sum(dim=1).tolist(), bare_model(trainer.model)
    rows = (batch["prompts"], batch["completion_ids"], lengths)
    policy = trainer.score_completions(trainer.model, *rows).logps
    weights = {name: p.clone() for name, p in rounded.named_parameters() if is_packed(p)}
    with trainer.model.disable_adapter():
        expected = trainer.score_completions(trainer.model, *rows, shared=False).logps
    mask = batch["completion_mask"].bool()
    torch.testing.assert_close(batch["ref_per_token_logps"][mask], expected[mask], atol=1e-5, rtol=0)
    assert (policy - expected)[mask].abs().max() > 1e-3 and trainer.ref_model is None
    assert len(weights) == 28 and all(
        torch.equal(p, weights[n]) for n, p in rounded.named_parameters() if is_packed(p)
    )


def test_what_is_rounded_is_the_language_model_but_its_head(tiny):
    whole = load_plain(tiny, dtype=torch.float32)
    model = load_plain(tiny, four_bit=FourBit("nf4", nested=True), dtype=torch.float32)
    assert not any(map(is_packed, vision_parameters(model))) and not is_packed(model.get_output_embeddings().weight)
    packed, weights = packed_weights(model)
    assert sum(p.numel() for p in whole.parameters()) - weights == sum(p.numel() for p in vision_parameters(model))
    saved = sum(map(stored_bytes, whole.parameters())) - sum(map(stored_bytes, model.parameters()))
    assert 3.45 * packed < saved < 3.5 * packed  # 4 bytes become half a byte, and a byte and 4 / 256 for 64 weights
    assert stored_bytes(load_plain(tiny, dtype=torch.float32).lm_head.weight) == 4 * whole.lm_head.weight.numel()


def test_an_evaluation_leaves_a_layer_as_it_is_trained(tiny):
    """bitsandbytes repacks weights in evaluation on CPUs with bfloat16 instructions, and then has no gradient."""
    model = load_plain(tiny, four_bit=FourBit(), dtype=torch.float32)
    layer = next(m for m in model.modules() if is_packed(getattr(m, "weight", None)))
    x = torch.randn(3, layer.in_features)
    with torch.no_grad():
        evaluated = layer.eval()(x)
    trained = layer.train()(x.requires_grad_())
    assert torch.equal(evaluated, trained) and trained.dtype == torch.float32
    trained.sum().backward()
    assert x.grad.any()


def test_an_adapter_goes_on_with_the_bits_it_had(tiny, mixed, tmp_path, caplog):
    first = four_bit_trainer(tiny, mixed, tmp_path / "a")
    shaken(first.model)
    first.save_model(str(tmp_path / "adapter"))
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert recorded_four_bit(str(tmp_path / "adapter")) == FourBit() and {t.dtype for t in stored.values()} == {
        torch.float32
    }
    again = four_bit_trainer(str(tmp_path / "adapter"), mixed, tmp_path / "b")
    kept = {n: p for n, p in again.model.named_parameters() if p.requires_grad}
    assert len(kept) == len(stored) == 56
    assert all(torch.equal(p, stored[name.replace(".default", "")]) for name, p in kept.items())
    training = SimpleNamespace(model_init_kwargs=None, trust_remote_code=False, deepspeed=None, bf16=False)
    with caplog.at_level(logging.WARNING):
        load_model(VLMConfig(model_name_or_path=str(tmp_path / "adapter"), use_peft=True), training)
    assert "around a base model in 4 bit (nf4), and goes on around one in whole weights" in caplog.text


@pytest.mark.parametrize("text", ["[]", '{"quant_type": "int3"}', '{"bits": 4}', "{"])
def test_a_record_that_no_run_writes_is_refused(tmp_path, text):
    (tmp_path / FOUR_BIT_FILE).write_text(text)
    with pytest.raises(UsageError, match=f"{FOUR_BIT_FILE}: got .*; restore the file"):
        recorded_four_bit(str(tmp_path))


def test_layers_in_4_bits_are_not_trained_whole(tiny):
    model = load_plain(tiny, four_bit=FourBit(), dtype=torch.float32)
    with pytest.raises(UsageError, match=r"--lora_modules_to_save: got .*q_proj.*whose weights are in 4 bits"):
        lora_config(VLMConfig(use_peft=True, lora_modules_to_save=["q_proj"]), model, vision_parts(model))


@pytest.fixture(scope="module")
def run(tiny, digits, tmp_path_factory):
    """Trains by the script: (folder, what makes one more run)."""
    common = f"--model_name_or_path {tiny} --data_file_paths {digits}/train.jsonl --image_folders {digits}"
    common += " --task_type digits --num_generations 8 --per_device_train_batch_size 16 --bf16 false --beta 0.04"
    common += " --max_completion_length 24 --disable_tqdm true --learning_rate 1e-3 --gradient_checkpointing true"
    common += " --save_steps 2 --use_bnb_nested_quant true --lora_r 64 --optim adamw_bnb_8bit"

    def train(folder, steps: int, *more: str) -> None:
        grpo_jsonl.main([*common.split(), *FLAGS, "--output_dir", str(folder), "--max_steps", str(steps), *more])

    folder = tmp_path_factory.mktemp("four_bit") / "run"
    train(folder, 4)
    return folder, train


def test_resuming_is_exact(run):
    whole, train = run
    parted = whole.with_name("parted")
    train(parted, 4, "--resume_from_checkpoint", str(whole / "checkpoint-2"))
    one, other = (load_file(f / "checkpoint" / "adapter_model.safetensors") for f in (whole, parted))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert any(one[name].any() for name in one if "lora_B" in name)
    assert not list(whole.glob("checkpoint*/model*.safetensors"))  # the base is read from its own model


def test_the_adapter_is_evaluated_as_trained_and_merged_into_whole_weights(run, tiny, digits, tmp_path):
    adapter = run[0] / "checkpoint"
    assert recorded_four_bit(str(adapter)) == FourBit("nf4", nested=True)
    assert "its base model in 4 bit (nf4, nested scales)" in (adapter / "README.md").read_text()
    flags = f"--model {adapter} --data_file_paths {digits}/heldout.jsonl --image_folders {digits} --limit 4"
    flags += f" --max_completion_length 6 --device cpu --dtype float32 --output_dir {tmp_path / 'eval'}"
    run_evaluation(parser_of(None).parse_args(flags.split()))
    assert len((tmp_path / "eval" / "predictions.jsonl").read_text().splitlines()) == 4
    options = {"adapter": str(adapter), "base": None, "dtype": None, "trust_remote_code": False}
    said = merge_lora.merge(SimpleNamespace(**options, out=tmp_path / "merged"))
    average = float(said.rpartition("differ by ")[2].split(" on average")[0])
    assert "trained around 4 bit (nf4, nested scales)" in said and 1e-3 < average < 1
    merged, together = load_plain(str(tmp_path / "merged")), load_adapter(str(adapter), dtype=torch.float32)
    expected = together.merge_and_unload().state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in merged.state_dict().items())
    assert json.loads((tmp_path / "merged" / "config.json").read_text()).get("quantization_config") is None
    assert not (tmp_path / "merged" / FOUR_BIT_FILE).exists()
