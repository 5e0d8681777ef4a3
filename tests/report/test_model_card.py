"""What lies beside the weights: a card whose snippet runs, with evaluations, without secrets; and what is pushed."""

import ast
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers.repository import run_script
from markdown_it import MarkdownIt
from transformers import TrainingArguments

from open_r1.errors import UsageError
from open_r1.evaluation.metrics import summarize
from open_r1.evaluation.predictions_file import save_summary
from open_r1.redaction import command_line
from open_r1.report.model_card import Card, add_evaluations, write_card
from open_r1.tasks.recipe import Recipe, copy_recipe, read_recipe
from open_r1.tasks.registry import TASKS
from open_r1.trainer.outputs import hub
from open_r1.trainer.outputs.hub import HubUploads

RECIPE = Recipe("seg", "think", "mask_iou", 12, base_model="Qwen/Qwen2.5-VL-3B-Instruct")
CARD = Card(
    method="GRPO",
    name="me/model",
    instruction=TASKS["seg"].prompts["think"],  # holds braces and quotes
    data=["train.jsonl"],
    rows=7,
    data_sha256="ab" * 32,
    command=command_line(["grpo_jsonl.py", "--hub_token", "hf_secret"]),
    ranks=2,
    versions={"torch": "2"},
    rewards=[("accuracy", 1.0), ("format", 0.5)],
    settings={"beta": 0.04},
)
HISTORY = [{"step": 2, "reward": 1.0}, {"step": 4, "eval_reward": 0.25, "eval_rewards/format/mean": 0.5}]


@pytest.fixture
def card(tmp_path) -> Path:
    (tmp_path / "reward_curve.png").write_bytes(b"png")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_card(folder, CARD, RECIPE, tmp_path, step=4, history=HISTORY)
    return folder / "README.md"


def test_it_says_what_the_model_is_and_how_it_was_made(card):
    text = card.read_text()
    assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\nbase_model: Qwen/")
    for fact in (
        "`accuracy` (1), `format` (0.5)",
        "`mask_iou`",
        "train.jsonl: 7 rows, sha256 abab",
        "4 steps on 2 ranks",
    ):
        assert fact in text
    assert "reward 0.250, rewards/format/mean 0.500" in text and (card.parent / "reward_curve.png").is_file()
    assert "hf_secret" not in text and "--hub_token ..." in text


def test_it_names_the_judge(tmp_path, card):
    assert "judge" not in card.read_text()
    judged = replace(CARD, judge="m at http://h/v1, JUDGE_GROUP=rank")
    write_card(card.parent, judged, RECIPE, tmp_path, step=4, history=HISTORY)
    (table,) = re.findall(r"\| \| \|\n\|---\|---\|\n((?:\|.*\|\n)+)", card.read_text())
    assert "| judge, where rewards asked one | m at http" in table and "JUDGE" in table and "| data |" in table


@pytest.mark.parametrize(("form", "shown"), [("native", "as videos"), ("frames", "as pictures with their times")])
def test_it_says_how_the_videos_of_its_rows_were_shown(tmp_path, card, form, shown):
    assert "video" not in card.read_text()
    recipe = replace(RECIPE, video_form=form, video_fps=2.0, video_max_frames=32, video_max_pixels=100_352)
    write_card(card.parent, CARD, recipe, tmp_path, step=4, history=HISTORY)
    text = card.read_text()
    assert f"| videos | 2 frames a second, at most 32 of 100352 pixels, shown {shown} |" in text
    assert "`eval/infer.py --video clip.mp4`" in text
    (table,) = re.findall(r"\| \| \|\n\|---\|---\|\n((?:\|.*\|\n)+)", text)
    assert "| data |" in table and "| versions |" in table


def test_its_snippet_asks_the_model_about_a_picture(card, tiny, digits, capsys):
    code = card.read_text().split("```python\n")[1].split("```")[0]
    picture = next((digits / "images").glob("*.png"))
    code = code.replace('"me/model"', repr(tiny)).replace("picture.png", str(picture))
    script = card.with_name("snippet.py")
    script.write_text(code)
    snippet = runpy.run_path(str(script))
    assert snippet["prompt"] == TASKS["seg"].prompts["think"].replace("{question}", "What is in this picture?")
    assert len(snippet["ids"][0]) > snippet["inputs"]["input_ids"].shape[1] and capsys.readouterr().out.strip()


def line(right: bool) -> dict:
    prediction = {"mode": "think", "row": f"val:{right}", "split": "val", "task": "seg", "sample": 0, "right": right}
    return (
        prediction
        | {"score": float(right), "format": 1.0, "parsed": "x", "measures": {}, "by": {}, "tokens": 9}
        | {"truncated": False}
    )


HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png) <https://evil.example>",
    "a\n\n# heading\n\n- list\n\n> quote",
    "a\u2028b\u0085c | d | e ||",
    "```\n</code>\n<b>",
    "${x} {{ x }} {% x %} &lt;script&gt; &#60;b&#62; \\",
    "https://evil.example www.evil.example",
    "---\nlicense: mit\n--- # c: d",
    "<!-- evaluations: begin --><!-- evaluations: end -->",
    "\"; import os; os.system('x') #",
]


def shape(path: Path) -> tuple[list[str], list[str], dict]:
    """(kinds of blocks, kinds of what stands in lines, the front matter) of a card as Markdown is read."""
    front, _, rest = path.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    blocks = MarkdownIt("commonmark").enable("table").parse(rest)
    inside = [child.type for block in blocks for child in block.children or ()]
    code = [block.content for block in blocks if block.type == "fence" and block.info == "python"]
    ast.parse(code[0])
    return [block.type for block in blocks], [kind for kind in inside if kind != "text"], yaml.safe_load(front)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_makes_html_links_or_structure(tmp_path, text):
    def written(name: str, value: str) -> Path:
        rewards, history = [(value, 1.0)], [{"step": 4, f"eval_rewards/{value}/mean": 0.5, "eval_reward": 0.1}]
        card = replace(CARD, name=value, data=[value], command=value, rewards=rewards, hub_dataset=value)
        card = replace(card, settings={"optim": value}, versions={"torch": value})
        recipe = replace(RECIPE, base_model=value, task_type=value, reward_method=value)
        folder = tmp_path / name
        folder.mkdir()
        write_card(folder, card, recipe, tmp_path, step=4, history=history)
        part = {"splits": {value: summarize([line(True) | {"row": "val:1"}])["think"]["splits"]["val"]}}
        (tmp_path / f"{name}.eval").mkdir()
        (tmp_path / f"{name}.eval" / "summary.json").write_text(json.dumps({"think": part}))
        add_evaluations(folder, [tmp_path / f"{name}.eval"])
        return folder / "README.md"

    blocks, inside, front = shape(written("plain", "plain"))
    got = shape(written("hostile", text))
    assert got[0] == blocks and got[1] == inside
    assert got[2] == front | {"base_model": text, "datasets": [text]}
    prose = re.sub(
        r"^(```+).*?^\1$|`[^`\n]*`", "", (tmp_path / "hostile" / "README.md").read_text(), flags=re.M | re.S
    )
    assert "https://" not in prose.replace("\\://", "").partition("\n---\n")[2]


def test_evaluations_are_put_in_again_and_again(card, tmp_path):
    for rights in ([True, False], [True, True]):
        save_summary(tmp_path / "eval", summarize([line(right) | {"row": f"v:{i}"} for i, right in enumerate(rights)]))
        add_evaluations(card.parent, [tmp_path / "eval"])
    text = card.read_text()
    assert "| eval, think: val | 2 | 1.000 [0.342, 1.000] (IoU > 0.5) | 100.0% | 100.0% | 9 |" in text
    assert text.count("| eval,") == 1 and "No evaluation" not in text and "## How it was made" in text


def test_what_is_no_card_or_no_evaluation_is_refused(card, tmp_path):
    with pytest.raises(UsageError, match=r"no summary\.json"):
        add_evaluations(card.parent, [tmp_path])
    with pytest.raises(UsageError, match="no model card of this project"):
        add_evaluations(tmp_path, [tmp_path])


def test_a_recipe_goes_with_what_is_made_of_the_model(tmp_path):
    (tmp_path / "merged").mkdir()
    copy_recipe(str(tmp_path), tmp_path / "merged")
    assert not (tmp_path / "merged" / "recipe.json").exists()
    RECIPE.save(tmp_path)
    copy_recipe(str(tmp_path), tmp_path / "merged")
    assert read_recipe(str(tmp_path / "merged")) == RECIPE


# ---------------------------------------------------------------------------------- pushing


class Done:
    def done(self):
        return True


@pytest.fixture
def pushed(monkeypatch, tmp_path):
    """(a trainer whose uploads are written down, the uploads)."""
    uploads = []
    api = SimpleNamespace(upload_folder=lambda **options: uploads.append(options) or Done())
    monkeypatch.setattr(hub, "hf_api", lambda: api)
    trainer = HubUploads()
    trainer.args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer.hub_model_id, trainer.push_in_progress = "me/model", None
    trainer.state = SimpleNamespace(global_step=5)
    trainer.is_world_process_zero = lambda: True
    trainer._finish_current_push = lambda: None
    return trainer, uploads


def test_the_model_folder_is_pushed_not_the_run(pushed, tmp_path):
    trainer, uploads = pushed
    trainer.push_to_hub("Model save")
    assert [Path(upload["folder_path"]) for upload in uploads] == [tmp_path / "checkpoint"]
    assert "optimizer*" in uploads[0]["ignore_patterns"] and uploads[0]["repo_id"] == "me/model"


STRATEGIES = {
    "end": [],
    "every_save": [None],
    "checkpoint": [None, "last-checkpoint"],
    "all_checkpoints": [None, "checkpoint-5"],
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_checkpoints_are_pushed_as_the_strategy_says(pushed, tmp_path, strategy):
    trainer, uploads = pushed
    trainer.args.hub_strategy = strategy
    trainer._push_from_checkpoint(str(tmp_path / "checkpoint-5"))
    assert [upload.get("path_in_repo") for upload in uploads] == STRATEGIES[strategy]
    for upload in uploads:
        assert ("optimizer*" in (upload["ignore_patterns"] or ())) == ("path_in_repo" not in upload)


@pytest.mark.slow
def test_every_checkpoint_of_a_run_has_card_and_recipe(tiny, digits, tmp_path):
    flags = f"--task_type digits --data_file_paths {digits}/train.jsonl --image_folders {digits} --bf16 false"
    flags += " --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 20 --max_steps 1"
    flags += " --save_steps 1 --gradient_checkpointing false"
    run_script("src/open_r1/grpo_jsonl.py", "--model_name_or_path", tiny, "--output_dir", tmp_path, *flags.split())
    for folder in ("checkpoint-1", "checkpoint"):
        expected = Recipe("digits", "think", "digits", 20, base_model=tiny, box_space="resized")
        expected = replace(expected, video_fps=2.0, video_max_frames=32, video_max_pixels=100_352, video_form="auto")
        assert read_recipe(str(tmp_path / folder)) == expected
        assert "`accuracy` (1), `format` (1)" in (tmp_path / folder / "README.md").read_text()
        assert not (tmp_path / folder / "training_args.bin").exists()
    assert not (tmp_path / "README.md").exists()
