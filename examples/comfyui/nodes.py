"""The nodes, in ComfyUI's V1 schema. Its own modules are imported when a node runs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from .client import App

PHOTO, VIEWS, MESH = "MV3D_PHOTO", "MV3D_VIEWS", "MV3D_MESH"
QUALITIES = ["draft", "standard", "high"]
FORMATS = ["glb", "obj", "ply", "stl", "3mf", "usdz", "ply-points", "splat", "ply-splat", "spz"]
_OF_VIEWS = re.compile(r"transforms\.json|prior\.glb|run\.json|images/[\w.-]+\.png")
_OF_MESH = re.compile(r"(mesh|points|splats)[\w.-]*")
_SETTINGS = ("STRING", {"default": "{}", "multiline": True, "tooltip": "More settings of the API, as JSON"})
_SEED = ("INT", {"default": 0, "min": 0, "max": 2**31 - 1})


class LoadPhoto:
    """A photo of one object, as the file is: with its transparency, colour profile and orientation."""

    CATEGORY, FUNCTION = "mv3d", "load"
    RETURN_TYPES, RETURN_NAMES = (PHOTO,), ("photo",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        import folder_paths

        folder = folder_paths.get_input_directory()
        files = [name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name))]
        names = sorted(folder_paths.filter_files_content_types(files, ["image"]))
        return {"required": {"image": (names, {"image_upload": True})}}

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        return hashlib.sha256(_content_of(image)).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        import folder_paths

        return folder_paths.exists_annotated_filepath(image) or f"expected an image file, got {image}"

    def load(self, image: str) -> tuple[Any, ...]:
        return ((os.path.basename(image), _content_of(image)),)


class PhotoOfImage:
    """A photo made of an image of other nodes; the mask, as Load Image gives it, is what is transparent."""

    CATEGORY, FUNCTION = "mv3d", "convert"
    RETURN_TYPES, RETURN_NAMES = (PHOTO,), ("photo",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}, "optional": {"mask": ("MASK",)}}

    def convert(self, image: Any, mask: Any = None) -> tuple[Any, ...]:
        picture = Image.fromarray(_bytes(image[0].cpu().numpy()))
        if mask is not None:
            alpha = 1 - mask.reshape(-1, *mask.shape[-2:])[0].cpu().numpy()
            if alpha.shape == (picture.height, picture.width):
                picture.putalpha(Image.fromarray(_bytes(alpha)))
            elif not np.all(alpha == 1):  # Load Image gives 64x64 zeros for a picture without alpha
                raise ValueError(
                    f"mask: expected {picture.width}x{picture.height}, got {alpha.shape[1]}x{alpha.shape[0]}"
                )
        file = io.BytesIO()
        picture.save(file, format="PNG")
        return (("image.png", file.getvalue()),)


class Views:
    """Posed views of the object all around: for Mesh, and as a batch of images on white with masks of their background."""

    CATEGORY, FUNCTION = "mv3d", "generate"
    RETURN_TYPES, RETURN_NAMES = (VIEWS, "IMAGE", "MASK"), ("views", "images", "mask")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"photo": (PHOTO,), "seed": _SEED},
            "optional": {
                "model": ("STRING", {"default": "", "tooltip": "One that mv3d app --model offers; its first where empty"}),
                "settings": _SETTINGS,
            },
        }  # fmt: skip

    def generate(
        self, photo: tuple[str, bytes], seed: int, model: str = "", settings: str = "{}"
    ) -> tuple[Any, ...]:
        wanted = {"seed": seed, **({"model": model} if model else {}), **_given(settings), "mesh": False}
        app = App()
        job = app.finished(app.start("photo", *photo, wanted), _watch())
        files = {name: app.file(job, name) for name in job["files"] if _OF_VIEWS.fullmatch(name)}
        pictures = [content for name, content in sorted(files.items()) if name.startswith("images/")]
        return (_zipped(files), *_tensors(pictures))


class Mesh:
    """A textured mesh, or splats, of the views."""

    CATEGORY, FUNCTION = "mv3d", "reconstruct"
    RETURN_TYPES, RETURN_NAMES = (MESH,), ("mesh",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "views": (VIEWS,),
                "quality": (QUALITIES, {"default": "standard"}),
                "format": (FORMATS, {"default": "glb"}),
            },
            "optional": {"seed": _SEED, "settings": _SETTINGS},
        }

    def reconstruct(
        self, views: bytes, quality: str, format: str, seed: int = 0, settings: str = "{}"
    ) -> tuple[Any, ...]:
        wanted = {"quality": quality, "formats": [format], "seed": seed, **_given(settings)}
        app = App()
        job = app.finished(app.start("views", "views.zip", views, wanted), _watch())
        return ({name: app.file(job, name) for name in job["files"] if _OF_MESH.fullmatch(name)},)


class Save:
    """Writes the mesh below the output folder: one file, or a folder where there are several (an obj with its texture).

    model_file: relative to that folder, for Preview 3D.
    """

    CATEGORY, FUNCTION, OUTPUT_NODE = "mv3d", "save", True
    RETURN_TYPES, RETURN_NAMES = ("STRING",), ("model_file",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"mesh": (MESH,), "filename_prefix": ("STRING", {"default": "3d/mv3d"})}}

    def save(self, mesh: dict[str, bytes], filename_prefix: str) -> dict[str, Any]:
        import folder_paths

        output = folder_paths.get_output_directory()
        folder, name, number, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, output)
        stem = f"{name}_{number:05}_"
        if len(mesh) > 1:
            subfolder, folder = os.path.join(subfolder, stem), os.path.join(folder, stem)
            os.mkdir(folder)
        saved = []
        for own, content in mesh.items():
            file = own if len(mesh) > 1 else stem + os.path.splitext(own)[1]
            with open(os.path.join(folder, file), "xb") as out:
                out.write(content)
            saved.append({"filename": file, "subfolder": subfolder, "type": "output"})
        first = next((each for each in saved if each["filename"].endswith(".obj")), saved[0])
        path = "/".join(filter(None, (subfolder.replace(os.sep, "/"), first["filename"])))
        return {"ui": {"3d": saved}, "result": (path,)}


def _content_of(image: str) -> bytes:
    import folder_paths

    with open(folder_paths.get_annotated_filepath(image), "rb") as file:
        return file.read()


def _given(settings: str) -> dict[str, Any]:
    try:
        found = json.loads(settings or "{}")
    except ValueError as error:
        raise ValueError(f"settings: expected a JSON object, got {settings[:40]!r}") from error
    if not isinstance(found, dict):
        raise ValueError(f"settings: expected a JSON object, got {settings[:40]!r}")
    return found


def _zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # pictures are compressed already
        for name, content in sorted(files.items()):
            archive.writestr(name, content)
    return packed.getvalue()


def _tensors(pictures: list[bytes]) -> tuple[Any, Any]:
    """IMAGE (n, h, w, 3) on white, MASK (n, h, w), 1 where there is no object."""
    rgba = np.stack([np.asarray(Image.open(io.BytesIO(each)).convert("RGBA")) for each in pictures])
    values = torch.from_numpy(rgba.astype(np.float32) / 255)
    color, alpha = values[..., :3], values[..., 3:]
    return color * alpha + (1 - alpha), 1 - alpha[..., 0]


def _bytes(values: Any) -> Any:
    return (values.clip(0, 1) * 255 + 0.5).astype("uint8")


def _watch() -> Callable[[dict[str, Any]], None]:
    """Shows a job's progress in ComfyUI, and raises where its user has stopped it, which cancels the job."""
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar

    bar = ProgressBar(100)

    def look(job: dict[str, Any]) -> None:
        throw_exception_if_processing_interrupted()
        bar.update_absolute(round(100 * job["progress"]))

    return look


NODE_CLASS_MAPPINGS = {
    "Mv3dLoadPhoto": LoadPhoto,
    "Mv3dPhotoOfImage": PhotoOfImage,
    "Mv3dViews": Views,
    "Mv3dMesh": Mesh,
    "Mv3dSave": Save,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "Mv3dLoadPhoto": "Load photo (mv3d)",
    "Mv3dPhotoOfImage": "Photo of image (mv3d)",
    "Mv3dViews": "Views (mv3d)",
    "Mv3dMesh": "Mesh (mv3d)",
    "Mv3dSave": "Save mesh (mv3d)",
}
