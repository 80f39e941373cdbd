// Attention in words: the weight of the chosen cell, and what the chosen token looks at most.

function showWeight() {
  const stack = stackNow(), { row, column } = chosenCell(stack);
  const isBlock = stack.block > 1 && state.mode === "map";
  const [query, key, size] = isBlock ? [row, column, stack.block] : [state.query, state.key, 1];
  const found = isBlock || stack.block === 1
    ? weight(stack, state.layer, state.view, row, column)
    : keptWeight(stack);
  const value = found === undefined ? "less than is kept" : percent(found);
  const from = blockLabel(stack.queries, query, size), to = blockLabel(stack.keys, key, size);
  byId("readout").textContent = `${from} → ${to}: ${value}`;
}

/** Of a long text, whose map is in blocks: the exact weight, if it is one of the strongest. */
function keptWeight(stack) {
  const pairs = strongestKeys(stack, state.layer, state.view, state.query);
  return pairs.find(([key]) => key === state.key)?.[1];
}

function showStrongest() {
  const stack = stackNow(), table = byId("strongest");
  const pairs = strongestKeys(stack, state.layer, state.view, state.query).slice(0, SHOWN);
  const token = `${quoted(stack.queries[state.query])}, token ${state.query + 1}`;
  const map = `layer ${state.layer + 1}, ${stack.views[state.view]}`;
  table.caption.replaceChildren(isolated(`${token}, ${map}`));
  table.tBodies[0].replaceChildren(...pairs.map(([key, thousandths]) =>
    tableRow(stack.keys[key][0], ` (${key + 1})`, percent(thousandths))));
}
