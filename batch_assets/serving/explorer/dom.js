// Elements from data. Text is always inserted as text: there is no way here to pass HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("a", {href: "#", class: "x", onclick: f}, "text", child, null). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Put all that there is into an element, in place of what was there. */
export function put(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
  );
}

/** The same as h for SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
  );
  return element;
}

/** A link to another site, or its text alone if the address is none of http. */
export function outward(address, ...children) {
  if (!/^https?:\/\//i.test(address ?? "")) return null;
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, ...children, " ↗");
}

export function announce(text) {
  document.getElementById("announce").textContent = text;
}

const NONE = "–";
const whole = new Intl.NumberFormat("en");
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export function count(n, one, many) {
  return `${whole.format(n)} ${n === 1 ? one : many}`;
}

/** Four digits; never rounded to a certainty that it is not. */
export function score(value) {
  if (value === null || value === undefined) return NONE;
  return Math.min(Math.max(value, value > 0 ? 0.0001 : 0), value < 1 ? 0.9999 : 1).toFixed(4);
}

export function number(value) {
  if (value === null || value === undefined) return NONE;
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return whole.format(value);
  return Math.abs(value) >= 0.01 || value === 0 ? money.format(value) : value.toExponential(1);
}

export function amount(value) {
  return typeof value === "number" ? money.format(value) : NONE;
}

export function distance(value) {
  if (typeof value !== "number") return NONE;
  return value > 0 && value < 1e-6 ? "<0.000001" : value.toFixed(6);
}

/** "2026-04-14 14:39:08". */
export function moment(text) {
  if (!text) return NONE;
  const time = new Date(/(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`);
  return Number.isNaN(time.getTime()) ? text : time.toISOString().slice(0, 19).replace("T", " ");
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "at an unknown time";
  for (const [unit, length] of [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ]) {
    if (seconds >= 2 * length || (unit === "minute" && seconds >= 60)) {
      return `${count(Math.floor(seconds / length), unit, `${unit}s`)} ago`;
    }
  }
  return "just now";
}

/** "person_id" as "Person id". */
export function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}
