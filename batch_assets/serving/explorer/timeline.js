// The course of scores in time, as SVG. It stands beside a table of the same rows, which is what
// a screen reader reads.

import { h, s, amount, moment, number, score } from "./dom.js";
import { kind, mark } from "./marks.js";

const HEIGHT = 96;
const GAP = 26;
const LEFT = 44;
const RIGHT = 12;
const TOP = 10;
const HOURS = 3_600_000;

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
  const sizeOf = (row) => (size ? (row[size] ?? 0) : 0);
  const timeOf = (row) => new Date(moment(row[workload.time]).replace(" ", "T") + "Z").getTime();
  const ordered = [...rows].reverse();
  const hint =
    "Point at the chart, or go through it with the left and right arrow keys; Enter opens.";
  const readout = h("p", { class: "readout", "aria-live": "polite" }, hint);
  const frame = h("div", {
    class: "chart",
    tabindex: 0,
    role: "group",
    "aria-roledescription": "chart",
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
    const svg = s("svg", {
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      "aria-hidden": "true",
    });
    for (const value of [0, 0.5, 1]) {
      const line = TOP + (1 - value) * HEIGHT;
      svg.append(
        s("line", { x1: LEFT, x2: width - RIGHT, y1: line, y2: line, class: "grid" }),
        s("text", { x: LEFT - 6, y: line + 4, class: "tick end" }, value.toFixed(1)),
      );
    }
    if (size) {
      svg.append(
        s("line", { x1: LEFT, x2: width - RIGHT, y1: floor, y2: floor, class: "grid" }),
        s("line", {
          x1: LEFT,
          x2: width - RIGHT,
          y1: floor - HEIGHT,
          y2: floor - HEIGHT,
          class: "grid",
        }),
        s("text", { x: LEFT - 6, y: floor + 4, class: "tick end" }, "0"),
        s("text", { x: LEFT - 6, y: floor - HEIGHT + 4, class: "tick end" }, short(most)),
        s(
          "text",
          { x: LEFT, y: floor - HEIGHT - 8, class: "caption" },
          workload.columns[size].label + (unit ? ` (${unit})` : ""),
        ),
        ...ordered.map((row) =>
          s("line", {
            x1: x(row),
            x2: x(row),
            y1: floor,
            y2: floor - tall(row),
            class: `stem ${kind(row, scoreOf)}`,
          }),
        ),
      );
    }
    for (const [place, text] of days(first, last, width)) {
      svg.append(s("text", { x: place, y: height - 4, class: "tick middle" }, text));
    }
    if (at >= 0) {
      svg.append(
        s("line", { x1: places[at][0], x2: places[at][0], y1: TOP, y2: floor, class: "cursor" }),
      );
    }
    svg.append(...ordered.map((row) => mark(row, scoreOf, x(row), y(row))));
    frame.replaceChildren(svg);
  }

  function show(index) {
    at = Math.min(Math.max(index, 0), ordered.length - 1);
    const row = ordered[at];
    const sized = size
      ? `, ${workload.columns[size].label.toLowerCase()} ${amount(sizeOf(row))}`
      : "";
    readout.replaceChildren(
      `${moment(row[workload.time])}: score ${score(scoreOf(row))}${sized}, `,
      link(row),
    );
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
