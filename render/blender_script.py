"""Run by Blender, never imported by mv3d: renders the job that `mv3d.render.blender` wrote to a folder.

    blender --background --factory-startup --python-exit-code 1 --python blender_script.py -- FOLDER
    python blender_script.py -- FOLDER          (a Python that has the `bpy` package)

The folder holds `job.json`, `geometry.npz`, `environment.npy` and the textures; each view leaves one
uncompressed multilayer EXR per pass. This file uses nothing but Blender's own Python (bpy and numpy), so that
any Blender from 4.2 on can run it.
"""

# ruff: noqa: PLC0415
from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import bpy  # pyright: ignore[reportMissingImports]
import numpy as np

OLDEST = (4, 2, 0)
SENSOR_MM = 36.0
CENTRE_FILTER = 0.01
"""Pixel filter of the passes that are read at pixel centres; 0.01 px is the smallest that Cycles takes."""


def die_with_parent() -> None:
    """Stdin is a pipe that the caller holds open: when it ends, the caller is gone and so are we."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin, whose lock would break the interpreter's end
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: Path) -> None:
    if bpy.app.version < OLDEST:
        raise SystemExit(f"Blender: expected 4.2 or newer, got {bpy.app.version_string}")
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    materials = [Surface(entry, folder, number) for number, entry in enumerate(job["materials"])]
    add_mesh(scene, folder / "geometry.npz", materials)
    add_environment(scene, np.load(folder / "environment.npy"))
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    set_up_output(scene, job)
    set_up_engine(scene, job)
    for view, parameters in enumerate(job["cameras"]):
        set_camera(scene, camera, parameters, job)
        for name in job["passes"]:
            set_pass(scene, name, job, materials)
            scene.render.filepath = str(folder / f"{name}_{view:04d}.exr")
            bpy.ops.render.render(write_still=True)
    (folder / "done.json").write_text(json.dumps({"blender": bpy.app.version_string}), encoding="utf-8")


def set_up_output(scene: Any, job: dict[str, Any]) -> None:
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = job["width"], job["height"], 100
    render.film_transparent = True
    render.use_file_extension = False
    render.use_compositing = render.use_sequencer = False
    render.threads_mode = "FIXED"
    render.threads = job["threads"]
    image = render.image_settings
    if hasattr(image, "media_type"):  # Blender 5
        image.media_type = "MULTI_LAYER_IMAGE"
    image.file_format = "OPEN_EXR_MULTILAYER"
    image.color_mode, image.color_depth, image.exr_codec = "RGBA", "32", "NONE"
    if hasattr(image, "use_exr_interleave"):
        image.use_exr_interleave = True  # one part, as older versions write
    # EXR holds scene-linear values; the view transform is set for what people see when they look in.
    scene.display_settings.display_device = "sRGB"
    scene.view_settings.view_transform = "Standard"
    layer = scene.view_layers[0]
    layer.use_pass_combined = layer.use_pass_z = layer.use_pass_normal = True


def set_up_engine(scene: Any, job: dict[str, Any]) -> None:
    if job["engine"] == "eevee":
        names = [item.identifier for item in scene.render.bl_rna.properties["engine"].enum_items_static]
        scene.render.engine = "BLENDER_EEVEE_NEXT" if "BLENDER_EEVEE_NEXT" in names else "BLENDER_EEVEE"
        scene.eevee.use_raytracing = True
        return
    scene.render.engine = "CYCLES"
    scene.render.use_persistent_data = True  # the acceleration structure is built once for all views
    cycles = scene.cycles
    cycles.device = "CPU"
    if job["device"] != "cpu":
        preferences = bpy.context.preferences.addons["cycles"].preferences
        preferences.compute_device_type = job["device"].upper()
        preferences.refresh_devices()
        chosen = [d for d in preferences.devices if d.type == job["device"].upper()]
        if not chosen:
            raise SystemExit(f"device {job['device']}: this Blender sees no such device")
        for device in preferences.devices:
            device.use = device in chosen
        cycles.device = "GPU"
    cycles.seed = job["seed"]
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = job["denoise"]
    cycles.sample_clamp_direct = cycles.sample_clamp_indirect = 0.0
    cycles.max_bounces = cycles.diffuse_bounces = cycles.glossy_bounces = job["bounces"]
    cycles.transmission_bounces = cycles.volume_bounces = 0
    cycles.transparent_max_bounces = 64
    cycles.pixel_filter_type = "BOX"


def set_pass(scene: Any, name: str, job: dict[str, Any], materials: list[Surface]) -> None:
    """beauty: lit. albedo: the base colour as emission, without light. centre: depth and normals through the
    pixel centres, one sample."""
    centre = name == "centre"
    samples = {"beauty": job["samples"], "albedo": job["albedo_samples"], "centre": 1}[name]
    for material in materials:
        material.show("lit" if name == "beauty" else "albedo")
    scene.world.node_tree.nodes["strength"].inputs["Strength"].default_value = float(name == "beauty")
    if job["engine"] == "eevee":
        scene.eevee.taa_render_samples = samples
        scene.render.filter_size = CENTRE_FILTER if centre else 1.0
        return
    scene.cycles.samples = samples
    scene.cycles.use_denoising = job["denoise"] and name == "beauty"
    scene.cycles.filter_width = CENTRE_FILTER if centre else 1.0


def set_camera(scene: Any, camera: Any, parameters: dict[str, Any], job: dict[str, Any]) -> None:
    """Pinhole of any intrinsics: Blender's shift counts image widths, its aspect the shape of a pixel."""
    import mathutils  # pyright: ignore[reportMissingImports]

    width, height = job["width"], job["height"]
    ratio = parameters["fl_x"] / parameters["fl_y"]  # height of a pixel over its width
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = max(1.0, 1 / ratio), max(1.0, ratio)
    data = camera.data
    data.sensor_fit, data.sensor_width = "HORIZONTAL", SENSOR_MM
    data.lens = parameters["fl_x"] * SENSOR_MM / width
    data.shift_x = 0.5 - parameters["cx"] / width
    data.shift_y = (parameters["cy"] - height / 2) / width * ratio
    data.clip_start, data.clip_end = parameters["near"], parameters["far"]
    camera.matrix_world = mathutils.Matrix(parameters["c2w"])


def add_mesh(scene: Any, path: Path, materials: list[Surface]) -> None:
    arrays = np.load(path)
    vertices, faces = arrays["vertices"], arrays["faces"]
    mesh = bpy.data.meshes.new("model")
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", vertices.ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    for surface in materials:
        mesh.materials.append(surface.material)
    mesh.polygons.foreach_set("material_index", arrays["face_material"])
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    for name in sorted(name for name in arrays if name.startswith("uv")):
        # glTF counts v from the top of the texture, Blender from its bottom.
        uv = arrays[name][faces.ravel()]
        uv[:, 1] = 1 - uv[:, 1]
        mesh.uv_layers.new(name=name).data.foreach_set("uv", uv.ravel())
    if "colors" in arrays:
        colors = mesh.color_attributes.new("color", "FLOAT_COLOR", "POINT")
        colors.data.foreach_set("color", arrays["colors"].ravel())
    mesh.update(calc_edges=True)
    mesh.normals_split_custom_set(arrays["normals"].reshape(-1, 3))
    scene.collection.objects.link(bpy.data.objects.new("model", mesh))


def image_of(values: np.ndarray, name: str) -> Any:
    """A float image of (h, w, 3 or 4) linear values, row 0 at the top."""
    height, width, channels = values.shape
    image = bpy.data.images.new(name, width, height, alpha=True, float_buffer=True, is_data=True)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :channels] = values[::-1]
    image.pixels.foreach_set(pixels.ravel())
    image.update()
    return image


def add_environment(scene: Any, radiance: np.ndarray) -> None:
    """(h, w, 3) linear; its layout is Blender's own: left to right is clockwise from above, the middle +X."""
    image = image_of(radiance, "environment")
    world = bpy.data.worlds.new("world")
    scene.world = world
    if bpy.app.version < (5, 0, 0):
        world.use_nodes = True
    tree = world.node_tree
    tree.nodes.clear()
    texture = tree.nodes.new("ShaderNodeTexEnvironment")
    texture.image, texture.interpolation = image, "Linear"
    background = tree.nodes.new("ShaderNodeBackground")
    background.name = "strength"
    output = tree.nodes.new("ShaderNodeOutputWorld")
    tree.links.new(texture.outputs["Color"], background.inputs["Color"])
    tree.links.new(background.outputs["Background"], output.inputs["Surface"])


class Surface:
    """The node tree of one glTF material: metallic-roughness lit, or its base colour alone."""

    def __init__(self, entry: dict[str, Any], folder: Path, number: int) -> None:
        self.entry, self.folder = entry, folder
        self.material = bpy.data.materials.new(f"material_{number}")
        if bpy.app.version < (5, 0, 0):
            self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.tree.nodes.clear()
        self.output = self.tree.nodes.new("ShaderNodeOutputMaterial")
        color, alpha = self.base_color()
        albedo = self.unlit(color, alpha)
        self.shown = {"lit": albedo if entry["unlit"] else self.lit(color, alpha), "albedo": albedo}
        self.show("lit")

    def show(self, name: str) -> None:
        self.tree.links.new(self.shown[name], self.output.inputs["Surface"])

    # --- small words for node trees -------------------------------------------------------------------------
    def node(self, kind: str, **values: Any) -> Any:
        node = self.tree.nodes.new(kind)
        for name, value in values.items():
            setattr(node, name, value)
        return node

    def put(self, socket: Any, value: Any) -> None:
        """A socket gets a link or a constant."""
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value

    def math(self, operation: str, a: Any, b: Any = 0.0) -> Any:
        node = self.node("ShaderNodeMath", operation=operation)
        self.put(node.inputs[0], a)
        self.put(node.inputs[1], b)
        return node.outputs[0]

    def scaled(self, color: Any, factor: Any) -> Any:
        """Component-wise product of two colours (a socket and a socket or a tuple of three)."""
        node = self.node("ShaderNodeVectorMath", operation="MULTIPLY")
        self.put(node.inputs[0], color)
        self.put(node.inputs[1], factor)
        return node.outputs[0]

    # --- glTF to nodes ----------------------------------------------------------------------------------------
    def image(self, file: str) -> Any:
        """A picture of numbers that are linear already: .npy of floats, or .png."""
        if file.endswith(".png"):
            image = bpy.data.images.load(str(self.folder / file))
            image.colorspace_settings.name = "Non-Color"
        else:
            image = image_of(np.load(self.folder / file), file)
        image.alpha_mode = "CHANNEL_PACKED"
        return image

    def texture(self, name: str) -> Any | None:
        """The image node of a texture, or None where the material has none."""
        file = self.entry[name]
        if file is None:
            return None
        image = self.image(file)
        wrap = self.entry["wrap"][name]
        node = self.node("ShaderNodeTexImage", image=image, interpolation="Linear", extension="REPEAT")
        uv = self.node("ShaderNodeUVMap", uv_map=f"uv{self.entry['uv_set'][name]}").outputs[0]
        if wrap[0] == wrap[1]:
            node.extension = {"repeat": "REPEAT", "mirror": "MIRROR", "clamp": "EXTEND"}[wrap[0]]
        else:
            uv = self.wrapped(uv, wrap, image.size)
        self.put(node.inputs["Vector"], uv)
        return node

    def wrapped(self, uv: Any, wrap: list[str], size: Any) -> Any:
        """Texture coordinates folded by hand, for two axes of unlike rules (an image node has one rule).

        Held half a texel from the edge, where bilinear weights of a clamped or mirrored texture end."""
        parts = self.node("ShaderNodeSeparateXYZ")
        self.put(parts.inputs[0], uv)
        joined = self.node("ShaderNodeCombineXYZ")
        for axis, rule in enumerate(wrap):
            value = parts.outputs[axis]
            if rule == "mirror":
                value = self.math("PINGPONG", value, 1.0)
            if rule != "repeat":
                half = 0.5 / size[axis]
                value = self.math("MINIMUM", self.math("MAXIMUM", value, half), 1 - half)
            self.put(joined.inputs[axis], value)
        return joined.outputs[0]

    def base_color(self) -> tuple[Any, Any]:
        """Linear colour and alpha in [0, 1] after the alpha mode and the rule of back faces."""
        entry = self.entry
        factor = entry["base_color"]
        color = self.node("ShaderNodeCombineXYZ")
        for axis in range(3):
            color.inputs[axis].default_value = factor[axis]
        color, alpha = color.outputs[0], factor[3]
        texture = self.texture("base_color_texture")
        if texture is not None:
            color = self.scaled(color, texture.outputs["Color"])
            alpha = self.math("MULTIPLY", texture.outputs["Alpha"], alpha)
        if entry["vertex_colors"]:
            attribute = self.node("ShaderNodeVertexColor", layer_name="color")
            color = self.scaled(color, attribute.outputs["Color"])
            alpha = self.math("MULTIPLY", attribute.outputs["Alpha"], alpha)
        if entry["alpha_mode"] == "opaque":
            alpha = 1.0
        elif entry["alpha_mode"] == "mask":
            alpha = self.math("SUBTRACT", 1.0, self.math("LESS_THAN", alpha, entry["alpha_cutoff"]))
        if entry["cull"]:
            front = self.math("SUBTRACT", 1.0, self.node("ShaderNodeNewGeometry").outputs["Backfacing"])
            alpha = self.math("MULTIPLY", front, alpha)
        return color, alpha

    def lit(self, color: Any, alpha: Any) -> Any:
        entry = self.entry
        shader = self.node("ShaderNodeBsdfPrincipled")
        put = {"Base Color": color, "Alpha": alpha, "IOR": 1.5, "Coat Weight": 0.0, "Sheen Weight": 0.0}
        put |= {"Metallic": entry["metallic"], "Roughness": entry["roughness"]}
        put |= {"Specular IOR Level": entry["specular"]}
        surface = self.texture("metallic_roughness_texture")
        if surface is not None:
            parts = self.node("ShaderNodeSeparateColor")
            self.put(parts.inputs[0], surface.outputs["Color"])
            put["Roughness"] = self.math("MULTIPLY", parts.outputs[1], entry["roughness"])
            put["Metallic"] = self.math("MULTIPLY", parts.outputs[2], entry["metallic"])
        bump = self.texture("normal_texture")
        if bump is not None:
            uv_map = f"uv{entry['uv_set']['normal_texture']}"
            node = self.node("ShaderNodeNormalMap", uv_map=uv_map, space="TANGENT")
            self.put(node.inputs["Strength"], entry["normal_scale"])
            self.put(node.inputs["Color"], bump.outputs["Color"])
            put["Normal"] = node.outputs["Normal"]
        glow: Any = (*entry["emissive"], 1.0)
        texture = self.texture("emissive_texture")
        if texture is not None:
            glow = self.scaled(texture.outputs["Color"], entry["emissive"])
        put |= {"Emission Color": glow, "Emission Strength": float(any(entry["emissive"]))}
        for name, value in put.items():
            self.put(shader.inputs[name], value)
        return shader.outputs["BSDF"]

    def unlit(self, color: Any, alpha: Any) -> Any:
        glow = self.node("ShaderNodeEmission")
        self.put(glow.inputs["Color"], color)
        mix = self.node("ShaderNodeMixShader")
        self.put(mix.inputs[0], alpha)
        self.put(mix.inputs[1], self.node("ShaderNodeBsdfTransparent").outputs[0])
        self.put(mix.inputs[2], glow.outputs[0])
        return mix.outputs[0]


if __name__ == "__main__":
    die_with_parent()
    main(Path(sys.argv[sys.argv.index("--") + 1]))
    # All is written. The bpy package of 4.2 crashes while it takes itself down, which would look like a failed job.
    sys.stdout.flush()
    os._exit(0)
