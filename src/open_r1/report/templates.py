"""The HTML templates of `report/pages`: every value is escaped, and an undefined one is an error. (torch-free)"""

from jinja2 import Environment, PackageLoader, StrictUndefined

PAGES = Environment(loader=PackageLoader("open_r1.report", "pages"), autoescape=True, undefined=StrictUndefined)
