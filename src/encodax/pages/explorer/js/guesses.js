// What the head would fill a mask with after each layer (the "logit lens"), as a table.

function buildGuesses() {
  if (names.masks.length === 0) return;
  byId("masks").hidden = false;
  byId("mask-control").hidden = names.masks.length === 1;
  const places = names.masks.map((guesses, index) => `${index + 1}, token ${guesses.place + 1}`);
  fillSelect(byId("mask"), places, (mask) => {
    state.mask = mask;
    showGuesses();
  });
  showGuesses();
}

function showGuesses() {
  const { layers } = names.masks[state.mask], table = byId("guesses"), head = make("tr");
  const ranks = layers[0].map((_, rank) => make("th", `${rank + 1}.`, { scope: "col" }));
  head.append(make("th", "after", { scope: "col" }), ...ranks);
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...layers.map((guesses, layer) => {
    const line = tableRow(layerLabel(layer), "");
    line.append(...guesses.map(guessCell));
    return line;
  }));
}

function guessCell([entry, probability]) {
  const cell = make("td");
  cell.append(isolated(entry), " ", make("small", percent(1000 * probability)));
  return cell;
}
