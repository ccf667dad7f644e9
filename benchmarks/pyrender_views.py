"""Views of a textured mesh by pyrender, in an environment of its own: it needs nothing of mv3d.

    PYOPENGL_PLATFORM=egl python pyrender_views.py job.npz views.npz

job.npz: vertices (v, 3), faces (f, 3), uv (v, 2) with the origin at the top left, texture (h, w, 3) uint8, c2w (n, 4, 4)
in OpenGL axes, intrinsics (4,) fl_x, fl_y, cx, cy in pixels, size (2,) width and height.
views.npz: color (n, h, w, 3) uint8, the unlit texture; alpha (n, h, w) bool, where the depth buffer holds something;
seconds (2,): of making the scene and the unlit views, and of the same views under three lights. The last line on stdout
is one JSON: versions and what OpenGL calls itself.
"""

import json
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np


def main() -> None:
    import pyrender  # pyright: ignore[reportMissingImports]
    import trimesh
    from PIL import Image
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    job = np.load(sys.argv[1])
    width, height = (int(n) for n in job["size"])
    fl_x, fl_y, cx, cy = (float(n) for n in job["intrinsics"])
    renderer = pyrender.OffscreenRenderer(width, height)
    camera = pyrender.IntrinsicsCamera(fl_x, fl_y, cx, cy, znear=0.05, zfar=50.0)

    def scene_of_mesh() -> Any:
        mesh = trimesh.Trimesh(job["vertices"], job["faces"], process=False)
        uv = np.stack([job["uv"][:, 0], 1 - job["uv"][:, 1]], 1)
        material = PBRMaterial(
            baseColorTexture=Image.fromarray(job["texture"]),
            metallicFactor=0.0,
            roughnessFactor=0.6,
            doubleSided=True,
        )
        mesh.visual = TextureVisuals(uv=uv, material=material)
        scene = pyrender.Scene(bg_color=(0.0, 0.0, 0.0, 0.0), ambient_light=(0.3, 0.3, 0.3))
        scene.add(pyrender.Mesh.from_trimesh(mesh, smooth=True))
        return scene

    def views(scene: Any, flags: int, *, lights: bool) -> tuple[np.ndarray, np.ndarray]:
        if lights:
            for azimuth in np.radians((0, 120, 240)):
                pose = np.eye(4)
                c, s = np.cos(azimuth), np.sin(azimuth)
                pose[:3, :3] = [[-s, 0, c], [c, 0, s], [0, 1, 0]]
                scene.add(pyrender.DirectionalLight(intensity=3.0), pose=pose)
        node = scene.add(camera)
        colors, alphas = [], []
        for c2w in job["c2w"]:
            scene.set_pose(node, c2w)
            color, depth = renderer.render(scene, flags=flags)
            colors.append(color[..., :3])
            alphas.append(depth > 0)
        return np.stack(colors), np.stack(alphas)

    flat, lit = pyrender.RenderFlags.FLAT, pyrender.RenderFlags.NONE
    # OpenGL compiles its programs at the first picture.
    renderer.render(scene_of_warm_up(pyrender, trimesh, camera), flags=flat)
    start = time.perf_counter()
    color, alpha = views(scene_of_mesh(), flat, lights=False)
    unlit_s = time.perf_counter() - start
    start = time.perf_counter()
    views(scene_of_mesh(), lit, lights=True)
    lit_s = time.perf_counter() - start
    np.savez(sys.argv[2], color=color, alpha=alpha, seconds=np.array([unlit_s, lit_s]))
    from OpenGL import GL  # pyright: ignore[reportMissingImports]

    versions = {name: metadata.version(name) for name in ("pyrender", "PyOpenGL", "trimesh", "numpy")}
    name = GL.glGetString(GL.GL_RENDERER)
    print(json.dumps({"versions": versions, "opengl": name.decode() if name else "unknown"}))


def scene_of_warm_up(pyrender: Any, trimesh: Any, camera: Any) -> Any:
    """A ball in front of the camera."""
    scene = pyrender.Scene()
    scene.add(pyrender.Mesh.from_trimesh(trimesh.creation.icosphere(1)))
    pose = np.eye(4)
    pose[2, 3] = 3
    scene.add(camera, pose=pose)
    return scene


if __name__ == "__main__":
    main()
