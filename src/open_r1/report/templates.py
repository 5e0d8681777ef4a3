"""The HTML templates of `report/pages`; values are escaped, undefined ones are errors. (torch-free)"""

from jinja2 import Environment, PackageLoader, StrictUndefined

PAGES = Environment(loader=PackageLoader("open_r1.report", "pages"), autoescape=True, undefined=StrictUndefined)
