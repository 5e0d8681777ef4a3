"""A checkpoint's recipe.json with odd content is refused by file and key, whichever script reads it."""

import json

import pytest

from open_r1.errors import DataError, UsageError
from open_r1.tasks.recipe import VALUES, Recipe, read_recipe

WHOLE = {"task_type": "digits", "prompt_mode": "direct", "reward_method": "mcq:math", "max_completion_length": 40}


def write(folder, content: object) -> str:
    (folder / "recipe.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder)


def test_every_field_is_checked():
    assert list(VALUES) == list(Recipe.__dataclass_fields__)


def test_what_a_run_writes_is_read_back(tmp_path):
    recipe = Recipe(**WHOLE, max_anyres_num=6, base_model="me/it")
    recipe.save(tmp_path)
    assert read_recipe(str(tmp_path)) == recipe
    assert read_recipe(write(tmp_path, {"of_a_later_version": 1})) == Recipe()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_type", "digit"), ("task_type", 3), ("task_type", ["digits"]), ("task_type", {}),
        ("prompt_mode", "loud"), ("prompt_mode", True), ("prompt_mode", []),
        ("reward_method", "mcq:"), ("reward_method", "nonsense"), ("reward_method", ["mcq"]), ("reward_method", 0),
        ("max_completion_length", "40"), ("max_completion_length", 0), ("max_completion_length", -1),
        ("max_completion_length", 1.5), ("max_completion_length", True), ("max_completion_length", 10**30),
        ("max_anyres_num", 0), ("max_anyres_num", [6]), ("base_model", 7), ("base_model", {"a": 1}),
        ("video_fps", 0), ("video_fps", True), ("video_max_frames", 7), ("video_max_pixels", 0),
        ("video_form", "film"),
        ("box_space", "relative"), ("box_space", 1000), ("box_space", ["original"]), ("box_space", {}),
    ],
)  # fmt: skip
def test_an_odd_value_is_refused_by_file_and_key(tmp_path, name, value):
    folder = write(tmp_path, WHOLE | {name: value})
    with pytest.raises(DataError, match=rf"recipe\.json: {name}: got .*, expected .*; correct the value, or remove"):
        read_recipe(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"a"', "[" * 100_000, '{"a": ' + "9" * 5_000 + "}"])
def test_what_is_no_recipe_is_refused_by_file(tmp_path, content):
    with pytest.raises(UsageError, match=r"recipe\.json: got .*, expected .*; remove the file"):
        read_recipe(write(tmp_path, content))


def test_bytes_that_are_no_text_are_refused_by_file(tmp_path):
    (tmp_path / "recipe.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"recipe\.json: got .*, expected the JSON .*; remove the file"):
        read_recipe(str(tmp_path))
