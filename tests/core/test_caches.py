from pathlib import Path

from mv3d.core.caches import cache_dir
from mv3d.models.locate import resolve
from mv3d.orbits.objaverse import ObjaverseStore


def test_the_order_of_places(monkeypatch, tmp_path):
    monkeypatch.delenv("MV3D_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir("models") == Path.home() / ".cache" / "mv3d" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir("models") == tmp_path / "xdg" / "mv3d" / "models"
    monkeypatch.setenv("MV3D_CACHE", str(tmp_path / "own"))
    assert cache_dir("models") == tmp_path / "own" / "models" and not (tmp_path / "own").exists()


def test_models_and_catalogues_lie_in_one_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MV3D_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(tmp_path / "commit" / "file"))
    made = []
    monkeypatch.setattr("mv3d.models.convert.convert", lambda source, target, **_: made.append(target))
    folder = resolve("sv3d_p").folder
    assert made == [folder] and folder.parent == tmp_path / "models"
    assert ObjaverseStore().cache == tmp_path / "objaverse"
