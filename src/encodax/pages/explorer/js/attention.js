// Attention, large: the map of one head of one layer, or its lines.

let large; // the heat map that is shown large

function attentionHeat(stack, layer, view) {
  const isExact = stack.block === 1, size = stack.rows * stack.columns;
  const start = (layer * stack.views.length + view) * size;
  let most = 1;
  for (let i = start; i < start + size; i++) most = Math.max(most, stack.cells[i]);
  const heat = {
    rows: stack.rows,
    columns: stack.columns,
    most,
    shade: (r, c) => shade(weight(stack, layer, view, r, c) / most),
    rowNames: isExact ? tokenLabels(stack.queries) : null,
    columnNames: isExact ? tokenLabels(stack.keys) : null,
  };
  heat.image = heatImage(heat);
  return heat;
}

function showMap() {
  const stack = stackNow();
  large = attentionHeat(stack, state.layer, state.view);
  byId("layer").value = state.layer;
  byId("view").value = state.view;
  byId("most").textContent = percent(large.most);
  byId("large-title").textContent =
    `Layer ${state.layer + 1}, ${stack.views[state.view]}: who looks (down) at what (across)`;
  markMap(stack);
}

function drawLarge() {
  const stack = stackNow(), isMap = state.mode === "map";
  const width = Math.min(SIDE, byId("large").parentElement.clientWidth - 8);
  byId("map").toggleAttribute("hidden", !isMap);
  byId("lines").toggleAttribute("hidden", isMap);
  byId("legend").toggleAttribute("hidden", !isMap);
  if (isMap) large.plan = drawHeatMap(byId("map"), large, width, chosenCell(stack));
  else drawLines(byId("lines"), stack, width);
}

/** Of a long text, the block that the chosen query and key are in. */
function chosenCell(stack) {
  return { row: Math.floor(state.query / stack.block), column: Math.floor(state.key / stack.block) };
}
