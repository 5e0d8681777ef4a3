"""Faults whose trial is a test of pytest: runs those tests, and gathers which fault each shows.

    python tests/torture/shown.py OUT

They stand in faults.py: damaged checkpoints and models, two runs in a folder, silent failures, secrets, odd texts and
rewards, files that cannot be written. The figure is what pytest says of the tests named. Takes about five minutes.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree  # nosec B405 # pytest's own report

from faults import FAULTS, Fault
from rows import Row, write

REPO = Path(__file__).resolve().parents[2]


def run(selectors: Sequence[str], out: Path) -> dict[tuple[str, str], list[float | None]]:
    """(module, function) -> seconds of each of its cases that passed, None for one that did not."""
    report = out / "shown.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([*command, *dict.fromkeys(selectors)], cwd=REPO)  # what failed stands in the report
    found: dict[tuple[str, str], list[float | None]] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # nosec B314 # pytest's own report
        name = case.attrib["name"].partition("[")[0]
        seconds = float(case.attrib["time"]) if len(case.findall("*")) == len(case.findall("system-*")) else None
        found.setdefault((case.attrib["classname"].rpartition(".")[2], name), []).append(seconds)
    return found


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    selectors = [f"tests/{f.file}.py" + (f"::test_{test}" if test else "") for f in FAULTS for test in f.tests]
    found, rows, broken = run(selectors, out), [], []
    for fault in FAULTS:
        mine = [
            cases for (module, name), cases in found.items() if module == Path(fault.file).name and chosen(name, fault)
        ]
        times = [seconds for cases in mine for seconds in cases]
        passed = [seconds for seconds in times if seconds is not None]
        if len(passed) < len(times) or len(mine) < len(fault.tests):
            broken.append(fault.fault)
        names = ", ".join(f"test_{test}" for test in fault.tests if test)
        figure = f"{len(passed)} of {len(times)} cases passed in {sum(passed):.0f} s"
        rows.append(Row(fault.fault, fault.happens, f"tests/{fault.file}.py{'::' * bool(names)}{names}", figure))
    write(out, "shown", rows)
    if broken:
        sys.exit(f"not shown: {broken}")


def chosen(name: str, fault: Fault) -> bool:
    return fault.tests == ("",) or name.removeprefix("test_") in fault.tests


if __name__ == "__main__":
    main()
