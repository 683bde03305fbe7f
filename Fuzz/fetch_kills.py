"""Interrupts a download at random moments until it comes to its end, and lets huggingface_hub look at the cache.

    python3 Fuzz/fetch_kills.py --count 50 --seed 1 [--program PATH]

The hub is Tests/Fixtures/hub/server.py on the loopback, slowed down. Each download is stopped by SIGKILL, SIGINT or
SIGTERM; the last one is left alone. Then the file must have its checksum, no part may be left, huggingface_hub (where it
is installed) must find it, and `fetch` must find offline what huggingface_hub downloaded. Exit code 1 where one does not.
"""
import argparse, hashlib, importlib.util, os, random, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
from running import ROOT, program

NAME, FILE, SIZE = "who/model", "model.safetensors", 40 << 20


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=50)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--program")
    o = options.parse_args()
    name, moments, began = program(o.program), random.Random(o.seed), time.time()
    work = Path(tempfile.mkdtemp())
    folder = work / "hub/models" / NAME
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / FILE).write_bytes(random.Random(1).randbytes(SIZE))
    server = subprocess.Popen(
        [sys.executable, ROOT / "Tests/Fixtures/hub/server.py", work / "hub", work / "log"], text=True,
        env={**os.environ, "HUB_PACE": "0.02"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    home = work / "home"
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": f"http://127.0.0.1:{server.stdout.readline().strip()}"}
    for key in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"):
        environment.pop(key, None)

    def fetch(**more):
        return subprocess.Popen([name, "fetch", NAME], env={**environment, **more}, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    problems, kills, ends = [], 0, 0
    try:
        while kills < o.count and not problems:
            process = fetch()
            try:
                process.wait(moments.uniform(0.02, 0.7))
                if process.returncode != 0:
                    problems.append(process.stderr.read())
                ends += 1
                shutil.rmtree(home)
            except subprocess.TimeoutExpired:
                process.send_signal(moments.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
                process.wait()
                kills += 1
        process = fetch()
        if process.wait() != 0:
            problems.append(process.stderr.read())
        found = [path for path in home.rglob(FILE) if path.is_file()]
        wanted = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
        if [hashlib.sha256(path.read_bytes()).hexdigest() for path in found] != [wanted]:
            problems.append(f"{found} has another checksum")
        parts = [str(path) for path in home.rglob("*") if path.suffix in (".incomplete", ".part")]
        if parts:
            problems.append(f"left: {parts}")
        looked = "is not installed"
        if importlib.util.find_spec("huggingface_hub"):
            looked = "finds it"
            ask = ("import sys, huggingface_hub as hub\nfor file in sys.argv[2:4]:\n"
                   "  hub.hf_hub_download(sys.argv[1], file, local_files_only=len(sys.argv) > 4)")

            def peer(*flags):
                return subprocess.run([sys.executable, "-c", ask, NAME, "config.json", FILE, *flags], env=environment,
                                      capture_output=True, text=True)

            if peer("cache").returncode != 0:
                problems.append("huggingface_hub does not find it")
            shutil.rmtree(home)
            if (theirs := peer()).returncode != 0:
                problems.append(f"huggingface_hub: {theirs.stderr[-300:]}")
            elif (offline := fetch(HF_HUB_OFFLINE="1")).wait() != 0:
                problems.append(f"what huggingface_hub downloaded: {offline.stderr.read()}")
    finally:
        server.kill()
        shutil.rmtree(work, ignore_errors=True)
    print(f"{kills} interruptions, {ends} whole downloads between them, {len(problems)} violations, "
          f"{time.time() - began:.0f} s; huggingface_hub {looked if not problems else 'was asked'}")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


main()
