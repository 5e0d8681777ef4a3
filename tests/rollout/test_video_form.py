"""`--video_form`: a processor's own form, frames as pictures, or a refusal by name before a model is loaded."""

import json
from copy import copy, deepcopy
from pathlib import Path

import pytest
import torch
from helpers import families
from helpers.clips import clip_rows, tiny_with_videos
from helpers.families.rows import BROKEN_VIDEOS
from helpers.families.tiny import processor_of
from transformers import AutoProcessor

from open_r1.data.chat import messages, with_images
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.prompt_tokens import prompt_tokens
from open_r1.data.record import Record
from open_r1.data.video.inputs import as_frames, grey_video
from open_r1.data.video.types import FrameSampling, Video
from open_r1.errors import DataError, UsageError
from open_r1.models.loading import set_frame_limits
from open_r1.rollout.image_tokens import count_runs, refuse_missing_media, refuse_mixture
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompt_loader import PromptLoader
from open_r1.rollout.video_form import VideoRows, resolved_form

CLIP = Video(("a.mp4",))
ROW = Record("1", (), "", (), "", videos=(CLIP,), where="rows.jsonl:4")
BESIDE = Record("2", ("p.png",), "", (), "", videos=(CLIP,), where="rows.jsonl:5")


@pytest.mark.parametrize(
    ("family", "form"),
    [("qwen2_5_vl", "native"), ("internvl", "native"), ("gemma3", "frames"), ("llava", None), ("kimi_k25", None)],
)
def test_auto_is_what_processor_template_and_family_take(family, form):
    found, reason = resolved_form("auto", processor_of(family), families.config_of(family).model_type)
    assert found == form and bool(reason) == (form is None)
    assert resolved_form("frames", processor_of(family), family) == ("frames", "")


@pytest.mark.parametrize("family", ["llava", *sorted(BROKEN_VIDEOS)])
def test_what_takes_no_videos_is_refused_by_name_with_the_remedy(family):
    with pytest.raises(UsageError, match=f"--video_form: got native for a {family}, expected auto or frames: "):
        resolved_form("native", processor_of(family), family)
    rows = VideoRows.of_run("auto", processor_of(family), family)
    (problem,) = rows.problems(ROW)
    assert str(problem).startswith("rows.jsonl:4: video: ") and family in str(problem)
    assert "--video_form frames" in str(problem)
    assert not list(VideoRows.of_run("frames", processor_of(family), family).problems(ROW))


def test_a_template_that_leaves_videos_out_is_no_native_form(tiny):
    form, reason = resolved_form("auto", AutoProcessor.from_pretrained(tiny), "qwen2_5_vl")
    assert form is None and "the chat template leaves videos out" in reason


def test_what_a_processor_takes_neither_together_nor_one_by_one_is_refused_with_the_row():
    processor = copy(processor_of("smolvlm"))
    plain = processor.replace_video_token  # of a processor that numbers the videos of a conversation
    processor.replace_video_token = lambda inputs, video_idx, **more: f"{video_idx}{plain(inputs, video_idx, **more)}"
    rows = VideoRows.of_run("auto", processor, "smolvlm")
    assert rows.shown is None and not list(rows.problems(ROW)) and rows.shown == "native"
    assert "drops the picture" in str(next(iter(rows.problems(BESIDE))))
    with pytest.raises(DataError, match=r"rows\.jsonl:4: video: got videos of 2, 4 frames, expected equally many"):
        refuse_mixture(ROW, 0, [grey_video(2, 8, 8, 1.0), grey_video(4, 8, 8, 1.0)], rows.fields)
    refuse_mixture(ROW, 0, [grey_video(2, 8, 8, 1.0)] * 2, rows.fields)


@pytest.mark.parametrize("form", ["native", "frames"])
def test_a_loader_shows_a_clip_in_the_form_of_the_run(form, tmp_path: Path):
    path, model = clip_rows(tmp_path, count=1), tiny_with_videos(tmp_path / "model")
    records, processor = load_records([path], [tmp_path]), AutoProcessor.from_pretrained(model)
    fields, frames = prompt_fields(processor, video_form=form), FrameSampling(max_pixels=64 * 48)
    set_frame_limits(processor, frames)
    conversation = lambda record, pictures: with_images(messages(record), pictures)  # noqa: E731
    loader = PromptLoader(lambda row: records[row["row"]], conversation, processor, fields, 1, {}, frames=frames)
    (example,) = loader.take([{"split": "train", "row": 0}])
    request, shown = loader.request(example, 1, 0), len(example.videos[0].pixels)
    assert example.pictures == [] and shown == 4 and "<video>" in example.conversation[0]["content"]
    if form == "native":
        assert request.pictures == [] and len(request.videos) == 1
        assert example.prompt.images["video_grid_thw"].tolist() == [[2, 4, 4]]  # 64 x 48 pixels are not enlarged
        assert count_runs(example.prompt.ids, fields.video_ids) == 1
    else:
        assert len(request.pictures) == shown and request.videos == []
        assert count_runs(example.prompt.ids, fields.image_ids) == shown
        assert "0.5s: " in processor.tokenizer.decode(example.prompt.ids)


def test_a_video_of_one_frame_shows_it_twice_where_the_processor_takes_no_single_one(tmp_path: Path):
    path, processor = clip_rows(tmp_path, count=1), deepcopy(processor_of("qwen3_vl"))
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"nframes": 1}) + "\n")
    records, fields = load_records([path], [tmp_path]), prompt_fields(processor)
    conversation = lambda record, pictures: with_images(messages(record), pictures)  # noqa: E731
    loader = PromptLoader(lambda row: records[row["row"]], conversation, processor, fields, 1, {})
    (example,) = loader.take([{"split": "train", "row": 0}])
    (sent,) = loader.request(example, 1, 0).videos
    assert example.prompt.images["video_grid_thw"][0, 0] == 1 and len(example.videos[0].pixels) == 1
    assert sent.pixels.shape[0] == len(sent.seconds) == 2 and (sent.pixels[0] == sent.pixels[1]).all()
    assert prompt_tokens(records[0], processor, None) == len(example.prompt.ids)
    assert not prompt_fields(processor_of("qwen2_5_vl")).doubles


def test_a_prompt_without_its_video_is_refused():
    fields = prompt_fields(processor_of("qwen2_5_vl"))
    with pytest.raises(DataError, match=r"rows\.jsonl:4: video: got video tokens for 0 of 1 video\(s\)"):
        refuse_missing_media(ROW, torch.tensor([70, 71]), 0, fields, "text", [grey_video(2, 8, 8, 1.0)])
    with pytest.raises(DataError, match="model's video token in a text row"):
        refuse_missing_media(ROW, torch.tensor([70, *fields.video_ids]), 0, fields, "text")


def test_frames_stand_behind_their_times():
    chat = [{"role": "user", "content": [{"type": "video", "video": grey_video(2, 4, 4, 3.0)}]}]
    assert [part.get("text") for part in as_frames(chat)[0]["content"]] == ["0.0s: ", None, "\n1.5s: ", None, "\n"]
