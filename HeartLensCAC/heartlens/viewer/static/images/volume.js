// The CT as it arrives slice by slice, and the labels over it. Indices are [k, j, i] = slice, row, column.

export class Volume {
  constructor(scan) {
    [this.nk, this.nj, this.ni] = scan.shape;
    this.spacing = scan.spacing_mm;
    this.threshold = scan.threshold_hu;
    this.Kind = scan.dtype === "int16" ? Int16Array : Float32Array;
    this.slices = new Array(this.nk); // one array a slice: drawn before the rest has come
    this.arrived = 0;
  }

  /** Reads the stream of slices, until it is not wanted any more; `onSlice` hears the index of each. */
  async load(answer, onSlice, isLeft) {
    const first = Number(answer.headers.get("x-first-slice"));
    const order = [];
    for (let k = first; k < this.nk; k++) order.push(k);
    for (let k = first - 1; k >= 0; k--) order.push(k);
    const bytes = this.nj * this.ni * this.Kind.BYTES_PER_ELEMENT;
    const reader = answer.body.getReader();
    let slice = new Uint8Array(bytes);
    let filled = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (isLeft()) return reader.cancel();
      if (done) break;
      let at = 0;
      while (at < value.length && this.arrived < this.nk) {
        const part = value.subarray(at, at + bytes - filled);
        slice.set(part, filled);
        filled += part.length;
        at += part.length;
        if (filled === bytes) {
          const k = order[this.arrived++];
          this.slices[k] = new this.Kind(slice.buffer);
          slice = new Uint8Array(bytes);
          filled = 0;
          onSlice(k);
        }
      }
    }
    if (this.arrived < this.nk) throw new Error("The scan did not arrive whole; load the page again.");
  }

  hu(k, j, i) {
    return this.slices[k] ? this.slices[k][j * this.ni + i] : NaN;
  }

  isCalcium(k, j, i) {
    return this.hu(k, j, i) >= this.threshold;
  }

  flat(k, j, i) {
    return (k * this.nj + j) * this.ni + i;
  }

  /** Slices of a slab of some mm around one, both ends inclusive. */
  slab(k, mm) {
    const half = Math.max(0, Math.round(mm / this.spacing[0]) - 1);
    const below = Math.floor(half / 2);
    return [Math.max(0, k - below), Math.min(this.nk - 1, k + half - below)];
  }
}

/** Which lesion each voxel that counts belongs to; sparse, because almost none does. */
export class Labels {
  constructor(volume, runs, arteries) {
    this.volume = volume;
    this.arteries = arteries; // lesion -> name of its artery
    this.bySlice = new Map(); // k -> Map(pixel -> lesion)
    const area = volume.nj * volume.ni;
    for (let n = 0; n < runs.length; n += 3) {
      for (let at = runs[n]; at < runs[n] + runs[n + 1]; at++) {
        const k = Math.floor(at / area);
        let pixels = this.bySlice.get(k);
        if (!pixels) this.bySlice.set(k, (pixels = new Map()));
        pixels.set(at - k * area, runs[n + 2]);
      }
    }
  }

  at(k, j, i) {
    return this.bySlice.get(k)?.get(j * this.volume.ni + i) || 0;
  }

  /** The lesion under a point of a slice, or within some pixels of it. */
  near(k0, k1, j, i, reach) {
    let best = 0, least = reach * reach + 1e-9;
    for (let k = k0; k <= k1; k++) {
      for (const [pixel, lesion] of this.bySlice.get(k) || []) {
        const d = (Math.floor(pixel / this.volume.ni) - j) ** 2 + ((pixel % this.volume.ni) - i) ** 2;
        if (d < least) [best, least] = [lesion, d];
      }
    }
    return best;
  }

  /** Labeled pixels of an axial slab, a coronal or a sagittal plane: Map(v * width + u -> lesion). */
  plane(kind, at, k0, k1) {
    const { ni, nj, nk } = this.volume;
    const found = new Map();
    for (const [k, pixels] of this.bySlice) {
      if (kind === "axial" && (k < k0 || k > k1)) continue;
      for (const [pixel, lesion] of pixels) {
        if (kind === "axial") found.set(pixel, lesion);
        else {
          const j = Math.floor(pixel / ni), i = pixel % ni;
          if (kind === "coronal" && j === at) found.set((nk - 1 - k) * ni + i, lesion);
          if (kind === "sagittal" && i === at) found.set((nk - 1 - k) * nj + j, lesion);
        }
      }
    }
    return found;
  }
}

/** Ascending indices as [start, length] runs. */
export function runsOf(indices) {
  const runs = [];
  for (const at of [...indices].sort((a, b) => a - b)) {
    const last = runs[runs.length - 1];
    if (last && last[0] + last[1] === at) last[1]++;
    else runs.push([at, 1]);
  }
  return runs;
}
