"""Posteriors of rows: the chance of spread is exact, updates are taken back bit for bit, draws favour what teaches."""

import json
from math import comb
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.trainer.checkpointing.run_state import load_difficulty
from open_r1.trainer.outputs.row_rates import classes_of
from open_r1.trainer.row_choice import ANY_SHARE, RowChoice, slice_of_rank, successes_of
from open_r1.trainer.row_difficulty import RowDifficulty, chance_of_spread

G = 8


def records(*rates: float | None) -> list[Record]:
    extras = [{} if rate is None else {"survey_rate": rate} for rate in rates]
    return [Record(str(i), (), "", (), "1", extra, f"a.jsonl:{i}") for i, extra in enumerate(extras)]


def groups(*successes: int) -> np.ndarray:
    """(R, G) groups with these numbers of right completions."""
    return np.array([[1.0] * right + [0.0] * (G - right) for right in successes])


def choice(
    rows: list[Record], rank: int = 0, ranks: int = 1, sampling: str = "difficulty", seed: int = 3
) -> RowChoice:
    return RowChoice(rows, SimpleNamespace(num_generations=G, seed=seed, row_sampling=sampling), rank, ranks)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.2, 0.2), (0.2, 8.2), (30.2, 4.2)])
def test_the_chance_of_spread_is_that_of_the_beta_binomial(a, b):
    """One minus the mass at 0 and at G right completions, by the sum of all others (with log-gamma functions)."""
    lgamma = torch.lgamma

    def log_beta(x: float, y: float) -> torch.Tensor:
        x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    inside = sum(comb(G, k) * (log_beta(a + k, b + G - k) - log_beta(a, b)).exp().item() for k in range(1, G))
    assert chance_of_spread(np.array([a]), np.array([b]), G)[0] == pytest.approx(inside, abs=1e-12)


def test_what_was_seen_moves_a_row_and_counts_half_at_the_next_visit():
    difficulty = RowDifficulty(records(None, None, None, None), G)
    unseen = difficulty.chances[0]
    difficulty.update(np.array([0, 1, 2]), groups(0, 4, 8))
    hopeless, mixed, solved, other = difficulty.chances
    assert mixed > 0.9 > unseen == other > hopeless == pytest.approx(solved) and hopeless < 0.2
    assert difficulty.chance_of_new == pytest.approx((0.95 * 4 * unseen + 1) / (0.95 * 4 + 3))
    difficulty.update(np.array([2]), groups(0))  # it was solved, and no longer is
    assert difficulty.counts[2].tolist() == [4.0, 8.0] and difficulty.visits.tolist() == [1, 1, 2, 0]
    difficulty.update(np.array([0]), np.full((1, G), np.nan))  # no verdict
    assert difficulty.counts[0].tolist() == [0.0, 4.0]
    assert difficulty.fresh.tolist() == pytest.approx([0.95**2 * (0.95 * 4 * unseen + 1), 0.95**2 * (0.95 * 4 + 3)])


def test_updates_are_taken_back_bit_for_bit_and_saved_whole():
    rng = np.random.default_rng(0)
    difficulty = RowDifficulty(records(*[None] * 20), G)
    states = []
    for _ in range(4):
        mark = difficulty.mark()
        states.append((mark, difficulty.saved(), difficulty.chances.copy()))
        for _ in range(3):  # three generations in a step
            difficulty.update(rng.permutation(20)[:6], rng.random((6, G)))
    mark, saved, chances = states[-1]
    other = RowDifficulty(records(*[None] * 20), G)
    other.load(saved)
    assert (other.chances == chances).all()
    difficulty.rewind(mark)
    assert all(torch.equal(difficulty.saved()[name], saved[name]) for name in ("counts", "visits", "fresh"))
    assert (difficulty.chances == chances).all() and difficulty.updates == saved["updates"] == 9
    difficulty.rewind(mark)  # nothing is left to take back


def test_a_survey_counts_as_what_was_seen_and_is_checked():
    rows = records(0.5, 0.0, 1.0, None)
    rows.append(rows[0].with_extra(survey_samples=2))
    difficulty = RowDifficulty(rows, G)
    surveyed, never, always, unknown, few = difficulty.chances
    assert surveyed > few > unknown > never == pytest.approx(always)
    assert difficulty.counts[[0, 3, 4]].tolist() == [[2.0, 2.0], [0.0, 0.0], [0.5, 0.5]]
    assert difficulty.known.tolist() == [True, True, True, False, True]
    for odd in (1.5, "half", True):
        with pytest.raises(DataError, match=r"a\.jsonl:0: survey_rate: got .*, expected a number in \[0, 1\]"):
            RowDifficulty(records(odd), G)


def shares_drawn(rows: RowChoice, steps: int = 500, count: int = 8) -> np.ndarray:
    """How often each row was drawn."""
    drawn = np.zeros(rows.rows)
    for step in range(steps):
        batch = rows.draw(count, step)
        assert len(set(batch)) == count
        drawn[batch] += 1
    return drawn / steps / count


def test_where_few_rows_teach_those_are_drawn_again_and_the_rest_explores():
    rows = choice(records(*[None] * 1000))
    rows.difficulty.update(np.arange(400), groups(*[0] * 240 + [8] * 100 + [4] * 60))
    drawn = shares_drawn(rows)
    dead, mixed, new = drawn[:340].sum(), drawn[340:400].sum(), drawn[400:].sum()
    assert mixed > 0.45 and new > 0.2 and dead < 0.15 and mixed + new + dead == pytest.approx(1)
    assert drawn[:340].max() < drawn[340:400].min()


def test_rows_that_teach_rest_while_others_may_be_found():
    rows = choice(records(*[None] * 1000))
    rows.difficulty.update(np.arange(100), groups(*[0] * 60 + [8] * 25 + [4] * 15))
    assert rows.count_again(np.ones(1000, bool), 8) == 2  # of 15, and of others that may have changed
    left = np.arange(1000) < 100
    assert rows.count_again(left, 8) == 8  # nothing new is left


def test_where_all_rows_teach_new_ones_are_drawn():
    rows = choice(records(*[None] * 1000))
    for step in range(5):
        rows.difficulty.update(np.arange(40 * step, 40 * step + 40), groups(*[4] * 40))
    assert shares_drawn(rows)[200:].sum() > 0.95


def test_one_row_that_teaches_is_not_learned_over_and_over():
    rows = choice(records(*[None] * 1000))
    rows.difficulty.update(np.arange(8), groups(4, *[0] * 7))
    assert rows.count_again(np.ones(1000, bool), 8) <= 1
    assert shares_drawn(rows)[1:8].sum() < 0.02


def test_once_all_are_seen_each_row_keeps_a_floor():
    rows = choice(records(*[None] * 50))
    rows.difficulty.update(np.arange(50), groups(*[0] * 40 + [4] * 10))
    drawn = shares_drawn(rows, steps=2000, count=4)
    assert drawn.min() > 0.5 * ANY_SHARE / 50 and drawn[40:].sum() > 0.7


def test_any_number_of_ranks_draws_the_same_rows_whole_groups():
    alone = choice(records(*[None] * 50)).rows_of_generation([None] * 8 * G, step=7)
    for ranks in (2, 4):
        parts = [choice(records(*[None] * 50), rank, ranks) for rank in range(ranks)]
        rows = [row for part in parts for row in part.rows_of_generation([None] * (8 // ranks) * G, step=7)]
        assert rows == alone
    assert [row["row"] for row in alone[::G]] == [row["row"] for row in alone[G - 1 :: G]]
    assert len({row["row"] for row in alone}) == 8
    assert alone != choice(records(*[None] * 50)).rows_of_generation([None] * 8 * G, step=8)
    assert alone != choice(records(*[None] * 50), seed=4).rows_of_generation([None] * 8 * G, step=7)


def test_uniform_draws_leave_out_what_was_tried():
    rows = choice(records(*[None] * 10), sampling="uniform")
    assert sorted(rows.draw(20, 0, 1, excluded={0, 3, 5})) == [1, 2, 4, 6, 7, 8, 9]
    assert rows.draw(3, 0, 1, excluded=set(range(10))) == []
    counts = np.bincount([row for step in range(2000) for row in rows.draw(2, step)], minlength=10)
    assert abs(counts - 400).max() < 100  # six standard errors


def test_success_is_accuracy_where_it_is_paid_else_the_first_reward():
    rewards = torch.tensor([[1.0, 0.25], [-2.0, float("nan")]])
    assert successes_of(rewards, ["format", "accuracy"]).nan_to_num(-1).tolist() == [0.25, -1.0]
    assert successes_of(rewards, ["area", "format"]).tolist() == [1.0, 0.0]
    assert slice_of_rank(list("abcd"), 1, 4) == ["b"]


def test_classes_count_each_row_once():
    difficulty = RowDifficulty(records(*[None] * 7), G)
    difficulty.update(np.arange(6), groups(0, 1, 4, 7, 8, 8))
    difficulty.update(np.array([4]), groups(8))
    classes = classes_of(difficulty)
    assert json.loads(json.dumps(classes)) == classes and sum(part["rows"] for part in classes) == 7
    found = {part["name"]: (part["rows"], part["groups"]) for part in classes}
    assert found == {
        "not seen": (1, 0), "never right": (1, 1), "seldom right": (1, 1), "sometimes right": (1, 1),
        "often right": (1, 1), "solved": (2, 3),
    }  # fmt: skip
    assert difficulty.shares()["rows/never_right"] == pytest.approx(1 / 7)


def test_what_was_learned_of_other_rows_is_left_and_said(caplog):
    difficulty, saved = (RowDifficulty(records(None, None), G) for _ in range(2))
    saved.update(np.array([0]), groups(4))
    load_difficulty(difficulty, saved.saved(), new_prompts=True)
    assert not difficulty.visits.any() and "--row_sampling difficulty: begins anew" in caplog.text
    load_difficulty(difficulty, saved.saved(), new_prompts=False)
    assert difficulty.visits.tolist() == [1, 0]
