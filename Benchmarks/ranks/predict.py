"""How long a step of data-parallel training takes on 2 to 1,024 machines like this one, over slower and faster networks.

    python3 Benchmarks/ranks/predict.py [--batch 1024] [--tokens 512] [--faster 1] [--check FILE]

The seconds of a micro-batch are those of `qlora-run --plan`: from the speed of this machine's products, measured as the
program starts. --check FILE trains a model that is here (as compare.py does) with 1, 2 and 4 processes of one thread and
prints the prediction beside the measured step.
"""
import argparse, os, pathlib, re, statistics, subprocess, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ANYWHERE = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
# Bytes a second, and seconds from one program to another: TCP over Ethernet, and a network for clusters.
NETWORKS = {"1 Gbit/s": (1e9 / 8, 50e-6), "10 Gbit/s": (1e10 / 8, 20e-6), "100 Gbit/s": (1e11 / 8, 2e-6)}
RANKS = [2 ** i for i in range(11)]
CHECKED_TOKENS = 64


def sum_seconds(ranks, gradients, network, adding):
    """The sum as Sources/Training/GradientSum.swift does it. A rank sends its part of `gradients` bytes to each of the
    others and gets theirs, adds, and sends the sum of its own part back: 2 (N - 1) / N of the bytes each way. Place, loss
    and norm go first. Each of the four rounds of N - 1 messages pays the latency of every message, the worst case."""
    if ranks == 1:
        return 0.0
    bandwidth, latency = network
    return 2 * (ranks - 1) / ranks * gradients / bandwidth + 4 * (ranks - 1) * latency + gradients / adding


def step_seconds(ranks, batch, micro_batch, gradients, network, adding, processors=None):
    """`micro_batch` is the seconds of one. The rank with most of them decides. Processes that share `processors` take
    turns."""
    turns = max(1, ranks / processors) if processors else 1
    return -(-batch // ranks) * micro_batch * turns + sum_seconds(ranks, gradients, network, adding)


def output(command, folder=ROOT):
    done = subprocess.run(list(map(str, command)), cwd=folder, env={**os.environ, **ANYWHERE}, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def measured(program, flags, settings):
    """Seconds of a micro-batch and bytes of gradients by model, and bytes a second that are added."""
    models, adding = {}, 0.0
    settings = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    for line in output([program, "--quiet", *flags, *settings, ROOT / "Benchmarks/ranks/predict.lua"]).splitlines():
        kind, *fields = line.split("\t")
        if kind == "model":
            models[fields[0]] = (float(fields[1]), float(fields[2]))
        elif kind == "add":
            adding = float(fields[0])
    return models, adding


def table(program, o):
    models, adding = measured(program, [], {"tokens": o.tokens})
    print(f"Seconds of a step of {o.batch} x {o.tokens} tokens, LoRA r = 16 on all linear layers, NF4, layers recomputed.")
    print("In brackets the share of the time in which ranks compute.")
    for name, (seconds, gradients) in models.items():
        seconds /= o.faster
        machine = "this machine" if o.faster == 1 else f"a machine {o.faster:g} times as fast as this one"
        print(f"\n{name}: {seconds:.1f} s a micro-batch on {machine}, {gradients / 1e6:.0f} MB of gradients")
        print(f"{'ranks':>6}" + "".join(f"{network:>22}" for network in NETWORKS))
        for ranks in (r for r in RANKS if r <= o.batch):
            row = f"{ranks:>6}"
            for network in NETWORKS.values():
                whole = step_seconds(ranks, o.batch, seconds, gradients, network, adding)
                busy = o.batch / ranks * seconds / whole
                row += f"{whole:>15.1f} ({busy:4.0%})"
            print(row)


def check(program, o):
    """Processes on this machine: their network is its memory, and where they are more than processors they take turns."""
    batch, processors = 4, len(os.sched_getaffinity(0))
    settings = {"tokens": CHECKED_TOKENS, "checkpointing": "false", "models": o.check}
    models, adding = measured(program, ["--threads", "1"], settings)
    seconds, gradients = models[o.check]
    times = {ranks: [] for ranks in (1, 2, 4)}
    step = [program, "--quiet", "--threads", "1", "--set", f"model={o.check}", "--set", f"micro_batches={batch}",
            "--set", f"steps={o.steps}", "--set", f"tokens={CHECKED_TOKENS}", ROOT / "Benchmarks/ranks/step.lua"]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(o.rounds):
            for ranks in times:
                launcher = [] if ranks == 1 else [*o.launcher.split(), "--bind-to", "none", "-n", ranks]
                found = re.search(r"seconds (\S+) (\S+)", output([*launcher, *step], folder))
                times[ranks].append(float(found.group(2)))
    print(f"\nCheck with {pathlib.Path(o.check).name}, {batch} x {CHECKED_TOKENS} tokens a step, {processors} processors here")
    print(f"{'processes':>10}{'measured':>10}{'predicted':>11}{'ratio':>7}{'from the step of one':>22}{'ratio':>7}")
    alone = statistics.median(times[1]) / batch
    for ranks, found in times.items():
        memory = (adding / 2, 20e-6)
        planned, scaled = (step_seconds(ranks, batch, one, gradients, memory, adding, processors) for one in (seconds, alone))
        real = statistics.median(found)
        print(f"{ranks:>10}{real:>10.2f}{planned:>11.2f}{real / planned:>7.2f}{scaled:>22.2f}{real / scaled:>7.2f}")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch", type=int, default=1024, help="micro-batches of a step, one sequence each")
    options.add_argument("--tokens", type=int, default=512)
    options.add_argument("--faster", type=float, default=1, help="than this machine are those of the table")
    options.add_argument("--build", default="release")
    options.add_argument("--launcher", default="mpirun")
    options.add_argument("--check", metavar="FILE", help="a model that is here, such as a .gguf file")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=4)
    o = options.parse_args()
    program = ROOT / ".build" / o.build / "qlora-run"
    table(program, o)
    if o.check:
        check(program, o)


if __name__ == "__main__":
    main()
