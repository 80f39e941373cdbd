// The lists above the attention, and what the pointer and the keys do on it.

function buildAttention() {
  if (names.attention.length > 1) {
    byId("stack-control").hidden = false;
    fillSelect(byId("stack"), names.attention.map((stack) => stack.name), (stack) => choose({ stack }));
  }
  showStack();
  showMap();
  listenToMap(byId("map"));
  listenToLines(byId("lines"));
  listenToKeys(byId("large"));
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    radio.onchange = () => choose({ mode: radio.value });
  }
  byId("save").onclick = savePicture;
}

function showStack() {
  const stack = stackNow();
  const layers = Array.from({ length: stack.layers }, (_, layer) => String(layer + 1));
  fillSelect(byId("layer"), layers, (layer) => choose({ layer }));
  fillSelect(byId("view"), stack.views, (view) => choose({ view }));
  byId("attention-note").textContent = stack.block === 1
    ? ""
    : `The text is long: a cell stands for ${stack.block} × ${stack.block} tokens, and the lines `
      + `for the ${stack.strongest} strongest of each token.`;
  buildGrid();
}

function listenToMap(map) {
  map.onpointermove = map.onpointerdown = (event) => {
    const { block } = stackNow(), found = cellAt(large, map, event);
    if (found) choose({ query: found.row * block, key: found.column * block });
  };
}

function listenToLines(svg) {
  svg.onpointermove = svg.onpointerdown = (event) => {
    const stack = stackNow(), box = svg.getBoundingClientRect();
    const place = Math.floor((event.clientY - box.top) / LINE);
    const isQuery = event.clientX - box.left < box.width / 2;
    const count = (isQuery ? stack.queries : stack.keys).length;
    const token = place + (isQuery ? svg.shown.queriesFrom : svg.shown.keysFrom);
    if (place >= WINDOW || token >= count) return;
    // The window moves with the chosen query: of a long text only a click may move it, or it would
    // run from the pointer.
    const isMovable = event.type === "pointerdown" || count <= WINDOW;
    if (!isQuery) choose({ key: token });
    else if (isMovable) choose({ query: token });
  };
}

function listenToKeys(frame) {
  frame.onkeydown = (event) => {
    const stack = stackNow(), size = state.mode === "map" ? stack.block : 1;
    const from = { row: Math.floor(state.query / size), column: Math.floor(state.key / size) };
    const rows = Math.ceil(stack.queries.length / size), columns = Math.ceil(stack.keys.length / size);
    const to = cellByKey(event, from, rows, columns);
    if (to) choose({ query: to.row * size, key: to.column * size });
  };
}
