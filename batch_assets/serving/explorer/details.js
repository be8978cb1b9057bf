// What stands beside the list: one row, one entity.

import { ask } from "./api.js";
import { h, announce, count, moment, number, score, words } from "./dom.js";
import { bar, legend } from "./marks.js";
import {
  address,
  cell,
  columnsOf,
  heading,
  known,
  label,
  load,
  provenance,
  table,
} from "./parts.js";
import { filters, similar } from "./similar.js";
import { timeline } from "./timeline.js";

const PAGE = 200;

const title = (kind, id) =>
  h("h2", { id: "detail-title", tabindex: -1 }, `${kind} `, h("span", { class: "id" }, id));
const path = (...parts) => parts.map(encodeURIComponent).join("/");
const panel = (name, text) => {
  const body = h("div", {});
  return [h("section", { "aria-labelledby": name }, h("h3", { id: name }, text), body), body];
};

/** A row: its facts, why it has its score, its neighbours. Gives what to call with a new query. */
export function showPrediction(root, workload, id, query, go) {
  const facts = h("div", {});
  const [why, whyBody] = panel("why", "What raised the score");
  const [alike, alikeBody] = panel("similar", `Similar ${workload.words.many}`);
  const form = filters(workload, query, (given) => go([workload.name, "predictions", id], given));
  alike.insertBefore(form.element, alikeBody);
  root.replaceChildren(title(words(workload.words.one), id), facts);
  let now = query;
  const search = () => similar(alikeBody, workload, id, now, form, go);
  const explain = () =>
    load(
      whyBody,
      (signal) => ask(`v1/${path(workload.name, "predictions", id)}/explanation`, { signal }),
      (found) => explanation(workload, found, now),
    );
  // Only of a row that there is: else the same problem would be said three times.
  const rest = () => {
    const { explanation: explained, similar: searched } = workload.offers;
    if (explained) {
      root.append(why);
      explain();
    }
    if (searched) {
      root.append(alike);
      search();
    }
  };
  load(
    facts,
    (signal) => rowOf(workload, id, signal),
    (row) => {
      rest();
      return [factList(workload, row, query), provenance(workload, row, row.day)];
    },
  );
  return (given) => {
    now = given;
    if (alike.isConnected) search();
  };
}

/** One row; in a body, as an id with a slash in it has no path of its own. */
async function rowOf(workload, id, signal) {
  const body = { ids: [id] };
  const found = await ask(`v1/${workload.name}/predictions:batch`, { body, signal });
  if (found.predictions.length) return found.predictions[0];
  return ask(`v1/${path(workload.name, "predictions", id)}`, { signal });
}

function factList(workload, row, query) {
  const entities = Object.values(workload.entities);
  const ranges = workload.ranges.filter((name) => name !== workload.score && name in row);
  const shown = [workload.score, ...ranges, ...entities, workload.time];
  return h(
    "dl",
    { class: "facts" },
    shown.map((name) =>
      h(
        "div",
        { class: name === workload.score ? "main" : null },
        h("dt", {}, heading(workload, name)),
        h("dd", {}, cell(workload, name, row, { day: query.day })),
      ),
    ),
    h("div", {}, h("dt", {}, "Label"), h("dd", {}, known(workload, row.label))),
  );
}

function explanation(workload, found, query) {
  const reasons = found.reasons ?? [];
  const shares = Object.entries(found.contributions ?? {})
    .filter(([, value]) => Math.abs(value) >= 0.0005)
    .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = Math.max(...shares.map(([, value]) => Math.abs(value)), 1e-9);
  const tables = Object.entries(found).filter(
    ([, value]) =>
      Array.isArray(value) &&
      value.length &&
      typeof value[0] === "object" &&
      workload.key in value[0],
  );
  return [
    reasons.length
      ? h(
          "ol",
          { class: "reasons" },
          reasons.map((reason) =>
            h(
              "li",
              {},
              h("span", {}, reason.text),
              h("span", { class: "number note" }, ` +${reason.contribution.toFixed(1)}`),
            ),
          ),
        )
      : h("p", { class: "note" }, "Nothing raised it: it is no higher than usual."),
    ...(found.notes ?? []).map((text) => h("p", { class: "notice" }, text)),
    found.usual_score === undefined
      ? null
      : h(
          "p",
          { class: "note" },
          `A usual ${workload.words.one} has ${score(found.usual_score)}; this one has ${score(found.score)}. ` +
            "Beside each reason: what it added to the logit of the score.",
        ),
    shares.length
      ? h(
          "details",
          {},
          h("summary", {}, `All ${shares.length} values that moved it`),
          h(
            "table",
            { class: "shares" },
            h("caption", {}, "What each value added to the logit of the score, beside a usual one"),
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                h("th", { scope: "col" }, "Value"),
                h("th", { scope: "col", class: "number" }, "Added"),
                h("th", { scope: "col" }, h("span", { class: "hidden" }, "As a bar")),
              ),
            ),
            h(
              "tbody",
              {},
              shares.map(([name, value]) =>
                h(
                  "tr",
                  {},
                  h("th", { scope: "row" }, words(name)),
                  h(
                    "td",
                    { class: "number" },
                    (value > 0 ? "+" : "−") + Math.abs(value).toFixed(2),
                  ),
                  h("td", {}, bar(value, most)),
                ),
              ),
            ),
          ),
        )
      : null,
    ...tables.map(([name, rows]) =>
      h(
        "details",
        {},
        h("summary", {}, `${words(name)} (${rows.length})`),
        table(workload, columnsOf(workload, rows, ["distance", "known_on"]), rows, {
          caption: words(name),
          query: { day: query.day },
        }),
      ),
    ),
  ];
}

/** The course of one entity. */
export function showEntity(root, workload, name, id, query, go) {
  const column = workload.entities[name];
  const body = h("div", {});
  root.replaceChildren(title(label(workload, column), id), body);
  const rowsOf = (answer) => answer.predictions ?? answer.course ?? [];
  let rows = [];
  const build = (answer) => {
    rows = [...rows, ...rowsOf(answer)];
    const { latest, highest } = answer;
    const others = Object.values(workload.entities).filter((one) => one !== column);
    const ranges = workload.ranges.filter((one) => one !== workload.score);
    const positives = rows.filter((row) => row.label === 1).length;
    const top = rows.reduce(
      (best, row) => (row[workload.score] > best[workload.score] ? row : best),
      highest ?? latest,
    );
    const chart = timeline(rows, workload, {
      title: `Scores of ${label(workload, column).toLowerCase()} ${id}`,
      unit: workload.columns[ranges[0]]?.unit,
      open: (row) => go([workload.name, "predictions", row[workload.key]], { day: query.day }),
      link: (row) => cell(workload, workload.key, row, { day: query.day }),
    });
    const more = answer.next
      ? h(
          "button",
          {
            type: "button",
            onclick: () => load(body, (signal) => ask(answer.next, { signal }), build),
          },
          "Show older ones, too",
        )
      : null;
    announce(`${count(rows.length, workload.words.one, workload.words.many)} of ${id}`);
    return [
      h(
        "dl",
        { class: "facts" },
        fact("Newest score", score(latest[workload.score]), "main"),
        fact(
          "Highest",
          h(
            "a",
            {
              href: address([workload.name, "predictions", top[workload.key]], { day: query.day }),
            },
            score(top[workload.score]),
          ),
        ),
        fact(words(workload.words.many), number(rows.length) + (answer.next ? " newest" : "")),
        fact(`Known as ${workload.words.positive}`, number(positives)),
        fact("Newest", moment(latest[workload.time])),
      ),
      provenance(workload, latest, latest.day),
      chart,
      legend(workload.words),
      table(
        workload,
        [workload.time, workload.key, workload.score, "label", ...ranges, ...others],
        rows,
        { caption: `${words(workload.words.many)}, newest first`, query: { day: query.day } },
      ),
      more,
    ];
  };
  load(
    body,
    (signal) => ask(`v1/${path(workload.name, name, id)}?limit=${PAGE}`, { signal }),
    build,
  );
  return () => {};
}

const fact = (text, value, kind) =>
  h("div", { class: kind ?? null }, h("dt", {}, text), h("dd", {}, value));
