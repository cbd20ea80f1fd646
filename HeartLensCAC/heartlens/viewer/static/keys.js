// Keys, as in the Slicer panel where it has them, and buttons. No key changes anything that the mode line does not say.

import { $, keep } from "./dom.js";

export const ARTERY_KEYS = { 1: "LM", 2: "LAD", 3: "LCX", 4: "RCA", 0: "OTHER" };
const TOOL_KEYS = { v: "look", a: "assign", b: "brush", e: "eraser", c: "cut", x: "box" };
const FIELDS = "input:not([type=range]):not([type=checkbox]), select, textarea, dialog";

export function listenToKeys(app) {
  document.addEventListener("keydown", (event) => {
    if (event.target.closest(FIELDS) || !$("keysOn").checked || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z" || key === "y") {
        event.preventDefault();
        app.edit({ kind: key === "y" || event.shiftKey ? "redo" : "undo" });
      }
      return;
    }
    const isButton = event.target.closest("button, a, input");
    if (isButton && (key === "Enter" || key === " " || key.startsWith("Arrow"))) return; // they have their own meaning there
    const act = action(app, key, event.shiftKey);
    if (act) {
      event.preventDefault();
      act();
    }
  });
}

function action(app, key, shift) {
  if (key in ARTERY_KEYS) return () => app.press(ARTERY_KEYS[key]);
  if (key in TOOL_KEYS) return () => app.chooseTool(TOOL_KEYS[key]);
  const move = { ArrowLeft: [0, 0, -1], ArrowRight: [0, 0, 1], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0] }[key];
  if (move && shift) return () => app.goTo(app.at.map((x, n) => x + move[n]));
  return {
    ArrowUp: () => app.step("axial", 1), ArrowDown: () => app.step("axial", -1),
    PageUp: () => app.step("axial", 5), PageDown: () => app.step("axial", -5),
    Home: () => app.step("axial", 1e6), End: () => app.step("axial", -1e6),
    d: () => app.besides.forEach((one) => one.next()), r: () => app.besides.forEach((one) => one.turn()),
    n: () => app.next(1), p: () => app.next(-1), u: () => app.nextOpen(),
    z: () => app.edit({ kind: "undo" }), y: () => app.edit({ kind: "redo" }),
    l: () => app.list.open(),
    t: () => app.toggle("tint"), m: () => app.cycleSlab(), w: () => app.cycleWindow(), h: () => app.zoomToHeart(),
    "+": () => app.zoom(1.25), "=": () => app.zoom(1.25), "-": () => app.zoom(0.8), f: () => app.fit(),
    Delete: () => app.removeSelected(), Backspace: () => app.removeSelected(),
    Enter: () => app.keepSelected(), " ": () => app.useTool(shift), Escape: () => app.escape(), "?": () => $("help").showModal(),
  }[key];
}

/** Buttons, menus and the slider around the images. */
export function listenToControls(app) {
  const click = (id, act) => $(id).addEventListener("click", act);
  for (const button of document.querySelectorAll("button[data-tool]")) {
    button.addEventListener("click", () => app.chooseTool(button.dataset.tool));
  }
  click("undo", () => app.edit({ kind: "undo" }));
  click("redo", () => app.edit({ kind: "redo" }));
  click("heart", () => app.zoomToHeart());
  click("whole", () => app.fit());
  click("helpButton", () => $("help").showModal());
  click("closeHelp", () => $("help").close());
  click("closeAlert", () => app.told.forget());
  click("previousCase", () => app.attempt(() => app.open(app.number - 1)));
  click("nextCase", () => app.attempt(() => app.open(app.number + 1)));
  $("slice").addEventListener("input", () => app.goTo([Number($("slice").value) - 1 - app.scan.first_slice, app.at[1], app.at[2]]));
  $("window").addEventListener("change", () => app.setPreset($("window").value));
  $("slab").addEventListener("change", () => app.setSlab(Number($("slab").value)));
  $("radius").addEventListener("change", () => (app.tools.radius = Number($("radius").value)));
  $("tint").addEventListener("change", () => app.toggle("tint"));
  window.addEventListener("focus", () => app.lookAgain());
  $("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    document.documentElement.dataset.theme = next;
    keep("localStorage", "heartlens-theme", next);
  });
}
