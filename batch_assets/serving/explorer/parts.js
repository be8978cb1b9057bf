// Parts of pages that all views use: values of rows, where an answer came from, problems.

import { Problem } from "./api.js";
import { h, age, amount, distance, moment, number, outward, put, score, words } from "./dom.js";

/** "#/workload/kind/id?day=2026-04-14"; what has no value is left out of the query. */
export function address(parts, query = {}) {
  const given = Object.entries(query).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const text = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** The name in the path of the entity that a column holds, or undefined. */
export function entityOf(workload, column) {
  return Object.keys(workload.entities).find((name) => workload.entities[name] === column);
}

/** "person_id" of an entity as "Person". */
export function label(workload, column) {
  const text = workload.columns[column]?.label ?? words(column);
  return Object.values(workload.entities).includes(column) ? text.replace(/ id$/i, "") : text;
}

/** With its unit: "Amount, EUR". */
export function heading(workload, column) {
  const unit = workload.columns[column]?.unit;
  return unit ? `${label(workload, column)}, ${unit}` : label(workload, column);
}

/** The value of a column, linked where there is something behind it. */
export function cell(workload, column, row, query = {}) {
  const value = row[column];
  if (value === null || value === undefined) return "–";
  if (column === workload.key)
    return h("a", { href: address([workload.name, "predictions", value], query) }, value);
  const entity = entityOf(workload, column);
  if (entity) return h("a", { href: address([workload.name, entity, value], query) }, value);
  if (column === workload.score) return score(value);
  if (column === "distance") return distance(value);
  if (column === "label") return known(workload, value);
  if (column === workload.time || column.endsWith("_at"))
    return h("time", { datetime: value }, moment(value));
  if (workload.ranges.includes(column)) return amount(value);
  return typeof value === "number" ? number(value) : String(value);
}

/** What has become known of a row since. */
export function known(workload, value) {
  if (value === 1) return h("strong", { class: "badge positive" }, workload.words.positive);
  if (value === 0) return h("span", { class: "badge negative" }, workload.words.negative);
  return h("span", { class: "note" }, "not known");
}

const NUMERIC = new Set(["distance", "rank"]);

/** A table of rows; `marked` is the key of the row that the page is about. */
export function table(workload, columns, rows, { caption, marked, query, numbered } = {}) {
  const numeric = (name) =>
    NUMERIC.has(name) || name === workload.score || workload.ranges.includes(name);
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          numbered ? h("th", { scope: "col", class: "number" }, "No.") : null,
          columns.map((name) =>
            h(
              "th",
              { scope: "col", class: numeric(name) ? "number" : null },
              name === "label" ? "Label" : heading(workload, name),
            ),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row, index) =>
          h(
            "tr",
            {
              "data-key": row[workload.key] ?? null,
              "aria-current": marked !== undefined && row[workload.key] === marked ? "true" : null,
            },
            numbered ? h("td", { class: "number" }, String(index + 1)) : null,
            columns.map((name) =>
              h(
                name === workload.key ? "th" : "td",
                {
                  class: numeric(name) ? "number" : null,
                  scope: name === workload.key ? "row" : null,
                },
                cell(workload, name, row, query),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Where an answer came from, how old it is, and what made it. */
export function provenance(workload, answer, day) {
  const sources = {
    memory: "from this server's memory",
    redis: "from the shared cache",
    store: "from the store",
    realtime: "scored in real time, no batch has it yet",
  };
  const lineage =
    day && workload.lineage
      ? outward(
          `${workload.lineage}?view=partitions&partition=${encodeURIComponent(day)}`,
          "Run of this day",
        )
      : null;
  return h(
    "p",
    { class: "provenance" },
    answer.stale
      ? h("strong", { class: "badge stale" }, "stale")
      : h("span", { class: "badge fresh" }, "fresh"),
    h(
      "span",
      {},
      sources[answer.source] ?? (answer.source ? `from ${answer.source}` : "source not given"),
    ),
    answer.scored_at
      ? h(
          "span",
          {},
          "scored ",
          h("time", { datetime: answer.scored_at }, moment(answer.scored_at)),
          answer.age_seconds === undefined ? "" : ` (${age(answer.age_seconds)})`,
        )
      : null,
    answer.model_version ? h("span", {}, "model ", h("code", {}, answer.model_version)) : null,
    lineage ? h("span", {}, lineage) : null,
  );
}

/** What went wrong, in words, and a way to ask again. */
export function problemBox(error, again) {
  const shown =
    error instanceof Problem
      ? error
      : new Problem(
          0,
          "This page cannot show the answer",
          `It did not expect it: ${error.message}`,
        );
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h3", {}, shown.title),
    h("p", {}, shown.detail[0].toUpperCase() + shown.detail.slice(1)),
    shown.errors.length
      ? h(
          "ul",
          {},
          shown.errors.map((one) => h("li", {}, h("code", {}, one.field), `: ${one.detail}`)),
        )
      : null,
    again ? h("button", { type: "button", onclick: again }, "Try again") : null,
  );
}

const running = new WeakMap();

/** Fill a panel with what a question gives; a later question of the same panel replaces it. */
export async function load(panel, question, build) {
  running.get(panel)?.abort();
  const controller = new AbortController();
  running.set(panel, controller);
  panel.setAttribute("aria-busy", "true");
  if (!panel.hasChildNodes()) panel.append(h("p", { class: "note loading" }, "Loading …"));
  try {
    const answer = await question(controller.signal);
    if (!controller.signal.aborted) put(panel, build(answer));
    return answer;
  } catch (error) {
    if (controller.signal.aborted) return null;
    if (error.kind === "not-offered") {
      panel.replaceChildren(h("p", { class: "note" }, `Not available: ${error.detail}.`));
      return null;
    }
    if (!(error instanceof Problem)) console.error(error);
    panel.replaceChildren(problemBox(error, () => load(panel, question, build)));
    return null;
  } finally {
    if (!controller.signal.aborted) panel.removeAttribute("aria-busy");
  }
}

/** The columns of a table of rows: key, score, label, some further ones, then what else there is. */
export function columnsOf(workload, rows, extra) {
  const ranges = workload.ranges.filter((name) => name !== workload.score);
  const wanted = [
    workload.key,
    workload.score,
    "label",
    ...extra,
    workload.time,
    ...ranges,
    ...Object.values(workload.entities),
  ];
  return wanted.filter((name) => name in rows[0]);
}
