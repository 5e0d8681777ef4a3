"""What README, CONTRIBUTING and assets/docs say of the repository is so: links, anchors, names, files, examples."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import corpus_table
import numpy as np
import pytest
import rooms_tree
from helpers.repository import REPO

from open_r1.config.flag_names import RETIRED, RETIRED_WITH_JSONL
from open_r1.data.record import parse_row
from open_r1.rewards.custom import load_reward
from open_r1.rewards.registry import METHODS, REWARDS, accuracy
from open_r1.tasks.export import example_rows
from open_r1.tasks.registry import TASKS
from open_r1.tasks.task import Task

PACKAGE = REPO / "src" / "open_r1"
README, ARCHITECTURE = REPO / "README.md", REPO / "assets" / "docs" / "architecture.md"
PAGES = sorted((REPO / "assets" / "docs").glob("*.md"))
DOCS = [README, REPO / "CONTRIBUTING.md", *PAGES]
RUN_SCRIPTS = sorted(path for path in (REPO / "run_scripts").iterdir() if path.is_file())
GROUND = {"errors", "redaction"}
# files of the reader or of other projects, which a page tells of and this repository does not have
ELSEWHERE = {"src/open_r1/tasks/clock.py", "local_scripts/lmms_eval_qwen2vl.sh", "run_scripts/RECIPE"}

LINK = re.compile(r"\[[^\]\n]*\]\(([^()\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
REPOSITORY_PATH = re.compile(r"(?<![\w/.-])(?:src/open_r1|tests|eval|local_scripts|run_scripts|assets)/[\w./*-]*\w")
NAME_IN_FILE = re.compile(r"`([\w/]+\.py):([\w.]+)`")


def test_readme_is_short():
    lines = len(README.read_text(encoding="utf-8").splitlines())
    assert lines <= 250, f"README.md: got {lines} lines, expected at most 250; move text to assets/docs"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path):
    assert [problem for target in links(page) if (problem := broken(page, target))] == []


def test_every_page_is_linked_from_the_readme():
    linked = {(README.parent / target.partition("#")[0]).resolve() for target in links(README)}
    assert [page.name for page in PAGES if page not in linked] == []


@pytest.mark.parametrize("page", [*DOCS, *RUN_SCRIPTS], ids=lambda page: page.name)
def test_paths_of_this_repository_exist(page: Path):
    """Wherever they stand: in links, commands, tables or comments; `*` stands for any part of a name."""
    text = page.read_text(encoding="utf-8")
    named = set(REPOSITORY_PATH.findall(comments(text) if page in RUN_SCRIPTS else text)) - ELSEWHERE
    assert sorted(path for path in named if not any(REPO.glob(path.rstrip("/")))) == []


def test_names_in_files_of_the_architecture_exist():
    named = NAME_IN_FILE.findall(ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(named) > 50, "the pattern no longer finds the names"
    assert [f"{file}:{name}" for file, name in named if name not in names_in(PACKAGE / file)] == []


@pytest.mark.parametrize("page", [page for page in DOCS if page.stem != "migration"], ids=lambda page: page.name)
def test_modules_named_in_backticks_exist(page: Path):
    """Below src/open_r1 or the repository's root, such as `rewards/registry.py`."""
    named = {path for path in re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8")) if "/" in path}
    places = (PACKAGE, REPO)
    assert sorted(path for path in named - ELSEWHERE if not any((root / path).exists() for root in places)) == []


def test_rooms_import_what_the_architecture_says():
    allowed = rooms_and_imports()
    assert set(allowed) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    wrong = {
        f"{room} imports {other} in {file.relative_to(PACKAGE)}"
        for room, others in allowed.items()
        for file in (PACKAGE / room).rglob("*.py")
        for other in rooms_imported(file) - others - GROUND - {room}
    }
    assert sorted(wrong) == []


def test_rooms_stand_from_bottom_to_top():
    seen: set[str] = set()
    for room, others in rooms_and_imports().items():
        assert others <= seen, f"{room} imports {others - seen}, which stand below it in the table"
        seen.add(room)
    assert tuple(seen) and tuple(rooms_and_imports()) == rooms_tree.BOTTOM_TO_TOP


def test_the_tree_shows_the_files_that_are_there():
    script = "local_scripts/dev/readme/rooms_tree.py"
    assert rooms_tree.section().is_up_to_date(), f"run python {script}"


def test_the_table_of_the_corpus_names_each_kind():
    page = (REPO / "assets" / "docs" / "rewards.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"\| `(\w+)\.jsonl` \|.*\| (\d+) \| \d+ \|", page))
    files = {
        path.stem: len(path.read_text(encoding="utf-8").splitlines()) for path in corpus_table.CORPUS.glob("*.jsonl")
    }
    assert written.keys() == files.keys() <= corpus_table.KINDS.keys()
    assert [name for name, count in written.items() if int(count) > files[name]] == [], "rows were lost"


def test_readmes_tree_names_every_room_door_and_script():
    named = [word.rstrip("/") for word in tree_of_readme().split()]
    wanted = [path.name for path in (*PACKAGE.glob("*.py"), *RUN_SCRIPTS) if path.name != "__init__.py"]
    wanted += [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert [name for name in wanted if not any(fnmatch(name, word) for word in named)] == []


def test_scripts_that_users_run_stand_on_their_page():
    pages = {"recipes": RUN_SCRIPTS, "evaluation": sorted((REPO / "eval").glob("*.*"))}
    for page, scripts in pages.items():
        text = (REPO / "assets" / "docs" / f"{page}.md").read_text(encoding="utf-8")
        assert [script.name for script in scripts if script.name not in text] == [], page


def test_tables_name_every_reward_method_task_and_retired_flag():
    known = {
        "rewards": [*REWARDS, *METHODS],
        "tasks": [*TASKS],
        "migration": [f"--{name}" for name in (*RETIRED, *RETIRED_WITH_JSONL)],
    }
    for page, names in known.items():
        text = (REPO / "assets" / "docs" / f"{page}.md").read_text(encoding="utf-8")
        assert [name for name in names if not re.search(rf"`{name}[` ]", text)] == [], page


def test_the_rewards_of_the_page_load_and_pay(tmp_path):
    file = tmp_path / "my_rewards.py"
    file.write_text(example_of("rewards", "short_thought"), encoding="utf-8")
    record = parse_row({"problem": "Why?", "solution": "[1, 2, 3, 4]"}, "a.jsonl:1", 1, method="rec")
    picture = white_on_black()
    said = f"<think>so</think><answer>{record.solution}</answer>"
    seen = record.with_extra(model_family="original", image_wh=picture.size)
    assert load_reward(f"{file}:short_thought")(said, record) == 1.0
    assert load_reward(f"{file}:short_thought")(said, record.with_extra(long_answer=True)) is None
    assert load_reward(f"{file}:box_shows_something")("<answer>[0, 0, 40, 40]</answer>", seen, [picture]) == 0.25
    chat = [[{"role": "assistant", "content": text}] for text in (said, said, "<answer>no</answer>")]
    assert load_reward(f"{file}:answers_differ")(chat, [record] * 3, [[picture]] * 3) == [0.0, 0.0, 1.0]


def test_the_task_of_the_page_makes_rows_whose_gold_answer_pays():
    code: dict[str, object] = {"__name__": "clock"}
    exec(example_of("tasks", "CLOCK = Task("), code)
    task = code["CLOCK"]
    assert isinstance(task, Task)
    answers = {}
    for split in task.generator.splits:
        rows = [row for i in range(20) for row in example_rows(task.generator().example(0, split, i), split, i)]
        records = [parse_row(row, f"{split}:1", 1, method=task.method) for row in rows]
        assert [accuracy(f"<answer>{record.solution}</answer>", record) for record in records] == [1.0] * len(records)
        answers[split] = {record.solution for record in records}
    assert not answers["train"] & answers["heldout"]


def links(page: Path) -> list[str]:
    """Targets of relative links and pictures, outside of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = ("".join(match.groups(default="")) for match in LINK.finditer(text))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def broken(page: Path, target: str) -> str | None:
    """What is wrong with a link of a page, or None."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return f"{target}: no such file"
    if anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
        return f"{target}: no such heading"
    return None


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings.

    >>> sorted(anchors("# Where is ...\\n## Two, three\\n### A `b_c`"))
    ['a-b_c', 'two-three', 'where-is-']
    """
    headings = re.findall(r"^#{1,6} (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def comments(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if line.lstrip().startswith("#"))


def names_in(file: Path) -> set[str]:
    """Functions, classes, their methods, and assigned names of a module, as "name" and "Class.name"."""
    return set(_names(ast.parse(file.read_text(encoding="utf-8")).body)) if file.exists() else set()


def _names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _names(node.body, f"{prefix}{node.name}.")
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def rooms_and_imports() -> dict[str, set[str]]:
    """Room -> rooms that it may import, by the architecture's table."""
    table = re.search(r"^\| room \|.*?\n\n", ARCHITECTURE.read_text(encoding="utf-8"), flags=re.M | re.S)
    rows = [line.strip("|").split("|") for line in table.group(0).strip().splitlines()[2:]]
    return {re.search(r"\w+", name).group(0): set(re.findall(r"`(\w+)`", imports)) for name, _, imports in rows}


def rooms_imported(file: Path) -> set[str]:
    """Rooms of this package that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in imported if name.startswith("open_r1.")}


def tree_of_readme() -> str:
    return re.search(r"^## File tree\s+```\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.M | re.S).group(1)


def example_of(page: str, holding: str) -> str:
    """The Python block of a page that holds this text."""
    text = (REPO / "assets" / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return next(block for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S) if holding in block)


def white_on_black():
    """A picture of 40 x 40, its upper left quarter white."""
    from PIL import Image

    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20, :20] = 255
    return Image.fromarray(pixels)
