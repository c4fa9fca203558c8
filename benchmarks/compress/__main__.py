"""The compression benchmark: peers, our search, and a final measurement of all of them in fresh processes.

    make bench-compress DATA=<folder with train.parquet and test.parquet> WEIGHTS=<state dict> [MINUTES=90]

Everything is chosen on 5,000 rows of test.parquet; the other 5,000 are answered once, at the end (see `cifar`). Files
stay in .bench/compress, and a second call goes on where the first was stopped. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.compress.peers import FILES
from benchmarks.compress.report import choose, report

HERE = Path(__file__).parent
WORK = Path(".bench/compress")
THREADS, PROCESSES, ROUNDS = 2, 5, 15


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-compress")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--weights", type=Path, required=True, help="state dict of the ResNet-20")
    parser.add_argument("--minutes", type=float, default=90, help="time limit of the search")
    parser.add_argument("--unseen-minutes", type=float, default=40, help="of the unseen architecture's; 0: not run")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="fresh processes of the final measurement")
    given = parser.parse_args()
    for path in (given.data / "train.parquet", given.data / "test.parquet", given.weights):
        if not path.is_file():
            parser.error(f"{path} is not there")
    return given


def python(*command: str, home: Path | None = None) -> str:
    """Run a module of this environment; its errors are shown, its output comes back."""
    around = {**os.environ, **({"TRIMTAB_HOME": str(home)} if home else {})}
    done = subprocess.run([sys.executable, *command], env=around, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def searched(name: str, minutes: float, weights: Path | None) -> dict[str, Any]:
    """Our search on one of the recipes here, on a stack of its own."""
    folder = (WORK / f"{name}-{minutes:g}").resolve()
    found = folder / "found.json"
    if not found.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "cifar.py", folder)
        if weights is not None:
            shutil.copy(weights, folder / "weights.pt")
        recipe = yaml.safe_load((HERE / f"{name}.yaml").read_text())
        recipe["compress"]["search"]["minutes"] = minutes
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        home = folder / "home"
        python("-m", "deployments.cli", "up", home=home)
        try:
            python("-m", "benchmarks.compress.search", str(folder / "recipe.yaml"), str(home), str(found), home=home)
        finally:
            python("-m", "deployments.cli", "down", home=home)
    result: dict[str, Any] = json.loads(found.read_text())
    return result


def measured(job: dict[str, Any], processes: int) -> list[dict[str, Any]]:
    """The final measurement; the first process answers the test rows as well."""
    path, found = WORK / "job.json", []
    for seed in range(processes):
        path.write_text(json.dumps({**job, "seed": seed, "rounds": ROUNDS, "accuracy": seed == 0}))
        found.append(json.loads(python("-m", "benchmarks.compress.final", str(path)).splitlines()[-1]))
        print(f"process {seed + 1} of {processes} measured", file=sys.stderr)
    return found


def main() -> None:
    """All of it."""
    given = arguments()
    os.environ["CIFAR10"] = str(given.data.resolve())
    os.environ["PYTHONPATH"] = str(Path.cwd())
    peers, weights = (WORK / "peers").resolve(), given.weights.resolve()
    if not all((peers / file).is_file() for file in FILES.values()):
        python("-m", "benchmarks.compress.peers", str(weights), str(peers))
    found = searched("resnet20", given.minutes, weights)
    chosen = choose(found["points"])
    ours = {name: (point["target"], point["folder"]) for name, point in chosen.items()}
    job = {"weights": str(weights), "peers": str(peers), "ours": ours, "threads": THREADS}
    runs = measured(job, given.processes)
    unseen = None
    if given.unseen_minutes:
        unseen = searched("mobilenet", given.unseen_minutes, None)
    print(json.dumps(report(peers, chosen, runs, found["minutes"], unseen)))


if __name__ == "__main__":
    main()
