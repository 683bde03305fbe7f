"""Kills a run that saves after every step, pages and offloads, at random moments, until it comes to its end.

    python3 Fuzz/kills.py --count 1000 --seed 1 [--program PATH]

After each SIGKILL no checkpoint may be damaged, and the run goes on; its adapter must have the bits of a run that was
never stopped. Prints the figures; exit code 1 where there was a violation.
"""
import argparse, random, shutil, sys, time
from running import Folder, program


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--program")
    o = options.parse_args()
    name, moments, began = program(o.program), random.Random(o.seed), time.time()
    settings = ("steps=30", "save=1")

    calm = Folder(name, *settings)
    start = time.time()
    code, errors = calm.run()
    if code != 0:
        raise SystemExit(f"the run that nobody stops ended with {code}: {errors}")
    wanted, whole = calm.adapter(), time.time() - start
    calm.remove()

    kills = ends = resumed = wrong = leftovers = 0
    while kills < o.count:
        folder = Folder(name, *settings)
        problem, ended = None, False
        while not problem and not ended:
            if not folder.checkpoints():
                shutil.rmtree(folder.path / "run", ignore_errors=True)
            else:
                resumed += 1
            process = folder.start(*(["--resume", "run"] if folder.checkpoints() else []))
            # Every part of the run is hit, the start too; in the end it is left alone.
            if kills < o.count:
                try:
                    process.wait(timeout=moments.uniform(0, whole * 0.6))
                except Exception:
                    process.kill()
                    kills += 1
            _, errors = process.communicate()
            if process.returncode not in (0, -9):
                problem = f"ended with {process.returncode}: {errors.decode(errors='replace')[-300:]}"
            if folder.damaged():
                problem = f"damaged checkpoints {folder.damaged()}"
            ended = process.returncode == 0
        if ended:
            ends += 1
            leftovers += len(folder.leftovers())
            if folder.adapter() != wanted:
                problem = "other bits"
        if problem:
            wrong += 1
            print(f"after {kills} kills: {problem}", flush=True)
        folder.remove()
    print(f"{kills} kills (seed {o.seed}) in {time.time() - began:.0f} s: {resumed} times gone on from a checkpoint, "
          f"{ends} runs came to their end with {'the same' if not wrong else 'OTHER'} bits, {leftovers} leftovers, "
          f"{wrong} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
