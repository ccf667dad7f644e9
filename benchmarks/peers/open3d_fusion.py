"""Open3D's TSDF fusion and Poisson surface from posed depth; runs in Open3D's environment, without mv3d.

    python open3d_fusion.py FOLDER [--voxel 0.005]

Reads FOLDER/views.npz: depth (n, h, w) float32 along the optical axis, 0 where nothing is; rgb (n, h, w, 3) uint8; c2w
(n, 4, 4) with OpenGL axes; fl_x, fl_y, cx, cy (n,) in pixels, pixel centres at +0.5. Writes tsdf.ply, poisson.ply and
open3d.json (version, seconds of each).
"""

from __future__ import annotations

# pyright: reportMissingImports=false
import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

TRUNCATION_VOXELS = 4
FAR = 100.0


def open3d_extrinsic(c2w: np.ndarray) -> np.ndarray:
    """c2w (4, 4) with OpenGL axes (+Y up, +Z back) → world to camera with Open3D's (+Y down, +Z forward)."""
    return np.linalg.inv(c2w @ np.diag([1.0, -1.0, -1.0, 1.0]))


def open3d_principal(cx: float, cy: float) -> tuple[float, float]:
    """Pixel centres at +0.5 → at whole numbers, as Open3D counts them."""
    return cx - 0.5, cy - 0.5


def rgbd_views(open3d: Any, views: dict[str, np.ndarray]) -> list[tuple[Any, Any, np.ndarray]]:
    """(picture with depth, intrinsics, extrinsics) of each view."""
    found = []
    height, width = views["depth"].shape[1:]
    for i in range(len(views["depth"])):
        rgbd = open3d.geometry.RGBDImage.create_from_color_and_depth(
            open3d.geometry.Image(np.ascontiguousarray(views["rgb"][i])),
            open3d.geometry.Image(np.ascontiguousarray(views["depth"][i])),
            depth_scale=1.0,
            depth_trunc=FAR,
            convert_rgb_to_intensity=False,
        )
        principal = open3d_principal(float(views["cx"][i]), float(views["cy"][i]))
        intrinsic = open3d.camera.PinholeCameraIntrinsic(
            width, height, float(views["fl_x"][i]), float(views["fl_y"][i]), *principal
        )
        found.append((rgbd, intrinsic, open3d_extrinsic(views["c2w"][i])))
    return found


def view_clouds(open3d: Any, views: dict[str, np.ndarray]) -> list[Any]:
    """The points that each view sees, in the world."""
    make = open3d.geometry.PointCloud.create_from_rgbd_image
    return [make(*view) for view in rgbd_views(open3d, views)]


def tsdf_mesh(open3d: Any, views: dict[str, np.ndarray], voxel: float) -> Any:
    """A dense volume: in Open3D 0.20 ScalableTSDFVolume divides metric depth by 1000 where it looks for its blocks."""
    clouds = view_clouds(open3d, views)
    low = np.min([cloud.get_min_bound() for cloud in clouds if len(cloud.points)], 0)
    high = np.max([cloud.get_max_bound() for cloud in clouds if len(cloud.points)], 0)
    truncation = TRUNCATION_VOXELS * voxel
    resolution = int(np.ceil(((high - low).max() + 2 * truncation) / voxel))
    length = resolution * voxel
    volume = open3d.pipelines.integration.UniformTSDFVolume(
        length=length,
        resolution=resolution,
        sdf_trunc=truncation,
        color_type=open3d.pipelines.integration.TSDFVolumeColorType.RGB8,
        origin=(low + high - length) / 2,
    )
    for view in rgbd_views(open3d, views):
        volume.integrate(*view)
    return volume.extract_triangle_mesh()


def poisson_mesh(open3d: Any, views: dict[str, np.ndarray], voxel: float) -> Any:
    """Points of all views with normals toward their cameras, thinned to one a voxel; the octree is as fine as a voxel."""
    cloud = open3d.geometry.PointCloud()
    for part, c2w in zip(view_clouds(open3d, views), views["c2w"], strict=True):
        part.estimate_normals(open3d.geometry.KDTreeSearchParamHybrid(radius=4 * voxel, max_nn=20))
        part.orient_normals_towards_camera_location(c2w[:3, 3])
        cloud += part
    cloud = cloud.voxel_down_sample(voxel)
    size = float(np.max(cloud.get_max_bound() - cloud.get_min_bound()))
    depth = int(np.ceil(np.log2(1.1 * size / voxel)))
    mesh = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=depth)[0]
    # Where no point is, at the rim and below, the surface runs on into the void; past the points' box it is cut off.
    return mesh.crop(
        cloud.get_axis_aligned_bounding_box().scale(
            1 + 2 * voxel / size, cloud.get_axis_aligned_bounding_box().get_center()
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--voxel", type=float, default=1 / 192, help="side of a voxel, world units")
    options = parser.parse_args()
    import open3d

    with np.load(options.folder / "views.npz") as stored:
        views = {name: stored[name] for name in stored.files}
    seconds = {}
    for name, make in (("tsdf", tsdf_mesh), ("poisson", poisson_mesh)):
        begun = time.perf_counter()
        mesh = make(open3d, views, options.voxel)
        seconds[name] = time.perf_counter() - begun
        if not open3d.io.write_triangle_mesh(str(options.folder / f"{name}.ply"), mesh):
            raise OSError(f"{options.folder / name}.ply: could not be written")
    report = {"version": open3d.__version__, "seconds": seconds}
    (options.folder / "open3d.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
