"use strict";
// Blind votes, left against right: which model made which is not in the page, nor in the names of what it loads.

const CHOICES = {left: "left is better", right: "right is better", tie: "equally good", both_bad: "both bad"};
const KEYS = {ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", ArrowUp: "both_bad"};
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const state = {question: "overall", ballot: null, shownAt: 0, busy: false, slide: false, zoom: 0, x: 50, y: 50};
const at = id => document.getElementById(id);

async function post(path, record) {
  const answer = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(record)});
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// One request at a time: a key that is held down, or pressed twice, votes once.
async function once(work) {
  if (state.busy) return;
  state.busy = true;
  try { await work(); } catch (error) { at("asked").textContent = error.message; } finally { state.busy = false; }
}

const next = () => once(async () => draw(await post("next", {question: state.question})));
const back = () => once(async () => { const last = await post("last", {question: state.question}); if (last.id) draw(last); });

const vote = choice => state.ballot && once(async () => {
  const seconds = (performance.now() - state.shownAt) / 1000;
  draw(await post("cast", {id: state.ballot.id, choice, seconds}));
});

function draw(ballot) {
  state.ballot = ballot.id ? ballot : null;
  const thing = ballot.kind === "video" ? "clip" : "picture";
  at("progress").max = ballot.count;
  at("progress").value = ballot.id ? ballot.position - 1 : ballot.count;
  at("position").textContent = ballot.id ? `${ballot.position} of ${ballot.count}` : `all ${ballot.count} done`;
  at("choices").hidden = !ballot.id;
  if (!ballot.id) {
    at("asked").textContent = "Thank you: nothing is left to vote on here.";
    at("prompt").textContent = "";
    at("samples").replaceChildren();
    return;
  }
  at("asked").textContent = state.question === "overall" ? `Which ${thing} is better?` : `Which ${thing} is better in ${plain(state.question)}?`;
  at("prompt").textContent = ballot.prompt;
  samples();
  state.shownAt = performance.now();
}

// Both samples anew: side by side, or one over the other.
function samples() {
  const {id, kind} = state.ballot, suffix = kind === "video" ? ".mp4" : ".png";
  const side = name => media(`ballot/${id}/${name}${suffix}`, `${name} sample`);
  const zoomed = (...children) => h("div", {class: "zoomed"}, children);
  let box;
  if (state.slide) {
    const range = h("input", {type: "range", min: 0, max: 100, value: 50, "aria-label": "how much of left covers right"});
    box = h("div", {class: "slider large"}, zoomed(side("left")), h("div", {class: "over"}, zoomed(side("right"))), range);
    range.addEventListener("input", () => box.style.setProperty("--at", `${range.value}%`));
  } else {
    box = h("div", {class: "side-by-side"}, ["left", "right"].map(name => h("figure", {}, zoomed(side(name)), h("figcaption", {}, name))));
  }
  at("samples").replaceChildren(inStep(box));
  zoomTo(0);
}

// Both are enlarged together, around the same point.
function zoomTo(place) {
  state.zoom = Math.min(ZOOMS.length - 1, Math.max(0, place));
  if (!state.zoom) [state.x, state.y] = [50, 50];
  for (const element of document.querySelectorAll(".zoomed > *")) {
    element.style.transform = `scale(${ZOOMS[state.zoom]})`;
    element.style.transformOrigin = `${state.x}% ${state.y}%`;
  }
}

function listen() {
  for (const [choice, words] of Object.entries(CHOICES)) at("choices").append(h("button", {onclick: () => vote(choice), "data-choice": choice}, words));
  at("choices").append(h("button", {onclick: back, class: "quiet"}, "back"), h("button", {class: "quiet", onclick: toggle}, "slider or side by side"));
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    if (event.key in KEYS) { if (!event.repeat) vote(KEYS[event.key]); }
    else if (event.key === "Backspace") back();
    else if (event.key === "s") toggle();
    else if (event.key === "+" || event.key === "=") zoomTo(state.zoom + 1);
    else if (event.key === "-") zoomTo(state.zoom - 1);
    else return;
    event.preventDefault();
  });
  const box = at("samples");
  box.addEventListener("wheel", event => { event.preventDefault(); point(event); zoomTo(state.zoom - Math.sign(event.deltaY)); }, {passive: false});
  box.addEventListener("pointermove", event => { if (state.zoom && event.buttons && !event.target.matches("input")) { point(event); zoomTo(state.zoom); } });
}

function toggle() {
  if (!state.ballot) return;
  state.slide = !state.slide;
  samples();
}

// The place within a sample, in percent, that the pointer is over.
function point(event) {
  const within = event.target.closest(".zoomed") ?? document.querySelector(".zoomed");
  const box = within.getBoundingClientRect();
  state.x = Math.min(100, Math.max(0, 100 * (event.clientX - box.left) / box.width));
  state.y = Math.min(100, Math.max(0, 100 * (event.clientY - box.top) / box.height));
}

async function begin() {
  const {run, rater, questions} = await (await fetch("booth.json")).json();
  const choose = choice(questions.map(name => [name, name === "overall" ? "overall" : plain(name)]), () => { state.question = choose.value; next(); });
  state.question = questions[0];
  at("about").append(h("span", {class: "small quiet"}, `${run}, voted on by ${rater} `), field("about", choose));
  listen();
  await next();
}

begin().catch(error => { at("asked").textContent = error.message; });
