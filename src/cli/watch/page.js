"use strict";
// Draws what `state.json` says, every second or two. Texts are set as text and never as markup.
(() => {
  const page = document.getElementById("page");
  const address = location.pathname.replace(/\/?$/, "/") + "state.json";
  const SVG = "http://www.w3.org/2000/svg";
  const EVERY = 1500, AFTER_END = 15000;
  let last = null, lastAt = 0, drawn = {};

  const node = (name, cls, ...children) => {
    const made = document.createElement(name);
    if (cls) made.className = cls;
    made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return made;
  };
  const shape = (name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const duration = (s) => s < 10 ? s.toFixed(1) + " s" : s < 120 ? s.toFixed(0) + " s" :
    s < 7200 ? (s / 60).toFixed(0) + " min" : s < 172800 ? (s / 3600).toFixed(1) + " h" : (s / 86400).toFixed(1) + " days";
  const number = (v) => {
    const size = Math.abs(v);
    if (size >= 1e5 || (size > 0 && size < 1e-3)) return v.toExponential(1);
    return String(Number(v.toFixed(size >= 100 ? 0 : size >= 1 ? 2 : 4)));
  };

  const bar = (share, label) => {
    const filled = node("div");
    filled.style.width = 100 * share + "%";
    const made = node("div", "bar", filled);
    made.setAttribute("role", "progressbar");
    made.setAttribute("aria-valuemin", "0");
    made.setAttribute("aria-valuemax", "100");
    made.setAttribute("aria-valuenow", Math.floor(100 * share));
    made.setAttribute("aria-label", label);
    return made;
  };

  const head = (view) => {
    const parts = [node("div", "head", node("h1", "", view.pipeline), node("span", "word " + view.state, view.word))];
    const when = view.goes_on ? `since ${view.started_at} UTC, ${duration(view.elapsed)} ago` :
      view.state === "killed" ? `started ${view.started_at} UTC, seen for ${duration(view.elapsed)}` :
      `started ${view.started_at} UTC, took ${duration(view.elapsed)}`;
    parts.push(node("p", "soft", `run ${view.run} on ${view.host}, ${when}`));
    if (view.left) parts.push(node("p", "left", view.left));
    if (view.about) parts.push(node("p", "odd", view.about));
    if (view.selected > 0) {
      parts.push(bar(view.ended / view.selected, "stages that have ended"));
      const counts = view.counts.map(([word, count]) => `${count} ${word}`).join(", ");
      parts.push(node("p", "", `${view.ended} of ${view.selected} stages: ${counts}`));
    }
    return parts;
  };

  const stages = (view) => {
    if (view.running.length === 0) return [];
    const list = node("ul", "stages");
    for (const stage of view.running) {
      const figures = stage.figures.map(([name, value]) => `${name} ${number(value)}`);
      const what = [stage.phase || stage.count || stage.resources, ...figures];
      if (stage.left !== null) what.push(duration(stage.left) + " left");
      else if (stage.seconds !== null) what.push("for " + duration(stage.seconds));
      const share = stage.share === null ? node("div") :
        node("div", "percent", bar(stage.share, stage.stage), node("span", "", Math.floor(100 * stage.share) + " %"));
      list.append(node("li", "", node("span", "name", stage.stage), share, node("span", "what", what.join(" · ")),
        stage.note ? node("span", "note soft", stage.note) : null));
    }
    const more = view.more_running > 0 ? node("p", "soft", `and ${view.more_running} more`) : null;
    return [node("h2", "", view.goes_on ? "Running" : "Cut off"), list, more];
  };

  // Width and height of a chart, and its margins.
  const W = 480, H = 230, L = 52, R = 16, T = 10, B = 42;
  // Round numbers within two ends, six at most.
  const ticks = (low, high) => {
    const rough = (high - low) / 5, unit = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = unit * [1, 2, 2.5, 5, 10].find((by) => by * unit >= rough * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-6); i * step <= high + step * 1e-6 && found.length < 12; i++) found.push(i * step);
    return found;
  };
  const decades = (low, high) => {
    const first = Math.round(Math.log10(low)), count = Math.round(Math.log10(high)) - first, by = Math.ceil(count / 5);
    return Array.from({ length: Math.floor(count / by) + 1 }, (_, i) => Math.pow(10, first + i * by));
  };
  const kind = (series) => series.is_validation ? 2 : series.is_whole ? 1 : 0;
  const chart = (panel) => {
    const s = panel.scale;
    const place = (v) => s.is_logarithmic ? Math.log(v / s.low) / Math.log(s.high / s.low) : (v - s.low) / (s.high - s.low);
    const limit = (share) => Math.min(1, Math.max(0, share));
    const x = (v) => (L + limit((v - panel.from) / (panel.to - panel.from)) * (W - L - R)).toFixed(1);
    const y = (v) => (H - B - limit(place(v)) * (H - T - B)).toFixed(1);
    const drawing = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    for (const v of s.is_logarithmic ? decades(s.low, s.high) : ticks(s.low, s.high)) {
      drawing.append(shape("path", { class: "grid", d: `M${L} ${y(v)}H${W - R}` }),
        shape("text", { class: "name-y", x: L - 6, y: Number(y(v)) + 4 }, number(v)));
    }
    for (const v of ticks(panel.from, panel.to)) {
      drawing.append(shape("path", { class: "axis", d: `M${x(v)} ${H - B}v4` }),
        shape("text", { class: "tick", x: x(v), y: H - B + 17 }, number(v)));
    }
    drawing.append(shape("path", { class: "axis", d: `M${L} ${T}V${H - B}H${W - R}` }));
    const end = panel.end > panel.to ? ` (of ${number(panel.end)})` : "";
    drawing.append(shape("text", { class: "tick", x: (L + W - R) / 2, y: H - 6 }, panel.axis + end));
    const legend = node("ul", "legend");
    const said = [];
    for (const series of panel.series) {
      const points = series.points.map(([a, b]) => x(a) + " " + y(b));
      const k = "k" + kind(series);
      drawing.append(shape("path", { class: k + " line", d: "M" + points.join("L") }));
      // A lone point has no line.
      if (series.is_whole || points.length === 1) {
        drawing.append(shape("path", { class: k + " dots", d: points.map((p) => `M${p}h0.01`).join("") }));
      }
      const sample = shape("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" });
      sample.append(shape("path", { class: k + " line", d: "M1 7H33" }));
      if (series.is_whole) sample.append(shape("path", { class: k + " dots", d: "M17 7h0.01" }));
      const value = number(series.points[series.points.length - 1][1]);
      legend.append(node("li", "", sample, ` ${series.name}: ${value}`));
      said.push(`${series.name} ${number(series.points[0][1])} at first, ${value} now`);
    }
    drawing.setAttribute("aria-label", `${panel.name} over ${panel.axis}, up to ${number(panel.to)}${end}: ${said.join("; ")}`);
    const name = s.is_logarithmic ? panel.name + ", logarithmic" : panel.name;
    return node("figure", "", node("figcaption", "", name), drawing, legend);
  };

  const curves = (view) => {
    if (view.trainings.length === 0) return [];
    const parts = [node("h2", "", "Training")];
    for (const training of view.trainings) {
      parts.push(node("h3", "", training.stage), node("div", "panels", ...training.panels.map(chart)));
    }
    return parts;
  };

  const failures = (view) => {
    if (view.failed.length === 0) return [];
    const parts = [node("h2", "", "Failed")];
    for (const failed of view.failed) {
      parts.push(node("h3", "failed", failed.stage), node("p", "", failed.error));
      if (failed.log.length > 0) {
        const log = node("pre", "", failed.log.join("\n"));
        log.tabIndex = 0;
        parts.push(log);
      }
      parts.push(node("p", "soft", "whole log: ", node("code", "", failed.command)));
    }
    if (view.more_failed > 0) parts.push(node("p", "failed", `and ${view.more_failed} more`));
    return parts;
  };

  const end = (view) => {
    const parts = view.hints.map((hint) => node("p", "soft", hint));
    if (view.last.length > 0) {
      const said = view.last.map(([stage, word, seconds]) => `${stage} ${word}` + (seconds === null ? "" : ` in ${duration(seconds)}`));
      parts.unshift(node("p", "soft", "last: " + said.join(", ")));
    }
    return parts.length > 0 ? [node("h2", "", view.goes_on ? "What ended last" : "Next"), ...parts] : [];
  };

  // A part is drawn anew only where it has changed: what one reads stays where it is.
  const parts = { lost: null, head: head, failures: failures, stages: stages, curves: curves, end: end };
  const draw = (view) => {
    if (!drawn.head) {
      page.replaceChildren(...Object.keys(parts).map((name) => (drawn[name] = { place: node("section") }).place));
      drawn.head.place.setAttribute("aria-label", "State of the run");
    }
    for (const name in parts) {
      if (!parts[name]) continue;
      const made = parts[name](view).filter((part) => part);
      const text = made.map((part) => part.outerHTML).join("");
      if (drawn[name].text !== text) drawn[name].place.replaceChildren(...made);
      drawn[name].text = text;
    }
    document.title = `${view.left && view.selected ? Math.floor(100 * view.ended / view.selected) + " %, " : ""}${view.word}: ${view.pipeline}`;
  };
  const lost = () => {
    if (!last) {
      page.replaceChildren(node("p", "lost", "no answer: has `dynvis watch --serve` ended?"));
      return;
    }
    const ago = duration((Date.now() - lastAt) / 1000);
    drawn.lost.place.replaceChildren(node("p", "lost", `No answer since ${ago}: has dynvis watch --serve ended? What follows is the last that was seen.`));
  };

  const ask = async () => {
    if (!document.hidden || !last) {
      try {
        const answer = await fetch(address, { cache: "no-store", credentials: "omit" });
        if (!answer.ok) throw new Error(answer.status);
        last = await answer.json();
        lastAt = Date.now();
        draw(last);
        drawn.lost.place.replaceChildren();
      } catch (error) {
        lost();
      }
    }
    setTimeout(ask, last && !last.goes_on ? AFTER_END : EVERY);
  };
  ask();
})();
