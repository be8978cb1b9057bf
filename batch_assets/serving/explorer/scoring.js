// A form for rows that no batch has seen; its fields are those of the workload's request schema.

import { ask } from "./api.js";
import { h, announce, score, words } from "./dom.js";
import { address, problemBox } from "./parts.js";

/** The form; what was scored opens as any other row. */
export function showScoring(root, workload, query, go) {
  const { words: named } = workload;
  const title = h("h2", { id: "detail-title", tabindex: -1 }, `Score one ${named.one} now`);
  if (!workload.offers.score) {
    root.replaceChildren(
      title,
      h("p", { class: "note" }, "This server scores nothing in real time."),
    );
    return;
  }
  const schema = workload.request;
  const fields = Object.entries(schema.properties).map(([name, property]) =>
    field(name, plain(property, schema), schema.examples?.[0]?.[name], name === workload.time),
  );
  const result = h("div", {});
  const button = h("button", {}, "Score");
  const form = h(
    "form",
    {
      class: "scoring",
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        try {
          const row = Object.fromEntries(
            fields.map((one) => [one.name, one.read()]).filter(([, value]) => value !== null),
          );
          const found = (await ask(`v1/${workload.name}/score`, { body: { rows: [row] } }))
            .predictions[0];
          const key = found[workload.key];
          announce(`Score ${score(found[workload.score])}`);
          result.replaceChildren(
            h(
              "p",
              { class: "outcome" },
              "Score ",
              h("strong", {}, score(found[workload.score])),
              ": ",
              h(
                "a",
                { href: address([workload.name, "predictions", key], { day: query.day }) },
                `open ${key}`,
              ),
            ),
          );
        } catch (error) {
          result.replaceChildren(problemBox(error));
        } finally {
          button.disabled = false;
        }
      },
    },
    fields.map((one) => one.element),
    h("div", { class: "buttons" }, button),
  );
  root.replaceChildren(
    title,
    h(
      "p",
      { class: "note" },
      `By the same model and the same features as the batch, over what is known now. ` +
        `The ${named.one} is kept, is found by look-up and search, and gives way to the nightly batch.`,
    ),
    form,
    result,
  );
}

/** The property without references and alternatives to null. */
function plain(property, schema) {
  const options = (property.anyOf ?? property.oneOf ?? [property]).map((one) =>
    one.$ref ? schema.$defs[one.$ref.split("/").at(-1)] : one,
  );
  const chosen = options.find((one) => one.type !== "null") ?? {};
  return { ...property, ...chosen, nullable: options.some((one) => one.type === "null") };
}

function field(name, property, example, isTime) {
  const numeric = property.type === "number" || property.type === "integer";
  const id = `s-${name}`;
  const input = h("input", {
    id,
    name,
    autocomplete: "off",
    spellcheck: "false",
    required: !property.nullable && property.default === undefined,
    type: numeric ? "number" : "text",
    step: numeric ? "any" : null,
    placeholder: example ?? null,
    min: property.minimum ?? null,
    max: property.maximum ?? null,
    maxlength: property.maxLength ?? null,
    value: isTime ? `${new Date().toISOString().slice(0, 19)}Z` : "",
    "aria-describedby": property.description ? `${id}-note` : null,
  });
  const read = () => {
    const text = input.value.trim();
    if (text === "") return null;
    return numeric ? Number(text) : text;
  };
  const note = property.description
    ? h("span", { id: `${id}-note`, class: "note" }, property.description)
    : null;
  return {
    name,
    read,
    element: h("div", { class: "field" }, h("label", { for: id }, words(name)), input, note),
  };
}
