"""Environments: an instance a completion, apart from all others, ended whatever it does."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.processes import all_end, is_alive
from PIL import Image

from open_r1.data.record import Record
from open_r1.errors import RunEnded, UsageError
from open_r1.evaluation.tool_turns import Sampled, tool_fields
from open_r1.rewards.registry import REWARDS
from open_r1.rewards.trl_adapter import BatchReward, RewardError
from open_r1.tools import episodes
from open_r1.tools.answering import answering
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.environment import load_environment
from open_r1.tools.environment_state import earned_by
from open_r1.tools.episodes import Episode, in_threads, opened
from open_r1.tools.messages import ModelTurn, turn_messages
from open_r1.tools.toolbox import ToolAnswer, Toolbox, make_toolbox

FILE = '''
import itertools, os, random, subprocess, sys, time
from PIL import Image

class Game:
    """Whatever may happen."""

    minimum = -2.0

    def reset(self, record, images):
        self.record, self.count, self.program = record, 0, None
        if record.extra.get("reset") == "raises":
            raise KeyError("secret")
        if record.extra.get("reset") == "chance":
            return "begin " + str(time.time())
        return ["begin", Image.new("RGB", (32, 30), (record.extra.get("shade", 7),) * 3)] if images else None

    def add(self, number: int) -> str:
        """Adds a number."""
        self.count += number
        return str(self.count)

    def draw(self) -> str:
        """Draws."""
        return str(random.random())

    def pid(self, apart: bool = False) -> str:
        """Says its process, and that of a program that it starts."""
        self.program = subprocess.Popen(["sleep", "600"], start_new_session=apart)
        return f"{os.getpid()} {self.program.pid}"

    def forks(self) -> str:
        """Forks, and comes back twice."""
        return "parent" if os.fork() else "child"

    def hang(self) -> str:
        """Hangs."""
        while True: pass

    def end(self) -> str:
        """Exits."""
        os._exit(0)

    def eat(self) -> str:
        """Eats memory."""
        return str(len(bytearray(10**11)))

    def fail(self) -> str:
        """Fails."""
        raise RuntimeError("no such board")

    def refuse(self) -> str:
        """Refuses."""
        raise ValueError("not here")

    def look(self, images, image: int = 1) -> list:
        """Shows a picture again."""
        return [f"{len(images)}", images[image - 1]]

    def reward(self):
        if self.record.extra.get("reward") == "raises":
            raise ZeroDivisionError("no steps")
        if self.record.extra.get("reward") == "hangs":
            time.sleep(600)
        return {"reward": self.count / 2, "count": self.count}

    def close(self):
        with open(self.record.extra["log"], "a") as file:
            file.write(f"closed {self.count}\\n")
'''


def conclude(ended: Sequence[Episode]) -> None:
    """Ask what completions that ended have earned."""
    in_threads(Episode.conclude, ended)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Toolbox:
    path = tmp_path_factory.mktemp("environment") / "game.py"
    path.write_text(FILE)
    made = make_toolbox([], "", seconds=60, memory_gb=0.3, environment=f"{path}:Game")
    made.start()
    return made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may keep a process waiting for seconds."""
    monkeypatch.setattr(episodes, "CLOSE_SECONDS", 60.0)


def bounded(instance: Episode, seconds: float = 1.5) -> Episode:
    """The instance, which has begun, with little time for each call from now on."""
    instance.begun()
    instance.arena = replace(instance.arena, seconds=seconds)
    return instance


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def row(log: Path, **extra: object) -> Record:
    return Record("r7", (), "", (), "7", {"log": str(log), **extra}, "train.jsonl:7")


def ask(box: Toolbox, instance: Episode, tool: str, **arguments: object) -> ToolAnswer:
    (answer,) = box.answer([ToolCall(tool, arguments)], [Image.new("RGB", (40, 40))], instance.record, instance)
    return answer


def said(answer: ToolAnswer) -> Sequence[str]:
    return [part if isinstance(part, str) else f"{part.width}x{part.height}" for part in answer.parts]


def test_state_is_kept_between_calls_and_apart_from_other_completions(box: Toolbox, log: Path) -> None:
    with opened(box.arena, [(row(log), [], ())] * 3) as made:
        asked = [
            ([ToolCall("add", {"number": n}), ToolCall("add", {"number": 1})], [], row(log)) for n in (1, 10, 100)
        ]
        with answering(box) as begin:
            answers = [begin(*of_row, episode) for of_row, episode in zip(asked, made, strict=True)]
            got = [[said(answer)[0] for answer in each.result()] for each in answers]
        assert got == [["1", "2"], ["10", "11"], ["100", "101"]]
        assert said(ask(box, made[1], "add", number=5)) == ["16"]
        conclude(made[:2])
        assert [one.earned.reward for one in made[:2]] == [1.0, 8.0]
        assert made[1].earned.measures == {"count": 16.0} and made[1].process is None and made[2].process is not None
    assert sorted(log.read_text().split("\n")[:-1]) == ["closed 101", "closed 16", "closed 2"]


def test_chance_is_the_rows_so_that_completions_of_a_group_begin_alike(box: Toolbox, log: Path) -> None:
    other = replace(row(log), id="r8")
    with opened(box.arena, [(row(log), [], ()), (row(log), [], ()), (other, [], ())]) as made:
        drawn = [said(ask(box, one, "draw")) for one in made]
    assert drawn[0] == drawn[1] != drawn[2]


FAULTS = {
    "hang": "Error: hang gave no answer within 1.5 s, so the environment ended",
    "end": "Error: end ended the environment's process, or needed more memory than it may use",
    "eat": "Error: eat ended the environment's process, or needed more memory than it may use",
}


@pytest.mark.slow
def test_what_ends_one_instance_leaves_the_others_alone(box: Toolbox, log: Path) -> None:
    with opened(box.arena, [(row(log), [], ())] * (len(FAULTS) + 1)) as made:
        for one in made:
            ask(box, one, "add", number=4)
        for one, (name, message) in zip(made, FAULTS.items(), strict=False):
            answer = ask(box, bounded(one) if name == "hang" else one, name)
            assert said(answer) == [message] and answer.error and answer.fault
            assert said(ask(box, one, "add", number=1)) == [message]  # it is not begun again without a word
        assert said(ask(box, made[-1], "add", number=1)) == ["5"]
        conclude(made)
        assert [one.earned.reward for one in made] == [-2.0, -2.0, -2.0, 2.5]


def test_an_error_is_told_and_the_instance_goes_on(box: Toolbox, log: Path) -> None:
    with opened(box.arena, [(row(log), [], ())]) as (one,):
        assert said(ask(box, one, "fail")) == ["Error: RuntimeError: no such board"]
        refused = ask(box, one, "refuse")
        assert (said(refused), refused.fault) == (["Error: not here"], None)
        assert said(ask(box, one, "add", number="x")) == ["Error: add: number: got 'x', expected a whole number"]
        assert said(ask(box, one, "add", number=3)) == ["3"]
        assert said(ask(box, one, "look")) == ["1", "40x40"]


@pytest.mark.parametrize("apart", [False, True])
def test_all_processes_end_with_the_programs_that_they_started_where_the_rollout_fails(
    apart: bool, box: Toolbox, log: Path
) -> None:
    """A browser's driver starts it apart, in a session of its own."""
    with pytest.raises(RuntimeError, match="out of the loop"), opened(box.arena, [(row(log), [], ())] * 2) as made:
        pids = [int(pid) for one in made for pid in said(ask(box, one, "pid", apart=apart))[0].split()]
        assert all(map(is_alive, pids)) and len(set(pids)) == 4
        raise RuntimeError("out of the loop")
    assert all_end(*pids)
    assert log.read_text() == "closed 0\n" * 2


@pytest.mark.slow
def test_processes_end_where_the_run_is_killed(box: Toolbox, log: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom open_r1.data.record import Record\nfrom open_r1.tools.toolbox import *\n"
        "from open_r1.tools.episodes import opened\n"
        "box = make_toolbox([], '', environment=sys.argv[1])\n"
        "record = Record('1', (), '', (), '', {'log': sys.argv[2]})\n"
        "with opened(box.arena, [(record, [], ())]) as (one,):\n"
        "    (answer,) = box.answer([ToolCall('pid', {})], [], record, one)\n"
        "    print(answer.parts[0], flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, box.arena.environment.source, str(log)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    pids = [int(pid) for pid in run.stdout.readline().split()]
    assert len(pids) == 2 and all(map(is_alive, pids))
    run.kill()
    run.wait()
    assert all_end(*pids) or os.uname().sysname != "Linux"


def test_the_opening_is_the_prompts_and_another_one_ends_the_run(box: Toolbox, log: Path) -> None:
    pictures = [Image.new("RGB", (40, 40))]
    text, picture = box.arena.opening(row(log), pictures)
    assert (text, picture.size) == ("begin", (32, 30))
    with opened(box.arena, [(row(log), pictures, (text, picture))]) as (one,):
        assert not ask(box, one, "add", number=1).error
    chance = row(log, reset="chance")
    two = pytest.raises(RunEnded, match=r"train\.jsonl:7: environment .*Game: reset: got two openings for one row")
    with two, opened(box.arena, [(chance, [], box.arena.opening(chance, []))]) as (one,):
        ask(box, one, "add", number=1)


def test_a_reset_that_fails_names_the_row(box: Toolbox, log: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"train\.jsonl:7: environment .*: reset: got KeyError: 'secret', expected .*; mend it.*\nTraceback",
    ):
        box.arena.opening(row(log, reset="raises"), [])
    with opened(box.arena, [(row(log, reset="raises"), [], ())]) as (one,):
        assert said(ask(box, one, "add", number=1)) == ["Error: reset: KeyError: 'secret'"]


@pytest.mark.slow
def test_a_reward_that_fails_or_hangs(box: Toolbox, log: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(row(log, reward=kind), [], ()) for kind in ("raises", "hangs", "")]
    with opened(box.arena, rows) as made:
        bounded(made[1])
        conclude(made)
    failed, late, good = (turn_messages([ModelTurn("7")], one.earned) for one in made)
    pay = REWARDS["environment"]
    assert (pay("7", row(log), late), pay("7", row(log), good)) == (-2.0, 0.0)
    with pytest.raises(RewardError) as error:
        BatchReward("environment")([""], [failed], record=[row(log)])
    said, traced = str(error.value).split("\nTraceback (most recent call last):\n")
    source = box.arena.environment.source
    assert said == f"{row(log).where}: reward environment: {source}.reward: ZeroDivisionError: no steps"
    assert re.findall(r'File "(.*)", line', traced) == [source.rpartition(":")[0]]
    line = {"row": "train:7", "measures": {}, "by": {}, "truncated": False}
    with caplog.at_level("WARNING"):
        evaluated = [tool_fields(Sampled([1], said), line) for said in (failed, good, failed)]
    assert [each["measures"] for each in evaluated] == [{}, {"count": 0.0, "environment": 0.0}, {}]
    assert caplog.text.count(f"train:7: reward environment: {source}.reward: ZeroDivisionError: no steps") == 1
    strict = replace(box.arena, strict=True)
    with (
        pytest.raises(RunEnded, match=r"reward gave no answer.*\nA larger --tool_seconds"),
        opened(strict, rows[1:2]) as (one,),
    ):
        conclude([bounded(one)])


@pytest.mark.parametrize(
    "value", [None, "1", {"steps": 1}, {"reward": "x"}, {"reward": 1, "steps": float("nan")}, [1]]
)
def test_what_is_no_reward_is_an_error_but_none(value: object) -> None:
    earned = earned_by(value)
    assert bool(earned.error) == (value is not None) and earned.reward is None


def test_a_child_that_a_call_forked_answers_no_call(box: Toolbox, log: Path) -> None:
    with opened(box.arena, [(row(log), [], ())]) as (one,):
        assert [said(ask(box, one, "forks")) for _ in range(20)] == [["parent"]] * 20


@pytest.mark.slow
def test_a_close_that_hangs_is_said(
    box: Toolbox, log: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "CLOSE_SECONDS", 2.0)
    os.mkfifo(log)  # opening it waits for a reader
    with opened(box.arena, [(row(log), [], ())]) as (one,):
        ask(box, one, "add", number=1)
    assert "close failed; more are not shown:\nclose gave no answer within 2 s" in caplog.text


TRLS = '''
class Trl:
    def reset(self, **kwargs):
        self.kwargs = kwargs
        return "level " + kwargs["level"]
    def step(self, action: str) -> str:
        """Acts."""
        return action + self.kwargs["solution"]
    def get_reward(self):
        return 1.0
'''


def test_a_class_of_trls_shape_works(tmp_path: Path, log: Path) -> None:
    (tmp_path / "trl_game.py").write_text(TRLS)
    made = make_toolbox([], "", seconds=20, environment=f"{tmp_path / 'trl_game.py'}:Trl")
    record = row(log, level="easy")
    assert made.arena.opening(record, []) == ("level easy",)
    with opened(made.arena, [(record, [], ("level easy",))]) as (one,):
        assert said(ask(made, one, "step", action="go")) == ["go7"]
        assert one.conclude().reward == 1.0


METHOD = '    def move(self, to: str):\n        """Moves."""\n'
RESET = "    def reset(self, record): ...\n"
REFUSED = [
    ("game.py", "--environment: got 'game.py', expected path/to/file.py:Class; write game.py:Class"),
    ("Game", "--environment: got 'Game', expected path/to/file.py:Class"),
    ("FILE:Gam", "has no class 'Gam', expected one of Game; did you mean 'Game'?"),
    ("gone.py:Game", "got gone.py, expected a Python file; correct the path"),
    (METHOD, "Game has no method reset, expected reset(self, record), which begins for a row"),
    (RESET, "Game has no tool, expected a public method with type hints and a docstring"),
    (RESET + "    def move(self, to):\n        '''Moves.'''\n", "tool move: parameter to: got no type hint"),
    (RESET + "    def move(self, to: str): ...\n", "tool move: docstring: got none"),
    (RESET + METHOD + "    def __init__(self, size): ...\n", "got Game, missing a required argument: 'size'"),
    (RESET + METHOD + "    async def reward(self): ...\n", "got reward as async or a generator"),
    (RESET + METHOD + "    def reward(self): ...\n    def get_reward(self): ...\n", "has reward and get_reward"),
    (RESET + METHOD + "    def reward(self, state): ...\n", "got reward(state), expected no arguments; a tool has"),
    (RESET + METHOD + "    is_over = False\n", "got is_over as a bool, expected a plain method; write it with self"),
    (
        RESET + METHOD + "    @staticmethod\n    def go(to: str): ...\n",
        "got go as a staticmethod, expected a plain method",
    ),
    (RESET + METHOD + "    minimum = 'low'\n", "minimum: got 'low', expected a finite number"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_what_is_no_environment_is_refused_in_a_sentence(source: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "game.py"
    path.write_text("class Game:\n" + (source if "\n" in source else RESET + METHOD))
    with pytest.raises(UsageError) as error:
        load_environment(f"{path}:Game" if "\n" in source else source.replace("FILE", str(path)))
    assert message in str(error.value)


ENDING = '''
class Countdown:
    def reset(self, record):
        self.left, self.record = 2, record
    def step(self) -> str:
        """Steps."""
        self.left -= 1
        return f"{self.left} left"
    def is_over(self):
        return self.record.extra.get("says", self.left == 0)
    def reward(self):
        return -self.left
'''


def test_an_environment_ends_its_completion_and_leaves_further_calls_out(tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text(ENDING)
    box, step = make_toolbox([], "", environment=f"{tmp_path / 'ending.py'}:Countdown"), ToolCall("step", {})
    assert "is_over" not in box.tools
    with opened(box.arena, [(row(tmp_path), [], ()), (row(tmp_path, says=None), [], ())]) as (whole, odd):
        (first,) = box.answer([step], [], whole.record, whole)
        (last,) = box.answer([step, step, step], [], whole.record, whole)
        assert (first.parts, first.over, last.parts, last.over) == (("1 left",), False, ("0 left",), True)
        conclude([whole])
        assert whole.earned.reward == 0
        (answer,) = box.answer([step], [], odd.record, odd)
        assert answer.fault == "is_over: returned None, expected true or false" and not answer.over


def test_the_end_of_an_episode_takes_no_arguments(tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text(ENDING.replace("is_over(self)", "is_over(self, by)"))
    with pytest.raises(UsageError, match=r"got is_over\(by\), expected no arguments; a tool has another name"):
        load_environment(f"{tmp_path / 'ending.py'}:Countdown")
