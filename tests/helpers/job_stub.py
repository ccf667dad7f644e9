"""A job's process for tests, in milliseconds: what it does is in the job's title.

done: two stages, a cut-out and a mesh. fail: one sentence. crash: a traceback. kill: SIGKILL of itself. hang: until SIGTERM.
deaf: until SIGKILL. views: two previews, and the rest when the file ../go is there. orphan: leaves a child that holds its pipes. chatter: lines that are no messages.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def tell(**values):
    print(json.dumps(values), flush=True)


def finish():
    Path("out/images").mkdir(parents=True, exist_ok=True)
    tell(stage="lift", progress=0.5)
    Path("cutout.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("out/images/000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("out/mesh.glb").write_bytes(b"glTF of " + Path("photo").read_bytes()[:4])
    tell(warnings=["photo: a warning"])


def main():
    job = json.loads(Path("job.json").read_text())
    what = job["title"].partition(" ")[0].partition(".")[0]
    tell(stage="cut out", progress=1.0)
    with open("../order.txt", "a") as order:
        order.write(f"+{job['id']}\n")
    if what == "fail":
        tell(error="photo: expected an object, got none; give another photo")
        sys.exit(1)
    if what == "crash":
        raise RuntimeError("a bug")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if what in ("hang", "deaf"):
        tell(stage="wait", progress=0.25)
        time.sleep(600)
    if what == "views":
        Path("previews").mkdir()
        for index in range(2):
            Path(f"previews/00{index}.png").write_bytes(Path("photo").read_bytes())
        tell(stage="render", progress=0.5)
        while not Path("../go").exists():
            time.sleep(0.01)
    if what == "orphan":
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    if what == "chatter":
        print('no json\n[1]\n{"stage": 3, "progress": "x", "warnings": 4}\n{"progress": NaN}', flush=True)
    finish()
    with open("../order.txt", "a") as order:
        order.write(f"-{job['id']}\n")


main()
