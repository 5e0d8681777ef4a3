"""The tests that the torture trial `shown.py` runs are there, so that no row of its table is lost by a rename."""

import ast

from faults import FAULTS
from helpers.repository import REPO


def test_each_named_test_exists():
    lacking = []
    for fault in FAULTS:
        path = REPO / "tests" / f"{fault.file}.py"
        names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
        lacking += [f"{fault.file}: {test}" for test in fault.tests if test and f"test_{test}" not in names]
    assert lacking == []


def test_a_fault_stands_once():
    assert len({fault.fault for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.file, test) for fault in FAULTS for test in fault.tests}) == sum(len(f.tests) for f in FAULTS)
