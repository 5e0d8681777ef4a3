"""The memory planner: exact parameter counts, arithmetic by hand, flags that fit, and what was measured."""

import json
import re
import sys
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from helpers import families
from helpers.families.tiny import processor_of
from helpers.repository import REPO, run_script
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText

from open_r1.data.prompt_length import frame_sizes
from open_r1.data.video.inputs import grey_video
from open_r1.data.video.own_texts import chat_about
from open_r1.data.video.types import FrameSampling
from open_r1.errors import UsageError
from open_r1.models.loading import set_frame_limits
from open_r1.plan import activations, cli, memory, propose, states
from open_r1.plan.config_numbers import patches_of_token
from open_r1.plan.dims import Dims, Tower, dims_of, read_dims
from open_r1.plan.media import per_image, per_video
from open_r1.plan.memory import GIB, total_bytes
from open_r1.plan.settings import ENGINES, PlannedRun
from open_r1.rollout.prompts import process_chat
from open_r1.rollout.video_form import VideoRows

SIZES = {"hidden": 8, "intermediate": 16, "heads": 4, "kv_heads": 2, "head_dim": 2, "gated": True}
TOWER = Tower(layers=4, caching_layers=4, cached=8, parameters=1000, **SIZES)
DIMS = Dims("toy", TOWER, replace(TOWER, kv_heads=4, parameters=200), vocab=100, patch=14, linears=((8, 16), (16, 8)))
RUN = PlannedRun(
    prompt_tokens=11,
    patches_per_prompt=40,
    completion_tokens=5,
    group_size=2,
    batch_completions=4,
    accumulation_steps=3,
    bytes_per_weight=4,
    bytes_per_computed_number=4,
    device="cpu",
)


@cache
def published(size: str) -> Dims:
    return read_dims(str(REPO / "assets" / "configs" / f"Qwen2.5-VL-{size}"))[0]


@pytest.mark.parametrize(  # as the safetensors indices of the hub say
    ("size", "parameters", "vision"),
    [("3B", 3_754_622_976, 668_684_288), ("7B", 8_292_166_656, 676_550_144), ("72B", 73_410_777_344, 704_573_696)],
)
def test_parameters_of_published_models_are_exact(size, parameters, vision):
    dims = published(size)
    assert (dims.parameters, dims.vision.parameters) == (parameters, vision)
    assert dims.vision.gated and dims.text.gated and dims.patch == 14


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "glm4v", "internvl", "smolvlm", "gemma4", "gemma3"])
def test_the_tokens_of_the_longest_video_are_what_the_processor_makes(name, tmp_path, capsys):
    """Times and marks of frames included, in the form that a run shows."""
    folder, frames = families.save(name, tmp_path), FrameSampling(max_frames=6, max_pixels=84 * 84)
    rows = VideoRows.of_run("auto", processor_of(name), families.config_of(name).model_type)
    processor = deepcopy(processor_of(name))
    set_frame_limits(processor, frames)
    none, *made = (
        process_chat(processor, rows.fields.shown(chat_about(some)), rows.fields, {})
        for some in ([], *([grey_video(6, *size, span=3.0)] for size in frame_sizes(frames)))
    )
    longest = max(made, key=lambda each: len(each.ids))
    media = sum(i in rows.fields.image_ids | rows.fields.video_ids for i in longest.ids.tolist())
    patches, tokens = per_video(families.config_of(name), 6, 84 * 84, name=str(folder))
    assert tokens == len(longest.ids) - len(none.ids)
    assert patches == media * patches_of_token(families.config_of(name)) > 0
    flags = f"--model {folder} --videos_per_row 2 --images_per_row 0 --video_max_frames 6 --video_max_pixels {84 * 84}"
    cli.main([*flags.split(), "--prompt_text_tokens", "10"])
    assert f"prompt {2 * tokens + 10:,} tokens, {2 * patches:,} patches" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("kind", "image"),
    [("qwen2_vl", (1024, 256)), ("internvl", (1024, 256)), ("qwen3_vl", (784, 196))],  # patches of 14, 14, 16 pixels
)
def test_other_families_are_read(kind, image):
    config = AutoConfig.for_model(kind)
    with torch.device("meta"):
        dims = dims_of(AutoModelForImageTextToText.from_config(config))
    assert per_image(config, max_pixels=448 * 448, tiles=1) == image
    assert dims.text.layers == config.text_config.num_hidden_layers and len(dims.linears) == 7 * dims.text.layers
    assert 0 < dims.vision.parameters < dims.text.parameters and not dims.vision.gated


def test_lora_counts_adapters_of_language_linears_alone():
    # 3B, rank 1, a layer: q and o 2 x (2048 + 2048), k and v 2 x (2048 + 256), gate, up, down 3 x (2048 + 11008)
    assert published("3B").lora(64) == 64 * 36 * (2 * 4096 + 2 * 2304 + 3 * 13056)


def test_sizes_of_a_model_are_the_same_with_adapters(tiny):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tiny))
        alone = dims_of(model)
        get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    assert dims_of(model) == alone


BILLION = 10**9


@pytest.mark.parametrize(
    ("engine", "size", "expected"),
    [  # GB on each of 8 devices: weights, gradients, optimizer, reference
        ("none", 4, (4, 4, 8, 4)),
        ("none", 2, (2, 2, 4, 2)),  # torch keeps moments in the weights' own type
        ("zero1", 2, (2, 2, 12 / 8, 2)),
        ("zero2", 2, (2, 2 / 8, 12 / 8, 2)),
        ("zero3", 2, (2 / 8, 2 / 8, 12 / 8, 2 / 8)),
        ("zero2_offload", 2, (2, 0, 0, 2)),
        ("zero3_offload", 2, (0, 0, 0, 0)),
    ],
)
def test_states_by_stage_of_zero(engine, size, expected):
    parts = states.state(BILLION, BILLION, size, ENGINES[engine], ranks=8, reference=True)
    assert tuple(parts.values()) == tuple(BILLION * gb for gb in expected)


def test_a_base_in_four_bits_and_moments_in_eight():
    base = replace(RUN, lora_r=2, bytes_per_weight=2)
    rounded = states.state_bytes(DIMS, replace(base, four_bit=True, optim="adamw_8bit"))
    adapters = 2 * (8 + 16) * 2  # of rank 2 on two layers, in float32
    assert rounded["weights"] == 1200 * 2 + adapters * 4 - 2 * 8 * 16 * (2 - 0.5625)
    nested = states.state_bytes(DIMS, replace(base, four_bit=True, nested_scales=True))
    assert nested["weights"] == rounded["weights"] - 2 * 8 * 16 * (0.5625 - 4.126953125 / 8)
    assert rounded["optimizer"] == adapters * 2 * (1 + 4 / 256)


def test_kv_cache_holds_every_row_of_a_generation():
    # 4 x 3 rows, 11 + 128 places (5 rounded up), 2 x 2 heads x 2 numbers of 4 bytes, 4 layers and one while it grows
    assert memory.kv_cache(DIMS, RUN) == 12 * 139 * 8 * 4 * 5


def test_activations_of_the_packed_layout():
    # 2 groups: 2 x 10 prefix tokens and 4 x 5 of completions; width 4 x 2 = 8, keys and values 2 x 2 x 2 = 8
    tokens, after = 40, 20
    attention = tokens * (8 + 8 + 4) + after * 8 + 4 * 15 * 8 + 2 * tokens * 8
    masks = 4 * 2 * 5 * 16
    layer = 4 * (attention + masks + tokens * 4 * 16) + 2 * tokens * 8 * 12
    assert activations.text_layer_bytes(DIMS, RUN) == layer
    vision = 80 * (4 * (7 * 8 + 64) + 2 * 8 * 12)
    assert activations.vision_layer_bytes(DIMS, RUN) == vision
    assert activations.kept_bytes(DIMS, replace(RUN, gradient_checkpointing=False)) == 4 * layer + 4 * vision
    assert activations.kept_bytes(DIMS, RUN) == 4 * 4 * 8 * (tokens + 80)
    assert activations.kept_bytes(DIMS, replace(RUN, freeze_vision=True, gradient_checkpointing=False)) == 4 * layer


def test_flash_attention_keeps_no_masks_and_adapters_copies_of_their_inputs():
    half = replace(RUN, bytes_per_weight=2, bytes_per_computed_number=2)
    on_cpu, on_gpu = (activations.text_layer_bytes(DIMS, replace(half, device=device)) for device in ("cpu", "cuda"))
    assert on_cpu - on_gpu == 2 * (20 * 8 + 4 * 2 * 5 * 16)  # queries of completions in another order, masks
    per_token = {  # 2 x hidden 8, 8 of attention, 16 of the feed-forward part; 5 x hidden where each layer has its own
        "trained": (half, 2 * (16 + 8 + 16)),
        "autocast of float32": (replace(half, bytes_per_weight=4), 2 * (40 + 8 + 16)),
        "adapters under autocast": (replace(half, lora_r=3), 2 * (40 + 8 + 16 + 7 * 3)),
        "adapters": (replace(half, lora_r=3, autocast=False), 4 * (40 + 8 + 16 + 7 * 3)),
        "adapters around 4 bits": (replace(half, lora_r=3, four_bit=True), 2 * (16 + 8 + 16 + 7 * 3)),
    }
    for name, (run, expected) in per_token.items():
        assert activations.text_linear_bytes(DIMS, run) == expected, name


def test_pictures_of_tools_are_each_completions_own():
    told = replace(RUN, tools=True, patches_per_completion=3)  # 4 completions of 2 prompts a pass, 3 passes
    assert (told.batch_patches, told.generation_patches) == (2 * 40 + 4 * 3, 3 * (2 * 40 + 4 * 3))
    assert memory.pixel_bytes(DIMS, told) == 3 * (2 * 40 + 4 * 3) * 3 * 2 * 14**2 * 4
    of_both = [activations.vision_bytes(DIMS, run) for run in (told, RUN)]
    assert of_both[0] / of_both[1] == 92 / 80
    many = [memory.forward_bytes(DIMS, replace(RUN, patches_per_completion=n)) for n in (20, 2000)]
    assert many[0] == memory.forward_bytes(DIMS, RUN) < many[1]


def test_a_plan_with_tools_prints_their_flags_and_needs_more(capsys):
    run = (*config("3B"), "--gpus", 8, "--engine", "zero2", "--json")
    plans = [
        json.loads(ask(*run, *more, capsys=capsys)[1])
        for more in ((), ("--tools", "zoom", "a.py:look", "--max_tool_images", 2))
    ]
    assert "--tools zoom a.py:look --max_tool_turns 4 --max_tool_images 2" in plans[1]["flags"]
    bytes_ = [plan["bytes"] for plan in plans]
    assert "kept rows" not in bytes_[0]["rollout"] and bytes_[1]["rollout"]["kept rows"] > 0
    assert all(bytes_[1][phase]["pixels"] > bytes_[0][phase]["pixels"] for phase in ("rollout", "training"))


def test_a_budget_of_tokens_leaves_whole_groups_or_rows_of_one():
    # a group: 11 tokens of its prompt and 2 x 5 of completions
    parts = {size: replace(RUN, tokens_per_forward=size).largest_part for size in (45, 41, 16, 1)}
    assert {size: (part.batch_groups, part.batch_completions) for size, part in parts.items()} == {
        45: (2, 4),
        41: (1, 2),
        16: (1, 1),
        1: (1, 1),
    }
    run = replace(RUN, accumulation_steps=1)
    whole, cut = (memory.training_bytes(DIMS, r) for r in (run, replace(run, tokens_per_forward=21)))
    assert cut["gradients"] == 4 * 1200 and cut["activations"] < whole["activations"]


def test_vllm_takes_its_share_while_training_unless_it_sleeps():
    run = replace(RUN, vllm_mode="colocate", vllm_memory_share=0.5, device_bytes=1e9)
    awake, asleep, server = run, replace(run, vllm_sleep_mode=True), replace(run, vllm_mode="server")
    shares = [
        [moment(DIMS, r).get("vLLM", 0) for moment in (memory.rollout_bytes, memory.training_bytes)]
        for r in (awake, asleep)
    ]
    assert shares == [[5e8, 5e8], [5e8, 0]]
    assert "KV cache" not in memory.rollout_bytes(DIMS, server) and not memory.rollout_bytes(DIMS, server).get("vLLM")


def test_rollout_holds_no_gradients_and_zero3_gathers_for_it():
    three = replace(RUN, engine=ENGINES["zero3"], gpus=4, bytes_per_weight=2, bytes_per_computed_number=2)
    assert memory.rollout_bytes(DIMS, three)["gathered"] == 1200 * 2
    assert memory.rollout_bytes(DIMS, three)["gradients"] == 0 and memory.training_bytes(DIMS, three)["gradients"] > 0


def ask(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    from open_r1.plan.cli import main

    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as error:
        status = int(error.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def config(size: str) -> tuple[str, str]:
    return "--model", str(REPO / "assets" / "configs" / f"Qwen2.5-VL-{size}")


def test_the_proposal_fits_and_keeps_the_global_batch(capsys):
    status, out, _ = ask(*config("7B"), "--gpus", 8, "--json", capsys=capsys)
    plan = json.loads(out)
    assert status == 0 and plan["fits"]
    flags = dict(re.findall(r"--(\w+) (\S+)", " ".join(plan["flags"])))
    assert 8 * int(flags["per_device_train_batch_size"]) * int(flags["gradient_accumulation_steps"]) == 128
    assert (REPO / flags["deepspeed"]).is_file()
    assert max(plan["totals"]["rollout"], plan["totals"]["training"]) <= 0.9 * 80 * GIB
    from open_r1.config.task_arguments import TaskArguments
    from open_r1.config.training_arguments import GRPOArguments

    assert set(flags) <= {*GRPOArguments.__dataclass_fields__, *TaskArguments.__dataclass_fields__}


def test_a_card_by_name_with_a_base_in_four_bits(capsys):
    flags = "--gpu T4 --use_peft --load_in_4bit --optim adamw_8bit --beta 0 --global_batch 8 --completion 256"
    flags += " --use_bnb_nested_quant --tokens_per_forward 2048"
    status, told, _ = ask(*config("7B"), *flags.split(), capsys=capsys)
    assert status == 0 and "of 15 GiB a GPU" in told and "zero3" not in told
    assert "--load_in_4bit true --use_bnb_nested_quant true" in told and "--tokens_per_forward 2048" in told
    assert "--optim adamw_8bit" in told and "no bfloat16: take --fp16 true" in told


def test_rollout_and_training_are_bars_of_their_own(capsys):
    status, out, _ = ask(*config("3B"), "--gpus", 8, capsys=capsys)
    assert status == 0
    bars = {line.split()[0]: float(line.split()[1]) for line in out.splitlines() if " of 80 GiB a GPU" in line}
    assert set(bars) == {"rollout", "training"} and "These flags fit:" in out
    assert all(engine in out for engine in ENGINES)


def test_what_fits_nowhere_says_the_smallest_need_and_how_many_gpus_would_do(capsys):
    status, out, _ = ask(*config("7B"), "--gpus", 1, "--gpu_memory", 24, capsys=capsys)
    assert status == 1
    assert "Nothing fits 1 x 24 GiB. The smallest need is" in out
    (gpus,) = re.findall(r"(\d+) GPUs of 24 GiB would do", out)
    dims = published("7B")
    run = PlannedRun(
        prompt_tokens=1536,
        patches_per_prompt=5120,
        completion_tokens=1024,
        group_size=8,
        batch_completions=8,
        reference_model=True,
        device_bytes=24 * GIB,
    )
    more, fewer = (replace(run, gpus=n, nodes=max(1, n // 8)) for n in (int(gpus), int(gpus) // 2))
    assert propose.propose(dims, more, global_batch=max(128, 8 * int(gpus)))[0]
    assert propose.propose(dims, fewer, global_batch=max(128, 4 * int(gpus)))[0] is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--gpus", 6, "--nodes", 4), "--gpus: got 6, expected a multiple of --nodes 4"),
        (("--batch", 12), "--batch: got 12, expected a multiple of --group 8"),
        (("--gpus", 3), "--global_batch: got 128, expected a multiple of 24: --gpus 3 x 8 completions; set"),
        (("--completion", 0), "got '0', expected a whole number from 1"),
        (("--model", "no/folder/here"), "no/folder/here"),
        (("--gpu", "a100"), "--gpu: got a100, expected one of a100-40, a100-80;"),
        (("--gpu", "t4", "--gpu_memory", 16), "--gpu_memory: got a number beside --gpu"),
        (("--optim", "galore_adamw"), "--optim: got galore_adamw, whose memory is not known"),
        (("--load_in_4bit",), "--load_in_4bit: got no --use_peft"),
        (("--load_in_4bit", "--use_peft", "--engine", "zero3"), "got --engine zero3, which cuts weights"),
        (("--use_bnb_nested_quant",), "--use_bnb_nested_quant: got no --load_in_4bit"),
        (("--tokens_per_forward", 4096, "--gpus", 8, "--engine", "zero3"), "--tokens_per_forward: got --engine zero3"),
        (("--max_tool_images", 2), "--max_tool_images: got 2 without tools, which it limits; add --tools or"),
        (("--environment", "a.py:Game", "--max_tool_turns", 0), "--max_tool_turns: got 0, expected at least 1"),
        (("--engine", "zero3"), "--engine: nothing to shard on one GPU"),
    ],
)
def test_wrong_usage_ends_with_status_2(flags, message, capsys):
    status, _, err = ask(*config("3B"), *flags, capsys=capsys)
    assert status == 2 and message in err


def test_main_memory_is_a_limit_too(capsys):
    fits = ("--gpus", 1, "--gpu_memory", 40, "--engine", "zero2_offload", "--beta", 0)
    status, out, _ = ask(*config("3B"), *fits, "--json", capsys=capsys)
    needed = json.loads(out)["totals"]["host"] / GIB
    assert status == 0
    assert ask(*config("3B"), *fits, "--host_memory", needed + 1, "--json", capsys=capsys)[0] == 0
    assert ask(*config("3B"), *fits, "--host_memory", needed - 1, "--json", capsys=capsys)[0] == 1


def test_an_image_whose_tokens_are_unknown_has_to_be_told():
    from transformers import LlavaOnevisionConfig

    with pytest.raises(UsageError, match="--image_tokens: got nothing"):
        per_image(LlavaOnevisionConfig(), max_pixels=10**6)
    assert per_image(LlavaOnevisionConfig(), max_pixels=10**6, tokens=729) == (729, 729)


@pytest.mark.slow
def test_the_table_of_the_page_is_the_planners():
    run_script("local_scripts/dev/readme/plan_table.py", "--check")


# Measured by local_scripts/dev/benchmarks/measure_memory.py on 2026-11-21 (float32, 2 cores), in MB beyond the
# libraries' own:
# (image tokens, text tokens, completion, checkpointing): (rollout, training)
MEASURED: dict[tuple[int, int, int, bool], tuple[float, float]] = {
    (256, 50, 128, False): (610.8, 1578.6),
    (256, 50, 128, True): (607.8, 815.9),
    (512, 48, 64, False): (651.7, 1656.3),
    (512, 48, 64, True): (652.4, 883.0),
}


def planned_45m(image: int, text: int, completion: int, checkpointing: bool) -> tuple[float, float]:
    """MB of (rollout, training) of bench_grpo's 45 M model."""
    text_tower = Tower(8, 512, 2048, 8, 2, 64, True, 32_471_552, caching_layers=8, cached=256)
    vision_tower = Tower(6, 320, 1280, 5, 5, 64, True, 12_531_392, caching_layers=6, cached=640)
    dims = Dims("45m", text_tower, vision_tower, 4000, 14, (), tied=True)
    run = PlannedRun(
        prompt_tokens=image + text,
        patches_per_prompt=4 * image,
        completion_tokens=completion,
        group_size=8,
        batch_completions=8,
        bytes_per_weight=4,
        bytes_per_computed_number=4,
        gradient_checkpointing=checkpointing,
        device="cpu",
    )
    return total_bytes(memory.rollout_bytes(dims, run)) / 1e6, total_bytes(memory.training_bytes(dims, run)) / 1e6


@pytest.mark.parametrize("setting", MEASURED)
def test_plans_agree_with_measured_peaks(setting):
    for planned, measured in zip(planned_45m(*setting), MEASURED[setting], strict=True):
        assert planned == pytest.approx(measured, rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_plan_agrees_with_the_peak_measured_now():
    shape = ("--image-tokens", 256, "--text-tokens", 48, "--completion", 48, "--gradient-checkpointing")
    done = run_script("local_scripts/dev/benchmarks/measure_memory.py", *shape, alone=True)
    peaks = json.loads(done.stdout.splitlines()[-1])
    for planned, name in zip(planned_45m(256, 48, 48, True), ("rollout", "training"), strict=True):
        assert planned * 1e6 == pytest.approx(peaks[name], rel=0.25)
        assert planned * 1e6 == pytest.approx(peaks[f"planned_{name}"], rel=1e-6)  # the same by hand and of the model


def test_a_token_of_a_mixture_goes_through_so_many_experts():
    config = AutoConfig.for_model("qwen3_vl_moe")
    text = config.text_config
    text.num_hidden_layers = 2
    with torch.device("meta"):
        dims = dims_of(AutoModelForImageTextToText.from_config(config))
    assert dims.text.intermediate == text.num_experts_per_tok * text.moe_intermediate_size
