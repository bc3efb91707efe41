"""The source under bandit, and the pinned versions against what is known of them, by pip-audit."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import CHECKOUT, PATIENCE_SECONDS

CONSTRAINTS = CHECKOUT / "jobs" / "constraints.txt"
# Service → where it answers.
SERVICES = {"osv": "api.osv.dev", "pypi": "pypi.org"}


def bandit(*places: str | Path) -> list[str]:
    """What bandit finds below these places, as it is configured here."""
    words = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-f", "json", "-r", *map(str, places)]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    told = json.loads(done.stdout)
    assert told["errors"] == []
    assert told["metrics"]["_totals"]["loc"] > 0
    return [f"{found['filename']}:{found['line_number']}: {found['test_id']}" for found in told["results"]]


def test_bandit_finds_nothing():
    assert bandit("hpc", "mlmd") == []


def test_bandit_finds_what_is_there(tmp_path):
    (tmp_path / "bad.py").write_text("import subprocess, pickle\nsubprocess.run(x, shell=True)\neval(x)\n")
    assert [found.rpartition(" ")[2] for found in bandit(tmp_path)] == ["B403", "B602", "B307"]


def test_each_check_that_is_skipped_has_its_reason():
    lines = re.search(r"\[tool\.bandit\](.*?)\n\[", (CHECKOUT / "pyproject.toml").read_text(), re.DOTALL).group(1)
    skipped = [line.strip() for line in lines.splitlines() if line.strip().startswith('"B')]
    assert skipped
    assert [line for line in skipped if not re.fullmatch(r'"B\d+", # S\d+.*: \w.{20,}', line)] == []


def accepted() -> dict[str, tuple[str, str]]:
    """Vulnerability → the pinned version that has it, and why it does not touch us."""
    lines = (CHECKOUT / "jobs" / "vulnerabilities.txt").read_text().splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, pinned, why = line.split(maxsplit=2)
            found[name] = pinned, why
    return found


def judged(report: dict, known: dict[str, tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Of what pip-audit says: vulnerabilities that are not among the known ones, and packages not looked up."""
    vulnerable, missed = [], []
    for package in report["dependencies"]:
        pinned = f"{package['name']}=={package.get('version')}"
        if "skip_reason" in package:
            missed.append(package["name"])
        for found in package.get("vulns", ()):
            names = {found["id"], *found["aliases"]}
            if not any(known.get(name, ("",))[0] == pinned for name in names):
                vulnerable.append(f"{pinned}: {', '.join(sorted(names))}, mended in {found['fix_versions']}")
    return vulnerable, missed


def test_no_pinned_version_has_a_vulnerability_that_touches_us():
    reached = [name for name, host in SERVICES.items() if answers(host)]
    if not reached:
        pytest.skip(f"NOT AUDITED: no vulnerability service can be reached from here ({', '.join(SERVICES.values())})")
    words = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--no-deps", "--disable-pip", "--format=json"]
    done = subprocess.run(
        [*words, f"--vulnerability-service={reached[0]}", f"--requirement={CONSTRAINTS}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if not done.stdout.strip():
        pytest.skip(f"NOT AUDITED: {SERVICES[reached[0]]} does not serve: {done.stderr.strip().splitlines()[-1]}")
    vulnerable, missed = judged(json.loads(done.stdout), accepted())
    assert vulnerable == []
    if missed:
        total = len(missed) + done.stdout.count('"vulns"')
        pytest.skip(f"NOT AUDITED: {SERVICES[reached[0]]} knows nothing of {len(missed)} of {total} packages")


def answers(host: str) -> bool:
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


def test_what_an_audit_says_is_judged():
    found = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
    package = {"name": "some", "version": "1", "vulns": [found]}
    report = {"dependencies": [package, {"name": "other", "skip_reason": "not found"}]}
    assert judged(report, {}) == (["some==1: CVE-1, PYSEC-1, mended in ['2']"], ["other"])
    assert judged(report, {"CVE-1": ("some==1", "why")}) == ([], ["other"])
    # That of another version says nothing of this one.
    assert judged(report, {"CVE-1": ("some==0", "why")})[0] != []
    assert judged({"dependencies": [{**package, "vulns": []}]}, {}) == ([], [])


def test_each_known_vulnerability_is_of_a_pinned_version_and_has_its_reason():
    pinned = CONSTRAINTS.read_text().splitlines()
    assert accepted()
    for name, (version, why) in accepted().items():
        assert re.fullmatch(r"(CVE|PYSEC|GHSA)-[\w-]+", name)
        assert version in pinned, f"{name}: {version} is not pinned any more"
        assert len(why) > 20
