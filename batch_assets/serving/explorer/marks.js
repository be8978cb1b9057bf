// Marks of rows in charts, and what they mean.

import { h, s } from "./dom.js";

/** Class of a mark: what is known of a row, else how high its score is. */
export function kind(row, scoreOf) {
  if (row.label === 1) return "positive";
  if (row.label === 0) return "negative";
  return scoreOf(row) >= 0.5 ? "high" : "low";
}

/** A cross for what is known to be so, a ring for what is known not to be, else a dot. */
export function mark(row, scoreOf, x, y, r = 4) {
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
    s(
      "svg",
      { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" },
      mark(one, (r) => r.score, 7, 7),
    );
  return h(
    "ul",
    { class: "legend" },
    entries.map(([one, text]) => h("li", {}, icon(one), text)),
    extra.map(([svg, text]) => h("li", {}, svg, text)),
  );
}

/** Bars to both sides of the middle: what lowered, what raised. */
export function bar(value, most) {
  const half = (Math.abs(value) / most) * 49;
  return s(
    "svg",
    { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line", { x1: 50, x2: 50, y1: 0, y2: 10, class: "grid" }),
    s("rect", {
      x: value < 0 ? 50 - half : 50,
      y: 1,
      width: half,
      height: 8,
      class: value < 0 ? "lowered" : "raised",
    }),
  );
}
