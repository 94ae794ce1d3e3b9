"use strict";
// Two samples side by side with what decided, and the large view of one.

const VISIBLE = 0.1; // a continuous answer that moved by no more is not shown

// A sample of the run, from the page itself or from the server.
function picture({file}, label) {
  return media(page.media ? page.media[file] : `media/${page.index}/${file.split("/").map(encodeURIComponent).join("/")}`, label);
}

// base under tuned; the line between them is dragged, or moved by the arrow keys.
function slider(first, second, roles, prompt) {
  const range = h("input", {type: "range", min: 0, max: 100, value: 50, "aria-label": `how much of ${roles[0]} covers ${roles[1]}: ${prompt}`});
  const box = h("div", {class: "slider"}, picture(first, `${roles[0]}: ${prompt}`), h("div", {class: "over"}, picture(second, `${roles[1]}: ${prompt}`)), range);
  range.addEventListener("input", () => box.style.setProperty("--at", `${range.value}%`));
  return h("div", {}, inStep(box), h("div", {class: "ends"}, h("span", {}, `\u25c2 ${roles[0]}`), h("span", {}, `${roles[1]} \u25b8`)));
}

function sideBySide(first, second, roles, prompt) {
  const digits = page.checklist.decimals;
  const side = (sample, role) => h("figure", {}, picture(sample, `${role}: ${prompt}`),
    h("figcaption", {}, h("span", {}, role), sample.total === null ? null : h("span", {}, fixed(sample.total, digits))));
  return inStep(h("div", {class: "side-by-side"}, side(first, roles[0]), side(second, roles[1])));
}

// What each dimension gains, to the right, or pays, to the left of the middle. scale: the largest change there is.
function bars(names, values, scale) {
  const digits = page.checklist.decimals;
  return h("div", {class: "bars"}, names.flatMap((name, k) => {
    const value = values[k], width = Math.min(50, 50 * Math.abs(value) / (scale || 1));
    const bar = h("span", {class: `bar ${value >= 0 ? "better" : "worse"}`});
    bar.style.width = `${width}%`;
    bar.style.left = value >= 0 ? "50%" : `${50 - width}%`;
    return [h("span", {}, plain(name)), h("span", {class: "track"}, bar), h("span", {class: "value"}, signed(value, digits))];
  }));
}

// Questions that were answered otherwise for the second, those with the greatest effect first.
function differences(first, second) {
  const found = [];
  page.checklist.questions.forEach((question, k) => {
    const before = first.answers[k], after = second.answers[k];
    if (before === undefined || Math.abs(after - before) <= (question.number ? VISIBLE : 0)) return;
    found.push({question, before, after, effect: (after - before) * question.unit});
  });
  return found.sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
}

const answerWords = (question, answer) => question.number ? fixed(answer, 2) : {1: "yes", [-1]: "no", 0: "does not apply"}[answer];

// A question as it was asked about one prompt.
const asked = (question, prompt) => question.text.replace("{prompt}", prompt);

function answerList(changes, prompt) {
  const digits = page.checklist.decimals;
  return h("ul", {class: "answers"}, changes.map(({question, before, after, effect}) => h("li", {},
    h("span", {}, asked(question, prompt)), h("span", {class: "change"}, `${answerWords(question, before)} \u2192 ${answerWords(question, after)}, ${signed(effect, digits)}`))));
}

// The first answers in sight, the others behind a line to open.
function decided(first, second, prompt, inSight) {
  const changes = differences(first, second);
  if (!changes.length) return first.answers.length ? h("p", {class: "quiet"}, "The judge answered all questions alike.") : null;
  const rest = changes.slice(inSight);
  return h("div", {}, inSight ? answerList(changes.slice(0, inSight), prompt) : null,
    rest.length ? h("details", {}, h("summary", {}, inSight ? `${plural(rest.length, "more answer")} differ${rest.length === 1 ? "s" : ""}` : `${plural(changes.length, "answer")} differ${changes.length === 1 ? "s" : ""}`), answerList(rest, prompt)) : null);
}

// A comparison: {prompt, first, second, roles, verdict: [text, class], values, names, scale}. list: those that arrows leaf through.
function comparisonCard(comparison, index, list, {slide, inSight}) {
  const {prompt, first, second, roles, verdict} = comparison;
  const open = h("button", {class: "small", onclick: () => enlarge(list, index)}, "enlarge");
  return h("article", {class: "card", tabindex: -1},
    h("p", {}, prompt, verdict ? h("span", {class: `verdict ${verdict[1]}`}, verdict[0]) : null),
    slide ? slider(first, second, roles, prompt) : sideBySide(first, second, roles, prompt),
    comparison.values ? bars(comparison.names, comparison.values, comparison.scale) : null,
    decided(first, second, prompt, inSight), open);
}

// A large view that the arrow keys leaf through.
function enlarge(list, index) {
  const dialog = document.getElementById("large");
  const {prompt, first, second, roles, verdict, values, names, scale} = list[index];
  const slide = (dialog.dataset.slide ?? (roles?.[1] === "tuned" ? "yes" : "no")) === "yes";
  const move = by => enlarge(list, (index + by + list.length) % list.length);
  const toggle = () => { dialog.dataset.slide = slide ? "no" : "yes"; enlarge(list, index); };
  dialog.onkeydown = event => {
    if (event.target.matches("input")) return;
    if (event.key === "ArrowRight") move(1);
    else if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "s" && second) toggle();
    else return;
    event.preventDefault();
  };
  dialog.replaceChildren(
    h("div", {class: "top"}, h("div", {}, h("b", {}, prompt), h("p", {class: "quiet small"}, `${index + 1} of ${list.length}`, verdict ? ` \u00b7 ${verdict[0]}` : "")),
      h("div", {class: "controls"},
        second ? h("button", {onclick: toggle}, slide ? "side by side" : "slider") : null,
        h("button", {onclick: () => move(-1), "aria-label": "previous"}, "\u2190"), h("button", {onclick: () => move(1), "aria-label": "next"}, "\u2192"),
        h("button", {onclick: () => { delete dialog.dataset.slide; dialog.close(); }}, "close"))),
    second ? h("div", {class: slide ? "large" : "large two"}, slide ? slider(first, second, roles, prompt) : sideBySide(first, second, roles, prompt))
      : h("div", {class: "large"}, inStep(h("div", {}, picture(first, prompt)))),
    values ? bars(names, values, scale) : "",
    second ? decided(first, second, prompt, 6) ?? "" : allAnswers(first, prompt));
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("[aria-label=next]").focus();
}

function allAnswers(sample, prompt) {
  const digits = page.checklist.decimals;
  const rows = page.checklist.questions.map((question, k) => [asked(question, prompt), sample.answers[k], sample.answers[k] * question.unit, question]);
  return sample.answers.length ? table(["question", "answer", "adds"], rows.map(([text, answer, adds, question]) => [text, answerWords(question, answer), signed(adds, digits)])) : "";
}
