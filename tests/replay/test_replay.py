"""A kept step replayed through the command: equal to what the run computed, and to what other runs compute."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.clips import clip_rows, tiny_with_videos
from helpers.preloaded import python, ranked
from helpers.repository import REPO, make_dataset

from open_r1 import grpo_jsonl
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.errors import UsageError
from open_r1.replay.advantages import AdvantageSettings, advantages_of
from open_r1.replay.figures import generation_advantages
from open_r1.replay.flags import filled_by_loss_type, needed_flags, parse_replay, read_sections
from open_r1.replay.kept import KeptStep, read_step, steps_text
from open_r1.replay.run import main
from open_r1.replay.summary import next_try
from open_r1.report.replay_page import write_replay_page
from open_r1.trainer.checkpointing.manifest import write_manifest
from open_r1.trainer.outputs.whole_steps import WholePart, kept_files, read_part

EXACT = 1e-5  # of float32
SIZE = "--num_generations 4 --per_device_train_batch_size 16 --max_completion_length 40 --gradient_checkpointing false"
# How a step's completions come about -> flags of the run.
WAYS = {
    "one micro-batch": "",
    "two micro-batches": "--per_device_train_batch_size 8 --gradient_accumulation_steps 2 --loss_type grpo",
    "two generations": "--per_device_train_batch_size 8 --gradient_accumulation_steps 2 --steps_per_generation 1",
    "a generation for two steps": "--per_device_train_batch_size 8 --steps_per_generation 2",
    "completions used twice": "--num_iterations 2 --beta 0.04",
    "adapters": "--use_peft true --lora_r 4 --beta 0.04 --loss_type bnpo",
    "a reference that follows": "--beta 0.04 --sync_ref_model true --ref_model_sync_steps 1",
    "rewards normalized one by one": "--multi_objective_aggregation normalize_then_sum --loss_type dr_grpo",
    "a masked picture": "--perception_coef 0.05 --visual_token_share 0.5",
    "a ratio of the whole completion": "--loss_type grpo --importance_sampling_level sequence --num_iterations 2",
    "no clip": "--loss_type sapo",
}


def words(tiny: str, data: Path, out: Path, *more: object) -> list[str]:
    flags = f"--model_name_or_path {tiny} --data_file_paths {data / 'train.jsonl'} --image_folders {data}"
    flags += f" --task_type digits --output_dir {out} {SIZE} --learning_rate 1e-3 --lr_scheduler_type constant"
    flags += " --beta 0 --max_steps 3 --save_strategy steps --save_steps 1 --use_cpu true --disable_tqdm true"
    return [*flags.split(), *(word for part in more for word in str(part).split())]


def logged(run: Path, step: int) -> dict[str, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return next(line for line in lines if line["step"] == step)


def replayed(run: Path, *flags: object) -> dict:
    """The figures of a replay through its command."""
    figures = run / "figures.json"
    figures.unlink(missing_ok=True)
    assert main([str(run), "--json", str(figures), *(word for part in flags for word in str(part).split())]) == 0
    return json.loads(figures.read_text())


def refused(capsys, *argv: object) -> str:
    """The one line with which the command refuses."""
    capsys.readouterr()
    try:
        assert main([str(word) for word in argv]) == 2
    except SystemExit as ended:  # by the parser of a run's flags
        assert ended.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def assert_as_logged(figures: dict, line: dict[str, float], setting: str = "run", share: float = 0.0) -> None:
    """The figures of a setting are those of a line of metrics.jsonl; means over tokens to a `share` of them."""
    values = figures["settings"][setting]
    assert values["gradient norm"] == pytest.approx(line["grad_norm"], rel=EXACT)
    assert values["loss"] == pytest.approx(line["loss"], abs=EXACT)
    if "reward" in line:  # else the completions were sampled for a step before
        assert values["reward"] == pytest.approx(line["reward"], abs=EXACT)
    if "kl" in line:
        assert values["KL to the reference"] == pytest.approx(line["kl"], abs=EXACT, rel=share)
    if "clip_ratio/region_mean" in line:
        assert values["share clipped"] == pytest.approx(line["clip_ratio/region_mean"], abs=EXACT)


# ---------------------------------------------------------------------------------------------------- equal to the run


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_step_replayed_with_the_flags_of_its_run_is_what_the_run_computed(tiny, digits, tmp_path, way):
    """Step 2 learns with checkpoint-1, in three of the ways from completions that were sampled for step 1."""
    run = tmp_path / "run"
    grpo_jsonl.main(words(tiny, digits, run, WAYS[way], "--max_steps 2"))
    assert_as_logged(replayed(run, "--step 2"), logged(run, 2))
    kept, flags = read_step(run, 2), read_sections(run)["training"]
    settings = AdvantageSettings(torch.ones(2), 4, flags["scale_rewards"], flags["multi_objective_aggregation"])
    found = generation_advantages(kept, torch.tensor(kept.rewards), settings)
    assert torch.allclose(found, torch.tensor(kept.advantages), atol=EXACT)
    shutil.rmtree(run)


@pytest.mark.slow
def test_the_page_shows_film_strips_of_the_rows_whose_completions_change(tmp_path):
    data, model, run = clip_rows(tmp_path, 4), tiny_with_videos(tmp_path / "model"), tmp_path / "run"
    command = f"--model_name_or_path {model} --data_file_paths {data} --image_folders {tmp_path} --output_dir {run}"
    command += f" {SIZE} --max_completion_length 4 --max_steps 1 --keep_whole_steps 1 --save_strategy no"
    command += " --reward_funcs accuracy format --use_cpu true --disable_tqdm true --video_max_frames 2"
    grpo_jsonl.main(command.split())
    reward = tmp_path / "lengths.py"
    reward.write_text("def lengths(completion, record):\n    return len(completion) % 3 + int(record.id)\n")
    assert replayed(run, "--advantages_only", "--reward_funcs", f"{reward}:lengths", "--reward_weights 1")["changed"]
    page = (run / "replay-step-1.html").read_text()
    assert 0 < page.count('class="film"') <= 4 and 'href="#row-1"' in page and "2 frames of" in page
    assert "script-src 'sha256-" in page and page.count("<script>") == 1


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    make_dataset("zoom_digits", out, "--rows", 16, "--heldout_rows", 2)
    return out


@pytest.mark.slow
def test_a_step_whose_completions_have_tool_turns_is_replayed_and_graded_as_the_run_did(scenes, tmp_path):
    """Step 2 learns from the completions that were sampled for step 1."""
    run, tools = tmp_path / "run", "--task_type zoom_digits --tools zoom --max_tool_turns 1 --num_iterations 2"
    rewards = "--reward_funcs accuracy tool_bonus tool_errors"
    more = (tools, rewards, "--max_completion_length 128 --beta 0.04 --max_steps 2")
    grpo_jsonl.main(words(str(REPO / "assets" / "tiny-vlm-zoom"), scenes, run, *more))
    (part,) = read_step(run, 1).parts
    assert any(len(one) == 3 and one[1]["pictures"] for one in part.trajectories)
    assert [[token for segment in one for token in segment["ids"]] for one in part.trajectories] == part.ids
    for step in (1, 2):
        assert_as_logged(replayed(run, f"--step {step}"), logged(run, step))
    figures = replayed(run, "--step 1", rewards, "--loss_type dr_grpo")
    assert figures["settings"]["tried"]["reward"] == pytest.approx(logged(run, 1)["reward"], abs=EXACT)
    assert len({row[1] for row in part.rewards}) == 2  # some earn the bonus of a call
    shutil.rmtree(run)


@pytest.fixture(scope="module")
def run(tiny, digits, tmp_path_factory) -> Path:
    """A run of three steps with a checkpoint of each."""
    out = tmp_path_factory.mktemp("replay") / "run"
    grpo_jsonl.main(words(tiny, digits, out))
    return out


TRIED = (
    "--loss_type dr_grpo",
    "--beta 0.04",
    "--reward_funcs accuracy",
    "--loss_type cispo --scale_rewards batch --reward_weights 1 0.25",
    "--mask_truncated_completions true --entropy_coef 0.01",
)


@pytest.mark.slow
@pytest.mark.parametrize("flags", TRIED)
def test_a_replay_foretells_the_first_step_of_a_run_with_other_flags(tiny, digits, run, tmp_path, flags):
    """Both runs begin with one model and one seed, so that they sample the same completions for their first step."""
    grpo_jsonl.main(words(tiny, digits, tmp_path / "other", flags, "--max_steps 1"))
    figures = replayed(run, "--step 1", flags)
    assert_as_logged(figures, logged(run, 1))
    assert_as_logged(figures, logged(tmp_path / "other", 1), "tried")
    theirs = read_part(tmp_path / "other" / "whole_steps" / "step-1.0.rank0.pt")
    theirs_of = dict(zip(theirs.texts, theirs.advantages, strict=True))
    assert -1 < figures["cosine"] < 1
    alone = [change for change in figures["changes"] if theirs.texts.count(change["text"]) == 1]
    assert [change["advantages"][1] for change in alone] == pytest.approx(
        [theirs_of[change["text"]] for change in alone], abs=EXACT
    )


@pytest.mark.slow
def test_the_runs_own_flags_given_or_not_give_its_own_gradients(run):
    for step in (1, 2, 3):
        own = replayed(run, "--step", step)
        assert_as_logged(own, logged(run, step))
        assert own["cosine"] is None and own["changes"] == []
        share = own["settings"]["run"]["groups with signal"]
        assert 1 - share == pytest.approx(logged(run, step)["frac_reward_zero_std"], abs=EXACT)
    figures = replayed(run, "--step 2 --beta 0 --loss_type dapo --reward_funcs accuracy format")
    assert figures["cosine"] == pytest.approx(1.0, abs=EXACT)
    assert figures["settings"]["run"] == pytest.approx(figures["settings"]["tried"], abs=EXACT)
    assert figures["changes"] == [] and figures["changed"] == 0


@pytest.mark.slow
def test_a_reward_of_the_users_own_grades_the_kept_completions(run, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def short(completion, record):\n    return -float(len(completion))\n")
    figures = replayed(run, "--step 3", f"--reward_funcs {file}:short")
    texts = KeptStep(3, [[read_part(run / "whole_steps" / "step-3.0.rank0.pt")]]).texts
    mean = sum(map(len, texts)) / len(texts)
    assert figures["settings"]["tried"]["reward short"] == pytest.approx(-mean, rel=EXACT)
    assert {change["rewards"][1] for change in figures["changes"]} <= {-float(len(text)) for text in texts}
    sizes = [abs(b - a) for a, b in (change["advantages"] for change in figures["changes"])]
    assert sizes == sorted(sizes, reverse=True)
    page = (run / "replay-step-3.html").read_text()
    assert "short" in page and "cosine of the gradients" in page and "<script" not in page


@pytest.mark.slow
def test_without_a_checkpoint_rewards_and_advantages_are_replayed_and_losses_refused(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoint-2"))
    figures = replayed(copy, "--step 3 --scale_rewards none")
    assert "gradient norm" not in figures["settings"]["run"] and figures["cosine"] is None
    assert figures["settings"]["tried"]["mean size of an advantage"] > 0 and "checkpoint-2" in figures["no_gradient"]
    said = refused(capsys, copy, "--step", 3, "--beta", 0.04)
    assert "checkpoint-2" in said and "steps 1, 2 can" in said
    figures = replayed(run, "--step 3 --advantages_only --scale_rewards none")
    assert figures["no_gradient"] == "--advantages_only"
    (copy / "checkpoint-1" / "run_state.json").write_text(
        (run / "checkpoint-1" / "run_state.json").read_text().replace('"--seed": 42', '"--seed": 7')
    )
    write_manifest(copy / "checkpoint-1")
    assert "a checkpoint of another run" in refused(capsys, copy, "--step", 2, "--beta", 0.04)


@pytest.mark.slow
def test_what_is_no_longer_what_the_run_had_is_refused_before_a_model_is_loaded(run, tiny, digits, tmp_path, capsys):
    data, copy = tmp_path / "data", tmp_path / "copy"
    shutil.copytree(digits, data)
    grpo_jsonl.main(words(tiny, data, copy, "--max_steps 1"))
    lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
    row = read_step(copy, 1).first.rows[0]
    changed = json.loads(lines[row]) | {"level": "new"}
    (data / "train.jsonl").write_text("".join([*lines[:row], json.dumps(changed) + "\n", *lines[row + 1 :]]))
    said = refused(capsys, copy)
    assert said.startswith(f"{data}/train.jsonl:{row + 1}: got a row with another text")
    (data / "train.jsonl").write_text("".join(lines[: row + 1][:1]))
    assert "got data of 1 rows" in refused(capsys, copy) or row == 0
    (data / "train.jsonl").write_text("".join(lines))
    assert replayed(copy)["step"] == 1
    picture = data / json.loads(lines[0])["image"]
    picture.write_bytes(picture.read_bytes() + b" ")
    assert "pictures" in refused(capsys, copy)


def steps_in(run: Path) -> list[int]:
    """The steps before which a kept generation was sampled."""
    return sorted(step for step, _, _ in kept_files(run / "whole_steps").values())


@pytest.mark.slow
def test_a_resumed_run_keeps_the_last_steps_as_one_that_never_stopped(tiny, digits, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    grpo_jsonl.main(words(tiny, digits, whole, "--max_steps 5 --keep_whole_steps 2 --save_steps 2"))
    grpo_jsonl.main(words(tiny, digits, resumed, "--max_steps 4 --keep_whole_steps 2 --save_steps 2"))
    assert steps_in(resumed) == [1, 3, 4]  # the first, the first after checkpoint-2, and the last two
    assert read_step(resumed, None).step == 3  # the newest with a checkpoint of its policy
    shutil.rmtree(resumed / "checkpoint-4")  # as if the run was killed in step 4
    more = "--max_steps 5 --keep_whole_steps 2 --save_steps 2 --resume_from_checkpoint true"
    grpo_jsonl.main(words(tiny, digits, resumed, more))
    assert steps_in(resumed) == steps_in(whole) == [1, 3, 4, 5]
    for step in (4, 5):
        one, other = (read_part(folder / "whole_steps" / f"step-{step}.0.rank0.pt") for folder in (whole, resumed))
        assert one == other
    assert_as_logged(replayed(resumed, "--step 5"), logged(resumed, 5))


@pytest.mark.slow
def test_keeping_none_writes_nothing_and_the_replay_says_so(tiny, digits, tmp_path, capsys):
    out = tmp_path / "run"
    grpo_jsonl.main(words(tiny, digits, out, "--max_steps 1 --keep_whole_steps 0"))
    assert not (out / "whole_steps").exists()
    assert "--keep_whole_steps 3" in refused(capsys, out)


@pytest.mark.distributed
def test_steps_of_two_ranks_are_replayed_by_one_process(tiny, digits, tmp_path):
    out = tmp_path / "run"
    flags = "--per_device_train_batch_size 8 --gradient_accumulation_steps 2 --beta 0.04"
    launch = [python(), "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29613"]
    command = [*launch, str(REPO / "src" / "open_r1" / "grpo_jsonl.py"), *words(tiny, digits, out, flags)]
    subprocess.run(command, check=True, capture_output=True, env=ranked(), timeout=1800)
    names = {path.name for path in kept_files(out / "whole_steps")}
    assert names == {f"step-{step}.0.rank{rank}.pt" for step in (1, 2, 3) for rank in (0, 1)}
    for step in (1, 3):
        # TRL's mean KL of a micro-batch is over the tokens of all ranks, here it is of one rank after the other
        assert_as_logged(replayed(out, "--step", step), logged(out, step), share=0.02)
    (out / "whole_steps" / "step-3.0.rank1.pt").unlink()  # of a run that was killed while it wrote
    assert read_step(out, None).step == 2


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--temperature 0.7", "samples nothing"),
        ("--num_generations 16", "groups and micro-batches of the run"),
        ("--max_completion_length 9", "samples nothing"),
        ("--data_file_paths x.jsonl", "the policy, its rows and its prompts"),
        ("--save_steps 1", "nothing of a single step"),
        ("--task_type rec", "the policy, its rows and its prompts"),
        ("--model_name_or_path x", "the policy, its rows and its prompts"),
        ("--learning_rate 1", "takes no step"),
        ("--sync_ref_model true", "nothing of a single step"),
        ("--bf16 true", "computes as the run did"),
        ("--losstype grpo", "did you mean --loss_type?"),
        ("--reward_wieghts 1", "did you mean --reward_weights"),
        ("--advantages_only --beta 1", "acts on the loss alone"),
    ],
)
def test_a_flag_that_cannot_act_on_a_sampled_step_is_refused(flag, said, tmp_path, capsys):
    assert said in refused(capsys, tmp_path, *flag.split())


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert "expected the --output_dir of a run" in refused(capsys, tmp_path / "none")


def part(step: int = 1, rank: int = 0, **changed: object) -> WholePart:
    """A generation of two groups of two completions."""
    fields = {
        **{"step": step, "place": 0, "rank": rank, "ranks": 1, "micro_batches": 1, "parts": 1, "iterations": 1},
        **{"group": 2, "rows": [0, 1], "where": ["a:1", "a:2"], "digests": ["", ""], "texts": [*"abcd"]},
        **{"ids": [[1]] * 4, "logps": None, "names": ["accuracy"], "rewards": [[1.0], [0.0]] * 2},
        **{"advantages": [1.0, -1.0] * 2, "facts": {}},
    }
    return WholePart(**fields | changed)


def keep(run: Path, *parts: WholePart) -> Path:
    (run / "whole_steps").mkdir(parents=True, exist_ok=True)
    (run / "resolved_config.yaml").write_text("task: {}\n")
    for each in parts:
        path = run / "whole_steps" / f"step-{each.step}.{each.place}.rank{each.rank}.pt"
        torch.save(each.__dict__, path)
    return run


def test_steps_that_are_not_kept_are_refused_with_those_that_are(tmp_path, capsys):
    run = keep(tmp_path, part(4), part(5), part(6, ranks=2))  # of step 6 a rank lacks
    assert "has whole rollouts of steps 4, 5; choose" in refused(capsys, run, "--step", 6)
    assert read_step(run, None).step == 5
    with pytest.raises(UsageError, match="steps 4, 5"):
        read_step(run, 3)


def test_a_file_that_is_no_generation_is_named(tmp_path, capsys):
    run = keep(tmp_path, part(4))
    (run / "whole_steps" / "step-5.0.rank0.pt").write_bytes(b"cut")
    assert "step-5.0.rank0.pt: got no rollouts" in refused(capsys, run)


def test_a_generation_serves_all_steps_that_learn_from_it(tmp_path):
    run = keep(tmp_path, part(3, parts=2, iterations=2, micro_batches=2))
    assert [read_step(run, step).offset for step in (3, 4)] == [0, 2]
    with pytest.raises(UsageError, match="steps 3, 4"):
        read_step(run, 5)


@pytest.mark.parametrize(
    ("parts", "able"),
    [
        ([part(micro_batches=2), part(place=1, micro_batches=2)], True),
        ([part(parts=2)], True),
        ([part(parts=2, iterations=3, micro_batches=3)], True),
        ([part(parts=2, iterations=2, micro_batches=3)], False),
        ([part(facts={"--use_adaptive_entropy": True})], False),
    ],
)
def test_a_gradient_needs_micro_batches_that_the_generations_tell(parts, able):
    assert (KeptStep(1, [[each] for each in parts]).why_no_gradient() is None) == able


def test_one_process_takes_micro_batches_rank_by_rank():
    ranks = [part(rank=rank, ranks=2, parts=2, rows=[10 * rank, 10 * rank + 1]) for rank in (0, 1)]
    step = KeptStep(1, [ranks, ranks[:1] and [part(place=1, rank=r, ranks=2, parts=2) for r in (0, 1)]])
    assert step.groups_in_order() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert step.micro_batches == 2 and len(step.texts) == 16


def test_steps_in_words():
    assert steps_text([3]) == "step 3"


# ---------------------------------------------------------------------------------------------------------- advantages


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_by_hand(aggregation, scale):
    torch.manual_seed(0)
    rewards, weights = torch.rand(12, 2), torch.tensor([1.0, 0.5])
    rewards[3, 0] = rewards[8] = torch.nan
    found = advantages_of(rewards, AdvantageSettings(weights, 4, scale, aggregation))
    assert found[8] == 0 and found.isfinite().all()
    if aggregation == "sum_then_normalize":
        sums = (rewards * weights).nansum(dim=1)
        group = sums[:4]
        spread = {
            "group": group.std(),
            "batch": sums[[*range(8), *range(9, 12)]].std(),
            "none": torch.tensor(1 - 1e-4),
        }
        assert torch.allclose(found[:4], (group - group.mean()) / (spread[scale] + 1e-4), atol=1e-6)
    else:
        assert found.mean().abs() < 0.1 and 0.8 < found.std() < 1.1


def test_a_group_of_equal_rewards_has_no_advantage():
    settings = AdvantageSettings(torch.ones(1), 2, "group", "sum_then_normalize")
    assert advantages_of(torch.tensor([[2.0], [2.0], [1.0], [0.0]]), settings)[:2].tolist() == [0, 0]


# --------------------------------------------------------------------------------------------------------------- flags


def test_what_a_loss_type_fills_is_left_to_the_loss_type_that_is_tried():
    training = {"loss_type": "grpo", "importance_sampling_level": "sequence"}
    assert filled_by_loss_type(training) == {
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
        "scale_rewards": "group",
        "importance_sampling_level": "token",
    }


def test_flags_of_a_run_that_a_replay_needs():
    sections = {
        "task": {
            "data_file_paths": "a.jsonl",
            "task_type": "rec",
            "reward_funcs": ["accuracy"],
            "val_split_ratio": 0.5,
        },
        "training": {
            "loss_type": "dapo",
            "importance_sampling_level": "token",
            "epsilon": 0.2,
            "epsilon_high": 0.3,
            "learning_rate": 1.0,
            "temperature": 0.7,
            "save_steps": 7,
            "use_vllm": True,
        },
        "model": {"model_name_or_path": "m", "use_peft": True},
    }
    assert needed_flags(sections) == {
        "data_file_paths": ["a.jsonl"],
        "task_type": ["rec"],
        "reward_funcs": ["accuracy"],
        "epsilon_high": ["0.3"],
        "temperature": ["0.7"],
        "model_name_or_path": ["m"],
        "use_peft": ["true"],
    }


def test_words_of_a_command_line():
    asked = parse_replay(["out", "--step", "3", "--reward_funcs", "a", "b", "--beta", "0.1"])
    assert (asked.step, asked.needs_gradient, asked.grades) == (3, True, True)
    assert asked.tried == {"reward_funcs": ["a", "b"], "beta": ["0.1"]}
    assert not parse_replay(["out", "--scale_rewards", "none"]).needs_gradient


def test_texts_of_completions_are_escaped_on_the_page(tmp_path):
    change = {"where": "a:1", "text": "<script>x</script>", "rewards": [1.0, None], "advantages": [1.0, -1.0]}
    figures = {
        "run": "<b>",
        "step": 3,
        "policy": None,
        "no_gradient": "--advantages_only",
        "tried_flags": {"reward_funcs": "<i>"},
        "groups": 1,
        "settings": {"run": {"reward": 1.0, "gradient norm": 2.0}, "tried": {"reward": 0.5}},
        "cosine": None,
        "logged": {"grad_norm": 1.0},
        "completions": 2,
        "changed": 1,
        "sign_flips": 1,
        "changes": [change],
    }
    row = Record("1", (), "", (Turn("user", "<script>y</script>?"),), "gold")
    write_replay_page(tmp_path / "page.html", figures, {"a:1": row})
    page = (tmp_path / "page.html").read_text()
    assert (
        "<script>" not in page
        and "&lt;script&gt;x" in page
        and "&lt;script&gt;y" in page
        and "<i>" not in page
        and "compare the two columns" in page
    )


@pytest.mark.parametrize("no_gradient", [None, "--step: got 3, whose losses and gradients need checkpoint-2"])
def test_the_command_at_the_end_is_one_that_the_step_can_be_asked(no_gradient):
    command, _, _ = next_try(Path("out"), {"step": 3, "no_gradient": no_gradient}).partition("   # or ")
    asked = parse_replay(command.split()[3:])
    assert (asked.run, asked.step, len(asked.tried)) == (Path("out"), 3, 1)
    assert asked.needs_gradient == (no_gradient is None)
