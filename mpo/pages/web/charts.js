"use strict";
// Charts as SVG at the width that there is, drawn anew when it changes, so that their letters keep their size on a phone.

function chart(label, draw) {
  const holder = h("div", {class: "chart"});
  let drawn = 0;
  new ResizeObserver(() => {
    const width = Math.round(holder.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    const svg = draw(width);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    holder.replaceChildren(svg);
  }).observe(holder);
  return holder;
}

// Rates with intervals, a row each: [{name, value, low, high}], as far around one half as they reach.
function forest(label, rows) {
  const level = 0.5, reach = Math.max(...rows.flatMap(row => [level - row.low, row.high - level]), 0.1);
  const from = Math.max(0, level - Math.ceil(reach * 10) / 10), to = Math.min(1, level + Math.ceil(reach * 10) / 10);
  return chart(label, width => {
    const left = Math.min(150, width * 0.36), right = 52, high = 26;
    const x = value => left + (Math.min(Math.max(value, from), to) - from) / (to - from) * (width - left - right);
    const height = rows.length * high + 24;
    const svg = s("svg", {viewBox: `0 0 ${width} ${height}`, height});
    const foot = rows.length * high;
    for (const tick of [from, level, to]) {
      svg.append(s("line", {class: tick === level ? "level" : "axis", x1: x(tick), x2: x(tick), y1: 0, y2: foot}));
      svg.append(s("text", {class: "quiet", x: x(tick), y: foot + 16, "text-anchor": "middle"}, tick.toFixed(1)));
    }
    rows.forEach((row, k) => {
      const y = k * high + high / 2, colour = row.high < level ? "s1" : row.low > level ? "s0" : "s2";
      svg.append(s("text", {x: 0, y: y + 4, "font-weight": k ? "normal" : "bold"}, shortened(plain(row.name), left)));
      svg.append(s("line", {class: colour, x1: x(row.low), x2: x(row.high), y1: y, y2: y, "stroke-width": 3}));
      svg.append(s("circle", {class: colour, cx: x(row.value), cy: y, r: 5, fill: "var(--ground)", "stroke-width": 3}));
      svg.append(s("text", {x: width, y: y + 4, "text-anchor": "end"}, row.value.toFixed(2)));
    });
    return svg;
  });
}

const shortened = (text, width) => text.length * 6.4 > width ? text.slice(0, Math.max(3, Math.floor(width / 6.4) - 1)) + "…" : text;

// Lines over steps. series: [{name, values, smooth}]; level: a dashed line across.
function lines(title, steps, series, {level = null, log = false, height = 190} = {}) {
  const shown = series.filter(each => each.values && each.values.length);
  if (!shown.length || !steps) return null;
  const last = shown.map(each => `${each.name} ends at ${number(each.values.at(-1))}`).join(", ");
  const readout = h("span", {class: "quiet small"});
  const key = shown.length > 1 ? h("div", {class: "key small"}, shown.map((each, k) => h("span", {class: `s${k}`}, h("i"), each.name))) : null;
  const scale = log ? Math.log10 : value => value;
  const all = shown.flatMap(each => each.values).concat(level === null ? [] : [level]).filter(value => !log || value > 0).map(scale);
  let low = quantile(all, 0.002), high = quantile(all, 0.998);
  if (level !== null) [low, high] = [Math.min(low, level), Math.max(high, level)];
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const draw = width => {
    const left = 56, bottom = 22, top = 6;
    const x = k => left + (shown[0].values.length < 2 ? 0.5 : k / (shown[0].values.length - 1)) * (width - left - 8);
    const y = value => top + (1 - (Math.min(Math.max(scale(value), low), high) - low) / (high - low)) * (height - top - bottom);
    const svg = s("svg", {viewBox: `0 0 ${width} ${height}`, height});
    const raw = value => log ? 10 ** value : value;
    for (const value of [low, (low + high) / 2, high]) {
      const at = y(raw(value));
      svg.append(s("line", {class: "axis", x1: left, x2: width - 8, y1: at, y2: at}), s("text", {class: "quiet", x: left - 6, y: at + 4, "text-anchor": "end"}, number(raw(value))));
    }
    svg.append(s("text", {class: "quiet", x: left, y: height - 6}, `step ${steps[0]}`), s("text", {class: "quiet", x: width - 8, y: height - 6, "text-anchor": "end"}, String(steps.at(-1))));
    if (level !== null) svg.append(s("line", {class: "level", x1: left, x2: width - 8, y1: y(level), y2: y(level)}));
    shown.forEach((each, k) => {
      const path = values => values.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      if (each.smooth) svg.append(s("path", {class: `line faint s${k}`, d: path(each.values)}));
      svg.append(s("path", {class: `line s${k}`, d: path(each.smooth ? smoothed(each.values) : each.values)}));
    });
    const cursor = s("line", {class: "level", y1: top, y2: height - bottom, visibility: "hidden"});
    svg.append(cursor);
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect(), count = shown[0].values.length;
      const k = Math.min(count - 1, Math.max(0, Math.round((event.clientX - box.left - left) / (width - left - 8) * (count - 1))));
      cursor.setAttribute("x1", x(k)); cursor.setAttribute("x2", x(k)); cursor.setAttribute("visibility", "visible");
      readout.textContent = ` step ${steps[k]}: ${shown.map(each => number(each.values[k])).join(" · ")}`;
    });
    svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); readout.textContent = ""; });
    return svg;
  };
  return h("figure", {}, h("h3", {}, title, readout), key, chart(`${title}, steps ${steps[0]} to ${steps.at(-1)}: ${last}`, draw));
}

function number(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 0.01 && size < 10000) return Number(value.toPrecision(3)).toString().replace("-", "\u2212");
  return value.toExponential(1).replace("-", "\u2212");
}

function smoothed(values) {
  const half = Math.max(1, Math.floor(values.length / 40));
  return values.map((_, k) => {
    const near = values.slice(Math.max(0, k - half), k + half + 1);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.round(share * (sorted.length - 1))];
}
