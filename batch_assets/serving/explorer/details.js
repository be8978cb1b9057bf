// What stands beside the list: one row, one entity.

import { ask } from "./api.js";
import { bar, legend, maps, overview, timeline } from "./charts.js";
import { h, announce, count, moment, number, score, words } from "./dom.js";
import { address, cell, heading, known, label, load, provenance, table } from "./parts.js";

const BACKGROUND = 1500;
const PAGE = 200;

const title = (kind, id) => h("h2", { id: "detail-title", tabindex: -1 }, `${kind} `, h("span", { class: "id" }, id));
const path = (...parts) => parts.map(encodeURIComponent).join("/");
const panel = (name, text) => {
  const body = h("div", {});
  return [h("section", { "aria-labelledby": name }, h("h3", { id: name }, text), body), body];
};

/** A row: its facts, why it has its score, its neighbours. Gives what to call with a new query. */
export function showPrediction(root, workload, id, query, go) {
  const facts = h("div", { class: "facts-panel" });
  const [why, whyBody] = panel("why", "What raised the score");
  const [alike, alikeBody] = panel("similar", `Similar ${workload.words.many}`);
  const form = filters(workload, query, (given) => go([workload.name, "predictions", id], given));
  alike.insertBefore(form.element, alikeBody);
  root.replaceChildren(title(words(workload.words.one), id), facts, why, alike);
  load(facts, (signal) => ask(`v1/${path(workload.name, "predictions", id)}`, { signal }),
    (row) => [factList(workload, row, query), provenance(workload, row, row.day)]);
  if (workload.offers.explanation) {
    load(whyBody, (signal) => ask(`v1/${path(workload.name, "predictions", id)}/explanation`, { signal }),
      (found) => explanation(workload, found, query));
  } else why.hidden = true;
  const search = (given) => workload.offers.similar
    ? similar(alikeBody, workload, id, given, form, go)
    : alike.replaceChildren();
  search(query);
  return search;
}

/** The alerts of a day on the map; `listed` promises what the list shows, or null. */
export function showOverview(root, workload, listed, query, go) {
  load(root, async (signal) => {
    const { alerts, day: of } = (await listed) ?? { alerts: [] };
    const ids = alerts.map((row) => row[workload.key]);
    if (!ids.length) return null;
    return { alerts, of, ...(await onMap(workload, ids, signal)) };
  }, (found) => {
    if (!found?.placed.points.length || found.placed.axes !== found.sample.axes) return [];
    const ranks = new Map(found.alerts.map((row, index) => [row[workload.key], index + 1]));
    return [
      h("h3", { class: "apart" }, `The alerts of ${found.of} on the map`),
      h("p", { class: "note" }, `What is near is alike to the model. Choose a ring to open its ${workload.words.one}; the list has the same.`),
      overview(found.sample.points, found.placed.points, ranks, {
        words: workload.words, label: `Map of the alerts of ${found.of}; the list of alerts has the same rows.`,
        open: (key) => go([workload.name, "predictions", key], { day: query.day }),
      }),
      mapNote(found.sample),
    ];
  });
}

const samples = new Map();

/** Where rows are on the map, and its background, which is asked for once a state of the tables. */
async function onMap(workload, ids, signal) {
  const placed = await ask(`v1/${workload.name}/map:batch`, { body: { ids }, signal });
  let sample = samples.get(workload.name);
  if (sample?.axes !== placed.axes || sample.view !== placed.view) {
    sample = await ask(`v1/${workload.name}/map?size=${BACKGROUND}`, { signal });
    samples.set(workload.name, sample);
  }
  return { sample, placed };
}

function mapNote(sample) {
  return h("p", { class: "note" },
    `Principal axes of the embeddings: they keep ${Math.round(100 * sample.kept)} % of what tells them apart. ` +
    `Behind: ${number(sample.points.length)} of ${number(sample.of_rows)} from ${sample.days.join(" to ")}, ` +
    "high scores shown more often than they are.");
}

function factList(workload, row, query) {
  const entities = Object.values(workload.entities);
  const ranges = workload.ranges.filter((name) => name !== workload.score && name in row);
  const shown = [workload.score, ...ranges, ...entities, workload.time];
  return h("dl", { class: "facts" },
    shown.map((name) => h("div", { class: name === workload.score ? "main" : null },
      h("dt", {}, heading(workload, name)), h("dd", {}, cell(workload, name, row, { day: query.day })))),
    h("div", {}, h("dt", {}, "Label"), h("dd", {}, known(workload, row.label))));
}

function explanation(workload, found, query) {
  const reasons = found.reasons ?? [];
  const shares = Object.entries(found.contributions ?? {})
    .filter(([, value]) => Math.abs(value) >= 0.0005)
    .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = Math.max(...shares.map(([, value]) => Math.abs(value)), 1e-9);
  const tables = Object.entries(found).filter(([, value]) =>
    Array.isArray(value) && value.length && typeof value[0] === "object" && workload.key in value[0]);
  return [
    reasons.length
      ? h("ol", { class: "reasons" }, reasons.map((reason) => h("li", {}, h("span", {}, reason.text),
        h("span", { class: "number note" },
          ` +${reason.contribution.toFixed(1)}`))))
      : h("p", { class: "note" }, "Nothing raised it: it is no higher than usual."),
    ...(found.notes ?? []).map((text) => h("p", { class: "notice" }, text)),
    found.usual_score === undefined ? null
      : h("p", { class: "note" }, `A usual ${workload.words.one} has ${score(found.usual_score)}; this one has ${score(found.score)}. ` +
        "Beside each reason: what it added to the logit of the score."),
    shares.length ? h("details", {}, h("summary", {}, `All ${shares.length} values that moved it`),
      h("table", { class: "shares" },
        h("caption", {}, "What each value added to the logit of the score, beside a usual one"),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Value"), h("th", { scope: "col", class: "number" }, "Added"),
          h("th", { scope: "col" }, h("span", { class: "hidden" }, "As a bar")))),
        h("tbody", {}, shares.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, words(name)),
          h("td", { class: "number" }, (value > 0 ? "+" : "−") + Math.abs(value).toFixed(2)),
          h("td", {}, bar(value, most))))))) : null,
    ...tables.map(([name, rows]) => h("details", {}, h("summary", {}, `${words(name)} (${rows.length})`),
      table(workload, columnsOf(workload, rows, ["distance", "known_on"]), rows,
        { caption: words(name), query: { day: query.day } }))),
  ];
}

function columnsOf(workload, rows, extra) {
  const ranges = workload.ranges.filter((name) => name !== workload.score);
  const wanted = [workload.key, workload.score, "label", ...extra, workload.time, ...ranges, ...Object.values(workload.entities)];
  return wanted.filter((name) => name in rows[0]);
}

/** The form that narrows a search; its fields are what the workload says can be narrowed. */
function filters(workload, query, submit) {
  const field = (name, text, attributes) => [
    h("label", { for: `f-${name}` }, text),
    h("input", { id: `f-${name}`, name, value: query[name] ?? "", autocomplete: "off", ...attributes }),
  ];
  const exact = h("input", { type: "checkbox", id: "f-exact", name: "exact" });
  exact.checked = query.exact === "1";
  const pair = (low, high, text, attributes) => h("fieldset", {}, h("legend", {}, text),
    field(low, "from", attributes), field(high, "to", attributes));
  const { first, newest } = workload.days ?? {};
  const element = h("form", { class: "filters", "aria-label": "Narrow the search", onsubmit: (event) => {
    event.preventDefault();
    submit(read());
  }, onreset: () => submit({ day: query.day }) },
  h("details", {}, h("summary", {}, "Narrow the search"), h("div", { class: "fields" },
    h("fieldset", {}, h("legend", {}, "How many"), field("k", "neighbours", { type: "number", min: 1, max: 100, placeholder: 10 }),
      h("label", {}, exact, " exact (compare with every one)")),
    pair("first_day", "last_day", "Days", { type: "date", min: first, max: newest }),
    workload.ranges.map((name) => pair(`min_${name}`, `max_${name}`, heading(workload, name), {
      type: "number", step: "any", inputmode: "decimal",
    })),
    h("fieldset", {}, h("legend", {}, "Only of one"), workload.equals.map((name) =>
      field(name, label(workload, name), { maxlength: 200, spellcheck: "false" }))),
    h("div", { class: "buttons" }, h("button", {}, "Search"), h("button", { type: "reset" }, "Clear")))));
  const names = ["k", "first_day", "last_day", ...workload.equals,
    ...workload.ranges.flatMap((name) => [`min_${name}`, `max_${name}`])];
  const read = () => ({
    ...Object.fromEntries(names.map((name) => [name, element.elements[name].value.trim()])),
    exact: exact.checked ? "1" : null,
    day: query.day,
  });
  const write = (given) => {
    for (const name of names) element.elements[name].value = given[name] ?? "";
    exact.checked = given.exact === "1";
    const used = names.some((name) => given[name]) || given.exact;
    if (used) element.querySelector("details").open = true;
  };
  write(query);
  return { element, write };
}

function similar(root, workload, id, query, form, go) {
  form.write(query);
  const body = { [workload.key]: id, k: Number(query.k) || 10, exact: query.exact === "1" };
  for (const name of ["first_day", "last_day", ...workload.equals]) if (query[name]) body[name] = query[name];
  for (const name of workload.ranges.flatMap((one) => [`min_${one}`, `max_${one}`])) {
    if (query[name] && Number.isFinite(Number(query[name]))) body[name] = Number(query[name]);
  }
  return load(root, async (signal) => {
    const found = await ask(`v1/${workload.name}/similar`, { body, signal });
    const ids = [id, ...found.neighbours.map((row) => row[workload.key])];
    const map = workload.offers.map && found.neighbours.length ? await onMap(workload, ids, signal) : {};
    return { found, ...map };
  }, ({ found, sample, placed }) => {
    const rows = found.neighbours;
    const positives = rows.filter((row) => row.label === 1).length;
    const text = rows.length
      ? `${count(rows.length, "neighbour", "neighbours")}, ${positives} known as ${workload.words.positive}`
      : "No neighbours: nothing else is within these bounds.";
    announce(text);
    return [h("p", {}, text), rows.length ? neighbours(workload, id, found, sample, placed, query, go) : null, how(found)];
  });
}

function neighbours(workload, id, found, sample, placed, query, go) {
  const rows = found.neighbours;
  const listed = table(workload, columnsOf(workload, rows, ["distance"]), rows,
    { caption: "Nearest first", query: { day: query.day }, numbered: true });
  if (!placed?.points.length || placed.points[0].key !== id || placed.axes !== sample.axes) {
    return h("div", {}, listed, placed ? h("p", { class: "note" }, "Its vector is not on the map: another model made it.") : null);
  }
  const ranks = new Map(rows.map((row, index) => [row[workload.key], index + 1]));
  const drawn = maps(sample.points, placed.points, id, ranks, {
    words: workload.words, note: mapNote(sample),
    open: (key) => key !== id && go([workload.name, "predictions", key], { day: query.day }),
  });
  const whole = h("div", {}, listed, drawn);
  const light = (event) => {
    const key = event.target.closest?.("[data-key]")?.dataset.key;
    for (const one of whole.querySelectorAll("[data-key]")) one.classList.toggle("lit", event.type !== "pointerout" && one.dataset.key === key);
  };
  for (const type of ["pointerover", "pointerout", "focusin"]) whole.addEventListener(type, light);
  return whole;
}

function how(found) {
  const parts = [
    found.exact ? "Exact: every vector in range was compared." : `Approximate: the index covers ${Math.round(100 * found.index_coverage)} % of the range.`,
    found.source ? `Read from ${found.source}${found.in_memory_days ? ` (${count(found.in_memory_days, "day", "days")} in memory)` : ""}.` : "",
    found.model_version ? `Vectors of model ${found.model_version}.` : "",
    found.stale ? "Stale." : "",
  ];
  return h("p", { class: "note" }, parts.filter(Boolean).join(" "));
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
    const top = rows.reduce((best, row) => (row[workload.score] > best[workload.score] ? row : best), highest ?? latest);
    const chart = timeline(rows, workload, {
      title: `Scores of ${label(workload, column).toLowerCase()} ${id}`,
      unit: workload.columns[ranges[0]]?.unit,
      open: (row) => go([workload.name, "predictions", row[workload.key]], { day: query.day }),
      link: (row) => cell(workload, workload.key, row, { day: query.day }),
    });
    const more = answer.next
      ? h("button", { type: "button", onclick: () => load(body, (signal) => ask(answer.next, { signal }), build) }, "Show older ones, too")
      : null;
    announce(`${count(rows.length, workload.words.one, workload.words.many)} of ${id}`);
    return [
      h("dl", { class: "facts" },
        fact("Newest score", score(latest[workload.score]), "main"),
        fact("Highest", h("a", { href: address([workload.name, "predictions", top[workload.key]], { day: query.day }) }, score(top[workload.score]))),
        fact(words(workload.words.many), number(rows.length) + (answer.next ? " newest" : "")),
        fact(`Known as ${workload.words.positive}`, number(positives)),
        fact("Newest", moment(latest[workload.time]))),
      provenance(workload, latest, latest.day),
      chart,
      legend(workload.words),
      table(workload, [workload.time, workload.key, workload.score, "label", ...ranges, ...others], rows,
        { caption: `${words(workload.words.many)}, newest first`, query: { day: query.day } }),
      more,
    ];
  };
  load(body, (signal) => ask(`v1/${path(workload.name, name, id)}?limit=${PAGE}`, { signal }), build);
  return () => {};
}

const fact = (text, value, kind) => h("div", { class: kind ?? null }, h("dt", {}, text), h("dd", {}, value));

