// The application: what it shows, what the reader does, and the one road by which anything is changed.

import { $, ofLeft, takeEditingAway } from "./dom.js";
import { ARTERY_KEYS, listenToControls, listenToKeys } from "./keys.js";
import { Looked } from "./looked.js";
import { Panel, drawArteries, drawMode, drawName, drawPlace } from "./panel.js";
import { Prior } from "./prior/prior.js";
import { Readings } from "./readings/readings.js";
import { Refusal, getJson, getStream, post } from "./server.js";
import { Told } from "./told.js";
import { Tools } from "./tools.js";
import { View } from "./images/view.js";
import { Labels, Volume } from "./images/volume.js";
import { Worklist } from "./worklist/worklist.js";

const WINDOWS = { calcium: null, mediastinum: [-160, 240], bone: [-400, 1600], lung: [-1350, 150] }; // HU, black and white
const SLABS_MM = [0, 3, 5, 10, 20];
const LEFT = { edit: "this edit was not made", sign: "nothing was signed or written", export: "nothing was written" };

export class App {
  constructor() {
    Object.assign(this, {
      number: 0, at: [0, 0, 0], window: [-200, 500], slab: 0, isTinted: true, selected: null, active: "LAD",
      opened: {}, turn: {}, road: Promise.resolve(), told: new Told(),
    });
    this.looked = new Looked(this);
    this.tools = new Tools(this);
    this.views = ["axial", "coronal", "sagittal"].map((kind) => new View(kind, $(kind), this));
    this.panel = new Panel(this);
    this.besides = [new Readings(this), new Prior(this)]; // at most one of them has something to show
    this.list = new Worklist(this);
    for (const view of this.views) this.tools.listen(view);
    listenToKeys(this);
    listenToControls(this);
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

  /** Until the case is there, what the reader does is done to the one that is still shown. */
  async open(number) {
    const turn = (this.turn = {}), start = performance.now(), seen = this.told.count;
    this.say("Reading the scan …");
    try {
      await this.road;
      const answer = await getJson(`api/cases/${number}`);
      await this.looked.flush();
      if (turn !== this.turn) return; // another was asked for since
      this.told.forget(seen);
      this._change(number, answer);
    } catch (error) {
      if (turn === this.turn) throw error;
      return;
    }
    const { opened } = this;
    try {
      await this._load(opened, start);
    } catch (error) {
      if (opened === this.opened) throw error;
    }
  }

  /** Everything of a case takes the place of everything of another, with nothing awaited in between. */
  _change(number, { scan, state, cases }) {
    if (this.state) this.told.leave();
    Object.assign(this, {
      opened: {}, number, scan, volume: new Volume(scan), heart: null, selected: null, state: null,
      at: state.lesions[0]?.kji ?? scan.shape.map((n) => Math.floor(n / 2)),
    });
    document.body.dataset.loaded = "no";
    delete document.body.dataset.ready;
    if (scan.is_copy) takeEditingAway();
    this.looked.begin(state.viewed);
    this.tools.begin();
    for (const one of this.besides) one.begin();
    this.setWindow([...scan.window_hu]);
    for (const view of this.views) view.shown = "";
    this.list.cases = cases;
    drawName(this, cases);
    drawArteries(this);
    this.take(state);
    for (const view of this.views) view.fit();
    Object.assign($("slice"), { min: String(1 + scan.first_slice), max: String(this.volume.nk + scan.first_slice) });
    $("page").hidden = false;
  }

  async _load(opened, start) {
    const { base } = this, isLeft = () => opened !== this.opened;
    let isFirst = true;
    const draw = () => {
      if (isFirst) this.views[0].draw();
      if (isFirst) document.body.dataset.firstMs = String(Math.round(performance.now() - start));
      isFirst = false;
      this.draw();
    };
    const stream = await getStream(`${base}/ct?first=${this.at[0]}`);
    if (isLeft()) return stream.body.cancel();
    await this.volume.load(stream, draw, isLeft);
    if (isLeft()) return;
    document.body.dataset.loaded = "yes";
    document.body.dataset.loadMs = String(Math.round(performance.now() - start));
    this.say(this.state.lines[0]);
    const heart = await getJson(`${base}/heart`);
    if (isLeft()) return;
    this.heart = heart;
    this.zoomToHeart();
    await this.besides[0].load(isLeft);
    if (isLeft()) return;
    await this.looked.flush({ isAsking: true }); // the server knows of what slices by now
    if (isLeft()) return;
    document.body.dataset.ready = "yes";
    await Promise.all([this.list.refresh(), this.besides[1].load(isLeft)]); // nobody waits for these
  }

  /** A state from the server takes the place of the one that is shown. */
  take(state) {
    const isNew = this.state?.version !== state.version;
    this.state = state;
    this.looked.compare(state.viewed);
    this.labels = new Labels(this.volume, state.runs, state.arteries);
    if (this.selected !== null && !this.lesion(this.selected)) this.selected = null;
    if (isNew) this.panel.draw();
    else {
      this.panel.drawResult();
      this.panel.drawQueue();
      this.panel.drawNotes();
      this.panel.drawSign();
    }
    for (const one of this.besides) one.drawTable();
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
    const start = performance.now(), { opened } = this;
    return this.send("edit", words).then((answer) => {
      if (!answer || opened !== this.opened) return;
      this.say(this.state.lines[0]);
      requestAnimationFrame(() => (document.body.dataset.editMs = (performance.now() - start).toFixed(1)));
    });
  }

  /** Asks for a change of the case that is shown now, after `first`, and never of another; null where none was made. */
  send(what, words, first = null) {
    const { opened, base } = this, isLeft = () => opened !== this.opened, seen = this.told.count;
    return this._inTurn(async () => {
      await first;
      if (isLeft()) throw new Refusal(0, `Another case was opened first: ${LEFT[what]}.`);
      try {
        const answer = await post(`${base}/${what}`, { version: this.state.version, ...words });
        if (isLeft()) return answer;
        this.take(answer);
        this.told.forget(seen);
        return answer;
      } catch (error) {
        if (isLeft()) throw new Refusal(0, ofLeft(error.message));
        if (error.status === 409) await this._showAnew();
        throw error;
      }
    });
  }

  _inTurn(act) {
    this.road = this.road.then(() => this.attempt(act));
    return this.road;
  }

  async attempt(act) {
    try {
      return await act();
    } catch (error) {
      this.warn(error instanceof Refusal ? error.message : `The page failed (${error.message}); load it again.`);
      return null;
    }
  }

  /** After an edit that came too late; where this fails, the next edit comes too late as well and asks again. */
  async _showAnew() {
    const { opened } = this;
    try {
      const state = await getJson(`${this.base}/state`);
      if (opened === this.opened) this.take(state);
    } catch { /* what is told is that the edit was not made */ }
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

  /** The tool at the crosshair; `isPart` as Ctrl or Alt with the pointer. */
  useTool(isPart) {
    const { name } = this.tools;
    if (name === "assign") this.tools.assignAt(this.at, isPart);
    else if (name === "cut" || name === "box") this.warn("Cut and Box need the pointer; by keys, the brush gives the same voxels.");
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

  setPreset(name) {
    this.setWindow(WINDOWS[name] || this.scan.window_hu);
  }

  cycleWindow() {
    const names = Object.keys(WINDOWS), next = names[(names.indexOf($("window").value) + 1) % names.length];
    this.setPreset(next);
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
    if (!this.told.isEmpty) this.told.forget();
    else if (this.tools.name !== "look") this.chooseTool("look");
    else this.select(null, { jump: false });
  }

  chooseTool(name) {
    if (this.isReadOnly && name !== "look") return;
    this.tools.name = name;
    if (name !== "look") this.selected = null; // a lesion that is left selected must not take the brush's keys
    for (const button of document.querySelectorAll("button[data-tool]")) {
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
    this.told.tell(text);
  }

  /** Draws once for all that happened since the last picture. */
  draw() {
    if (this.isDrawPlanned || !this.state) return;
    this.isDrawPlanned = true;
    requestAnimationFrame(() => {
      this.isDrawPlanned = false;
      const start = performance.now();
      for (const view of this.views) view.draw();
      for (const one of this.besides) one.draw();
      drawPlace(this);
      this.looked.show(...this.shownSlices);
      document.body.dataset.drawMs = (performance.now() - start).toFixed(1);
    });
  }

  async lookAgain() {
    if (!this.state || document.body.dataset.loaded !== "yes") return;
    const { opened } = this;
    await this._inTurn(async () => {
      const state = opened === this.opened && (await getJson(`${this.base}/state`));
      if (!state || opened !== this.opened) return;
      if (["version", "is_signed", "read_only"].every((name) => state[name] === this.state[name])) return;
      this.take(state);
      this.say("The case was changed in another window; it is shown anew.");
    });
  }
}
