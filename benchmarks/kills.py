"""100 kills at random moments over one campaign: is any acknowledged visit lost, or any stored twice?

The campaign is real but for its device, a formula, so that many kills fit into minutes. Killed are the campaign itself,
its compiler and everything at once, in turn, at random moments.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import write_result

from blsm.cli.common import print_table
from blsm.profiles import ProfileStore

CAMPAIGN = """
import sys
import blsm
from blsm.profiles import ProfileStore
from blsm.profiling import Campaign, Protocol
from blsm.testing import FakeDevice
if __name__ == "__main__":
    chains = [(config,) for config in blsm.block_family("mbconv").sample(int(sys.argv[2]), seed=0)]
    with ProfileStore(sys.argv[1], create=True) as store:
        add_visits = store.add_visits

        def acknowledged(device, visits):
            add_visits(device, visits)
            print("stored\\n" * len(visits), end="", flush=True)

        store.add_visits = acknowledged
        report = Campaign(FakeDevice(visit_s=0.02), store, Protocol(invocations=20)).run(chains)
        print("complete", report.complete, len(report.failed), flush=True)
"""


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def main() -> None:
    """Kills and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--configs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    lost = duplicates = kills = stored = 0
    with tempfile.TemporaryDirectory() as folder:
        script, path = Path(folder) / "campaign.py", Path(folder) / "p.db"
        script.write_text(CAMPAIGN)
        command = [sys.executable, str(script), str(path), str(options.configs)]
        ended = ""
        while not ended:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
            assert process.stdout is not None
            said = 0
            if kills < options.kills:
                time.sleep(rng.uniform(0.3, 2.4))
                if kills % 3 == 1:  # the compiler alone: a new one takes over, and the campaign is killed after it
                    for child in children(process.pid):
                        os.kill(child, signal.SIGKILL)
                    time.sleep(rng.uniform(0.0, 0.5))
                if kills % 3 == 2:
                    os.killpg(process.pid, signal.SIGKILL)
                elif process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
                kills += 1
            for line in process.stdout:
                if line.startswith("complete"):
                    ended = line.strip()
                elif line == "stored\n":
                    said += 1
            process.wait()
            if path.is_file():
                with ProfileStore(path, create=True) as store:
                    profiles = store.profiles("fake")
                visits = sum(len(profile.visits) for profile in profiles)
                lost += max(0, stored + said - visits)
                duplicates += sum(max(0, len(profile.visits) - 6) for profile in profiles)
                duplicates += len(profiles) - len({profile.blocks for profile in profiles})
                stored = visits
    figures = {"kills": kills, "configs": options.configs, "visits": stored, "lost": lost, "duplicates": duplicates}
    print_table([(name, str(value)) for name, value in figures.items()], ("figure", "value"))
    print(ended)
    write_result("kills", {**figures, "ended": ended})


if __name__ == "__main__":
    main()
