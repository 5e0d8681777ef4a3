"""bandit over the code, pip-audit over what is installed: `python tests/torture/audit.py OUT [--service pypi|osv]`.

bandit's findings are answered where they stand (`# nosec BXXX # why`) or in pyproject.toml; pip-audit's in ANSWERED
below. The trial fails for one that nobody has answered. Where the service of advisories cannot be reached, or does not
know the packages, the row says so: nothing was checked then, which is no pass.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rows import Row, write

REPO = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "eval", "local_scripts")
TEST = "tests/torture/audit.py"

# advisory -> why this project is not affected
ANSWERED: dict[str, str] = {}


def bandit() -> tuple[Row, bool]:
    command = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-f", "json", "-r", *FOLDERS]
    report = json.loads(subprocess.run(command, cwd=REPO, text=True, capture_output=True).stdout)
    found, lines = report["results"], report["metrics"]["_totals"]["loc"]
    answered = report["metrics"]["_totals"]["skipped_tests"]
    for one in found:
        print(f"{one['filename']}:{one['line_number']}: {one['test_id']}: {one['issue_text']}", file=sys.stderr)
    figure = f"{lines:,} lines, {len(found)} findings, {answered} answered in place"
    happens = "bandit finds nothing that is not answered where it stands, with its reason"
    test = "tests/hostile/test_safe_code.py::test_bandit_finds_nothing_unanswered"
    return Row("unsafe code in the project", happens, test, figure), not found and not report["errors"]


def pip_audit(service: str) -> tuple[Row, bool]:
    fault = "an installed package with a published hole"
    happens = "it is updated, or audit.py says why it does no harm here"
    packages = installed(service)
    if isinstance(packages, str):
        return Row(fault, happens, TEST, f"not checked: the service {service} gave no answer ({packages})"), True
    known = [one for one in packages if "skip_reason" not in one]
    if not known:
        why = f"not checked: the service {service} knows none of the {len(packages)} installed packages"
        return Row(fault, happens, TEST, f"{why}, as a mirror without advisories"), True
    found = [(one["name"], one["version"], hole["id"]) for one in known for hole in one["vulns"]]
    left = [f"{name} {version}: {number}" for name, version, number in found if number not in ANSWERED]
    print("\n".join(left), file=sys.stderr)
    figure = f"{len(known)} of {len(packages)} packages known to {service}, {len(found)} advisories, {len(left)} open"
    return Row(fault, happens, TEST, figure), not left


def installed(service: str) -> list[dict[str, Any]] | str:
    """Every installed package with its advisories; in words, why there is no list."""
    command = [sys.executable, "-m", "pip_audit", "-s", service, "-f", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, timeout=300)
        return json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return "300 s"
    except json.JSONDecodeError:
        return (done.stderr.strip().splitlines() or ["it said nothing"])[-1].partition(":")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--service", default="pypi", choices=("pypi", "osv"), help="who is asked for advisories")
    args = parser.parse_args()
    results = [bandit(), pip_audit(args.service)]
    write(args.out, "audit", [row for row, _ in results])
    for row, well in results:
        print(f"{'ok' if well else 'FAILED'}: {row.fault}: {row.figure}", file=sys.stderr)
    return 0 if all(well for _, well in results) else 1


if __name__ == "__main__":
    sys.exit(main())
