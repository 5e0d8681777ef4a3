"""Attention of a completion: eager's softmax rows in every family, maps where the pixels are, page and film."""

import base64
import gc
import hashlib
import json
import re

import numpy as np
import pytest
import torch
from helpers import families
from helpers.families.rows import TRAINED
from helpers.families.tool_turns import tool_rows
from helpers.page_layout import unseen
from helpers.repository import REPO, run_script
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from open_r1.data.chat import messages, with_images
from open_r1.data.images import open_image
from open_r1.data.record import parse_row
from open_r1.errors import UsageError
from open_r1.evaluation.attention.layout import locate
from open_r1.evaluation.attention.maps import attend, attention_rows, chosen_layer, keeps_keys, with_completion
from open_r1.evaluation.attention.tiles import project_onto_picture
from open_r1.models.model_parts import image_token_of
from open_r1.report.attention_film import FRAME_WIDTH, HEIGHT, frames, write_gif, write_mp4
from open_r1.report.attention_page import write_attention_page
from open_r1.report.heat import HIGH, LOW, Attention, heat, levels
from open_r1.rollout.row_in_progress import continued
from open_r1.rollout.token_texts import token_texts
from open_r1.tasks.registry import TASKS

SAID = [20, 30, 40, 50, 21]
HOSTILE = '</script><script>alert("x")</script> \ud800 \u2028 {{ 7 * 7 }} \x00 <style>'


def rows_of(model, fields, said, *layer, **head):
    """(C, P + C - 1) of the queries that predict these tokens behind a prompt."""
    return attention_rows(model, with_completion(fields, said), fields["input_ids"].shape[1], *layer, **head)


def eager_attentions(model, fields):
    """(layers, heads, C, P + C - 1) of the queries that predict `SAID`, by transformers' eager attention."""
    more = torch.zeros(1, len(SAID) - 1, dtype=torch.long)
    types = {name: torch.cat([fields[name], more], 1) for name in fields if name.endswith("token_type_ids")}
    ids = torch.cat([fields["input_ids"], torch.tensor([SAID[:-1]])], 1)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model.base_model(**{**fields, **types, "input_ids": ids}, output_attentions=True, use_cache=False)
    return [layer[0, :, fields["input_ids"].shape[1] - 1 :] for layer in out.attentions]


@pytest.mark.parametrize("family", families.NAMES)
def test_rows_are_those_of_eager_attention(family):
    model = families.ready(family)
    fields = families.prompt(model, 2, 9, seed=0)
    before = model.config.get_text_config()._attn_implementation
    ours = [rows_of(model, fields, SAID, layer) for layer in range(model.config.get_text_config().num_hidden_layers)]
    third = rows_of(model, fields, SAID, 1, head=3)
    torch.testing.assert_close(rows_of(model, fields, SAID[:1], 0), ours[0][:1, : 1 - len(SAID)])
    assert model.config.get_text_config()._attn_implementation == before
    eager = eager_attentions(model, fields)
    for mine, theirs in zip(ours, eager, strict=True):
        torch.testing.assert_close(mine, theirs.mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.sum(1), torch.ones(len(SAID)), atol=1e-5, rtol=0)
    torch.testing.assert_close(third, eager[1][3], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_what_is_kept_does_not_grow_with_layers():
    """Tensors alive when the last layer begins, layer 0 being watched."""
    alive = {}
    for layers in (2, 6):
        model = families.tiny("qwen2_5_vl", num_hidden_layers=layers, layer_types=["full_attention"] * layers)

        def count(*_, layers=layers):
            gc.collect()
            alive[layers] = sum(thing.numel() for thing in gc.get_objects() if type(thing) is torch.Tensor)

        model.base_model.language_model.layers[-1].register_forward_pre_hook(count)
        rows_of(model, families.prompt(model, 1, 9, seed=0), SAID, 0)
        del model
    assert alive[2] == alive[6]


PLACED = [name for name in families.NAMES if name != "aria"]  # aria's tokens look where they were taught to


@pytest.fixture(scope="module", params=PLACED)
def near_sighted(request):
    """A family's model whose vision tower looks at each patch alone, so that a token tells where its pixels are."""
    model = families.tiny(request.param)
    between = re.compile(r"(visual|vision).*(attn|attention)\.(proj|out_proj|projection_layer)\.")
    mixing = [p for name, p in model.named_parameters() if between.search(name)]
    assert len(mixing) == 4  # two layers, weight and bias
    for parameter in mixing:
        torch.nn.init.zeros_(parameter)
    return model


def shown(pictures):
    """A conversation with pictures, words around each."""
    parts = [part for each in pictures for part in ({"type": "image", "image": each}, {"type": "text", "text": "and"})]
    return [{"role": "user", "content": [{"type": "text", "text": "See"}, *parts]}]


def prompt_fields(model, pictures):
    """The processor's fields, and the features (N, D) of all image tokens."""
    fields = families.fields_of(model, shown(pictures))
    names = ("pixel_values", "image_grid_thw", "image_sizes", "batch_num_images", "pixel_attention_mask")
    with torch.no_grad():
        out = model.base_model.get_image_features(**{name: fields[name] for name in names if name in fields})
    parts = out.pooler_output if isinstance(out.pooler_output, list | tuple) else [out.pooler_output]
    return fields, torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


@pytest.mark.parametrize("shapes", [[(112, 56)], [(84, 84)], [(56, 112)], [(112, 56), (56, 112)]], ids=str)
def test_a_token_lies_on_the_map_where_its_pixels_are(near_sighted, shapes):
    model = near_sighted
    width, height = shapes[-1]
    grey = [np.full((h, w, 3), 120, np.uint8) for w, h in shapes]
    fields, before = prompt_fields(model, [Image.fromarray(pixels) for pixels in grey])
    tiles = locate(model, fields, shapes)
    at = (fields["input_ids"][0] == families.IMAGE).nonzero()[:, 0].numpy()
    for x, y in ((0.1, 0.1), (0.6, 0.3), (0.9, 0.9), (0.4, 0.8)):
        spotted = grey[-1].copy()
        row, column = int(y * height), int(x * width)
        spotted[row - 2 : row + 3, column - 2 : column + 3] = 255
        _, after = prompt_fields(model, [Image.fromarray(pixels) for pixels in [*grey[:-1], spotted]])
        values = np.zeros((1, fields["input_ids"].shape[1]))
        values[0, at] = (after - before).norm(dim=1).numpy()
        *others, mine = [project_onto_picture(values, part)[0] for part in tiles]
        rows, columns = mine.shape
        cell = np.unravel_index(mine.argmax(), mine.shape)
        assert abs((cell[0] + 0.5) / rows - y) <= 0.75 / rows and abs((cell[1] + 0.5) / columns - x) <= 0.75 / columns
        assert all(np.abs(other).max() < 1e-5 for other in others)


def test_arias_tokens_lie_where_its_projector_looked():
    """A projector that looks alike on each of the 5 x 5 patches that the picture reaches, and on no other."""
    model = families.tiny("aria")
    torch.nn.init.zeros_(model.base_model.multi_modal_projector.cross_attn.q_proj.weight)
    torch.nn.init.zeros_(model.base_model.multi_modal_projector.cross_attn.multihead_attn.in_proj_bias)
    sizes = [(56, 56), (112, 56), (42, 84)]
    fields = families.fields_of(model, shown([Image.new("RGB", size, "teal") for size in sizes]))
    tiles = dict(zip(sizes, locate(model, fields, sizes), strict=True))
    assert {size: (tile.rows, tile.columns) for size, (tile,) in tiles.items()} == {
        (56, 56): (5, 5),
        (112, 56): (3, 5),
        (42, 84): (5, 3),
    }
    for (tile,) in tiles.values():
        torch.testing.assert_close(
            tile.spread, np.full((4, tile.rows * tile.columns), 1 / tile.rows / tile.columns, np.float32)
        )


def test_what_does_not_fit_is_refused():
    model = families.FAMILIES["gemma3"]()
    fields = families.prompt(model, 2, 9, seed=0)
    with pytest.raises(UsageError, match=r"image tokens of gemma3: got 8 in the prompt, expected 4; set"):
        locate(model, fields, [(28, 28)])
    with pytest.raises(UsageError, match="--layer: got 4, expected 0 to 3"):
        chosen_layer(model, 4, None)
    with pytest.raises(UsageError, match="--head: got -1, expected 0 to 3"):
        chosen_layer(model, None, -1)
    with pytest.raises(UsageError, match="completion: got no token"):
        with_completion(fields, [])
    assert chosen_layer(model, None, None) == 3
    model.config.text_config.layer_types = ["full_attention", *["sliding_attention"] * 3]
    assert chosen_layer(model, None, None) == 0 and chosen_layer(model, 2, 3) == 2


def test_a_layer_that_carries_a_state_has_no_map():
    model = families.tiny("qwen3_5")
    kinds = model.config.get_text_config().layer_types
    layer, full = kinds.index("linear_attention"), [n for n, kind in enumerate(kinds) if kind == "full_attention"]
    with pytest.raises(
        UsageError, match=rf"--layer: got {layer}, of kind linear_attention, .* expected one of {full[0]}"
    ):
        chosen_layer(model, layer, None)
    assert chosen_layer(model, None, None) in full


def test_an_attention_that_is_of_no_layer_is_refused():
    model = families.tiny("llava_zamba2")
    with pytest.raises(UsageError, match="--layer: got 1, which has no attention to show; choose another"):
        rows_of(model, families.prompt(model, 1, 9, seed=0), SAID, 1)


SAMPLES = ["qwen3_5", "lfm2_vl", "gemma4_kvshare", "kimi_k25", "glm4v"]  # a state, dropped arguments, shared keys, MLA


MAPPED = [name for name in TRAINED if name != "llava_zamba2"]  # whose one attention is of no layer


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name in SAMPLES else pytest.mark.slow) for name in MAPPED]
)
def test_every_family_has_a_map_of_eagers_rows(family):
    pictures = 1 if family.startswith("minicpm") else 2  # which takes pictures of one size together
    model, chat = families.tiny(family).eval(), families.chat(pictures, 12, seed=0)
    fields = families.fields_of(model, chat)
    layer = chosen_layer(model, None, None)
    ours = rows_of(model, fields, SAID, layer)
    sizes = [part["image"].size for message in chat for part in message["content"] if part["type"] == "image"]
    tiles = locate(model, fields, sizes, families.processor_of(family))
    at = np.sort(np.concatenate([tile.at for picture in tiles for tile in picture]))
    assert (fields["input_ids"][0].numpy()[at] == image_token_of(model.config)).all() and len(tiles) == pictures
    torch.testing.assert_close(ours.sum(1), torch.ones(len(SAID)), atol=1e-5, rtol=0)
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"] * (layer + 1)
    eager = eager_attentions(model, fields)
    number = layer if len(eager) == len(kinds) else sum(map(keeps_keys, kinds[:layer]))  # some list maps alone
    torch.testing.assert_close(ours, eager[number].mean(0), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(REPO / "assets" / "tiny-vlm")


@pytest.mark.parametrize("text", ["I see 7.", "naïve 你好 \n\n x", "<think></think><|im_end|>", "🙂"])
def test_pieces_are_the_text(processor, text):
    ids = processor.tokenizer(text)["input_ids"]
    texts = token_texts(processor, ids)
    assert len(texts) == len(ids) and "".join(texts) == text


def test_parts_are_all_of_the_attention(processor):
    model = families.ready("qwen2_5_vl")
    fields = families.prompt(model, 2, 9, seed=0)
    attention = attend(model, processor, fields, [(28, 28), (28, 28)], SAID)
    grids = (fields["image_grid_thw"][:, 1:] // 2).tolist()
    assert [image.shape[1:] for image in attention.images] == list(map(tuple, grids)) and attention.layer == 1
    assert len(attention.tokens) == len(SAID) and attention.prompt.shape == (len(SAID), len(attention.prompt_tokens))
    assert not np.triu(attention.completion).any() and (attention.completion[1:, 0] > 0).all()
    np.testing.assert_allclose(attention.rest, 0, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "smolvlm", pytest.param("gemma3", marks=pytest.mark.slow)])
def test_what_a_model_sampled_after_a_tool_answered_looks_at_the_tools_picture_too(family, processor):
    model = families.ready(family)
    rows, row = tool_rows(model), 3  # two answers, with two pictures and with none
    prompt, turns, ids = rows.prompts[row], rows.turns[row], rows.completion_ids[row, : rows.lengths[row]].tolist()
    whole = continued(prompt, ids, turns)
    fields = {name: value[None] for name, value in ({"input_ids": whole.ids} | whole.types).items()} | whole.images
    sizes = [(28, 28)] * 3  # their places are of the fields
    attention = attend(model, processor, fields, sizes, ids, scored=turns.scored.tolist())
    model.set_attn_implementation("eager")
    inputs = {
        name: value[:, :-1] if value.shape[:2] == (1, len(whole.ids)) else value for name, value in fields.items()
    }
    with torch.no_grad():
        weights = model.base_model(**inputs, output_attentions=True, use_cache=False).attentions[attention.layer][0]
    said = len(prompt.ids) + turns.scored.nonzero()[:, 0]
    expected = torch.nn.functional.pad(weights.mean(0), (0, 1))[said - 1]
    np.testing.assert_allclose(attention.completion, expected[:, said], atol=1e-5)
    at = (whole.ids == image_token_of(model.config)).nonzero()[:, 0]
    own, tools = at[at < len(prompt.ids)], at[at >= len(prompt.ids)]
    for index, places in ((slice(1), own), (slice(1, None), tools)):
        share = attention.on_images[:, index].sum(axis=1)
        np.testing.assert_allclose(share, expected[:, places].sum(1), atol=1e-5)
    before = int((said < tools[0]).sum())
    assert 0 < before < len(said) and not attention.on_images[:before, 1:].any()
    assert (attention.on_images[before:, 1:] > 0).all()
    given = (whole.ids != image_token_of(model.config)).index_fill(0, said, False).nonzero()[:, 0]
    assert len(given) == len(attention.prompt_tokens) and len(said) == len(attention.tokens)
    places = torch.cat([given, said])[torch.tensor(attention.order)]
    assert torch.equal(places, places.sort().values)  # in the order of the conversation


def random_attention(count, pictures=((2, 3), (1, 1)), tokens=None):
    """An `Attention` drawn at random, a quarter on each of two pictures, prompt and completion."""
    random = np.random.default_rng(0)
    images = [random.dirichlet(np.ones(r * c), count).reshape(count, r, c) / 4 for r, c in pictures]
    prompt, completion = random.dirichlet(np.ones(100), count) / 4, np.tril(random.random((count, count)), -1)
    completion /= 4 * completion.sum(1, keepdims=True).clip(min=1e-9)
    order = range(100 + count)
    return Attention(tokens or ["ab "] * count, ["cd"] * 100, images, prompt, completion, 2, 4, None, [*order])


PICTURES = [Image.new("RGB", (30, 20), "white"), Image.new("RGB", (10, 40), "blue")]


def page_of(path, attention, **facts):
    write_attention_page(path, attention, PICTURES, facts)
    text = path.read_text(encoding="utf-8")
    return text, json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_holds_the_numbers(tmp_path):
    attention = random_attention(5)
    _, data = page_of(tmp_path / "a.html", attention, model="m")
    cells = np.frombuffer(base64.b64decode(data["pictures"][0]["cells"]), np.uint8).reshape(5, 2, 3)
    assert (cells.reshape(5, -1).argmax(1) == attention.images[0].reshape(5, -1).argmax(1)).all()
    assert (cells.reshape(5, -1).max(1) == 255).all() and (cells.reshape(5, -1).min(1) == 0).all()
    assert data["shares"][3] == {"pictures": [0.25, 0.25], "prompt": 0.25, "said": 0.25, "rest": 0.0}
    assert data["facts"] == [["model", "m"], ["attention", "layer 2 of 0 to 3, mean of its heads"]]
    top = int(np.argmax(np.concatenate([attention.prompt, attention.completion], axis=1)[4]))
    assert [top, 255] in data["text"][4] and len(data["text"][4]) == 64


def test_the_page_runs_its_own_script_alone_and_shows_hostile_text_as_text(tmp_path):
    text, data = page_of(tmp_path / "a.html", random_attention(3, tokens=[HOSTILE, "", "b"]), question=HOSTILE)
    assert data["tokens"][0] == HOSTILE and data["facts"][0][1] == HOSTILE
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for kind in ("style", "script"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert (
        "alert(" not in re.sub(r'id="data">.*?</script>', "", text)
        and "\u2028" not in text
        and "http" not in text.replace("http-equiv", "")
    )


def test_the_page_grows_with_tokens_alone(tmp_path):
    small, middle, large = (len(page_of(tmp_path / "a.html", random_attention(count))[0]) for count in (200, 400, 800))
    assert (large - middle) / (middle - small) == pytest.approx(2, rel=0.05)


def test_heat_is_red_where_least_and_green_where_most():
    picture = heat(Image.new("RGB", (40, 20), "black"), levels(np.array([[0.0, 0.5]])))
    assert picture.getpixel((5, 5)) == tuple(c // 2 for c in LOW)
    assert picture.getpixel((35, 5)) == pytest.approx([c / 2 for c in HIGH], abs=1)


def test_a_film_has_a_frame_a_token(tmp_path, monkeypatch):
    attention = random_attention(4, tokens=["one ", "two\n", "🙂", "four" * 90])
    write_gif(tmp_path / "new" / "a.gif", frames(attention, PICTURES))
    with Image.open(tmp_path / "new" / "a.gif") as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (4, (FRAME_WIDTH, HEIGHT), 400)
    encoder = tmp_path / "ffmpeg"
    encoder.write_text('#!/bin/bash\ncat > "${@: -1}"\n')
    encoder.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    write_mp4(tmp_path / "new" / "a.mp4", frames(attention, PICTURES))
    assert (tmp_path / "new" / "a.mp4").stat().st_size == 4 * FRAME_WIDTH * HEIGHT * 3
    encoder.write_text("#!/bin/bash\necho no encoder >&2; exit 3\n")
    with pytest.raises(UsageError, match=r"--mp4: got status 3 from ffmpeg \(no encoder\)"):
        write_mp4(tmp_path / "b.mp4", frames(attention, PICTURES))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="--mp4: got no ffmpeg on PATH"):
        write_mp4(tmp_path / "c.mp4", frames(attention, PICTURES))


def look(*options, **kwargs):
    return run_script(
        "eval/attention.py", "--model", REPO / "assets" / "tiny-vlm", "--task", "digits", *options, **kwargs
    )


def test_the_embedded_model_looks_at_the_digit_that_it_reads(digits, processor):
    """Two digits side by side: most of the middle layer's attention is on the half of the one that comes next."""
    model = AutoModelForImageTextToText.from_pretrained(REPO / "assets" / "tiny-vlm", dtype=torch.float32).eval()
    rows = [json.loads(line) for line in (digits / "heldout.jsonl").read_text().splitlines()]
    right, on_picture = [], []
    for row in [row for row in rows if len(row["digits"]) == 2]:
        picture = open_image(str(digits), row["image"])
        chat = with_images(messages(parse_row(row, "heldout", 1), TASKS["digits"].prompts["think"]), [picture])
        fields = processor.apply_chat_template(
            [chat], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        completion = processor.tokenizer("<think>I see {} {}.".format(*row["digits"]))["input_ids"]
        attention = attend(model, processor, dict(fields), [picture.size], completion)
        steps = [step for step, token in enumerate(attention.tokens) if token.isdigit()]
        for digit, step in enumerate(steps):
            halves = (
                attention.images[0][step].sum(axis=0).reshape(2, 2).sum(axis=1)
            )  # of the 2 x 4 tokens of 112 x 56 pixels
            right.append(halves.argmax() == digit)
        on_picture += [(attention.on_images[step].sum(), step in steps) for step in range(len(completion))]
    at_digits, elsewhere = (np.mean([share for share, at in on_picture if at is here]) for here in (True, False))
    print(
        f"right half: {sum(right)} of {len(right)}; on pictures: {at_digits:.3f} at digits, {elsewhere:.3f} elsewhere"
    )
    assert len(right) >= 20 and np.mean(right) > 0.95 and at_digits > 5 * elsewhere


@pytest.mark.slow
def test_the_command_line_looks_generates_and_refuses(digits, tmp_path):
    page, film = tmp_path / "a.html", tmp_path / "a.gif"
    flags = ["--image", digits / "images" / "heldout_000000.png", "--question", "What digits?", "--out", page]
    done = look(*flags, "--max_completion_length", 6, "--temperature", 1.0, "--head", 1, "--gif", film)
    assert done.stdout.startswith("6 tokens, layer 2 of 0 to 3, head 1, ")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])
    assert len(data["tokens"]) == 6 and data["pictures"][0]["grid"] == [2, 4]
    with Image.open(film) as frames_of:
        assert frames_of.n_frames == 6
    look(*flags, "--completion", "</script> 你好")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])
    assert "".join(data["tokens"]) == "</script> 你好"
    refused = look(*flags, "--layer", 4, check=False)
    assert refused.returncode == 1 and refused.stderr.splitlines()[-1].startswith("--layer: got 4, expected 0 to 3")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_steps_and_plays_in_a_browser(page, tmp_path, width, scheme):
    from playwright.sync_api import expect

    page_of(tmp_path / "a.html", random_attention(6), model="<script>alert(1)</script>")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto((tmp_path / "a.html").as_uri())
    page.keyboard.press("ArrowRight")
    assert page.locator("#step").input_value() == "1"
    page.keyboard.press("End")
    assert page.locator("#step").input_value() == "5"
    assert unseen(page) == []
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    expect(page.locator("#step")).to_have_value(re.compile("[2-5]"), timeout=60_000)
    assert "<script>alert(1)</script>" in page.inner_text("body")
