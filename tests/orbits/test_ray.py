"""The same work on a Ray cluster of two machines (two node processes here) gives the same bytes."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from helpers.builds import CONFIG, ITEMS, content
from helpers.places import TESTS
from helpers.poison import poisoned, slow

from mv3d.core.errors import MissingPartError, Mv3dError
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are Linux's")


def test_without_ray_the_install_line_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPartError, match="pip install ray"):
        build_shards(ITEMS, tmp_path, CONFIG, work=slow, ray_address="local")


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one CPU each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Ray's workers have to find the work, as on other machines the installed package.
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_two_nodes_give_the_bytes_of_one_process(cluster, tmp_path):
    build_shards(ITEMS, tmp_path / "local", CONFIG, workers=1, work=slow)
    build_shards(ITEMS, tmp_path / "ray", CONFIG, workers=2, work=slow, ray_address=cluster.address)
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.mark.slow
def test_both_nodes_work(cluster, tmp_path):
    import ray

    from mv3d.orbits.infrastructure.isolate import Limits
    from mv3d.orbits.infrastructure.ray_pool import RayPool

    with RayPool(slow, CONFIG, workers=2, limits=Limits(), address=cluster.address) as pool:
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
        assert pool.capacity() == 2
        for position, item in enumerate(ITEMS[:2]):
            pool.submit(position, item)
        assert pool.capacity() == 0
        done = dict(pool.results())
        while len(done) < 2:
            done |= dict(pool.results())
        assert set(done) == {0, 1}


@pytest.mark.slow
def test_a_lost_node_costs_nothing(cluster, tmp_path):
    build_shards(ITEMS, tmp_path / "local", CONFIG, workers=1, work=slow)
    extra = cluster.add_node(num_cpus=1)
    killer = threading.Thread(
        target=lambda: (time.sleep(4), cluster.remove_node(extra, allow_graceful=False))
    )
    killer.start()
    build_shards(ITEMS, tmp_path / "ray", CONFIG, workers=3, work=slow, ray_address=cluster.address)
    killer.join()
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.mark.slow
def test_poison_on_a_cluster(cluster, tmp_path):
    items = [
        CatalogueItem(f"o{n}", title=title) for n, title in enumerate(("", "segfault", "bug", "", "exit"))
    ]
    result = build_shards(items, tmp_path / "a", CONFIG, work=poisoned, ray_address=cluster.address)
    assert result.index["rejected"] == {"crash": 2, "error": 1} and result.index["samples"] == 2
    with pytest.raises(MissingPartError, match=r"^no decoder; run: pip install decoder$"):
        build_shards(
            [CatalogueItem("o9", title="part")],
            tmp_path / "b",
            CONFIG,
            work=poisoned,
            ray_address=cluster.address,
        )


@pytest.mark.slow
def test_real_orbits_on_a_local_cluster(tmp_path):
    import trimesh
    from helpers.objects import colourful

    from mv3d.cli.main import main

    folder = tmp_path / "objects"
    folder.mkdir()
    colourful(trimesh.creation.box((1, 2, 3)).subdivide().subdivide(), folder / "block.glb")
    colourful(trimesh.creation.torus(2.0, 0.7), folder / "torus.glb")
    common = [str(folder), "--views", "4", "--size", "32", "--workers", "2"]
    assert main(["orbits", "render", *common, "--out", str(tmp_path / "ray"), "--ray", "local"]) == 0
    assert main(["orbits", "render", *common, "--out", str(tmp_path / "local")]) == 0
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_no_cluster_at_an_address(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(Mv3dError, match="no cluster answers"):
        build_shards(ITEMS, tmp_path, CONFIG, work=slow, ray_address="127.0.0.1:1")
