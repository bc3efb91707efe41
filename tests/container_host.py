"""What this machine's package managers are configured with, for the root file system of tests/container.sh.

    python3 tests/container_host.py binds          a line each: a path of this machine, a tab, where %post looks for it
    python3 tests/container_host.py environment    a line each: the names of the variables that %post needs

Nothing is copied into the tree and nothing is known by its address: files and variables are handed on as they are.
"""

import configparser
import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
# The package ca-certificates writes this one, from what it brings and from the folder of the machine's own.
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")


def environment() -> list[str]:
    """Names of the variables that say how packages are reached: pip's, proxies, certificates."""
    wanted = re.compile(rf"PIP_\w+|{'|'.join(CERTIFICATES)}|\w+_proxy|\w+_PROXY")
    return sorted(name for name in os.environ if wanted.fullmatch(name))


def configurations() -> list[tuple[Path, Path]]:
    """pip's own files, where they are and where root's pip finds them."""
    home = Path.home()
    user = Path(os.environ.get("XDG_CONFIG_HOME", home / ".config"))
    sites = [Path(folder) for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if folder]
    files = [(path, path) for path in (*(site / "pip/pip.conf" for site in sites), Path("/etc/pip.conf"))]
    files += [(user / "pip/pip.conf", Path("/root/.config/pip/pip.conf"))]
    files += [(home / ".pip/pip.conf", Path("/root/.pip/pip.conf"))]
    return [(source, target) for source, target in files if source.is_file()]


def named_paths(values: list[str]) -> list[Path]:
    """Files and folders of this machine that are named in pip's settings, as paths or as file:// addresses."""
    found = []
    for word in (word for value in values for word in value.split()):
        path = Path(unquote(urlsplit(word).path)) if word.startswith("file://") else Path(word)
        if path.is_absolute() and path.exists() and path != BUNDLE:
            # The pages of an index lead to files beside it.
            found.append(path.parent if path.name == "simple" else path)
    return found


def binds() -> list[tuple[Path, Path]]:
    """(source, target) of everything that %post has to see."""
    files = configurations()
    values = [value for name, value in os.environ.items() if name in environment()]
    for source, _ in files:
        parser = configparser.RawConfigParser()
        parser.read(source)
        values += [value for section in parser.sections() for value in dict(parser[section]).values()]
    own = [(OWN_CERTIFICATES, OWN_CERTIFICATES)] if OWN_CERTIFICATES.is_dir() else []
    return list(dict.fromkeys([*files, *((path, path) for path in named_paths(values)), *own]))


def main() -> int:
    """Prints what the command line asks for."""
    asked = sys.argv[1]
    lines = environment() if asked == "environment" else [f"{source}\t{target}" for source, target in binds()]
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
