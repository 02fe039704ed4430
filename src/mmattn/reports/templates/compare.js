"use strict";
// Sorts, filters and highlights the rows of the page. It reads and writes attributes only, never markup.
// The choices are kept in the address, so that they survive a reload and can be shared.
const root = document.documentElement;
const table = document.getElementById("main");
const rows = Array.from(table.tBodies);
const heads = Array.from(table.tHead.rows[0].cells);
const search = document.getElementById("search");
const shown = document.getElementById("shown");
const chips = Array.from(document.querySelectorAll("button[data-chip]"));
const names = Array.from(document.querySelectorAll("button[data-pick]"));
const theme = document.getElementById("theme");
const KINDS = ["fusion", "attention"];
const THEMES = { "": "as the system", light: "light", dark: "dark" };
const state = { sort: "", find: "", chips: [], pick: [], theme: "", order: "", clip: "", above: "", below: "" };

function read() {
  const known = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  for (const key of Object.keys(state)) {
    const value = known.get(key) || "";
    state[key] = Array.isArray(state[key]) ? value.split("\n").filter(Boolean) : value;
  }
  if (!(state.theme in THEMES)) state.theme = "";
}

function keep() {
  const kept = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    const text = Array.isArray(value) ? value.join("\n") : value;
    if (text) kept.set(key, text);
  }
  history.replaceState(null, "", "#" + kept);
}

function filter() {
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = words.every((word) => text.includes(word)) && KINDS.every((kind) => chosen(kind, row.dataset[kind]));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = String(count);
  for (const chip of chips) chip.setAttribute("aria-pressed", String(state.chips.includes(named(chip))));
}

// Chips of one kind are alternatives; chips of different kinds must all match.
function chosen(kind, own) {
  const wanted = state.chips.filter((chip) => chip.startsWith(kind + ":"));
  return !wanted.length || wanted.includes(kind + ":" + own);
}

function named(chip) {
  return chip.dataset.kind + ":" + chip.dataset.chip;
}

function sort() {
  const [column, way] = state.sort.split(" ");
  heads.forEach((head, place) => {
    if (String(place) === column) head.setAttribute("aria-sort", way === "down" ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  const numeric = heads[Number(column || 0)]?.classList.contains("n");
  const key = (row) => {
    const cell = row.rows[0].cells[Number(column || 0)];
    if (cell === undefined) return 0;
    if (numeric) return cell.dataset.n === undefined ? NaN : Number(cell.dataset.n);
    return cell.dataset.t === undefined ? cell.textContent.trim().toLowerCase() : cell.dataset.t;
  };
  const keyed = rows.map((row, place) => [key(row), place, row]);
  const unknown = (value) => Number(Number.isNaN(value)); // last, whichever way
  keyed.sort(([a, i], [b, j]) => unknown(a) - unknown(b) || (a < b ? -1 : a > b ? 1 : 0) * (way === "down" ? -1 : 1) || i - j);
  table.append(...keyed.map(([, , row]) => row));
}

function highlight() {
  root.classList.toggle("picked", state.pick.length > 0);
  for (const one of document.querySelectorAll("[data-run]")) {
    one.classList.toggle("lit", state.pick.includes(one.dataset.run));
  }
  for (const name of names) name.setAttribute("aria-pressed", String(state.pick.includes(name.dataset.pick)));
}

function dress() {
  if (state.theme) root.dataset.theme = state.theme;
  else delete root.dataset.theme;
  theme.textContent = "theme: " + THEMES[state.theme];
}

function toggle(list, value) {
  return list.includes(value) ? list.filter((other) => other !== value) : [...list, value];
}

heads.forEach((head, place) => {
  head.querySelector("button").addEventListener("click", () => {
    const numeric = head.classList.contains("n");
    const first = numeric ? "down" : "up";
    const again = head.getAttribute("aria-sort") === (numeric ? "descending" : "ascending");
    state.sort = `${place} ${again ? (numeric ? "up" : "down") : first}`;
    sort();
    keep();
  });
});
search.addEventListener("input", () => {
  state.find = search.value;
  filter();
  keep();
});
for (const chip of chips) {
  chip.addEventListener("click", () => {
    state.chips = toggle(state.chips, named(chip));
    filter();
    keep();
  });
}
for (const name of names) {
  name.addEventListener("click", () => {
    state.pick = toggle(state.pick, name.dataset.pick);
    highlight();
    keep();
  });
}
for (const open of table.querySelectorAll("button.open")) {
  open.addEventListener("click", () => {
    const body = open.closest("tbody");
    const now = body.classList.toggle("opened");
    open.setAttribute("aria-expanded", String(now));
  });
}
theme.addEventListener("click", () => {
  const all = Object.keys(THEMES);
  state.theme = all[(all.indexOf(state.theme) + 1) % all.length];
  dress();
  keep();
});

root.classList.add("scripted");
read();
search.value = state.find;
dress();
filter();
if (state.sort) sort();
highlight();
const refresh = Number(document.body.dataset.refresh || 0);
if (refresh > 0) {
  setInterval(() => {
    const playing = Array.from(document.querySelectorAll("audio")).some((sound) => !sound.paused);
    if (!document.hidden && !playing && document.activeElement !== search) location.reload();
  }, 1000 * refresh);
}
