"""Kills a random rank of a run that saves after every step at random moments, until the run comes to its end.

    python3 Fuzz/rank_kills.py --count 20 --seed 1 [--program PATH] [--launcher "mpirun --oversubscribe"]

After each SIGKILL the launcher must end the others, no checkpoint may be damaged, and the run goes on with 1, 2 or 4
ranks; its adapter must have the bits of a run that was never stopped. Prints the figures; exit code 1 where there was a
violation.
"""
import argparse, os, pathlib, random, shutil, sys, time
from running import Folder, program

ANYWHERE = {f"{name}_ALLOW_RUN_AS_ROOT{more}": "1" for name in ("OMPI", "PRTE") for more in ("", "_CONFIRM")}


def ranks_in(folder):
    """Process ids of the ranks that run in a folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(folder) \
                    and os.path.basename(os.readlink(entry / "exe")) == "qlora-run":
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--program")
    options.add_argument("--launcher", default="mpirun --oversubscribe")
    o = options.parse_args()
    name, moments, began = program(o.program), random.Random(o.seed), time.time()
    settings = ("steps=30", "save=1", "batch=8", "parts=4")

    calm = Folder(name, *settings)
    code, errors = calm.run()
    if code != 0:
        raise SystemExit(f"the run that nobody stops ended with {code}: {errors}")
    wanted = calm.adapter()
    calm.remove()

    kills = ends = resumed = wrong = 0
    slowest = 0.0
    while kills < o.count:
        folder, problem, ended = Folder(name, *settings), None, False
        alone = folder.command
        while not problem and not ended:
            count = moments.choice((1, 2, 4))
            folder.command = alone if count == 1 else [*o.launcher.split(), "-n", str(count), *alone]
            if folder.checkpoints():
                resumed += 1
            else:
                shutil.rmtree(folder.path / "run", ignore_errors=True)
            process = folder.start(*(["--resume", "run"] if folder.checkpoints() else []), **ANYWHERE)
            killed = False
            if kills < o.count:
                # Every part of the run is hit, the start too; in the end it is left alone.
                deadline = time.time() + moments.uniform(0, 6)
                while time.time() < deadline and process.poll() is None:
                    time.sleep(0.01)
                victims = ranks_in(folder.path)
                if victims and process.poll() is None:
                    os.kill(moments.choice(victims), 9)
                    killed, kills = True, kills + 1
            moment = time.time()
            try:
                _, errors = process.communicate(timeout=60)
            except Exception:
                process.kill()
                _, errors = process.communicate()
                problem = "did not end within a minute"
            if killed:
                slowest = max(slowest, time.time() - moment)
            elif process.returncode != 0:
                problem = f"ended with {process.returncode}: {errors.decode(errors='replace')[-300:]}"
            if ranks_in(folder.path):
                problem = f"ranks {ranks_in(folder.path)} go on"
            if folder.damaged():
                problem = f"damaged checkpoints {folder.damaged()}"
            ended = process.returncode == 0
        if ended:
            ends += 1
            if folder.adapter() != wanted:
                problem = "other bits"
        if problem:
            wrong += 1
            print(f"after {kills} kills: {problem}", flush=True)
        folder.remove()
    print(f"{kills} kills (seed {o.seed}) in {time.time() - began:.0f} s: {resumed} times gone on from a checkpoint, the "
          f"slowest end took {slowest:.1f} s, {ends} runs came to their end with {'OTHER' if wrong else 'the same'} bits, "
          f"{wrong} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
