// All together: the numbers are read, the page is built, and drawn anew when the window's width or
// the colours change.

function build() {
  readRamp();
  buildText();
  buildAttributions();
  buildGuesses();
  buildAttention();
  const norms = names.norms.map(buildNorms);
  choose({});
  norms.forEach((draw) => draw());
  const redraw = () => {
    readRamp();
    showMap();
    drawLarge();
    norms.forEach((draw) => draw());
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    redraw();
    paintGrid(stackNow());
  });
  let width = window.innerWidth;
  addEventListener("resize", () => {
    if (width !== window.innerWidth) redraw();
    width = window.innerWidth;
  });
}

/** For the console: the numbers as they came. */
window.explorer = { names, weight };

unpack().then((bytes) => {
  readNumbers(bytes);
  build();
  byId("main").setAttribute("aria-busy", "false");
}).catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `This browser cannot show the page: ${error.message}. A newer one can.`;
  throw error;
});
