// A heat map on a canvas, with names beside it where there is room, and the chosen row and column.

const SIDE = 640; // the large map's longer side, in pixels
const FONT = "12px system-ui, sans-serif";

/** The cells as an image, a pixel each. */
function heatImage(heat) {
  const canvas = make("canvas");
  canvas.width = heat.columns;
  canvas.height = heat.rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(heat.columns, heat.rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let r = 0; r < heat.rows; r++) {
    for (let c = 0; c < heat.columns; c++) pixels[r * heat.columns + c] = heat.shade(r, c);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Where the cells lie in so wide a picture; names only where a line of text fits. */
function heatLayout(heat, width) {
  const context = make("canvas").getContext("2d");
  context.font = FONT;
  const longest = (texts) =>
    Math.min(110, 8 + Math.max(...texts.map((text) => context.measureText(text).width)));
  const plan = { left: 0, top: 0 };
  if (heat.rowNames) plan.left = longest(heat.rowNames);
  if (heat.columnNames) plan.top = longest(heat.columnNames);
  const cell = () =>
    Math.min(40, (width - plan.left) / heat.columns, (SIDE - plan.top) / heat.rows);
  plan.width = plan.height = cell();
  if (plan.width < 11 && heat.columnNames) {
    plan.top = 0;
    if (!heat.keepsRowNames) plan.left = 0;
    plan.width = plan.height = cell();
  }
  if (heat.keepsRowNames) plan.height = Math.max(plan.height, 16);
  plan.right = plan.left + heat.columns * plan.width;
  plan.bottom = plan.top + heat.rows * plan.height;
  return plan;
}

/** Gives the layout, which the pointer's place on the canvas is read by. */
function drawHeatMap(canvas, heat, width, chosen, scale = window.devicePixelRatio || 1) {
  const plan = heatLayout(heat, width);
  canvas.width = Math.ceil(plan.right * scale);
  canvas.height = Math.ceil(plan.bottom * scale);
  canvas.style.width = `${plan.right}px`;
  canvas.style.height = `${plan.bottom}px`;
  const context = canvas.getContext("2d");
  const area = [plan.left, plan.top, plan.right - plan.left, plan.bottom - plan.top];
  context.scale(scale, scale);
  context.imageSmoothingEnabled = plan.width * scale < 1;
  context.drawImage(heat.image, ...area);
  context.font = FONT;
  context.textBaseline = "middle";
  if (plan.left) drawRowNames(context, heat.rowNames, plan, chosen);
  if (plan.top) drawColumnNames(context, heat.columnNames, plan, chosen);
  context.strokeStyle = colour("--edge");
  context.strokeRect(...area);
  if (chosen) drawChosen(context, plan, chosen);
  return plan;
}

function drawRowNames(context, labels, plan, chosen) {
  const ink = colour("--ink"), accent = colour("--accent");
  context.textAlign = "right";
  labels.forEach((label, r) => {
    context.fillStyle = chosen && r === chosen.row ? accent : ink;
    context.fillText(label, plan.left - 5, plan.top + (r + 0.5) * plan.height, plan.left - 6);
  });
}

function drawColumnNames(context, labels, plan, chosen) {
  const ink = colour("--ink"), accent = colour("--accent");
  context.textAlign = "left";
  labels.forEach((label, c) => {
    context.save();
    context.translate(plan.left + (c + 0.5) * plan.width, plan.top - 5);
    context.rotate(-Math.PI / 2);
    context.fillStyle = chosen && c === chosen.column ? accent : ink;
    context.fillText(label, 0, 0, plan.top - 6);
    context.restore();
  });
}

function drawChosen(context, plan, chosen) {
  context.strokeStyle = colour("--accent");
  context.lineWidth = 1.5;
  const x = plan.left + chosen.column * plan.width, y = plan.top + chosen.row * plan.height;
  context.strokeRect(plan.left, y, plan.right - plan.left, Math.max(plan.height, 2));
  context.strokeRect(x, plan.top, Math.max(plan.width, 2), plan.bottom - plan.top);
}
