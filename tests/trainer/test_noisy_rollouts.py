"""A part of each group is sampled from noisy pictures, all is learned with the clean one, and resume is exact."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.clips import clip_rows, tiny_with_videos
from helpers.resumed_runs import assert_same, train, weights
from helpers.trainers import loss_and_gradients, make_trainer, rows
from PIL import Image

from open_r1 import grpo_jsonl
from open_r1.config import vllm_flags
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.vision_flags import check_noisy_rollouts
from open_r1.report.page import write_report
from open_r1.report.thinning import thin_rollouts
from open_r1.rollout.noisy_pictures import annealed, noisy_picture, signal_kept
from open_r1.rollout.prompts import process_chat
from open_r1.rollout.vllm.types import SampledCompletion
from open_r1.trainer import noisy_rollouts, vllm_rollout
from open_r1.trainer.checks import rollout_agreement

HALF = ["--noisy_rollouts", "0.5"]
GROUP = 4  # of make_trainer


@pytest.fixture
def trainer(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, *HALF)
    trainer.model.train()
    trainer.state.max_steps = 10
    return trainer


def generation(trainer, *numbers: int) -> dict:
    torch.manual_seed(0)
    return trainer._generate_and_score_completions(rows(*numbers, group=GROUP))


# ------------------------------------------------------------------------------------------------------------ pictures


def authors_alphas() -> torch.Tensor:
    """sqrt of the cumulative products, line by line as in the authors' `verl/utils/image_aug.py`."""
    betas = torch.sigmoid(torch.linspace(-6, 6, 1000, dtype=torch.float64)) * (0.5e-2 - 1e-5) + 1e-5
    return torch.cumprod(1 - betas, dim=0).sqrt()


def test_the_signal_that_is_kept_is_that_of_the_authors():
    assert [signal_kept(t) for t in range(1000)] == pytest.approx(authors_alphas().tolist(), abs=1e-12)


@pytest.mark.parametrize(("steps", "first"), [(60, 500), (7, 999), (1, 1), (1000, 450)])
def test_the_schedule_is_the_authors_with_the_middle_at_two_thirds(steps, first):
    def authors(step: int) -> int:  # decay_mode sigmoid, decay_coef 30, decay_sig_mid_step 2/3 of the steps
        return int(first * (1 - 1 / (1 + math.exp(-30 * (step / steps - (2 / 3 * steps) / steps)))))

    ours = [annealed(first, step, steps) for step in range(1, steps + 1)]
    assert all(abs(a - authors(step)) <= 1 for step, a in enumerate(ours, 1))  # floor of one rounding error
    assert ours == sorted(ours, reverse=True)


@pytest.mark.parametrize("noise_step", [0, 100, 500, 999])
def test_noise_has_the_mean_and_deviation_of_its_step(noise_step):
    grey = Image.new("RGB", (400, 300), (128, 128, 128))
    noisy = np.asarray(noisy_picture(grey, noise_step, 1e9, np.random.default_rng(0)), np.float64) / 255
    kept = signal_kept(noise_step)
    drawn = kept * 128 / 255 + math.sqrt(1 - kept**2) * np.random.default_rng(1).standard_normal((300, 400, 3))
    expected = (drawn.clip(0, 1) * 255).astype(np.uint8) / 255
    assert noisy.mean() == pytest.approx(expected.mean(), abs=3e-3)
    assert noisy.std() == pytest.approx(expected.std(), abs=3e-3)


def test_noise_of_a_large_picture_survives_the_processors_averaging():
    grey, shown = Image.new("RGB", (1600, 1200), (128, 128, 128)), (400, 300)
    seen = [
        np.asarray(noisy_picture(grey, 250, pixels, np.random.default_rng(0)).resize(shown, Image.Resampling.BOX))
        for pixels in (400 * 300, 1e9)
    ]
    assert seen[0].std() > 3.5 * seen[1].std()  # of pixels of its own the mean of 16 has a quarter of the deviation


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_picture_of_any_mode_and_size_stays_of_its_size(mode):
    for size in ((1, 1), (1, 900), (37, 5)):
        picture = noisy_picture(Image.new(mode, size), 500, 50, np.random.default_rng(0))
        assert (picture.mode, picture.size) == ("RGB", size)


# ------------------------------------------------------------------------------------------------------------- rollout


def watched_rollouts(trainer, monkeypatch) -> list:
    """The prompts of each rollout by transformers."""
    seen, plain = [], trainer_module().transformers_rollout
    monkeypatch.setattr(trainer_module(), "transformers_rollout", lambda t, p: seen.append(list(p)) or plain(t, p))
    return seen


def trainer_module():
    from open_r1.trainer import generations

    return generations


def test_the_last_half_of_each_group_with_pictures_is_sampled_from_the_noisy_picture(trainer, monkeypatch):
    seen = watched_rollouts(trainer, monkeypatch)
    batch = generation(trainer, 0, 1, 2)  # one picture, text, two pictures
    (sampled,), clean = seen, batch["prompts"]
    other = [a is not b for a, b in zip(sampled, clean, strict=True)]
    assert other == [False, False, True, True, False, False, False, False, False, False, True, True]
    examples = trainer.loader.take(rows(0, 1, 2, group=GROUP))
    for place in (2, 10):
        pictures = [
            noisy_picture(p, 499, 1e9, np.random.default_rng([trainer.args.seed, 0, place // GROUP, number]))
            for number, p in enumerate(examples[place].pictures)
        ]
        chat = trainer.loader.conversation(examples[place].record, pictures)
        expected = process_chat(trainer.processing_class, chat, trainer.fields, trainer.loader.template)
        assert noisy_rollouts.noise_now(trainer) == annealed(500, 1, 10) == 499
        torch.testing.assert_close(sampled[place].images["pixel_values"], expected.images["pixel_values"])
        assert sampled[place] is sampled[place + 1] and torch.equal(sampled[place].ids, clean[place].ids)
    metrics = trainer._metrics["train"]
    assert metrics["rollouts/noisy"] == [4 / 12] and metrics["rollouts/noise_step"] == [499.0]
    totals = torch.tensor(list(trainer._logs["rewards"].values())).sum(dim=0)[-12:]
    assert metrics["rollouts/noisy_reward"] == [pytest.approx(totals[[2, 3, 10, 11]].mean().item())]
    assert metrics["rollouts/clean_reward"] == [pytest.approx(totals[[0, 1, 8, 9]].mean().item())]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "frames"])
def test_a_run_over_clips_samples_half_of_each_group_from_frames_under_noise(tmp_path, monkeypatch, form):
    """Through the script: each frame is under noise of its own draw, in the form of the run, and stored for the
    page."""
    seen, made, plain = watched_rollouts(None, monkeypatch), [], noisy_rollouts.noisy_picture
    watched = lambda picture, step, pixels, rng: made.append(pixels) or plain(picture, step, pixels, rng)  # noqa: E731
    monkeypatch.setattr("open_r1.rollout.noisy_pictures.noisy_picture", watched)
    data, model, out = clip_rows(tmp_path, 2), tiny_with_videos(tmp_path / "model"), tmp_path / "out"
    command = f"--model_name_or_path {model} --data_file_paths {data} --image_folders {tmp_path} --output_dir {out}"
    command += f" --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 4 --video_form {form}"
    command += " --max_steps 2 --reward_funcs accuracy --save_strategy no --report_to none --noise_step 999"
    grpo_jsonl.main([*command.split(), *HALF])
    shares = []
    for sampled in seen:
        assert [sampled[0] is p for p in sampled[:4]] == [True, True, False, False] and sampled[2] is sampled[3]
        name = "pixel_values_videos" if form == "native" else "pixel_values"
        clean, noisy = (sampled[place].images[name].float() for place in (0, 2))
        shares.append((clean != noisy).float().mean().item())
        assert set(made) == {clean.numel() / 3 / 4}  # a frame's pixels, of four frames
    assert len(seen) == 2 and shares[0] > 0.9 > shares[1] > 0.5  # the noise of the last step is a trace
    groups = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
    frames = [Image.open(out / "rollout_images" / name) for name in groups[0]["noisy_videos"][0]["frames"]]
    drawn = np.stack([np.asarray(frame.convert("RGB"), np.int16)[:4, :4] for frame in frames])  # the ground is plain
    assert len(frames) == 4 and len(np.unique(drawn.reshape(4, -1), axis=0)) == 4 and drawn[0].std() > 20
    write_report([out], out / "report.html")
    page = (out / "report.html").read_text()
    assert groups[0]["noisy_videos"][0]["frames"][-1] + '":"data:image/webp' in page.replace(" ", "")


def test_pictures_and_videos_of_a_row_have_noise_of_their_own(tmp_path):
    """Of a still picture beside two equal clips, each is distorted by another draw, and a resumed run by the same."""
    data, model = clip_rows(tmp_path, 1), tiny_with_videos(tmp_path / "model")
    row = json.loads(data.read_text())
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "still.png")
    row |= {"videos": [row.pop("video")] * 2, "image": "still.png", "problem": "<image><video><video>?"}
    data.write_text("".join(json.dumps(row | {"id": str(number)}) + "\n" for number in range(4)))
    trainer = make_trainer(str(model), data, tmp_path, *HALF)
    trainer.state.max_steps = 10
    example, number = trainer.loader.take(rows(0))[0], rows(0)[0]
    noisy, again = (noisy_rollouts.with_noise(trainer, example, number) for _ in range(2))
    ((one, other), (own, _)) = ([video.pixels for video in media.videos] for media in (noisy, example.media))
    assert (np.asarray(own) == example.videos[1].pixels).all() and (one != other).mean() > 0.9
    assert noisy.pictures[0].tobytes() != example.pictures[0].tobytes()
    assert all((a.pixels == b.pixels).all() for a, b in zip(noisy.videos, again.videos, strict=True))
    assert [v.seconds for v in noisy.videos] == [v.seconds for v in example.videos]


def test_the_update_is_that_of_the_clean_pictures(trainer):
    """Log-probs of the packed pass equal those of padded rows with clean pictures; so do loss and gradients."""
    batch = generation(trainer, 0, 2)
    batch["advantages"] = torch.linspace(-1, 1, 8)
    ids, lengths = batch["completion_ids"], batch["completion_mask"].sum(dim=1).tolist()
    clean = [example.prompt for example in trainer.loader.take(rows(0, 2, group=GROUP))]
    with torch.no_grad():
        packed = trainer.score_completions(trainer.model, batch["prompts"], ids, lengths).logps
        alone = trainer.score_completions(trainer.model, clean, ids, lengths, shared=False).logps
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)
    loss, gradients = loss_and_gradients(trainer, batch)
    again, expected = loss_and_gradients(trainer, {**batch, "prompts": clean})
    assert torch.equal(loss, again) and all(torch.equal(value, expected[name]) for name, value in gradients.items())


def test_the_check_of_the_first_rollout_compares_rows_with_the_picture_that_they_saw(trainer, monkeypatch):
    """The same log-probs are far from those of a pass over the clean picture, so rows with noise are compared."""
    gaps, plain, clean = [], rollout_agreement.check_agreement, trainer.loader.take(rows(0))[0].prompt

    def check(trainer, recorder, prompts, ids):
        gaps.append(plain(trainer, recorder, prompts, ids))
        plain(trainer, recorder, [clean] * len(prompts), ids)

    monkeypatch.setattr("open_r1.trainer.transformers_rollout.check_agreement", check)
    monkeypatch.setattr(rollout_agreement, "watched_groups", lambda prompts: [range(2, 4)] * 3)
    trainer.args.noise_step, trainer.max_completion_length = 999, 24
    with pytest.raises(rollout_agreement.Disagreement, match="differ from training's"):
        generation(trainer, 0)
    assert len(gaps) == 1 and gaps[0] < 1e-4


def test_the_watched_groups_of_the_first_rollout_are_of_one_picture_each(trainer, monkeypatch):
    seen = watched_rollouts(trainer, monkeypatch)
    generation(trainer, 0, 1, 2)
    for rows_of_group in rollout_agreement.watched_groups(seen[0]):
        assert len({id(seen[0][row]) for row in rows_of_group}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--prefill_once", "false"], ["--freeze_vision_modules", "true"]], ids=str)
def test_each_way_of_sampling_sees_the_noise(tiny, mixed, tmp_path, flags):
    """Greedy completions of rows with noise are those of a run whose pictures are the noisy ones."""
    trainer = make_trainer(
        tiny, mixed, tmp_path, *HALF, *flags, "--noise_step", "999", "--max_completion_length", "24"
    )
    trainer.model.train()
    trainer.state.max_steps = 10
    trainer.generation_config.do_sample = False
    batch = generation(trainer, 0, 2, 3)
    heads = trainer.loader.take(rows(0, 2, 3))
    pairs = [(e, noisy_rollouts.with_noise(trainer, e, row)) for e, row in zip(heads, rows(0, 2, 3), strict=True)]
    noisy = trainer.loader.with_media(pairs)
    for number, (own, other) in enumerate(zip(heads, noisy, strict=True)):
        rollout = [
            row[: int(m.sum())].tolist()
            for row, m in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
        ]
        clean_row, noisy_row = rollout[number * GROUP], rollout[number * GROUP + 3]
        assert clean_row == greedy(trainer, own) and noisy_row == greedy(trainer, other)
    assert any(rollout[n * GROUP] != rollout[n * GROUP + 3] for n in range(3))


def greedy(trainer, example) -> list[int]:
    from open_r1.trainer.checks.vision_probe import generating_greedily

    with generating_greedily(trainer, [example]):
        return trainer._completions(trainer._tokenize_prompts([])[0], None, {}, 1)[0][0]


@pytest.mark.slow
def test_an_evaluation_and_a_probe_see_clean_pictures(tiny, mixed, tmp_path, monkeypatch):
    trainer = make_trainer(tiny, mixed, tmp_path, *HALF, "--vision_probe", "1", "--max_steps", "1")
    made, plain = [], noisy_rollouts.noisy_picture
    monkeypatch.setattr(noisy_rollouts, "noisy_picture", lambda *args: made.append(args) or plain(*args))
    trainer.model.eval()
    trainer._generate_and_score_completions([{"split": "eval", "row": 0}] * GROUP)
    assert made == [] and "rollouts/noisy" not in trainer._metrics["eval"]
    trainer.train()
    assert "vision/dependency" in trainer.state.log_history[0] and made


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.slow
def test_a_share_of_zero_is_a_run_without_the_flag(tiny, few, tmp_path):
    plain = train(tiny, few, tmp_path / "plain", "across steps")
    zero = train(tiny, few, tmp_path / "zero", "across steps", "--noisy_rollouts", "0")
    assert_same(zero, plain)


@pytest.mark.parametrize("window", ["across steps", pytest.param("longer than a step", marks=pytest.mark.slow)])
def test_a_resumed_run_ends_as_the_undisturbed_one(tiny, few, tmp_path, window):
    flags = (*HALF, "--save_strategy", "steps", "--save_steps", "1")
    whole = train(tiny, few, tmp_path / "a", window, *flags)
    steps = [line["rollouts/noise_step"] for line in whole.state.log_history if "rollouts/noise_step" in line]
    assert steps[0] > steps[-1]
    for step in (1, whole.state.max_steps - 2):
        again = train(tiny, few, tmp_path / "b", window, *flags, checkpoint=tmp_path / "a" / f"checkpoint-{step}")
        assert_same(again, whole)


@pytest.mark.slow
def test_it_learns_something_else_than_a_run_without_noise(tiny, few, tmp_path):
    plain = train(tiny, few, tmp_path / "plain", "across steps")
    noisy = train(tiny, few, tmp_path / "noisy", "across steps", *HALF, "--noise_step", "999")
    assert any(not torch.equal(value, weights(plain)[name]) for name, value in weights(noisy).items())


def test_groups_that_are_sampled_again_have_noise_too(tiny, mixed, tmp_path, monkeypatch):
    trainer = make_trainer(
        tiny, mixed, tmp_path, *HALF, "--resample_zero_variance", "3", "--row_sampling", "difficulty"
    )
    trainer.model.train()
    trainer.state.max_steps = 10
    line = lambda record: int(record.where.rpartition(":")[2])  # noqa: E731
    trainer.reward_funcs = [
        lambda completions, record, **_: [float(i % 2) if line(row) % 3 == 1 else 0.0 for i, row in enumerate(record)]
    ]
    seen = watched_rollouts(trainer, monkeypatch)
    batch = generation(trainer, 0, 2, 4)
    assert len(seen) > 1
    for prompts in seen:
        groups = [prompts[i : i + GROUP] for i in range(0, len(prompts), GROUP)]
        assert all(g[0] is g[1] and g[2] is g[3] and (g[1] is not g[2]) == bool(g[0].images) for g in groups)
    clean = [example.prompt for example in trainer.loader.take_beside(batch["rows"])]
    for prompt, own in zip(batch["prompts"], clean, strict=True):
        assert all(torch.equal(prompt.images[name], value) for name, value in own.images.items())
    pictured = sum(bool(prompt.images) for prompt in clean)
    assert trainer._metrics["train"]["rollouts/noisy"] == [pictured / 2 / len(clean)]


# ---------------------------------------------------------------------------------------------------------------- vLLM


class Engine:
    """An engine that keeps what it was asked for; its log-probs are 50 nats from any model's."""

    stale = False

    def __init__(self, *_):
        self.asked = []

    def sync(self, frozen_vision, label):
        pass

    def generate(self, requests, sampling, check_stop):
        self.asked += requests
        return [[SampledCompletion([100 + i, 120], [-50.0, -50.0]) for i in range(r.n)] for r in requests]


def test_an_engine_gets_noisy_pictures_and_its_log_probs_of_them_correct_nothing(tiny, mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_flags, "find_spec", lambda name: object())
    monkeypatch.setattr(vllm_rollout, "engine_class", lambda mode, videos: Engine)
    trainer = make_trainer(tiny, mixed, tmp_path, *HALF, "--use_vllm", "true", "--vllm_mode", "server")
    trainer.model.train()
    trainer.state.max_steps = 10
    monkeypatch.setattr(trainer.engine, "check", lambda metrics: None)  # these are no log-probs of a model
    batch = generation(trainer, 0, 1, 2)
    asked = trainer.engine.engine.asked
    assert [request.n for request in asked] == [2, 2, 4, 2, 2]
    own, noisy = (asked[i].pictures[0] for i in (0, 1))
    example = trainer.loader.take(rows(0))[0]
    expected = noisy_rollouts.with_noise(trainer, example, rows(0)[0]).pictures[0]
    assert own.tobytes() == example.pictures[0].tobytes() and noisy.tobytes() == expected.tobytes() != own.tobytes()
    parts = [part["image"] for message in asked[1].chat for part in message["content"] if "image" in part]
    assert parts[0].tobytes() == noisy.tobytes() and asked[0].expanded == asked[1].expanded
    seeds = [request.seed + i for request in asked for i in range(request.n)]
    assert len(set(seeds)) == 12 and asked[1].seed == asked[0].seed + 2
    ratios, noisy_rows = batch["importance_sampling_ratio"], [2, 3, 10, 11]
    assert (ratios[noisy_rows] == 1).all() and (ratios[[0, 1, 4, 5, 6, 7, 8, 9]] != 1).all()
    difference = trainer._metrics["train"]["sampling/sampling_logp_difference/mean"][-1]
    assert math.isfinite(difference) and difference > 10  # of the clean rows


# ------------------------------------------------------------------------------------------------------ log and page


def test_rollouts_are_marked_and_show_the_picture_that_was_seen(trainer, tmp_path):
    trainer.rollouts.groups = 3
    generation(trainer, 0, 1, 2)
    first, text, two = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert [[c.get("noisy", False) for c in group["completions"]] for group in (first, text, two)] == [
        [False, False, True, True],
        [False] * 4,
        [False, False, True, True],
    ]
    assert "noisy_images" not in text and (len(first["noisy_images"]), len(two["noisy_images"])) == (1, 2)
    example = trainer.loader.take(rows(0))[0]
    expected = noisy_rollouts.with_noise(trainer, example, rows(0)[0]).pictures[0]
    stored = Image.open(tmp_path / "rollout_images" / first["noisy_images"][0]).convert("RGB")
    assert stored.tobytes() == expected.tobytes()  # small pictures are stored as they are
    thin_rollouts(tmp_path, 3)
    assert all((tmp_path / "rollout_images" / name).exists() for name in first["noisy_images"])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 1.0}\n')
    write_report([tmp_path], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert first["noisy_images"][0] + '":"data:image/webp' in page.replace(" ", "") and "under noise" in page


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"noisy_rollouts": -0.5}, "--noisy_rollouts: got -0.5 of --num_generations 8, expected a share of at least"),
        ({"noisy_rollouts": 1.0}, "--noisy_rollouts: got 1 of"),
        ({"noisy_rollouts": 0.05}, "--noisy_rollouts: got 0.05 of"),  # of 8 completions none
        ({"noisy_rollouts": 0.97}, "--noisy_rollouts: got 0.97 of"),
        ({"noisy_rollouts": float("nan")}, "--noisy_rollouts: got nan of"),
        ({"noisy_rollouts": 0.5, "noise_step": 1000}, "--noise_step: got 1000, expected a step of 1 to 999"),
        ({"noisy_rollouts": 0.5, "noise_step": 0}, "--noise_step: got 0, expected a step of 1 to 999"),
        ({"noisy_rollouts": 0.5, "rollout_ahead": 1}, "--rollout_ahead: got 1 with --noisy_rollouts 0.5, whose"),
    ],
)
def test_what_cannot_act_is_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        check_noisy_rollouts(GRPOArguments(output_dir="o", **flags))


def test_shares_are_rounded_to_whole_completions():
    for share, group, count in ((0.5, 8, 4), (0.33, 6, 2), (0.1, 8, 1), (0.9, 8, 7)):
        args = SimpleNamespace(noisy_rollouts=share, num_generations=group)
        assert noisy_rollouts.noisy_count(args) == count


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--noisy_rollouts 0.5", "--noisy_rollouts: got rows without any picture or video"),
        ("--noise_step 400", "--noise_step: acts only with --noisy_rollouts above 0"),
    ],
)
def test_the_command_refuses_what_cannot_act_before_it_loads_a_model(
    tiny, tmp_path, monkeypatch, capsys, flags, message
):
    monkeypatch.setattr("open_r1.trainer.run.load_model", None)
    path = tmp_path / "text.jsonl"
    path.write_text('{"problem": "What is 1 + 2?", "solution": "3"}\n' * 8)
    command = f"--model_name_or_path {tiny} --data_file_paths {path} --output_dir {tmp_path / 'out'} {flags}"
    with pytest.raises(SystemExit) as refused:
        grpo_jsonl.main(command.split())
    assert message in str(refused.value) + capsys.readouterr().err
