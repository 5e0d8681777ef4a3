"""By which doors a run may ask the judge, and that rows which name one have it tried first."""

import json
from pathlib import Path

import pytest
from helpers.fake_endpoint import Reply, serving
from helpers.judged_rows import honest, judged_row

from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.errors import UsageError
from open_r1.rewards.judge.settings import judge_text
from open_r1.rewards.judged import facts_of_judge, try_judge_of_rows


def dataset(folder: Path, own: str | None, method: str | None = None) -> RecordDataset:
    """Two rows, of which the second names its method; the first has "llm" in another field."""
    rows = [{"problem": "What?", "solution": "a dog", "note": "llm"}, {"problem": "What?", "solution": "a cat"}]
    rows[1] |= {"accu_reward_method": own} if own else {}
    (folder / "rows.jsonl").write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_records(str(folder / "rows.jsonl"), reward_methods=method)


@pytest.mark.parametrize(
    ("own", "method", "rewards", "code", "asks"),
    [
        (None, None, ["accuracy"], [], False),
        ("llm", None, ["accuracy"], [], True),
        ("llm", "mcq", ["length"], [], True),
        ("mcq", "llm", ["tool_bonus"], [], True),
        ("llm", "llm", ["format", "repetition"], [], False),
        (None, None, ["my/rewards.py:mine"], [], True),
        (None, None, ["format"], ["my/tools.py:look"], True),
        (None, None, ["format"], ["zoom", "digits"], False),
    ],
)
def test_facts_of_the_judge_are_those_of_runs_that_may_ask_it(use, tmp_path, own, method, rewards, code, asks):
    with serving(honest("")) as server:
        use(server, JUDGE_IMAGES="true")
        facts = facts_of_judge(dataset(tmp_path, own, method), rewards, code)
    assert bool(facts) == asks
    if asks:
        assert judge_text(facts) == f"m at {server.url}, JUDGE_IMAGES=true"


def test_rows_that_are_in_no_file_are_looked_at_too(use):
    with serving(honest("")) as server:
        use(server)
        assert facts_of_judge([judged_row()], ["accuracy"]) and not facts_of_judge([judged_row()], ["format"])


def test_the_judge_that_rows_name_is_tried_before_they_are_graded(use, tmp_path):
    with serving(lambda request, served: Reply("certainly!")) as server:
        use(server)
        try_judge_of_rows(dataset(tmp_path, None), ["accuracy"])
        try_judge_of_rows(dataset(tmp_path, "llm"), ["format"])
        assert not server.requests
        with pytest.raises(UsageError, match="accu_reward_method: got llm in rows of the data: judge: got no verdict"):
            try_judge_of_rows(dataset(tmp_path, "llm"), ["accuracy"])
