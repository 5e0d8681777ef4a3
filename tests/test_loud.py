"""Silent failures made loud: each test plants a fault and reads what the run says of it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import families
import pytest
import torch
from conftest import REPO, free_port, run_script
from safetensors.torch import load_file
from test_trainer import make_trainer
from test_trainer import rows as rows_of
from transformers import Trainer, TrainingArguments

from open_r1 import grpo_jsonl
from open_r1.annotation import annotator
from open_r1.arguments import TaskArguments, VLMConfig
from open_r1.conversation import fill, messages
from open_r1.errors import DataError, UsageError
from open_r1.models import load_processor
from open_r1.records import load_records
from open_r1.rows import Record
from open_r1.trainer import generation, nonfinite, transformers_rollout
from open_r1.trainer.agreement import Disagreement
from open_r1.trainer.generation import prefill
from open_r1.trainer.grpo import VLMGRPOTrainer
from open_r1.trainer.image_tokens import ImageDrawn, refuse_drawn, refuse_unseen, runs_of
from open_r1.trainer.moved import Moved, fingerprint
from open_r1.trainer.nonfinite import Finite, NotFinite
from open_r1.trainer.prompts import PromptLoader
from open_r1.trainer.sft import Collator
from open_r1.turns import Turn

# ------------------------------------------------------------------------------------------------- did weights move?


class Net(torch.nn.Module):
    """`body` acts, `idle` does not; `fault` changes the loss of a row's step."""

    def __init__(self, fault: Any = lambda loss, step: loss):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False) for _ in range(2)])
        self.idle = torch.nn.Linear(4, 4, bias=False)
        self.fault = fault

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> dict[str, torch.Tensor]:
        said = x.to(self.idle.weight.dtype) @ (self.layers[0].weight + self.layers[1].weight)
        return {"loss": self.fault(said.float().pow(2).mean(), int(step[0]))}


@pytest.fixture
def train(tmp_path: Path) -> Any:
    """Trains a Net for a few steps with what a run watches, and returns the trainer."""

    class Small(Finite, Trainer):
        def rows_of(self, inputs: dict[str, Any]) -> torch.Tensor:
            return inputs["step"]

        def where(self, row: Any) -> str:
            return f"rows.jsonl:{int(row)}"

    def run(model: torch.nn.Module, steps: int = 4, on_nonfinite: str = "stop", **options: Any) -> Small:
        defaults = {"lr_scheduler_type": "constant", "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no"}
        args = TrainingArguments(
            str(tmp_path), max_steps=steps, per_device_train_batch_size=1, use_cpu=True, **(defaults | options)
        )
        args.on_nonfinite = on_nonfinite
        rows = [{"x": torch.arange(4.0) + 1, "step": step} for step in range(1, 40)]
        small = Small(model=model, args=args, train_dataset=rows)
        small._get_train_sampler = lambda *_: None  # in order: row n is used in step n
        small.add_callback(Moved(small))
        small.train()
        return small

    return run


def warnings(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == f"open_r1.trainer.{name}"]


def test_weights_without_gradient_are_named_once_with_the_reason(train, caplog):
    train(Net())
    (said,) = warnings(caplog, "moved")
    assert said.startswith("1 of 3 trained parameters learned nothing in 2 steps. No gradient reached: idle.weight.")
    assert "--freeze_vision_modules" in said and "precision" not in said


def test_a_weight_that_decays_and_learns_nothing_is_named(train, caplog):
    net = Net(lambda loss, step: loss)
    net.fault = lambda loss, step: loss + 0 * net.idle.weight.sum()
    before = net.idle.weight.detach().clone()
    train(net, weight_decay=0.1)
    assert not torch.equal(net.idle.weight, before)
    assert "No gradient reached: idle.weight." in warnings(caplog, "moved")[0]


def test_frozen_weights_are_not_named(train, caplog):
    net = Net()
    net.idle.requires_grad_(False)
    train(net)
    assert warnings(caplog, "moved") == []


def test_a_weight_whose_gradient_is_lost_in_rounding_is_told_apart(train, caplog):
    net = Net()
    net.layers[1].to(torch.bfloat16).weight.data.fill_(1.0)  # moves in steps of 0.004 and more
    net.idle.requires_grad_(False)
    train(net, learning_rate=1e-4)
    (said,) = warnings(caplog, "moved")
    assert said.startswith("1 of 2 trained parameters learned nothing in 2 steps. A gradient came, but the weight is")
    assert "what it was: layers.1.weight." in said and "--dtype float32" in said


def test_a_run_in_which_nothing_can_move_ends(train):
    net = Net().to(torch.bfloat16)
    for parameter in net.parameters():
        parameter.data.fill_(1.0)
    with pytest.raises(UsageError, match=r"step 1: got no weight that moved.*use --dtype float32"):
        train(net, learning_rate=1e-5)


def test_steps_without_gradient_or_learning_rate_are_waited_through(train, caplog):
    train(Net(lambda loss, step: loss * (step > 2)), steps=3)  # one step with a gradient: not yet told
    assert warnings(caplog, "moved") == []
    train(Net(lambda loss, step: loss * (step > 2)), steps=4, lr_scheduler_type="linear", warmup_steps=2)
    assert len(warnings(caplog, "moved")) == 1


def test_fingerprints_see_one_bit_and_changes_that_cancel():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn):
        weights = torch.full((6,), 1.5).to(dtype)
        other = weights.clone()
        other.view(torch.uint8)[0] ^= 1
        assert fingerprint(weights) == fingerprint(weights.clone()) != fingerprint(other)
    step = torch.tensor([1.0, -1.0, -1.0, 1.0]) * 1e-3
    assert fingerprint(torch.full((4,), 1.5) + step) != fingerprint(torch.full((4,), 1.5))
    large = torch.zeros(3_000_000)
    for place in (0, 1_048_576, 2_999_999):
        other = large.clone()
        other[place] = 1e-30
        assert fingerprint(other) != fingerprint(large)


# ---------------------------------------------------------------------------------------------------- NaN, infinity


def bad(*steps: int, value: float = float("nan")) -> Any:
    """A fault: the loss of these steps is no number."""
    return lambda loss, step: loss * value if step in steps else loss


def bad_gradient(*steps: int) -> Any:
    """A fault: the loss is fine, and its gradient infinite."""

    def fault(loss: torch.Tensor, step: int) -> torch.Tensor:
        if step in steps:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    return fault


@pytest.mark.parametrize("clip", [1.0, 0.0])
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (bad(3), "a loss that is not finite"),
        (bad(3, value=float("inf")), "a loss that is not finite"),
        (bad_gradient(3), "a gradient norm of (nan|inf)"),
    ],
)
def test_a_run_stops_before_its_weights_are_touched(train, fault, found, clip):
    good, net = Net(), Net(fault)
    train(good, max_grad_norm=clip, steps=2)
    with pytest.raises(NotFinite, match=rf"step 3: got {found}, expected a number\. Rows: rows\.jsonl:3\. Lower") as e:
        train(net, max_grad_norm=clip, steps=4)
    assert "The step was taken" not in str(e.value) and "--on_nonfinite skip" in str(e.value)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), good.parameters(), strict=True))


@pytest.mark.parametrize("fault", [bad(2, 3), bad_gradient(2, 3)])
def test_skipped_steps_leave_weights_and_moments_alone(train, caplog, fault):
    net, seen = Net(fault), []
    plain = net.forward

    def forward(x: torch.Tensor, step: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(net.layers[0].weight.detach().clone())
        return plain(x, step)

    net.forward = forward
    trainer = train(net, steps=5, on_nonfinite="skip")
    unchanged = [torch.equal(a, b) for a, b in pairwise(seen)]
    assert unchanged == [False, True, True, False]  # by steps 1 to 4
    moments = trainer.optimizer.state[net.layers[0].weight]
    assert moments["step"] == 3 and all(torch.isfinite(value).all() for value in moments.values())
    (said,) = warnings(caplog, "nonfinite")
    assert said.startswith("step 2: got ") and "left out" in said
    logs = [entry["nonfinite_steps"] for entry in trainer.state.log_history if "loss" in entry]
    assert logs == [0, 1, 2, 2, 2]


def test_ten_skipped_steps_in_a_row_stop(train):
    with pytest.raises(NotFinite, match=r"step 12: .*, 10 times in a row\."):
        train(Net(bad(*range(3, 30))), steps=30, on_nonfinite="skip")
    trainer = train(Net(bad(*range(3, 12), *range(13, 22))), steps=22, on_nonfinite="skip")
    assert trainer.nonfinite_steps == 18


def test_a_loss_scaler_may_look_for_its_scale(train, monkeypatch):
    monkeypatch.setattr(nonfinite, "scales", lambda trainer: True)
    assert train(Net(bad_gradient(*range(2, 21))), steps=21).nonfinite_steps == 19
    with pytest.raises(NotFinite, match=r"step 21: .*, 20 times in a row\."):
        train(Net(bad_gradient(*range(2, 30))), steps=30)
    with pytest.raises(NotFinite, match="step 2: got a loss"):
        train(Net(bad(2)))


def test_a_step_that_was_taken_is_not_skipped(train, monkeypatch):
    monkeypatch.setattr(nonfinite, "torn", lambda trainer: True)
    with pytest.raises(NotFinite, match="The step was taken, so the weights may be of no use"):
        train(Net(bad(3)), on_nonfinite="skip")


def test_a_deepspeed_file_that_takes_any_step_is_refused():
    def trainer(**bf16: Any) -> Any:
        plugin = SimpleNamespace(deepspeed_config={"bf16": bf16})
        return SimpleNamespace(accelerator=SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin)))

    nonfinite.refuse_unseen_overflow(trainer(enabled=True))
    with pytest.raises(UsageError, match=r"got bf16\.check_grad_overflow false"):
        nonfinite.refuse_unseen_overflow(trainer(enabled=True, check_grad_overflow=False))


def test_the_rows_of_the_bad_micro_batch_alone_are_named(train):
    with pytest.raises(NotFinite, match=r"Rows: rows\.jsonl:5\. ") as error:
        train(Net(bad(5)), gradient_accumulation_steps=3)
    assert str(error.value).startswith("step 2: ")


# ---------------------------------------------------------------------------------------------------- several ranks


ALL = pytest.mark.skipif("not os.environ.get('ALL_ENGINES')", reason="set ALL_ENGINES=1 to run every engine")


@pytest.fixture(
    scope="module",
    params=["zero2", "zero3", pytest.param("ddp", marks=ALL), pytest.param("fsdp2", marks=ALL)],
)
def ranks(request, digits, tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    """Run -> what each of two ranks saw, see `loud_on_ranks`."""
    rows = [json.loads(line) for line in (digits / "train.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        del row["image"]
        row["conversations"][0]["value"] = f"What is the sum of {number} and 2?"
    data, out = digits / "texts.jsonl", tmp_path_factory.mktemp(request.param)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [f"{sys.prefix}/bin/torchrun", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port"]
    command += [str(free_port()), str(REPO / "tests" / "loud_on_ranks.py"), request.param, str(out), str(data)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    env["PYTHONPATH"] = os.pathsep.join([str(REPO / "tests"), *filter(None, [env.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr[-8000:]
    return {
        name: [json.loads((out / f"{name}_{rank}.json").read_text()) for rank in (0, 1)]
        for name in ("skip", "stop", "still")
    }


@pytest.mark.distributed
def test_ranks_leave_the_same_steps_out(ranks):
    first, second = ranks["skip"]
    assert first["moved"] == second["moved"] == [True, False, False, True]
    assert first["steps"] == second["steps"] == 2
    assert first["error"] == second["error"] == "None"


@pytest.mark.distributed
def test_one_rank_names_the_vision_tower_that_learns_nothing(ranks):
    (first, second) = ([said for said in seen["told"] if "learned nothing" in said] for seen in ranks["skip"])
    assert len(first) == 1 and second == []
    assert "No gradient reached: model.visual" in first[0] and "language_model" not in first[0]


@pytest.mark.distributed
def test_ranks_stop_together_with_the_row_and_a_checkpoint(ranks):
    first, second = ranks["stop"]
    assert first["kind"] == second["kind"] == "NotFinite" and first["error"] == second["error"]
    assert first["error"].startswith("step 2: got a loss that is not finite, expected a number. Rows: ")
    assert "texts.jsonl:" in first["error"]
    assert first["moved"] == second["moved"] == [True, False]
    assert "trainer_state.json" in first["saved"]


@pytest.mark.distributed
def test_ranks_end_where_nothing_moves(ranks):
    first, second = ranks["still"]
    assert first["error"] == second["error"] and "got no weight that moved" in first["error"]


# ---------------------------------------------------------------------------------------------------- real runs


def spoiled(trainer: Any, *steps: int) -> Any:
    """The trainer with a loss of NaN in these steps, counted from 1."""
    plain = trainer._compute_loss
    trainer._compute_loss = lambda *args: (
        plain(*args) * (float("nan") if trainer.state.global_step + 1 in steps else 1)
    )
    return trainer


@pytest.mark.slow
def test_the_count_of_steps_left_out_survives_a_resume(tiny, digits, tmp_path):
    flags = ["--max_steps", "4", "--on_nonfinite", "skip", "--save_strategy", "steps", "--save_steps", "1"]
    whole = spoiled(make_trainer(tiny, digits / "train.jsonl", tmp_path, *flags), 2, 4)
    whole.train()
    again = spoiled(make_trainer(tiny, digits / "train.jsonl", tmp_path / "again", *flags), 2, 4)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    lines = [[line for line in t.state.log_history if "loss" in line] for t in (whole, again)]
    assert [line["nonfinite_steps"] for line in lines[0]] == [0, 1, 1, 2]
    assert [line["nonfinite_steps"] for line in lines[1][-2:]] == [1, 2] and again.nonfinite_steps == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.slow
def test_a_stopped_grpo_run_leaves_the_last_good_step_and_goes_on_from_it(tiny, digits, tmp_path, monkeypatch, capsys):
    def main(out: Path, *more: str) -> None:
        argv = f"--model_name_or_path {tiny} --data_file_paths {digits / 'train.jsonl'} --image_folders {digits}"
        argv += f" --task_type digits --output_dir {out} --num_generations 4 --per_device_train_batch_size 8"
        argv += " --max_completion_length 8 --max_steps 3 --save_strategy no --bf16 false --report_to none"
        grpo_jsonl.main([*argv.split(), "--gradient_checkpointing", "false", *more])

    main(tmp_path / "whole")
    plain = VLMGRPOTrainer._compute_loss
    fault = lambda self, *args: plain(self, *args) * (float("nan") if self.state.global_step == 2 else 1)  # noqa: E731
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(VLMGRPOTrainer, "_compute_loss", fault)
        main(tmp_path / "run")
    said = f"{ended.value.code}\n{capsys.readouterr().err}"
    assert "step 3: got a loss that is not finite, expected a number. Rows: " in said and ended.value.code != 0
    assert f"{digits / 'train.jsonl'}:" in said and "The run ended after step 2; continue it with" in said
    main(tmp_path / "run", "--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-2"))
    whole, again = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
def test_an_sft_run_that_diverges_names_its_rows_and_an_adapter_is_no_false_alarm(tiny, mixed, tmp_path):
    flags = f"--model_name_or_path {tiny} --data_file_paths {mixed} --image_folders {mixed.parent} --task_type digits"
    flags += " --max_steps 3 --per_device_train_batch_size 4 --save_strategy no --bf16 false --report_to none"
    for packed in ("false", "true"):
        out = ["--output_dir", tmp_path / packed, "--padding_free", packed, "--learning_rate", "1e30"]
        done = run_script("src/open_r1/sft_jsonl.py", *flags.split(), *out, "--max_grad_norm", "0", check=False)
        assert done.returncode == 1 and "step 2: got a loss that is not finite" in done.stderr, done.stderr[-3000:]
        named = done.stderr.split("Rows: ")[1].split(". Lower")[0].split(", ")
        assert len(set(named)) == 4 and all(place.startswith(f"{mixed}:") for place in named)
        assert (tmp_path / packed / "checkpoint-1" / "trainer_state.json").exists()
    peft = ["--use_peft", "true", "--lora_vision", "true", "--output_dir", tmp_path / "lora"]
    done = run_script("src/open_r1/sft_jsonl.py", *flags.split(), *peft)
    assert "learned nothing" not in done.stderr


# ---------------------------------------------------------------------------------------------------- image tokens


@pytest.mark.parametrize("family", families.FAMILIES)
def test_no_family_raises_a_false_alarm(family):
    model = families.FAMILIES[family]()
    processor = SimpleNamespace(image_token_id=model.config.image_token_id)
    assert processor.image_token_id == families.IMAGE
    for pictures in range(4):
        ids = families.prompt(model, pictures, text=9, seed=pictures)["input_ids"][0]
        assert (runs_of(ids, families.IMAGE) == 0) == (pictures == 0)
        refuse_unseen(RECORD, ids, pictures, processor, lambda: pytest.fail("it need not be looked at"))
        if pictures:
            with pytest.raises(DataError, match=r"a\.jsonl:7: images: got image tokens for 0 of"):
                refuse_unseen(RECORD, ids[ids != families.IMAGE], pictures, processor, "")
            with pytest.raises(DataError, match=r"a\.jsonl:7: prompt: got \d run"):
                refuse_unseen(RECORD, ids, 0, processor, "")


RECORD = Record("7", ("a.png",), "", (Turn("user", "What?"),), "1", where="a.jsonl:7")


def test_pictures_side_by_side_are_one_run_and_no_false_alarm():
    processor, ids = SimpleNamespace(image_token_id=7, image_token="<image>"), torch.tensor([1, 7, 7, 7, 7, 2])
    refuse_unseen(RECORD, ids, 2, processor, "a<image><image>b")
    with pytest.raises(DataError, match="got image tokens for 1 of 2 picture"):
        refuse_unseen(RECORD, ids, 2, processor, lambda: "a<image>b")


NO_PICTURES = "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("sft", [False, True])
def test_a_template_that_drops_pictures_is_named_with_the_row(tiny, digits, sft):
    processor = load_processor(VLMConfig(model_name_or_path=tiny), TaskArguments())
    records = load_records(str(digits / "train.jsonl"), str(digits), reward_methods="digits").select([5])
    annotate = annotator("qwen2_5_vl", processor, "direct")

    def take() -> None:
        if sft:
            Collator(records, processor, "{question}", annotate)([{"row": 0}])
        else:
            conversation = lambda record, pictures: fill(messages(record), pictures)  # noqa: E731
            loader = PromptLoader(lambda row: annotate(records[row["row"]]), conversation, processor, None, 1, {})
            loader.take([{"split": "train", "row": 0}])

    take()
    processor.chat_template = processor.tokenizer.chat_template = NO_PICTURES
    with pytest.raises(DataError, match=r"train\.jsonl:6: images: got image tokens for 0 of 1 picture"):
        take()


def test_a_look_at_a_prompt_takes_microseconds():
    processor, ids = SimpleNamespace(image_token_id=7), torch.randint(0, 8, (4096,))
    start = time.perf_counter()
    for _ in range(200):
        refuse_unseen(RECORD, ids, 1, processor, "")
    each = (time.perf_counter() - start) / 200
    print(f"{each * 1e6:.0f} us for a prompt of 4096 tokens")
    assert each < 1e-3


def test_a_completion_with_an_image_token_is_an_error():
    refuse_drawn([RECORD] * 2, [[1, 2], [3]], [7, 8], "vLLM")
    with pytest.raises(ImageDrawn, match=r"a\.jsonl:7: completion: got token 8, .* from vLLM \(1 of 2 completions\)"):
        refuse_drawn([RECORD] * 2, [[1, 2], [3, 8]], [7, 8], "vLLM")


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--prefill_once false"])
def test_a_ban_that_did_not_act_ends_the_run(tiny, digits, tmp_path, flags):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path, "--max_steps", "2", *flags.split())
    image = trainer.processing_class.image_token_id
    head = trainer.model.lm_head  # says the image token, and nothing else
    head.register_forward_hook(lambda module, args, out: out.index_fill(-1, torch.tensor(image), 1e4))
    trainer.generation_config.suppress_tokens = None
    with pytest.raises(ImageDrawn, match=rf"train\.jsonl:\d+: completion: got token {image}, .* from transformers"):
        trainer.train()


# ------------------------------------------------------------------------------------- rollouts that train another


@pytest.fixture
def differences(monkeypatch) -> list[float]:
    """What each look at a rollout found."""
    found, plain = [], transformers_rollout.check_agreement
    monkeypatch.setattr(transformers_rollout, "check_agreement", lambda *args: found.append(plain(*args)))
    return found


@pytest.mark.parametrize("flags", ["", "--bf16 true", "--temperature 0.7 --repetition_penalty 1.2"])
def test_one_rollout_of_a_run_is_held_against_training(tiny, mixed, tmp_path, differences, flags):
    trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", "--use_cpu", "true", *flags.split())
    for rows in ([0, 1, 2], [2, 3, 4]):
        trainer._examples = trainer.loader.take(rows_of(*rows, group=4))
        trainer._prompts = trainer._on_device(trainer._examples)
        trainer._generate_single_turn([prompt.ids.tolist() for prompt in trainer._prompts], None, {})
    (difference,) = differences
    print(f"{flags}: {difference:.2g} nats")
    assert difference < (1e-3 if "bf16" in flags else 1e-5)


def shifted(*args: Any) -> Any:
    """Keys of the prompt stand where those of another place stood."""
    cache = prefill(*args)
    for layer in cache.layers:
        layer.keys = layer.keys.roll(1, dims=-2)
    return cache


def blind(backbone: Any, prompts: Any) -> Any:
    """The pictures of the prompts are black."""
    dark = [replace(p, images={n: v * (n != "pixel_values") for n, v in p.images.items()}) for p in prompts]
    return prefill(backbone, dark)


@pytest.mark.parametrize("fault", [shifted, blind])
def test_a_rollout_of_another_model_ends_the_run(tiny, digits, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(generation, "prefill", fault)
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path, "--max_steps", "2")
    with pytest.raises(Disagreement, match=r"log-probs that differ from training's by [\d.]+ nats a token, expected"):
        trainer.train()
    assert trainer.state.global_step == 0


# --------------------------------------------------------------------------- what is harmless, and what warned before


@pytest.mark.parametrize("flags", ["", "--prefill_once false --shared_prefix false"])
def test_the_padding_side_of_a_processor_acts_nowhere(tiny, mixed, tmp_path, flags):
    """Prompts are made one by one and padded by the trainer, so a user's own processor need not pad left."""
    found = []
    for side in ("left", "right"):
        trainer = make_trainer(tiny, mixed, tmp_path, "--max_steps", "1", *flags.split())
        trainer.processing_class.padding_side = trainer.processing_class.tokenizer.padding_side = side
        trainer.loader.processor.padding_side = trainer.loader.processor.tokenizer.padding_side = side
        trainer.generation_config.do_sample = False
        batch = trainer._generate_and_score_completions(rows_of(0, 1, 2, group=4))
        logps = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].shape[1],
            pixel_values=batch["prompts"],
        )[0]
        found.append((batch["prompt_ids"], batch["completion_ids"], batch["completion_mask"], logps))
    assert all(torch.equal(left, right) for left, right in zip(*found, strict=True))


@pytest.mark.slow
def test_rewards_without_variance_are_warned_of_once(tiny, digits, tmp_path, caplog):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path, "--max_steps", "14")
    trainer.reward_funcs = [lambda completions, **_: [0.5] * len(completions)]
    trainer.train()
    said = [text for text in warnings(caplog, "health") if "zero_variance" in text]
    assert len(said) == 1 and said[0].startswith("step 10: zero_variance: Rewards without variance")
    assert "raise --temperature or --num_generations" in said[0]
    assert warnings(caplog, "moved") == []  # there was no step with a gradient
