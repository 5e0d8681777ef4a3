"""The walk through GRPO: what it prints is what GRPO computes, and the page says what was printed."""

import json
import re
from typing import Any

import numpy as np
import pytest
import walk_through_sections as printed
from helpers.repository import REPO, run_script

PAGE = REPO / "assets" / "docs" / "grpo.md"


def seen() -> dict[str, Any]:
    """Two answers of two and one tokens, the second update after the first moved them by factors of 1.5 and 0.5."""
    old, ref = [[-1.0, -2.0], [-1.0]], [[-1.0, -2.0], [-1.0]]
    now = [[-1.0 + np.log(1.5), -2.0], [-1.0 + np.log(0.5)]]
    first = {"loss": -0.2357, "grad_norm": 2.0, "logps": old, "old_logps": old, "ref_logps": ref}
    second = {"loss": 0.0, "grad_norm": 0.5, "logps": now, "old_logps": old, "ref_logps": ref}
    return {
        "prompt": "<image>?",
        "prompt_tokens": 7,
        "solution": "4",
        "completions": ["a|b", "c\n`"],
        "tokens": [["a", "|b"], ["c"]],
        "rewards": {"accuracy": [3.0, None], "format": [0.0, 1.0]},
        "weights": [1.0, 1.0],
        "advantages": [0.7071, -0.7071],
        "updates": [first, second],
        "after": now,
        "beta": 0.5,
        "epsilon": 0.2,
        "max_grad_norm": 1.0,
    }


def test_a_token_is_clipped_where_it_has_gone_far_enough():
    up, same, down = (printed.token(seen(), 1, i, t) for i, t in ((0, 0), (0, 1), (1, 0)))
    assert (up.ratio, same.ratio, down.ratio) == pytest.approx((1.5, 1.0, 0.5))
    # min(1.5 A, 1.2 A) and, for A < 0, min(0.5 A, 0.8 A)
    assert (up.gain, same.gain, down.gain) == pytest.approx((1.2 * 0.7071, 0.7071, 0.8 * -0.7071))
    assert (up.clipped, same.clipped, down.clipped) == (True, False, True)
    assert up.kl == pytest.approx(1.5 * (1 / 1.5 + np.log(1.5) - 1)) and same.kl == 0


def test_sections_show_their_arithmetic():
    parts = printed.sections(seen())
    assert "mean = (3.0000 + 1.0000) / 2 = 2.0000" in parts["group"]
    assert "std  = sqrt(sum of (r - mean)^2 / 1) = 1.4142" in parts["group"]
    assert "A_1  = (3.0000 - 2.0000) / (1.4142 + 0.0001) = 0.7071" in parts["group"]
    assert "| 1 | `a\\|b` | 3.0000 | 0.0000 | 3.0000 | 0.7071 |" in parts["group"]
    assert "| 2 | `c\\n'` | None | 1.0000 | 1.0000 | -0.7071 |" in parts["group"]
    # at ratio 1: 2 x 0.7071 - 0.7071 over 3 tokens; a gradient of norm 2 is halved
    assert "(0.5 x 0.0000 - 0.7071) / 3 = -0.235700" in parts["first"] and "2.0000, times 0.5000" in parts["first"]
    assert "2 of them clipped" in parts["second"]
    assert "Likelier than before: 1 of 1 completions with A > 0. Less likely: 1 of 1 with A < 0." in parts["likelier"]


def rows_of(section: str) -> list[list[str]]:
    """Cells of the table in a section of the page, without its two head lines."""
    block = re.search(rf"<!-- walk: {section} -->\n(.*?)<!-- walk: end -->", PAGE.read_text(), re.DOTALL)[1]
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\) \| ", line[2:-2]) for line in lines[2:]]


def test_the_numbers_of_the_page_follow_from_each_other():
    group = rows_of("group")
    rewards, advantages = (np.array([float(row[place]) for row in group]) for place in (-2, -1))
    assert len(group) == 8 and rewards.std() > 0
    assert advantages == pytest.approx((rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4), abs=1e-3)
    for row in rows_of("tokens"):
        old, now, ratio, advantage = map(float, row[3:7])
        assert ratio == pytest.approx(np.exp(now - old), abs=2e-4 * ratio + 1e-4) and advantage in advantages
    changes = np.array([float(row[-1]) for row in rows_of("likelier")])
    assert (advantages * changes).sum() > 0


def check_by_hand(walk: dict[str, Any]) -> None:
    """Advantages and both losses, from rewards and log-probs, by the formulas of the page."""
    lengths = [len(row) for row in walk["tokens"]]
    rewards = np.sum([w * np.array(r) for w, r in zip(walk["weights"], walk["rewards"].values(), strict=True)], axis=0)
    advantages = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    assert walk["advantages"] == pytest.approx(advantages, abs=1e-4) and rewards.std() > 0
    A = np.repeat(advantages, lengths)
    for update in walk["updates"]:
        old, now, ref = (np.concatenate(update[name]) for name in ("old_logps", "logps", "ref_logps"))
        assert len(old) == len(now) == len(ref) == sum(lengths)
        ratio = np.exp(now - old)
        surrogate = np.minimum(ratio * A, ratio.clip(1 - walk["epsilon"], 1 + walk["epsilon"]) * A)
        kl = ratio * (np.exp(ref - now) - (ref - now) - 1)
        assert walk["loss_type"] == "dapo"
        assert update["loss"] == pytest.approx((walk["beta"] * kl - surrogate).sum() / sum(lengths), abs=1e-5)
        assert update["grad_norm"] > 0


@pytest.mark.slow
def test_a_walk_can_be_checked_by_hand(tiny, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        re.sub(r"(<!-- walk: \w+ -->\n).*?(<!-- walk: end)", r"\1old\n\2", PAGE.read_text(), flags=re.DOTALL)
    )
    flags = ["--generations", 6, "--out", tmp_path / "out", "--json", tmp_path / "walk.json", "--page", page]
    done = walk_through(tiny, *flags, "--picture", tmp_path / "picture.png")
    walk = json.loads((tmp_path / "walk.json").read_text())
    check_by_hand(walk)
    first, second = walk["updates"]
    for i in range(6):
        assert first["old_logps"][i] == first["logps"][i] == second["old_logps"][i]
        assert first["ref_logps"][i] == pytest.approx(first["logps"][i], abs=1e-5)
    change = np.concatenate(second["logps"]) - np.concatenate(first["logps"])
    assert (np.repeat(walk["advantages"], list(map(len, walk["tokens"]))) * change).sum() > 0
    assert len(walk["completions"]) == 6 and all(value <= 0 for row in first["logps"] for value in row)
    parts = re.findall(r"<!-- walk: \w+ -->\n(.*?)\n<!-- walk: end -->", page.read_text(), re.DOTALL)
    assert len(parts) == 6 and all(part in done.stdout for part in parts) and (tmp_path / "picture.png").stat().st_size


@pytest.mark.slow
def test_a_group_without_a_difference_is_refused(tiny, tmp_path):
    flags = ["--generations", 2, "--max_completion_length", 1, "--out", tmp_path]  # one token is no answer
    done = walk_through(tiny, *flags, check=False)
    assert done.returncode == 1 and "--row: got 0, whose 2 completions all earn 0, expected a row whose" in done.stderr


def walk_through(tiny: str, *flags: object, check: bool = True):
    return run_script(
        "local_scripts/dev/walkthrough/walk_through_grpo.py", "--model", tiny, "--task", "digits", *flags, check=check
    )
