"""Runs inside Blender's Python: 3D files read by Blender's own importers, drawn without light, for `readers.py`.

    PYTHON_WITH_BPY -P blender_reading.py -- JOB.json

The job lists files, each with the cameras in Blender's world. Every material shows its base colour and its emission,
whatever the light; animations are dropped, so that the pose is the file's own. One PNG a view (straight alpha, sRGB);
a file that Blender cannot read leaves NAME.txt with the reason.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bpy  # pyright: ignore[reportMissingImports]
import mathutils  # pyright: ignore[reportMissingImports]

SENSOR_MM = 36.0


def main(job: dict[str, Any]) -> None:
    for entry in job["files"]:
        out = Path(job["out"]) / entry["name"]
        try:
            draw(entry, out, job)
        except Exception as error:  # whatever an importer raises is the result for this file
            out.with_suffix(".txt").write_text(" ".join(str(error).split())[:300], encoding="utf-8")


def draw(entry: dict[str, Any], out: Path, job: dict[str, Any]) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    read(entry["path"])
    for thing in (*bpy.data.objects, *bpy.data.shape_keys):
        thing.animation_data_clear()
    for item in bpy.data.objects:
        if item.type in ("LIGHT", "CAMERA"):
            bpy.data.objects.remove(item)
    for mesh in bpy.data.meshes:
        if not mesh.materials:
            # glTF's default material is white; of other files mv3d shows a middle grey.
            level = 1.0 if Path(entry["path"]).suffix.lower() in (".glb", ".gltf") else 0.5
            mesh.materials.append(coloured(mesh, level))
    for material in bpy.data.materials:
        if material.use_nodes:
            without_light(material.node_tree)
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples = "CPU", job["samples"]
    scene.cycles.use_denoising = scene.cycles.use_adaptive_sampling = False
    scene.cycles.pixel_filter_type, scene.cycles.transparent_max_bounces = "BOX", 64
    scene.render.threads_mode, scene.render.threads = "FIXED", job["threads"]
    scene.render.resolution_x = scene.render.resolution_y = job["size"]
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    data = bpy.data.cameras.new("camera")
    camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    data.sensor_fit, data.sensor_width = "HORIZONTAL", SENSOR_MM
    data.lens = entry["focal"] * SENSOR_MM / job["size"]
    data.clip_start, data.clip_end = entry["near"], entry["far"]
    for number, pose in enumerate(entry["c2w"]):
        camera.matrix_world = mathutils.Matrix(pose)
        scene.render.filepath = f"{out}_{number}.png"
        bpy.ops.render.render(write_still=True)


def read(path: str) -> None:
    kind = Path(path).suffix.lower()
    if kind in (".glb", ".gltf"):
        bpy.ops.import_scene.gltf(filepath=path)
    elif kind == ".obj":
        bpy.ops.wm.obj_import(filepath=path)
    elif kind == ".ply":
        bpy.ops.wm.ply_import(filepath=path)
    else:
        bpy.ops.wm.stl_import(filepath=path)


def coloured(mesh: Any, level: float) -> Any:
    """A material of the mesh's colours, or of one grey where the file says nothing."""
    material = bpy.data.materials.new("unstated")
    material.use_nodes = True
    tree = material.node_tree
    shader = tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (level, level, level, 1)
    if mesh.color_attributes:
        node = tree.nodes.new("ShaderNodeVertexColor")
        node.layer_name = mesh.color_attributes[0].name
        tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    return material


def without_light(tree: Any) -> None:
    """Every Principled shader becomes the emission of its base colour plus its own, seen through by its alpha."""
    for shader in [node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"]:
        base, glow = (tree.nodes.new("ShaderNodeEmission") for _ in range(2))
        both, clear, mix = (
            tree.nodes.new(f"ShaderNode{kind}") for kind in ("AddShader", "BsdfTransparent", "MixShader")
        )
        put(tree, shader.inputs["Base Color"], base.inputs["Color"])
        put(tree, shader.inputs["Emission Color"], glow.inputs["Color"])
        put(tree, shader.inputs["Emission Strength"], glow.inputs["Strength"])
        put(tree, shader.inputs["Alpha"], mix.inputs[0])
        tree.links.new(base.outputs[0], both.inputs[0])
        tree.links.new(glow.outputs[0], both.inputs[1])
        tree.links.new(clear.outputs[0], mix.inputs[1])
        tree.links.new(both.outputs[0], mix.inputs[2])
        for link in list(shader.outputs[0].links):
            tree.links.new(mix.outputs[0], link.to_socket)


def put(tree: Any, source: Any, target: Any) -> None:
    """What feeds one input feeds the other, too."""
    if source.links:
        tree.links.new(source.links[0].from_socket, target)
    else:
        target.default_value = source.default_value


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[sys.argv.index("--") + 1]).read_text(encoding="utf-8")))
