"""LoRA: what gets an adapter, the policy without it as reference, an adapter to go on with, and the merged model."""

import json
from types import SimpleNamespace

import merge_lora
import pytest
import torch
from helpers.trainers import batch_of, loss_and_gradients, make_trainer, sft_trainer
from peft import PeftModel, get_peft_model
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.trainer.utils import add_fused_lm_head

from open_r1 import grpo_jsonl, sft_jsonl
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments, TaskArguments
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.models.loading import freeze_vision, load_model, load_processor
from open_r1.models.lora import adapter_config, load_adapter, lora_config
from open_r1.models.model_parts import vision_parts
from open_r1.trainer.forward.log_probs import score
from open_r1.trainer.forward.shared_prefix import share_prefixes
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

GRPO, SFT = (lambda argv: parse(JsonlArguments, argv)), sft_jsonl.parse_sft


@pytest.fixture(scope="module")
def base(tiny):
    return AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)


@pytest.fixture
def plain(tiny):
    return AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)


@pytest.mark.parametrize("script", [GRPO, SFT])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--lora_r 16", "--lora_r: acts only with --use_peft true"),  # also where the value is the default
        ("--use_dora true", "--use_dora: acts only with --use_peft true"),
        ("--lora_vision true", "--lora_vision: acts only with --use_peft true"),
        ("--config {yaml}", "--lora_alpha: acts only with --use_peft true"),
        ("--use_peft true --lora_vision true --freeze_vision_modules true", "got true for both, which contradict"),
        ("--load_in_4bit true", "--load_in_4bit: acts only with --use_peft true: 4-bit weights cannot be trained"),
        ("--use_peft true --load_in_8bit true", "--load_in_8bit: got True, cannot act: it rounds a token by what"),
        ("--use_peft true --bnb_4bit_quant_type fp4", "--bnb_4bit_quant_type: acts only with --load_in_4bit true"),
        (
            "--use_peft true --load_in_4bit true --deepspeed local_scripts/zero3.json",
            "got true with ZeRO-3, which cuts",
        ),
        ("--use_peft true --load_in_4bit true --fsdp true", "--load_in_4bit: got true with --fsdp, which cuts"),
        ("--use_peft true --lora_task_type SEQ_CLS", "--lora_task_type: got SEQ_CLS, cannot act"),
    ],
)
def test_flags_that_cannot_act_are_refused_in_both_scripts(script, flags, said, capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("lora_alpha: 8\n")
    argv = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--bf16", "false"]
    with pytest.raises(SystemExit) as stop:
        script([*argv, *flags.format(yaml=tmp_path / "c.yaml").split()])
    assert stop.value.code == 2 and said in capsys.readouterr().err


def names_of(base, **flags) -> list[str]:
    return lora_config(VLMConfig(use_peft=True, **flags), base, vision_parts(base)).target_modules


def test_layers_are_those_of_the_language_model_unless_vision_is_asked_for(base):
    # 4 layers of q k v o gate up down; vision: 3 blocks of qkv proj gate up down, and a projector of two
    language, both = names_of(base), names_of(base, lora_vision=True)
    assert len(language) == 28 and len(both) == 28 + 15 + 2
    assert not any("visual" in name or "lm_head" in name for name in language)
    assert sorted(names_of(base, lora_target_modules=["all-linear"])) == sorted(language)
    one = names_of(base, lora_target_modules=["up_proj"])  # the vision blocks have an up_proj too
    assert len(one) == 4 and not any("visual" in name for name in one)
    assert len(names_of(base, lora_target_modules=["up_proj"], lora_vision=True)) == 4 + 3
    assert names_of(base, lora_target_modules=[r".*layers\.0\.self_attn\.[qk]_proj"]) == [
        "model.language_model.layers.0.self_attn.q_proj", "model.language_model.layers.0.self_attn.k_proj"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"lora_target_modules": ["q_prj"]},
            r"--lora_target_modules: got 'q_prj', which matches nothing.*near: q_proj",
        ),
        ({"lora_target_modules": ["q_proj", "xx"]}, "--lora_target_modules: got 'xx', which matches nothing"),
        ({"lora_target_modules": ["qkv"]}, r"--lora_target_modules: got model.visual.*add --lora_vision true"),
        ({"lora_target_modules": ["q_proj"], "lora_vision": True}, "--lora_vision: got true, but"),
        ({"lora_target_modules": ["lm_head"]}, "log-probs read the head's weight directly"),
        ({"lora_target_modules": ["self_attn", "mlp"]}, "a Qwen2_5_VLAttention takes no adapter"),
        ({"lora_modules_to_save": ["lm_haed"]}, "--lora_modules_to_save: got 'lm_haed', which.*near: lm_head"),
        ({"lora_modules_to_save": ["lm_head"]}, "which this model ties"),
        ({"lora_modules_to_save": ["merger"]}, "--lora_modules_to_save: got .*merger, a vision module"),
        ({"lora_target_parameters": ["experts.down_proj"]}, "--lora_target_parameters: got 'experts.down_proj'"),
    ],
)
def test_names_that_match_nothing_or_cannot_be_adapted_are_refused(base, flags, said):
    with pytest.raises(UsageError, match=said):
        names_of(base, **flags)


def shaken(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """As after some training: adapters begin as no change at all."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".default" in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def adapter_of(plain, tiny, folder, **flags) -> str:
    """A folder with a trained-looking adapter and the processor of a run."""
    torch.manual_seed(0)
    flags = {"use_peft": True, "lora_r": 4, **flags}
    model = shaken(get_peft_model(plain, lora_config(VLMConfig(**flags), plain, vision_parts(plain))))
    model.save_pretrained(folder)
    limits = TaskArguments(max_pixels=28 * 28 * 6)
    load_processor(VLMConfig(model_name_or_path=tiny), limits).save_pretrained(folder)
    return str(folder)


def lora_trainer(monkeypatch, name, data, out, flags: VLMConfig, *more: str) -> VLMGRPOTrainer:
    plain = VLMGRPOTrainer.__init__

    def init(self, model, **kw):
        plain(self, model=model, **kw | {"peft_config": lora_config(flags, model, vision_parts(model))})

    monkeypatch.setattr(VLMGRPOTrainer, "__init__", init)
    return make_trainer(name, data, out, "--max_steps", "1", "--beta", "0.04", "--use_peft", "true", *more)


def logps_of(model, batch, size: int = 8) -> torch.Tensor:
    """Log-probs of a plain model, on shared prefixes, `size` rows at a time as in the trainer."""
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    share_prefixes(model)
    prompts, completion_ids, lengths = (
        batch["prompts"],
        batch["completion_ids"],
        batch["completion_mask"].sum(dim=1).tolist(),
    )
    parts = [slice(start, start + size) for start in range(0, len(prompts), size)]
    with torch.no_grad():
        rows = [
            score(model, model.base_model, prompts[p], completion_ids[p], lengths[p], shared=True).logps for p in parts
        ]
    return torch.cat(rows)


@pytest.mark.parametrize("vision", [False, True])
def test_the_reference_is_the_model_with_its_adapter_switched_off(plain, tiny, mixed, tmp_path, monkeypatch, vision):
    trainer = lora_trainer(monkeypatch, tiny, mixed, tmp_path, VLMConfig(use_peft=True, lora_vision=vision))
    shaken(trainer.model)
    batch = batch_of(trainer, 0, 1, 2)  # one image, text, two images
    assert trainer.optimizations["shared_prefix"] and trainer.ref_model is None
    assert trainer.optimizations["reuse_vision_features"] != vision
    reference, mask = batch["ref_per_token_logps"], batch["completion_mask"].bool()
    torch.testing.assert_close(reference, logps_of(plain, batch), atol=1e-6, rtol=0)
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    policy = trainer.score_completions(trainer.model, batch["prompts"], batch["completion_ids"], lengths).logps
    assert (policy - reference)[mask].abs().max() > 1e-3


@pytest.mark.slow
def test_an_adapter_is_trained_on_and_its_start_is_the_reference(plain, tiny, mixed, tmp_path, monkeypatch):
    folder = adapter_of(plain, tiny, tmp_path / "adapter")
    trainer = lora_trainer(monkeypatch, folder, mixed, tmp_path / "run", VLMConfig(use_peft=True))
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert trained and all(".default." in name for name in trained) and trainer.ref_model is None
    shaken(trainer.model, seed=1)  # as after a step: the reference must not follow
    batch = batch_of(trainer, 0, 1, 2)
    whole = load_adapter(folder, dtype=torch.float32).merge_and_unload()
    torch.testing.assert_close(batch["ref_per_token_logps"], logps_of(whole, batch), atol=1e-5, rtol=0)
    trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "ref").exists()  # transformers would resume from it instead of the other
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    shaken(trainer.model, seed=2)
    trainer._load_from_checkpoint(str(tmp_path / "saved"))
    after = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert before.keys() == after.keys() and all(torch.equal(p, after[n]) for n, p in before.items())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "an adapter, without --use_peft true"),
        ({"use_peft": True, "lora_r": 8}, "--lora_r: cannot act on"),
        ({"use_peft": True, "lora_vision": True}, "--lora_vision: cannot act on"),
    ],
)
def test_an_adapter_as_model_takes_no_flags_of_a_new_one(plain, tiny, tmp_path, flags, said):
    folder = adapter_of(plain, tiny, tmp_path, lora_vision=True)
    training = SimpleNamespace(model_init_kwargs=None, trust_remote_code=False, deepspeed=None, bf16=False)
    with pytest.raises(UsageError, match=said):
        load_model(VLMConfig(model_name_or_path=folder, **flags), training)
    with pytest.raises(UsageError, match="--freeze_vision_modules: got true, but the adapter"):
        freeze_vision(load_model(VLMConfig(model_name_or_path=folder, use_peft=True), training))


def test_an_adapter_whose_base_is_gone_says_what_to_correct(plain, tiny, tmp_path):
    folder = adapter_of(plain, tiny, tmp_path)
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({**adapter_config(folder), "base_model_name_or_path": str(tmp_path / "gone")})
    )
    with pytest.raises(UsageError, match=r"base_model_name_or_path: got .*gone"):
        load_adapter(folder)


def merged(adapter, out, **flags) -> str:
    options = {"base": None, "dtype": None, "trust_remote_code": False, **flags}
    return merge_lora.merge(SimpleNamespace(adapter=str(adapter), out=out, **options))


def logits_of(model, processor) -> torch.Tensor:
    """Of one conversation with two images and one of text alone."""
    rows = [["first <image>", "then <image>"], ["one and two"]]
    pictures = [Image.new("RGB", size, colour) for size, colour in (((112, 56), "white"), ((84, 84), "red"))]
    chats = [[{"role": "user", "content": [{"type": "text", "text": text.replace("<image>", "")}
              if part == 0 else {"type": "image"} for text in row for part in range(1 + ("<image>" in text))]}]
             for row in rows]  # fmt: skip
    text = [processor.apply_chat_template(chat, add_generation_prompt=True) for chat in chats]
    inputs = processor(text=text, images=[pictures, []], padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**inputs).logits[inputs["attention_mask"].bool()]


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"lora_vision": True},
        pytest.param({"use_rslora": True, "lora_vision": True}, marks=pytest.mark.slow),
        pytest.param({"use_dora": True, "lora_vision": True}, marks=pytest.mark.slow),
        pytest.param({"lora_modules_to_save": ["merger"], "lora_vision": True}, marks=pytest.mark.slow),
    ],
    ids=["language", "vision", "rslora", "dora", "modules_to_save"],
)
def test_the_merged_model_is_base_and_adapter(plain, tiny, tmp_path, flags):
    folder, out = adapter_of(plain, tiny, tmp_path / "adapter", **flags), tmp_path / "merged"
    message = merged(folder, out)
    assert str(out) in message and "q_proj" in message and "float32" in message
    processor = AutoProcessor.from_pretrained(out, padding_side="left")
    together, alone = load_adapter(folder, dtype=torch.float32), AutoModelForImageTextToText.from_pretrained(out)
    assert isinstance(together, PeftModel) and not hasattr(alone, "peft_config") and alone.dtype == torch.float32
    ours, theirs = logits_of(alone, processor), logits_of(together, processor)
    assert (ours - theirs).abs().max() < 4e-6 * theirs.abs().max()  # up to 17, where a step of float32 is 2e-6
    exact = (logits_of(alone.double(), processor) - logits_of(together.double(), processor)).abs().max()
    print(f"largest |difference| {(ours - theirs).abs().max():.2g} in float32, {exact:.2g} computed in float64")
    assert exact < 1e-5  # of the merged weights alone, rounded to float32 once
    with together.disable_adapter():
        assert (logits_of(together, processor) - theirs).abs().max() > 1e-2
    assert alone.generation_config.to_diff_dict() == together.generation_config.to_diff_dict()
    kept = AutoProcessor.from_pretrained(tiny)
    assert processor.image_processor.size["longest_edge"] == 28 * 28 * 6  # of the run, not of the base
    assert processor.chat_template == kept.chat_template
    text = "<|im_start|>user\nHow many 12?\n\n<|im_end|>"
    assert processor.tokenizer(text)["input_ids"] == kept.tokenizer(text)["input_ids"]


def test_a_merge_refuses_what_it_cannot_do(plain, tiny, tmp_path):
    folder = adapter_of(plain, tiny, tmp_path / "adapter")
    with pytest.raises(UsageError, match="which exists, expected a new"):
        merged(folder, tmp_path)
    with pytest.raises(UsageError, match=r"which has no adapter_config\.json"):
        merged(tiny, tmp_path / "out")
    assert "bfloat16" in merged(folder, tmp_path / "out", dtype="bfloat16", base=tiny)
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


@pytest.mark.parametrize("reentrant", ["true", "false"])
def test_every_adapter_gets_gradients_under_gradient_checkpointing(tiny, mixed, tmp_path, reentrant):
    flags = f"--model_name_or_path {tiny} --data_file_paths {mixed} --image_folders {mixed.parent} --bf16 false"
    flags += f" --output_dir {tmp_path} --use_peft true --lora_vision true --gradient_checkpointing true --max_steps 1"
    more = ["--gradient_checkpointing_kwargs", json.dumps({"use_reentrant": reentrant == "true"})]
    trainer = sft_trainer([*flags.split(), *more])
    trainer.model.train()
    trainer.compute_loss(trainer.model, trainer.data_collator([{"row": row} for row in range(3)])).backward()
    idle = [n for n, p in trainer.model.named_parameters() if "lora_B" in n and (p.grad is None or not p.grad.any())]
    assert not idle


def test_every_adapter_gets_gradients_from_grpo_too(tiny, mixed, tmp_path, monkeypatch):
    flags = VLMConfig(use_peft=True, lora_vision=True)
    trainer = lora_trainer(monkeypatch, tiny, mixed, tmp_path, flags, "--gradient_checkpointing", "true")
    _, gradients = loss_and_gradients(trainer, batch_of(trainer, 0, 1, 2))
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 45 and all(gradients[name].any() for name in trained if "lora_B" in name)


@pytest.mark.slow
def test_evaluation_takes_an_adapter_and_the_merged_model_alike(plain, tiny, digits, tmp_path):
    folder = adapter_of(plain, tiny, tmp_path / "adapter")
    merged(folder, tmp_path / "merged")
    completions = []
    for model in (folder, tmp_path / "merged", tiny):
        flags = f"--model {model} --data_file_paths {digits}/heldout.jsonl --image_folders {digits} --task digits"
        flags += f" --limit 4 --max_completion_length 6 --device cpu --output_dir {tmp_path}/{len(completions)}"
        run_evaluation(parser_of(None).parse_args(flags.split()))
        lines = (tmp_path / str(len(completions)) / "predictions.jsonl").read_text().splitlines()
        completions.append([json.loads(line)["completion"] for line in lines])
    assert completions[0] == completions[1] != completions[2] and len(completions[0]) == 4


@pytest.mark.slow
def test_lora_learns_is_gone_on_with_and_merges(tiny, digits, tmp_path):
    common = f"--data_file_paths {digits}/train.jsonl --image_folders {digits} --task_type digits --save_strategy no"
    common += " --num_generations 8 --per_device_train_batch_size 32 --gradient_checkpointing false --bf16 false"
    common += " --max_completion_length 40 --disable_tqdm true"

    def train(model: str, name: str, flags: str) -> list[float]:
        out = tmp_path / name
        grpo_jsonl.main([*common.split(), "--model_name_or_path", model, "--output_dir", str(out), *flags.split()])
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [line["reward"] for line in lines if "reward" in line]

    rewards = train(tiny, "a", "--use_peft true --lora_r 16 --learning_rate 2e-3 --max_steps 20")
    print("rewards", [round(reward, 2) for reward in rewards])
    before, after = sum(rewards[:2]) / 2, sum(rewards[-8:]) / 8  # 1.31 and 1.87 of 2 at most, seed 42
    assert after > before + 0.25
    again = train(str(tmp_path / "a" / "checkpoint"), "b", "--use_peft true --beta 0.04 --max_steps 2")
    assert len(again) == 2 and (tmp_path / "b" / "checkpoint" / "adapter_model.safetensors").is_file()
    assert again[0] > (before + after) / 2  # from where the adapter stood, not from the base model
    merged(tmp_path / "b" / "checkpoint", tmp_path / "merged")
    assert train(str(tmp_path / "merged"), "c", "--max_steps 1")[0] > (before + after) / 2
