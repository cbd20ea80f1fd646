// Where a place of the current scan lies in the earlier one, and back; indices are [k, j, i] = slice, row, column.

/** From the server's three rows, each of which gives an index from [k, j, i, 1]; without them, by the share of the scan. */
export class Link {
  constructor(rows, current, prior) {
    const share = [prior.nk / current.nk, prior.nj / current.nj, prior.ni / current.ni];
    this.isKnown = Boolean(rows);
    this.there = rows || share.map((s, n) => [0, 1, 2].map((m) => (m === n ? s : 0)).concat((s - 1) / 2));
    this.back = inverted(this.there);
  }

  toPrior(kji) {
    return applied(this.there, kji);
  }

  toCurrent(kji) {
    return applied(this.back, kji);
  }
}

function applied(rows, [k, j, i]) {
  return rows.map(([a, b, c, d]) => a * k + b * j + c * i + d);
}

/** Of [A | t]: [A⁻¹ | −A⁻¹ t]. */
export function inverted(rows) {
  const [[a, b, c], [d, e, f], [g, h, i]] = rows, t = rows.map((row) => row[3]);
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const back = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((x) => x / det));
  return back.map((row) => [...row, -(row[0] * t[0] + row[1] * t[1] + row[2] * t[2])]);
}
