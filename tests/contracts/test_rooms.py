"""Which room may import which: no import back, no circle, no torch in the lower rooms, no public name twice."""

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from helpers.repository import REPO

PACKAGE = REPO / "src" / "open_r1"

# From the ground up: a file imports from its own line and from those above it in this table, never from below.
FLOORS = (
    "errors redaction",
    "data",
    "endpoint",
    "rewards",
    "tools",
    "tasks",
    "report",
    "config",
    "models",
    "rollout",
    "plan",
    "trainer",
    "evaluation",
    "rehearse",
    "survey",
    "replay",
    "check convert families score model_card grpo grpo_jsonl grpo_rec sft_jsonl",  # the doors
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
LIGHT = FLOORS[: FLOORS.index("config")]  # rooms that load neither torch nor what stands on it
HEAVY = {"torch", "transformers", "trl", "accelerate", "deepspeed", "peft", "vllm"}
OF_EVERY_FILE = {"main", "logger"}  # names that each file may have for itself


def module_of(path: Path) -> str:
    return str(path.relative_to(REPO / "src").with_suffix("")).replace("/", ".").removesuffix(".__init__")


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """
    >>> room_of("open_r1.rewards.parsing.boxes"), room_of("open_r1.errors")
    ('rewards', 'errors')
    """
    return module.split(".")[1]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> list[tuple[str, str | None]]:
    """(module, name or None) of each import of a file, also within functions; of a package's file, that file."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append((whole, None) if whole in FILES else (node.module, alias.name))
    return found


def ours(module: str) -> list[str]:
    return [target for target, _ in imports_of(module) if target.startswith("open_r1.")]


def test_every_file_stands_in_a_room_of_the_table():
    rooms = {room_of(module) for module in FILES if module != "open_r1"}
    assert rooms == set(FLOOR)


def test_no_arrow_points_back():
    arrows = [(module, target) for module in FILES if module != "open_r1" for target in ours(module)]
    back = [
        f"{module} -> {target}"
        for module, target in arrows
        if room_of(module) != room_of(target)
        and FLOOR[room_of(module)] <= FLOOR[room_of(target)]
        and room_of(module) != "grpo_rec"  # `grpo_rec.py` is `grpo_jsonl.py` with a task
    ]
    assert back == []


def test_no_circle_of_files():
    state: dict[str, str] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        if state.get(module) == "open":
            raise AssertionError(" -> ".join((*path[path.index(module) :], module)))
        if module not in state:
            state[module] = "open"
            for target in ours(module):
                visit(target, (*path, module))
            state[module] = "done"

    for module in FILES:
        visit(module, ())


def test_no_private_name_crosses_rooms():
    private = [
        f"{module}: {target}.{name}"
        for module in FILES
        for target, name in imports_of(module)
        if target.startswith("open_r1.") and room_of(target) != room_of(module)
        if (name or "").startswith("_") or any(part.startswith("_") for part in target.split("."))
    ]
    assert private == []


def top_imports(module: str) -> set[str]:
    """Packages that a file imports as it is loaded, not within functions."""
    names = []
    for node in tree_of(module).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    return {name.split(".")[0] for name in names}


def test_no_file_at_or_below_config_imports_torch():
    """TRL's dataclasses, on which `config` stands, load it; our own files ask it within functions, where at all."""
    low = [module for module in FILES if module != "open_r1" and FLOOR[room_of(module)] <= FLOOR["config"]]
    assert [module for module in low if "torch" in top_imports(module)] == []


def test_the_lower_rooms_load_neither_torch_nor_what_stands_on_it():
    modules = [m for m in FILES if m != "open_r1" and FLOOR[room_of(m)] < len(LIGHT) and not m.endswith("__main__")]
    modules += ["open_r1.check", "open_r1.score", "open_r1.model_card"]
    modules.remove("open_r1.data.hub_dataset")  # `datasets` may load torch
    code = f"import importlib, sys\nfor m in {modules}: importlib.import_module(m)\n"
    code += f"print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=REPO)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def names_defined(module: str) -> list[str]:
    names: list[str] = []
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in getattr(target, "elts", [target])]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def test_no_public_name_is_defined_twice():
    places = defaultdict(list)
    for module in FILES:
        for name in names_defined(module):
            places[name].append(module)
    assert {n: found for n, found in places.items() if len(found) > 1 and n not in OF_EVERY_FILE} == {}


def test_a_name_is_imported_from_the_file_that_defines_it():
    homes = {name: module for module in FILES for name in names_defined(module) if name not in OF_EVERY_FILE}
    others = [
        f"{module}: {name} from {target}, defined in {homes[name]}"
        for module in FILES
        for target, name in imports_of(module)
        if target.startswith("open_r1.") and name in homes and homes[name] != target
    ]
    assert others == []


def test_each_file_begins_with_what_it_does_and_package_files_hold_no_more():
    assert [module for module in FILES if not ast.get_docstring(tree_of(module))] == []
    packages = [module for module, path in FILES.items() if path.name == "__init__.py"]
    assert [module for module in packages if len(tree_of(module).body) > 1] == []


def test_no_test_imports_another():
    tests = sorted((REPO / "tests").rglob("*.py"))
    modules = {path.stem for path in tests if path.stem.startswith("test_")} | {"conftest"}
    found = {
        (path.name, name)
        for path in tests
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name in modules
    }
    assert found == set()
