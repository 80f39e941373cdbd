// The small maps of all layers and heads, to choose one.

const GRID_SIDE = 96; // pixels of a small map

function buildGrid() {
  const stack = stackNow(), grid = byId("grid"), views = stack.views;
  const label = (name) => (name.startsWith("head") ? name.slice(5) : name[0]);
  const beside = (text) => make("span", text, { "aria-hidden": "true" });
  grid.style.gridTemplateColumns = `auto repeat(${views.length}, auto)`;
  grid.style.setProperty("--small", views.length > 10 ? "1.75rem" : "2.5rem");
  grid.replaceChildren(beside(""), ...views.map((name) => beside(label(name))));
  stack.small = [];
  for (let layer = 0; layer < stack.layers; layer++) {
    const buttons = views.map((name, view) => gridButton(name, layer, view));
    grid.append(beside(String(layer + 1)), ...buttons);
    stack.small.push(...buttons);
  }
  grid.onkeydown = (event) => {
    const from = { row: state.layer, column: state.view };
    const to = cellByKey(event, from, stack.layers, views.length);
    if (!to) return;
    choose({ layer: to.row, view: to.column });
    stack.small[state.layer * views.length + state.view].focus();
  };
  paintGrid(stack);
}

function gridButton(name, layer, view) {
  const title = `layer ${layer + 1}, ${name}`;
  const button = make("button", "", { type: "button", role: "radio", "aria-label": title, title });
  button.append(make("canvas"));
  button.onclick = () => choose({ layer, view });
  return button;
}

/** A layer a frame, so that the page answers meanwhile. */
async function paintGrid(stack) {
  for (let layer = 0; layer < stack.layers; layer++) {
    if (stack !== stackNow()) return;
    stack.views.forEach((_, view) => {
      const image = attentionHeat(stack, layer, view).image;
      const canvas = stack.small[layer * stack.views.length + view].firstChild;
      canvas.width = canvas.height = GRID_SIDE;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = image.width > GRID_SIDE;
      context.drawImage(image, 0, 0, GRID_SIDE, GRID_SIDE);
    });
    await new Promise(requestAnimationFrame);
  }
  document.documentElement.dataset.grid = "painted";
}

/** Marks the map that is shown large. */
function markMap(stack) {
  stack.small.forEach((button, index) => {
    const isChosen = index === state.layer * stack.views.length + state.view;
    button.setAttribute("aria-checked", isChosen);
    button.tabIndex = isChosen ? 0 : -1;
  });
}
