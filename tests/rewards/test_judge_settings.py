"""How the judge is asked: rubrics, pictures, groups, schemas; what is kept, what it costs, how often it agrees."""

import json
import sqlite3
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import orjson
import pytest
from helpers.fake_endpoint import Reply, is_decoy, judge_prompt, serving, verdict
from helpers.judged_rows import CRITERIA, grade, honest, judged_row
from PIL import Image

from open_r1 import score
from open_r1.data.jsonl_dataset import scan_records
from open_r1.data.record import Record, parse_row
from open_r1.data.rubric import read_rubric
from open_r1.endpoint.client import EndpointError
from open_r1.endpoint.verdict_cache import VerdictCache
from open_r1.errors import DataError, UsageError
from open_r1.report.examination import check_gold
from open_r1.rewards.judge import method as judge
from open_r1.rewards.judge import shown
from open_r1.rewards.judge.gold import JudgedRows
from open_r1.rewards.judge.settings import judge_facts

# Rubrics.


def test_criteria_of_a_row_make_a_score(use):
    with serving(honest("")) as server:
        use(server)
        row = judged_row("a brown poodle", rubric=CRITERIA)
        answers = ["the breed", "the breed, the colour", "the colour and a second dog", "nothing of it"]
        assert [judge.llm(answer, row) for answer in answers] == [0.25, 1.0, 0.5, 0.0]
        assert judge.llm("a brown poodle", row) == 1.0 and len(server.requests) == 4
    rules = server.requests[0]["messages"][0]["content"]
    assert '"met"' in rules and "criterion" in rules
    shown = judge_prompt(server.requests[0])[1]["rubric"]
    assert len(shown) == 4 and sum(map(is_decoy, shown)) == 1
    assert [text for text in shown if not is_decoy(text)] == ["names the breed", "names the colour", "a second dog"]


def test_a_rubric_for_all_rows_stands_in_a_file_and_a_rows_own_wins(use, tmp_path):
    (tmp_path / "rubric.md").write_text("Right if it names a vehicle.")
    (tmp_path / "rubric.json").write_text(json.dumps(CRITERIA))
    with serving(honest("tram")) as server:
        use(server, JUDGE_RUBRIC=str(tmp_path / "rubric.md"))
        assert judge.llm("a tram", judged_row()) == 1.0 and judge.llm("a tram", judged_row(rubric="Its own.")) == 1.0
        shown = [judge_prompt(request)[1].get("rubric") for request in server.requests]
        assert shown == ["Right if it names a vehicle.", None, "Its own.", None]  # each, and its decoy
        assert "rubric" in server.requests[0]["messages"][0]["content"]
        use(server, JUDGE_RUBRIC=str(tmp_path / "rubric.json"))
        assert judge.llm("the colour", judged_row()) == 0.75


BAD = [7, "", " ", [], [7], [{"points": 1}], [{"criterion": "x", "point": 1}], [{"criterion": "x", "points": 0}]]
BAD += [[{"criterion": "x", "points": -1}], [{"criterion": "x", "points": True}], [{"criterion": "", "points": 1}]]
BAD += ["x" * 9_000, ["x"] * 99, {"criterion": "x"}, [{"criterion": "x", "points": float("nan")}]]


@pytest.mark.parametrize("value", BAD)
def test_a_rubric_that_is_none_is_a_defect_of_its_row(value):
    row = {"problem": "What?", "solution": "a car", "rubric": value}
    with pytest.raises(DataError, match=r"^a\.jsonl:3: rubric.*: got .*, expected "):
        parse_row(row, "a.jsonl:3", 3, method="llm")
    assert parse_row(row, "a.jsonl:3", 3, method="math").extra["rubric"] is value  # no business of other methods
    assert check_gold(judged_row(rubric=value))[0].field.startswith("rubric")
    with pytest.raises(DataError, match="rubric"):
        judge.llm("a car", judged_row("a car", rubric=value))


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"[7]", b"{"])
def test_a_rubric_file_that_is_none_is_refused(use, tmp_path, content):
    path = tmp_path / "rubric.json"
    if content is not None:
        path.write_bytes(content)
    with serving(honest("")) as server:
        use(server, JUDGE_RUBRIC=str(path))
        with pytest.raises(UsageError, match=r"JUDGE_RUBRIC"):
            judge.check_judge()
    assert not server.requests


def test_points_stay_within_0_and_1():
    rubric = read_rubric(CRITERIA, "")
    assert [rubric.score(met) for met in ([True] * 3, [False] * 3, [False, False, True])] == [0.75, 0.0, 0.0]


# Pictures.


def pictures_of(request: dict) -> list[str]:
    content = request["messages"][-1]["content"]
    return (
        [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        if isinstance(content, list)
        else []
    )


def test_pictures_are_sent_in_the_rows_order_and_small(use, tmp_path):
    Image.new("RGB", (400, 100), "red").save(tmp_path / "a.png")
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "b.png")
    row = judged_row(folder=tmp_path, images=("b.png", "a.png"))
    with serving(honest("red")) as server:
        use(server, JUDGE_IMAGES="true", JUDGE_MAX_PIXELS="10000")
        assert judge.llm("red car, a", row) == 1.0
        use(server)
        assert judge.llm("red car, a", row) == 1.0
    seen, blind = server.requests
    sizes = [Image.open(BytesIO(b64decode(url.partition(",")[2]))).size for url in pictures_of(seen)]
    assert sizes == [(60, 60), (200, 50)] and pictures_of(blind) == []
    assert "pictures" in seen["messages"][0]["content"] and "pictures" not in blind["messages"][0]["content"]


def test_a_picture_that_is_damaged_names_the_row(use, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with serving(honest("red")) as server:
        use(server, JUDGE_IMAGES="true")
        with pytest.raises(DataError, match=r"a\.jsonl:7: image"):
            judge.llm("red car, a", judged_row(folder=tmp_path, images=("a.png",)))


def test_pictures_that_are_no_paths_are_not_left_out(use):
    with serving(honest("red")) as server:
        use(server, JUDGE_IMAGES="true")
        with pytest.raises(DataError, match=r"a\.jsonl:7: image: got .*, expected paths of pictures"):
            judge.llm("red car, a", judged_row(image={"bytes": "..."}))
    assert not server.requests


@pytest.mark.parametrize(
    ("fields", "place", "files"),
    [
        ({"image_path": "a.png"}, "image_path", False),
        ({"image": ""}, "image", False),
        ({"images": 7}, "images", False),
        ({"video": {"path": 3}}, "video", True),
        ({"clip": "a.mp4"}, "clip", False),
    ],
)
def test_a_judge_that_sees_is_never_blind_to_a_saved_row(use, tmp_path, fields, place, files):
    Image.new("RGB", (60, 60), "red").save(tmp_path / "a.png")
    row = {"completion": "a red car", "gold": "a red automobile", **fields, **({"image": "a.png"} if files else {})}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    words = ["--reward_method", "llm", "--rows", tmp_path / "rows.jsonl", "--out", tmp_path / "out.jsonl"]
    with serving(honest("red")) as server:
        use(server, JUDGE_IMAGES="true")
        assert score.main([str(word) for word in words]) == 1
        error = json.loads((tmp_path / "out.jsonl").read_text())["error"]
        assert f"rows.jsonl:1: {place}: got" in error and "expected" in error
        asked = [request for request in server.requests if "automobile" in str(request)]
        assert asked == []
        use(server)  # without pictures it needs none
        assert score.main([str(word) for word in words]) == 0


def test_a_judge_that_takes_no_pictures_is_refused_before_training(use):
    def blind(request: dict, served: int) -> Reply:
        return Reply(status=400) if pictures_of(request) else verdict(request, True)

    with serving(blind) as server:
        use(server)
        judge.check_judge()
        use(server, JUDGE_IMAGES="true")
        with pytest.raises(ValueError, match=r"got no verdict on a trial question.*status 400"):
            judge.check_judge()


# What is kept.


def test_verdicts_are_kept_by_all_that_they_depend_on(use, tmp_path):
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "b.png")
    cache = {"JUDGE_CACHE": str(tmp_path / "deep" / "verdicts.sqlite")}
    row = judged_row(folder=tmp_path, images=("b.png",))
    changes: list[tuple[dict[str, str], Record, str]] = [
        ({}, row, "red car 1"),
        ({"JUDGE_MODEL": "other"}, row, "red car 1"),
        ({"JUDGE_IMAGES": "true"}, row, "red car 1"),
        ({"JUDGE_IMAGES": "true", "JUDGE_MAX_PIXELS": "99"}, row, "red car 1"),
        ({"JUDGE_SCHEMA": "true"}, row, "red car 1"),
        ({}, row, "red car 2"),
        ({}, judged_row("a blue car"), "red car 1"),
        ({}, row.with_extra(rubric="Strict."), "red car 1"),
    ]
    with serving(honest("red")) as server:
        for known in (False, True):  # the second time from the file, as in another process
            for settings, one, answer in changes:
                use(server, **cache, **settings)
                assert judge.llm(answer, one) == 1.0
                assert judge.judge_metrics()["judge/cache_hits"] == known
        once = len(server.requests)
        Image.new("RGB", (60, 60), "red").save(tmp_path / "b.png")
        shown._loaded.cache_clear()
        use(server, **cache, JUDGE_IMAGES="true")
        assert judge.llm("red car 1", row) == 1.0 and len(server.requests) == once + 1  # other bytes


def test_the_file_is_bounded_and_its_oldest_go_first(tmp_path):
    cache = VerdictCache(tmp_path / "v.sqlite", most=10)
    for number in range(50):
        cache.put(str(number), [True])
    again = VerdictCache(tmp_path / "v.sqlite", most=10)
    assert [key for key in map(str, range(50)) if again.get(key)] == [str(number) for number in range(40, 50)]
    with sqlite3.connect(tmp_path / "v.sqlite") as file:
        assert file.execute("SELECT count(*) FROM verdicts").fetchone() == (10,)


def test_two_processes_may_share_the_file(tmp_path):
    one, two = VerdictCache(tmp_path / "v.sqlite"), VerdictCache(tmp_path / "v.sqlite")
    one.put("a", [True])
    two.put("b", [False])
    assert two.get("a") == [True] and one.get("b") == [False] and one.get("c") is None


def test_a_file_that_is_no_cache_is_refused(use, tmp_path):
    (tmp_path / "v.sqlite").write_bytes(b"no database, but long enough to be read as one" * 99)
    with serving(honest("red")) as server:
        use(server, JUDGE_CACHE=str(tmp_path / "v.sqlite"))
        with pytest.raises(UsageError, match=r"JUDGE_CACHE: got .*v\.sqlite .*; name another file"):
            judge.check_judge()


# Settings.


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JUDGE_IMAGE", "true", "JUDGE_IMAGE: no setting of the judge.*JUDGE_IMAGES"),
        ("JUDGE_IMAGES", "yes", "JUDGE_IMAGES: got 'yes', expected true or false"),
        ("JUDGE_GROUP", "8", "JUDGE_GROUP: got '8', expected false, true or rank"),
        ("JUDGE_ORDERS", "3", "JUDGE_ORDERS: got '3', expected 1 or 2"),
        ("JUDGE_ORDERS", "1", "JUDGE_ORDERS: got '1', expected JUDGE_GROUP=rank beside it"),
        ("JUDGE_MAX_IMAGES", "none", "JUDGE_MAX_IMAGES: got 'none', expected a positive number"),
        ("JUDGE_MAX_PIXELS", "-1", "JUDGE_MAX_PIXELS: got '-1', expected a positive number"),
        ("JUDGE_PRICE_IN", "-1", "JUDGE_PRICE_IN: got '-1', expected a number of at least 0"),
    ],
)
def test_odd_settings_are_refused(use, name, value, said):
    with serving(honest("")) as server:
        use(server)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(EndpointError, match=said):
            patch.setenv(name, value)
            judge.check_judge()


def test_settings_that_change_verdicts_are_facts_of_a_run(use, tmp_path):
    (tmp_path / "rubric.md").write_text("Right if it names a vehicle.")
    with serving(honest("")) as server:
        use(server, JUDGE_RUBRIC=str(tmp_path / "rubric.md"), JUDGE_IMAGES="true", JUDGE_CACHE="x")
        first = judge_facts()
        (tmp_path / "rubric.md").write_text("Right if it names a car.")
        assert first["$JUDGE_IMAGES"] == "true" and "$JUDGE_CACHE" not in first
        assert first["$JUDGE_RUBRIC"] != judge_facts()["$JUDGE_RUBRIC"]


def test_a_schema_holds_the_code_and_every_mark(use):
    with serving(honest("")) as server:
        use(server, JUDGE_SCHEMA="true", JUDGE_GROUP="true")
        grade(["red car 1", "red car 2"], judged_row(rubric=CRITERIA))
        grade(["red car 1"], judged_row())
    group, single = (request["response_format"]["json_schema"]["schema"] for request in server.requests)
    assert single["properties"]["nonce"]["enum"] == [judge_prompt(server.requests[1])[0]]
    assert single["properties"]["equal"] == {"type": "boolean"}
    marks = next(iter(group["properties"]["verdicts"]["properties"].values()))
    assert (marks["minItems"], marks["maxItems"]) == (4, 4) and len(group["properties"]["verdicts"]["required"]) == 4


# Cost and agreement.


def test_cost_and_agreement_are_counted_and_shown_by_score(use, tmp_path, capsys):
    """`python -m open_r1.score` with pictures, rubric, numbers and words."""
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "b.png")
    rows = [
        {"completion": "<answer>seven of them</answer>", "gold": "7", "question": "How many?", "image": "b.png"},
        {"completion": "<answer>8 cars</answer>", "gold": "7", "question": "How many?"},  # this judge errs
        {"completion": "<answer>8.5</answer>", "gold": "7", "question": "How many?"},
        {"completion": "<answer>red vehicle</answer>", "gold": "a red car", "question": "What?"},
        {"completion": "<answer>the colour</answer>", "gold": "a dog", "rubric": CRITERIA},
        {"completion": "<answer>7</answer>", "gold": "7"},  # needs no judge
        {"completion": '<answer>{"equal": true}</answer>', "gold": "7"},
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    with serving(honest("seven cars red")) as server:
        use(server, JUDGE_IMAGES="true", JUDGE_PRICE_IN="2", JUDGE_PRICE_OUT="10")
        server.script = honest("seven cars red")
        where = ["--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.jsonl")]
        assert score.main(["--reward_method", "llm", *where, "--rewards", "accuracy"]) == 0
        metrics = judge.judge_metrics()
    scored = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [row["score"] for row in scored] == [1.0, 1.0, 0.0, 1.0, 0.75, 1.0, 0.0]
    assert [row["reward_values"]["accuracy"] for row in scored] == [row["score"] for row in scored]
    asked = [judge_prompt(request)[1]["question"] for request in server.requests if pictures_of(request)]
    assert asked == ["What is 1 + 1?", *["How many?"] * 2]  # the trial, the answer and its decoy
    assert metrics["judge/compared"] == 3 and metrics["judge/agreement"] == pytest.approx(2 / 3)
    calls = len(server.requests)  # the trial question too
    assert metrics["judge/calls"] == calls and metrics["judge/cache_hits"] == 5
    assert (metrics["judge/tokens_in"], metrics["judge/tokens_out"]) == (100 * calls, 10 * calls)
    assert metrics["judge/cost"] == pytest.approx(calls * (100 * 2 + 10 * 10) / 1e6) and metrics["judge/seconds"] > 0
    said = capsys.readouterr()
    assert "judge: calls " in said.out and "agreement 0.66" in said.out and "judge/addressed" in said.err
    assert "with an error" not in said.err


def test_the_doctor_names_verifiable_methods():
    rows = JudgedRows()
    for gold in ("(B)", "yes", "3.5", "[1, 2, 30, 40]", '["Coca Cola", "Coke"]', "a cat on a mat"):
        rows.add(judged_row(gold))
    rows.add(judged_row("7", rubric="Strict."))
    rows.add(judged_row("7", criteria="Strict."))
    own, alike, verifiable = rows.hints()
    assert own == "1 of 8 rows judged by llm have a 'rubric' of their own" and "'criteria', which is not read" in alike
    assert (
        "6 of 8 rows judged by llm have a gold that a verifiable method grades (math 2, mcq 1, yes_no 1" in verifiable
    )


def test_the_doctor_names_a_misspelt_setting_of_the_judge(monkeypatch):
    monkeypatch.setenv("JUDGE_IMAGE", "true")
    rows = JudgedRows()
    assert rows.hints() == ()  # nothing is judged
    rows.add(judged_row("a cat on a mat"))
    (said,) = rows.hints()
    assert said.startswith("JUDGE_IMAGE: no setting of the judge") and "did you mean 'JUDGE_IMAGES'?" in said


def test_no_verdict_is_paid_by_a_judge_without_usage(use):
    with serving(lambda request, served: replace(verdict(request, True), usage=None)) as server:
        use(server)
        assert judge.llm("a red automobile", judged_row()) == 1.0
        assert judge.judge_metrics()["judge/tokens_in"] == 0.0 and "judge/cost" not in judge.judge_metrics()


def test_every_rubric_that_is_none_is_a_defect_of_its_row_where_a_flag_names_the_judge(tmp_path):
    bad = [3, [{"criteria": "x"}], [{"criterion": "x", "points": "two"}], ""]
    rows = [{"problem": "What?", "solution": "a dog", "rubric": rubric} for rubric in ["Right if a dog.", *bad]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, problems = scan_records(str(tmp_path / "rows.jsonl"), reward_methods="llm", progress=False)
    assert [problem.field for problem in problems] == ["rubric", "rubric[0]", "rubric[0].points", "rubric"]
    assert [record.accu_reward_method for record in data] == ["llm"]
    assert not scan_records(str(tmp_path / "rows.jsonl"), reward_methods="default", progress=False)[1]
