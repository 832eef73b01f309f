"use strict";
// Sorts and filters the table of all results; without this script all rows stand there, in the order of the runs.
const table = document.getElementById("all"), body = table.tBodies[0], rows = [...body.rows];
const filters = document.getElementById("filters"), shown = document.getElementById("shown");
for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => sort(column, head));
}
function sort(column, head) {
  const falling = head.getAttribute("aria-sort") !== "descending" && rows.some((row) => row.cells[column].dataset.v);
  const down = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : falling;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const numeric = rows.some((row) => row.cells[column].dataset.v !== undefined);
  const key = (row) => numeric ? parseFloat(row.cells[column].dataset.v ?? "NaN") : row.cells[column].textContent;
  const ordered = [...rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (numeric && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y);
    const order = numeric ? x - y : x.localeCompare(y);
    return down ? -order : order;
  });
  body.append(...ordered);
}
function filter() {
  const wanted = new FormData(filters), text = wanted.get("text").trim().toLowerCase();
  let count = 0;
  for (const row of rows) {
    const has = (name) => row.dataset[name] === wanted.get(name)
      || (name === "backbone" && row.dataset.backbone === "-");  // a method without backbone fits each
    const fits = ["run", "backbone", "protocol"].every((name) => !wanted.get(name) || has(name));
    row.hidden = !(fits && row.textContent.toLowerCase().includes(text));
    count += !row.hidden;
  }
  table.classList.toggle("one-protocol", wanted.get("protocol") !== "");  // the choice above says which
  shown.textContent = `${count} of ${rows.length} rows`;
}
filters.addEventListener("input", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.hidden = false;
filter();
