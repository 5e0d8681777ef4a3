"""The tests that the torture trial `shown.py` runs are there, so that no row of its table is lost by a rename."""

import ast
import runpy
import sys

import pytest
from helpers.repository import REPO


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    folder = str(REPO / "tests" / "torture")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        found = runpy.run_path(f"{folder}/shown.py")["FAULTS"]
    sys.modules.pop("rows", None)
    return found


def test_each_named_test_exists(faults):
    lacking = []
    for fault in faults:
        path = REPO / "tests" / f"{fault.file}.py"
        names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
        lacking += [f"{fault.file}: {test}" for test in fault.tests if test and f"test_{test}" not in names]
    assert lacking == []
