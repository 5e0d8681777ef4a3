"""No line of the project turns data or a model's text into code: found in the syntax trees of all its files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.repository import REPO

FOLDERS = ("src", "eval", "local_scripts")
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "code", "pty"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "pickle.loads",
    "pandas.read_pickle",
}

# file: what was found -> why it may stand there
ALLOWED: dict[tuple[str, str], str] = {
    (
        "src/open_r1/tasks/importers/annotations/refcoco.py",
        "import pickle",
    ): "the refer toolbox ships pickles; its Unpickler refuses "
    "every class and function, so that nothing but lists, dicts, texts and numbers can be read",
    ("local_scripts/consolidate_zero.py", "import pickle"): "the exception that a refused file raises, nothing else",
    ("src/open_r1/report/run_folder.py", "yaml.load"): "with CSafeLoader, the fast form of safe_load",
    ("src/open_r1/rewards/sandbox/user_module.py", "exec_module"): "a reward that the user names by its file",
}


def files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((REPO / folder).rglob("*.py"))]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute; "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def said(call: ast.Call, name: str) -> object:
    """The literal that a keyword is given: its value, "an expression" for none, None where it is not given."""
    values = [word.value for word in call.keywords if word.arg == name]
    if not values:
        return None
    return values[0].value if isinstance(values[0], ast.Constant) else "an expression"


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each place that could run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, f"import {name}") for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in unsafe_call(node))


def unsafe_call(call: ast.Call) -> Iterator[str]:
    name = dotted(call.func)
    last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
    if name in BUILTINS | CALLS:
        yield name
    if last == "exec_module":
        yield last
    if name == "torch.load" and said(call, "weights_only") is not True:
        yield "torch.load without weights_only=True"
    if last == "load" and said(call, "allow_pickle") not in (None, False):
        yield "load with allow_pickle"
    if name.startswith("subprocess.") and said(call, "shell") not in (None, False):
        yield "a shell"
    if said(call, "trust_remote_code") is True:
        yield "trust_remote_code=True"
    spread = any(word.arg is None for word in call.keywords)
    loads = last == "from_pretrained" and name.startswith("Auto")
    if loads and said(call, "trust_remote_code") is None and not spread:
        yield "from_pretrained without trust_remote_code: transformers would ask on a terminal"


@pytest.mark.slow
def test_nothing_that_is_read_becomes_code():
    found = {}
    for path in files():
        name = path.relative_to(REPO).as_posix()
        for line, what in unsafe(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault((name, what), []).append(line)
    assert {place: lines for place, lines in found.items() if place not in ALLOWED} == {}
    assert set(ALLOWED) <= set(found), "an exception that nothing needs any more"


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "import os\nos.system(text)",
        "from pickle import loads",
        "import numpy as np\nnp.load(file, allow_pickle=True)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "torch.load(file, weights_only=chosen)",
        "subprocess.run(text, shell=True)",
        "yaml.load(text)",
        "load(trust_remote_code=True)",
        "AutoConfig.from_pretrained(name)",
    ],
)
def test_the_search_finds(code):
    assert list(unsafe(ast.parse(code)))


def test_the_search_leaves_the_rest():
    code = (
        "model.eval()\nre.compile(x)\ntorch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)\njson.load(f)"
    )
    assert list(unsafe(ast.parse(code + "\nsubprocess.run(['a'])\nAutoConfig.from_pretrained(n, **more)"))) == []


@pytest.mark.slow
def test_bandit_finds_nothing_unanswered():
    """Findings are answered where they stand (`# nosec BXXX: why`), or for good in pyproject.toml."""
    command = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r", *FOLDERS]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
