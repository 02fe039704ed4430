"use strict";
// All that comes from a record is written by textContent, and its address is one that was encoded when the page was made.
const STEP = 60, LANES = 14;
const byId = (id) => document.getElementById(id);
const [search, tag, stream, status, files, more, shown] =
  ["search", "tag", "stream", "status", "files", "more", "shown"].map(byId);
let entries = [], matching = [], drawn = 0, words = [];

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return (hours ? `${hours}:${pad(Math.floor(whole / 60) % 60)}` : Math.floor(whole / 60)) + ":" + pad(whole % 60);
}

async function unpack(part) {
  const bytes = Uint8Array.from(atob(part.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function textsOf(entry) {
  return [["speech", entry.transcript], ["caption", entry.captions], ["chapter", entry.chapters],
    ["summary", entry.summary], ["text", entry.texts]]
    .flatMap(([kind, parts]) => parts.map(([start, end, text]) => ({ kind, start, end, text })))
    .sort((a, b) => a.start - b.start);
}

const isHit = (text) => words.some((word) => text.toLowerCase().includes(word));

function refresh() {
  words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = tag.value.trim().toLowerCase();
  matching = entries.filter((entry) =>
    (!status.value || entry.status === status.value) &&
    (!stream.value || (stream.value === "speech" ? entry.transcript.length > 0 : entry.streams.includes(stream.value))) &&
    (!wanted || entry.tags.some((each) => each.tag.toLowerCase().includes(wanted))) &&
    words.every((word) => entry.all.includes(word)));
  files.replaceChildren();
  drawn = 0;
  shown.textContent = `${matching.length} of ${entries.length}`;
  draw();
}

function draw() {
  files.append(...matching.slice(drawn, drawn + STEP).map(row));
  drawn = Math.min(drawn + STEP, matching.length);
  more.hidden = drawn === matching.length;
}

function row(entry) {
  const article = make("article"), opener = make("button"), what = make("span", "what");
  opener.type = "button";
  opener.setAttribute("aria-expanded", "false");
  if (entry.picture) {
    const picture = make("img");
    picture.src = entry.picture;
    picture.alt = "";
    opener.append(picture);
  }
  what.append(make("bdi", "name", entry.name), " ");
  if (entry.status === "ok") what.append(make("span", "dim", [entry.length ? clock(entry.length) : "", entry.streams.join(" and ")].filter(Boolean).join(", ")));
  else what.append(make("span", "bad", entry.status), " ", make("span", "dim", entry.detail));
  const names = entry.tags.slice(0, 6).map((each) => `${each.tag} ${each.score.toFixed(2)}`);
  if (names.length) what.append(make("span", "found dim", names.join(" \u00b7 ")));
  if (words.length)
    for (const part of textsOf(entry).filter((each) => isHit(each.text)).slice(0, 2))
      what.append(make("span", "found", `${clock(part.start)} ${part.text.slice(0, 160)}`));
  opener.append(what);
  opener.addEventListener("click", () => toggle(article, opener, entry));
  article.append(opener);
  return article;
}

function toggle(article, opener, entry) {
  const open = article.querySelector(".detail");
  opener.setAttribute("aria-expanded", String(!open));
  if (open) open.remove();
  else if (entry.status === "ok") article.append(detail(entry));
}

function detail(entry) {
  const box = make("div", "detail"), player = make("video"), heads = [];
  player.controls = true;
  player.preload = "metadata";
  player.src = entry.url;
  box.append(player);
  const missing = make("p", "dim", "The file is not where it was, or this browser does not play it.");
  player.addEventListener("error", () => player.replaceWith(missing));
  const jump = (time) => { player.currentTime = time; player.play().catch(() => {}); };
  const length = Math.max(entry.length, ...entry.tags.flatMap((each) => each.times.map((span) => span[1])), 0.1);
  const lane = (name, kind, spans) => {
    const line = make("div", "lane"), track = make("div", "track"), head = make("div", "head");
    for (const [start, end, text] of spans) {
      const part = make("button", kind + (words.length && isHit(text ?? name) ? " hit" : ""));
      part.type = "button";
      part.style.left = `${100 * start / length}%`;
      part.style.width = `${100 * Math.max(end - start, 0) / length}%`;
      part.title = `${clock(start)}\u2013${clock(end)} ${text ?? name}`;
      part.setAttribute("aria-label", part.title);
      part.dataset.time = start;
      part.addEventListener("click", () => jump(start));
      track.append(part);
    }
    heads.push(head);
    track.append(head);
    line.append(make("span", "", name), track);
    if (spans.length) box.append(line);
  };
  lane("shots", "shot", entry.shots.map(([start, end]) => [start, end, "shot"]));
  lane("speech", "speech", entry.transcript);
  lane("captions", "both", entry.captions);
  lane("chapters", "both", entry.chapters);
  lane("summary", "both", entry.summary);
  lane("to read", "video", entry.texts);
  for (const each of entry.tags.filter((tag) => tag.times.length).slice(0, LANES))
    lane(each.tag, each.modality ?? "both", each.times.map(([start, end]) => [start, end]));
  player.addEventListener("timeupdate", () => {
    for (const head of heads) head.style.left = `${100 * player.currentTime / length}%`;
  });
  const list = make("ol", "words");
  for (const part of textsOf(entry)) {
    const line = make("li"), button = make("button", words.length && isHit(part.text) ? "hit" : "", `${clock(part.start)} ${part.text}`);
    button.type = "button";
    button.dataset.time = part.start;
    button.addEventListener("click", () => jump(part.start));
    line.append(button);
    list.append(line);
  }
  box.append(list);
  return box;
}

function choices() {
  const counts = new Map(), states = new Map();
  for (const entry of entries) {
    states.set(entry.status, (states.get(entry.status) ?? 0) + 1);
    for (const each of entry.tags) counts.set(each.tag, (counts.get(each.tag) ?? 0) + 1);
  }
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 500);
  byId("tags").append(...most.map(([name]) => { const one = make("option"); one.value = name; return one; }));
  status.append(...[...states].sort().map(([name, count]) => {
    const one = make("option", "", `${name} (${count})`);
    one.value = name;
    return one;
  }));
}

async function start() {
  for (const part of document.querySelectorAll("script.part")) {
    for (const entry of await unpack(part)) {
      entry.all = [entry.name, ...entry.tags.map((each) => each.tag), ...textsOf(entry).map((each) => each.text)].join("\n").toLowerCase();
      entries.push(entry);
    }
    part.remove();
  }
  choices();
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(refresh, 120); };
  for (const node of [search, tag]) node.addEventListener("input", soon);
  for (const node of [stream, status]) node.addEventListener("change", refresh);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  new IntersectionObserver((seen) => { if (seen.some((each) => each.isIntersecting)) draw(); }, { rootMargin: "600px" }).observe(more);
  refresh();
}
start();
