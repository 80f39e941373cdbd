// The tokens of the text, one of which is chosen.

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

/** Whether a stack's queries (or else keys) are the tokens of the text: a translation's are not. */
function isText(tokens) {
  const isSame = (token, index) => token[2] === names.tokens[index][2];
  return tokens.length === names.tokens.length && tokens.every(isSame);
}

function chooseToken(index) {
  tellToken(index);
  const stack = stackNow();
  if (isText(stack.queries)) choose({ query: index });
  else if (isText(stack.keys)) choose({ key: index });
}

function markToken() {
  const stack = stackNow();
  const chosen = isText(stack.queries) ? state.query : isText(stack.keys) ? state.key : -1;
  [...byId("text").children].forEach((span, index) => {
    span.classList.toggle("chosen", index === chosen);
  });
}

function tellToken(index) {
  const attribution = names.attributions[state.target];
  const share = attribution ? `: ${signed(attribution.shares[index])}` : "";
  byId("token-readout").textContent = `${quoted(names.tokens[index])}, token ${index + 1}${share}`;
}
