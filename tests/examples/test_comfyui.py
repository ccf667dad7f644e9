"""The nodes for ComfyUI: the chain against a real server, their schema, and ComfyUI's own loader and check of workflows."""

from __future__ import annotations

import inspect
import io
import json
import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")
import uvicorn
from comfyui import nodes
from comfyui.client import App, AppError

from mv3d.app.job_runner import JobRunner
from mv3d.app.job_store import JobStore
from mv3d.app.server import make_app
from mv3d.recon.splats.formats import SPLAT_FILES
from mv3d.render.writers import POINT_FILES, WRITERS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "comfyui"
WORKFLOW = json.loads((FOLDER / "workflow.json").read_text())
JOB = (sys.executable, "-S", str(ROOT / "tests" / "helpers" / "comfyui_job.py"))
COMFYUI = os.environ.get("MV3D_COMFYUI")
BUILT_IN = {"IMAGE", "MASK", "STRING", "INT"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a server that the nodes find."""
    store = JobStore(tmp_path / "jobs")
    store.load()
    app = make_app(JobRunner(store, JOB, grace_s=0.3), token="a-token-of-tests", device_of=lambda name: "cpu")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("MV3D_APP", f"http://127.0.0.1:{port}/")
    monkeypatch.setenv("MV3D_APP_TOKEN", "a-token-of-tests")
    yield store
    server.should_exit = True
    thread.join(10)


class Stopped(Exception):
    """ComfyUI's user has pressed stop."""


@pytest.fixture(autouse=True)
def comfy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The modules of ComfyUI that the nodes use; the real ones are in the slow test."""
    state = types.SimpleNamespace(shares=[], stop=False)
    (tmp_path / "input").mkdir()
    (tmp_path / "output").mkdir()

    def save_path(prefix: str, output: str) -> tuple[str, str, int, str, str]:
        subfolder, name = os.path.split(prefix)
        os.makedirs(os.path.join(output, subfolder), exist_ok=True)
        count = len(os.listdir(os.path.join(output, subfolder)))
        return os.path.join(output, subfolder), name, count + 1, subfolder, prefix

    def stop() -> None:
        if state.stop and 50 in state.shares:
            raise Stopped

    modules = {
        "folder_paths": {
            "get_input_directory": lambda: str(tmp_path / "input"),
            "get_output_directory": lambda: str(tmp_path / "output"),
            "filter_files_content_types": lambda files, kinds: [f for f in files if f.endswith(".png")],
            "exists_annotated_filepath": lambda name: (tmp_path / "input" / name).exists(),
            "get_annotated_filepath": lambda name: str(tmp_path / "input" / name),
            "get_save_image_path": save_path,
        },
        "comfy": {},
        "comfy.model_management": {"throw_exception_if_processing_interrupted": stop},
        "comfy.utils": {
            "ProgressBar": lambda total: types.SimpleNamespace(update_absolute=state.shares.append)
        },
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return state


def photo(folder: Path, name: str = "chair.png") -> bytes:
    rgba = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
    Image.fromarray(rgba).save(folder / "input" / name)
    return (folder / "input" / name).read_bytes()


def run(workflow: dict) -> dict[str, tuple]:
    """What ComfyUI does with a workflow, without its cache: our nodes in order of their ids."""
    made: dict[str, tuple] = {}
    for key, node in workflow.items():
        kind = nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])
        if kind is None:
            continue
        given = {
            name: made[value[0]][value[1]] if isinstance(value, list) else value
            for name, value in node["inputs"].items()
        }
        found = getattr(kind(), kind.FUNCTION)(**given)
        made[key] = found["result"] if isinstance(found, dict) else found
        made[f"{key} ui"] = found.get("ui") if isinstance(found, dict) else None
    return made


def test_the_workflow_makes_a_mesh_of_a_photo(store: JobStore, tmp_path: Path):
    content = photo(tmp_path)
    made = run(WORKFLOW)
    rgba = torch.from_numpy(np.asarray(Image.open(io.BytesIO(content))).astype(np.float32) / 255)
    images, mask = made["2"][1:]
    assert images.shape == (3, 16, 24, 3) and images.dtype == torch.float32 and mask.shape == (3, 16, 24)
    assert torch.allclose(mask[1], 1 - rgba[..., 3])
    assert torch.allclose(images[1], rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:], atol=1e-6)
    (path,) = made["4"]
    assert path == "3d/mv3d_00001_.glb"
    assert made["4 ui"] == {"3d": [{"filename": "mv3d_00001_.glb", "subfolder": "3d", "type": "output"}]}
    written = json.loads((tmp_path / "output" / path).read_text())
    assert written["settings"] == {"quality": "draft", "formats": ["glb"], "seed": 0}
    assert written["views"] == [
        "images/000.png", "images/001.png", "images/002.png", "prior.glb", "run.json", "transforms.json",
    ]  # fmt: skip
    jobs = {job.kind: job for job in store.all()}
    assert jobs["photo"].settings == {"seed": 0, "mesh": False} and jobs["photo"].title == "chair.png"
    assert (store.path(jobs["photo"].id) / "photo").read_bytes() == content, "the file as it is"


def test_an_obj_keeps_its_files_together(store: JobStore, tmp_path: Path):
    photo(tmp_path)
    workflow = json.loads(json.dumps(WORKFLOW))
    workflow["3"]["inputs"] |= {"format": "obj", "settings": '{"faces": 900}'}
    (path,) = run(workflow)["4"]
    assert path == "3d/mv3d_00001_/mesh.obj"
    assert sorted(os.listdir(tmp_path / "output" / "3d" / "mv3d_00001_")) == ["mesh.mtl", "mesh.obj"]
    assert json.loads((tmp_path / "output" / path).read_text())["settings"]["faces"] == 900


def test_a_job_that_fails_is_its_sentence_and_one_that_is_stopped_is_cancelled(
    store: JobStore, comfy, tmp_path: Path
):
    photo(tmp_path, "fail.png")
    with pytest.raises(AppError, match="expected an object, got none"):
        nodes.Views().generate(("fail.png", photo(tmp_path)), 0)
    comfy.stop = True
    with pytest.raises(Stopped):
        nodes.Views().generate(("hang.png", photo(tmp_path)), 0)
    end = time.monotonic() + 20
    while (job := store.all()[0]).state != "cancelled":
        assert time.monotonic() < end, job
        time.sleep(0.02)
    with pytest.raises(AppError, match="settings: expected some of"):
        nodes.Views().generate(("x.png", photo(tmp_path)), 0, settings='{"qualty": 1}')
    with pytest.raises(ValueError, match="settings: expected a JSON object, got '\\[1'"):
        nodes.Views().generate(("x.png", b""), 0, settings="[1")


def test_without_the_token_or_a_server_it_says_so(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(AppError, match="token: expected the one that mv3d app printed"):
        App(token="another-token-1234").job("0" * 32)
    monkeypatch.setenv("MV3D_APP", "http://127.0.0.1:9")
    with pytest.raises(AppError, match="start it with mv3d app, or set MV3D_APP"):
        App().job("0" * 32)


def test_an_image_of_other_nodes_becomes_a_photo():
    image = torch.rand(2, 8, 10, 3)
    mask = torch.zeros(1, 8, 10)
    mask[0, :4] = 1
    ((_, content),) = nodes.PhotoOfImage().convert(image, mask)
    got = np.asarray(Image.open(io.BytesIO(content)))
    assert np.abs(got[..., :3] / 255 - image[0].numpy()).max() < 0.003
    assert (got[:4, :, 3] == 0).all() and (got[4:, :, 3] == 255).all()
    ((_, content),) = nodes.PhotoOfImage().convert(image, torch.zeros(1, 64, 64))
    assert Image.open(io.BytesIO(content)).mode == "RGB"
    with pytest.raises(ValueError, match="mask: expected 10x8, got 64x64"):
        nodes.PhotoOfImage().convert(image, torch.ones(1, 64, 64))


def test_the_schema_agrees_with_the_functions_and_the_workflow(tmp_path: Path):
    photo(tmp_path)
    (tmp_path / "input" / "notes.txt").write_text("")
    kinds = nodes.NODE_CLASS_MAPPINGS
    assert kinds.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    assert nodes.FORMATS == [*WRITERS, *POINT_FILES, *SPLAT_FILES]
    own = {nodes.PHOTO, nodes.VIEWS, nodes.MESH}
    for name, kind in kinds.items():
        inputs = kind.INPUT_TYPES()
        asked = {**inputs["required"], **inputs.get("optional", {})}
        taken = list(inspect.signature(getattr(kind, kind.FUNCTION)).parameters)[1:]
        assert taken == list(asked), name
        assert all(isinstance(each[0], list) or each[0] in own | BUILT_IN for each in asked.values())
        assert len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
        assert set(kind.RETURN_TYPES) <= own | BUILT_IN
    assert kinds["Mv3dLoadPhoto"].INPUT_TYPES()["required"]["image"][0] == ["chair.png"]
    assert kinds["Mv3dLoadPhoto"].VALIDATE_INPUTS("chair.png") is True
    assert "got away.png" in kinds["Mv3dLoadPhoto"].VALIDATE_INPUTS("away.png")
    before = kinds["Mv3dLoadPhoto"].IS_CHANGED("chair.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "input" / "chair.png")
    assert kinds["Mv3dLoadPhoto"].IS_CHANGED("chair.png") != before
    used = {node["class_type"] for node in WORKFLOW.values()}
    assert used - kinds.keys() == {"PreviewImage", "Preview3D"}


SCRIPT = """
import asyncio, json, os, shutil, sys
folder, photo = sys.argv[1:3]
workflow = json.loads(open(os.path.join(folder, "workflow.json")).read())
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, os.getcwd())
import comfy.options
comfy.options.enable_args_parsing()
import nodes, execution, folder_paths
os.makedirs(folder_paths.get_input_directory(), exist_ok=True)
shutil.copy(photo, folder_paths.get_input_directory())
async def main():
    loaded = await nodes.load_custom_node(folder)
    # Alone: other extra nodes need packages that this check does not.
    loaded_3d = await nodes.load_custom_node(os.path.join("comfy_extras", "nodes_load_3d.py"), module_parent="comfy_extras")
    good = await execution.validate_prompt("1", json.loads(json.dumps(workflow)), None)
    wrong = json.loads(json.dumps(workflow))
    wrong["3"]["inputs"]["views"] = ["1", 0]
    wrong["3"]["inputs"]["quality"] = "best"
    bad = await execution.validate_prompt("2", wrong, None)
    print(json.dumps({
        "loaded": [loaded, loaded_3d], "nodes": sorted(n for n in nodes.NODE_CLASS_MAPPINGS if n.startswith("Mv3d")),
        "name": nodes.NODE_DISPLAY_NAME_MAPPINGS["Mv3dViews"], "good": good[:2], "outputs": sorted(good[2]),
        "bad": bad[2], "errors": sorted(error["type"] for error in bad[3]["3"]["errors"]),
    }))
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(
    COMFYUI is None,
    reason="needs ComfyUI with its packages: MV3D_COMFYUI=PYTHON:FOLDER, the Python and the checkout",
)
def test_comfyui_loads_the_nodes_and_takes_the_workflow(tmp_path: Path):
    python, _, checkout = str(COMFYUI).partition(":")
    done = subprocess.run(
        [python, "-c", SCRIPT, str(FOLDER), str(ROOT / "examples" / "chair.png")],
        capture_output=True, text=True, check=False, cwd=checkout,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loaded"] == [True, True], done.stderr
    assert found["nodes"] == sorted(nodes.NODE_CLASS_MAPPINGS) and found["name"] == "Views (mv3d)"
    assert found["good"] == [True, None] and found["outputs"] == ["4", "5", "6"]
    assert found["bad"] == ["5"], "the views can still be seen, the mesh cannot be made"
    assert found["errors"] == ["return_type_mismatch", "value_not_in_list"]
