// The data of the page: names as JSON, and the numbers that `page.py` has packed, which are
// attention in thousandths, as low and high bytes, then norms as floats.

const NOISE = 1e-4; // of a number: what differs by less is a matter of rounding, and drawn as equal

// Of `names.attention` each is a stack: an encoder's layers, a decoder's, or those between them.
const names = JSON.parse(byId("names").textContent);

async function unpack() {
  const text = atob(byId("numbers").textContent);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Puts the numbers beside their names, in whose order they come. */
function readNumbers(bytes) {
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

/** Thousandths that a cell has: of a query's attention, what is on a key (or a block of keys). */
function weight(stack, layer, view, row, column) {
  const map = layer * stack.views.length + view;
  return stack.cells[(map * stack.columns + column) * stack.rows + row];
}

/** [key, thousandths] of a query, the strongest first; of a long text, those that are kept. */
function strongestKeys(stack, layer, view, query) {
  const pairs = [];
  if (stack.strongest) {
    const map = layer * stack.views.length + view;
    const start = (map * stack.queries.length + query) * stack.strongest;
    for (let i = start; i < start + stack.strongest; i++) {
      pairs.push([stack.bestKeys[i], stack.bestWeights[i]]);
    }
  } else {
    for (let key = 0; key < stack.columns; key++) {
      pairs.push([key, weight(stack, layer, view, query, key)]);
    }
  }
  return pairs.filter((pair) => pair[1] > 0).sort((a, b) => b[1] - a[1]);
}
