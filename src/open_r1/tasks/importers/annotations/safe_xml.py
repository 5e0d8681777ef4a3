"""Reads XML without document types, so without entities that grow or name files. (torch-free)"""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder  # nosec B405 # builds elements; expat below refuses DOCTYPE
from xml.parsers import expat  # nosec B407 # every document type is refused before an entity can be declared

from open_r1.errors import data_error

MAX_ELEMENT_DEPTH = 100  # of elements within one another


def read_xml(path: Path) -> Element:
    """The root element of a file. Raises DataError for broken XML, a document type, and elements nested too deeply."""
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(), 0

    def refuse_type(name: str, *rest: Any) -> None:
        got, remedy = f"a document type, <!DOCTYPE {name} ...>", "remove it: annotations need none"
        raise data_error(str(path), "XML", got, "XML without one", remedy)

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_ELEMENT_DEPTH:
            got = f"elements nested over {MAX_ELEMENT_DEPTH} deep"
            raise data_error(str(path), "XML", got, "annotations", "export the file again")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartDoctypeDeclHandler = refuse_type
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise data_error(str(path), "XML", f"broken XML ({error})", "well-formed XML", "export it again") from error
    return builder.close()


def root_name(path: Path) -> str:
    """The name of the root element of a file, "" where it is no XML; reads its beginning only."""
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append(name)
    parser.StartDoctypeDeclHandler = lambda name, *rest: found.append(name)
    try:
        with open(path, "rb") as file:
            parser.Parse(file.read(1 << 16), False)
    except expat.ExpatError:
        return found[0] if found else ""
    return found[0] if found else ""


def text_of(element: Element | None, name: str) -> str:
    """The text of a child, stripped; "" where there is none."""
    return (element.findtext(name) or "").strip() if element is not None else ""


def finite_number(text: str | None) -> float | None:
    """A finite number, else None.

    >>> finite_number(" 12.5 "), finite_number("x"), finite_number("inf"), finite_number(None)
    (12.5, None, None, None)
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value - value == 0 else None
