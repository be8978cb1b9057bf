// Maps of embeddings, as SVG. They stand beside a table of the same rows, which is what a screen
// reader reads.

import { h, s, score } from "./dom.js";
import { legend, mark } from "./marks.js";

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
  const frame = s(
    "svg",
    { width: 14, height: 14, "aria-hidden": "true" },
    s("rect", { x: 2, y: 2, width: 10, height: 10, class: "window" }),
  );
  return h(
    "div",
    { class: "maps" },
    h(
      "figure",
      {},
      h("figcaption", {}, "Whole map"),
      picture(whole, points, placed, own, ranks, { open, near, label: "The whole map" }),
      legend(words, [
        [ring(), `this ${words.one}`],
        [frame, "what is enlarged"],
      ]),
      note,
    ),
    h(
      "figure",
      {},
      h("figcaption", {}, "Enlarged: the neighbours, numbered as in the table"),
      picture(near, points, placed, own, ranks, { open, label: "The map around the neighbours" }),
    ),
  );
}

/** What marks the rows that a map is about, for its legend. */
function ring() {
  return s(
    "svg",
    { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" },
    s("circle", { cx: 7, cy: 7, r: 5.5, class: "own" }),
  );
}

/** The whole map, with some rows of interest on it. */
export function overview(points, placed, ranks, { open, words, label }) {
  return h(
    "div",
    { class: "maps whole" },
    h(
      "figure",
      {},
      picture(extent([...points, ...placed]), points, placed, null, ranks, {
        open,
        label,
        near: null,
        ringed: true,
      }),
    ),
    legend(words, [[ring(), "an alert"]]),
  );
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
  const places = [
    [8, -5],
    [8, 12],
    [-18, -5],
    [-18, 12],
    [8, 4],
    [-18, 4],
    [18, -14],
    [18, 20],
  ];
  const free =
    places.find(([dx, dy]) =>
      taken.every(([a, b]) => Math.abs(a - x - dx) > 14 || Math.abs(b - y - dy) > 11),
    ) ?? places[0];
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
    class: "map",
    viewBox: `0 0 ${WIDTH} ${height}`,
    role: "img",
    "aria-label": ringed
      ? label
      : `${label}: ${placed.length - 1} neighbours, ${known} of them known positives. ` +
        "The table has their distances.",
  });
  const background = s("g", { class: "background" });
  const shown = new Set(placed.map((p) => p.key));
  for (const point of points) {
    if (inside(point) && !shown.has(point.key))
      background.append(mark(point, scoreOf, x(point), y(point), 2.5));
  }
  svg.append(background);
  if (near) {
    const [left, top] = [x({ x: near.left }), y({ y: near.high })];
    const side = Math.max(x({ x: near.right }) - left, 8);
    svg.append(s("rect", { x: left, y: top, width: side, height: side, class: "window" }));
  }
  for (const point of [...placed].reverse()) {
    const text =
      point.key === own ? "this one" : `no. ${ranks.get(point.key)}, score ${score(point.score)}`;
    const group = s(
      "g",
      {
        class: point.key === own ? "placed self" : "placed",
        "data-key": point.key,
        onclick: () => open(point.key),
      },
      s("title", {}, `${point.key}, ${text}`),
    );
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
