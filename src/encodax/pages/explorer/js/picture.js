// The large map as a picture to save: a PNG with its title, or the lines as SVG.

function savePicture() {
  const stack = stackNow(), save = state.mode === "lines" ? saveLines : saveMap;
  save(`${stack.name} layer ${state.layer + 1} ${stack.views[state.view]}`.replaceAll(" ", "-"));
}

function saveLines(name) {
  const copy = byId("lines").cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.removeAttribute("id");
  copy.style.background = colour("--panel");
  const text = new XMLSerializer().serializeToString(copy);
  download(new Blob([text], { type: "image/svg+xml" }), `${name}.svg`);
}

function saveMap(name) {
  const map = make("canvas"), picture = make("canvas"), margin = 40;
  drawHeatMap(map, large, SIDE, null, 2);
  picture.width = map.width + 2 * margin;
  picture.height = map.height + 3 * margin;
  const context = picture.getContext("2d");
  context.fillStyle = colour("--paper");
  context.fillRect(0, 0, picture.width, picture.height);
  context.fillStyle = colour("--ink");
  context.font = "28px system-ui, sans-serif";
  context.fillText(byId("large-title").textContent, margin, 1.4 * margin, map.width);
  context.drawImage(map, margin, 2 * margin);
  picture.toBlob((blob) => download(blob, `${name}.png`));
}

function download(blob, name) {
  const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
