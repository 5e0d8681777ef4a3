"""Pictures that a chat template drops, and image tokens in a completion, are errors that name the row."""

import pytest
import torch
from helpers import families
from helpers.cpu_time import cpu_seconds
from helpers.trainers import make_trainer

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.data.chat import messages, with_images
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.errors import DataError
from open_r1.models.loading import load_processor
from open_r1.rollout.annotation import annotator, box_frame
from open_r1.rollout.image_tokens import ImageTokenSampled, count_runs, refuse_image_tokens, refuse_missing_media
from open_r1.rollout.processor_fields import PromptFields, prompt_fields
from open_r1.rollout.prompt_loader import PromptLoader
from open_r1.trainer.sft_batches import Collator


@pytest.mark.parametrize("family", families.NAMES)
def test_no_family_raises_a_false_alarm(family):
    model = families.FAMILIES[family]()
    fields = families.rules_of(model)
    for pictures in range(4):
        ids = families.prompt(model, pictures, text=9, seed=pictures)["input_ids"][0]
        assert (count_runs(ids, {families.IMAGE}) == 0) == (pictures == 0)
        refuse_missing_media(RECORD, ids, pictures, fields, "it need not be looked at")
        if pictures:
            with pytest.raises(DataError, match=r"a\.jsonl:7: images: got image tokens for 0 of"):
                refuse_missing_media(RECORD, ids[ids != families.IMAGE], pictures, fields, "")
            with pytest.raises(DataError, match=r"a\.jsonl:7: prompt: got \d+ run"):
                refuse_missing_media(RECORD, ids, 0, fields, "")


RECORD = Record("7", ("a.png",), "", (Turn("user", "What?"),), "1", where="a.jsonl:7")


def test_pictures_side_by_side_are_one_run_and_no_false_alarm():
    fields = PromptFields(image_ids=frozenset({7}), placeholder="<image>")
    ids = torch.tensor([1, 7, 7, 7, 7, 2])
    refuse_missing_media(RECORD, ids, 2, fields, "a<image><image>b")
    with pytest.raises(DataError, match="got image tokens for 1 of 2 picture"):
        refuse_missing_media(RECORD, ids, 2, fields, "a<image>b")


NO_PICTURES = "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("sft", [False, True])
def test_a_template_that_drops_pictures_is_named_with_the_row(tiny, digits, sft):
    processor = load_processor(VLMConfig(model_name_or_path=tiny), TaskArguments())
    records = load_records(str(digits / "train.jsonl"), str(digits), reward_methods="digits").select([5])
    annotate = annotator(box_frame("qwen2_5_vl", processor), "direct")

    def take() -> None:
        if sft:
            Collator(records, processor, "{question}", annotate)([{"row": 0}])
        else:
            conversation = lambda record, pictures: with_images(messages(record), pictures)  # noqa: E731
            record_of, fields = (lambda row: annotate(records[row["row"]])), prompt_fields(processor)
            loader = PromptLoader(record_of, conversation, processor, fields, 1, {})
            loader.take([{"split": "train", "row": 0}])

    take()
    processor.chat_template = processor.tokenizer.chat_template = NO_PICTURES
    with pytest.raises(DataError, match=r"train\.jsonl:6: images: got image tokens for 0 of 1 picture"):
        take()


def test_a_look_at_a_prompt_takes_microseconds():
    fields, ids = PromptFields(image_ids=frozenset({7})), torch.randint(0, 8, (4096,))

    def look() -> None:
        for _ in range(200):
            refuse_missing_media(RECORD, ids, 1, fields, "")

    assert cpu_seconds(look, 0.2) < 0.2  # a millisecond a prompt


def test_a_completion_with_an_image_token_is_an_error():
    refuse_image_tokens([RECORD] * 2, [[1, 2], [3]], [7, 8], "vLLM")
    with pytest.raises(
        ImageTokenSampled, match=r"a\.jsonl:7: completion: got token 8, .* from vLLM \(1 of 2 completions\)"
    ):
        refuse_image_tokens([RECORD] * 2, [[1, 2], [3, 8]], [7, 8], "vLLM")


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--prefill_once false"])
def test_a_ban_that_did_not_act_ends_the_run(tiny, digits, tmp_path, flags):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path, "--max_steps", "2", *flags.split())
    image = trainer.processing_class.image_token_id
    head = trainer.model.lm_head  # says the image token, and nothing else
    head.register_forward_hook(lambda module, args, out: out.index_fill(-1, torch.tensor(image), 1e4))
    trainer.generation_config.suppress_tokens = None
    with pytest.raises(
        ImageTokenSampled, match=rf"train\.jsonl:\d+: completion: got token {image}, .* from transformers"
    ):
        trainer.train()
