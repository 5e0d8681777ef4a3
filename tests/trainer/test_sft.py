"""Supervised fine-tuning: loss on the assistant's turns alone, gold boxes in the model's frame, batches
without padding, a run that GRPO goes on with."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from accelerate.utils import send_to_device
from helpers.repository import run_script
from helpers.trainers import flash_on_cpu, loss_and_gradients, sft_trainer

from open_r1 import grpo_jsonl
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.errors import DataError, UsageError
from open_r1.models.loading import load_processor
from open_r1.rewards.registry import METHODS
from open_r1.rollout.annotation import annotator, box_frame
from open_r1.sft_jsonl import parse_sft
from open_r1.tasks.registry import TASKS
from open_r1.tools.toolbox import make_toolbox
from open_r1.trainer.forward.image_blocks import ImageSight
from open_r1.trainer.sft_batches import IGNORED, Collator, target_completion
from open_r1.trainer.sft_packing import PackingCollator


@pytest.fixture(scope="module")
def processor(tiny):
    return load_processor(VLMConfig(model_name_or_path=tiny), TaskArguments())


def collator(folder, name, processor, mode="think"):
    records = load_records(str(folder / name), str(folder), reward_methods="digits")
    return Collator(
        records, processor, TASKS["digits"].prompts[mode], annotator(box_frame("qwen2_5_vl", processor), mode)
    )


@pytest.mark.parametrize("mode", ["think", "direct"])
def test_loss_is_on_the_gold_completion_and_its_end_alone(digits, processor, mode):
    collate = collator(digits, "train.jsonl", processor, mode)
    batch = collate([{"row": row} for row in range(6)])
    for row in range(6):
        has_loss = batch["labels"][row] != IGNORED
        assert torch.equal(batch["labels"][row][has_loss], batch["input_ids"][row][has_loss])
        gold = target_completion(collate.annotate(collate.records[row]))
        assert processor.tokenizer.decode(batch["labels"][row][has_loss]) == gold + "<|im_end|>"
        assert ("<think>" in gold) == (mode == "think")
        last = int(batch["attention_mask"][row].sum())
        assert has_loss[last - int(has_loss.sum()) : last].all()  # one run, at the end of the row


def test_text_rows_image_rows_and_rows_of_two_images_in_one_batch_are_what_they_are_alone(mixed, processor):
    collate = collator(mixed.parent, mixed.name, processor)
    together = collate([{"row": row} for row in range(3)])
    pixels = []
    for row in range(3):
        alone = collate([{"row": row}])
        length = alone["input_ids"].shape[1]
        for name in ("input_ids", "labels"):
            assert torch.equal(together[name][row][:length], alone[name][0])
        pixels += [alone["pixel_values"]] if "pixel_values" in alone else []
    assert "pixel_values" not in collate([{"row": 1}])  # a batch of text alone
    assert torch.equal(together["pixel_values"], torch.cat(pixels))


def test_a_gold_box_is_taught_in_the_frame_of_the_family_and_pays():
    # 640 x 425 is shown to Qwen2.5-VL as 644 x 420: 64 -> 64.4, 425 -> 420
    row = Record("1", ("a.png",), "", (), "[64, 0, 128, 425]", {"image_wh": (640, 425)}, accu_reward_method="rec")
    for family, box in (("qwen2_5_vl", [64, 0, 129, 420]), ("qwen3_vl", [100, 0, 200, 1000]), ("smolvlm", None)):
        record = row.with_extra(model_family="original" if box is None else family, prompt_mode="think")
        assert str(box or [64, 0, 128, 425]) in target_completion(record)
        assert METHODS["rec"].score(target_completion(record), record) > 0.97


def test_a_trace_is_taught_as_it_stands_and_no_gold_is_refused():
    trace = "<think>two and one</think><answer>3</answer>"
    assert target_completion(Record("1", (), "", (), trace, {"prompt_mode": "direct"})) == trace
    with pytest.raises(DataError, match=r"a\.jsonl:4: solution"):
        target_completion(Record("1", (), "", (), " ", where="a.jsonl:4"))


def test_a_chat_template_that_rewrites_the_prompt_is_refused(digits, processor, monkeypatch):
    monkeypatch.setattr(processor, "chat_template", "{{ messages | length }} {{ add_generation_prompt }}")
    with pytest.raises(UsageError, match="in another way"):
        collator(digits, "train.jsonl", processor)([{"row": 0}])


@pytest.fixture(scope="module")
def dialogues(digits):
    """Rows of two and three questions, the pictures in any of them, and one of text, beside `digits`."""
    one, two = (json.loads(line)["image"] for line in (digits / "train.jsonl").read_text().splitlines()[:2])
    turns = [
        (["<image>Which digits?", "1 2", "And <image> here?", "3"], [one, two]),
        (["Hello", "Good day", "<image>What are they?", "4 5 6", "Are you sure of <image>?", "7"], [one, two]),
        (["<image><image>Which?", "8", "Really?", "9"], [one, two]),
        (["What is 1 and 2?", "3", "And 2 and 2?", "4"], []),
    ]
    rows = [
        {
            "image": images,
            "conversations": [{"from": ("human", "gpt")[i % 2], "value": t} for i, t in enumerate(texts)],
        }
        for texts, images in turns
    ]
    (digits / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return digits / "dialogues.jsonl"


def test_every_turn_of_the_assistant_is_taught_and_nothing_else(dialogues, processor):
    collate = collator(dialogues.parent, dialogues.name, processor, "direct")
    batch = collate([{"row": row} for row in range(4)])
    turns = [["1 2", "3"], ["Good day", "4 5 6", "7"], ["8", "9"], ["3", "4"]]
    for row, answers in enumerate(turns):
        has_loss = batch["labels"][row] != IGNORED
        assert torch.equal(batch["labels"][row][has_loss], batch["input_ids"][row][has_loss])
        answers[-1] = f"<answer>{answers[-1]}</answer>"  # the solution, in the tags that the prompt asks for
        assert processor.tokenizer.decode(batch["labels"][row][has_loss]) == "<|im_end|>".join([*answers, ""])
        runs = torch.diff(has_loss.int(), prepend=torch.zeros(1, dtype=torch.int32)).eq(1).sum()
        assert runs == len(answers)  # each turn is a run of its own
    alone = [collate([{"row": row}])["labels"][0] for row in range(4)]
    assert all(torch.equal(batch["labels"][row][: len(alone[row])], alone[row]) for row in range(4))


CALL = '<tool_call>{"name": "zoom", "arguments": {"bbox_2d": [0, 0, 56, 28]}}</tool_call>'


def test_a_trajectory_is_taught_by_its_calls_and_answer_and_not_by_what_tools_answered(digits, processor):
    one, two = (json.loads(line)["image"] for line in (digits / "train.jsonl").read_text().splitlines()[:2])
    turns = [
        ("human", "<image>Which digits?"),
        ("gpt", CALL),
        ("tool", "<image>"),
        ("gpt", CALL),
        ("tool", "Error: no"),
    ]
    answer = "<think>I see 7.</think><answer>[7]</answer>"
    turns = [{"from": speaker, "value": text} for speaker, text in [*turns, ("gpt", answer)]]
    (digits / "calls.jsonl").write_text(json.dumps({"images": [one, two], "conversations": turns}) + "\n")
    batch = collator(digits, "calls.jsonl", processor)([{"row": 0}])
    learned = batch["labels"][0] != IGNORED
    assert processor.tokenizer.decode(batch["labels"][0][learned]) == "<|im_end|>".join([CALL, CALL, answer, ""])
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert "<|im_start|>user\n<tool_response>\nError: no\n</tool_response><|im_end|>" in text
    assert text.count("First think in") == 1 and text.index("First think in") < text.index(CALL)
    assert len(batch["image_grid_thw"]) == 2


def test_tools_are_listed_in_the_prompt_and_nothing_else_is_taught(digits, processor):
    plain = collator(digits, "train.jsonl", processor)
    listed = replace(plain, toolbox=make_toolbox(["zoom"], processor.chat_template))
    one, other = plain([{"row": 0}]), listed([{"row": 0}])
    texts = [processor.tokenizer.decode(batch["input_ids"][0]) for batch in (one, other)]
    taught = [batch["labels"][0][batch["labels"][0] != IGNORED] for batch in (one, other)]
    assert torch.equal(*taught) and texts[1].endswith(texts[0])
    assert texts[1].startswith("<|im_start|>system\n# Tools") and '"name": "zoom"' in texts[1]


def test_sft_refuses_a_tool_that_is_not_there(tiny, tmp_path, capsys):
    flags = f"--model_name_or_path {tiny} --data_file_paths a.jsonl --image_folders a --output_dir {tmp_path}"
    with pytest.raises(SystemExit):
        parse_sft([*flags.split(), "--tools", "loupe"])
    assert "loupe" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["", "--gradient_checkpointing true", "--use_peft true --lora_vision true"])
def test_a_batch_without_padding_has_the_loss_and_gradients_of_padded_rows(tiny, mixed, dialogues, tmp_path, flags):
    files = [str(mixed), str(dialogues)]
    common = (
        f"--data_file_paths {':'.join(files)} --image_folders {mixed.parent} --output_dir {tmp_path} --max_steps 1"
    )
    common += f" --model_name_or_path {tiny} --bf16 false --gradient_checkpointing false --padding_free true {flags}"
    trainer = sft_trainer(common.split())
    assert trainer.args.padding_free and isinstance(trainer.data_collator, PackingCollator)
    torch.manual_seed(0)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # zero at the start
            parameter.data.normal_(std=0.02)
    rows = [{"row": row} for row in (0, 64, 1, 65, 2, 66, 67)]  # images, text, dialogues in turn
    packed, padded = trainer.data_collator(rows), trainer.data_collator.rows(rows)
    assert send_to_device(packed, torch.device("meta"))["shared_prefix"].place_index.is_meta  # as batches go to a GPU
    assert packed["input_ids"].shape == (1, int(padded["attention_mask"].sum()) - len(rows))  # last tokens say nothing
    assert packed["labels"].ne(IGNORED).sum() == padded["labels"].ne(IGNORED).sum()
    ours, plain = loss_and_gradients(trainer, packed), loss_and_gradients(trainer, padded)
    print(f"|loss difference| {(ours[0] - plain[0]).abs():.2g} of {plain[0]:.3f}")
    torch.testing.assert_close(ours[0], plain[0], atol=1e-5, rtol=1e-5)
    assert ours[1].keys() == plain[1].keys() and len(plain[1]) > 20
    largest = max(gradient.norm() for gradient in plain[1].values())
    for name, gradient in plain[1].items():
        assert (ours[1][name] - gradient).norm() <= 1e-5 * max(gradient.norm(), 1e-2 * largest), name


def test_the_flash_kernel_takes_packed_rows(tiny, mixed, dialogues, tmp_path, monkeypatch):
    flags = f"--data_file_paths {dialogues} --image_folders {mixed.parent} --output_dir {tmp_path} --bf16 false"
    flags += f" --model_name_or_path {tiny} --padding_free true --gradient_checkpointing false"
    trainer = sft_trainer(flags.split())
    batch = trainer.data_collator([{"row": row} for row in range(4)])
    plain = loss_and_gradients(trainer, batch)[0]
    seen = flash_on_cpu(monkeypatch, torch.float32)
    torch.testing.assert_close(loss_and_gradients(trainer, batch)[0], plain, atol=1e-5, rtol=1e-5)
    assert seen


def test_an_image_behind_an_answer_is_refused_where_images_see_themselves(dialogues, processor):
    packing = PackingCollator(collator(dialogues.parent, dialogues.name, processor), None, ImageSight(full=True))
    with pytest.raises(UsageError, match=r"dialogues\.jsonl:[12]: --padding_free: got an image behind an answer"):
        packing([{"row": row} for row in range(4)])


def test_models_whose_batches_cannot_be_one_sequence_say_why(tiny, mixed, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "with dropout")
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["attention_dropout"] = 0.1
    (copy / "config.json").write_text(json.dumps(config))
    flags = f"--data_file_paths {mixed} --image_folders {mixed.parent} --output_dir {tmp_path} --bf16 false"
    with pytest.raises(
        UsageError, match=r"--padding_free: got true, cannot act: .* \(attention_dropout 0.1 of Qwen2_5_VLTextModel\)"
    ):
        sft_trainer([*flags.split(), "--model_name_or_path", str(copy), "--padding_free", "true"])


@pytest.mark.parametrize(
    "flag",
    [
        "--rollout_groups 2",
        "--val_split_ratio 0.1",
        "--eval_strategy steps",
        "--packing true",
        "--max_length 64",
        "--assistant_only_loss true",
        "--label_smoothing_factor 0.1 --padding_free true",
        "--lora_r 8",
        "--load_in_4bit true",
        "--load_in_8bit true --use_peft true",
        "--lerning_rate 1",
    ],
)
def test_flags_that_cannot_act_are_refused(flag, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        parse_sft(
            [*flag.split(), "--model_name_or_path", "x", "--data_file_paths", "y", "--output_dir", str(tmp_path)]
        )
    assert end.value.code == 2
    assert flag.split()[0] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "--use_peft true --lora_vision true --padding_free true"], ids=["all", "lora"])
def test_it_trains_and_grpo_goes_on_from_it(tiny, mixed, tmp_path, more):
    out, pixels = tmp_path / "run", 28 * 28 * 6
    flags = "--task_type digits --max_steps 12 --per_device_train_batch_size 8 --save_strategy no --bf16 false"
    flags += f" --learning_rate {'2e-3' if more else '3e-4'} --max_pixels {pixels} {more}"
    common = ["--data_file_paths", str(mixed), "--image_folders", str(mixed.parent), "--output_dir"]
    run_script("src/open_r1/sft_jsonl.py", "--model_name_or_path", tiny, *common, out, *flags.split())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 12 and sum(losses[-3:]) < 0.7 * sum(losses[:3])
    start = out / "checkpoint"
    if more:
        start = tmp_path / "merged"
        run_script("local_scripts/merge_lora.py", out / "checkpoint", "--out", start)
    before = load_processor(VLMConfig(model_name_or_path=tiny), TaskArguments(max_pixels=pixels))
    after = load_processor(VLMConfig(model_name_or_path=str(start)), TaskArguments())
    rows = [[{"row": row}] for row in range(6)]
    batches = [[collator(mixed.parent, mixed.name, each)(row) for row in rows] for each in (before, after)]
    for ours, theirs in zip(*batches, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert before.chat_template == after.chat_template
    flags = "--task_type digits --max_steps 2 --per_device_train_batch_size 8 --num_generations 4 --save_strategy no"
    flags += " --max_completion_length 20 --gradient_checkpointing false --bf16 false"
    grpo_jsonl.main(["--model_name_or_path", str(start), *common, str(tmp_path / "grpo"), *flags.split()])
    lines = [json.loads(line) for line in (tmp_path / "grpo" / "metrics.jsonl").read_text().splitlines()]
    assert sum("reward" in line for line in lines) == 2
    flags = "--task digits --limit 8 --max_completion_length 20"
    common = ["--data_file_paths", mixed.parent / "train.jsonl", "--image_folders", mixed.parent]
    done = run_script("eval/evaluate.py", "--model", start, *flags.split(), *common, "--output_dir", tmp_path / "eval")
    assert "accuracy" in done.stdout
