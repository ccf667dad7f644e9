"""The quality gate: every reason by a small model or frame made for it, and what has to pass beside it."""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.places import SHARED
from helpers.shapes import sphere, textured_quad

from mv3d.core.errors import InputError, UsageError
from mv3d.core.files import sha256
from mv3d.orbits.catalogue import read_list
from mv3d.orbits.decontamination import (
    EvaluationEntry,
    EvaluationList,
    evaluation_entries,
    read_evaluation_list,
    write_evaluation_list,
)
from mv3d.orbits.duplicates import DuplicateIndex, fingerprint, same_shape, shape_signature
from mv3d.orbits.gate import (
    ANYTHING,
    REASONS,
    UNFIT,
    GateConfig,
    Rejected,
    check_file,
    check_frames,
    check_model,
    count_reasons,
)
from mv3d.orbits.parts import face_parts, part_boxes, touching_groups
from mv3d.orbits.pictures import missing_pictures
from mv3d.render.load_warnings import LOAD_WARNINGS, LoadWarning, LoadWarningName
from mv3d.render.loading import load_model
from mv3d.render.model import Material, Model

RED = Material(base_color=(0.8, 0.05, 0.05, 1.0), metallic=0.0)
GREY = Material(base_color=(0.5, 0.5, 0.5, 1.0), metallic=0.0)
BLUE = Material(base_color=(0.1, 0.1, 0.8, 1.0), metallic=0.0)


def model(*solids: trimesh.Trimesh, materials: tuple[Material, ...] = (RED,), **fields) -> Model:
    """The solids as one model, their materials in turn."""
    joined = trimesh.util.concatenate(list(solids))
    numbers = np.concatenate(
        [np.full(len(solid.faces), k % len(materials)) for k, solid in enumerate(solids)]
    )
    return Model(joined.vertices, joined.faces, face_material=numbers, materials=materials, **fields)


def box(
    x: float = 0, y: float = 0, z: float = 0, size: tuple[float, float, float] = (1, 1, 1)
) -> trimesh.Trimesh:
    return trimesh.creation.box(size, trimesh.transformations.translation_matrix([x, y, z]))


def tilt(solid: trimesh.Trimesh) -> trimesh.Trimesh:
    return solid.copy().apply_transform(trimesh.transformations.euler_matrix(0.4, 0.3, 0.2))


def rejected(found: Model, config: GateConfig = GateConfig()) -> Rejected:  # noqa: B008
    with pytest.raises(Rejected) as caught:
        check_model(found, config)
    assert caught.value.reason in REASONS and caught.value.detail
    return caught.value


def textured(texture: np.ndarray, **fields) -> Model:
    quad = textured_quad()
    material = Material(base_color_texture=texture, metallic=0.0)
    return Model(
        quad.vertices + np.array([[0.1, 0, 0], [0, 0, 0], [0.1, 0, 0], [0, 0, 0]]),
        quad.faces,
        uv=quad.uv,
        materials=(replace(material, **fields),),
    )


def picture(low: int, high: int) -> np.ndarray:
    ramp = np.linspace(low, high, 64).astype(np.uint8).reshape(8, 8)
    return np.dstack([ramp, ramp, ramp, np.full_like(ramp, 255)])


# Geometry


def test_nothing_to_see():
    assert rejected(Model(np.zeros((3, 3)), np.zeros((0, 3)))).reason == "no_faces"
    assert rejected(Model(np.ones((3, 3)), [[0, 1, 2]])).reason == "zero_size"
    line = np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]])
    assert rejected(Model(line, [[0, 1, 2]])).reason == "zero_size"


def test_stray_vertices_that_no_face_uses_do_not_count():
    cube = box()
    far = np.concatenate([cube.vertices, [[1e6, 0, 0]]])
    check_model(Model(far, cube.faces, materials=(RED,)))
    spread = Model(np.eye(3) * 100, [[0, 0, 0]], materials=(RED,))
    assert rejected(spread).reason == "zero_size"


def test_too_many_faces():
    error = rejected(model(box()), GateConfig(max_faces=11))
    assert error.reason == "too_many_faces" and "at most 11 faces, got 12" in error.detail
    check_model(model(box()), GateConfig(max_faces=12))


@pytest.mark.parametrize("turn", [lambda solid: solid, tilt])
def test_lines_and_sheets(turn):
    assert "a line" in str(rejected(model(turn(box(size=(1, 0.005, 0.005))))))
    assert "a sheet" in str(rejected(model(turn(box(size=(1, 1, 0.0001))))))
    assert rejected(model(turn(box(size=(1, 1, 0.0001))))).reason == "too_thin"
    check_model(model(turn(box(size=(1, 0.03, 0.03)))))  # a pencil
    check_model(model(turn(box(size=(1, 1, 0.005)))))  # a tile


# Colours


def test_one_grey_all_over_is_no_texture():
    for material in (Material(), GREY, Material(base_color=(0.2, 0.2, 0.2, 1.0))):
        assert rejected(model(box(), materials=(material,))).reason == "no_texture"
    assert (
        rejected(model(box(), box(0.5), materials=(GREY, replace(GREY, name="again")))).reason == "no_texture"
    )
    assert rejected(textured(picture(128, 128))).reason == "no_texture"  # a picture of one grey
    grey = np.full((16, 4), 0.5)
    assert rejected(model(box(), box(), materials=(Material(),), colors=grey)).reason == "no_texture"
    check_model(model(box(), materials=(GREY,)), GateConfig(textures="any"))


def test_what_counts_as_colour():
    check_model(model(box()))  # one colour that somebody chose
    check_model(model(box(), box(0.5), materials=(GREY, replace(GREY, base_color=(0.9, 0.9, 0.9, 1)))))
    check_model(model(box(), box(0.5), materials=(RED, BLUE)))
    check_model(textured(picture(0, 255)))
    check_model(textured(picture(128, 128), base_color=(1.0, 0.2, 0.2, 1.0)))  # grey picture, red factor
    check_model(model(box(), materials=(replace(GREY, emissive=(1.0, 0.1, 0.0)),)))
    rainbow = np.random.default_rng(0).random((8, 4))
    check_model(model(box(), materials=(Material(),), colors=rainbow))
    check_model(model(box(), materials=(Material(),), colors=np.tile([1, 0.1, 0.1, 1], (8, 1))))


def test_materials_that_no_face_uses_do_not_count():
    cube = box()
    assert rejected(Model(cube.vertices, cube.faces, materials=(GREY, RED))).reason == "no_texture"


def test_textures_can_be_asked_for():
    strict = GateConfig(textures="textured")
    assert rejected(model(box(), box(0.5), materials=(RED, BLUE)), strict).reason == "no_texture"
    assert rejected(textured(picture(128, 129)), strict).reason == "no_texture"
    check_model(textured(picture(0, 255)), strict)


# Pictures that are not there


def gltf(
    tmp_path: Path, images: list, textures: list, slot: str = "baseColorTexture", *, glb: bool = False
) -> Path:
    material = {"name": "wood", "pbrMetallicRoughness": {slot: {"index": 0}}}
    if slot == "emissiveTexture":
        material = {"name": "wood", slot: {"index": 0}}
    document = {
        "asset": {"version": "2.0"},
        "materials": [material, {"emissiveTexture": {"index": 99}}],  # the second is not used
        "meshes": [{"primitives": [{"material": 0}, {}]}],
        "textures": textures,
        "images": images,
        "bufferViews": [{"byteLength": 4}, {"byteLength": 0}],
    }
    text = json.dumps(document).encode()
    path = tmp_path / ("a.glb" if glb else "a.gltf")
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") if glb else b""
    path.write_bytes(head + text)
    return path


@pytest.mark.parametrize("glb", [False, True])
@pytest.mark.parametrize("slot", ["baseColorTexture", "emissiveTexture"])
@pytest.mark.parametrize(
    ("images", "textures", "missing"),
    [
        ([{"uri": "here%20it%20is.png"}], [{"source": 0}], ""),
        ([{"uri": "gone.png"}], [{"source": 0}], "wood: gone.png is not there"),
        ([{"bufferView": 0}], [{"source": 0}], ""),
        ([{"bufferView": 1}], [{"source": 0}], "picture 0 is not there"),
        ([{"bufferView": 7}], [{"source": 0}], "picture 0 is not there"),
        ([{"uri": "data:image/png;base64,AAAA"}], [{"source": 0}], ""),
        ([{"uri": "data:image/png;base64,"}], [{"source": 0}], "picture 0 is not there"),
        ([], [{"source": 3}], "picture 3 is not there"),
        ([], [{}], "texture 0 has no picture"),
        ([], [], "texture 0 does not exist"),
        ([{"bufferView": 0}], [{"extensions": {"EXT_texture_webp": {"source": 0}}}], ""),
        ([{"bufferView": 0}], [{"source": 5, "extensions": {"KHR_texture_basisu": {"source": 0}}}], ""),
    ],
)
def test_missing_pictures_of_gltf(tmp_path, glb, slot, images, textures, missing):
    (tmp_path / "here it is.png").write_bytes(b"png")
    found = missing_pictures(gltf(tmp_path, images, textures, slot, glb=glb))
    assert bool(found) == bool(missing) and missing in "".join(found)


def test_missing_pictures_leave_broken_files_to_the_loader(tmp_path):
    for name, data in (
        ("a.glb", b"glTF"),
        ("b.glb", b""),
        ("c.gltf", b"{}"),
        ("d.gltf", b"["),
        ("e.stl", b""),
    ):
        (tmp_path / name).write_bytes(data)
        assert missing_pictures(tmp_path / name) == []
    assert missing_pictures(tmp_path / "absent.glb") == []


def test_a_missing_picture_is_a_reason(tmp_path):
    path = gltf(tmp_path, [{"uri": "gone.png"}], [{"source": 0}])
    with pytest.raises(Rejected, match=r"missing_texture: wood: gone\.png"):
        check_file(path)
    check_file(path, GateConfig(textures="any"))
    (tmp_path / "gone.png").write_bytes(b"png")
    check_file(path)


def test_what_could_not_be_read_is_a_reason():
    def warned(*names: LoadWarningName) -> Model:
        warnings = tuple(LoadWarning(name, f"about {name}") for name in names)
        return replace(model(box(), materials=(RED,)), warnings=warnings)

    assert set(UNFIT) < set(LOAD_WARNINGS) and set(UNFIT.values()) < set(REASONS)
    for name in LOAD_WARNINGS:
        if name not in UNFIT:
            check_model(warned(name))
            continue
        found = rejected(warned("found_elsewhere", name))
        assert (found.reason, found.detail) == (UNFIT[name], f"about {name}")
        check_model(warned(name), GateConfig(allow_incomplete=True))
    check_model(warned(*UNFIT), ANYTHING)
    # A shape without its material library is grey, which may be all that is wanted; one without its picture is wrong.
    check_model(warned("missing_material"), GateConfig(textures="any"))
    assert rejected(warned("missing_texture"), GateConfig(textures="any")).reason == "missing_texture"
    assert rejected(warned("missing_texture", "unusable_texture")).detail == (
        "about missing_texture; about unusable_texture"
    )


# Scenes


def test_things_on_a_common_ground_are_a_scene():
    ground = box(0, 0, 0, (10, 10, 0.1))
    things = [box(x, y, 0.55) for x in (-3, 0, 3) for y in (-3, 3)]
    error = rejected(model(ground, *things))
    assert error.reason == "scene" and "6 groups of parts on a common ground" in error.detail
    check_model(model(ground, *things), GateConfig(allow_scenes=True))


def test_a_bookcase_and_a_plate_with_screws_are_objects():
    sides = [box(0, 1.5, 3, (10, 0.1, 6)), box(-5, 0, 3, (0.1, 3, 6)), box(5, 0, 3, (0.1, 3, 6))]
    shelves = [box(0, 0, z, (9.85, 2.9, 0.1)) for z in (0, 1, 2, 3, 4, 5, 5.9)]
    check_model(model(*sides, *shelves))
    screws = [box(x, y, 0.15, (0.5, 0.5, 0.2)) for x in (-4, 0, 4) for y in (-4, 4)]
    check_model(model(box(0, 0, 0, (10, 10, 0.1)), *screws))


def test_scattered_things_are_a_scene():
    things = [box(3 * x, 3 * y) for x in range(3) for y in range(3)]
    assert "9 groups of parts apart" in str(rejected(model(*things)))


def test_objects_of_many_parts_pass():
    statue = [box(0, 0, 0, (2, 2, 0.05)), box(0, 0, 1, (0.6, 0.6, 1.9))]
    check_model(model(*statue))  # on a plate
    table = [
        box(0, 0, 1, (2, 2, 0.1)),
        *(box(x, y, 0.45, (0.1, 0.1, 1)) for x in (-0.9, 0.9) for y in (-0.9, 0.9)),
    ]
    check_model(model(*table))
    crumbs = [box(3 + 0.3 * k, 3, 0, (0.01, 0.01, 0.01)) for k in range(20)]
    check_model(model(box(0, 0, 0, (3, 3, 3)), *crumbs))  # one thing dominates
    check_model(model(box(), box(3), box(6)))  # a pair of shoes and a box, perhaps
    check_model(model(*(box(0, 0, 1.005 * k) for k in range(9))))  # parts that nearly touch


def test_a_hundred_thousand_tiny_parts_are_judged_in_time():
    rng = np.random.default_rng(0)
    centers = rng.random((100_000, 1, 3))
    triangles = centers + rng.normal(0, 1e-4, (100_000, 3, 3))
    dust = Model(triangles.reshape(-1, 3), np.arange(300_000).reshape(-1, 3), materials=(RED,))
    assert rejected(dust).reason == "scene"


def test_parts_are_found_across_seams_and_not_across_gaps():
    seam = trimesh.Trimesh(box().triangles.reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False)
    joined = trimesh.util.concatenate([seam, box(5, size=(2, 2, 2))])
    part = face_parts(joined.vertices.astype(np.float32), joined.faces, 6.5)
    assert part.max() == 1 and len(set(part[:12])) == 1 and part[0] != part[12]
    boxes, areas = part_boxes(joined.vertices, joined.faces, 6.5)
    assert np.allclose(areas, [24, 6]) and np.allclose(boxes[0], [[4, -1, -1], [6, 1, 1]])
    assert np.allclose(sorted(touching_groups(boxes, areas, 1.0)), [0.2, 0.8])
    assert np.allclose(touching_groups(boxes, areas, 4.0), [1.0])


# Frames


def frames(count: int = 6, size: int = 48, *, dtype: type = np.float32) -> np.ndarray:
    """A shaded ball in the middle of every frame."""
    y, x = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    inside = x**2 + y**2 < 0.5
    shade = np.clip(0.5 - 0.5 * x, 0, 1) * inside
    frame = np.dstack([shade, 0.5 * shade, 0.2 * shade, inside]).astype(np.float32)
    stack = np.repeat(frame[None], count, 0)
    return (255 * stack + 0.5).astype(np.uint8) if dtype == np.uint8 else stack


def bad_frames(stack: np.ndarray, config: GateConfig = GateConfig()) -> Rejected:  # noqa: B008
    with pytest.raises(Rejected) as caught:
        check_frames(stack, config)
    assert caught.value.reason in REASONS
    return caught.value


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
class TestFrames:
    def top(self, dtype: type) -> int:
        return 255 if dtype == np.uint8 else 1

    def test_good(self, dtype):
        check_frames(frames(dtype=dtype))
        check_frames(list(frames(dtype=dtype)))

    def test_blank(self, dtype):
        stack = frames(dtype=dtype)
        stack[2] = 0
        error = bad_frames(stack)
        assert error.reason == "blank" and "1 of 6 views" in error.detail
        check_frames(stack, GateConfig(max_blank_views=0.2))
        stack[:] = 0
        assert bad_frames(stack).reason == "blank"

    def test_too_small(self, dtype):
        stack = frames(dtype=dtype)
        stack[..., :22, :, 3] = stack[..., 26:, :, 3] = stack[..., :22, 3] = stack[..., 24:, 3] = 0
        assert bad_frames(stack).reason == "too_small"

    def test_cropped(self, dtype):
        for edge in (np.s_[3, 0, 5, 3], np.s_[3, -1, 5, 3], np.s_[3, 5, 0, 3], np.s_[3, 5, -1, 3]):
            stack = frames(dtype=dtype)
            stack[edge] = self.top(dtype)
            error = bad_frames(stack)
            assert error.reason == "cropped" and "1 of 6 views" in error.detail

    def test_over_exposed(self, dtype):
        stack = frames(dtype=dtype)
        stack[..., :24, :, :3] = self.top(dtype)
        error = bad_frames(stack)
        assert error.reason == "over_exposed" and "49% of the object" in error.detail
        check_frames(stack, GateConfig(max_clipped=0.6))

    def test_white_with_shading_is_no_over_exposure(self, dtype):
        stack = frames(dtype=dtype)
        stack[..., :3] = (stack[..., :3] * 0.2 + 0.78 * self.top(dtype)).astype(stack.dtype)
        check_frames(stack)

    def test_flat(self, dtype):
        stack = frames(dtype=dtype)
        stack[..., :3] = np.array([0.3, 0.6, 0.3]) * self.top(dtype)
        assert bad_frames(stack).reason == "flat"

    def test_too_dark(self, dtype):
        stack = frames(dtype=dtype)
        stack[..., :3] = (stack[..., :3] * 0.015).astype(stack.dtype)
        assert bad_frames(stack).reason == "too_dark"


def test_hidden_colour_does_not_count():
    stack = frames()
    stack[..., :3] += (1 - stack[..., 3:]) * np.random.default_rng(0).random(stack[..., :3].shape)
    stack[..., :3][stack[..., 3] > 0] = 0.5
    assert bad_frames(stack).reason == "flat"


def test_frames_of_the_wrong_shape():
    with pytest.raises(InputError, match="at least one"):
        check_frames(np.zeros((0, 4, 4, 4)))
    with pytest.raises(InputError, match=r"\(h, w, 4\)"):
        check_frames(np.zeros((2, 4, 4, 3)))


def test_settings_out_of_range():
    with pytest.raises(UsageError):
        GateConfig(max_faces=0)
    with pytest.raises(UsageError):
        GateConfig(textures="some")


def test_a_rejection_survives_the_way_from_a_child_process():
    back = pickle.loads(pickle.dumps(Rejected("scene", "a street")))
    assert (back.reason, back.detail, str(back)) == ("scene", "a street", "scene: a street")


def test_reasons_are_counted():
    assert count_reasons(["flat", "scene", "flat"]) == {"flat": 2, "scene": 1}
    assert list(count_reasons(["b", "a"])) == ["a", "b"]


@pytest.mark.skipif(not (SHARED / "assets" / "eval").is_dir(), reason="no shared assets")
def test_scanned_objects_pass():
    for item in read_list(SHARED / "assets" / "eval")[:8]:
        check_file(item.path)
        check_model(load_model(item.path))


# Duplicates and the evaluation guard


def turned(found: Model, *, flip: bool = False) -> Model:
    """The same object turned, scaled, moved, mirrored, and its vertices and faces in another order."""
    rng = np.random.default_rng(1)
    matrix = trimesh.transformations.euler_matrix(0.3, 1.1, -0.7)[:3, :3] * 3.7
    if flip:
        matrix = matrix @ np.diag([1, 1, -1])
    order = rng.permutation(len(found.vertices))
    where = np.argsort(order)
    faces = np.roll(where[found.faces], 1, axis=1)[rng.permutation(len(found.faces))]
    return Model(found.vertices[order] @ matrix.T + [5, -2, 9], faces, materials=found.materials)


def statue() -> Model:
    return model(box(), box(0.9, 0.2, 0.8, (0.5, 0.3, 1.2)), trimesh.creation.icosphere(2, 0.7))


def test_signature_of_a_sphere_has_a_closed_form():
    ball = sphere(0.4)
    signature = shape_signature(Model(ball.vertices, ball.faces))
    exact = [np.sqrt(4 * np.pi), np.cbrt(4 * np.pi / 3), 1 / 3, 1 / 3, *[1.0] * 10]
    assert np.allclose(signature, exact, atol=2e-3)


def test_signature_does_not_see_place_size_turn_or_order():
    signature = shape_signature(statue())
    assert np.abs(shape_signature(turned(statue())) - signature).max() < 1e-5
    assert np.abs(shape_signature(turned(statue(), flip=True)) - signature).max() < 1e-5
    other = model(box(), box(0.9, 0.2, 0.8, (0.5, 0.3, 1.25)), trimesh.creation.icosphere(2, 0.7))
    assert not same_shape(shape_signature(other), signature)
    assert (shape_signature(Model(np.zeros((3, 3)), [[0, 1, 2]])) == 0).all()


def test_the_moments_match_many_points_on_the_surface():
    found = statue()
    mesh = trimesh.Trimesh(found.vertices, found.faces, process=False)
    points = trimesh.sample.sample_surface(mesh, 200_000, seed=0)[0]
    points -= points.mean(0)
    radius = np.sqrt((points**2).sum(1).mean())
    shares = np.linalg.eigvalsh(points.T @ points / len(points))[:2] / radius**2
    signature = shape_signature(found)
    assert np.allclose(signature[2:4], shares, atol=3e-3)
    assert np.isclose(signature[0], np.sqrt(mesh.area) / radius, atol=5e-3)


def test_the_first_of_the_list_stays():
    first, red = fingerprint(statue()), fingerprint(replace(statue(), materials=(BLUE,)))
    index = DuplicateIndex()
    assert index.add("a", first) is None and index.add("a", first) is None
    assert index.add("b", first) == "a" and index.add("c", red) is None and index.add("d", red) == "c"
    shapes = DuplicateIndex("reject")
    assert shapes.add("a", first) is None and shapes.add("c", red) == "a"
    with pytest.raises(UsageError):
        DuplicateIndex("some")


@pytest.fixture
def kept(tmp_path) -> Path:
    """A folder with two objects that are kept for evaluation."""
    folder = tmp_path / "eval"
    folder.mkdir()
    trimesh.Trimesh(statue().vertices, statue().faces).export(folder / "statue.glb")
    trimesh.creation.capsule().export(folder / "pill.ply")
    return folder


@pytest.mark.parametrize("name", ["eval.json", "eval.csv"])
def test_the_guard_finds_the_file_and_every_copy(kept, tmp_path, name):
    write_evaluation_list(tmp_path / name, evaluation_entries(kept))
    guard = read_evaluation_list(tmp_path / name)
    with pytest.raises(Rejected, match="evaluation: the file of statue"):
        guard.check_file(sha256(kept / "statue.glb"))
    original = load_model(kept / "statue.glb")
    mesh = trimesh.Trimesh(original.vertices, original.faces, process=False)
    for copy in ("copy.ply", "copy.stl", "copy.obj", "copy.glb"):
        mesh.export(tmp_path / copy)
        guard.check_file(sha256(tmp_path / copy))  # other bytes
        with pytest.raises(Rejected, match="statue"):
            guard.check_model(fingerprint(load_model(tmp_path / copy)))
    with pytest.raises(Rejected, match="by its signature"):
        guard.check_model(fingerprint(turned(original)))
    guard.check_file("0" * 64)
    guard.check_model(fingerprint(model(box(size=(1, 2, 3)))))


def test_a_list_of_file_hashes_alone(tmp_path):
    (tmp_path / "l.csv").write_text(f"name,sha256,geometry\nmug,{'AB' * 32},\n")
    guard = read_evaluation_list(tmp_path / "l.csv")
    with pytest.raises(Rejected, match="mug"):
        guard.check_file("ab" * 32)
    guard.check_model(fingerprint(statue()))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.json", "{", "cannot be read"),
        ("l.json", "{}", "at least one object"),
        ("l.json", "[]", "at least one object"),
        ("l.json", '{"version": 9, "objects": [1]}', "version 1"),
        ("l.json", '[{"name": "x"}]', "expected a sha256"),
        ("l.json", '[{"sha256": "zz"}]', "hexadecimal"),
        ("l.json", '[{"signature": [1, 2]}]', "14 finite numbers"),
        ("l.json", f'[{{"signature": {[float("nan")] * 14}}}]'.replace("nan", "NaN"), "14 finite numbers"),
        ("l.json", "[3]", "l.json"),
        ("l.json", f'[{{"signature": [1{"0" * 400}]}}]', "l.json"),
        ("l.json", f'[{{"name": "{"x" * 9000}"}}]', "l.json: object .{1,200}$"),
        ("l.csv", "name,sha256\n", "at least one object"),
        ("l.csv", "name,sha256\nx,\n", "expected a sha256"),
    ],
)
def test_a_guard_that_guards_nothing_is_an_error(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_evaluation_list(tmp_path / name)


def test_bad_places(tmp_path, kept):
    with pytest.raises(InputError, match="check the path"):
        read_evaluation_list(tmp_path / "absent.json")
    with pytest.raises(UsageError):
        write_evaluation_list(tmp_path / "l.txt", [EvaluationEntry("a", "0" * 64)])
    (kept / "broken.glb").write_bytes(b"glTF")
    with pytest.raises(InputError, match=r"broken\.glb"):
        evaluation_entries(kept)
    (tmp_path / "l.jsonl").write_text('{"uid": "a", "url": "https://example.org/a.glb"}\n')
    with pytest.raises(InputError, match="fetch it first"):
        evaluation_entries(tmp_path / "l.jsonl")
    EvaluationList([]).check_model(fingerprint(statue()))
