"""`mv3d view`: the objects of a collection in a browser, served by viser."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from mv3d.app.exhibits import Collection, Exhibit, difference
from mv3d.app.looks import MODES, in_mode
from mv3d.app.splats import read_splats
from mv3d.core.errors import MissingPartError
from mv3d.core.installing import install_command
from mv3d.render.cameras import SV3D_FOV_DEG, Cameras, opencv_from_opengl, orbit_cameras
from mv3d.render.mesh_io import glb_bytes, without_degenerate
from mv3d.views.folder import to_uint8
from mv3d.views.views import composite

# glTF (x, y, z) lies at world (z, x, y): a third of a turn around (1, 1, 1).
_WORLD_FROM_GLTF = (0.5, 0.5, 0.5, 0.5)
_A_ROW = 7
_MOST_VIEWS = 84
_THUMBNAIL = 96
_SPLATS, _NOTHING = "splats", "nothing"


def import_viser() -> Any:
    """The package. Raises MissingPartError."""
    try:
        import viser  # noqa: PLC0415 - an optional part  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPartError(
            f"mv3d view: needs viser; install it with: {install_command('viser')}"
        ) from error
    return viser


class Viewer:
    """A server that shows one exhibit at a time to everybody who opens its page. `close` ends it."""

    def __init__(self, collection: Collection, *, host: str = "127.0.0.1", port: int = 7007) -> None:
        viser = import_viser()
        first = collection.read(collection.names[0])
        self._collection, self._lock = collection, threading.RLock()
        # A browser that leaves amid a handshake is no news.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        with _quiet():
            self._server = viser.ViserServer(host=host, port=port, label="mv3d view", verbose=False)
        self.address = f"http://{host}:{self._server.get_port()}"
        scene = self._server.scene
        scene.set_up_direction("+z")
        # Colours are shown as they are: nothing is lit, and nothing is fetched for a light.
        scene.configure_default_lights(False)
        scene.configure_environment_map(None)
        scene.add_light_ambient("/light", intensity=math.pi)
        self._server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        self._server.gui.main_panel.dock_right()
        self._chooser: Any = None
        if len(collection.names) > 1:
            self._chooser = self._server.gui.add_dropdown(
                "Object", collection.names, initial_value=first.name
            )
            self._chooser.on_update(lambda _: self.show(collection.read(self._chooser.value)))
        self._parts: list[Any] = []
        self._looks: dict[str, Any] = {}
        self._edges: Any = None
        self._frustums: list[Any] = []
        self._server.on_client_connect(lambda client: self._aim(client, None))
        self.show(first)

    @property
    def clients(self) -> list[Any]:
        """The browsers that are connected."""
        return list(self._server.get_clients().values())

    def close(self) -> None:
        with _quiet():
            self._server.stop()

    def show(self, exhibit: Exhibit) -> None:
        """Replace what is shown."""
        with self._lock:
            for part in self._parts:
                part.remove()
            self._parts, self._exhibit, self._view = [], exhibit, None
            self._looks, self._edges, self._frustums = {}, None, []
            self._fit = _overview(exhibit)
            self._add_mesh()
            self._add_cameras()
            self._add_views()
            self._add_numbers()
            for client in self.clients:
                self._aim(client, None)

    def look_through(self, view: int) -> None:
        """Put every browser into the camera of a view, and show the view's pictures."""
        with self._lock:
            self._view = view
            self._show_pictures()
            for client in self.clients:
                self._aim(client, view)

    def choose(self, look: str) -> None:
        """Show the mesh in one of MODES, the splats, or nothing, where the exhibit has it."""
        for name, node in self._looks.items():
            node.visible = name == look
        if self._edges is not None:
            self._edges.visible = look == "wireframe"

    def show_cameras(self, visible: bool) -> None:
        """Show the frustums, or hide them."""
        for frustum in self._frustums:
            frustum.visible = visible

    def _kept(self, part: Any) -> Any:
        self._parts.append(part)
        return part

    # -- the scene

    def _add_mesh(self) -> None:
        mesh, scene = self._exhibit.mesh, self._server.scene
        nodes = self._looks
        if mesh is not None:
            whole = without_degenerate(mesh)
            for mode in MODES:
                content = glb_bytes(in_mode(whole, mode), jpeg_quality=90)
                name = f"/object/{mode}"
                nodes[mode] = self._kept(
                    scene.add_glb(name, content, wxyz=_WORLD_FROM_GLTF, visible=mode == MODES[0])
                )
            self._edges = self._kept(
                scene.add_mesh_simple(
                    "/object/edges", whole.vertices, whole.faces, color=(29, 53, 87), wireframe=True
                )
            )
            self._edges.visible = False
        if self._exhibit.splats is not None:
            cloud = read_splats(self._exhibit.splats)
            nodes[_SPLATS] = self._kept(
                scene.add_gaussian_splats(
                    "/object/splats",
                    cloud.centers,
                    cloud.covariances,
                    cloud.colors,
                    cloud.opacities,
                    visible=not nodes,
                )
            )
        if not nodes:
            return
        choice = self._kept(
            self._server.gui.add_dropdown("Show", [*nodes, _NOTHING], initial_value=next(iter(nodes)))
        )

        choice.on_update(lambda _: self.choose(choice.value))

    def _add_cameras(self) -> None:
        views = self._exhibit.views
        if views is None:
            return
        cameras = views.cameras
        size = 0.07 * float(
            np.median(np.linalg.norm(cameras.centers - cameras.centers.mean(0), axis=1)) or 1.0
        )
        for view in _chosen(len(views)):
            wxyz, position, fov = _pose(cameras, view)
            picture = np.asarray(_thumbnail(views.images[view]))
            frustum = self._kept(
                self._server.scene.add_camera_frustum(
                    f"/cameras/{view}", fov, cameras.width / cameras.height, scale=size, thickness=size / 60,
                    color=(29, 78, 216) if view == views.input_view else (90, 90, 90), image=picture, format="png",
                    wxyz=wxyz, position=position,
                )
            )  # fmt: skip
            frustum.on_click(lambda _, view=view: self.look_through(view))
            self._frustums.append(frustum)
        box = self._kept(self._server.gui.add_checkbox("Cameras", initial_value=True))

        box.on_update(lambda _: self.show_cameras(box.value))

    def _aim(self, client: Any, view: int | None) -> None:
        """Move one browser's camera: into a view, or where all of the object is seen."""
        views = self._exhibit.views
        cameras, number = (self._fit[0], 0) if view is None or views is None else (views.cameras, view)
        wxyz, position, fov = _pose(cameras, number)
        center = self._fit[1]
        forward = -cameras.c2w[number, :3, 2]
        ahead = max(float((center - position) @ forward), 1e-3)
        with client.atomic():
            client.camera.wxyz, client.camera.position, client.camera.fov = wxyz, position, fov
            client.camera.look_at = position + ahead * forward

    # -- the panel

    def _add_views(self) -> None:
        views, gui = self._exhibit.views, self._server.gui
        if views is None:
            return
        with self._kept(gui.add_folder("Views")):
            back = gui.add_button("Leave the camera")
            back.on_click(lambda _: [self._aim(client, None) for client in self.clients])
            self._caption = gui.add_markdown("")
            self._fade = gui.add_slider(
                f"{self._exhibit.names[0]} → {self._exhibit.names[1]}", 0.0, 1.0, 0.05, 0.0
            )
            self._fade.on_update(lambda _: self._show_pictures())
            blank = np.full((64, 64, 3), 255, np.uint8)
            self._pictures = gui.add_image(blank, format="png")
            chosen = _chosen(len(views))
            for begin in range(0, len(chosen), _A_ROW):
                row = chosen[begin : begin + _A_ROW]
                gui.add_image(_strip(views.images[row]), format="jpeg")
                buttons = gui.add_button_group("Look through", [str(view) for view in row])
                buttons.on_click(lambda event: self.look_through(int(event.target.value)))
        self._view = views.input_view or 0
        self._show_pictures()

    def _show_pictures(self) -> None:
        with self._lock:
            exhibit, view = self._exhibit, self._view
            if exhibit.views is None or view is None:
                return
            picture, other = exhibit.views.images[view], exhibit.other(view)
            label = exhibit.labels[view] if exhibit.labels else f"view {view}"
            if other is None:
                self._fade.visible = False
                self._caption.content, self._pictures.image = escape(label), to_uint8(composite(picture))
                return
            share = float(self._fade.value)
            blend = (1 - share) * composite(picture) + share * composite(other)
            apart, figures = difference(picture, other)
            self._pictures.image = to_uint8(np.concatenate([blend, apart], 1))
            now = f"PSNR {figures['psnr']:.1f} dB, SSIM {figures['ssim']:.3f}, mask IoU {figures['mask_iou']:.3f}"
            # Rays tell these figures from those that recon has written down with one a pixel.
            rays = "" if exhibit.others is not None else ", 4 rays a pixel"
            apart_by = f"{exhibit.names[1]} against {exhibit.names[0]}{rays}, right where they differ: {now}"
            self._caption.content = f"{escape(label)}\n\n{apart_by}"

    def _add_numbers(self) -> None:
        if not self._exhibit.rows:
            return
        cells = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in self._exhibit.rows)
        with self._kept(self._server.gui.add_folder("Numbers")):
            self._server.gui.add_html(f'<table style="font-size:.85em;margin:0 1em">{cells}</table>')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """viser prints a box on stdout, which belongs to results."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _chosen(count: int) -> list[int]:
    """Of many views some, evenly."""
    most = min(count, _MOST_VIEWS)
    return [round(i * (count - 1) / max(most - 1, 1)) for i in range(most)]


def _pose(cameras: Cameras, view: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Quaternion w x y z of OpenCV's axes, position, and vertical field of view in radians: as viser takes a camera."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415 - slow to import

    pose = opencv_from_opengl(cameras.c2w[view])
    wxyz = Rotation.from_matrix(pose[:3, :3]).as_quat()[[3, 0, 1, 2]]
    return wxyz, pose[:3, 3], float(2 * np.arctan(cameras.height / 2 / cameras.fl_y[view]))


def _overview(exhibit: Exhibit) -> tuple[Cameras, np.ndarray]:
    """A camera 30 degrees aside of the front and 20 above that sees the object and, if there are any, its cameras; and the
    object's centre."""
    center, reach = np.zeros(3), 0.5
    if exhibit.mesh is not None:
        low, high = exhibit.mesh.vertices.min(0), exhibit.mesh.vertices.max(0)
        center, reach = (low + high) / 2, float(np.linalg.norm(high - low)) / 2 or 0.5
    if exhibit.views is not None:
        reach = max(reach, 0.55 * float(np.linalg.norm(exhibit.views.cameras.centers - center, axis=1).max()))
    distance = 1.1 * reach / np.sin(np.radians(SV3D_FOV_DEG) / 2)
    camera = orbit_cameras(20.0, [30.0], radius=distance, fov_deg=SV3D_FOV_DEG, width=64, height=64)
    camera.c2w[:, :3, 3] += center
    return camera, center


def _thumbnail(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(to_uint8(image))
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    return picture


def _strip(images: np.ndarray) -> np.ndarray:
    """Small pictures side by side; a short last row keeps the size of the others."""
    small = [np.asarray(_thumbnail(np.dstack([composite(i), np.ones(i.shape[:2])])))[..., :3] for i in images]
    small += [np.full_like(small[0], 255)] * (_A_ROW - len(small))
    return np.concatenate(small, 1)
