"use strict";
// Small things that every part of the page uses.

// h("p", {class: "quiet", onclick: f}, "text", child): an element. Text is never read as HTML.
function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  assign(element, properties);
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

function s(name, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  assign(element, properties);
  element.append(...children);
  return element;
}

function assign(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
}

const plain = name => name.replaceAll("_", " ");
const fixed = (value, digits) => value.toFixed(digits).replace("-", "\u2212");
const signed = (value, digits) => (value >= 0 ? "+" : "") + fixed(value, digits);
const percent = value => `${(100 * value).toFixed(0)} %`;
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// A table with a head; cells are texts or elements.
function table(head, rows) {
  const line = (cells, kind) => h("tr", {}, cells.map(cell => h(kind, {}, cell)));
  return h("div", {class: "wide", tabindex: 0, role: "group", "aria-label": "table"}, h("table", {}, h("thead", {}, line(head, "th")), h("tbody", {}, rows.map(row => line(row, "td")))));
}

function field(label, control) {
  return h("label", {class: "field"}, h("span", {class: "small quiet"}, label), control);
}

// choices: [[value, label], ...]
function choice(choices, onchange) {
  return h("select", {onchange}, choices.map(([value, label]) => h("option", {value}, label)));
}

// A long list, drawn in chunks as they come near the window and taken out again behind it, so that thousands scroll smoothly: no frame
// draws for longer than BUDGET_MS.
// render(item, index) -> element. Returns a function that stops watching.
const BUDGET_MS = 8;

function lazyList(container, items, render, {rows = false, size = 12} = {}) {
  const guess = rows ? 260 : 380;
  const width = container.clientWidth || 1000;
  const columns = rows ? 1 : Math.max(1, Math.floor((width + 16) / 286));
  const chunks = [], waiting = new Set();
  function fill() {
    const end = performance.now() + BUDGET_MS;
    for (const chunk of waiting) {
      const from = Number(chunk.dataset.from), wanted = Math.min(size, items.length - from);
      while (chunk.childElementCount < wanted) {
        if (performance.now() > end) return void requestAnimationFrame(fill);
        const index = from + chunk.childElementCount;
        chunk.append(render(items[index], index));
      }
      chunk.style.minHeight = "";
      waiting.delete(chunk);
    }
  }
  const watcher = new IntersectionObserver(entries => {
    for (const {target, isIntersecting} of entries) {
      if (isIntersecting && !target.firstChild) {
        if (!waiting.size) requestAnimationFrame(fill);
        waiting.add(target);
      } else if (!isIntersecting && waiting.delete(target)) {
        target.replaceChildren();
      } else if (!isIntersecting && target.firstChild && !target.contains(document.activeElement)) {
        target.style.minHeight = `${target.offsetHeight}px`;
        target.replaceChildren();
      }
    }
  }, {rootMargin: "900px 0px"});
  for (let from = 0; from < items.length; from += size) {
    const chunk = h("div", {class: rows ? "chunk rows" : "chunk", "data-from": from});
    chunk.style.minHeight = `${guess * Math.ceil(Math.min(size, items.length - from) / columns)}px`;
    chunks.push(chunk);
  }
  container.replaceChildren(...chunks);
  chunks.forEach(chunk => watcher.observe(chunk));
  return () => watcher.disconnect();
}
