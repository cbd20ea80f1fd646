// The list of cases: how far each is, which needs a reader most, and labels of those that were reviewed.

import { $, el, fill } from "../dom.js";
import { getJson, post } from "../server.js";

export class Worklist {
  constructor(app) {
    Object.assign(this, { app, cases: 0, rows: [] });
    $("listButton").addEventListener("click", () => this.open());
    $("closeList").addEventListener("click", () => $("worklist").close());
    $("moreCases").addEventListener("click", () => app.attempt(() => this._read(this.rows.length)));
    $("labels").addEventListener("click", () => app.attempt(() => this._writeLabels()));
  }

  open() {
    if (this.cases < 2) return;
    $("labelsTold").textContent = "";
    $("worklist").showModal();
    this.app.attempt(() => this._read(0));
  }

  /** How many are signed, beside the number of the case; nobody waits for it. */
  async refresh() {
    if (this.cases < 2) return;
    try {
      await this._read(0);
    } catch { /* the list says so when it is opened */ }
  }

  async _read(first) {
    const answer = await getJson(`api/worklist?first=${first}`);
    this.rows = [...this.rows.slice(0, first), ...answer.rows];
    this.cases = answer.cases;
    $("progress").textContent = `${answer.signed} of ${answer.cases} signed`;
    const who = answer.reader ? `${answer.reader}: ` : "", order = "What needs a reader most comes first, as it was when this was begun.";
    $("listProgress").textContent = `${who}${answer.signed} of ${answer.cases} cases signed, ${answer.cases - answer.signed} left. `
      + (answer.is_by_need ? order : "");
    $("moreCases").hidden = this.rows.length >= this.cases;
    $("labels").disabled = !this.rows.some((row) => row.is_reviewed) && this.rows.length >= this.cases;
    this._draw();
  }

  _draw() {
    fill("caseRows", ...this.rows.map((row) => {
      const isHere = row.number === this.app.number;
      return el(
        "tr", { className: isHere ? "selected" : "", ...(isHere ? { "aria-current": "true" } : {}) },
        el("th", { scope: "row" }, el("button", { type: "button", className: "link", "aria-label": `Open case ${row.number + 1}: ${row.name}`,
          onclick: () => this._choose(row.number) }, `${row.number + 1} · ${row.name}`)),
        el("td", {}, el("span", { className: `band ${row.state}` }, row.state)),
        el("td", { className: "n" }, row.score),
        el("td", { className: "why" }, [row.words, row.need].filter(Boolean).join("; ")),
      );
    }));
  }

  _choose(number) {
    $("worklist").close();
    if (number !== this.app.number) this.app.attempt(() => this.app.open(number));
  }

  async _writeLabels() {
    $("labels").disabled = true;
    $("labelsTold").textContent = "Writing …";
    try {
      const { folder, cases } = await post("api/worklist/labels", {});
      $("labelsTold").textContent = `Labels of ${cases} reviewed case${cases === 1 ? "" : "s"} were written to ${folder}.`;
    } catch (error) {
      $("labelsTold").textContent = error.message; // the band lies behind this list
    } finally {
      $("labels").disabled = false;
    }
  }
}
