// Elements of the page: how they are found and made. What comes from a text is put in as text,
// never as HTML.

const SHOWN = 10; // rows of a table of tokens

const byId = (id) => document.getElementById(id);

function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  if (text !== "") element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const isolated = (text) => make("bdi", text);

function fillSelect(select, options, onChange) {
  select.replaceChildren(...options.map((text, index) => make("option", text, { value: index })));
  select.onchange = () => onChange(Number(select.value));
}

/** A row of a table: a name, with what is said of it outside the name's own direction. */
function tableRow(name, note, ...cells) {
  const line = make("tr"), first = make("th", "", { scope: "row" });
  first.append(isolated(shortened(name, 40)), note);
  line.append(first, ...cells.map((text) => make("td", text, { class: "number" })));
  return line;
}
