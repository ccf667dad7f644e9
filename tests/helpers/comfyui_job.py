"""A job's process for the nodes of ComfyUI, in milliseconds: views of a photo, or a mesh of a zip of views.

A photo called hang waits for ever, one called fail fails.
"""

import json
import sys
import time
from pathlib import Path


def tell(**values):
    print(json.dumps(values), flush=True)


job = json.loads(Path("job.json").read_text())
out = Path("out")
out.mkdir()
tell(stage="work", progress=0.5)
if job["title"].startswith("hang"):
    time.sleep(600)
if job["title"].startswith("fail"):
    tell(error="photo: expected an object, got none; give another photo")
    sys.exit(1)
if job["kind"] == "photo":
    assert job["settings"]["mesh"] is False
    (out / "images").mkdir()
    for index in range(3):
        (out / "images" / f"00{index}.png").write_bytes(Path("photo").read_bytes())
    for name in ("transforms.json", "run.json", "prior.glb", "contact.png"):
        (out / name).write_text(name)
else:
    found = sorted(path.relative_to("views").as_posix() for path in Path("views").rglob("*.*"))
    (out / "mesh.obj").write_text(json.dumps({"views": found, "settings": job["settings"]}))
    if job["settings"]["formats"] == ["obj"]:
        (out / "mesh.mtl").write_text("newmtl")
    else:
        (out / "mesh.obj").rename(out / "mesh.glb")
    (out / "recon.json").write_text("{}")
    (out / "turntable.mp4").write_bytes(b"")
