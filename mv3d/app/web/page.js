const stage = document.getElementById("viewer");
const note = document.getElementById("viewer-note");
try {
  const text = atob(document.getElementById("asset").textContent);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  const still = stage.querySelector("img");
  const viewer = await mv3dViewer.mount(stage, bytes.buffer, { label: stage.dataset.label, keys: document });
  still.remove();
  for (const button of document.querySelectorAll("button[data-camera]")) {
    button.addEventListener("click", () => {
      viewer.look(JSON.parse(button.dataset.camera));
      stage.scrollIntoView({ block: "nearest" });
    });
  }
} catch (error) {
  stage.dataset.state = "failed";
  note.textContent = `The object cannot be turned here (${error.message}); above is a still picture.`;
}
