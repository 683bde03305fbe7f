"""Lets each write, sync, rename, mapping and read of a run that saves checkpoints fail once, in turn.

    python3 Fuzz/faults.py [--calls write,fsync,rename] [--every N] [--from N] [--to N] [--code ENOSPC,EIO]
        [--program PATH]

First the run's calls are counted. Then the run is repeated for every N-th of them, which fails with each code. The
program must not die by a signal nor hang; what it leaves must hold no damaged checkpoint, and must go on to the bits of a
run that met no fault. Prints a line for each violation and the figures; exit code 1 where there was one.
"""
import argparse, collections, errno, pathlib, subprocess, sys, tempfile, time
from running import Folder, ROOT, program

KINDS = "write,fsync,rename,mmap,read"
# Every kind of file, few tensors in each: the calls of a longer run only repeat these.
SETTINGS = ("steps=3", "save=1", "select=.*q_proj", "budget=8KiB")


def library():
    path = pathlib.Path(tempfile.mkdtemp(prefix="qlora-shim-")) / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, ROOT / "Fuzz/faults.c", "-ldl"], check=True)
    return str(path)


def count_calls(name, shim, kinds):
    """The calls of a run without faults, its adapter."""
    folder = Folder(name, *SETTINGS)
    log = folder.path / "calls.txt"
    code, errors = folder.run(LD_PRELOAD=shim, FAULT_CALL=kinds, FAULT_PATH=str(folder.path), FAULT_LOG=str(log))
    if code != 0:
        raise SystemExit(f"the run without faults ended with {code}: {errors}")
    calls = [line.split(" ")[0] for line in log.read_text().splitlines()]
    adapter = folder.adapter()
    folder.remove()
    return calls, adapter


def attempt(name, shim, kinds, wanted, nth, code):
    """What was wrong, or None; and whether the run itself came to its end."""
    folder = Folder(name, *SETTINGS)
    try:
        ended, errors = folder.run(LD_PRELOAD=shim, FAULT_CALL=kinds, FAULT_PATH=str(folder.path), FAULT_NTH=str(nth),
            FAULT_CODE=str(getattr(errno, code)))
        if ended not in (0, 1):
            return f"ended with {ended}: {errors[-300:]}", False
        if ended == 1 and not errors.startswith("qlora-run: "):
            return f"no message: {errors[-300:]}", False
        if folder.damaged():
            return f"damaged checkpoints {folder.damaged()}", False
        if ended == 0 and folder.adapter() != wanted:
            return "came to its end with other bits", True
        again, errors = folder.resume()
        if again != 0 or folder.adapter() != wanted:
            return f"going on ended with {again} and {'the' if folder.adapter() == wanted else 'other'} bits: " + errors[-300:], False
        return None, ended == 0
    finally:
        folder.remove()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--every", type=int, default=1, help="try every N-th call only")
    options.add_argument("--from", type=int, default=1, dest="first", help="the first call to try")
    options.add_argument("--to", type=int, dest="last", help="the last one")
    options.add_argument("--calls", default=KINDS, help="the kinds of calls that are counted and fail")
    options.add_argument("--code", default="ENOSPC,EIO")
    options.add_argument("--program")
    o = options.parse_args()
    name, shim, began = program(o.program), library(), time.time()
    calls, wanted = count_calls(name, shim, o.calls)
    print(f"{len(calls)} calls: " + ", ".join(f"{n} {c}" for c, n in collections.Counter(calls).most_common()), flush=True)
    tried = survived = wrong = 0
    for nth in range(o.first, min(len(calls), o.last or len(calls)) + 1, o.every):
        for code in o.code.split(","):
            problem, whole = attempt(name, shim, o.calls, wanted, nth, code)
            tried, survived = tried + 1, survived + whole
            if problem:
                wrong += 1
                print(f"call {nth} ({calls[nth - 1]}), {code}: {problem}", flush=True)
    print(f"{tried} faults in {time.time() - began:.0f} s: {survived} runs came to their end all the same, "
          f"{tried - survived - wrong} said why not and went on to the same bits, {wrong} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
