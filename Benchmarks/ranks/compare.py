"""Two processes of one thread beside one process of two, and the sum of gradients beside MPI_Allreduce, in one run.

    python3 Benchmarks/ranks/compare.py [--rounds 3] [--steps 6] [--model FILE] [--build release] [--launcher mpirun]

The sides take turns; a step counts as the fastest of its side. Needs `swift build -c release` and a launcher.
"""
import argparse, os, pathlib, re, subprocess, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ANYWHERE = {f"{name}_ALLOW_RUN_AS_ROOT{more}": "1" for name in ("OMPI", "PRTE") for more in ("", "_CONFIRM")}


def output(command, folder):
    done = subprocess.run(command, cwd=folder, env={**os.environ, **ANYWHERE}, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--model", default=str(ROOT / "downloads/SmolLM2-135M-Instruct.Q4_1.gguf"))
    options.add_argument("--build", default="release")
    options.add_argument("--launcher", default="mpirun")
    o = options.parse_args()
    build, launcher = ROOT / ".build" / o.build, [*o.launcher.split(), "-n", "2"]
    step = [build / "qlora-run", "--quiet", "--threads", "2", "--set", f"model={o.model}", "--set", f"steps={o.steps}",
            ROOT / "Benchmarks/ranks/step.lua"]
    alone = step
    shared = [*launcher, *(part for i, part in enumerate(step) if i not in (2, 3))]
    with tempfile.TemporaryDirectory() as folder:
        print(output([*launcher, build / "ranks-bench"], folder), end="")
        best = {}
        for _ in range(o.rounds):
            for name, command in (("one process, two threads", alone), ("two processes, one thread each", shared)):
                seconds = float(re.search(r"seconds (\S+)", output(command, folder)).group(1))
                best[name] = min(best.get(name, seconds), seconds)
                print(f"{name}: {seconds:.3f} s a step", flush=True)
    one, two = best.values()
    print(f"ratio of the best: {two / one:.2f}")


if __name__ == "__main__":
    main()
