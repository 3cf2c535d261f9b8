// Sorting, filtering, saving as CSV, and the numbers behind points. Nothing here reaches beyond the page.
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("live");

  // ---- tables
  const MORE = 500;
  const states = new Map();

  /** Columns and order of a table; read when it is first needed. */
  function stateOf(element) {
    let state = states.get(element);
    if (!state) {
      const read = JSON.parse($("#data-" + element.id.slice(6)).textContent);
      const columns = read.columns.map((column, i) => {
        const data = read.data[i];
        const values = data.texts ? data.places.map((place) => (place === null ? null : data.texts[place])) : data;
        return { ...column, values };
      });
      const rows = columns.length ? columns[0].values.length : 0;
      const order = Array.from({ length: rows }, (_, i) => i);
      state = { columns, rows, order, height: read.height, sorted: -1, down: false, shown: Number(element.dataset.first) };
      states.set(element, state);
      all("th button", element).forEach((button, i) => { button.title = columns[i].about; });
    }
    return state;
  }

  function said(value) {
    if (value === null) return "\u2013";
    if (typeof value !== "number" || Number.isInteger(value)) return String(value);
    return String(Number(value.toPrecision(6)));
  }

  /** What a filter asks for: a test of a row. Words stand anywhere in it; `column>1` holds for the column's value. */
  function testOf(state, text) {
    const terms = text.match(/[^\s"]*"[^"]*"|\S+/g) || [];
    const tests = terms.map((term) => {
      const parts = term.match(/^([^<>=!]+)(<=|>=|!=|<|>|=)(.*)$/s);
      const column = parts && state.columns.find((c) => c.name.toLowerCase() === parts[1].toLowerCase());
      const bare = (word) => word.replaceAll('"', "");
      if (!column) {
        const word = bare(term).toLowerCase();
        return (row) => state.columns.some((c) => said(c.values[row]).toLowerCase().includes(word));
      }
      const wanted = bare(parts[3]);
      const number = Number(wanted);
      const isNumber = wanted !== "" && !Number.isNaN(number);
      const same = (value) =>
        value === null ? wanted === "" || wanted === "-" : isNumber && typeof value === "number" ? value === number : String(value) === wanted;
      const ordered = (compare) => (row) => {
        const value = column.values[row];
        return isNumber && typeof value === "number" && compare(value);
      };
      switch (parts[2]) {
        case "=": return (row) => same(column.values[row]);
        case "!=": return (row) => !same(column.values[row]);
        case "<": return ordered((value) => value < number);
        case "<=": return ordered((value) => value <= number);
        case ">": return ordered((value) => value > number);
        default: return ordered((value) => value >= number);
      }
    });
    return (row) => tests.every((test) => test(row));
  }

  function compare(a, b) {
    // What is missing comes last, whichever way the order goes.
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }

  function arrange(element) {
    const state = stateOf(element);
    const test = testOf(state, $("input", element).value);
    state.order = [];
    for (let row = 0; row < state.rows; row += 1) if (test(row)) state.order.push(row);
    if (state.sorted >= 0) {
      const values = state.columns[state.sorted].values;
      const sign = state.down ? -1 : 1;
      state.order.sort((a, b) => {
        const [x, y] = [values[a], values[b]];
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * compare(x, y);
      });
    }
    draw(element);
  }

  function draw(element) {
    const state = stateOf(element);
    const body = document.createElement("tbody");
    for (const row of state.order.slice(0, state.shown)) {
      const line = body.insertRow();
      for (const column of state.columns) {
        const cell = line.insertCell();
        cell.textContent = said(column.values[row]);
        if (column.number) cell.className = "number";
      }
    }
    $("tbody", element).replaceWith(body);
    all("th", element).forEach((head, i) => {
      if (i === state.sorted) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const found = state.order.length;
    $(".count", element).textContent = found === state.rows ? `${state.rows} rows` : `${found} of ${state.rows} rows`;
    $(".more", element).hidden = state.shown >= found;
  }

  function csv(element) {
    const state = stateOf(element);
    const cell = (value) => {
      const text = value === null ? "" : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [state.columns.map((c) => cell(c.name)).join(",")];
    for (const row of state.order) lines.push(state.columns.map((c) => cell(c.values[row])).join(","));
    const link = document.createElement("a");
    const part = state.order.length < state.height ? "_part" : "";
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = element.dataset.name.replace(/[^\w.@=,+-]+/g, "_") + part + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const element = button && button.closest("details.table");
    if (!element) return;
    const state = stateOf(element);
    if (button.classList.contains("csv")) return csv(element);
    if (button.classList.contains("more")) {
      state.shown += MORE;
      return draw(element);
    }
    const column = all("th button", element).indexOf(button);
    if (state.sorted === column) state.down = !state.down;
    else [state.sorted, state.down] = [column, false];
    arrange(element);
  });
  document.addEventListener("input", (event) => {
    const element = event.target.closest("details.table");
    if (element) arrange(element);
  });
  // What a column means is said where one points at its name.
  document.addEventListener("pointerover", (event) => {
    const button = event.target.closest && event.target.closest("th button");
    if (button) stateOf(button.closest("details.table"));
  });
  // A link into something closed opens it.
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  }
  window.addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  // On paper nothing is closed.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((element) => { element.open = false; }));

  // ---- figures
  const numbers = new Map();
  const tip = $("#tip");
  const SVG = "http://www.w3.org/2000/svg";
  const NEAR = 30;

  function numbersOf(figure) {
    if (!numbers.has(figure)) numbers.set(figure, JSON.parse($("#numbers-" + figure.id.slice(7)).textContent));
    return numbers.get(figure);
  }

  /** The numbers of a panel and where its points stand in its own pixels. */
  function panelOf(svg) {
    const figure = svg.closest("figure");
    const read = numbersOf(figure);
    const panel = read.panels[all(".panel > svg", figure).indexOf(svg)];
    if (!panel.points) {
      const share = ([low, high, isLog], value) => {
        const map = (v) => (isLog ? Math.log10(Math.max(v, 1e-300)) : v);
        return (map(value) - map(low)) / (map(high) - map(low));
      };
      const [left, top, width, height] = panel.box;
      panel.points = panel.curves.flatMap((curve, c) => curve.x.map((x, i) => ({
        c, i,
        px: left + share(panel.ax, x) * width,
        py: top + (1 - share(panel.ay, curve.y[i])) * height,
      })));
    }
    return { read, panel };
  }

  const minus = (value) => said(value).replace("-", "\u2212");

  function describe(read, panel, point) {
    const curve = panel.curves[point.c];
    const [x, y] = [curve.x[point.i], curve.y[point.i]];
    const ends = curve.i && curve.i[point.i];
    const interval = ends ? ` [${minus(ends[0])}, ${minus(ends[1])}]` : "";
    const count = curve.n && curve.n[point.i] > 1 ? `, mean of ${curve.n[point.i]}` : "";
    const lines = curve.label ? [curve.label] : [];
    if (read.mark === "forest") lines.push(`${read.x}: ${minus(x)}${interval}${count}`);
    else if (read.mark === "matrix") {
      lines.push(`${read.x}: ${minus(panel.columns[x])}`, `${read.y}: ${minus(panel.rows[y])}`);
      lines.push(`${read.value}: ${minus(curve.v[point.i])}${count}`);
    } else lines.push(`${read.x}: ${minus(x)}`, `${read.y}: ${minus(y)}${interval}${count}`);
    return lines;
  }

  function show(svg, point) {
    const { read, panel } = panelOf(svg);
    tip.replaceChildren(...describe(read, panel, point).map((line) => {
      const element = document.createElement("div");
      element.textContent = line;
      return element;
    }));
    tip.hidden = false;
    const ring = document.createElementNS(SVG, "circle");
    ring.setAttribute("cx", point.px);
    ring.setAttribute("cy", point.py);
    ring.setAttribute("r", 6);
    $(".at", svg).replaceChildren(ring);
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = box.left + point.px * scale;
    const y = box.top + point.py * scale;
    const size = tip.getBoundingClientRect();
    const left = x + 14 + size.width > innerWidth ? x - 14 - size.width : x + 14;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(innerHeight - size.height - 4, y - size.height - 10))}px`;
  }

  function hide(svg) {
    tip.hidden = true;
    const ring = svg && $(".at", svg);
    if (ring) ring.replaceChildren();
  }

  const panelAt = (event) => event.target.closest && event.target.closest(".panel > svg");
  let last = null;
  document.addEventListener("pointermove", (event) => {
    const svg = panelAt(event);
    if (last && last !== svg) hide(last);
    last = svg;
    if (!svg) return;
    const { panel } = panelOf(svg);
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null;
    let least = NEAR * NEAR;
    for (const point of panel.points) {
      const distance = (point.px - x) ** 2 + (point.py - y) ** 2;
      if (distance < least) [best, least] = [point, distance];
    }
    if (best) show(svg, best);
    else hide(svg);
  });
  document.addEventListener("scroll", () => hide(last), true);

  // By keys: left and right along a curve, up and down from curve to curve.
  const at = new WeakMap();
  document.addEventListener("keydown", (event) => {
    const svg = panelAt(event);
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!svg) return;
    if (event.key === "Escape") return hide(svg);
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const { panel } = panelOf(svg);
    const now = at.get(svg);
    const clamp = (value, end) => Math.max(0, Math.min(end, value));
    const c = now ? clamp(now.c + step[0], panel.curves.length - 1) : 0;
    const i = now ? clamp(now.i + step[1], panel.curves[c].x.length - 1) : 0;
    const point = panel.points.find((other) => other.c === c && other.i === i);
    if (!point) return;
    at.set(svg, point);
    show(svg, point);
  });
  document.addEventListener("focusout", (event) => { if (panelAt(event)) hide(event.target); });

  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
