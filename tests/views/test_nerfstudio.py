"""What nerfstudio gets of views: our world, the masks as alpha, points; and its own dataparser, where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.shapes import cube
from PIL import Image

from mv3d.core.errors import UsageError
from mv3d.views.folder import to_uint8
from mv3d.views.handing_on import POINTS
from mv3d.views.nerfstudio_scene import nerfstudio_scene
from mv3d.views.views import Views

ROOT = Path(__file__).parents[2]
ENTRY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
    "nerfstudio.dataparser_configs"
]
PYTHON = os.environ.get("MV3D_NERFSTUDIO") or (
    sys.executable if importlib.util.find_spec("nerfstudio") else None
)
needs_nerfstudio = pytest.mark.skipif(
    PYTHON is None,
    reason="needs nerfstudio and mv3d in one environment, and MV3D_NERFSTUDIO=…/bin/python of it",
)
SCRIPT = """
import json, sys
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.plugins.registry_dataparser import discover_dataparsers
folder, scale, every, split, color = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5] or None
configs, descriptions = discover_dataparsers()
config = configs["mv3d-views"]
config.data, config.scale_factor, config.eval_every, config.alpha_color = __import__("pathlib").Path(folder), scale, every, color
found = config.setup().get_dataparser_outputs(split)
data = InputDataset(found)
cameras = found.cameras
rays = cameras.generate_rays(0)
print(json.dumps({
    "names": sorted(configs), "description": descriptions["mv3d-views"], "scale": found.dataparser_scale,
    "transform": found.dataparser_transform.tolist(), "box": found.scene_box.aabb.tolist(),
    "c2w": cameras.camera_to_worlds.tolist(), "size": [int(cameras.width[0]), int(cameras.height[0])],
    "files": [path.name for path in found.image_filenames], "masks": found.mask_filenames,
    **{name: getattr(cameras, name)[:, 0].tolist() for name in ("fx", "fy", "cx", "cy")},
    "origin": rays.origins[3, 5].tolist(), "direction": rays.directions[3, 5].tolist(),
    "picture": data[0]["image"].tolist(),
    "points": found.metadata["points3D_xyz"][:5].tolist() if "points3D_xyz" in found.metadata else None,
    "kinds": {name: [str(value.dtype), list(value.shape)] for name, value in found.metadata.items()},
}))
"""


@pytest.fixture
def led(cube_views: Views) -> Views:
    """With two lenses, off the middle, and a solid."""
    c = cube_views.cameras
    longer = np.where(np.arange(len(c)) < 6, 1.0, 1.25)
    return replace(
        cube_views, cameras=replace(c, fl_x=c.fl_x * longer, cx=c.cx + 1.5), solid=cube(), orbit=None
    )


@pytest.mark.parametrize("write", ["save", "to_nerfstudio"])
def test_the_world_and_the_masks_are_those_of_the_views(write, led, tmp_path):
    getattr(led, write)(tmp_path / "v")
    scene = nerfstudio_scene(tmp_path / "v", cache=tmp_path / "cache")
    for name in ("c2w", "fl_x", "fl_y", "cx", "cy"):
        assert getattr(scene.cameras, name) == pytest.approx(getattr(led.cameras, name))
    for path, expected in zip(scene.image_files, to_uint8(led.images), strict=True):
        got = np.asarray(Image.open(path))
        assert got.shape[-1] == 4 and np.abs(got[..., 3].astype(int) - expected[..., 3]).max() <= 1
        inside = expected[..., 3] == 255
        assert np.abs(got[inside].astype(int) - expected[inside]).max() <= 1
    low, high = scene.box
    assert (low < -0.3).all() and (high > 0.3).all(), "the cube of half side 0.3 lies in the box"
    assert np.ptp(high - low) == pytest.approx(0, abs=1e-9) and (high - low).max() < 2
    if write == "save":
        assert scene.points is not None and scene.points.points.shape == (POINTS, 3)
        assert np.abs(scene.points.points).max(1) == pytest.approx(0.3, abs=1e-5)


def test_pictures_are_written_once_and_again_where_they_are_gone(cube_views, tmp_path):
    cube_views.save(tmp_path / "v")
    first = nerfstudio_scene(tmp_path / "v", cache=tmp_path / "cache").image_files
    stamp = first[0].stat().st_mtime_ns
    assert nerfstudio_scene(tmp_path / "v", cache=tmp_path / "cache").image_files == first
    assert first[0].stat().st_mtime_ns == stamp
    other = replace(cube_views, images=cube_views.images[::-1].copy())
    other.save(tmp_path / "w")
    assert nerfstudio_scene(tmp_path / "w", cache=tmp_path / "cache").image_files[0].parent != first[0].parent


def test_the_split_keeps_views_for_evaluation(cube_views, tmp_path):
    cube_views.save(tmp_path / "v")
    scene = nerfstudio_scene(tmp_path / "v", cache=tmp_path / "cache")
    assert scene.split("train", 0) == scene.split("val", 0) == list(range(12))
    assert scene.split("test", 4) == [3, 7, 11]
    assert scene.split("train", 4) == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    for wrong in (1, -2, 13):
        with pytest.raises(UsageError, match="eval-every: expected 0, or 2 to 12"):
            scene.split("train", wrong)


def test_the_entry_point_names_what_is_there():
    module, name = ENTRY["mv3d-views"].split(":")
    source = importlib.util.find_spec(module).origin
    assert f"\n{name} = " in Path(source).read_text()


@pytest.mark.slow
@needs_nerfstudio
@pytest.mark.parametrize(
    ("scale", "every", "split", "color"), [(1.0, 0, "train", ""), (2.0, 4, "val", "white")]
)
def test_nerfstudio_has_our_cameras(scale, every, split, color, led, tmp_path):
    led.save(tmp_path / "v")
    environment = os.environ | {"MV3D_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [str(PYTHON), "-P", "-c", SCRIPT, str(tmp_path / "v"), str(scale), str(every), split, color],
        capture_output=True, text=True, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    keep = [3, 7, 11] if every else list(range(12))
    ours = led.cameras[keep]
    assert "mv3d-views" in found["names"] and found["description"]
    assert found["scale"] == scale and found["transform"] == np.eye(4)[:3].tolist()
    assert found["files"] == [f"{index:03d}.png" for index in keep] and found["masks"] is None
    expected = ours.c2w[:, :3].copy()
    expected[..., 3] *= scale
    assert np.array(found["c2w"]) == pytest.approx(expected, abs=1e-6)
    assert found["size"] == [ours.width, ours.height]
    for theirs, name in (("fx", "fl_x"), ("fy", "fl_y"), ("cx", "cx"), ("cy", "cy")):
        assert found[theirs] == pytest.approx(getattr(ours, name), rel=1e-6)
    # Its ray through a pixel is ours: the same camera axes and the same place of the pixel's centre.
    origins, directions = ours.rays(0, np.array([[5.5, 3.5]]))
    assert found["origin"] == pytest.approx(origins[0] * scale, abs=1e-5)
    assert found["direction"] == pytest.approx(directions[0], abs=1e-5)
    rgba = led.images[keep[0]]
    picture = np.array(found["picture"])
    if color:
        assert picture == pytest.approx(rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:], abs=0.01)
    else:
        assert picture[..., 3] == pytest.approx(rgba[..., 3], abs=0.003)
    assert np.abs(found["points"]).max(1) == pytest.approx(0.3 * scale, abs=1e-5)
    assert found["kinds"]["points3D_rgb"] == ["torch.uint8", [POINTS, 3]]
    assert found["kinds"]["points3D_xyz"] == ["torch.float32", [POINTS, 3]]
