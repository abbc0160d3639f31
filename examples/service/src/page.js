// Shows what the stream of samples says. Text is only ever set as text: nothing in a sample can become markup.
"use strict";

const KEPT = 240;
const LATE_AFTER = 5000; // ms without a sample, of which two come in each second
const rates = [];
const times = [];
const queries = [];
let last = 0;

const at = (id) => document.getElementById(id);
const show = (id, text) => { at(id).textContent = text; };

function seconds(value) {
  if (value === null) return "–";
  if (value < 0.0001) return "< 0.1 ms";
  if (value < 0.01) return `${(value * 1e3).toFixed(1)} ms`;
  if (value < 1) return `${(value * 1e3).toFixed(0)} ms`;
  return `${value.toFixed(1)} s`;
}

function ago(value) {
  const s = Math.max(0, Math.round(value));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

function rate(value) {
  return value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

function keep(series, value) {
  series.push(value);
  if (series.length > KEPT) series.shift();
}

function draw(id, series, label, top = Math.max(...series, 0)) {
  const points = series.map((value, n) => {
    const x = 240 - (series.length - 1 - n);
    const y = top > 0 ? 58 - 54 * (value / top) : 58;
    return `${x},${y.toFixed(1)}`;
  });
  const line = `M${points.join("L")}`;
  const under = `${line}L240,60L${240 - series.length + 1},60Z`;
  const paths = [["under", under], ["line", line]].map(([name, d]) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    path.setAttribute("d", d);
    return path;
  });
  at(id).replaceChildren(...paths);
  const peak = Math.max(...series, 0);
  show(`${id}-top`, peak > 0 ? `peak ${label(peak)}` : "");
}

function trouble({ at: when, text }) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  const date = new Date(when * 1000);
  time.dateTime = date.toISOString();
  time.textContent = date.toLocaleTimeString();
  const what = document.createElement("span");
  what.textContent = text;
  item.append(time, what);
  return item;
}

function render(sample) {
  const { health, stage } = sample;
  const { status } = health;
  const limit = status.size + status.overflow;
  const ending = stage === "draining" || stage === "ending";
  const state = ending ? "draining" : health.readiness;
  document.title = `${state} – ${sample.pool}`;
  show("pool", sample.pool);
  show("readiness", state);
  at("readiness").dataset.state = state;
  show("since", ending ? "" : `for ${ago(sample.at - health.since)}`);
  for (const [id, count] of [
    ["open", status.open], ["in-use", status.in_use], ["cleaning", status.cleaning], ["idle", status.idle],
    ["connecting", status.connecting], ["waiting", status.waiting],
  ]) {
    show(id, count.toLocaleString("en"));
    const part = at("bar").querySelector(`.${id}`);
    if (part) part.style.width = `${100 * count / Math.max(1, limit)}%`;
  }
  show("limit", `of ${limit.toLocaleString("en")}, ${status.size.toLocaleString("en")} kept`);
  show("rate", rate(sample.gets_per_second));
  show("gets", sample.gets.toLocaleString("en"));
  show("timeouts", sample.timeouts.toLocaleString("en"));
  show("p50", seconds(sample.get_p50));
  show("p99", seconds(sample.get_p99));
  show("query-rate", rate(sample.queries_per_second));
  show("query-p50", seconds(sample.query_p50));
  show("query-p99", seconds(sample.query_p99));
  show("opened", sample.opened.toLocaleString("en"));
  show("failed", sample.failed_attempts ? `${sample.failed_attempts.toLocaleString("en")} failed` : "");
  keep(rates, sample.gets_per_second);
  keep(times, sample.get_p99 ?? 0);
  keep(queries, sample.query_p99 ?? 0);
  draw("rates", rates, (top) => `${rate(top)} per second`);
  // On one scale, so that it shows where the time goes.
  const longest = Math.max(...times, ...queries, 0);
  draw("times", times, seconds, longest);
  draw("queries", queries, seconds, longest);
  at("troubles").replaceChildren(...sample.troubles.map(trouble));
  at("no-troubles").hidden = sample.troubles.length > 0;
}

function live(is) {
  at("page").dataset.live = is ? "yes" : "no";
  show("link", is ? "live" : "no news from the service, trying again");
}

function follow() {
  const source = new EventSource("events");
  source.onmessage = (message) => {
    last = Date.now();
    live(true);
    render(JSON.parse(message.data));
  };
  source.onerror = () => {
    live(false);
    // A stream that broke off is asked for again by the browser; one that was refused is not.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 1000);
  };
}

// A connection that is dead without having been closed shows no error.
setInterval(() => { if (last && Date.now() - last > LATE_AFTER) live(false); }, 1000);
follow();
