"use strict";
// Sorts and filters the rows that are there. It reads and writes attributes only, never markup.
const table = document.getElementById("files");
const body = table.tBodies[0];
const rows = Array.from(body.rows);
const search = document.getElementById("search");
const shown = document.getElementById("shown");
const chips = Array.from(document.querySelectorAll("button[data-kind]"));
let kind = "";

function refresh() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = (!kind || row.dataset.kinds.split(" ").includes(kind)) && words.every((word) => text.includes(word));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = String(count);
  for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.kind === kind));
}

function order(column, falling) {
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.n === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.n);
  };
  const keyed = rows.map((row, place) => [key(row), place, row]);
  keyed.sort(([a, i], [b, j]) => (a < b ? -1 : a > b ? 1 : 0) * (falling ? -1 : 1) || i - j);
  body.append(...keyed.map(([, , row]) => row));
}

Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    order(column, falling);
  });
});
for (const chip of chips) {
  chip.addEventListener("click", () => {
    kind = chip.dataset.kind === kind ? "" : chip.dataset.kind;
    refresh();
    if (kind) table.scrollIntoView({ block: "nearest" });
  });
}
search.addEventListener("input", refresh);
document.documentElement.classList.add("scripted");
refresh();
