// The application: what it shows, what the reader does, and the one road by which anything is changed.

import { $, takeEditingAway } from "./dom.js";
import { ARTERY_KEYS, listenToKeys } from "./keys.js";
import { Looked } from "./looked.js";
import { Panel, drawArteries, drawMode, drawName, drawPlace } from "./panel.js";
import { Refusal, getJson, getStream, post } from "./server.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";
import { Labels, Volume } from "./volume.js";

const WINDOWS = { calcium: null, mediastinum: [-160, 240], bone: [-400, 1600], lung: [-1350, 150] }; // HU, black and white
const SLABS_MM = [0, 3, 5, 10, 20];

export class App {
  constructor() {
    Object.assign(this, {
      number: 0, at: [0, 0, 0], window: [-200, 500], slab: 0, isTinted: true, selected: null, active: "LAD",
      isBusy: false, road: Promise.resolve(),
    });
    this.looked = new Looked(this);
    this.tools = new Tools(this);
    this.views = ["axial", "coronal", "sagittal"].map((kind) => new View(kind, $(kind), this));
    this.panel = new Panel(this);
    for (const view of this.views) this.tools.listen(view);
    listenToKeys(this);
    this._listen();
  }

  get base() {
    return `api/cases/${this.number}`;
  }

  get isReadOnly() {
    return Boolean(this.state?.read_only);
  }

  get shownSlices() {
    return this.volume.slab(this.at[0], this.slab);
  }

  artery(name) {
    return this.scan.arteries.find((one) => one.name === name);
  }

  lesion(id) {
    return this.state.lesions.find((row) => row.id === id);
  }

  keyOf(name) {
    return Object.keys(ARTERY_KEYS).find((key) => ARTERY_KEYS[key] === name);
  }

  // Loading

  async open(number) {
    await this.looked.flush();
    const start = performance.now();
    document.body.dataset.loaded = "no";
    this.say("Reading the scan …");
    this.number = number;
    const answer = await getJson(this.base);
    this.scan = answer.scan;
    if (answer.scan.is_copy) takeEditingAway();
    this.volume = new Volume(answer.scan);
    this.looked.begin(answer.state.viewed.slices);
    this.selected = null;
    this.state = null;
    this.window = [...answer.scan.window_hu];
    this.at = answer.state.lesions[0]?.kji ?? answer.scan.shape.map((n) => Math.floor(n / 2));
    for (const view of this.views) Object.assign(view, { shown: "" });
    drawName(this, answer.cases);
    drawArteries(this);
    this.take(answer.state);
    for (const view of this.views) view.fit();
    Object.assign($("slice"), { min: String(1 + this.scan.first_slice), max: String(this.volume.nk + this.scan.first_slice) });
    $("page").hidden = false;
    let isFirst = true;
    await this.volume.load(await getStream(`${this.base}/ct?first=${this.at[0]}`), () => {
      if (isFirst) this.views[0].draw();
      if (isFirst) document.body.dataset.firstMs = String(Math.round(performance.now() - start));
      isFirst = false;
      this.draw();
    });
    document.body.dataset.loaded = "yes";
    document.body.dataset.loadMs = String(Math.round(performance.now() - start));
    this.say(this.state.lines[0]);
    this.heart = await getJson(`${this.base}/heart`);
    this.zoomToHeart();
    const { viewed, look_through: lookThrough } = await getJson(`${this.base}/state`);
    Object.assign(this.state, { viewed, look_through: lookThrough });
    this.panel.drawSign();
    document.body.dataset.ready = "yes";
  }

  /** A state from the server takes the place of the one that is shown. */
  take(state) {
    const isNew = this.state?.version !== state.version;
    this.state = state;
    this.labels = new Labels(this.volume, state.runs, state.arteries);
    if (this.selected !== null && !this.lesion(this.selected)) this.selected = null;
    if (isNew) this.panel.draw();
    else {
      this.panel.drawResult();
      this.panel.drawQueue();
      this.panel.drawNotes();
      this.panel.drawSign();
    }
    $("undo").disabled = !state.can_undo;
    $("redo").disabled = !state.can_redo;
    document.body.dataset.version = String(state.version);
    drawMode(this);
    this.draw();
  }

  // Changing: one after the other, each by what the page has seen

  edit(words) {
    if (this.isReadOnly) {
      this.warn(`This case is ${this.state.read_only}: nothing can be changed here.`);
      return Promise.resolve(null);
    }
    const start = performance.now();
    return this.send("edit", words).then((answer) => {
      if (!answer) return;
      this.say(this.state.lines[0]);
      requestAnimationFrame(() => (document.body.dataset.editMs = (performance.now() - start).toFixed(1)));
    });
  }

  send(what, words) {
    this.road = this.road.then(() => this.attempt(async () => {
      this.isBusy = true;
      try {
        const answer = await post(`${this.base}/${what}`, { ...words, version: this.state.version });
        this.take(answer);
        return answer;
      } finally {
        this.isBusy = false;
      }
    }));
    return this.road;
  }

  async attempt(act) {
    try {
      const answer = await act();
      $("alert").hidden = true;
      return answer;
    } catch (error) {
      this.warn(error instanceof Refusal ? error.message : `The page failed (${error.message}); load it again.`);
      if (error.status === 409) this.take(await getJson(`${this.base}/state`));
      return null;
    }
  }

  assignSelected(name) {
    if (this.selected !== null) this.edit({ kind: "assign", lesion: this.selected, artery: name });
  }

  keepSelected() {
    const row = this.lesion(this.selected);
    if (row?.undecided) this.assignSelected(row.artery);
  }

  removeSelected() {
    if (this.selected !== null) this.edit({ kind: "remove", lesion: this.selected });
  }

  /** An artery's key: of the selected lesion while looking, else of the tool. The mode line says which. */
  press(name) {
    if (this.tools.name === "look" && this.selected !== null) this.assignSelected(name);
    else this.chooseArtery(name);
  }

  useTool() {
    const { name } = this.tools;
    if (name === "assign") this.tools.assignAt(this.at, false);
    else if (name === "brush" || name === "eraser") this.tools.dabAtCross();
    else this.select(this.labels.at(...this.at) || null, { jump: false });
  }

  // Looking

  select(lesion, { jump }) {
    this.selected = lesion || null;
    const row = this.lesion(this.selected);
    if (row) {
      this.looked.visit(row.id);
      if (jump) {
        this.goTo(row.kji);
        const axial = this.views[0];
        if (axial.zoom > 1) [axial.u, axial.v] = axial.cross;
        for (const view of this.views.slice(1)) if (view.zoom > 1) [view.u, view.v] = view.cross;
      }
    }
    this.panel.drawQueue();
    drawMode(this);
    this.draw();
  }

  next(by) {
    const ids = this.panel.rows.map((row) => row.id);
    if (!ids.length) return;
    const at = ids.indexOf(this.selected);
    this.select(ids[at < 0 ? (by > 0 ? 0 : ids.length - 1) : (at + by + ids.length) % ids.length], { jump: true });
  }

  nextOpen() {
    const open = this.panel.rows.filter((row) => row.undecided || row.artery === "UNASSIGNED").map((row) => row.id);
    if (!open.length) return this.say("Nothing is left to decide.");
    this.select(open[(open.indexOf(this.selected) + 1) % open.length], { jump: true });
  }

  goTo(kji) {
    if (!kji) return;
    const { nk, nj, ni } = this.volume;
    this.at = [nk, nj, ni].map((n, axis) => Math.min(n - 1, Math.max(0, kji[axis])));
    this.draw();
  }

  step(kind, by) {
    const axis = { axial: 0, coronal: 1, sagittal: 2 }[kind];
    this.goTo(this.at.map((x, n) => (n === axis ? x + by : x)));
  }

  setWindow(window) {
    this.window = window;
    const preset = Object.keys(WINDOWS).find((name) => (WINDOWS[name] || this.scan.window_hu).join() === window.join());
    $("window").value = preset || "own";
    this.draw();
  }

  cycleWindow() {
    const names = Object.keys(WINDOWS), next = names[(names.indexOf($("window").value) + 1) % names.length];
    this.setWindow(WINDOWS[next] || this.scan.window_hu);
    this.say(`Window: ${next}`);
  }

  setSlab(mm) {
    this.slab = mm;
    $("slab").value = String(mm);
    drawMode(this);
    this.draw();
  }

  cycleSlab() {
    this.setSlab(SLABS_MM[(SLABS_MM.findIndex((mm) => mm >= this.slab) + 1) % SLABS_MM.length]);
  }

  toggle(what) {
    if (what === "tint") this.isTinted = $("tint").checked = !this.isTinted;
    this.draw();
  }

  zoomToHeart() {
    if (this.heart) this.views[0].fit([...this.heart.columns, ...this.heart.rows]);
    this.draw();
  }

  zoom(factor) {
    const axial = this.views[0];
    axial.zoomAt(factor, ...axial.toCanvas(...axial.cross));
    this.draw();
  }

  fit() {
    for (const view of this.views) view.fit();
    this.draw();
  }

  escape() {
    if (!$("alert").hidden) $("alert").hidden = true;
    else if (this.tools.name !== "look") this.chooseTool("look");
    else this.select(null, { jump: false });
  }

  chooseTool(name) {
    if (this.isReadOnly && name !== "look") return;
    this.tools.name = name;
    if (name !== "look") this.selected = null; // a lesion that is left selected must not take the brush's keys
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    }
    this.panel.drawQueue();
    drawMode(this);
    this.draw();
  }

  chooseArtery(name) {
    this.active = name;
    drawArteries(this);
    drawMode(this);
  }

  // Telling

  say(text) {
    $("say").textContent = text;
  }

  warn(text) {
    $("alertText").textContent = text;
    $("alert").hidden = false;
  }

  /** Draws once for all that happened since the last picture. */
  draw() {
    if (this.isDrawPlanned || !this.state) return;
    this.isDrawPlanned = true;
    requestAnimationFrame(() => {
      this.isDrawPlanned = false;
      const start = performance.now();
      for (const view of this.views) view.draw();
      drawPlace(this);
      this.looked.show(...this.shownSlices);
      document.body.dataset.drawMs = (performance.now() - start).toFixed(1);
    });
  }

  async _lookAgain() {
    if (!this.state || document.body.dataset.loaded !== "yes") return;
    const state = await this.attempt(() => getJson(`${this.base}/state`));
    if (state && (state.version !== this.state.version || state.is_signed !== this.state.is_signed)) {
      this.take(state);
      this.say("The case was changed in another window; it is shown anew.");
    }
  }

  _listen() {
    const click = (id, act) => $(id).addEventListener("click", act);
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.chooseTool(button.dataset.tool));
    }
    click("undo", () => this.edit({ kind: "undo" }));
    click("redo", () => this.edit({ kind: "redo" }));
    click("heart", () => this.zoomToHeart());
    click("whole", () => this.fit());
    click("helpButton", () => $("help").showModal());
    click("closeHelp", () => $("help").close());
    click("closeAlert", () => ($("alert").hidden = true));
    click("previousCase", () => this.attempt(() => this.open(this.number - 1)));
    click("nextCase", () => this.attempt(() => this.open(this.number + 1)));
    $("slice").addEventListener("input", () => this.goTo([Number($("slice").value) - 1 - this.scan.first_slice, this.at[1], this.at[2]]));
    $("window").addEventListener("change", () => this.setWindow(WINDOWS[$("window").value] || this.scan.window_hu));
    $("slab").addEventListener("change", () => this.setSlab(Number($("slab").value)));
    $("radius").addEventListener("change", () => (this.tools.radius = Number($("radius").value)));
    $("tint").addEventListener("change", () => this.toggle("tint"));
    window.addEventListener("focus", () => this._lookAgain());
    $("theme").addEventListener("click", () => {
      const next = document.documentElement.dataset.theme === "light" ? "dark" : "light";
      document.documentElement.dataset.theme = next;
      localStorage.setItem("heartlens-theme", next);
    });
  }
}
