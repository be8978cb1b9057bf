// Shows openapi.json as a page on which each question can be asked. No library, no build step.

const page = document.querySelector.bind(document);

/** An element with attributes and children; strings become text, never markup. */
function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const spec = await (await fetch("openapi.json")).json();
const schemas = spec.components.schemas;
const referred = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").pop()] : schema);

/** What a value may be, in a few words; links to the model if it is one. */
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return element("a", { href: `#model-${name}` }, name);
  }
  const several = schema.anyOf ?? schema.oneOf;
  if (several && !schema.type) {
    return element("span", {}, ...several.flatMap((one, n) => (n ? [" or ", kind(one)] : [kind(one)])));
  }
  if (schema.type === "array") return element("span", {}, "list of ", kind(schema.items), bounds(schema));
  if (schema.enum || "const" in schema) return JSON.stringify(schema.enum ?? schema.const);
  return `${schema.format ?? schema.type ?? "any"}${bounds(schema)}`;
}

function bounds(schema) {
  const names = { minimum: "from", maximum: "to", minLength: "at least", maxLength: "at most",
    minItems: "at least", maxItems: "at most" };
  const said = Object.entries(names).filter(([name]) => name in schema)
    .map(([name, word]) => `${word} ${schema[name]}`);
  if ("default" in schema && schema.default !== null) said.push(`default ${JSON.stringify(schema.default)}`);
  return said.length ? ` (${said.join(", ")})` : "";
}

/** Rows of name, kind, meaning. */
function table(rows) {
  const body = rows.map(([name, schema, meaning]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, kind(schema)),
      element("td", {}, meaning ?? "")));
  return element("table", {}, ...body);
}

function example(schema) {
  const found = referred(schema);
  return found?.examples?.[0] ?? found?.example;
}

function answers(operation) {
  return table(Object.entries(operation.responses).sort().map(([status, answer]) => [
    status, Object.values(answer.content ?? {})[0]?.schema, answer.description]));
}

/** A form that asks the server, and shows what it answers. */
function form(path, method, operation) {
  const fields = (operation.parameters ?? []).map((one) => {
    const input = element("input", { name: one.name, required: one.required ?? false });
    return { one, input, label: element("label", {}, `${one.name} `, input) };
  });
  const schema = operation.requestBody?.content["application/json"]?.schema;
  const body = schema
    ? element("textarea", { ariaLabel: "Body", value: JSON.stringify(example(schema) ?? {}, null, 2) })
    : null;
  const shown = element("pre", { hidden: true, ariaLive: "polite" });
  const made = element("form", {}, ...fields.map(({ label }) => label), body, element("button", {}, "Ask"));
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    let url = path;
    for (const { one, input } of fields) {
      if (one.in === "path") url = url.replace(`{${one.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.set(one.name, input.value);
    }
    const headers = body ? { "Content-Type": "application/json" } : {};
    if (page("#key").value) headers.Authorization = `Bearer ${page("#key").value}`;
    const from = performance.now();
    const answer = await fetch(`.${url}${query.size ? `?${query}` : ""}`,
      { method: method.toUpperCase(), headers, body: body?.value });
    const text = await answer.text();
    const json = answer.headers.get("content-type")?.includes("json");
    shown.hidden = false;
    shown.textContent = `${answer.status} in ${Math.round(performance.now() - from)} ms\n` +
      (json ? JSON.stringify(JSON.parse(text), null, 2) : text);
  });
  return [made, shown];
}

function operationDetails(path, method, operation) {
  const given = (operation.parameters ?? []).map((one) => [one.name, one.schema, one.description]);
  const media = operation.requestBody?.content["application/json"];
  if (media) given.push(["body", media.schema, ""]);
  const answered = example(operation.responses["200"]?.content?.["application/json"]?.schema);
  return element("details", { id: `${method}-${path}` },
    element("summary", {}, element("b", {}, method.toUpperCase()), element("code", {}, path),
      element("span", {}, operation.summary)),
    element("p", {}, operation.description ?? ""),
    given.length ? table(given) : null,
    element("h4", {}, "Answers"), answers(operation),
    answered ? element("pre", {}, JSON.stringify(answered, null, 2)) : null,
    ...form(path, method, operation));
}

page("#title").textContent = `${spec.info.title} ${spec.info.version}`;
page("#with-key").hidden = !spec.components.securitySchemes;
const byTag = {};
for (const [path, methods] of Object.entries(spec.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    (byTag[operation.tags?.[0] ?? ""] ??= []).push(operationDetails(path, method, operation));
  }
}
page("#operations").replaceChildren(...Object.entries(byTag).flatMap(
  ([tag, details]) => [element("h2", {}, tag), ...details]));
page("#problems").replaceChildren(...spec["x-problems"].flatMap((one) => [
  element("dt", { id: `problem-${one.kind}` }, `${one.status} ${one.title} `,
    element("code", {}, one.kind)), element("dd", {}, one.meaning)]));
page("#models").replaceChildren(...Object.entries(schemas).map(([name, schema]) =>
  element("details", { id: `model-${name}` }, element("summary", {}, element("code", {}, name)),
    element("p", {}, schema.description ?? ""),
    table(Object.entries(schema.properties ?? {}).map(([field, of]) =>
      [schema.required?.includes(field) ? `${field} *` : field, of, of.description])))));

/** Open what the address names. */
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named?.tagName === "DETAILS") named.open = true;
  named?.scrollIntoView();
}
addEventListener("hashchange", openNamed);
openNamed();
