"""The readers, each with small valid inputs. An input is a folder; `read` looks at nothing else.

Reading goes as far as a command would: pixels are decoded, tensors loaded, samples drawn.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzz.damage import pick
from fuzz.gltf_targets import gltf_seeds, meshopt_seeds, read_gltf_look, read_meshopt


@dataclass(frozen=True)
class Target:
    """share: of the inputs, relative to the others. seeds: writes valid inputs, a folder each. read: the reader.
    mend: after the damage, puts right sums and sizes that would hide it from the deeper layers."""

    share: int
    seeds: Callable[[Path], None]
    read: Callable[[Path], Any]
    mend: Callable[[Path, np.random.Generator], None] = lambda folder, rng: None


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _named(folder: Path, stem: str, suffixes: tuple[str, ...] = ()) -> Path:
    """The one file of that name, whatever its suffix, or with one of these."""
    files = sorted(path for path in folder.glob(f"{stem}.*") if not suffixes or path.suffix in suffixes)
    return files[0] if files else folder / f"{stem}.gone"


# -- models and meshes


def _model_seeds(folder: Path) -> None:
    from helpers.gltf_files import png_bytes, textured, triangle
    from helpers.shapes import cube, textured_quad

    from mv3d.render.writers import save_mesh

    textured().write(_new(folder / "glb") / "model.glb")
    save_mesh(textured_quad(), _new(folder / "glb2") / "model.glb")
    scene = textured()
    scene.json["nodes"] = [
        {"children": [1, 2]},
        {"mesh": 0, "scale": [1, 2, 1]},
        {"mesh": 0, "translation": [1, 0, 0]},
    ]
    where = scene.accessor(np.array([[0, 0, 0], [0, 2, 0]], np.float32), "VEC3")
    scene.json["nodes"][1]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": where}}}
    scene.attribute("COLOR_0", np.full((3, 4), 200, np.uint8), "VEC4", normalized=True)
    scene.attribute("JOINTS_0", np.zeros((3, 4), np.uint8), "VEC4")
    scene.attribute("WEIGHTS_0", np.tile(np.array([1, 0, 0, 0], np.float32), (3, 1)), "VEC4")
    scene.json["skins"] = [{"joints": [1]}]
    scene.json["nodes"][2]["skin"] = 0
    scene.primitive["targets"] = [{"POSITION": scene.accessor(np.ones((3, 3), np.float32), "VEC3")}]
    scene.json["meshes"][0]["weights"] = [0.5]
    scene.json["materials"][0] |= {"emissiveFactor": [0.1, 0, 0], "alphaMode": "MASK", "doubleSided": True}
    scene.json["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["extensions"] = {
        "KHR_texture_transform": {"offset": [0.1, 0], "scale": [2, 1], "rotation": 0.5}
    }
    scene.json["samplers"] = [{"wrapS": 33071, "wrapT": 33648}]
    scene.json["textures"][0]["sampler"] = 0
    scene.write(_new(folder / "scene") / "model.glb")
    scene.write(_new(folder / "embedded") / "model.gltf")
    beside, document = _new(folder / "beside"), triangle()
    document.json["buffers"] = [{"uri": "data.bin", "byteLength": len(document.binary)}]
    document.attribute("TEXCOORD_0", np.array([[0, 1], [1, 1], [0, 0]], np.float32), "VEC2")
    document.json["buffers"][0]["byteLength"] = len(document.binary)
    document.json |= {
        "images": [{"uri": "texture.png"}],
        "textures": [{"source": 0}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    }
    document.primitive["material"] = 0
    (beside / "data.bin").write_bytes(document.binary)
    (beside / "texture.png").write_bytes(png_bytes())
    (beside / "model.gltf").write_text(json.dumps(document.json))
    for kind in ("obj", "ply", "stl"):
        save_mesh(textured_quad(), _new(folder / kind) / f"model.{kind}")
    save_mesh(cube(), _new(folder / "cube") / "model.ply")
    corners = "\n".join(
        f"facet normal 0 0 1\nouter loop\nvertex 0 0 {z}\nvertex 1 0 {z}\nvertex 0 1 {z}\nendloop\nendfacet"
        for z in (0, 1)
    )
    (_new(folder / "text_stl") / "model.stl").write_text(f"solid a\n{corners}\nendsolid a\n")
    (_new(folder / "text_ply") / "model.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nelement face 2\n"
        "property list uchar int vertex_indices\nend_header\n0 0 0 255 0 0\n1 0 0 0 255 0\n1 1 0 0 0 255\n0 1 0 9 9 9\n"
        "3 0 1 2\n3 0 2 3\n"
    )


def _read_model(folder: Path) -> Any:
    from mv3d.render.loading import MODEL_SUFFIXES, load_model

    return load_model(_named(folder, "model", MODEL_SUFFIXES))


def _read_mesh(folder: Path) -> Any:
    from mv3d.render.loading import MODEL_SUFFIXES
    from mv3d.render.mesh_io import load_mesh

    return load_mesh(_named(folder, "model", MODEL_SUFFIXES))


def _handed_over_seeds(folder: Path) -> None:
    """OBJ with everything that its reader knows, in a folder that is handed over as a whole."""
    from helpers.gltf_files import png_bytes

    places = "".join(f"v {x} {y} {x * y * 0.5} {x / 3} {y / 3} 0.5\n" for y in range(3) for x in range(3))
    obj = (
        f"# made\nmtllib C:\\work\\m.mtl other.mtl\nmtllib m.mtl\no a\n{places}vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvn 0 0 1\n"
        "usemtl skin\nf 1/1/1 2/2/1 5/3/1 4/4/1\nf -4//-1 -3//-1 -6//-1\nusemtl Glass\nf 1 2 3 6 9 5 7 4\nf 1/9 2 99\n"
    )
    mtl = (
        "# Meshlab\nnewmtl skin\nKd 1 0.5 0.25\nd 0.5\nKe 0.1 0 0\nmap_Kd -s 2 2 -o 0.5 0 -clamp on ../images/t.png\n"
        'map_d -imfchan m "t.png"\nmap_Ke t.png # glow\nmap_Bump -bm 0.5 t.png\nnewmtl\tglass\nTr 0.25\nPr 0.5\nmap_Pm t.png\n'
    )
    for name, suffix in (("plain", ""), ("polypaint", "#MRGB " + "ff804020" * 9 + "\n")):
        root = _new(folder / name)
        _new(root / "models")
        _new(root / "images")
        (root / "models" / "model.obj").write_text(obj + suffix)
        (root / "models" / "m.mtl").write_text(mtl)
        (root / "models" / "other.mtl").write_text("newmtl GLASS\nKd 0 0 1\n")
        (root / "images" / "t.png").write_bytes(png_bytes())


def _read_handed_over(folder: Path) -> Any:
    from mv3d.render.loading import load_model

    return load_model(_named(folder / "models", "model", (".obj",)), root=folder)


def _coloured_seeds(folder: Path) -> None:
    """PLY and STL with every kind of colour, texture and face."""
    from helpers.gltf_files import png_bytes

    square = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], "f4")
    head = "comment TextureFile t.png\nelement vertex 4\n" + "".join(f"property float {n}\n" for n in "xyzst")
    faces = "element face 2\nproperty list uchar int vertex_indices\nproperty list uchar float texcoord\n"
    more = (
        "property int texnumber\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    text = _new(folder / "text_ply")
    rows = "".join(f"{x:g} {y:g} {z:g} {x:g} {z:g}\n" for x, y, z in square)
    (text / "model.ply").write_text(
        f"ply\nformat ascii 1.0\n{head}{faces}{more}{rows}3 0 1 2 6 0 0 1 0 1 1 0 255 0 0\n4 0 1 2 3 0 0 0 255 0\n"
    )
    for order, name in (("<", "little"), (">", "big")):
        binary = _new(folder / f"{name}_ply")
        body = np.hstack([square, square[:, ::2]]).astype(f"{order}f4").tobytes()
        for corners in ((0, 1, 2), (0, 1, 2, 3)):
            body += bytes([len(corners)]) + np.array(corners, f"{order}i4").tobytes()
            body += bytes([2 * len(corners)]) + square[list(corners)][:, ::2].astype(f"{order}f4").tobytes()
            body += np.zeros(1, f"{order}i4").tobytes() + bytes([9, 200, 30])
        (binary / "model.ply").write_bytes(
            f"ply\nformat binary_{name}_endian 1.0\n{head}{faces}{more}".encode() + body
        )
        strips = _new(folder / f"{name}_strips")
        tail = "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
        strip = np.array([7, 0, 1, 3, 2, -1, 0, 1], f"{order}i4").tobytes()
        (strips / "model.ply").write_bytes(
            f"ply\nformat binary_{name}_endian 1.0\n{head}{tail}".encode()
            + np.hstack([square, square[:, ::2]]).astype(f"{order}f4").tobytes()
            + strip
        )
    for header, name in ((b"x", "viscam_stl"), (b"COLOR=\xff\x80\x40\xff", "magics_stl")):
        row = np.zeros(2, [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
        row["v"], row["a"] = square[[[0, 1, 2], [0, 2, 3]]], [0x801F, 0x7C00]
        (_new(folder / name) / "model.stl").write_bytes(
            header.ljust(80) + np.uint32(2).astype("<u4").tobytes() + row.tobytes()
        )
    for path in folder.iterdir():
        (path / "t.png").write_bytes(png_bytes())


def _environment_seeds(folder: Path) -> None:
    rows = np.arange(8 * 16 * 4, dtype=np.uint8).reshape(8, 16, 4)
    rows[..., 3] = 128
    head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8 +X 16\n"
    (_new(folder / "flat") / "sky.hdr").write_bytes(head + rows.tobytes())
    runs = b"".join(
        b"\x02\x02\x00\x10" + b"".join(bytes([16]) + row[:, channel].tobytes() for channel in range(4))
        for row in rows
    )
    (_new(folder / "runs") / "sky.hdr").write_bytes(head + runs)


def _read_environment(folder: Path) -> Any:
    from mv3d.render.environment import load_environment

    return load_environment(_named(folder, "sky"))


# -- pictures and views


def _ball(size: int, place: float = 0.5) -> np.ndarray:
    ys, xs = (np.mgrid[:size, :size] + 0.5) / size
    inside = np.hypot(xs - place, ys - 0.5) < 0.3
    return np.where(inside[..., None], np.stack([xs, ys, 1 - xs, np.ones_like(xs)], -1), 0) * 255


def _image_seeds(folder: Path) -> None:
    picture = Image.fromarray(_ball(48).astype(np.uint8))
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    plain = white.convert("RGB")
    tags = Image.Exif()
    tags[0x0112] = 6
    grey16 = Image.fromarray((np.asarray(plain.convert("L"), np.uint16) * 257).astype(np.uint16))
    for name, image, suffix, extra in (
        ("rgba", picture, "png", {}),
        ("palette", picture.quantize(16), "png", {}),
        ("grey16", grey16, "png", {}),
        ("grey_alpha", picture.convert("LA"), "png", {}),
        ("jpeg", plain, "jpg", {"exif": tags.tobytes()}),
        ("cmyk", plain.convert("CMYK"), "jpg", {}),
        ("webp", picture, "webp", {"lossless": True}),
        ("tiff", plain, "tif", {"compression": "tiff_lzw"}),
        ("tiff_float", plain.convert("F"), "tif", {}),
        ("bmp", plain, "bmp", {}),
    ):
        image.save(_new(folder / name) / f"photo.{suffix}", **extra)


def _read_image(folder: Path) -> Any:
    from mv3d.generation.photo import prepare_image
    from mv3d.views.images import read_rgba

    path = _named(folder, "photo")
    return read_rgba(path), prepare_image(path, width=32, matting="colour")


def _small_views() -> Any:
    from mv3d.render.cameras import Orbit, sv3d_azimuths_deg
    from mv3d.views.views import Views

    orbit = Orbit((10.0,) * 5, tuple(sv3d_azimuths_deg(5).tolist()), input_view=4)
    images = np.stack([_ball(24, 0.45 + 0.02 * n) for n in range(5)]).astype(np.float32) / 255
    return Views(images, orbit.cameras(24, 24), orbit, 4)


def _views_seeds(folder: Path) -> None:
    from mv3d.views.folder import save_views

    views = _small_views()
    save_views(views, folder / "ours")
    posed = json.loads((folder / "ours" / "transforms.json").read_text())
    others, masked = _new(folder / "synthetic"), _new(folder / "masked")
    for name in ("orbit.mp4", "contact.png", "input.png"):  # not read: damage there would be lost
        (folder / "ours" / name).unlink()
    for index, image in enumerate(views.images):
        shown = Image.fromarray((image * 255).astype(np.uint8))
        shown.save(others / f"r_{index}.png")
        shown.convert("RGB").save(masked / f"{index}.png")
        shown.getchannel("A").save(masked / f"mask{index}.png")
    poses = [frame["transform_matrix"] for frame in posed["frames"]]
    frames = [{"file_path": f"./r_{i}", "transform_matrix": pose} for i, pose in enumerate(poses)]
    (others / "transforms_train.json").write_text(json.dumps({"camera_angle_x": 0.59, "frames": frames}))
    frames = [
        {
            "file_path": f"{i}.png",
            "mask_path": f"mask{i}.png",
            "transform_matrix": pose,
            "fl_x": 40.0,
            "cx": 12.0,
        }
        for i, pose in enumerate(poses)
    ]
    lens = {
        "camera_model": "OPENCV",
        "k1": 0.0,
        "fl_x": 40,
        "fl_y": 40.0,
        "cx": 12,
        "cy": 12,
        "w": 48,
        "h": 48,
    }
    (masked / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))


def _read_views(folder: Path) -> Any:
    from mv3d.views.readers import load_views

    return load_views(folder)


def _colmap_seeds(folder: Path) -> None:
    from helpers.colmap_files import write_images, write_model

    views, points = _small_views(), np.random.default_rng(0).uniform(-0.3, 0.3, (40, 3))
    names = [f"{n}.png" for n in range(5)]
    for place, binary, model in (
        ("bin", True, "PINHOLE"),
        ("txt", False, "OPENCV"),
        ("fish", True, "OPENCV_FISHEYE"),
    ):
        write_images(folder / place / "images", views, names, on=0.3 if place == "txt" else None)
        write_model(
            folder / place / "sparse" / "0",
            views.cameras,
            names,
            points,
            binary=binary,
            model=model,
            coefficients={"k1": 0.05, "k2": -0.01, "p1": 0.001},
        )
    masks = _new(folder / "txt" / "masks")
    for name, image in zip(names, views.images, strict=True):
        Image.fromarray((image[..., 3] * 255).astype(np.uint8)).save(masks / f"{name}.png")


def _lens_seeds(folder: Path) -> None:
    from helpers.colmap_files import write_images

    views = _small_views()
    for place, model, k in (
        ("brown", "OPENCV", -0.1),
        ("fisheye", "OPENCV_FISHEYE", 0.02),
        ("full", "FULL_OPENCV", 0.1),
    ):
        write_images(folder / place, views, [f"{n}.png" for n in range(5)])
        lens = {
            "camera_model": model,
            "w": 24,
            "h": 24,
            "fl_x": 40.0,
            "cx": 12.0,
            "cy": 12.5,
            "k1": k,
            "k2": 0.01,
        }
        own = {"k3": 0.001, "k4": 0.0, "p1": 0.001, "p2": -0.001, "k5": 0.0, "k6": 0.01}
        frames = [
            {"file_path": f"{n}.png", "transform_matrix": pose.tolist(), **own}
            for n, pose in enumerate(views.cameras.c2w)
        ]
        (folder / place / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))


def _orbit_seeds(folder: Path) -> None:
    from mv3d.render.video import encode_mp4

    frames = [Image.fromarray(_ball(24, 0.45 + 0.02 * n).astype(np.uint8)) for n in range(5)]
    numbered = _new(folder / "numbered")
    for index, frame in enumerate(frames):
        frame.save(numbered / f"frame_{index}.png")
    opaque = []
    for frame in frames:
        white = Image.new("RGBA", frame.size, "white")
        white.alpha_composite(frame)
        opaque.append(white.convert("RGB"))
    for name, pictures in (("gif", opaque), ("webp", frames), ("png", frames)):
        pictures[0].save(_new(folder / name) / f"orbit.{name}", save_all=True, append_images=pictures[1:])
    encode_mp4(np.stack([np.asarray(p.resize((32, 32))) for p in opaque]), _new(folder / "mp4") / "orbit.mp4")


def _read_orbit(folder: Path) -> Any:
    from mv3d.views.readers import load_views

    videos = sorted(folder.glob("orbit.*"))
    return load_views(videos[0] if videos else folder)


def _image_set_seeds(folder: Path) -> None:
    _views_seeds(folder)
    plain = _new(folder / "plain")
    for index in range(3):
        Image.fromarray(_ball(24).astype(np.uint8)).save(plain / f"{index}.png")


def _read_image_set(folder: Path) -> Any:
    from mv3d.evaluation.image_sets import read_image_set

    return read_image_set(folder)


# -- shards


def _shard_seeds(folder: Path) -> None:
    from helpers.painted import painted

    from mv3d.orbits.catalogue import CatalogueItem
    from mv3d.orbits.config import OrbitConfig
    from mv3d.orbits.index import LATENTS, PIXELS, write_index
    from mv3d.orbits.sample import Sample
    from mv3d.orbits.shards import tar_fragment, write_shard

    config = OrbitConfig(views=4, size=16)
    long = "o" * 95  # its member names need an extended header
    pixels = [painted(CatalogueItem(uid, licence="CC0-1.0"), config) for uid in ("a", "b", long)]
    rng = np.random.default_rng(0)
    latents = []
    for uid in ("a", "b"):
        angles = {"elevations_deg": [10.0] * 4, "azimuths_deg": [90.0, 180.0, 270.0, 0.0]}
        document = {"uid": uid, "backgrounds": {"white": [255] * 3, "color": [1, 2, 3]}, **angles}
        members = [("json", json.dumps(document).encode())]
        for background in ("white", "color"):
            for name, shape in (("latents", (4, 4, 2, 2)), ("embeddings", (4, 8))):
                out = io.BytesIO()
                np.save(out, rng.normal(size=shape).astype(np.float16))
                members.append((f"{name}.{background}.npy", out.getvalue()))
        latents.append(Sample(tar_fragment(uid, members), {"uid": uid, "licence": "CC0-1.0", "faces": 1}))
    for name, kind, samples in (("pixels", PIXELS, pixels), ("latents", LATENTS, latents)):
        out = _new(folder / name)
        record = write_shard(out / "shard-000000.tar", samples, scratch=out)
        identity = {
            "kind": kind,
            "mv3d": "0",
            "config": {"views": 4},
            "objects": len(samples),
            "list_sha256": "",
        }
        write_index(out, identity, [record], finished=True, scratch=out)


def _mend_shards(folder: Path, rng: np.random.Generator) -> None:
    tar, record, index = folder / "shard-000000.tar", folder / "shard-000000.json", folder / "index.json"
    if rng.random() < 0.4:
        record.unlink(missing_ok=True)  # then the samples are found by their headers
    for path in (index, record):
        if not path.is_file() or rng.random() < 0.2:
            continue
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, RecursionError):
            document = json.loads(path.read_text())
            holder = document["shards"][0] if path == index else document
            holder["bytes"] = tar.stat().st_size
            path.write_text(json.dumps(document))


def _read_shards(folder: Path) -> Any:
    from mv3d.core.errors import InputError
    from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig
    from mv3d.orbits.info import contact_sheets, info_lines, inspect_shards

    refused, read = None, []
    for step in (
        lambda: info_lines(inspect_shards(folder, verify=True)),
        lambda: contact_sheets(folder, samples=2, frames=2),
        lambda: [OrbitSet(folder, OrbitSetConfig(frames=2)).sample(n) for n in range(4)],
    ):
        try:
            read.append(step())
        except InputError as error:  # the steps are commands of their own
            refused = error
    if refused is not None and len(read) < 2:  # shards of latents have no sheets
        raise refused
    return read


# -- weights


def _weights_seeds(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from mv3d.models.lora import Lora, save_lora

    torch.manual_seed(0)
    save_file(
        {
            "a.weight": torch.randn(3, 4),
            "a.bias": torch.randn(3).half(),
            "n": torch.arange(4),
            "b": torch.randn(2).bfloat16(),
        },
        _new(folder / "plain") / "weights.safetensors",
        metadata={"format": "pt", "mv3d_lora": "{}"},
    )
    down, up = {"x.to_q": torch.randn(2, 4)}, {"x.to_q": torch.randn(4, 2)}
    save_lora(
        _new(folder / "lora") / "weights.safetensors",
        Lora(down, up, 2.0, {"y.weight": torch.randn(2)}, {"seed": 0}),
    )


def _read_weights(folder: Path) -> Any:
    from mv3d.core.errors import InputError
    from mv3d.models.lora import read_lora
    from mv3d.models.weights import open_weights

    path = folder / "weights.safetensors"
    with open_weights(path) as weights:
        values = [(weights.shape(key), weights.dtype(key), weights.tensor(key)) for key in weights.keys]
    try:
        lora = read_lora(path)
    except InputError as error:
        if "not an adapter: unknown key" in str(error):  # the plain file is none
            return values
        raise
    return values, [lora.delta(name) for name in lora.down]


def _folder_seeds(folder: Path) -> None:
    from helpers.tiny_model import write_model

    from mv3d.models.network import SV3D_P

    write_model(folder / "tiny", SV3D_P)


def _read_folder(folder: Path) -> Any:
    from mv3d.models.describe import describe
    from mv3d.models.loading import load_model_folder

    return describe(folder), load_model_folder(folder)


def _checkpoint_seeds(folder: Path) -> None:
    import torch

    from mv3d.training.checkpoint import Checkpoint, write_checkpoint

    torch.manual_seed(0)
    for step in (1, 2):
        weights = {"a": torch.randn(3, 4)}
        state = {"state": {0: {"exp_avg": torch.randn(3, 4), "step": 2}}, "param_groups": [{"lr": 1e-3}]}
        write_checkpoint(folder / "run", Checkpoint(step, weights, dict(weights), state), keep=2)


def _mend_checkpoint(folder: Path, rng: np.random.Generator) -> None:
    from mv3d.core.files import sha256

    for record in folder.glob("*/checkpoint.json"):
        if rng.random() < 0.2:
            continue
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
            document = json.loads(record.read_text())
            for name, known in document["files"].items():
                path = record.parent / name
                known |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
            record.write_text(json.dumps(document))


def _read_checkpoint(folder: Path) -> Any:
    from mv3d.training.checkpoint import read_latest

    return read_latest(folder)


# -- lists


def _catalogue_seeds(folder: Path) -> None:
    from helpers.gltf_files import triangle

    from mv3d.orbits.catalogue import CatalogueItem, write_list

    items = [
        CatalogueItem(
            f"o{n}", Path(f"/x/o{n}.glb"), "CC-BY-4.0", "A", "s", "0" * 64, "t", "http://h/x.glb", "chair", ("a", "b"), n, 1, 0,
            100, False,
        )
        for n in range(3)
    ]  # fmt: skip
    for suffix in ("jsonl", "csv"):
        write_list(_new(folder / suffix) / f"list.{suffix}", items)
    rows = [json.loads(line) for line in (folder / "jsonl" / "list.jsonl").read_text().splitlines()]
    (_new(folder / "json") / "list.json").write_text(json.dumps(rows))
    objects = _new(folder / "folder")
    for name in ("a.glb", "b.glb"):
        triangle().write(objects / name)
    (objects / "SOURCES.csv").write_text(
        "name,file,source_repo,path,commit,licence,author,sha256,faces\n"
        f"a,a.glb,r,p/a.glb,c0,CC0-1.0,A,{'0' * 64},1\nb,b.glb,r,p/b.glb,c0,CC-BY-4.0,B,,1\n"
    )


def _read_catalogue(folder: Path) -> Any:
    from mv3d.orbits.catalogue import read_list, read_uids

    lists = sorted(folder.glob("list.*"))
    return (read_list(lists[0]), read_uids(lists[0])) if lists else read_list(folder)


def _guard_seeds(folder: Path) -> None:
    from mv3d.orbits.decontamination import EvaluationEntry, write_evaluation_list

    objects = [
        EvaluationEntry(f"o{n}", f"{n:064x}", f"{n:064x}", tuple(0.1 * n + k for k in range(14)))
        for n in range(3)
    ]
    for suffix in ("json", "csv"):
        write_evaluation_list(_new(folder / suffix) / f"guard.{suffix}", objects)


def _read_guard(folder: Path) -> Any:
    from mv3d.orbits.decontamination import read_evaluation_list

    return read_evaluation_list(_named(folder, "guard"))


def _trajectory_seeds(folder: Path) -> None:
    from mv3d.render.trajectories import dynamic_orbit

    orbit = dynamic_orbit(7, np.random.default_rng(0), elevation_deg=10.0)
    block = {
        "elevations_deg": list(orbit.elevations_deg), "azimuths_deg": list(orbit.azimuths_deg), "radius": 2.0,
        "fov_deg": 33.8, "input_view": 6,
    }  # fmt: skip
    (_new(folder / "plain") / "path.json").write_text(json.dumps(block))
    (_new(folder / "views") / "path.json").write_text(json.dumps({"frames": [], "orbit": block}))


def _path_seeds(folder: Path) -> None:
    _trajectory_seeds(folder)
    shutil.rmtree(folder / "views")  # mv3d recon reads plain files only


def _read_trajectory(folder: Path) -> Any:
    from mv3d.render.trajectories import load_orbit

    return load_orbit(folder / "path.json").cameras(32, 32)


def _read_path(folder: Path) -> Any:
    from mv3d.recon.novel import novel_orbit

    return novel_orbit(str(folder / "path.json"), _small_views())


def _clip_seeds(folder: Path) -> None:
    from helpers.training_data import save_clip

    for name in ("one", "two"):
        clips = _new(folder / name)
        save_clip(clips / "a.mp4", frames=6, size=32)
        shutil.copy(clips / "a.mp4", clips / "b.mp4")


def _read_clips(folder: Path) -> Any:
    from mv3d.training.clips import ClipSet

    clips = ClipSet(folder, frames=3, size=(24, 16), seed=0)
    return [clips.sample(n) for n in range(len(clips))]


TARGETS: dict[str, Target] = {
    "model": Target(7, _model_seeds, _read_model),
    "mesh": Target(5, _model_seeds, _read_mesh),
    "handed_over": Target(5, _handed_over_seeds, _read_handed_over),
    "coloured": Target(5, _coloured_seeds, _read_model),
    "gltf": Target(5, gltf_seeds, read_gltf_look),
    "meshopt": Target(5, meshopt_seeds, read_meshopt),
    "environment": Target(1, _environment_seeds, _read_environment),
    "image": Target(5, _image_seeds, _read_image),
    "views": Target(5, _views_seeds, _read_views),
    "colmap": Target(5, _colmap_seeds, _read_views),
    "lens": Target(3, _lens_seeds, _read_views),
    "orbit": Target(3, _orbit_seeds, _read_orbit),
    "image_set": Target(2, _image_set_seeds, _read_image_set),
    "shards": Target(6, _shard_seeds, _read_shards, _mend_shards),
    "weights": Target(4, _weights_seeds, _read_weights),
    "model_folder": Target(2, _folder_seeds, _read_folder),
    "checkpoint": Target(3, _checkpoint_seeds, _read_checkpoint, _mend_checkpoint),
    "catalogue": Target(3, _catalogue_seeds, _read_catalogue),
    "guard": Target(1, _guard_seeds, _read_guard),
    "trajectory": Target(1, _trajectory_seeds, _read_trajectory),
    "recon_trajectory": Target(1, _path_seeds, _read_path),
    "clips": Target(1, _clip_seeds, _read_clips),
}
"""Every reader by name."""


def mend(name: str, folder: Path, rng: np.random.Generator) -> None:
    """Half of the inputs stay as the damage left them."""
    if rng.random() < pick(rng, (0.5, 0.9)):
        TARGETS[name].mend(folder, rng)
