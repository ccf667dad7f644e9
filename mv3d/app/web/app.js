// The page of `mv3d app`: sends a photo, follows its job, shows what is made, and lists earlier jobs.

import { mount } from "/web/viewer.bundle.js";

const at = (id) => document.getElementById(id);
const ENDED = ["done", "failed", "cancelled"];
const QUALITIES = {
  instant: "The 3D prior alone, seconds; no views are made.",
  draft: "Views, and the hull of their outlines.",
  standard: "Views, and a surface fitted to all of them: minutes.",
  high: "As standard, finer: longer.",
};
const LIST_EVERY_MS = 2000;

let shown = null; // id of the job in the middle of the page
let following = null; // the EventSource of that job
let viewer = null;
let viewerOf = "";
let mounting = false;
let options = null;

/** A request's JSON. Throws an Error with the server's sentence. */
async function ask(address, init) {
  const answer = await fetch(address, init);
  const body = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(body.error);
  return body;
}

function element(name, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inside);
  return made;
}

// -- a new job

async function prepare() {
  options = await ask("/v1/options");
  at("model").replaceChildren(...options.models.map((name) => element("option", { value: name, textContent: name })));
  at("quality").replaceChildren(
    ...options.qualities.map((name) => element("option", { value: name, textContent: name, selected: name === "draft" })),
  );
  at("formats").replaceChildren(
    ...[...options.formats, ...options.splats].map((name) =>
      element("label", {}, element("input", { type: "checkbox", name: "format", value: name, checked: name === "glb" }), ` ${name}`),
    ),
  );
  qualityChanged();
}

function qualityChanged() {
  const quality = at("quality").value;
  at("quality-hint").textContent = QUALITIES[quality] ?? "";
}

function choose(file) {
  URL.revokeObjectURL(at("chosen").src);
  at("chosen").hidden = !file;
  if (file) at("chosen").src = URL.createObjectURL(file);
}

async function send(event) {
  event.preventDefault();
  at("note").textContent = "";
  const file = at("photo").files[0];
  const formats = [...document.querySelectorAll("input[name=format]:checked")].map((box) => box.value);
  if (!file || !formats.length) {
    at("note").textContent = file ? "Choose at least one kind of file." : "Choose a photo.";
    return;
  }
  if (file.size > options.max_upload_bytes) {
    at("note").textContent = `The photo has ${(file.size / 1e6).toFixed(0)} MB; at most ${options.max_upload_bytes / 1e6} MB are taken.`;
    return;
  }
  const body = new FormData();
  body.append("photo", file);
  body.append("settings", JSON.stringify({ model: at("model").value, quality: at("quality").value, formats }));
  at("send").disabled = true;
  try {
    const { id } = await ask("/v1/jobs", { method: "POST", body });
    follow(id);
    await list();
    at("job-title").focus();
  } catch (error) {
    at("note").textContent = error.message;
  } finally {
    at("send").disabled = false;
  }
}

// -- the job in the middle

function follow(id) {
  following?.close();
  shown = id;
  viewer?.dispose();
  viewer = null;
  viewerOf = "";
  at("viewer").hidden = true;
  at("views").replaceChildren();
  at("files").replaceChildren();
  at("job").hidden = false;
  history.replaceState(null, "", `#${id}`);
  following = new EventSource(`/v1/jobs/${id}/events`);
  following.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    if (job.id !== shown) return;
    if (ENDED.includes(job.state)) {
      following.close();
      list();
    }
    show(job);
  });
}

function show(job) {
  const running = job.state === "running";
  at("job-title").textContent = job.title;
  at("state").textContent = running && job.stage ? `running: ${job.stage}` : job.state;
  at("state").dataset.state = job.state;
  at("cancel").hidden = ENDED.includes(job.state);
  at("cancel").disabled = job.stage === "cancelling";
  at("progress").hidden = !running;
  at("progress").value = job.progress;
  at("error").hidden = !job.error;
  at("error").textContent = job.error ?? "";
  at("warnings").hidden = !job.warnings.length;
  at("warnings").replaceChildren(...job.warnings.map((text) => element("li", { textContent: text })));
  const cutout = job.files["cutout.png"];
  at("cutout-figure").hidden = !cutout;
  if (cutout && at("cutout").dataset.of !== job.id) {
    at("cutout").dataset.of = job.id;
    at("cutout").src = cutout;
  }
  showViews(job);
  showFiles(job);
  if (job.state === "done" && job.files["mesh.glb"]) showMesh(job.files["mesh.glb"], job.title);
}

/** The views, or while they are being made those that are there. */
function showViews(job) {
  const inFolder = (folder) => Object.keys(job.files).filter((name) => name.startsWith(folder));
  const made = inFolder("images/");
  const views = made.length ? made : inFolder("previews/");
  at("views-part").hidden = !views.length;
  at("views-title").textContent = made.length ? "Views" : `Views so far: ${views.length}`;
  const before = new Map([...at("views").children].map((item) => [item.dataset.name, item]));
  if (views.length === before.size && views.every((name) => before.has(name))) return;
  at("views").replaceChildren(
    ...views.map((name) => {
      const item = before.get(name) ?? element("li", {}, element("img", { src: job.files[name] }));
      item.dataset.name = name;
      item.firstChild.alt = `${job.title}, view ${parseInt(name.split("/")[1], 10) + 1}${made.length ? ` of ${made.length}` : ", not cut out yet"}`;
      return item;
    }),
  );
}

function showFiles(job) {
  const names = Object.keys(job.files).filter((name) => !name.includes("/") && name !== "cutout.png");
  names.sort((a, b) => Number(b.startsWith("mesh") || b.startsWith("splats")) - Number(a.startsWith("mesh") || a.startsWith("splats")));
  at("files-part").hidden = job.state !== "done" || !names.length;
  if (at("files-part").hidden || at("files").childElementCount === names.length) return;
  at("files").replaceChildren(
    ...names.map((name) => element("li", {}, element("a", { href: job.files[name], download: name, textContent: name }))),
  );
}

async function showMesh(address, title) {
  if (viewerOf === address || mounting) return;
  viewerOf = address;
  mounting = true;
  at("viewer").hidden = false;
  try {
    const content = await (await fetch(address)).arrayBuffer();
    const made = await mount(at("viewer"), content, {
      label: `${title}: a 3D object. Arrow keys turn it, plus and minus zoom.`,
    });
    if (viewerOf === address) viewer = made;
    else made.dispose(); // another job was chosen meanwhile
  } catch (error) {
    at("viewer").dataset.state = "failed";
    at("viewer").textContent = `The object cannot be turned here (${error.message}); its files can be downloaded.`;
  } finally {
    mounting = false;
  }
}

// -- the list

async function cancel(id) {
  try {
    const job = await ask(`/v1/jobs/${id}`, { method: "DELETE" });
    if (job.id === shown) show(job);
  } catch (error) {
    at("note").textContent = error.message;
  }
  await list();
}

async function list() {
  const { jobs } = await ask("/v1/jobs");
  at("none").hidden = jobs.length > 0;
  at("jobs").hidden = !jobs.length;
  const ahead = {};
  for (const job of [...jobs].reverse()) {
    if (job.state === "queued") ahead[job.id] = ahead[job.device] = (ahead[job.device] ?? 0) + 1;
  }
  const rows = jobs.map((job) => {
    const open = element("button", { type: "button", className: "name", textContent: job.title });
    open.addEventListener("click", () => {
      follow(job.id);
      list();
      at("job-title").focus();
    });
    const state = job.state === "queued" ? `queued, number ${ahead[job.id]}` : job.state;
    const percent = job.state === "running" && job.stage ? `: ${job.stage} ${Math.round(job.progress * 100)} %` : "";
    const last = element("td");
    if (!ENDED.includes(job.state)) {
      const stop = element("button", { type: "button", textContent: "Cancel" });
      stop.setAttribute("aria-label", `Cancel ${job.title}`);
      stop.addEventListener("click", () => cancel(job.id));
      last.append(stop);
    }
    const row = element(
      "tr",
      {},
      element("td", {}, open),
      element("td", { textContent: job.settings.mesh === false ? "views alone" : (job.settings.quality ?? "standard") }),
      element("td", { textContent: state + percent }),
      element("td", { textContent: new Date(job.created * 1000).toLocaleString() }),
      last,
    );
    row.dataset.job = job.id;
    if (job.id === shown) row.setAttribute("aria-current", "true");
    return row;
  });
  replaceRows(at("jobs").tBodies[0], rows);
  return jobs;
}

/** New rows, with the keyboard where it was. */
function replaceRows(body, rows) {
  const held = document.activeElement?.closest("tr[data-job]");
  const place = held ? [...held.querySelectorAll("button")].indexOf(document.activeElement) : -1;
  body.replaceChildren(...rows);
  if (held && place >= 0) body.querySelector(`tr[data-job="${held.dataset.job}"]`)?.querySelectorAll("button")[place]?.focus();
}

async function keepListing() {
  try {
    await list();
    if (at("note").dataset.lost) at("note").textContent = at("note").dataset.lost = "";
  } catch {
    at("note").textContent = at("note").dataset.lost = "The server does not answer; is mv3d app still running?";
  }
  setTimeout(keepListing, LIST_EVERY_MS);
}

at("new").addEventListener("submit", send);
at("quality").addEventListener("change", qualityChanged);
at("photo").addEventListener("change", () => choose(at("photo").files[0]));
at("cancel").addEventListener("click", () => cancel(shown));
for (const name of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name !== "drop" || !event.dataTransfer.files.length) return;
    const taken = new DataTransfer(); // one file of those that were dropped
    taken.items.add(event.dataTransfer.files[0]);
    at("photo").files = taken.files;
    choose(at("photo").files[0]);
  });
}

await prepare();
await keepListing();
const wanted = location.hash.slice(1);
if (/^[0-9a-f]{32}$/.test(wanted)) {
  ask(`/v1/jobs/${wanted}`).then(() => follow(wanted), () => history.replaceState(null, "", "/"));
}
