// The words of the page: the score, the lesions as a queue, what is to be known, signing; and the lines around the images.

import { $, el, fill, ofLeft, square } from "./dom.js";
import { download } from "./server.js";
import { HINTS } from "./tools.js";

const SORTS = {
  queue: null, // as the server gives them: undecided first
  slice: (a, b) => b.slices[1] - a.slices[1],
  score: (a, b) => b.order - a.order,
  artery: (a, b) => a.artery.localeCompare(b.artery) || b.order - a.order,
};

export class Panel {
  constructor(app) {
    this.app = app;
    this.sort = "queue";
    this.isBusy = false;
    $("sort").addEventListener("change", () => ((this.sort = $("sort").value), this.drawQueue()));
    for (const id of ["observer", "organization"]) $(id).addEventListener("input", () => this.drawSign());
    $("confirm").addEventListener("change", () => this.drawSign());
    $("sign").addEventListener("click", () => this._finish("sign"));
    $("export").addEventListener("click", () => this._finish("export"));
  }

  /** Lesions in the order of the table. */
  get rows() {
    const rows = [...this.app.state.lesions];
    return SORTS[this.sort] ? rows.sort(SORTS[this.sort]) : rows;
  }

  draw() {
    this.drawResult();
    this.drawQueue();
    this.drawNotes();
    $("confirm").checked = false; // what was confirmed is another result now
    this.drawSign();
  }

  drawResult() {
    const { state } = this.app;
    const band = $("state");
    band.textContent = state.state_words;
    band.className = `band ${state.state}`;
    fill("score", el("span", { className: "number" }, state.score), el("span", { className: "headline" }, state.headline));
    $("brief").textContent = `${state.score} · ${state.headline}`;
    $("score").className = $("result").className = state.evaluable === "no" ? "no" : "";
    fill("lines", ...state.lines.map((line) => el("p", {}, line)));
    fill(
      "totals",
      ...state.totals.map((row) =>
        el(
          "tr", { className: row.name === "total" ? "total" : "" },
          el("th", { scope: "row" }, row.name === "total" ? "" : square(this.app.artery(row.name).color), row.letters),
          ...[row.lesions, row.agatston, row.volume, row.mass].map((value) => el("td", { className: "n" }, String(value))),
        ),
      ),
    );
  }

  drawQueue() {
    const { app } = this, { state } = app, viewed = app.looked.visited;
    const open = state.lesions.filter((row) => row.undecided || row.artery === "UNASSIGNED").length;
    const left = state.lesions.filter((row) => !viewed.has(row.id)).length;
    $("count").textContent = state.lesions.length
      ? `${state.lesions.length} ${state.lesions.length === 1 ? "lesion" : "lesions"}, ${open} to decide, ${left} not visited`
      : "No lesion";
    fill(
      "lesions",
      ...this.rows.map((row) => {
        const artery = app.artery(row.artery), marks = [];
        if (row.undecided) marks.push("?");
        if (viewed.has(row.id)) marks.push("✓");
        const said = [row.undecided ? "undecided" : "", viewed.has(row.id) ? "visited" : "not visited"].filter(Boolean);
        const [first, last] = row.slices.map((k) => k + 1 + app.scan.first_slice);
        return el(
          "tr", { className: (row.undecided ? "undecided " : "") + (app.selected === row.id ? "selected" : "") },
          el("th", { scope: "row" }, this._picker(row)),
          el("td", {}, square(artery.color), artery.letters),
          el("td", { className: "n" }, row.artery === "OTHER" ? `(${row.agatston})` : row.agatston),
          el("td", { className: "n" }, first === last ? `${first}` : `${first}–${last}`),
          el("td", { className: "n peak" }, row.peak),
          el("td", { className: "marks", title: said.join(", ") },
            el("span", { "aria-hidden": "true" }, marks.join(" ")), el("span", { className: "sr" }, said.join(", "))),
        );
      }),
    );
    this.drawSelected();
  }

  _picker(row) {
    const isSelected = this.app.selected === row.id;
    return el(
      "button",
      { type: "button", className: "pick", "aria-pressed": String(isSelected), "aria-label": `Show lesion ${row.id}`,
        onclick: () => this.app.select(row.id, { jump: true }) },
      String(row.id),
    );
  }

  drawSelected() {
    const { app } = this, row = app.lesion(app.selected);
    $("selected").hidden = !row;
    if (!row) return;
    const artery = app.artery(row.artery);
    const give = app.scan.arteries.filter((a) => a.name !== "UNASSIGNED").map((a) =>
      el("button", { type: "button", "aria-pressed": String(a.name === row.artery), onclick: () => app.assignSelected(a.name) },
        square(a.color), a.letters, el("kbd", { "aria-hidden": "true" }, app.keyOf(a.name))));
    fill(
      "selected",
      el("h3", {}, square(artery.color), `Lesion ${row.id}: ${artery.letters}`, row.undecided ? el("em", {}, "undecided") : ""),
      el("p", {}, `${row.volume} mm³, largest area ${row.area} mm², peak ${row.peak} HU; found by ${row.source}`
        + (row.probability === null ? "" : `, probability ${row.probability}`)),
      row.why ? el("p", { className: "soft" }, row.why) : "",
      app.isReadOnly ? "" : el("div", { className: "give", role: "group", "aria-label": `Lesion ${row.id} goes to` }, ...give,
        el("button", { type: "button", onclick: () => app.removeSelected() }, "Delete", el("kbd", { "aria-hidden": "true" }, "Del"))),
      row.undecided && !app.isReadOnly
        ? el("button", { type: "button", className: "keep", onclick: () => app.assignSelected(row.artery) },
            `Decide: it is ${artery.title.toLowerCase()}`, el("kbd", { "aria-hidden": "true" }, "Enter"))
        : "",
    );
  }

  drawNotes() {
    const { findings, warnings, read_only: readOnly } = this.app.state;
    fill(
      "notes",
      ...findings.map((text) => el("li", { className: "bad" }, text)),
      ...warnings.map((one) => el("li", { className: one.is_settled ? "settled" : "" }, el("b", {}, one.code),
        one.is_settled ? "settled by the signature: " : "", one.text)),
    );
    $("noteSection").hidden = !findings.length && !warnings.length;
    document.body.classList.toggle("readOnly", Boolean(readOnly));
  }

  drawSign() {
    const { app } = this, { state } = app, names = ["observer", "organization"].map((id) => $(id).value.trim());
    const obstacles = [...state.obstacles];
    if (state.is_zero && state.look_through) obstacles.push(state.look_through);
    if (state.read_only) obstacles.push(`The case is ${state.read_only}.`);
    if (names.includes("")) obstacles.push("Enter the observer's name and the organization.");
    $("confirmText").textContent = state.confirmation;
    $("signForm").hidden = state.is_signed;
    fill("obstacles", ...(state.is_signed ? [] : obstacles.map((text) => el("li", {}, text))));
    $("sign").disabled = obstacles.length > 0 || !$("confirm").checked || this.isBusy;
    $("export").disabled = this.isBusy;
    $("export").textContent = state.is_signed ? "Export again" : "Export unsigned";
    const files = Object.entries(state.exports).map(([name, list]) =>
      el("li", {}, el("b", {}, name), " ", ...list.map((file) =>
        el("button", { type: "button", className: "link",
          onclick: () => app.attempt(() => download(`${app.base}/exports/${encodeURIComponent(name)}/${encodeURIComponent(file)}`, file)) },
          file))));
    fill("exports", ...files, ...state.left_out.map((text) => el("li", { className: "bad" }, text)));
  }

  async _finish(what) {
    if (this.isBusy) return;
    const { app } = this, { opened } = app;
    const words = { observer: $("observer").value, organization: $("organization").value, confirmed: $("confirm").checked };
    if (what === "sign") words.version = app.state.version; // what was confirmed, and not what an edit makes of it until then
    this.isBusy = true;
    this.drawSign();
    const told = app.looked.flush(); // before it is signed
    const answer = await app.send(what, words, told);
    this.isBusy = false;
    const isHere = opened === app.opened, warn = (text) => app.warn(isHere ? text : ofLeft(text));
    if (answer?.not_written) warn(`It is signed, and the signature is kept. Nothing was exported: ${answer.not_written}`);
    if (isHere && answer?.written) app.say(`${app.state.state_words}. Written to ${answer.written.folder}.`);
    else if (answer?.written?.left_out.length) warn(answer.written.left_out.join("; "));
    this.drawSign();
    if (what === "sign") app.list.refresh();
  }
}

/** Whose scan this is, and where it is in the list. */
export function drawName(app, cases) {
  const { name, acquired, identity, slab_count: slabs, notice } = app.scan;
  const parts = [identity, name, acquired ? `scanned ${acquired}` : "", slabs > 1 ? `slabs of ${slabs} slices` : ""];
  $("case").textContent = parts.filter(Boolean).join(" · ");
  $("notice").textContent = notice;
  $("round").textContent = app.scan.round || "";
  $("cases").hidden = cases < 2;
  $("place").textContent = `Case ${app.number + 1} of ${cases}`;
  $("previousCase").disabled = app.number === 0;
  $("nextCase").disabled = app.number === cases - 1;
}

export function drawArteries(app) {
  fill("arteries", ...app.scan.arteries.filter((a) => a.name !== "UNASSIGNED").map((a) => el(
    "button",
    { type: "button", "aria-pressed": String(a.name === app.active), title: a.title, onclick: () => app.chooseArtery(a.name) },
    square(a.color), a.letters, el("kbd", { "aria-hidden": "true" }, app.keyOf(a.name)),
  )));
}

/** What a click and the keys do now. */
export function drawMode(app) {
  const { name } = app.tools, [k0, k1] = app.shownSlices;
  let text = HINTS[name].replace("{artery}", app.artery(app.active).letters);
  if (app.isReadOnly) text += " Nothing can be changed here.";
  else if (name === "look") {
    text += app.selected === null
      ? " Keys 1–4 and 0 choose the artery for the tools."
      : ` Keys 1–4 and 0: lesion ${app.selected} goes to LM, LAD, LCX, RCA or not coronary.`;
  } else text += " Keys 1–4 and 0 choose the artery.";
  if (k1 > k0 && !app.isReadOnly) text += ` Acts on all ${k1 - k0 + 1} slices that are shown.`;
  $("mode").textContent = text;
  $("axial").dataset.tool = name;
}

/** Which slice, and what is under the crosshair. */
export function drawPlace(app) {
  const [k, j, i] = app.at, [k0, k1] = app.shownSlices, { instances, z_mm: z, first_slice: before, slices: all } = app.scan;
  const hu = Math.round(app.volume.hu(k, j, i) * 10) / 10, lesion = app.labels.at(k, j, i), row = app.lesion(lesion);
  const slices = k0 === k1 ? `Slice ${before + k + 1}` : `Slices ${before + k0 + 1}–${before + k1 + 1}`;
  const image = instances.length ? `, image ${instances[k]}` : "";
  $("place1").textContent = `${slices} of ${all}${image}, z ${z[k]} mm`;
  const where = k0 === k1 ? "" : ` in slice ${before + k + 1}`;
  $("place2").textContent = Number.isNaN(hu) ? "" : `${hu} HU${where}${row ? `, lesion ${lesion} ${app.artery(row.artery).letters}` : ""}`;
  $("windowText").textContent = `${app.window[0]} to ${app.window[1]} HU`;
  $("slice").value = String(before + k + 1);
  $("slice").setAttribute("aria-valuetext", `${slices} of ${all}`);
  $("axial").setAttribute("aria-label", `Axial image: ${slices.toLowerCase()} of ${all}`);
  document.body.dataset.slice = String(k);
}
