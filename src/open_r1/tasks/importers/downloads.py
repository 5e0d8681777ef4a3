"""Large archives over HTTP: resumed where they broke off, verified, and unpacked without leaving their folder."""

import hashlib
import http.client
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from open_r1.data.jsonl_io import atomic_write
from open_r1.errors import DataError, Problem

BLOCK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte
ProgressCallable = Callable[[int, int], None]  # (done, total)
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(
    url: str,
    path: Path,
    md5: str | None = None,
    watch: ProgressCallable = lambda done, total: None,
    attempts: int = 5,
    pause: float = 2.0,
) -> Path:
    """`path` with the content of `url`. It has its name once it is whole; until then it is `path`.part.

    A part left by an earlier run is continued by an HTTP Range request, and so is a connection that breaks, after
    `pause` seconds; `attempts` in a row that bring nothing end it. The size must be the one that the server names, and
    the checksum `md5` where it is given.

    Raises DataError for a server's refusal, a broken connection and a wrong checksum (the part is deleted then).
    """
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    left = attempts
    while True:
        before = _size(part)
        try:
            if _continue(url, part, watch):
                break
            reason = "the connection closed early"
        except _BROKEN as error:
            if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
                raise _problem(url, f"HTTP status {error.code}", "correct the address") from error
            reason = str(error) or type(error).__name__
        left = attempts if _size(part) > before else left - 1
        if left <= 0:
            raise _problem(url, f"{_size(part)} bytes, then: {reason}", "start again: the part is continued")
        time.sleep(pause)
    _verify(url, part, md5)
    return part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, part: Path, watch: ProgressCallable) -> bool:
    """Appends what the server sends after the end of `part`; whether that is all now."""
    have = _size(part)
    if not url.startswith(("https://", "http://")):
        raise _problem(url, "an address that is not of the web", "correct it", "http:// or https://")
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # nosec B310 # of the web, as checked above
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing stands behind the part: it is whole, or of another file
            raise
        whole = error.headers.get("Content-Range", "") == f"bytes */{have}"
        if not whole:
            part.unlink()
        return whole
    with response:
        at = have if response.status == 206 else 0  # servers without Range send all again
        total = at + int(response.headers.get("Content-Length") or -1 - at)
        if at and not response.headers.get("Content-Range", "").startswith(f"bytes {at}-"):
            raise http.client.HTTPException(f"another range than asked for: {response.headers.get('Content-Range')}")
        return _append(response, part, at, total, watch)


def _append(response: http.client.HTTPResponse, part: Path, at: int, total: int, watch: ProgressCallable) -> bool:
    with open(part, "ab" if at else "wb") as target:
        while block := response.read(BLOCK):
            target.write(block)
            watch(target.tell(), total)
        return total < 0 or target.tell() == total


def _verify(url: str, part: Path, md5: str | None) -> None:
    if md5 is None:
        return
    with open(part, "rb") as file:
        got = hashlib.file_digest(file, "md5").hexdigest()
    if got != md5:
        part.unlink()
        raise _problem(url, f"a file with MD5 {got}", "start again: the file was deleted", f"MD5 {md5}")


def _problem(url: str, got: str, remedy: str, expected: str = "the whole file") -> DataError:
    return DataError([Problem(url, "download", got, expected, remedy)])


def unzip(
    archive: Path,
    folder: Path,
    wanted: Callable[[str], bool] = lambda name: True,
    watch: ProgressCallable = lambda d, t: None,
) -> None:
    """The wanted files of a ZIP archive below `folder`; files that are there in their size stay as they are.

    Every member is looked at before the first is written. Raises DataError for one that would leave `folder` or is a
    link, and for an archive that is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _refuse_escapes(archive, members)
            chosen = [member for member in members if wanted(member.filename)]
            for done, member in enumerate(chosen, 1):
                _extract(opened, member, folder)
                watch(done, len(chosen))
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            [Problem(str(archive), "archive", str(error), "a ZIP file", "delete it, start again")]
        ) from error


def _refuse_escapes(archive: Path, members: Iterable[zipfile.ZipInfo]) -> None:
    expected, remedy = "files below the archive's folder", "do not use this archive"
    bad = [member.filename for member in members if _escapes(member)]
    if bad:
        raise DataError([Problem(str(archive), "archive", repr(name), expected, remedy) for name in bad])


def _escapes(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    return is_link or path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in path.parts[0]


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Under another name until it is whole; zipfile compares its checksum at the end."""
    path = folder / member.filename
    if path.exists() and path.stat().st_size == member.file_size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, atomic_write(path) as target:
        shutil.copyfileobj(source, target, BLOCK)
