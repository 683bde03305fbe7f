"""What faults.py and kills.py share: the run of faults.lua in a folder of its own, its checkpoints, its adapter."""
import hashlib, os, pathlib, re, shutil, subprocess, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECIPE = ROOT / "Fuzz/faults.lua"


def program(path=None):
    """The built program; a release build where there is one."""
    builds = [pathlib.Path(path)] if path else [ROOT / ".build" / kind / "qlora-run" for kind in ("release", "debug")]
    for build in builds:
        if os.access(build, os.X_OK):
            return str(build)
    raise SystemExit(f"no program at {builds[0]}: build it, or name it with --program")


class Folder:
    """A temporary folder in which the run writes."""

    def __init__(self, program, *settings):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="qlora-faults-")).resolve()
        self.command = [program, "--quiet", *(part for setting in settings for part in ("--set", setting))]

    def start(self, *flags, **environment):
        return subprocess.Popen([*self.command, *flags, str(RECIPE)], cwd=self.path, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment})

    def run(self, *flags, seconds=120, **environment):
        """Exit code (negative for a signal, None for a run that does not end) and errors."""
        process = self.start(*flags, **environment)
        try:
            _, errors = process.communicate(timeout=seconds)
            return process.returncode, errors.decode(errors="replace")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, f"no end after {seconds} s"

    def checkpoints(self):
        run = self.path / "run"
        return sorted(p for p in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)) if run.is_dir() else []

    def damaged(self):
        """The checkpoints that are not what their checksums say."""
        found = []
        for checkpoint in self.checkpoints():
            lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(checkpoint)}"
                     for p in checkpoint.rglob("*") if p.is_file() and p.name != "SHA256SUMS"]
            sums = checkpoint / "SHA256SUMS"
            if not sums.is_file() or sorted(lines) != sorted(sums.read_text().splitlines()):
                found.append(checkpoint.name)
        return found

    def leftovers(self):
        """Files of writers that are gone."""
        return [str(p.relative_to(self.path)) for p in self.path.rglob("*") if re.search(r"\.qlora-(tmp|old)-", p.name)]

    def resume(self):
        """Goes on to the end, or starts anew where there is no checkpoint."""
        if self.checkpoints():
            return self.run("--resume", "run")
        shutil.rmtree(self.path / "run", ignore_errors=True)
        return self.run()

    def adapter(self):
        file = self.path / "adapter/adapter_model.safetensors"
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)
