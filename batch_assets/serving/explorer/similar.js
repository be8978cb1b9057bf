// What a row is like: the search, its filters, and the map.

import { ask } from "./api.js";
import { h, announce, count, number } from "./dom.js";
import { maps, overview } from "./map.js";
import { columnsOf, heading, label, load, table } from "./parts.js";

const BACKGROUND = 1500;

/** The alerts of a day on the map; `listed` promises what the list shows, or null. */
export function showOverview(root, workload, listed, query, go) {
  load(
    root,
    async (signal) => {
      const { alerts, day: of } = (await listed) ?? { alerts: [] };
      const ids = alerts.map((row) => row[workload.key]);
      if (!ids.length) return null;
      return { alerts, of, ...(await onMap(workload, ids, signal)) };
    },
    (found) => {
      if (!found?.placed.points.length || found.placed.axes !== found.sample.axes) return [];
      const ranks = new Map(found.alerts.map((row, index) => [row[workload.key], index + 1]));
      return [
        h("h3", { class: "apart" }, `The alerts of ${found.of} on the map`),
        h(
          "p",
          { class: "note" },
          `What is near is alike to the model. Choose a ring to open its ${workload.words.one}; the list has the same.`,
        ),
        overview(found.sample.points, found.placed.points, ranks, {
          words: workload.words,
          label: `Map of the alerts of ${found.of}; the list of alerts has the same rows.`,
          open: (key) => go([workload.name, "predictions", key], { day: query.day }),
        }),
        mapNote(found.sample),
      ];
    },
  );
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
  return h(
    "p",
    { class: "note" },
    `Principal axes of the embeddings: they keep ${Math.round(100 * sample.kept)} % of what tells them apart. ` +
      `Behind: ${number(sample.points.length)} of ${number(sample.of_rows)} from ${sample.days.join(" to ")}, ` +
      "high scores shown more often than they are.",
  );
}

/** The form that narrows a search; its fields are what the workload says can be narrowed. */
export function filters(workload, query, submit) {
  const field = (name, text, attributes) => [
    h("label", { for: `f-${name}` }, text),
    h("input", {
      id: `f-${name}`,
      name,
      value: query[name] ?? "",
      autocomplete: "off",
      ...attributes,
    }),
  ];
  const exact = h("input", { type: "checkbox", id: "f-exact", name: "exact" });
  exact.checked = query.exact === "1";
  const pair = (low, high, text, attributes) =>
    h(
      "fieldset",
      {},
      h("legend", {}, text),
      field(low, "from", attributes),
      field(high, "to", attributes),
    );
  const { first, newest } = workload.days ?? {};
  const element = h(
    "form",
    {
      class: "filters",
      "aria-label": "Narrow the search",
      onsubmit: (event) => {
        event.preventDefault();
        submit(read());
      },
      onreset: () => submit({ day: query.day }),
    },
    h(
      "details",
      {},
      h("summary", {}, "Narrow the search"),
      h(
        "div",
        { class: "fields" },
        h(
          "fieldset",
          {},
          h("legend", {}, "How many"),
          field("k", "neighbours", { type: "number", min: 1, max: 100, placeholder: 10 }),
          h("label", {}, exact, " exact (compare with every one)"),
        ),
        pair("first_day", "last_day", "Days", { type: "date", min: first, max: newest }),
        workload.ranges.map((name) =>
          pair(`min_${name}`, `max_${name}`, heading(workload, name), {
            type: "number",
            step: "any",
            inputmode: "decimal",
          }),
        ),
        h(
          "fieldset",
          {},
          h("legend", {}, "Only of one"),
          workload.equals.map((name) =>
            field(name, label(workload, name), { maxlength: 200, spellcheck: "false" }),
          ),
        ),
        h(
          "div",
          { class: "buttons" },
          h("button", {}, "Search"),
          h("button", { type: "reset" }, "Clear"),
        ),
      ),
    ),
  );
  const names = [
    "k",
    "first_day",
    "last_day",
    ...workload.equals,
    ...workload.ranges.flatMap((name) => [`min_${name}`, `max_${name}`]),
  ];
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

/** The neighbours of a row within the bounds of a query, as a table and on the map. */
export function similar(root, workload, id, query, form, go) {
  form.write(query);
  const body = { [workload.key]: id, k: Number(query.k) || 10, exact: query.exact === "1" };
  for (const name of ["first_day", "last_day", ...workload.equals])
    if (query[name]) body[name] = query[name];
  for (const name of workload.ranges.flatMap((one) => [`min_${one}`, `max_${one}`])) {
    if (query[name] && Number.isFinite(Number(query[name]))) body[name] = Number(query[name]);
  }
  return load(
    root,
    async (signal) => {
      const found = await ask(`v1/${workload.name}/similar`, { body, signal });
      const ids = [id, ...found.neighbours.map((row) => row[workload.key])];
      const map =
        workload.offers.map && found.neighbours.length ? await onMap(workload, ids, signal) : {};
      return { found, ...map };
    },
    ({ found, sample, placed }) => {
      const rows = found.neighbours;
      const positives = rows.filter((row) => row.label === 1).length;
      const text = rows.length
        ? `${count(rows.length, "neighbour", "neighbours")}, ${positives} known as ${workload.words.positive}`
        : "No neighbours: nothing else is within these bounds.";
      announce(text);
      return [
        h("p", {}, text),
        rows.length ? neighbours(workload, id, found, sample, placed, query, go) : null,
        how(found),
      ];
    },
  );
}

function neighbours(workload, id, found, sample, placed, query, go) {
  const rows = found.neighbours;
  const listed = table(workload, columnsOf(workload, rows, ["distance"]), rows, {
    caption: "Nearest first",
    query: { day: query.day },
    numbered: true,
  });
  if (!placed?.points.length || placed.points[0].key !== id || placed.axes !== sample.axes) {
    return h(
      "div",
      {},
      listed,
      placed
        ? h("p", { class: "note" }, "Its vector is not on the map: another model made it.")
        : null,
    );
  }
  const ranks = new Map(rows.map((row, index) => [row[workload.key], index + 1]));
  const drawn = maps(sample.points, placed.points, id, ranks, {
    words: workload.words,
    note: mapNote(sample),
    open: (key) => key !== id && go([workload.name, "predictions", key], { day: query.day }),
  });
  const whole = h("div", {}, listed, drawn);
  const light = (event) => {
    const key = event.target.closest?.("[data-key]")?.dataset.key;
    for (const one of whole.querySelectorAll("[data-key]"))
      one.classList.toggle("lit", event.type !== "pointerout" && one.dataset.key === key);
  };
  for (const type of ["pointerover", "pointerout", "focusin"]) whole.addEventListener(type, light);
  return whole;
}

function how(found) {
  const parts = [
    found.exact
      ? "Exact: every vector in range was compared."
      : `Approximate: the index covers ${Math.round(100 * found.index_coverage)} % of the range.`,
    found.source
      ? `Read from ${found.source}${found.in_memory_days ? ` (${count(found.in_memory_days, "day", "days")} in memory)` : ""}.`
      : "",
    found.model_version ? `Vectors of model ${found.model_version}.` : "",
    found.stale ? "Stale." : "",
  ];
  return h("p", { class: "note" }, parts.filter(Boolean).join(" "));
}
