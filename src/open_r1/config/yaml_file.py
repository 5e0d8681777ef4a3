"""Reads the `--config` file: one YAML map of flags and values; each defect is one sentence with its line."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

import yaml

from open_r1.config.flag_names import KnownFlags
from open_r1.errors import UsageError
from open_r1.redaction import holds_secret, secret_address

EXPECTED = "expected a YAML file of lines `flag: value`"
MAX_COMPLAINTS = 20  # about one file
ENVIRONMENT = "env"  # a map of environment variables, which TRL sets


def config_path(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """(command line with `--config FILE` as two words, FILE or None). Raises UsageError for none or several files."""
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    places = [at for at, word in enumerate(words) if word == "--config"]
    if len(places) > 1:
        raise UsageError("--config: got it twice, expected one file; put both files' lines into one")
    if not places:
        return words, None
    at = places[0] + 1
    if at == len(words) or words[at].startswith("--") or not words[at]:
        raise UsageError(f"--config: got nothing, {EXPECTED}; write --config FILE.yaml")
    return words, words[at]


def read_pairs(file: str) -> tuple[str, list[tuple[yaml.ScalarNode, yaml.Node]]]:
    """(text, pairs of key and value) of the file. Raises UsageError for what is no map of flags."""
    path = Path(file)
    if not path.is_file():
        got = f"{file}, a folder" if path.is_dir() else file
        raise UsageError(f"--config: got {got}, {EXPECTED}; correct the path")
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text)
    except UnicodeDecodeError:
        raise UsageError(f"{file}: got a file that is no text, {EXPECTED}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{file}{yaml_complaint(error, text)}") from None
    if root is None:
        raise UsageError(f"{file}: got an empty file, {EXPECTED}")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "text without flags"
        raise UsageError(f"{file}:{root.start_mark.line + 1}: got {kind}, {EXPECTED}")
    return text, root.value


def yaml_complaint(error: Exception, text: str) -> str:
    """`:line: what is wrong`, of an error of the YAML reader."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f": got no YAML ({' '.join(str(error).split())[:200]}), {EXPECTED}"
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "\t" in line:
        return f":{mark.line + 1}: got a tab, expected spaces; replace each tab of the file by spaces"
    return f":{mark.line + 1}: got no YAML ({error.problem}), {EXPECTED}"


def file_complaints(file: str, known: KnownFlags, kinds: dict[str, object]) -> list[str]:
    """What is wrong in the file: unknown and doubled keys, sections, lists and maps where none fits, secrets.

    `kinds`: flag -> type of its field. Raises UsageError as `read_pairs`.
    """
    text, pairs = read_pairs(file)
    found = [*doubled(file, [key for key, _ in pairs])]
    for key, value in pairs:
        if key.value != ENVIRONMENT:
            place = f"{file}:{key.start_mark.line + 1}"
            found += [secret_address(f"{place}: {key.value}")] if secrets_in(value) else []
            found += complaints_of(file, key, value, text, known, kinds)
    hidden = len(found) - MAX_COMPLAINTS
    return found if hidden <= 0 else [*found[:MAX_COMPLAINTS], f"{file}: ... and {hidden} more"]


def doubled(file: str, keys: Collection[yaml.Node]) -> Iterator[str]:
    """A complaint about each key that stands twice: YAML's readers take the last without a word."""
    first: dict[str, int] = {}
    for key in keys:
        name, line = str(key.value), key.start_mark.line + 1
        if name in first:
            yield f"{file}:{line}: {name}: got it twice (also in line {first[name]}), expected it once; remove one"
        first.setdefault(name, line)


def complaints_of(
    file: str, key: yaml.Node, value: yaml.Node, text: str, known: KnownFlags, kinds: dict[str, object]
) -> list[str]:
    """What is wrong with one line, or with the lines of one section."""
    name = key.value if isinstance(key, yaml.ScalarNode) else source(text, key)
    plain = name.removeprefix("--").replace("-", "_") if isinstance(name, str) else name
    place = f"{file}:{key.start_mark.line + 1}: {name}"
    if isinstance(value, yaml.MappingNode) and not known.accepts(name):
        return [
            known.nested(f"{file}:{node.start_mark.line + 1}: {'.'.join(path)}", path, source(text, leaf))
            for node, path, leaf in leaves(key, value, (name,))
        ]
    if not known.accepts(name):
        if known.accepts(plain):
            return [f"{place}: got dashes, expected {plain}: {source(text, value)}; names have underscores in a file"]
        parts = name.split(".")
        described = known.nested if len(parts) > 1 else lambda place, path, value: known.complaint(place, *path, value)
        return [described(place, parts, source(text, value))]
    return wrong_kind(place, name, value, kinds)


def leaves(
    key: yaml.Node, value: yaml.Node, path: tuple[str, ...]
) -> Iterator[tuple[yaml.Node, tuple[str, ...], yaml.Node]]:
    """(key, names from the root, value) of each value in a section that is no section itself."""
    if not isinstance(value, yaml.MappingNode) or not value.value:
        yield key, path, value
        return
    for inner, below in value.value:
        yield from leaves(inner, below, (*path, str(inner.value)))


def wrong_kind(place: str, name: str, value: yaml.Node, kinds: dict[str, object]) -> list[str]:
    """The complaint about a list or a map as the value of a flag that takes none."""
    allowed = names_of_types(kinds[name])
    if isinstance(value, yaml.MappingNode) and not allowed & {"dict"}:
        return [f"{place}: got a map, expected one value; write {name}: value, each flag on a line of its own"]
    if isinstance(value, yaml.SequenceNode) and not allowed & {"list"}:
        joined = ":".join(str(item.value) for item in value.value)
        return [f"{place}: got a list, expected one value; several are separated by colons: {name}: {joined}"]
    return []


def names_of_types(kind: object) -> set[str]:
    """The names of all types in a field's type.

    >>> sorted(names_of_types(dict[str, int] | list | None))
    ['NoneType', 'dict', 'list']
    """
    parts = get_args(kind)
    origin = getattr(kind, "__origin__", None)
    if parts and origin not in (list, dict):
        return set().union(*map(names_of_types, parts))
    return {getattr(origin or kind, "__name__", str(kind))}


def source(text: str, node: yaml.Node) -> str:
    """A node as it stands in the file, on one line."""
    return " ".join(text[node.start_mark.index : node.end_mark.index].split())


def secrets_in(node: yaml.Node) -> bool:
    """Whether a YAML node holds, at any depth, an address with a secret in it."""
    if isinstance(node, yaml.ScalarNode):
        return holds_secret(node.value)
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    return any(map(secrets_in, parts))
