"""The patterns of boxes in model text, in every family's notation; `boxes` reads what they match.

Repeated spaces, words and parts are bounded, so that hostile text is searched in linear time.
"""

import re

_S = r"\s{0,80}"
DECIMAL = r"[-+]?\d{1,9}(?:\.\d{0,30})?"  # a number
_PX = r"(?:\s?(?:px|pixels?)\b)?"
_N = rf"[\"']?({DECIMAL}){_PX}[\"']?"
_COMMA = rf"(?:{_S},{_S}(?:and\s)?|[^\S\n]{{1,80}})"
_FOUR = _S + _COMMA.join([_N] * 4) + _S
_XY = [rf"[\"']?\b{axis}[\"']?\s?[=:]\s?" for axis in "xy"]
_POINT = (
    rf"(?:[\[({{]{_S}(?:{_XY[0]})?{DECIMAL}{_PX}{_S},{_S}(?:{_XY[1]})?{DECIMAL}{_PX}{_S}[\])}}]"
    rf"|{_XY[0]}{DECIMAL}{_PX}{_S},{_S}{_XY[1]}{DECIMAL}(?!\.?\d){_PX})"
)
_NAMES = rf"\({_S}[a-z]\w{{0,9}}{_S},{_S}[a-z]\w{{0,9}}{_S}\){_S}(?:[=:]|is|at)?{_S}"  # "(x2, y2) = "
_GAP = rf"(?:[^\d()\[\]{{}}<>]|->|2(?=\s?[:=])){{0,60}}(?:{_NAMES})?"  # between two corners
EDGE_NAMES = [  # names of x1, y1, x2, y2; and of a corner with a size
    ("x1 x_1 xmin x_min left", "y1 y_1 ymin y_min top", "x2 x_2 xmax x_max right", "y2 y_2 ymax y_max bottom"),
    ("x left", "y top", "w width", "h height"),
]
_EDGE = "|".join(name for form in EDGE_NAMES for edge in form for name in edge.split())
_ITEM = rf"[\"'*]{{0,2}}\b(?:{_EDGE})[\"'*]{{0,2}}\s?(?:[=:]|is)[*]{{0,2}}\s?[\"']?{DECIMAL}{_PX}[\"']?"  # "x_min": 10
_NAMED = r"(?:[,;\s*-]|and|\d\.\s){1,80}".join([_ITEM] * 4)
BOX = re.compile(
    rf"(?:<\|?(?:object_)?ref(?:_start)?\|?>(?P<ref>[^<]{{1,200}})<\|?(?:/ref|object_ref_end)\|?>{_S}(?:<[^>]{{1,20}}>)?)?"
    rf"(?:[\"'](?P<key>[a-z]\w{{0,30}})[\"']{_S}:{_S})?[\[(]?(?:"
    rf"\[{_FOUR}\]|\({_FOUR}\)|<box>{_FOUR}</box>|<{_FOUR}>|<{_N}><{_N}><{_N}><{_N}>"
    rf"|(?P<corners>{_POINT}{_GAP}{_POINT}(?:{_GAP}{_POINT}{_GAP}{_POINT})?)"
    rf"|(?P<loc>(?:<loc\d{{4}}>)+)"
    rf"|(?P<named>{_NAMED}))",
    re.IGNORECASE,
)
# groups of single numbers: the notation that matches fills four of them, or none
BOX_NUMBERS = [i + 1 for i in range(BOX.groups) if i + 1 not in BOX.groupindex.values()]
NUMBER_RUN = re.compile(
    rf"(?:([\[(<]){_S}|(?<![A-Za-z\d_.\[(<]))({DECIMAL}{_PX}(?:{_COMMA}{DECIMAL}{_PX}){{1,8}})(?![A-Za-z\d_\])>])"
)
CORNER = re.compile(
    rf"[\[({{]{_S}(?:{_XY[0]})?({DECIMAL}){_PX}{_S},{_S}(?:{_XY[1]})?({DECIMAL}){_PX}{_S}[\])}}]"
    rf"|{_XY[0]}({DECIMAL}){_PX}{_S},{_S}{_XY[1]}({DECIMAL})",
    re.IGNORECASE,
)
NAMED_EDGE = re.compile(rf"\b({_EDGE})[\"'*]{{0,2}}\s?(?:[=:]|is)[*]{{0,2}}\s?[\"']?({DECIMAL})", re.IGNORECASE)
