"use strict";
// Begins: reads the data, from the file itself or from `mpo view`, and switches tabs.

const TABS = {result: resultTab, pairs: pairsTab, training: trainingTab, candidates: candidatesTab};
let page = null;

async function begin() {
  const held = document.getElementById("data");
  if (held) {
    page = JSON.parse(held.textContent);
    page.media = JSON.parse(document.getElementById("media").textContent);
  } else {
    const runs = await (await fetch("runs.json")).json();
    const index = Math.max(0, runs.findIndex((_, k) => String(k) === new URLSearchParams(location.search).get("run")));
    const answer = await fetch(`data/${index}.json`);
    if (!answer.ok) throw new Error(await answer.text());
    page = {...await answer.json(), index};
    if (runs.length > 1) document.getElementById("runs").append(field("run", h("select", {onchange: event => { location.search = `?run=${event.target.value}`; }}, runs.map((name, k) => h("option", {value: k, selected: k === index}, name)))));
  }
  document.title = `${page.name}: tuned against base`;
  document.getElementById("name").textContent = page.name;
  document.getElementById("description").textContent = page.description;
  document.getElementById("version").textContent = `Written by mpo ${page.version}.`;
  show(location.hash.slice(1));
  addEventListener("hashchange", () => show(location.hash.slice(1)));
}

function show(name) {
  const chosen = name in TABS ? name : "result";
  for (const each of Object.keys(TABS)) {
    const tab = document.getElementById(`tab-${each}`), panel = document.getElementById(`panel-${each}`);
    tab.setAttribute("aria-selected", each === chosen);
    tab.tabIndex = each === chosen ? 0 : -1;
    panel.hidden = each !== chosen;
    if (each === chosen && !panel.firstChild) TABS[each](panel);
  }
}

function select(name) {
  history.replaceState(null, "", `#${name}`);
  show(name);
  scrollTo(0, 0);
}

for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => select(tab.id.slice(4)));

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("large").open) return;
  const tabs = Object.keys(TABS), panel = document.querySelector("[role=tabpanel]:not([hidden])");
  if (event.target.matches("[role=tab]") && /Arrow(Left|Right)/.test(event.key)) {
    const next = tabs[(tabs.indexOf(event.target.id.slice(4)) + (event.key === "ArrowRight" ? 1 : 3)) % 4];
    select(next);
    document.getElementById(`tab-${next}`).focus();
  } else if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  } else if (/^[1-4]$/.test(event.key)) select(tabs[event.key - 1]);
  else if (event.key === "/") panel.querySelector("input[type=search]")?.focus();
  else if (/Arrow(Left|Right)/.test(event.key)) step(panel, event.key === "ArrowRight" ? 1 : -1);
  else if (event.key === "Enter" && event.target.matches(".card")) event.target.querySelector("button")?.click();
  else return;
  event.preventDefault();
});

// The arrow keys go from card to card.
function step(panel, by) {
  const cards = [...panel.querySelectorAll(".card")];
  const at = cards.indexOf(document.activeElement?.closest(".card"));
  const next = cards[at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + by))];
  next?.focus();
  next?.scrollIntoView({block: "center"});
}

begin().catch(error => { document.getElementById("panel-result").replaceChildren(h("p", {role: "alert"}, error.message)); });
