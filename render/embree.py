"""The default backend: Embree ray casting on the CPU."""

from __future__ import annotations

import numpy as np

from mv3d.render.cameras import Cameras
from mv3d.render.environment import Environment
from mv3d.render.model import Model
from mv3d.render.raycast import RayScene, sample_bilinear
from mv3d.render.renderer import Rendered, RenderSettings


class EmbreeRenderer:
    """See `mv3d.render.renderer.Renderer`."""

    def render(
        self, model: Model, cameras: Cameras, environment: Environment, settings: RenderSettings
    ) -> Rendered:
        scene = RayScene(model.vertices, model.faces)
        light = environment.radiance.mean((0, 1))
        shape = (len(cameras), cameras.height, cameras.width)
        rgba = np.zeros((*shape, 4), np.float32)
        depth = np.full(shape, np.inf, np.float32)
        normals = np.zeros((*shape, 3), np.float32)
        albedo = np.zeros((*shape, 3), np.float32)
        for view in range(len(cameras)):
            origins, directions = cameras.rays(view)
            hits = scene.first_hits(origins, directions)
            hit = hits.face >= 0
            corners = model.faces[hits.face[hit]]
            bary = hits.bary[hit][:, :, None]
            base = np.ones((int(hit.sum()), 3), np.float32)
            for index, material in enumerate(model.materials):
                mine = model.face_material[hits.face[hit]] == index
                color = np.array(material.base_color[:3], np.float32)
                if material.base_color_texture is not None and model.uv is not None:
                    h, w = material.base_color_texture.shape[:2]
                    uv = (model.uv[corners[mine]] * bary[mine]).sum(1) % 1
                    color = (
                        color
                        * (sample_bilinear(material.base_color_texture, uv * [w, h])[:, :3] / 255) ** 2.2
                    )
                base[mine] = color
            if model.colors is not None:
                base *= (model.colors[corners] * bary).sum(1)[:, :3]
            normal = (model.normals[corners] * bary).sum(1)
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
            normal *= np.where((normal * directions[hit]).sum(1) > 0, -1, 1)[:, None]
            flat = lambda image: image[view].reshape(-1, *image.shape[3:])  # noqa: E731, B023
            flat(rgba)[hit] = np.concatenate(
                [np.clip(base * light, 0, 1) ** (1 / 2.2), np.ones((len(base), 1))], 1
            )
            axis = -cameras.c2w[view, :3, 2]
            flat(depth)[hit] = hits.distance[hit] * (directions[hit] @ axis)
            flat(normals)[hit] = normal
            flat(albedo)[hit] = np.clip(base, 0, 1) ** (1 / 2.2)
        wanted = settings.outputs
        return Rendered(
            rgba,
            depth if "depth" in wanted else None,
            normals if "normals" in wanted else None,
            albedo if "albedo" in wanted else None,
        )
