// Script of the explorer page. Content of texts is inserted as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);
const names = JSON.parse(byId("names").textContent);
const WINDOW = 40; // number of tokens on each side of the lines view
const SIDE = 640; // longer side of the large map, in pixels
const SHOWN = 10; // number of rows in a table of tokens
const NOISE = 1e-4; // smaller differences of numbers are rounding errors, and drawn as equal

const state = { stack: 0, layer: 0, view: 0, query: 0, key: 0, mode: "map", target: 0, mask: 0 };

// --- numbers: thousandths as low and high bytes, then norms as floats

async function unpacked() {
  const text = atob(byId("numbers").textContent);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function readAll(bytes) {
  let at = 0;
  const planes = (count) => {
    const low = bytes.subarray(at, at + count), high = bytes.subarray(at + count, at + 2 * count);
    at += 2 * count;
    return Uint16Array.from(low, (value, index) => value + 256 * high[index]);
  };
  for (const stack of names.attention) {
    const maps = stack.layers * stack.views.length;
    stack.cells = planes(maps * stack.rows * stack.columns);
    if (stack.strongest) {
      const count = maps * stack.queries.length * stack.strongest;
      stack.bestKeys = planes(count);
      stack.bestWeights = planes(count);
    }
  }
  for (const norms of names.norms) {
    const size = 4 * norms.layers * norms.tokens.length;
    norms.values = new Float32Array(bytes.slice(at, at + size).buffer);
    at += size;
  }
}

/** Return the thousandths of a cell: the share of a query's attention on a key (or block of keys). */
function weight(stack, layer, view, row, column) {
  const map = layer * stack.views.length + view;
  return stack.cells[(map * stack.columns + column) * stack.rows + row];
}

/** Return [key, thousandths] of a query, the strongest first; for a long text, those that were kept. */
function looksAt(stack, layer, view, query) {
  const pairs = [];
  if (stack.strongest) {
    const map = layer * stack.views.length + view;
    const start = (map * stack.queries.length + query) * stack.strongest;
    for (let i = start; i < start + stack.strongest; i++) pairs.push([stack.bestKeys[i], stack.bestWeights[i]]);
  } else {
    for (let key = 0; key < stack.columns; key++) pairs.push([key, weight(stack, layer, view, query, key)]);
  }
  return pairs.filter((pair) => pair[1] > 0).sort((a, b) => b[1] - a[1]);
}

// --- words

const percent = (thousandths) => `${(thousandths / 10).toFixed(1)} %`;
const quoted = (token) => `“\u2068${token[0]}\u2069”`; // isolated: a right-to-left word does not affect its surroundings

const shortened = (text, length = 24) => ([...text].length > length ? `${[...text].slice(0, length - 1).join("")}…` : text);
const written = (tokens) => tokens.map((token) => shortened(token[0], 14));

function blockName(tokens, index, size) {
  const first = index * size, last = Math.min(first + size, tokens.length) - 1;
  if (size === 1) return quoted(tokens[first]);
  return `tokens ${first + 1}–${last + 1} (${quoted(tokens[first])} … ${quoted(tokens[last])})`;
}

// --- elements

function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  if (text !== "") element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const isolated = (text) => make("bdi", text);

function fill(select, options, onChange) {
  select.replaceChildren(...options.map((text, index) => make("option", text, { value: index })));
  select.onchange = () => onChange(Number(select.value));
}

/** Return a table row: a name, and a note that is outside the name's text direction. */
function row(name, note, ...cells) {
  const line = make("tr"), first = make("th", "", { scope: "row" });
  first.append(isolated(shortened(name, 40)), note);
  line.append(first, ...cells.map((text) => make("td", text, { class: "number" })));
  return line;
}

// --- colours

let ramp; // 256 colours, from the smallest to the largest number

function colour(name) {
  const probe = make("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const text = getComputedStyle(probe).color;
  probe.remove();
  return text;
}

function readRamp() {
  const stops = ["--least", "--middle", "--most"].map((name) => colour(name).match(/[\d.]+/g).slice(0, 3).map(Number));
  ramp = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * 2, from = Math.min(1, Math.floor(place)), share = place - from;
    const [red, green, blue] = [0, 1, 2].map((c) => Math.round(stops[from][c] * (1 - share) + stops[from + 1][c] * share));
    ramp[i] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  const legend = byId("ramp").getContext("2d"), image = legend.createImageData(128, 1);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < 128; i++) pixels[i] = ramp[Math.round(Math.sqrt(i / 127) * 255)];
  legend.putImageData(image, 0, 0);
}

// Square roots make small weights visible.
const shade = (share) => ramp[Math.round(Math.sqrt(share) * 255)];

// --- a heat map on a canvas, with names at its sides if they fit

function painted(heat) {
  const canvas = make("canvas");
  canvas.width = heat.columns;
  canvas.height = heat.rows;
  const context = canvas.getContext("2d"), image = context.createImageData(heat.columns, heat.rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let r = 0; r < heat.rows; r++)
    for (let c = 0; c < heat.columns; c++) pixels[r * heat.columns + c] = heat.shade(r, c);
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Return the layout of a heat map of this width; it has names only if a cell is as high as a line of text. */
function laidOut(heat, width) {
  const context = make("canvas").getContext("2d");
  const font = "system-ui, sans-serif";
  const longest = (texts) => {
    context.font = `12px ${font}`;
    return Math.min(110, 8 + Math.max(...texts.map((text) => context.measureText(text).width)));
  };
  const plan = { left: 0, top: 0, font: `12px ${font}` };
  if (heat.rowNames) plan.left = longest(heat.rowNames);
  if (heat.columnNames) plan.top = longest(heat.columnNames);
  const cell = () => Math.min(heat.largest ?? 40, (width - plan.left) / heat.columns, (SIDE - plan.top) / heat.rows);
  plan.width = plan.height = cell();
  if (plan.width < 11 && heat.columnNames) {
    plan.top = 0;
    if (!heat.keepsRowNames) plan.left = 0;
    plan.width = plan.height = cell();
  }
  if (heat.keepsRowNames) plan.height = Math.max(plan.height, 16);
  return plan;
}

function drawHeat(canvas, heat, width, chosen, scale = window.devicePixelRatio || 1) {
  const plan = laidOut(heat, width);
  const right = plan.left + heat.columns * plan.width, bottom = plan.top + heat.rows * plan.height;
  canvas.width = Math.ceil(right * scale);
  canvas.height = Math.ceil(bottom * scale);
  canvas.style.width = `${right}px`;
  canvas.style.height = `${bottom}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.imageSmoothingEnabled = plan.width * scale < 1;
  context.drawImage(heat.image, plan.left, plan.top, right - plan.left, bottom - plan.top);
  context.font = plan.font;
  context.textBaseline = "middle";
  const ink = colour("--ink"), accent = colour("--accent");
  if (plan.left) {
    context.textAlign = "right";
    heat.rowNames.forEach((name, r) => {
      context.fillStyle = chosen && r === chosen.row ? accent : ink;
      context.fillText(name, plan.left - 5, plan.top + (r + 0.5) * plan.height, plan.left - 6);
    });
  }
  if (plan.top) {
    context.textAlign = "left";
    heat.columnNames.forEach((name, c) => {
      context.save();
      context.translate(plan.left + (c + 0.5) * plan.width, plan.top - 5);
      context.rotate(-Math.PI / 2);
      context.fillStyle = chosen && c === chosen.column ? accent : ink;
      context.fillText(name, 0, 0, plan.top - 6);
      context.restore();
    });
  }
  context.strokeStyle = colour("--edge");
  context.strokeRect(plan.left, plan.top, right - plan.left, bottom - plan.top);
  if (chosen) {
    context.strokeStyle = accent;
    context.lineWidth = 1.5;
    const y = plan.top + chosen.row * plan.height, x = plan.left + chosen.column * plan.width;
    context.strokeRect(plan.left, y, right - plan.left, Math.max(plan.height, 2));
    context.strokeRect(x, plan.top, Math.max(plan.width, 2), bottom - plan.top);
  }
  heat.plan = plan;
}

/** Return the cell under the pointer; null outside the map. */
function cellAt(heat, canvas, event) {
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left - heat.plan.left) / heat.plan.width);
  const row = Math.floor((event.clientY - box.top - heat.plan.top) / heat.plan.height);
  const isInside = row >= 0 && column >= 0 && row < heat.rows && column < heat.columns;
  return isInside ? { row, column } : null;
}

const STEPS = {
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
  PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -Infinity], End: [0, Infinity],
};

/** Return the place after an arrow or similar key, clipped to the map; null for other keys. */
function stepped(event, place, rows, columns) {
  const step = STEPS[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return null;
  event.preventDefault();
  const kept = (value, count) => Math.max(0, Math.min(count - 1, value));
  return { row: kept(place.row + step[0], rows), column: kept(place.column + step[1], columns) };
}

// --- attention

const stackNow = () => names.attention[state.stack];
const viewName = (stack, view) => stack.views[view];
let large; // the heat map that is shown enlarged

function heatOf(stack, layer, view) {
  const own = stack.block === 1, start = (layer * stack.views.length + view) * stack.rows * stack.columns;
  let most = 1;
  for (let i = start; i < start + stack.rows * stack.columns; i++) most = Math.max(most, stack.cells[i]);
  const heat = {
    rows: stack.rows,
    columns: stack.columns,
    most,
    shade: (r, c) => shade(weight(stack, layer, view, r, c) / most),
    rowNames: own ? written(stack.queries) : null,
    columnNames: own ? written(stack.keys) : null,
  };
  heat.image = painted(heat);
  return heat;
}

function buildGrid() {
  const stack = stackNow(), grid = byId("grid");
  const label = (name) => (name.startsWith("head") ? name.slice(5) : name[0]);
  grid.style.gridTemplateColumns = `auto repeat(${stack.views.length}, auto)`;
  grid.style.setProperty("--small", stack.views.length > 10 ? "1.75rem" : "2.5rem");
  const head = stack.views.map((name) => make("span", label(name), { "aria-hidden": "true" }));
  grid.replaceChildren(make("span", "", { "aria-hidden": "true" }), ...head);
  stack.small = [];
  for (let layer = 0; layer < stack.layers; layer++) {
    grid.append(make("span", String(layer + 1), { "aria-hidden": "true" }));
    stack.views.forEach((name, view) => {
      const button = make("button", "", { type: "button", role: "radio", "aria-label": `layer ${layer + 1}, ${name}`, title: `layer ${layer + 1}, ${name}` });
      button.append(make("canvas"));
      button.onclick = () => choose({ layer, view });
      grid.append(button);
      stack.small.push(button);
    });
  }
  grid.onkeydown = (event) => {
    const place = stepped(event, { row: state.layer, column: state.view }, stack.layers, stack.views.length);
    if (!place) return;
    choose({ layer: place.row, view: place.column });
    stack.small[state.layer * stack.views.length + state.view].focus();
  };
  paintGrid(stack);
}

/** Paint one layer per frame, so that the page stays responsive. */
async function paintGrid(stack) {
  for (let layer = 0; layer < stack.layers; layer++) {
    if (stack !== stackNow()) return;
    stack.views.forEach((_, view) => {
      const image = heatOf(stack, layer, view).image;
      const canvas = stack.small[layer * stack.views.length + view].firstChild;
      const size = canvas.width = canvas.height = 96;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = image.width > size;
      context.drawImage(image, 0, 0, size, size);
    });
    await new Promise(requestAnimationFrame);
  }
  document.documentElement.dataset.grid = "painted";
}

const place = (stack) => ({ row: Math.floor(state.query / stack.block), column: Math.floor(state.key / stack.block) });

function drawLarge() {
  const stack = stackNow(), width = Math.min(SIDE, byId("large").parentElement.clientWidth - 8);
  const isMap = state.mode === "map";
  byId("map").toggleAttribute("hidden", !isMap);
  byId("lines").toggleAttribute("hidden", isMap);
  byId("legend").toggleAttribute("hidden", !isMap);
  if (isMap) drawHeat(byId("map"), large, width, place(stack));
  else drawLines(byId("lines"), stack, width);
}

/** Return the first of the WINDOW tokens around this one. */
const windowAt = (token, count) => Math.max(0, Math.min(count - WINDOW, token - WINDOW / 2));

function drawLines(svg, stack, width) {
  const height = 20, strongest = looksAt(stack, state.layer, state.view, state.query);
  const sameTokens = stack.queries.length === stack.keys.length;
  const rowsFrom = windowAt(state.query, stack.queries.length);
  const keysFrom = sameTokens ? rowsFrom : windowAt(strongest[0]?.[0] ?? 0, stack.keys.length);
  const rowsTo = Math.min(rowsFrom + WINDOW, stack.queries.length), keysTo = Math.min(keysFrom + WINDOW, stack.keys.length);
  const ink = colour("--ink"), accent = colour("--accent"), quiet = colour("--quiet");
  const count = Math.max(rowsTo - rowsFrom, keysTo - keysFrom);
  const element = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  const middle = (index) => (index + 0.5) * height;
  const parts = [];
  for (let query = rowsFrom; query < rowsTo; query++) {
    const isChosen = query === state.query;
    for (const [key, thousandths] of looksAt(stack, state.layer, state.view, query)) {
      if (thousandths < 10 || key < keysFrom || key >= keysTo) continue;
      const share = Math.sqrt(thousandths / 1000);
      parts.push(element("line", {
        x1: width * 0.36, y1: middle(query - rowsFrom), x2: width * 0.64, y2: middle(key - keysFrom),
        stroke: accent, "stroke-width": 1 + 3 * share, "stroke-opacity": isChosen ? Math.max(0.25, share) : 0.18 * share,
      }));
    }
  }
  const name = (tokens, index, x, anchor, isChosen) => element("text", {
    x, y: middle(index.at), dy: "0.35em", "text-anchor": anchor, fill: isChosen ? accent : ink,
    "font-weight": isChosen ? 700 : 400, "unicode-bidi": "isolate",
  }, shortened(tokens[index.token][0]));
  for (let query = rowsFrom; query < rowsTo; query++)
    parts.push(name(stack.queries, { token: query, at: query - rowsFrom }, width * 0.35, "end", query === state.query));
  for (let key = keysFrom; key < keysTo; key++)
    parts.push(name(stack.keys, { token: key, at: key - keysFrom }, width * 0.65, "start", key === state.key));
  const inside = strongest.filter(([key]) => key >= keysFrom && key < keysTo).reduce((sum, pair) => sum + pair[1], 0);
  parts.push(element("text", { x: 4, y: middle(count), dy: "0.35em", fill: quiet }, `${quoted(stack.queries[state.query])}: ${Math.round(inside / 10)} % is on the tokens here`));
  svg.setAttribute("width", width);
  svg.setAttribute("height", height * (count + 1));
  svg.setAttribute("font-size", 13);
  svg.setAttribute("font-family", "system-ui, sans-serif");
  svg.replaceChildren(...parts);
  Object.assign(svg, { rowsFrom, keysFrom, rowHeight: height });
}

function tell() {
  const stack = stackNow(), { row: r, column: c } = place(stack);
  const isBlock = stack.block > 1 && state.mode === "map";
  const size = isBlock ? stack.block : 1;
  const found = isBlock || stack.block === 1
    ? weight(stack, state.layer, state.view, r, c)
    : looksAt(stack, state.layer, state.view, state.query).find(([key]) => key === state.key)?.[1];
  const value = found === undefined ? "less than is kept" : percent(found);
  byId("readout").textContent = `${blockName(stack.queries, isBlock ? r : state.query, size)} → ${blockName(stack.keys, isBlock ? c : state.key, size)}: ${value}`;
  const pairs = looksAt(stack, state.layer, state.view, state.query).slice(0, SHOWN);
  byId("strongest").caption.replaceChildren(isolated(`${quoted(stack.queries[state.query])}, token ${state.query + 1}, layer ${state.layer + 1}, ${viewName(stack, state.view)}`));
  byId("strongest").tBodies[0].replaceChildren(...pairs.map(([key, thousandths]) => row(stack.keys[key][0], ` (${key + 1})`, percent(thousandths))));
}

function choose(change) {
  const before = { ...state };
  Object.assign(state, change);
  const stack = stackNow(), isOther = (name) => before[name] !== state[name];
  if (isOther("stack")) {
    state.layer = Math.min(state.layer, stack.layers - 1);
    state.view = Math.min(state.view, stack.views.length - 1);
    state.query = Math.min(state.query, stack.queries.length - 1);
    state.key = Math.min(state.key, stack.keys.length - 1);
    showStack();
  }
  if (isOther("stack") || isOther("layer") || isOther("view")) showMap();
  drawLarge();
  tell();
  markToken();
}

function showStack() {
  const stack = stackNow();
  const layers = Array.from({ length: stack.layers }, (_, layer) => String(layer + 1));
  fill(byId("layer"), layers, (layer) => choose({ layer }));
  fill(byId("view"), stack.views, (view) => choose({ view }));
  byId("attention-note").textContent = stack.block === 1
    ? ""
    : `The text is long: a cell stands for ${stack.block} × ${stack.block} tokens, and the lines for the ${stack.strongest} strongest of each token.`;
  buildGrid();
}

function showMap() {
  const stack = stackNow();
  large = heatOf(stack, state.layer, state.view);
  byId("layer").value = state.layer;
  byId("view").value = state.view;
  byId("most").textContent = percent(large.most);
  byId("large-title").textContent = `Layer ${state.layer + 1}, ${viewName(stack, state.view)}: who looks (down) at what (across)`;
  stack.small.forEach((button, index) => {
    const isChosen = index === state.layer * stack.views.length + state.view;
    button.setAttribute("aria-checked", isChosen);
    button.tabIndex = isChosen ? 0 : -1;
  });
}

function listen() {
  const frame = byId("large"), map = byId("map"), svg = byId("lines");
  const point = (event) => {
    const stack = stackNow(), found = cellAt(large, map, event);
    if (found) choose({ query: found.row * stack.block, key: found.column * stack.block });
  };
  map.onpointermove = map.onpointerdown = point;
  svg.onpointermove = svg.onpointerdown = (event) => {
    const stack = stackNow(), box = svg.getBoundingClientRect();
    const index = Math.floor((event.clientY - box.top) / svg.rowHeight);
    const isQuery = event.clientX - box.left < box.width / 2;
    const [from, count, name] = isQuery ? [svg.rowsFrom, stack.queries.length, "query"] : [svg.keysFrom, stack.keys.length, "key"];
    if (index >= WINDOW || from + index >= count) return;
    // The window moves with the chosen token: only a click may move it, or it would escape the pointer.
    if (event.type === "pointerdown" || count <= WINDOW || name === "key") choose({ [name]: from + index });
  };
  frame.onkeydown = (event) => {
    const stack = stackNow(), size = state.mode === "map" ? stack.block : 1;
    const from = { row: Math.floor(state.query / size), column: Math.floor(state.key / size) };
    const counts = [stack.queries.length, stack.keys.length].map((count) => Math.ceil(count / size));
    const to = stepped(event, from, ...counts);
    if (to) choose({ query: to.row * size, key: to.column * size });
  };
  for (const radio of document.querySelectorAll("input[name=mode]")) radio.onchange = () => choose({ mode: radio.value });
  byId("save").onclick = save;
}

function save() {
  const stack = stackNow(), name = `${stack.name} layer ${state.layer + 1} ${viewName(stack, state.view)}`.replaceAll(" ", "-");
  if (state.mode === "lines") {
    const copy = byId("lines").cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.removeAttribute("id");
    copy.style.background = colour("--panel");
    download(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }), `${name}.svg`);
    return;
  }
  const map = make("canvas"), picture = make("canvas"), margin = 40;
  drawHeat(map, large, SIDE, null, 2);
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

// --- the text, and the contribution of each token to a score

const sign = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toPrecision(3);

function buildText() {
  byId("text").dir = names.direction;
  byId("text").replaceChildren(...names.tokens.flatMap((token, index) => {
    const span = make("span", "", { class: "token", title: `${token[1]}, number ${token[2]}` });
    span.append(isolated(token[0]));
    span.onpointerenter = () => tellToken(index);
    span.onclick = () => chooseToken(index);
    return [span, " "];
  }));
}

/** Return whether a stack's queries (or keys) are the tokens of the text: a translation's are not. */
const readsText = (tokens) => tokens.length === names.tokens.length && tokens.every((token, i) => token[2] === names.tokens[i][2]);

function chooseToken(index) {
  tellToken(index);
  const stack = stackNow();
  if (readsText(stack.queries)) choose({ query: index });
  else if (readsText(stack.keys)) choose({ key: index });
}

function markToken() {
  const stack = stackNow();
  const chosen = readsText(stack.queries) ? state.query : readsText(stack.keys) ? state.key : -1;
  [...byId("text").children].forEach((span, index) => span.classList.toggle("chosen", index === chosen));
}

function tellToken(index) {
  const token = names.tokens[index], attribution = names.attributions[state.target];
  const share = attribution ? `: ${sign(attribution.shares[index])}` : "";
  byId("token-readout").textContent = `${quoted(token)}, token ${index + 1}${share}`;
}

function showAttribution() {
  const attribution = names.attributions[state.target];
  if (!attribution) {
    byId("attribution-note").textContent = "No score comes of this text alone: there is no head, no mask to fill, or no second text to compare with.";
    return;
  }
  const { shares, score, baseline } = attribution;
  const least = NOISE * Math.max(Math.abs(score), Math.abs(baseline));
  const most = Math.max(...shares.map(Math.abs), least, Number.MIN_VALUE), sum = shares.reduce((total, share) => total + share, 0);
  byId("attribution-note").textContent = `The score is ${score.toPrecision(4)}, and ${baseline.toPrecision(4)} with the text hidden. What each token adds to it (solid) or takes from it (dotted): ${sign(sum)} in all. These are integrated gradients: the score’s slope at each token, summed up on the way from the hidden text to this one.`;
  [...byId("text").children].forEach((span, index) => {
    const share = shares[index] / most, name = share < 0 ? "--minus" : "--plus";
    const isSeen = Math.abs(share) > 0.02;
    span.classList.toggle("plus", isSeen && share > 0);
    span.classList.toggle("minus", isSeen && share < 0);
    span.style.backgroundColor = `color-mix(in srgb, var(${name}) ${Math.round(60 * Math.abs(share))}%, transparent)`;
    span.style.borderBottomColor = isSeen ? `var(${name})` : "transparent";
  });
  const order = shares.map((_, index) => index).sort((a, b) => Math.abs(shares[b]) - Math.abs(shares[a]));
  const rows = order.slice(0, SHOWN).filter((index) => shares[index] !== 0);
  byId("shares").hidden = false;
  byId("shares").tBodies[0].replaceChildren(...rows.map((index) => row(names.tokens[index][0], ` (${index + 1})`, sign(shares[index]))));
}

// --- masks, layer by layer

function showMask() {
  const guesses = names.masks[state.mask], table = byId("guesses");
  const head = make("tr");
  head.append(make("th", "after", { scope: "col" }), ...guesses.layers[0].map((_, rank) => make("th", `${rank + 1}.`, { scope: "col" })));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...guesses.layers.map((layer, index) => {
    const line = row(index === 0 ? "embeddings" : `layer ${index}`, "");
    for (const [entry, probability] of layer) {
      const cell = make("td");
      cell.append(isolated(entry), " ", make("small", percent(1000 * probability)));
      line.append(cell);
    }
    return line;
  }));
}

// --- norms

function buildNorms(norms) {
  const count = norms.tokens.length, ofAll = (pick) => norms.values.reduce((a, b) => pick(a, b));
  const least = ofAll(Math.min), most = ofAll(Math.max);
  const value = (r, c) => norms.values[r * count + c];
  const span = Math.max(most - least, NOISE * most) || 1;
  const heat = {
    rows: norms.layers,
    columns: count,
    keepsRowNames: true,
    shade: (r, c) => ramp[Math.round((255 * (value(r, c) - least)) / span)],
    rowNames: Array.from({ length: norms.layers }, (_, layer) => (layer === 0 ? "embeddings" : `layer ${layer}`)),
    columnNames: written(norms.tokens),
  };
  const name = `Length of the states of the ${norms.name}, from ${least.toPrecision(3)} to ${most.toPrecision(3)}`;
  const canvas = make("canvas"), readout = make("p", "", { class: "readout", "aria-live": "polite" });
  const frame = make("div", "", { class: "heat", tabindex: 0, role: "application", "aria-label": `${name}; arrow keys move` });
  let chosen = { row: norms.layers - 1, column: 0 };
  const go = (to) => {
    if (!to) return;
    chosen = to;
    draw();
  };
  const draw = () => {
    drawHeat(canvas, heat, byId("norms").clientWidth - 8, chosen);
    readout.textContent = `${quoted(norms.tokens[chosen.column])}, ${heat.rowNames[chosen.row]}: ${value(chosen.row, chosen.column).toPrecision(4)}`;
  };
  canvas.onpointermove = canvas.onpointerdown = (event) => go(cellAt(heat, canvas, event));
  frame.onkeydown = (event) => go(stepped(event, chosen, heat.rows, heat.columns));
  frame.append(canvas);
  const scroll = make("div", "", { class: "scroll" });
  scroll.append(frame);
  byId("norms").append(make("h3", name), scroll, readout);
  return () => {
    heat.image = painted(heat);
    draw();
  };
}

// --- the complete page

function build() {
  if (names.attributions.length > 0) {
    byId("target-control").hidden = false;
    fill(byId("target"), names.attributions.map((attribution) => attribution.target), (target) => {
      state.target = target;
      showAttribution();
    });
  }
  if (names.attention.length > 1) {
    byId("stack-control").hidden = false;
    fill(byId("stack"), names.attention.map((stack) => stack.name), (stack) => choose({ stack }));
  }
  if (names.masks.length > 0) {
    byId("masks").hidden = false;
    byId("mask-control").hidden = names.masks.length === 1;
    fill(byId("mask"), names.masks.map((guesses, index) => `${index + 1}, token ${guesses.place + 1}`), (mask) => {
      state.mask = mask;
      showMask();
    });
    showMask();
  }
  readRamp();
  buildText();
  showAttribution();
  showStack();
  showMap();
  listen();
  const norms = names.norms.map(buildNorms);
  const redraw = () => {
    readRamp();
    showMap();
    drawLarge();
    norms.forEach((draw) => draw());
  };
  choose({});
  norms.forEach((draw) => draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    redraw();
    paintGrid(stackNow());
  });
  let width = window.innerWidth;
  addEventListener("resize", () => {
    if (width !== window.innerWidth) redraw();
    width = window.innerWidth;
  });
}

/** For the browser's console: the original numbers. */
window.explorer = { names, weight };

unpacked().then((bytes) => {
  readAll(bytes);
  build();
  byId("main").setAttribute("aria-busy", "false");
}).catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `This browser cannot show the page: ${error.message}. A newer one can.`;
  throw error;
});
