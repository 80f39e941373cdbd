// Colours: those of the style, and the ramp of 256 that heat maps are drawn in, with its legend.

let ramp; // from the least to the most

function colour(name) {
  const probe = make("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const text = getComputedStyle(probe).color;
  probe.remove();
  return text;
}

function readRamp() {
  const channels = (name) => colour(name).match(/[\d.]+/g).slice(0, 3).map(Number);
  const stops = ["--least", "--middle", "--most"].map(channels);
  ramp = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * 2, from = Math.min(1, Math.floor(place)), share = place - from;
    const mixed = (c) => Math.round(stops[from][c] * (1 - share) + stops[from + 1][c] * share);
    const [red, green, blue] = [0, 1, 2].map(mixed);
    ramp[i] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  drawLegend();
}

// Roots, so that small weights are seen too.
const shade = (share) => ramp[Math.round(Math.sqrt(share) * 255)];

function drawLegend() {
  const legend = byId("ramp").getContext("2d"), image = legend.createImageData(128, 1);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < 128; i++) pixels[i] = shade(i / 127);
  legend.putImageData(image, 0, 0);
}
