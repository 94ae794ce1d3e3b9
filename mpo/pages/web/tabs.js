"use strict";
// The four tabs. Each function fills a panel from `page`, the data of a run.

const OUTCOMES = {1: ["tuned wins", "won"], 0.5: ["tie", "tie"], 0: ["base wins", "lost"]};
const rateRow = entry => ({name: entry.judge ? entry.name.replace(`${judgeName(entry.judge)}_`, "") : entry.name, value: entry.win_rate, low: entry.ci95[0], high: entry.ci95[1]});
const interval = ([low, high]) => `${fixed(low, 3)} to ${fixed(high, 3)}`;
const thing = () => page.kind === "image" ? "picture" : "clip";

function resultTab(panel) {
  const {rates, others, guards, changes, heldout, tie, num_samples: count} = page.result;
  const total = rates[0], about = page.about, trained = about.result_step;
  const judges = [...new Set(others.map(row => row.judge))], given = page.selection.strategy === "given";
  const pictures = h("h2", {tabindex: -1}, "Base beside tuned, same seeds");
  panel.append(
    h("div", {class: "headline"},
      h("div", {}, h("b", {}, percent(total.win_rate)), h("span", {}, `win rate of tuned over base, ${percent(total.ci95[0])} to ${percent(total.ci95[1])}`)),
      others.filter(row => row.verdict).map(row => h("div", {}, h("b", {}, percent(row.win_rate)), h("span", {}, `by ${judgeName(row.judge)}, which did not choose: ${row.verdict}`))),
      guards.map(guard => h("div", {}, h("b", {}, `\u00d7 ${fixed(guard.ratio, 2)}`), h("span", {}, `${guard.name}, tuned over base, ${fixed(guard.ci95[0], 2)} to ${fixed(guard.ci95[1], 2)}`)))),
    h("p", {}, h("button", {onclick: () => { pictures.scrollIntoView(); pictures.focus({preventScroll: true}); }}, `see the ${thing()}s \u2193`)),
    h("p", {}, `A LoRA of rank ${about.rank} on ${about.model}, trained for ${plural(trained, "step")} of ${plural(about.batch_size, "pair")} (${about.method}, beta ${about.beta}, learning rate ${about.learning_rate}). `
      + (given ? `The pairs are as their source has them; the judge ${about.judges.join(" and ")} gives the first figures below.`
        : `The pairs are chosen by ${page.selection.strategy}, by the judge ${about.judges.join(" and ")}, which gives the first figures below too.`)),
    h("h2", {}, `Win rates on ${plural(total.num_prompts, "held-out prompt")}`),
    h("div", {class: "charts"},
      h("figure", {}, h("h3", {}, `by the judge${given ? "" : " that chose"}: ${about.judges.join(", ")}`), forest(`Win rate of tuned over base: total ${fixed(total.win_rate, 2)}`, rates.map(rateRow))),
      judges.map(judge => {
        const rows = others.filter(row => row.judge === judge);
        return h("figure", {}, h("h3", {}, `by ${judgeName(judge)}, which did not choose`), forest(`Win rate by ${judge}: ${rows[0].name} ${fixed(rows[0].win_rate, 2)}`, rows.map(rateRow)));
      })),
    h("p", {class: "quiet small"}, `${plural(about.num_seeds, thing())} a prompt and model, each pair from the same first noise. Scores that differ by no more than ${tie.toPrecision(2)} are a tie, which counts half a win. Intervals are of 95 %, by bootstrap over prompts. Another judge confirms the gain if its own interval lies above one half.`),
    h("details", {}, h("summary", {}, "The same as a table"), table(["", "win rate", "95 %", "ties", "losses", "base mean", "tuned mean"],
      [...rates.map(row => ["", row]), ...others.map(row => [`${judgeName(row.judge)}: `, row])].map(([judge, row]) => [judge + plain(row.name), fixed(row.win_rate, 3), interval(row.ci95), fixed(row.tie_rate, 3), fixed(row.loss_rate, 3), fixed(row.base_mean, 3), fixed(row.tuned_mean, 3)]))),
    guards.length ? h("details", {}, h("summary", {}, "What no judge sees"), table(["", "base mean", "tuned mean", "tuned / base", "95 %"], guards.map(guard => [guard.name, guard.base_mean.toPrecision(3), guard.tuned_mean.toPrecision(3), fixed(guard.ratio, 3), interval(guard.ci95)])),
      h("p", {class: "quiet small"}, `Diversity: mean colour difference (CIELAB) among the ${thing()}s of a prompt at different seeds. Motion, of clips: speed of the fastest twentieth of the pixels, in shorter sides a second. An interval below 1 is a loss.`)) : "",
    h("h2", {}, "Answers that changed most"), changed(changes, count),
    pictures, gallery(heldout, count),
    h("h2", {}, "How it came about"), table(["", ""], page.facts.map(([name, text]) => [name, h("span", {class: "text"}, text)])),
    h("details", {}, h("summary", {}, "The recipe, every value"), h("pre", {}, page.recipe)));
}

const judgeName = name => name.split(":").at(-1).toLowerCase();

function changed(changes, count) {
  if (!changes.length) return h("p", {}, "The judge answered all questions alike.");
  const digits = page.checklist.decimals + 1;
  const row = ({question: k, base, tuned, up, down, effect}) => {
    const question = page.checklist.questions[k];
    const ends = question.number ? `${fixed(base, 2)} \u2192 ${fixed(tuned, 2)}` : `yes ${percent(base)} \u2192 ${percent(tuned)}`;
    return h("li", {}, h("span", {}, asked(question, "\u2026")), h("span", {class: "change"}, `${ends} \u00b7 ${up} better, ${down} worse \u00b7 ${signed(effect, digits)}`));
  };
  return h("div", {}, h("p", {class: "quiet small"}, `Of ${plural(count, thing())}; last, the effect on the mean total.`), h("ul", {class: "answers broad"}, changes.slice(0, 8).map(row)),
    changes.length > 8 ? h("details", {}, h("summary", {}, `${changes.length - 8} more`), h("ul", {class: "answers broad"}, changes.slice(8).map(row))) : null);
}

function gallery(heldout, count) {
  const names = page.checklist.dimensions;
  const gains = heldout.map(row => row.tuned.dimensions.map((value, k) => value - row.base.dimensions[k]));
  const scale = Math.max(...gains.flat().map(Math.abs), 0);
  const all = heldout.map((row, k) => ({
    prompt: row.prompt, first: row.base, second: row.tuned, roles: ["base", "tuned"], row, verdict: OUTCOMES[row.outcome], names, values: gains[k], scale,
  }));
  const list = h("div"), said = h("span", {class: "small quiet", role: "status"});
  const by = choice([["total", "by total"], ...names.map((name, k) => [k, `by ${plain(name)}`])], draw);
  const outcome = choice([["", "all"], [1, "tuned wins"], [0.5, "ties"], [0, "base wins"]], draw);
  const slide = choice([["yes", "slider"], ["no", "side by side"]], draw);
  const search = h("input", {type: "search", placeholder: "a word of the prompt", "aria-label": "search prompts", oninput: draw});
  let stop = () => {};
  function draw() {
    const verdict = row => by.value === "total" ? row.outcome : row.outcomes[by.value];
    const word = search.value.toLowerCase();
    const shown = all.filter(each => (!outcome.value || verdict(each.row) === Number(outcome.value)) && each.prompt.toLowerCase().includes(word))
      .map(each => ({...each, verdict: OUTCOMES[verdict(each.row)]}));
    const left = all.length < count ? `; this file holds ${all.length} of ${count}, evenly spaced` : "";
    said.textContent = `${shown.length} of ${all.length}${left}`;
    stop();
    stop = lazyList(list, shown, (each, k) => comparisonCard(each, k, shown, {slide: slide.value === "yes", inSight: 0}));
  }
  requestAnimationFrame(draw);
  return h("div", {}, h("div", {class: "controls"}, field("show", outcome), by, slide, search, said), list);
}

const strategyName = name => name.startsWith("dimension:") ? `${plain(name.slice(10))} alone` : plain(name);

function pairsTab(panel) {
  const {selection, pairs, refused, num_pairs: count, samples, prompts} = page;
  const given = selection.strategy === "given", names = page.checklist.dimensions;
  const scale = Math.max(...[...pairs, ...refused].flatMap(pair => pair.margins ?? []).map(Math.abs), 0);
  const digits = page.checklist.decimals;
  const comparison = (pair, roles) => {
    const worst = pair.margins ? Math.min(...pair.margins) : 0;
    const pays = pair.margins && worst < -page.result.tie;
    return {
      prompt: prompts[pair.prompt], first: samples[pair.rejected], second: samples[pair.chosen], roles, names, values: pair.margins, scale, pair,
      verdict: pair.margin === null ? null : pays ? [`${signed(pair.margin, digits)}, pays with ${plain(names[pair.margins.indexOf(worst)])}`, "lost"] : [signed(pair.margin, digits), "won"],
    };
  };
  panel.append(
    h("p", {}, `${plural(selection.num_candidates, "candidate")}, ${plural(selection.num_compared, "pair")} compared, ${selection.num_kept.toLocaleString("en")} kept over ${plural(selection.num_prompts, "prompt")}. `
      + (given ? "The pairs are as their source has them; no judge was asked about them."
        : selection.strategy === "dominance" ? `A pair is kept if no ${selection.granularity} of the chosen is worse by more than ${selection.tie_threshold.toPrecision(2)} and its total is better by more than ${selection.margin}.`
          : `A pair is kept if the chosen is better by more than ${selection.margin} in ${strategyName(selection.strategy)}.`)),
    given ? "" : h("details", {open: true}, h("summary", {}, "What each way of choosing would find"),
      table(["strategy", "pairs", "share in which some dimension gets worse"], Object.entries(selection.strategies).map(([name, entry]) => [strategyName(name) + (name === selection.strategy ? " (used)" : ""), entry.num_pairs.toLocaleString("en"), percent(entry.share_worse_in_some_dimension)]))));
  const kept = pairs.map(pair => comparison(pair, ["rejected", "chosen"])), paid = refused.map(pair => comparison(pair, ["lower total", "higher total"]));
  const which = choice([["kept", "pairs that were kept"], ["refused", "what the total alone would choose, and dominance refuses"]], draw);
  const order = choice([["", "as they come"], ["wide", "widest margin first"], ["narrow", "narrowest margin first"]], draw);
  const search = h("input", {type: "search", placeholder: "a word of the prompt or of an answer", "aria-label": "search pairs", oninput: draw});
  const said = h("span", {class: "small quiet", role: "status"}), list = h("div");
  let stop = () => {};
  function draw() {
    const word = search.value.toLowerCase(), all = which.value === "kept" ? kept : paid;
    const shown = all.filter(each => !word || each.prompt.toLowerCase().includes(word) || differences(each.first, each.second).some(change => change.question.text.toLowerCase().includes(word)));
    if (order.value) shown.sort((a, b) => (order.value === "wide" ? 1 : -1) * (b.pair.margin - a.pair.margin));
    const left = which.value === "kept" && all.length < count ? `; shown are ${all.length} of ${count}, evenly spaced` : "";
    said.textContent = `${shown.length} of ${all.length}${left}`;
    stop();
    stop = lazyList(list, shown, (each, k) => comparisonCard(each, k, shown, {slide: false, inSight: 3}));
    if (!shown.length) list.replaceChildren(h("p", {class: "quiet"}, all.length ? "No pair has this word." : "There is none."));
  }
  panel.append(h("div", {class: "controls"}, given ? "" : field("show", which), given ? "" : order, search, said), list);
  requestAnimationFrame(draw);
}

function trainingTab(panel) {
  const {metrics, timing, validation, start_loss: start} = page.training, about = page.about;
  const steps = metrics.step ?? [];
  const one = (title, key, options) => lines(title, steps, [{name: key, values: metrics[key], smooth: true}], options);
  panel.append(
    h("p", {}, about.stopped_early ? `Training stopped early at step ${about.last_step}. ` : `${plural(about.last_step, "step")}. `, `The result is step ${about.result_step}. Thin: each step; thick: the mean of those around it; dashed: an untrained LoRA.`),
    h("div", {class: "charts"},
      one("loss", "loss", {level: start}), one("implicit accuracy", "accuracy", {level: 0.5}), one("implicit reward margin", "margin", {level: 0}),
      lines("error of the prediction", steps, [
        {name: "chosen", values: smoothed(metrics.chosen_error ?? [])}, {name: "rejected", values: smoothed(metrics.rejected_error ?? [])}, ...(metrics.reference_error ? [{name: "reference on the chosen", values: smoothed(metrics.reference_error)}] : [])]),
      metrics.reference_error ? lines("error of the chosen over the reference's", steps, [{name: "ratio", values: smoothed(metrics.chosen_error.map((value, k) => value / metrics.reference_error[k]))}], {level: 1}) : null,
      one("gradient norm", "grad_norm", {log: true}), one("learning rate", "learning_rate"), metrics.beta ? one("beta", "beta") : null,
      lines("seconds a step", timing.step, [{name: "seconds", values: timing.seconds_per_step, smooth: true}]),
      lines("peak memory, GiB", timing.step, [{name: "GiB", values: timing.peak_memory_gib}]),
      validation.length ? lines("mean score of the validation prompts", validation.map(each => each.step), [{name: "total", values: validation.map(each => each.total)}], {level: validation[0].total}) : null));
}

function candidatesTab(panel) {
  const {candidates, samples, prompts} = page, digits = page.checklist.decimals;
  const search = h("input", {type: "search", placeholder: "a word of the prompt", "aria-label": "search prompts", oninput: draw});
  const said = h("span", {class: "small quiet", role: "status"}), list = h("div");
  let stop = () => {};
  function row(entry) {
    const large = entry.samples.map((k, place) => ({prompt: prompts[entry.prompt], first: samples[k], verdict: samples[k].total === null ? null : [`place ${place + 1}, score ${fixed(samples[k].total, digits)}`, ""]}));
    const strip = entry.samples.map((k, place) => h("button", {class: "open", "aria-label": `place ${place + 1}: enlarge`, onclick: () => enlarge(large, place)},
      picture(samples[k], `place ${place + 1}: ${prompts[entry.prompt]}`), h("span", {class: "small quiet"}, samples[k].total === null ? "" : fixed(samples[k].total, digits))));
    return h("article", {class: "card", tabindex: -1}, h("p", {}, prompts[entry.prompt]), inStep(h("div", {class: "strip", "--count": strip.length}, strip)));
  }
  function draw() {
    const word = search.value.toLowerCase();
    const shown = candidates.filter(entry => prompts[entry.prompt].toLowerCase().includes(word));
    said.textContent = `${plural(shown.length, "prompt")} of ${candidates.length}`;
    stop();
    stop = lazyList(list, shown, row, {rows: true, size: 6});
  }
  panel.append(h("p", {}, `Every ${thing()} of a prompt, the best score first. Click on one for its answers.`), h("div", {class: "controls"}, search, said), list);
  requestAnimationFrame(draw);
}
