"""`python -m open_r1.families`: the table and what it says of one model are what the code does."""

import families_table
from helpers import families

from open_r1.data.geometry.conventions import CONVENTIONS
from open_r1.families import family_rows, main, what_acts
from open_r1.models.refusals import UPSTREAM


def test_the_readme_shows_the_table() -> None:
    section = families_table.section()
    assert section.is_up_to_date(), f"run python {section.script}"


def test_each_known_family_has_a_line() -> None:
    rows = {row.family: row for row in family_rows()}
    assert set(rows) == (set(CONVENTIONS) - {"internvl_chat"}) | set(UPSTREAM)
    assert rows["gemma4"].space == "yx_1000" and rows["gemma4"].trains == "yes"
    assert rows["paligemma"].trains == UPSTREAM["paligemma"] and "--box_space" in rows["mistral3"].space


def test_a_model_says_what_acts(tiny, tmp_path, capsys) -> None:
    assert main([tiny]) == 0
    shown = capsys.readouterr().out
    assert "qwen2_5_vl, listed" in shown and "freezes model.visual" in shown and "resized" in shown
    families.config_of("llava_qwen3_5").save_pretrained(tmp_path)
    facts = what_acts(str(tmp_path))
    assert facts["trains"] == "yes" and facts["--shared_prefix"] and "vision_tower" in facts["--freeze_vision_modules"]


def test_a_refused_model_says_why(tmp_path) -> None:
    families.config_of("mllama").save_pretrained(tmp_path)
    facts = what_acts(str(tmp_path))
    assert "cross attention" in facts["trains"] and "unlisted" in facts["family"] and "--shared_prefix" not in facts
