"""A processor, a template or a configuration with which nothing can be made is one sentence, in time."""

import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers
from helpers.broken_models import changed, retemplated, small_adapter

from open_r1.check import main as check
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.data.control_tokens import control_tokens
from open_r1.errors import UsageError
from open_r1.models import adapter_check, processor_check
from open_r1.models.configuration import empty_model, read_config, wrong_numbers
from open_r1.models.deadline import DeadlinePassed, refuse_endless
from open_r1.models.loading import load_processor, read_processor
from open_r1.models.lora import load_adapter, lora_config
from open_r1.models.processor_check import numbers_of, refuse_settings_of_images
from open_r1.plan.dims import read_dims

NUMBERS = ("patch_size", "merge_size", "temporal_patch_size", "rescale_factor")
VALUES = (0, -3, "two", None, [], {}, 1.5, float("nan"), float("inf"), True)
LOOPS = "".join(f"{{% for a{n} in range(9999) %}}" for n in range(4)) + "{% endfor %}" * 4


def refused(call, *args) -> str:
    """The one sentence with which a call is refused."""
    began = time.monotonic()
    with pytest.raises(UsageError) as error:
        call(*args)
    assert "\n" not in str(error.value) and time.monotonic() - began < 120
    return str(error.value)


def pictures(tiny: str, folder: Path, **values) -> str:
    return str(changed(tiny, folder, "processor_config.json", lambda c: c["image_processor"].update(values)))


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_of_the_image_processor_that_cannot_be_is_refused(tiny, tmp_path, key, value):
    if value is None and key == "rescale_factor":
        return  # refused or the default: never a traceback, see below
    folder = pictures(tiny, tmp_path / "m", **{key: value})
    try:
        processor = read_processor(folder)
    except UsageError as error:
        assert "\n" not in str(error) and folder in str(error)
        return
    assert key == "rescale_factor" or getattr(processor.image_processor, key) in (1, 2, 14)


@pytest.mark.parametrize(
    "values",
    [
        {"image_std": [0, 0, 0]}, {"image_std": [0.5, 0, 0.5]}, {"image_std": [-1, 1, 1]},
        {"image_std": [float("nan")] * 3}, {"image_std": "x"}, {"image_std": []}, {"image_mean": "x"},
        {"image_mean": [float("inf")] * 3}, {"image_mean": [0.5, 0.5]}, {"rescale_factor": 0},
        {"size": {"longest_edge": -5, "shortest_edge": -1}}, {"size": {"longest_edge": 0, "shortest_edge": 0}},
        {"size": {"longest_edge": float("nan"), "shortest_edge": 784}}, {"size": {}}, {"size": -3}, {"size": "big"},
        {"patch_size": 13}, {"merge_size": 1}, {"merge_size": 3}, {"temporal_patch_size": 3}, {"resample": 99},
        {"image_processor_type": "NoSuchImageProcessor"},
    ],
    ids=str,
)  # fmt: skip
def test_odd_settings_of_pictures_are_one_sentence(tiny, tmp_path, values):
    folder = pictures(tiny, tmp_path / "m", **values)
    assert folder in refused(read_processor, folder)


def test_the_settings_of_the_families_are_accepted():
    kinds = ("Qwen2VL", "GotOcr2", "LlavaOnevision", "SmolVLM", "Idefics3", "Gemma3", "Aria")
    for kind in kinds:
        processor = getattr(transformers, f"{kind}ImageProcessor")()
        assert all(value > 0 for _, value in numbers_of(processor.to_dict()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{% for x in %}", r"chat_template.jinja:\d+: cannot render a conversation: TemplateSyntaxError"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ nothing.at.all }}", "UndefinedError: 'nothing' is undefined"),
        ("{{ messages[9].content }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ raise_exception('only for poets') }}", "TemplateError: only for poets"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ range(10**9) | list }}", "OverflowError"),
        ("{{ 'x' * 10**12 }}", "(MemoryError|OverflowError)"),
    ],
)
def test_a_template_that_fails_is_named_with_its_line(tiny, tmp_path, text, said):
    folder = str(retemplated(tiny, tmp_path / "m", text))
    assert re.search(said, sentence := refused(read_processor, folder)), sentence
    assert "chat_template.jinja" in sentence


@pytest.mark.parametrize(
    "text",
    [
        LOOPS,
        "{% if messages[-1].role == 'assistant' %}" + LOOPS + "{% endif %}",
        *(
            pytest.param(text, marks=pytest.mark.slow)
            for text in (
                "{% for m in messages %}" + LOOPS + "{% endfor %}",  # for each message
                "{% for c in messages[0].content %}{% if c.type == 'image' %}" + LOOPS + "{% endif %}{% endfor %}",
                "{% if messages | length > 1 %}" + LOOPS + "{% endif %}",  # on the longest conversation alone
                "{% if messages[0].role == 'system' %}" + LOOPS + "{% endif %}",
                "{% if not add_generation_prompt %}" + LOOPS + "{% endif %}",  # as SFT renders
                "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{% if messages[0].content | length > 4 %}"
                + LOOPS
                + "{% endif %}",
            )
        ),
    ],
)
def test_a_template_that_does_not_end_is_refused_in_time(tiny, tmp_path, text, monkeypatch):
    monkeypatch.setattr(processor_check, "TEMPLATE_SECONDS", 0.7)
    folder = str(retemplated(tiny, tmp_path / "m", text))
    assert "it loops: restore the template" in refused(read_processor, folder)


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_template_that_takes_no_turn_of_a_kind_serves_rows_of_others(tiny, tmp_path, role):
    """Whatever the error: many join a system text, which here is a list of parts, to a string."""
    joined = (
        f"{{% for m in messages %}}{{% if m.role == '{role}' %}}{{{{ m.content + 'x' }}}}{{% endif %}}{{% endfor %}}"
    )
    processor = read_processor(str(retemplated(tiny, tmp_path / "m", joined)))
    assert "<|im_end|>" in control_tokens(processor).tokens


@pytest.mark.slow
def test_the_doctor_and_training_refuse_it_alike(tiny, tmp_path, digits, monkeypatch, capsys):
    monkeypatch.setattr(processor_check, "TEMPLATE_SECONDS", 0.7)
    folder = str(retemplated(tiny, tmp_path / "m", LOOPS))
    assert "it loops" in refused(load_processor, VLMConfig(model_name_or_path=folder), TaskArguments())
    with pytest.raises(SystemExit):
        argv = ["--data_file_paths", str(digits / "heldout.jsonl"), "--image_folders", str(digits)]
        check([*argv, "--task_type", "digits", "--model", folder])
    assert "it loops" in capsys.readouterr().err


def test_a_tokenizer_whose_pattern_does_not_end_is_refused_in_time(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(processor_check, "PICTURE_SECONDS", 2.0)
    pattern = {"type": "Split", "pattern": {"Regex": "((w|o|r|d| )+)+#"}, "behavior": "Isolated", "invert": False}
    folder = changed(tiny, tmp_path / "m", "tokenizer.json", lambda c: c.update(pre_tokenizer=pattern))
    try:
        read_processor(str(folder))  # oniguruma gives such patterns up by itself
    except UsageError as error:
        assert "\n" not in str(error)


def test_a_processor_that_takes_pictures_as_one_flat_list_is_named_as_such(tiny, monkeypatch):
    processor = read_processor(tiny)
    call = type(processor).__call__

    def flat(self, images, **values):
        if isinstance(images[0], list):
            raise ValueError("Nested images are not supported.")
        return call(self, images=images, **values)

    monkeypatch.setattr(type(processor), "__call__", flat)
    said = processor_check._picture_fault(processor, "m")
    assert "takes pictures as one list" in said and said.endswith("choose another model")
    monkeypatch.setattr(type(processor), "__call__", lambda self, **values: 1 / 0)
    said = processor_check._picture_fault(processor, "m")
    assert "ZeroDivisionError: division by zero; restore" in said


def test_a_model_without_template_is_offered_one_of_the_users_own(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "m")
    text = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    said = refused(read_processor, str(folder))
    assert "instruct variant" in said and "chat_template.jinja into its folder" in said
    (folder / "chat_template.jinja").write_text(text)
    assert read_processor(str(folder)).chat_template == text


def test_a_processor_is_tried_once_for_the_same_files(tiny, tmp_path, monkeypatch):
    read_processor(tiny)
    monkeypatch.setattr(processor_check, "refuse_endless", None)
    read_processor(tiny)


@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer_config.json", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "", "null"])
def test_files_that_are_no_json_objects_are_one_sentence(tiny, tmp_path, file, text):
    folder = retemplated(tiny, tmp_path / "m", "")
    (folder / file).write_text(text)
    assert str(folder) in refused(lambda: (read_processor(str(folder)), empty_model(read_config(str(folder)), "m")))


# ------------------------------------------------------------------------------------------------------- configuration

CONFIGS = [
    {"model_type": "nosuch"}, {"model_type": None}, {"model_type": 3}, {"text_config": 3},
    {"vision_config": []}, {"text_config": {"model_type": "qwen2_5_vl_text", "hidden_size": 0}},
    *({"text_config": {**{"model_type": "qwen2_5_vl_text"}, key: value}} for key, value in [
        ("hidden_size", -128), ("hidden_size", "wide"), ("num_hidden_layers", "four"), ("num_attention_heads", 0),
        ("num_attention_heads", -4), ("vocab_size", -1), ("vocab_size", "many"), ("hidden_act", "nosuch"),
        ("rms_norm_eps", "small"), ("rms_norm_eps", float("nan")), ("intermediate_size", -1),
        ("num_key_value_heads", 0),
    ]),
    *({"vision_config": {key: value}} for key, value in [
        ("patch_size", 0), ("patch_size", -14), ("depth", "deep"), ("hidden_size", -1), ("num_heads", 0),
        ("temporal_patch_size", 0), ("in_channels", -3), ("spatial_merge_size", "two"),
    ]),
    {"auto_map": {"AutoConfig": "own.C"}, "model_type": "own"},
]  # fmt: skip


@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_odd_configurations_are_one_sentence(tiny, tmp_path, values):
    folder = str(changed(tiny, tmp_path / "m", "config.json", lambda c: c.update(values)))
    sentence = refused(lambda: empty_model(read_config(folder), folder))
    assert folder in sentence
    assert refused(read_dims, folder)


def test_numbers_that_are_not_finite_are_found_anywhere():
    assert [place for place, _ in wrong_numbers({"a": [1, {"b": float("nan")}], "c": 2.0})] == ["a.1.b"]


def test_zeros_that_mean_something_are_taken():
    settings = {"image_mean": [0.0] * 3, "fill_color": [0, 0, 0], "padding_value": 0, "resample": 0, "offset": -1}
    images = SimpleNamespace(to_dict=lambda: settings)
    refuse_settings_of_images(SimpleNamespace(image_processor=images), "m")
    settings["patch_size"] = 0
    assert "m: image processor: patch_size: got 0" in refused(
        lambda: refuse_settings_of_images(SimpleNamespace(image_processor=images), "m")
    )


# ------------------------------------------------------------------------------------------------------------ patterns

ENDLESS = r"(([a-z_.0-9])+)+#"


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ENDLESS},
        pytest.param({"exclude_modules": ENDLESS}, marks=pytest.mark.slow),
        pytest.param({"rank_pattern": {ENDLESS: 4}}, marks=pytest.mark.slow),
        pytest.param({"alpha_pattern": {ENDLESS: 4}}, marks=pytest.mark.slow),
        pytest.param({"modules_to_save": [ENDLESS]}, marks=pytest.mark.slow),
        {"layers_to_transform": [0], "layers_pattern": [ENDLESS]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_pattern_of_an_adapter_that_does_not_end_is_refused_in_time(tiny, tmp_path, values, monkeypatch):
    monkeypatch.setattr(adapter_check, "PATTERN_SECONDS", 1.0)
    small_adapter(tiny, tmp_path / "a")
    folder = str(changed(tmp_path / "a", tmp_path / "b", "adapter_config.json", lambda c: c.update(values)))
    assert f"{folder}" in refused(load_adapter, folder)


@pytest.mark.slow
def test_a_pattern_of_a_flag_is_refused_in_time(tiny, monkeypatch):
    monkeypatch.setattr("open_r1.models.lora.PATTERN_SECONDS", 0.7)
    model = empty_model(read_config(tiny), tiny)
    flags = {"use_peft": True, "lora_vision": True}
    said = refused(lora_config, VLMConfig(**flags, lora_target_modules=[ENDLESS]), model, ())
    assert said.startswith("--lora_target_modules: got") and "write it without nested repetitions" in said
    said = refused(lora_config, VLMConfig(**flags, lora_target_modules=[r".*\.(q_proj"]), model, ())
    assert "no regular expression" in said


# ------------------------------------------------------------------------------------------------------------ deadline


@pytest.mark.slow
def test_what_a_child_says_comes_back(capfd):
    refuse_endless(lambda: None, 5, "endless")
    for call, said in (
        (lambda: "a fault", "a fault"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: "é" * 10_000, "é"),
    ):
        assert refused(refuse_endless, call, 5.0, "endless").startswith(said)
    with pytest.raises(DeadlinePassed, match="endless"):
        refuse_endless(lambda: time.sleep(60), 0.02, "endless")
    with pytest.raises(DeadlinePassed, match=r"^endless$"):
        refuse_endless(lambda: next(n for n in iter(int, 1) if n), 0.2, "endless")
    refuse_endless(lambda: time.sleep(1.1), 1.0, "endless")  # a slow disk is no endless pattern
    with pytest.raises(DeadlinePassed, match="ended by itself"):
        refuse_endless(lambda: __import__("os").abort(), 5, "endless")
    assert json.dumps(capfd.readouterr().out) == '""'


def test_a_model_that_reads_text_alone_is_told_so(tiny, tmp_path):
    transformers.Qwen2Config().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(Path(tiny, name), tmp_path / name)
    said = refused(read_processor, str(tmp_path))
    assert "got a qwen2, which reads text alone" in said and "choose a vision-language model" in said
