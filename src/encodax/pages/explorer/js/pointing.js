// Draws nothing: which cell of a heat map the pointer or an arrow key chooses.

/** The cell under the pointer, or nothing beside the map. */
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

/** The cell a key leads to from this one, kept inside; nothing for any other key. */
function cellByKey(event, from, rows, columns) {
  const step = STEPS[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return null;
  event.preventDefault();
  const kept = (value, count) => Math.max(0, Math.min(count - 1, value));
  return { row: kept(from.row + step[0], rows), column: kept(from.column + step[1], columns) };
}
