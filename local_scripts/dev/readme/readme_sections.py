"""Parts of the documentation that a script writes, each between two comments that name the script.

section = Section("flags", "assets/docs/flags.md", "local_scripts/dev/readme/flags_table.py", tables)
section.run(__doc__)     # the script's command line: writes the part, or with --check says whether it is up to date
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Section:
    """`content` gives the Markdown between `<!-- NAME: begin (SCRIPT) -->` and `<!-- NAME: end -->` in `page`.

    `page` and `script` are paths from the repository's root.
    """

    name: str
    page: str
    script: str
    content: Callable[[], str]

    @property
    def path(self) -> Path:
        return REPO / self.page

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: begin ({self.script}) -->"

    @property
    def end(self) -> str:
        return f"<!-- {self.name}: end -->"

    def text(self) -> str:
        return f"{self.begin}\n\n{self.content().strip()}\n\n{self.end}"

    def is_up_to_date(self) -> bool:
        """Whether the page holds this part as the script writes it now."""
        return self.text() in self.path.read_text(encoding="utf-8")

    def put_into(self, page_text: str) -> str:
        """The page's text with this part renewed; ends the program where its two comments are missing.

        >>> Section("n", "p.md", "s.py", lambda: "new").put_into("a <!-- n: begin (s.py) --> old <!-- n: end --> b")
        'a <!-- n: begin (s.py) -->\\n\\nnew\\n\\n<!-- n: end --> b'
        """
        head, begin, rest = page_text.partition(self.begin)
        _, end, tail = rest.partition(self.end)
        if not begin or not end:
            sys.exit(
                f"{self.page}: got no {self.begin} ... {self.end}, expected both where the part belongs; add them"
            )
        return head + self.text() + tail

    def run(self, description: str) -> None:
        """The command line of `script`: status 1 where --check finds the part out of date."""
        formatter = argparse.RawDescriptionHelpFormatter
        parser = argparse.ArgumentParser(description=description, formatter_class=formatter)
        parser.add_argument("--check", action="store_true")
        check = parser.parse_args().check
        old = self.path.read_text(encoding="utf-8")
        new = self.put_into(old)
        if check and new != old:
            sys.exit(f"{self.page}: {self.name} is not up to date; run python {self.script}")
        if not check:
            self.path.write_text(new, encoding="utf-8")
