"""A job script, a small run → whether the script comes through what Slurm may do to it, with the same result.

The script is played twice by `hpc.rehearsal`: once undisturbed, once with signals at random moments. Both plays work in
the same folder `work` of the rehearsal, one after the other, so that no path tells them apart; what the script finds
done by stages before its own is made beforehand, by their scripts. The run's own output folder is never touched.
"""

import itertools
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hpc import rehearsal
from hpc.errors import RehearsalFailed, RehearsalRefused, UserError
from hpc.job_script import job_of
from hpc.sameness import Rules
from mlmd import config
from mlmd.config import ConfigError, Run, yaml_values
from mlmd.config import campaign as campaigns
from mlmd.stages import layout, submit, verify

STAGES = ("generate", "train", "search", "rollout", "act", "report", "reproduce")
# What says that something is trained.
MARKS = ("model.json",)
# Values that are times, or follow from times.
CLOCK = re.compile(
    r"seconds|(^|_)(ns|us|ms|µs)_per_|_per_second|speedup|waiting_percent|cost_ratio|fourth_order_ratio|^speed/|^rivals/"
    # Of a campaign: hashes of files that hold times.
    r"|^(rollouts|acts)$"
)
# What a run file names was allowed when this was typed.
ALLOWED = MappingProxyType({"MLMD_PATHS": "anywhere"})
# Pages and figures show times among the rest.
PASSING = ("*.html", "*.png", "*logs/*")


@dataclass(frozen=True)
class Scene:
    """What a script is played with: the variables it is given, the stages before it, and the runs that come out."""

    environment: Mapping[str, str]
    before: tuple[str, ...]
    runs: tuple[Run, ...]


def rehearse(
    script: Path,
    run_file: Path | None,
    overrides: Sequence[str],
    kills: int,
    seed: int | None,
    folder: Path | None,
    keep: bool,
    within: Path | None,
    say: Callable[[str], None],
) -> str:
    """Plays `script` undisturbed and with so many signals, and compares what came out; returns what to print at last.

    run_file: a run file, or for jobs/reproduce.slurm a folder of them; None: the one that RUN names, or the script's
    own. within: see `mlmd.config.load`. say: takes each line as the rehearsal goes on. Raises `RehearsalRefused` and
    what a run file is refused with, before any work, and `RehearsalFailed`, naming the first thing that is wrong; then
    the folder stays.
    """
    script = script.absolute()
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    place = (folder or Path("runs") / f"rehearsal-{script.stem}-{seed}").absolute()
    scene = scene_of(script, run_file, overrides, place, within)
    say(f"{script.name}: {kills} signals, --seed {seed}, in {place}")
    try:
        told = _play(script, scene, place, kills, random.Random(seed), say)
    except RehearsalFailed as error:
        raise RehearsalFailed(f"{error.cause}. All of it is in {place}") from None
    if not keep:
        shutil.rmtree(place)
    return told


def _play(
    script: Path, scene: Scene, place: Path, kills: int, source: random.Random, say: Callable[[str], None]
) -> str:
    work, prepared, undisturbed = place / "work", place / "prepared", place / "undisturbed"
    for stage in scene.before:
        name = submit.TRAIN_SCRIPTS[layout.kind(scene.runs[0])] if stage == "train" else submit.SCRIPTS[stage]
        done = _once(submit.ROOT / "jobs" / name, scene, place, stage, (), None, source, lambda line: None)
        say(f"{stage} before it: {done.seconds:.1f} s")
    work.mkdir(exist_ok=True)
    shutil.copytree(work, prepared)
    quiet = _once(script, scene, place, "play-1", (), None, source, say)
    say(f"undisturbed: {quiet.seconds:.1f} s, the first of {quiet.events} new things after {quiet.first_seconds:.1f} s")
    work.rename(undisturbed)
    shutil.copytree(prepared, work)
    blows = rehearsal.plan(source, kills, quiet)
    patience = max(rehearsal.LEAST_PATIENCE_SECONDS, 10 * quiet.seconds)
    played = _once(script, scene, place, "play-2", blows, patience, source, say)
    wrong = rehearsal.verdict(played, undisturbed, work, Rules(CLOCK, PASSING)) or _verified(scene)
    if wrong:
        raise RehearsalFailed(wrong)
    told = f"{len(played.blows)} of {kills} signals" if len(played.blows) < kills else f"{kills} signals"
    return "\n".join(
        [
            rehearsal.table(played.blows),
            f"{told}, {played.attempts} attempts, {played.seconds:.1f} s; undisturbed {quiet.seconds:.1f} s",
            f"{script.name} comes through: its output is that of the undisturbed play",
        ]
    )


def _once(
    script: Path,
    scene: Scene,
    place: Path,
    name: str,
    blows: Sequence[rehearsal.Blow],
    patience: float | None,
    source: random.Random,
    say: Callable[[str], None],
) -> rehearsal.Played:
    job = job_of(script, scene.environment, place / "work", MARKS)
    return rehearsal.Play(job, place / name, source, say).run(blows, patience)


def _verified(scene: Scene) -> str | None:
    """What `mlmd verify` finds."""
    for run in scene.runs:
        try:
            verify.verify(run, f"mlmd verify {run.folder / 'run.yaml'}", repair=False)
        except UserError as error:
            return f"mlmd verify: {error}"
    return None


def scene_of(script: Path, run_file: Path | None, overrides: Sequence[str], place: Path, within: Path | None) -> Scene:
    """Makes the folder of the rehearsal, with what the script reads in it."""
    try:
        text = script.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RehearsalRefused(script, f"it cannot be read ({error})") from None
    calls = [stage for stage in STAGES if re.search(rf"\bmlmd {stage}\b", text)]
    if not calls:
        raise RehearsalRefused(script, f"it calls no stage of mlmd ({', '.join(STAGES)})")
    if re.search(r"\s", str(place)):
        raise RehearsalRefused(script, f"the folder {str(place)!r} has blanks in its name; give another by --folder")
    if place.exists() and any(place.iterdir()):
        raise RehearsalRefused(script, f"{place} is not empty; give another --folder or --seed, or move it away")
    if "reproduce" in calls:
        return _scene_of_campaign(script, run_file, overrides, place, within)
    given = os.environ.get("MLMD_ARGS", "").split()
    others = [words[1] for words in itertools.pairwise(given) if words[0] == "--set"]
    default = re.search(r"\$\{RUN:-([^}]+)\}", text)
    named = run_file or os.environ.get("RUN") or (default and default[1])
    if not named:
        raise RehearsalRefused(script, "it says no run file of its own; give one by --run")
    work = place / "work"
    run = submit.settled(config.load(Path(named), [*others, *overrides], within))
    run = run.model_copy(update={"out": str(work / "out"), "data": str(work / "data")})
    for stage in set(calls) - {"search"}:
        run.require_stage(stage)
    place.mkdir(parents=True, exist_ok=True)
    (place / "run.yaml").write_text(config.dump(run))
    words = [*given, "--set", f"out={run.out}", "--set", f"data={run.data}"]
    # The run file has its files and folders in full.
    given_to_it = {"RUN": str(place / "run.yaml"), "MLMD_ARGS": " ".join(words), "MLMD_PATHS": "anywhere"}
    return Scene(given_to_it, _stages_before(run, calls), (run,))


def _stages_before(run: Run, calls: Sequence[str]) -> tuple[str, ...]:
    """The stages that have to be done before the first that a script calls."""
    if calls[0] == "search":
        return ("generate",)
    before = run.stages[: run.stages.index(calls[0])]
    # The scripts that train make the dataset.
    return tuple(stage for stage in before if stage != "generate" or "train" not in before)


def _scene_of_campaign(
    script: Path, folder: Path | None, overrides: Sequence[str], place: Path, within: Path | None
) -> Scene:
    given = folder or os.environ.get("CONFIGS")
    if overrides:
        raise ConfigError("--set", overrides[0], "a campaign's run files are taken as they are")
    if given is None or not Path(given, campaigns.FILE).is_file():
        raise RehearsalRefused(script, f"give a small campaign, a folder with a {campaigns.FILE}, by --run")
    campaigns.confine(Path(given), within)
    described = yaml_values.read(Path(given, campaigns.FILE), ())
    files = [file for file in sorted(Path(given).glob("*.yaml")) if file.name != campaigns.FILE]
    runs = {file: config.load(file) for file in files}
    outside = [str(described.get("out", "")), *(path for run in runs.values() for path in (run.out, run.data) if path)]
    if wrong := [path for path in outside if Path(path).is_absolute() or ".." in Path(path).parts]:
        raise RehearsalRefused(script, f"{wrong[0]} is not below the folder that the campaign is started in")
    shutil.copytree(given, place / "configs", dirs_exist_ok=True)
    work = place / "work"
    work.mkdir()
    settled = tuple(
        run.model_copy(update={"out": str(work / run.out), "data": str(work / layout.data(run))})
        for run in runs.values()
    )
    return Scene({"CONFIGS": str(place / "configs"), "FOLDER": str(work), **ALLOWED}, (), settled)
