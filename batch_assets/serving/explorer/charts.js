// Two charts, drawn as SVG: a course in time, and a map. Each stands beside a table of the same
// rows, which is what a screen reader reads.

import { h, s, amount, moment, number, score } from "./dom.js";

const HEIGHT = 96;
const GAP = 26;
const LEFT = 44;
const RIGHT = 12;
const TOP = 10;
const HOURS = 3_600_000;

/** Class of a mark: what is known of a row, else how high its score is. */
function kind(row, scoreOf) {
  if (row.label === 1) return "positive";
  if (row.label === 0) return "negative";
  return scoreOf(row) >= 0.5 ? "high" : "low";
}

/** A cross for what is known to be so, a ring for what is known not to be, else a dot. */
function mark(row, scoreOf, x, y, r = 4) {
  const name = kind(row, scoreOf);
  if (name === "positive") {
    const d = `M${x - r},${y - r}L${x + r},${y + r}M${x - r},${y + r}L${x + r},${y - r}`;
    return s("path", { d, class: "mark positive" });
  }
  return s("circle", { cx: x, cy: y, r: name === "low" ? r - 1 : r, class: `mark ${name}` });
}

export function legend(words, extra = []) {
  const row = (label, value) => ({ label, score: value });
  const entries = [
    [row(1, 1), `known: ${words.positive}`],
    [row(0, 0), `known: ${words.negative}`],
    [row(null, 1), "score of 0.5 or more"],
    [row(null, 0), "lower score"],
  ];
  const icon = (one) =>
    s("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" },
      mark(one, (r) => r.score, 7, 7));
  return h("ul", { class: "legend" },
    entries.map(([one, text]) => h("li", {}, icon(one), text)),
    extra.map(([svg, text]) => h("li", {}, svg, text)));
}

/**
 * Scores above, sizes below, over one axis of time.
 *
 * @param rows newest first
 * @param workload says which columns are time, score and size
 * @param open called with the row that was chosen; link makes a link to one
 * @param chosen key of a row to be marked
 */
export function timeline(rows, workload, { open, link, chosen, title, unit }) {
  const scoreOf = (row) => row[workload.score];
  const size = workload.ranges.find((name) => name !== workload.score);
  const sizeOf = (row) => (size ? row[size] ?? 0 : 0);
  const timeOf = (row) => new Date(moment(row[workload.time]).replace(" ", "T") + "Z").getTime();
  const ordered = [...rows].reverse();
  const hint = "Point at the chart, or go through it with the left and right arrow keys; Enter opens.";
  const readout = h("p", { class: "readout", "aria-live": "polite" }, hint);
  const frame = h("div", {
    class: "chart", tabindex: 0, role: "group", "aria-roledescription": "chart",
    "aria-label": `${title}. ${hint} The table below has the same rows.`,
  });
  let at = ordered.findIndex((row) => row[workload.key] === chosen);
  let places = [];

  function draw() {
    const width = Math.max(frame.clientWidth, 240);
    const panels = size ? 2 : 1;
    const height = TOP + panels * HEIGHT + (panels - 1) * GAP + 22;
    const first = timeOf(ordered[0]);
    const last = Math.max(timeOf(ordered.at(-1)), first + HOURS);
    const most = Math.max(...ordered.map(sizeOf), 0) || 1;
    const x = (row) => LEFT + ((timeOf(row) - first) / (last - first)) * (width - LEFT - RIGHT);
    const y = (row) => TOP + (1 - scoreOf(row)) * HEIGHT;
    const floor = TOP + panels * HEIGHT + (panels - 1) * GAP;
    const tall = (row) => (sizeOf(row) / most) * HEIGHT;
    places = ordered.map((row) => [x(row), y(row)]);
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (const value of [0, 0.5, 1]) {
      const line = TOP + (1 - value) * HEIGHT;
      svg.append(
        s("line", { x1: LEFT, x2: width - RIGHT, y1: line, y2: line, class: "grid" }),
        s("text", { x: LEFT - 6, y: line + 4, class: "tick end" }, value.toFixed(1)));
    }
    if (size) {
      svg.append(
        s("line", { x1: LEFT, x2: width - RIGHT, y1: floor, y2: floor, class: "grid" }),
        s("line", { x1: LEFT, x2: width - RIGHT, y1: floor - HEIGHT, y2: floor - HEIGHT, class: "grid" }),
        s("text", { x: LEFT - 6, y: floor + 4, class: "tick end" }, "0"),
        s("text", { x: LEFT - 6, y: floor - HEIGHT + 4, class: "tick end" }, short(most)),
        s("text", { x: LEFT, y: floor - HEIGHT - 8, class: "caption" },
          workload.columns[size].label + (unit ? ` (${unit})` : "")),
        ...ordered.map((row) => s("line", {
          x1: x(row), x2: x(row), y1: floor, y2: floor - tall(row),
          class: `stem ${kind(row, scoreOf)}`,
        })));
    }
    for (const [place, text] of days(first, last, width)) {
      svg.append(s("text", { x: place, y: height - 4, class: "tick middle" }, text));
    }
    if (at >= 0) {
      svg.append(s("line", { x1: places[at][0], x2: places[at][0], y1: TOP, y2: floor, class: "cursor" }));
    }
    svg.append(...ordered.map((row) => mark(row, scoreOf, x(row), y(row))));
    frame.replaceChildren(svg);
  }

  function show(index) {
    at = Math.min(Math.max(index, 0), ordered.length - 1);
    const row = ordered[at];
    const sized = size ? `, ${workload.columns[size].label.toLowerCase()} ${amount(sizeOf(row))}` : "";
    readout.replaceChildren(`${moment(row[workload.time])}: score ${score(scoreOf(row))}${sized}, `, link(row));
    draw();
  }

  const nearest = (event) => {
    const left = event.clientX - frame.getBoundingClientRect().left;
    const away = places.map(([x]) => Math.abs(x - left));
    return away.indexOf(Math.min(...away));
  };
  frame.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: ordered.length - 1 };
    if (event.key in steps) {
      event.preventDefault();
      show(at < 0 ? ordered.length - 1 : steps[event.key]);
    } else if (event.key === "Enter" && at >= 0) {
      open(ordered[at]);
    }
  });
  frame.addEventListener("pointermove", (event) => show(nearest(event)));
  frame.addEventListener("click", (event) => {
    show(nearest(event));
    if (event.pointerType !== "touch") open(ordered[at]);
  });
  new ResizeObserver(draw).observe(frame);
  return h("figure", {}, h("figcaption", {}, "Score"), frame, readout);
}

function short(value) {
  return value >= 10_000 ? `${number(Math.round(value / 1000))}k` : number(Math.round(value));
}

/** Ticks at midnight, as many as there is room for. */
function days(first, last, width) {
  const room = Math.max(2, Math.floor((width - LEFT) / 64));
  const step = Math.max(1, Math.ceil((last - first) / (24 * HOURS) / room)) * 24 * HOURS;
  const ticks = [];
  for (let at = Math.ceil(first / (24 * HOURS)) * 24 * HOURS; at <= last; at += step) {
    const place = LEFT + ((at - first) / (last - first)) * (width - LEFT - RIGHT);
    if (place < width - 24) ticks.push([place, new Date(at).toISOString().slice(5, 10)]);
  }
  return ticks.length ? ticks : [[LEFT + 20, new Date(first).toISOString().slice(5, 10)]];
}

/**
 * The map twice: whole, and enlarged around a row and its neighbours.
 *
 * @param points background: {x, y, score, label}
 * @param placed of the row (first) and its neighbours: {key, x, y, score, label}
 * @param own key of the row
 * @param ranks key of a neighbour -> its place in the table
 */
export function maps(points, placed, own, ranks, { open, words, note }) {
  const whole = extent([...points, ...placed]);
  const near = square(placed, (whole.right - whole.left) / 200);
  const frame = s("svg", { width: 14, height: 14, "aria-hidden": "true" },
    s("rect", { x: 2, y: 2, width: 10, height: 10, class: "window" }));
  const target = s("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" },
    s("circle", { cx: 7, cy: 7, r: 5.5, class: "own" }));
  return h("div", { class: "maps" },
    h("figure", {},
      h("figcaption", {}, "Whole map"),
      picture(whole, points, placed, own, ranks, { open, near, label: "The whole map" }),
      legend(words, [[target, `this ${words.one}`], [frame, "what is enlarged"]]),
      note),
    h("figure", {},
      h("figcaption", {}, "Enlarged: the neighbours, numbered as in the table"),
      picture(near, points, placed, own, ranks, { open, label: "The map around the neighbours" })));
}

/** The whole map, with some rows of interest on it. */
export function overview(points, placed, ranks, { open, words, label }) {
  const target = s("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" },
    s("circle", { cx: 7, cy: 7, r: 5.5, class: "own" }));
  return h("div", { class: "maps whole" },
    h("figure", {}, picture(extent([...points, ...placed]), points, placed, null, ranks, { open, label, near: null, ringed: true })),
    legend(words, [[target, "an alert"]]));
}

/** Where all points are, with a margin; x and y have one scale everywhere. */
function extent(points) {
  const bounds = (values) => [Math.min(...values), Math.max(...values)];
  const [left, right] = bounds(points.map((p) => p.x));
  const [low, high] = bounds(points.map((p) => p.y));
  const margin = Math.max(right - left, high - low, 1e-6) * 0.05;
  return { left: left - margin, right: right + margin, low: low - margin, high: high + margin };
}

/** The same with equal sides, of a least length. */
function square(points, least) {
  const { left, right, low, high } = extent(points);
  const half = Math.max((right - left) * 0.6, (high - low) * 0.6, least);
  const [x, y] = [(left + right) / 2, (low + high) / 2];
  return { left: x - half, right: x + half, low: y - half, high: y + half };
}

const WIDTH = 480;

/** Where a number stands beside its point, so that it hides no other one if that is possible. */
function beside(x, y, taken) {
  const places = [[8, -5], [8, 12], [-18, -5], [-18, 12], [8, 4], [-18, 4], [18, -14], [18, 20]];
  const free = places.find(([dx, dy]) =>
    taken.every(([a, b]) => Math.abs(a - x - dx) > 14 || Math.abs(b - y - dy) > 11)) ?? places[0];
  const place = [x + free[0], y + free[1]];
  taken.push(place);
  return place;
}

function picture(view, points, placed, own, ranks, { open, near, label, ringed }) {
  const height = Math.round(WIDTH * Math.min(1, (view.high - view.low) / (view.right - view.left)));
  const x = (p) => ((p.x - view.left) / (view.right - view.left)) * WIDTH;
  const y = (p) => (1 - (p.y - view.low) / (view.high - view.low)) * height;
  const inside = (p) => x(p) >= 0 && x(p) <= WIDTH && y(p) >= 0 && y(p) <= height;
  const taken = [];
  const scoreOf = (p) => p.score;
  const known = placed.filter((p) => p.label === 1 && p.key !== own).length;
  const svg = s("svg", {
    class: "map", viewBox: `0 0 ${WIDTH} ${height}`, role: "img",
    "aria-label": ringed ? label : `${label}: ${placed.length - 1} neighbours, ${known} of them known positives. ` +
      "The table has their distances.",
  });
  const background = s("g", { class: "background" });
  const shown = new Set(placed.map((p) => p.key));
  for (const point of points) {
    if (inside(point) && !shown.has(point.key)) background.append(mark(point, scoreOf, x(point), y(point), 2.5));
  }
  svg.append(background);
  if (near) {
    const [left, top] = [x({ x: near.left }), y({ y: near.high })];
    const side = Math.max(x({ x: near.right }) - left, 8);
    svg.append(s("rect", { x: left, y: top, width: side, height: side, class: "window" }));
  }
  for (const point of [...placed].reverse()) {
    const text = point.key === own ? "this one" : `no. ${ranks.get(point.key)}, score ${score(point.score)}`;
    const group = s("g", {
      class: point.key === own ? "placed self" : "placed", "data-key": point.key,
      onclick: () => open(point.key),
    }, s("title", {}, `${point.key}, ${text}`));
    if (point.key === own || ringed) {
      group.append(s("circle", { cx: x(point), cy: y(point), r: ringed ? 6 : 11, class: "own" }));
    }
    group.append(mark(point, scoreOf, x(point), y(point), near || ringed ? 3.5 : 6));
    if (!near && !ringed && point.key !== own) {
      const [left, base] = beside(x(point), y(point), taken);
      group.append(s("text", { x: left, y: base, class: "rank" }, String(ranks.get(point.key))));
    }
    svg.append(group);
  }
  return svg;
}

/** Bars to both sides of the middle: what lowered, what raised. */
export function bar(value, most) {
  const half = (Math.abs(value) / most) * 49;
  return s("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line", { x1: 50, x2: 50, y1: 0, y2: 10, class: "grid" }),
    s("rect", {
      x: value < 0 ? 50 - half : 50, y: 1, width: half, height: 8,
      class: value < 0 ? "lowered" : "raised",
    }));
}

