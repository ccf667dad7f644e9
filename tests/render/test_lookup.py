"""Files are found as their makers meant it, and never outside the folder that was handed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from mv3d.render.lookup import Lookup


def tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def found(root: Path, model: str, name: str, beside: str | None = None) -> tuple[str, bool] | None:
    folder = (root / model).parent
    place = Lookup(folder, root).find(name, None if beside is None else root / beside)
    return None if place is None else (place.path.relative_to(root).as_posix(), place.elsewhere)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t.png", ("m/t.png", False)),
        ("./t.png", ("m/t.png", False)),
        ("T.PNG", ("m/t.png", False)),
        ("../images/photo.jpg", ("images/photo.jpg", False)),
        ("..\\Images\\Photo.JPG", ("images/photo.jpg", False)),
        (r"C:\Users\me\models\t.png", ("m/t.png", True)),
        (r"D:/work/images/photo.jpg", ("images/photo.jpg", True)),
        (r"\\server\share\t.png", ("m/t.png", True)),
        ("file:///home/me/t.png", ("m/t.png", True)),
        ("/home/me/t.png", ("m/t.png", True)),
        ("photo.jpg", ("images/photo.jpg", True)),
        ("old/place/deep.png", ("m/sub/further/deep.png", True)),
        ("gone.png", None),
        ("", None),
        ("a\0b", None),
        ("x" * 5000, None),
        ("\ud800", None),
        ("m", None),
    ],
)
def test_names_as_they_are_written(tmp_path, name, expected):
    tree(tmp_path, "m/a.obj", "m/t.png", "images/photo.jpg", "m/sub/further/deep.png")
    assert found(tmp_path, "m/a.obj", name) == expected


def test_beside_the_file_that_names_it_comes_first(tmp_path):
    tree(tmp_path, "m/a.obj", "m/t.png", "m/mtl/t.png", "m/only.png")
    assert found(tmp_path, "m/a.obj", "t.png", "m/mtl") == ("m/mtl/t.png", False)
    assert found(tmp_path, "m/a.obj", "only.png", "m/mtl") == ("m/only.png", False)


def test_layouts_of_public_sets(tmp_path):
    tree(tmp_path, "gso/mug/meshes/model.obj", "gso/mug/materials/textures/texture.png")
    tree(tmp_path, "gso/cup/meshes/model.obj", "gso/cup/materials/textures/texture.png")
    tree(tmp_path, "gso/can/meshes/model.obj")  # its own is lost: never another object's
    tree(tmp_path, "sketch/source/a.obj", "sketch/textures/wood.png")
    assert found(tmp_path, "gso/mug/meshes/model.obj", "texture.png") == (
        "gso/mug/materials/textures/texture.png",
        True,
    )
    assert found(tmp_path, "gso/can/meshes/model.obj", "texture.png") is None
    assert found(tmp_path, "sketch/source/a.obj", "wood.png") == ("sketch/textures/wood.png", True)


def test_two_of_a_name_are_none(tmp_path):
    tree(tmp_path, "m/a.obj", "m/one/t.png", "m/two/t.png")
    assert found(tmp_path, "m/a.obj", "t.png") is None


def test_a_folder_with_another_model_is_not_searched(tmp_path):
    tree(tmp_path, "one/a.obj", "two/b.obj", "two/deep/t.png")
    assert found(tmp_path, "one/a.obj", "t.png") is None
    tree(tmp_path, "textures/t.png")  # but a common folder of pictures is
    assert found(tmp_path, "one/a.obj", "t.png") == ("textures/t.png", True)


@pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png", "../../root/../secret.png"])
def test_nothing_outside_is_found(tmp_path, name):
    root = tmp_path / "root"
    tree(tmp_path, "secret.png", "root/a.obj", "root/sub/x.txt")
    with pytest.raises(LookupError):
        found(root, "a.obj", name)


def test_links_that_lead_out_are_not_followed(tmp_path):
    root = tmp_path / "root"
    tree(tmp_path, "bait/secret.png", "root/m/a.obj")
    (root / "links").symlink_to(tmp_path / "bait")
    (root / "m" / "textures").symlink_to(tmp_path / "bait")
    (root / "m" / "link.png").symlink_to(tmp_path / "bait" / "secret.png")
    assert found(root, "m/a.obj", "secret.png") is None
    for name in ("link.png", "textures/secret.png"):
        with pytest.raises(LookupError):
            found(root, "m/a.obj", name)
    for name in (r"C:\link.png", "/links/secret.png", "Textures/Secret.png"):
        assert found(root, "m/a.obj", name) is None
