// An earlier scan beside the current one: what has changed, lesion by lesion, and the same place of the heart in both.

import { $, el, fill } from "../dom.js";
import { getJson, getStream } from "../server.js";
import { Earlier } from "./earlier.js";

export class Prior {
  constructor(app) {
    Object.assign(this, { app, answer: null, chosen: null, isAsking: false });
    this.view = new Earlier($("prior"), app);
    app.tools.listen(this.view);
    $("besidePrior").addEventListener("click", () => this.turn());
  }

  /** Another case; what belongs to the one before goes at once. */
  begin() {
    Object.assign(this, { answer: null, chosen: null });
    this.view.link = null;
    document.body.dataset.prior = "no";
    this._show(false);
    for (const part of document.querySelectorAll("[data-prior-part]")) part.hidden = !this.app.scan.has_prior;
    fill("priorLines", el("p", { className: "soft" }, "The two hearts are being laid on each other …"));
    fill("changes");
  }

  async load(isLeft) {
    const { app } = this;
    if (!app.scan.has_prior) return;
    let answer;
    try {
      answer = await getJson(`${app.base}/prior`);
    } catch (error) {
      if (!isLeft()) fill("priorLines", el("p", { className: "bad" }, error.message));
      return;
    }
    if (isLeft()) return;
    const volume = this.view.show(answer);
    this._take(answer);
    this._show(true);
    const stream = await getStream(`${app.base}/prior/ct`);
    await volume.load(stream, () => app.draw(), isLeft);
    if (!isLeft()) document.body.dataset.prior = "yes";
  }

  _take(answer) {
    this.answer = answer;
    fill("priorLines", ...answer.lines.map((line) => el("p", {}, line)));
    this._draw();
  }

  /** After an edit, what has changed since the prior scan is another; the last edit counts. */
  async drawTable() {
    const { app } = this, { opened } = app;
    if (!this.answer || this.isAsking || this.answer.version === app.state.version) return;
    this.isAsking = true;
    try {
      const answer = await getJson(`${app.base}/prior`);
      if (opened === app.opened) this._take(answer);
    } catch (error) {
      if (opened === app.opened) app.warn(error.message);
      return;
    } finally {
      this.isAsking = false;
    }
    this.drawTable();
  }

  /** The prior scan, or the coronal and the sagittal image, beside the axial one. */
  turn() {
    if (this.answer) this._show(!document.body.classList.contains("withPrior"));
  }

  _show(isBeside) {
    document.body.classList.toggle("withPrior", isBeside);
    $("besidePrior").setAttribute("aria-pressed", String(isBeside));
    this.app.draw();
  }

  next() {
    const rows = this.answer?.changes || [];
    if (rows.length) this.choose(this.chosen === null ? 0 : (this.chosen + 1) % rows.length);
  }

  /** Shows the place in both scans; choosing never edits. */
  choose(n) {
    const { app } = this, { prior, current, kji } = this.answer.changes[n];
    this.chosen = n;
    this.view.select(prior[0] ?? null);
    if (kji) app.goTo(kji);
    else app.say("The current scan does not show this place.");
    const axial = app.views[0];
    if (axial.zoom > 1) [axial.u, axial.v] = axial.cross;
    app.select(current.find((id) => app.lesion(id)) ?? null, { jump: false });
    this._draw();
  }

  _draw() {
    fill("changes", ...this.answer.changes.map((row, n) => el(
      "tr", { className: (row.undecided ? "undecided " : "") + (n === this.chosen ? "selected" : "") },
      el("th", { scope: "row" }, el(
        "button", { type: "button", className: "pick", "aria-pressed": String(n === this.chosen),
          "aria-label": `Show change ${n + 1}: ${row.kind}, ${row.arteries.join("+")}`, onclick: () => this.choose(n) }, row.kind)),
      el("td", {}, `${row.arteries.join("+")}${row.undecided ? " ?" : ""}`),
      ...row.agatston.map((score) => el("td", { className: "n" }, score)),
    )));
  }

  draw() {
    if (document.body.classList.contains("withPrior")) this.view.draw();
  }
}
