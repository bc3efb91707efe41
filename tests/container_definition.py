"""A strict reader of Apptainer definitions, for the tests and for tests/container.sh; Python's own library is enough.

    python3 tests/container_definition.py containers/mlmd-cpu.def post      prints a section, or a value of the header

Apptainer itself is more lenient: it joins sections that are there twice and fills in {{ templates }}. Neither is used
here, so either is a mistake.
"""

import sys
from pathlib import Path

HEADER = {"Bootstrap", "From"}
SECTIONS = {"help", "setup", "files", "labels", "environment", "post", "runscript", "startscript", "test"}


class BadDefinition(ValueError):
    pass


def parse(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """(header, sections) of an Apptainer definition; BadDefinition with the line where it is not one."""
    header: dict[str, str] = {}
    sections: dict[str, str] = {}
    current = None
    for number, line in enumerate(text.splitlines(), start=1):
        if "{{" in line:
            raise BadDefinition(f"line {number}: {line!r} holds a template")
        # A line that begins so, indented or not, starts a section.
        if line.lstrip().startswith("%"):
            current = line[1:]
            if current not in SECTIONS or current in sections:
                raise BadDefinition(f"line {number}: {line!r} is unknown or there twice")
            sections[current] = ""
        elif current is not None:
            sections[current] += line + "\n"
        elif line.strip() and not line.startswith("#"):
            key, colon, value = line.partition(":")
            if not colon or key not in HEADER or key in header or not value.strip():
                raise BadDefinition(f"line {number}: {line!r} is no header line")
            header[key] = value.strip()
    if set(header) != HEADER:
        raise BadDefinition(f"the header names {sorted(header)}, not {sorted(HEADER)}")
    return header, sections


def pairs(section: str) -> list[tuple[str, str]]:
    """The lines of %files or %labels: first word and the rest; BadDefinition where there is no rest."""
    found = [line.split(maxsplit=1) for line in section.splitlines() if line.strip() and line.lstrip()[0] != "#"]
    if any(len(words) != 2 for words in found):
        raise BadDefinition(f"{section!r} holds a line of one word")
    return [(name, value.strip()) for name, value in found]


def main() -> int:
    """Prints what the command line names, %files as pairs and nothing else; 2 where definition or name is wrong."""
    path, name = Path(sys.argv[1]), sys.argv[2]
    try:
        header, sections = parse(path.read_text())
        text = (header | sections)[name]
        print(*(f"{source} {target}" for source, target in pairs(text)), sep="\n") if name == "files" else print(text)
    except (BadDefinition, KeyError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
