"""What the name of a picture may mean: the ends of its path, its folder, and whether it is of another machine."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ROOTS = ("/", "\\", "~", "upload/", "documents/", "../", "..\\")  # of another machine, DocVQA's too
_UPLOAD_HASH = re.compile(r"[0-9a-f]{8}-")  # before the names of Label Studio's uploads


def name_ends(name: str) -> Iterator[str]:
    """The relative paths that a name may mean, the longest first.

    >>> list(name_ends("https://host/a/b%20c.jpg?x=1")), list(name_ends("./a.png"))
    (['a/b c.jpg', 'b c.jpg'], ['a.png', 'a.png'])
    >>> list(name_ends("/data/upload/1/0f6142fb-d.jpg"))[-2:]
    ['0f6142fb-d.jpg', 'd.jpg']
    """
    url = urlsplit(name) if _URL.match(name) or name.startswith("/data/local-files/?") else None
    if url is not None:
        name = unquote(parse_qs(url.query).get("d", [url.path])[0])
    else:
        yield name.removeprefix("./")
    parts = [part for part in re.split(r"[/\\]+", re.sub(r"^[A-Za-z]:(?=[\\/])", "", name)) if part not in ("", ".")]
    ends = ["/".join(parts[i:]) for i in range(len(parts)) if ".." not in parts[i:]]
    yield from ends
    if ends and _UPLOAD_HASH.match(parts[-1]):
        yield _UPLOAD_HASH.sub("", parts[-1], count=1)


def relative_parts(name: str) -> tuple[str, str]:
    """(a name with slashes, the folder that it names last, "" without one).

    >>> relative_parts("scene1\\\\rgb.png"), relative_parts("../a.png")
    (('scene1/rgb.png', 'scene1'), ('a.png', ''))
    """
    parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".", "..")]
    return "/".join(parts), parts[-2] if len(parts) > 1 else ""


def of_a_machine(name: str) -> bool:
    """Whether a name begins on a machine or host, whose folders need not be these: absolute, a URL, an upload."""
    return bool(_URL.match(name) or re.match(r"[A-Za-z]:[\\/]", name)) or name.startswith(_ROOTS)
