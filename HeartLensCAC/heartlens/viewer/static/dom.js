// Elements and texts, and what a browser keeps. Everything that comes from a scan goes in as text, never as markup.

const known = new Map(); // what a copy takes out of the page can still be written to, and is not seen

export function $(id) {
  if (!known.has(id)) known.set(id, document.getElementById(id));
  return known.get(id);
}

/** Takes out of the page all that changes a case. */
export function takeEditingAway() {
  for (const part of document.querySelectorAll("[data-edits]")) {
    for (const inner of [part, ...part.querySelectorAll("[id]")]) if (inner.id) $(inner.id);
    part.remove();
  }
}

/** An element with properties, `dataset`-free attributes as `"aria-…"`, and children; strings become text. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") made.setAttribute(name, value);
    else if (name === "color") made.style.setProperty("--of", value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export function fill(id, ...children) {
  $(id).replaceChildren(...children.filter((child) => child !== null && child !== ""));
}

/** A square of an artery's color; its letters stand beside it. */
export const square = (color) => el("span", { className: "square", color, "aria-hidden": "true" });

/** "" also where a browser is told to keep nothing: it throws then. */
export function kept(store, key) {
  try {
    return window[store].getItem(key) || "";
  } catch {
    return "";
  }
}

export function keep(store, key, value) {
  try {
    window[store].setItem(key, value);
  } catch { /* known as long as the page is open */ }
}

const LEFT = "In the case that was left: ";

/** What is told of a case that is not shown any more says so. */
export const ofLeft = (text) => (text.startsWith(LEFT) || text.startsWith("Another case was opened") ? text : LEFT + text);
