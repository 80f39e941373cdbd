// What is chosen, and what is drawn anew when that changes.

const state = { stack: 0, layer: 0, view: 0, query: 0, key: 0, mode: "map", target: 0, mask: 0 };

const stackNow = () => names.attention[state.stack];

function choose(change) {
  const before = { ...state };
  Object.assign(state, change);
  const isOther = (name) => before[name] !== state[name];
  if (isOther("stack")) {
    keepInside(stackNow());
    showStack();
  }
  if (isOther("stack") || isOther("layer") || isOther("view")) showMap();
  drawLarge();
  showWeight();
  showStrongest();
  markToken();
}

/** Another stack may have fewer layers, heads and tokens. */
function keepInside(stack) {
  state.layer = Math.min(state.layer, stack.layers - 1);
  state.view = Math.min(state.view, stack.views.length - 1);
  state.query = Math.min(state.query, stack.queries.length - 1);
  state.key = Math.min(state.key, stack.keys.length - 1);
}
