// Norms: how long the state of each token is after each layer, as a heat map of its own.

/** Puts the map on the page; gives what draws it, now and whenever colours or widths change. */
function buildNorms(norms) {
  const heat = normsHeat(norms), canvas = make("canvas");
  const name = `Length of the states of the ${norms.name}, ${heat.range}`;
  const readout = make("p", "", { class: "readout", "aria-live": "polite" });
  const label = `${name}; arrow keys move`;
  const frame = make("div", "", { class: "heat", tabindex: 0, role: "application", "aria-label": label });
  let chosen = { row: norms.layers - 1, column: 0 };
  const draw = () => {
    heat.plan = drawHeatMap(canvas, heat, byId("norms").clientWidth - 8, chosen);
    const token = quoted(norms.tokens[chosen.column]);
    const value = heat.value(chosen.row, chosen.column).toPrecision(4);
    readout.textContent = `${token}, ${heat.rowNames[chosen.row]}: ${value}`;
  };
  const go = (to) => {
    if (!to) return;
    chosen = to;
    draw();
  };
  canvas.onpointermove = canvas.onpointerdown = (event) => go(cellAt(heat, canvas, event));
  frame.onkeydown = (event) => go(cellByKey(event, chosen, heat.rows, heat.columns));
  frame.append(canvas);
  const scroll = make("div", "", { class: "scroll" });
  scroll.append(frame);
  byId("norms").append(make("h3", name), scroll, readout);
  return () => {
    heat.image = heatImage(heat);
    draw();
  };
}

function normsHeat(norms) {
  const least = norms.values.reduce((a, b) => Math.min(a, b));
  const most = norms.values.reduce((a, b) => Math.max(a, b));
  const span = Math.max(most - least, NOISE * most) || 1;
  const value = (r, c) => norms.values[r * norms.tokens.length + c];
  return {
    rows: norms.layers,
    columns: norms.tokens.length,
    keepsRowNames: true,
    value,
    shade: (r, c) => ramp[Math.round((255 * (value(r, c) - least)) / span)],
    rowNames: Array.from({ length: norms.layers }, (_, layer) => layerLabel(layer)),
    columnNames: tokenLabels(norms.tokens),
    range: `from ${least.toPrecision(3)} to ${most.toPrecision(3)}`,
  };
}
