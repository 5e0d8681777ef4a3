"""The HTML templates of `report/pages`; values are escaped, undefined ones are errors. (torch-free)"""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

PAGES = Environment(loader=PackageLoader("open_r1.report", "pages"), autoescape=True, undefined=StrictUndefined)


def whole_flags(text: str) -> Markup:
    """A text, escaped and without backticks, whose flags are not broken at the end of a line.

    >>> print(whole_flags("Raise `--beta` <now>"))
    Raise <span class="flag">--beta</span> &lt;now&gt;
    """
    safe = str(escape(text.replace("`", "")))
    return Markup(re.sub(r"--\w+", r'<span class="flag">\g<0></span>', safe))  # nosec B704 # escaped above


PAGES.filters["whole_flags"] = whole_flags
