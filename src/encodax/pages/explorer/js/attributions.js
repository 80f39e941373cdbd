// Attributions: what each token adds to a score, in the text by colour, and in a table.

function buildAttributions() {
  if (names.attributions.length > 0) {
    byId("target-control").hidden = false;
    const targets = names.attributions.map((attribution) => attribution.target);
    fillSelect(byId("target"), targets, (target) => {
      state.target = target;
      showAttribution();
    });
  }
  showAttribution();
}

function showAttribution() {
  const attribution = names.attributions[state.target];
  byId("attribution-note").textContent = attributionNote(attribution);
  if (!attribution) return;
  const { shares, score, baseline } = attribution;
  const least = NOISE * Math.max(Math.abs(score), Math.abs(baseline));
  markShares(shares, Math.max(...shares.map(Math.abs), least, Number.MIN_VALUE));
  listShares(shares);
}

function attributionNote(attribution) {
  if (!attribution) {
    return "No score comes of this text alone: there is no head, no mask to fill, or no second text "
      + "to compare with.";
  }
  const { shares, score, baseline } = attribution;
  const sum = shares.reduce((total, share) => total + share, 0);
  return `The score is ${score.toPrecision(4)}, and ${baseline.toPrecision(4)} with the text hidden. `
    + `What each token adds to it (solid) or takes from it (dotted): ${signed(sum)} in all. `
    + "These are integrated gradients: the score’s slope at each token, summed up on the way from "
    + "the hidden text to this one.";
}

function markShares(shares, most) {
  [...byId("text").children].forEach((span, index) => {
    const share = shares[index] / most, name = share < 0 ? "--minus" : "--plus";
    const isSeen = Math.abs(share) > 0.02, part = Math.round(60 * Math.abs(share));
    span.classList.toggle("plus", isSeen && share > 0);
    span.classList.toggle("minus", isSeen && share < 0);
    span.style.backgroundColor = `color-mix(in srgb, var(${name}) ${part}%, transparent)`;
    span.style.borderBottomColor = isSeen ? `var(${name})` : "transparent";
  });
}

function listShares(shares) {
  const bySize = (a, b) => Math.abs(shares[b]) - Math.abs(shares[a]);
  const order = shares.map((_, index) => index).sort(bySize).slice(0, SHOWN);
  const rows = order.filter((index) => shares[index] !== 0).map((index) =>
    tableRow(names.tokens[index][0], ` (${index + 1})`, signed(shares[index])));
  byId("shares").hidden = false;
  byId("shares").tBodies[0].replaceChildren(...rows);
}
