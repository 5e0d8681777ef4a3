"""Supervised fine-tuning: loss on the last answer alone, gold boxes in the model's frame, a run that reloads."""

import json

import pytest
import torch
from conftest import run_script

from open_r1.arguments import TaskArguments, VLMConfig
from open_r1.errors import DataError, UsageError
from open_r1.models import load_processor
from open_r1.records import load_records
from open_r1.rewards import METHODS
from open_r1.rows import Record
from open_r1.sft_jsonl import parse
from open_r1.tasks import TASKS
from open_r1.trainer.run import annotator
from open_r1.trainer.sft import IGNORED, Collator, taught


@pytest.fixture(scope="module")
def processor(tiny):
    return load_processor(VLMConfig(model_name_or_path=tiny), TaskArguments())


def collator(folder, name, processor, mode="think"):
    records = load_records(str(folder / name), str(folder), reward_methods="digits")
    return Collator(records, processor, TASKS["digits"].prompts[mode], annotator("qwen2_5_vl", processor, mode))


@pytest.mark.parametrize("mode", ["think", "direct"])
def test_loss_is_on_the_gold_completion_and_its_end_alone(digits, processor, mode):
    made = collator(digits, "train.jsonl", processor, mode)
    batch = made([{"row": row} for row in range(6)])
    for row in range(6):
        kept = batch["labels"][row] != IGNORED
        assert torch.equal(batch["labels"][row][kept], batch["input_ids"][row][kept])
        gold = taught(made.annotate(made.records[row]))
        assert processor.tokenizer.decode(batch["labels"][row][kept]) == gold + "<|im_end|>"
        assert ("<think>" in gold) == (mode == "think")
        last = int(batch["attention_mask"][row].sum())
        assert kept[last - int(kept.sum()) : last].all()  # one run, at the end of the row


def test_text_rows_image_rows_and_rows_of_two_images_in_one_batch_are_what_they_are_alone(mixed, processor):
    made = collator(mixed.parent, mixed.name, processor)
    together = made([{"row": row} for row in range(3)])
    pixels = []
    for row in range(3):
        alone = made([{"row": row}])
        length = alone["input_ids"].shape[1]
        for name in ("input_ids", "labels"):
            assert torch.equal(together[name][row][:length], alone[name][0])
        pixels += [alone["pixel_values"]] if "pixel_values" in alone else []
    assert "pixel_values" not in made([{"row": 1}])  # a batch of text alone
    assert torch.equal(together["pixel_values"], torch.cat(pixels))


def test_a_gold_box_is_taught_in_the_frame_of_the_family_and_pays():
    # 640 x 425 is shown to Qwen2.5-VL as 644 x 420: 64 -> 64.4, 425 -> 420
    row = Record("1", ("a.png",), "", (), "[64, 0, 128, 425]", {"image_wh": (640, 425)}, accu_reward_method="rec")
    for family, box in (("qwen2_5_vl", [64, 0, 129, 420]), ("qwen3_vl", [100, 0, 200, 1000]), ("smolvlm", None)):
        known = row.with_extra(model_family="original" if box is None else family, prompt_mode="think")
        assert str(box or [64, 0, 128, 425]) in taught(known)
        assert METHODS["rec"].score(taught(known), known) > 0.97


def test_a_trace_is_taught_as_it_stands_and_no_gold_is_refused():
    trace = "<think>two and one</think><answer>3</answer>"
    assert taught(Record("1", (), "", (), trace, {"prompt_mode": "direct"})) == trace
    with pytest.raises(DataError, match=r"a\.jsonl:4: solution"):
        taught(Record("1", (), "", (), " ", where="a.jsonl:4"))


def test_a_chat_template_that_rewrites_the_prompt_is_refused(digits, processor, monkeypatch):
    monkeypatch.setattr(processor, "chat_template", "{{ messages | length }} {{ add_generation_prompt }}")
    with pytest.raises(UsageError, match="in another way"):
        collator(digits, "train.jsonl", processor)([{"row": 0}])


@pytest.mark.parametrize("flag", ["--rollout_groups 2", "--val_split_ratio 0.1", "--packing true", "--lerning_rate 1"])
def test_flags_that_cannot_act_are_refused(flag, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        parse([*flag.split(), "--model_name_or_path", "x", "--data_file_paths", "y", "--output_dir", str(tmp_path)])
    assert stopped.value.code == 2
    assert flag.split()[0] in capsys.readouterr().err


@pytest.mark.slow
def test_it_trains_and_reloads(tiny, mixed, tmp_path):
    out = tmp_path / "run"
    flags = "--task_type digits --max_steps 12 --per_device_train_batch_size 8 --learning_rate 3e-4 --save_strategy no"
    common = ["--data_file_paths", mixed, "--image_folders", mixed.parent, "--output_dir", out]
    run_script("src/open_r1/sft_jsonl.py", "--model_name_or_path", tiny, *common, *flags.split())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 12 and sum(losses[-3:]) < 0.7 * sum(losses[:3])
    flags = "--task digits --limit 8 --max_completion_length 20"
    common = ["--data_file_paths", mixed.parent / "train.jsonl", "--image_folders", mixed.parent]
    done = run_script(
        "eval/evaluate.py", "--model", out / "checkpoint", *flags.split(), *common, "--output_dir", tmp_path / "eval"
    )
    assert '"accuracy"' in done.stdout
