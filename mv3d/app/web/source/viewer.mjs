// The object in a canvas that can be turned: the picture of the pages that mv3d writes and of those that it serves.
// mount() is all of the interface. make_bundle.sh makes ../viewer.bundle.js of this file and three.js.

import {
  AmbientLight,
  Box3,
  DirectionalLight,
  DoubleSide,
  MeshBasicMaterial,
  MeshLambertMaterial,
  MeshNormalMaterial,
  PerspectiveCamera,
  Scene,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

export const MODES = ["textured", "grey", "wireframe", "normals"];
const FOV_DEG = 33.8;
const TURN_DEG_PER_S = 40;
const KEY_STEP_RAD = Math.PI / 24;

/**
 * Shows a binary glTF in `container`, an empty element with a size of its own.
 *
 * glb: an ArrayBuffer. options.label: what the picture shows, for people who do not see it. options.keys: the element
 * whose keys 1 to 4, T and R are taken, by default the container; arrows, + and - are those of the canvas alone.
 * options.mode: the first one. Resolves to {setMode, turn, reset, look, dispose}; rejects where there is no WebGL or the
 * file cannot be read. container.dataset.state is "ready" then, and container.dataset.mode the mode.
 */
export async function mount(container, glb, options = {}) {
  const keys = options.keys ?? container;
  const renderer = new WebGLRenderer({ antialias: true, alpha: true, preserveDrawingBuffer: true });
  const canvas = renderer.domElement;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", options.label ?? "A 3D object");
  renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));

  const model = (await new GLTFLoader().parseAsync(glb, "")).scene;
  const box = new Box3().setFromObject(model);
  const center = box.getCenter(new Vector3());
  const radius = Math.max(box.getSize(new Vector3()).length() / 2, 1e-9);
  const scene = new Scene();
  scene.add(model);
  const camera = new PerspectiveCamera(FOV_DEG, 1, radius / 100, radius * 100);
  // Faces met head-on have the colour of the texture, others down to three quarters of it: nothing is relit.
  const ambient = new AmbientLight(0xffffff, 0);
  const headlight = new DirectionalLight(0xffffff, 0);
  headlight.position.set(0, 0, 1);
  camera.add(headlight);
  headlight.target = camera;
  scene.add(ambient, camera);

  const parts = surfaces(model);

  const controls = new OrbitControls(camera, canvas);
  controls.enableDamping = false;
  controls.minDistance = radius * 0.05;
  controls.maxDistance = radius * 20;
  controls.autoRotateSpeed = TURN_DEG_PER_S / 6; // OrbitControls counts turns a minute

  const toolbar = document.createElement("div");
  toolbar.setAttribute("role", "toolbar");
  toolbar.setAttribute("aria-label", "How the object is shown");
  toolbar.className = "viewer-tools";
  const buttons = {};
  const add = (name, text, key, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.title = `${text} (key ${key})`;
    button.setAttribute("aria-keyshortcuts", key);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", act);
    toolbar.append(button);
    buttons[name] = button;
  };
  MODES.forEach((mode, place) => {
    add(mode, mode[0].toUpperCase() + mode.slice(1), String(place + 1), () => setMode(mode));
  });
  add("turn", "Turn", "T", () => turn(!controls.autoRotate));
  add("reset", "Reset", "R", () => reset());
  buttons.reset.removeAttribute("aria-pressed");
  container.append(canvas, toolbar);

  let wanted = 0;
  let before = 0;
  const draw = (time) => {
    wanted = 0;
    controls.update(controls.autoRotate && before ? Math.min((time - before) / 1000, 0.1) : null);
    renderer.render(scene, camera);
    before = controls.autoRotate ? time : 0;
    if (controls.autoRotate) redraw();
  };
  const redraw = () => {
    if (!wanted) wanted = requestAnimationFrame(draw);
  };
  controls.addEventListener("change", redraw);

  function setMode(mode) {
    if (!MODES.includes(mode)) throw new Error(`mode: expected one of ${MODES.join(", ")}, got ${mode}`);
    for (const part of parts) {
      part.mesh.material = part[mode];
      part.wires.visible = mode === "wireframe";
    }
    const shade = mode === "textured" ? 0.25 : 0.7;
    ambient.intensity = (1 - shade) * Math.PI;
    headlight.intensity = shade * Math.PI;
    container.dataset.mode = mode;
    for (const name of MODES) buttons[name].setAttribute("aria-pressed", String(name === mode));
    redraw();
  }

  function turn(on) {
    controls.autoRotate = on;
    buttons.turn.setAttribute("aria-pressed", String(on));
    redraw();
  }

  function reset() {
    turn(false);
    // 30 degrees aside of the front, which faces +Z, and 15 above it; the sphere around the object fits the frame.
    const direction = new Vector3(0.5, Math.tan(Math.PI / 12), Math.sqrt(0.75)).normalize();
    const half = (FOV_DEG * Math.PI) / 360;
    const fit = Math.min(1, camera.aspect);
    place(direction.multiplyScalar((1.05 * radius) / Math.sin(Math.atan(Math.tan(half) * fit))).add(center), center, FOV_DEG);
  }

  function place(position, target, fovDeg) {
    camera.fov = fovDeg;
    camera.position.copy(position);
    camera.updateProjectionMatrix();
    controls.target.copy(target);
    controls.update();
    redraw();
  }

  /** See the object from a camera: {position, forward: three numbers each in the axes of the file, fov_deg: vertical}. */
  function look(view) {
    turn(false);
    const position = new Vector3(...view.position);
    const forward = new Vector3(...view.forward).normalize();
    const ahead = Math.max(center.clone().sub(position).dot(forward), radius * 0.1);
    place(position, position.clone().addScaledVector(forward, ahead), view.fov_deg);
  }

  function orbit(around, up) {
    const arm = camera.position.clone().sub(controls.target);
    const flat = Math.hypot(arm.x, arm.z);
    const azimuth = Math.atan2(arm.x, arm.z) + around;
    const most = Math.PI / 2 - 1e-3;
    const elevation = Math.min(most, Math.max(-most, Math.atan2(arm.y, flat) + up));
    const length = arm.length();
    arm.set(Math.cos(elevation) * Math.sin(azimuth), Math.sin(elevation), Math.cos(elevation) * Math.cos(azimuth));
    place(arm.multiplyScalar(length).add(controls.target), controls.target, camera.fov);
  }

  function zoom(factor) {
    const arm = camera.position.clone().sub(controls.target).multiplyScalar(factor);
    place(arm.add(controls.target), controls.target, camera.fov);
  }

  const moves = {
    ArrowLeft: () => orbit(-KEY_STEP_RAD, 0),
    ArrowRight: () => orbit(KEY_STEP_RAD, 0),
    ArrowUp: () => orbit(0, KEY_STEP_RAD),
    ArrowDown: () => orbit(0, -KEY_STEP_RAD),
    "+": () => zoom(0.9),
    "=": () => zoom(0.9),
    "-": () => zoom(1 / 0.9),
  };
  const acts = { t: () => turn(!controls.autoRotate), r: reset };
  MODES.forEach((mode, number) => (acts[String(number + 1)] = () => setMode(mode)));
  const onKey = (table) => (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    const act = table[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  };
  const onMove = onKey(moves);
  const onAct = onKey(acts);
  canvas.addEventListener("keydown", onMove);
  keys.addEventListener("keydown", onAct);

  const resize = () => {
    const width = container.clientWidth || 1;
    const height = container.clientHeight || 1;
    renderer.setSize(width, height);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
    redraw();
  };
  const observer = new ResizeObserver(resize);
  observer.observe(container);
  resize();
  setMode(options.mode ?? "textured");
  reset();
  renderer.render(scene, camera);
  container.dataset.state = "ready";

  function dispose() {
    observer.disconnect();
    cancelAnimationFrame(wanted);
    keys.removeEventListener("keydown", onAct);
    controls.dispose();
    for (const part of parts) {
      part.mesh.geometry.dispose();
      for (const mode of MODES) for (const each of [part[mode]].flat()) each.dispose();
      part.wires.material.dispose();
    }
    renderer.dispose();
    container.replaceChildren();
    delete container.dataset.state;
  }

  return { setMode, turn, reset, look, dispose };
}

/** The meshes below `model`, each with its material in every mode and a mesh of its edges. */
function surfaces(model) {
  const found = [];
  model.traverse((mesh) => {
    if (!mesh.isMesh) return;
    const before = [mesh.material].flat();
    const each = (make) => (Array.isArray(mesh.material) ? before.map(make) : make(before[0]));
    const sided = { side: DoubleSide };
    const edges = mesh.clone(false); // as it is posed, whether it has bones or stands in many places
    edges.material = new MeshBasicMaterial({ color: 0x1d3557, wireframe: true });
    edges.visible = false;
    found.push({
      mesh,
      wires: edges,
      textured: each(
        (own) =>
          new MeshLambertMaterial({
            map: own.map ?? null,
            color: own.color,
            vertexColors: own.vertexColors,
            emissive: own.emissive ?? 0,
            emissiveMap: own.emissiveMap ?? null,
            transparent: own.transparent,
            opacity: own.opacity,
            alphaTest: own.alphaTest,
            ...sided,
          }),
      ),
      grey: each(() => new MeshLambertMaterial({ color: 0xb8b8b8, ...sided })),
      // Pushed back a little, so that the edges on the surface are seen.
      wireframe: each(
        () => new MeshLambertMaterial({ color: 0xd0d0d0, polygonOffset: true, polygonOffsetFactor: 1, polygonOffsetUnits: 1, ...sided }),
      ),
      normals: each(() => new MeshNormalMaterial(sided)),
    });
  });
  for (const part of found) part.mesh.parent.add(part.wires);
  if (!found.length) throw new Error("the file holds no triangles");
  return found;
}

// A page without a server cannot import from a second inline script: it takes the module here.
globalThis.mv3dViewer = { mount, MODES };
