// Two readings beside the third case that was made of them: how far they agree, and where they differ, one by one.

import { $, el, fill } from "../dom.js";
import { getJson } from "../server.js";
import { Labels } from "../images/volume.js";
import { Beside } from "./beside.js";

export class Readings {
  constructor(app) {
    Object.assign(this, { app, answer: null, chosen: null });
    this.views = ["readingA", "readingB"].map((id) => new Beside($(id), app));
    for (const view of this.views) app.tools.listen(view);
    $("beside").addEventListener("click", () => this.turn());
  }

  /** Another case; what belongs to the one before goes at once. */
  begin() {
    Object.assign(this, { answer: null, chosen: null });
    this._show(false);
    for (const part of document.querySelectorAll("[data-readings]")) part.hidden = !this.app.scan.has_readings;
    fill("readingLines");
    fill("differences");
  }

  async load(isLeft) {
    const { app } = this;
    if (!app.scan.has_readings) return;
    const answer = await getJson(`${app.base}/readings`);
    if (isLeft()) return;
    this.answer = answer;
    answer.readings.forEach((reading, n) => this.views[n].show(reading, new Labels(app.volume, reading.runs, reading.arteries)));
    fill("readingLines", ...answer.lines.map((line) => el("p", {}, line)));
    this._show(true);
    this.drawTable();
  }

  /** The two readings, or the coronal and the sagittal image, beside the axial one. */
  turn() {
    if (this.answer) this._show(!document.body.classList.contains("beside"));
  }

  _show(isBeside) {
    document.body.classList.toggle("beside", isBeside);
    $("beside").setAttribute("aria-pressed", String(isBeside));
    this.app.draw();
  }

  /** The next place where the two differ; choosing never edits. */
  next() {
    const rows = this.answer?.differences || [];
    if (rows.length) this.choose(this.chosen === null ? 0 : (this.chosen + 1) % rows.length);
  }

  choose(n) {
    const { app } = this, { a, b, kji } = this.answer.differences[n];
    this.chosen = n;
    [a, b].forEach((ids, side) => this.views[side].select(ids[0] ?? null));
    app.goTo(kji);
    const axial = app.views[0];
    if (axial.zoom > 1) [axial.u, axial.v] = axial.cross;
    app.select(app.labels.at(...kji) || null, { jump: false });
    this.drawTable();
  }

  /** What the third case says at a place: [words, whether it is decided]. */
  _here(kji) {
    const { app } = this, row = app.lesion(app.labels.at(...kji));
    if (!row) return ["not marked", true];
    if (row.undecided) return ["to decide", false];
    return row.artery === "UNASSIGNED" ? ["no artery", false] : [app.artery(row.artery).letters, true];
  }

  drawTable() {
    if (!this.answer) return;
    const rows = this.answer.differences, here = rows.map((row) => this._here(row.kji));
    const open = here.filter(([, isDecided]) => !isDecided).length;
    $("differenceCount").textContent = rows.length
      ? `${rows.length} ${rows.length === 1 ? "difference" : "differences"}, ${open} to decide`
      : "No difference";
    fill("differences", ...rows.map((row, n) => el(
      "tr", { className: (here[n][1] ? "" : "undecided ") + (n === this.chosen ? "selected" : "") },
      el("th", { scope: "row" }, el(
        "button", { type: "button", className: "pick", "aria-pressed": String(n === this.chosen),
          "aria-label": `Show difference ${n + 1}: ${row.what}`, onclick: () => this.choose(n) }, row.what)),
      ...row.words.map((words) => el("td", {}, words)),
      el("td", { className: "marks" }, here[n][0]),
    )));
  }

  draw() {
    if (document.body.classList.contains("beside")) for (const view of this.views) view.draw();
  }
}
