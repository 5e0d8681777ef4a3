"""Faults of TRL 1.16's tool loop, by its source, each beside what is done here; a release that mends one fails here.

The forward passes' and vLLM's faults are held by the tests of those rooms.
"""

import inspect
from functools import cache
from types import SimpleNamespace

import pytest
import trl.chat_template_utils as templates
import trl.generation.vllm_generation as vllm_generation
from helpers.chat_styles import STYLES, processor_of
from PIL import Image
from trl import GRPOTrainer

from open_r1.data.control_tokens import control_tokens
from open_r1.data.record import Record
from open_r1.tools.between import text_between
from open_r1.tools.calls import MalformedCall, read_calls
from open_r1.tools.limits import ToolLimits
from open_r1.tools.sandboxed import parts_returned
from open_r1.tools.toolbox import ToolAnswer, make_toolbox

PICTURE = Image.new("RGB", (56, 28))


@cache
def loop() -> str:
    return inspect.getsource(GRPOTrainer._tool_call_loop)


def test_a_picture_that_a_tool_returns_would_be_shown_as_its_repr():
    assert "content = result if isinstance(result, list) else str(result)" in loop()
    (part,) = parts_returned(PICTURE, None)
    assert isinstance(part, Image.Image) and part.size == PICTURE.size


def test_an_answer_over_the_length_would_be_dropped_without_a_word():
    dropped = loop()[loop().index("overlong = [") : loop().index("# Keep only non-overlong items")]
    assert "del completions[" in dropped and "_log_metric" not in dropped and "logger" not in dropped
    assert ToolLimits(turns=1, images=1).reached(0, 1, 1) == "max_tool_images 1"


def test_a_malformed_call_would_be_plain_text():
    source = inspect.getsource(templates.parse_response)
    assert "Fallback: decode as plain text" in source
    (call,) = read_calls('<tool_call>{"name": "zoom", </tool_call>')
    assert isinstance(call, MalformedCall)


def test_tools_would_see_no_pictures_and_have_no_deadline():
    assert '(name, sync_tool_dict[name](**function["arguments"]))' in loop() and "timeout" not in loop()
    toolbox = make_toolbox(["zoom"], "", seconds=20)
    call = read_calls('<tool_call>{"name": "zoom", "arguments": {"bbox_2d": [0, 0, 28, 14]}}</tool_call>')
    (answer,) = toolbox.answer(call, [PICTURE], Record("1", (), "", (), ""))
    assert [picture.size for picture in answer.pictures] == [(56, 28)]


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|image_pad|>", "<|im_start|>"])
def test_a_tools_text_would_be_tokenized_with_its_control_tokens(mark: str):
    processor = processor_of(STYLES["chatml"])
    fake = SimpleNamespace(
        processing_class=processor.tokenizer, _tokenizer=processor.tokenizer, _is_vlm=False, chat_template=None
    )
    fake.chat_template_kwargs, message = {}, {"role": "tool", "name": "f", "content": f"a{mark}b"}
    plain = GRPOTrainer._get_tool_suffix_ids(fake, [{**message, "content": "ab"}])
    marked = GRPOTrainer._get_tool_suffix_ids(fake, [message])
    number = processor.tokenizer.convert_tokens_to_ids(mark)
    assert marked.count(number) == plain.count(number) + 1
    between, _ = text_between(processor, [ToolAnswer("f", (f"a{mark}b",))], {}, control_tokens(processor))
    without, _ = text_between(processor, [ToolAnswer("f", ("ab",))], {}, control_tokens(processor))
    ids = [processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (between, without)]
    assert ids[0].count(number) == ids[1].count(number)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "smolvlm", "idefics3", "gemma3", "llava_next"])
def test_templates_that_do_not_list_tools_would_be_refused(family: str):
    """Ours need none: `tests/tools/test_between.py` offers tools by each of these templates."""
    processor = processor_of(STYLES["chatml"])
    path = templates._CHAT_TEMPLATES_DIR / f"{family}.jinja"
    processor.tokenizer.chat_template = path.read_text(encoding="utf-8")
    assert not templates.supports_tool_calling(processor.tokenizer)
    assert not make_toolbox(["zoom"], processor.tokenizer.chat_template).native


def test_one_sampled_image_token_would_drop_the_pixels_of_the_whole_batch():
    """Ours refuse sampled image tokens: `rollout/image_tokens.py`."""
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "# Drop all images: safer than partial trim which is error-prone" in source
    assert 'forward_kwargs.pop("pixel_values", None)' in source


def test_vllms_server_would_hand_a_rank_the_completions_of_another_where_ranks_differ_in_rows():
    source = inspect.getsource(vllm_generation.VLLMGeneration.generate)
    assert "accelerator.process_index * len(prompts)," in source and "all_completion_ids[process_slice]" in source


def test_ranks_would_not_agree_on_the_length_of_the_loop():
    head = loop()[loop().index("while idxs_with_tool and ") :]
    assert head.startswith("while idxs_with_tool and iteration_num < self.max_tool_calling_iterations:")
    assert "all_reduce" not in loop() and "gather" not in loop().replace("asyncio.gather", "")
