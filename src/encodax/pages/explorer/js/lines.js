// Attention as lines from the tokens that look, on the left, to those they look at, on the right.

const WINDOW = 40; // tokens that are shown on either side
const LINE = 20; // pixels from one token to the next

const middle = (place) => (place + 0.5) * LINE;

function drawLines(svg, stack, width) {
  const strongest = strongestKeys(stack, state.layer, state.view, state.query);
  const shown = shownTokens(stack, strongest);
  const count = Math.max(shown.queriesTo - shown.queriesFrom, shown.keysTo - shown.keysFrom);
  svg.setAttribute("width", width);
  svg.setAttribute("height", LINE * (count + 1));
  svg.setAttribute("font-size", 13);
  svg.setAttribute("font-family", "system-ui, sans-serif");
  svg.replaceChildren(
    ...linesOf(stack, shown, width),
    ...tokensBeside(stack, shown, width),
    sumBelow(stack, shown, strongest, middle(count)),
  );
  svg.shown = shown;
}

/** The first token of a window of so many around this one. */
const windowAt = (token, count) => Math.max(0, Math.min(count - WINDOW, token - WINDOW / 2));

/** Those around the chosen query; as many keys are shown beside them, others around its strongest. */
function shownTokens(stack, strongest) {
  const queries = stack.queries.length, keys = stack.keys.length;
  const queriesFrom = windowAt(state.query, queries);
  const keysFrom = queries === keys ? queriesFrom : windowAt(strongest[0]?.[0] ?? 0, keys);
  return {
    queriesFrom, queriesTo: Math.min(queriesFrom + WINDOW, queries),
    keysFrom, keysTo: Math.min(keysFrom + WINDOW, keys),
  };
}

const isShown = (key, shown) => key >= shown.keysFrom && key < shown.keysTo;

function linesOf(stack, shown, width) {
  const lines = [], accent = colour("--accent");
  for (let query = shown.queriesFrom; query < shown.queriesTo; query++) {
    const isChosen = query === state.query;
    for (const [key, thousandths] of strongestKeys(stack, state.layer, state.view, query)) {
      if (thousandths < 10 || !isShown(key, shown)) continue;
      const share = Math.sqrt(thousandths / 1000);
      lines.push(svgElement("line", {
        x1: width * 0.36, y1: middle(query - shown.queriesFrom),
        x2: width * 0.64, y2: middle(key - shown.keysFrom),
        stroke: accent, "stroke-width": 1 + 3 * share,
        "stroke-opacity": isChosen ? Math.max(0.25, share) : 0.18 * share,
      }));
    }
  }
  return lines;
}

function tokensBeside(stack, shown, width) {
  const ink = colour("--ink"), accent = colour("--accent");
  const column = (tokens, from, to, chosen, x, anchor) =>
    tokens.slice(from, to).map((token, place) => svgElement("text", {
      x, y: middle(place), dy: "0.35em", "text-anchor": anchor,
      fill: from + place === chosen ? accent : ink,
      "font-weight": from + place === chosen ? 700 : 400, "unicode-bidi": "isolate",
    }, shortened(token[0])));
  const { queriesFrom, queriesTo, keysFrom, keysTo } = shown;
  return [
    ...column(stack.queries, queriesFrom, queriesTo, state.query, width * 0.35, "end"),
    ...column(stack.keys, keysFrom, keysTo, state.key, width * 0.65, "start"),
  ];
}

function sumBelow(stack, shown, strongest, y) {
  const inside = strongest.filter(([key]) => isShown(key, shown));
  const sum = inside.reduce((total, pair) => total + pair[1], 0);
  const text = `${quoted(stack.queries[state.query])}: ${Math.round(sum / 10)} % is on the tokens here`;
  return svgElement("text", { x: 4, y, dy: "0.35em", fill: colour("--quiet") }, text);
}

function svgElement(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}
