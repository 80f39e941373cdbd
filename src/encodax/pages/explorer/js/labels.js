// Tokens and numbers as they are written on the page.

const percent = (thousandths) => `${(thousandths / 10).toFixed(1)} %`;
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toPrecision(3);

// Isolated: a right-to-left word turns nothing else around.
const quoted = (token) => `“\u2068${token[0]}\u2069”`;

function shortened(text, length = 24) {
  const letters = [...text];
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : text;
}

const tokenLabels = (tokens) => tokens.map((token) => shortened(token[0], 14));
const layerLabel = (layer) => (layer === 0 ? "embeddings" : `layer ${layer}`);

function blockLabel(tokens, index, size) {
  const first = index * size, last = Math.min(first + size, tokens.length) - 1;
  if (size === 1) return quoted(tokens[first]);
  return `tokens ${first + 1}–${last + 1} (${quoted(tokens[first])} … ${quoted(tokens[last])})`;
}
