// Draws the charts of a page from the tables beside them, and sends forms when a choice was made.
"use strict";

document.documentElement.classList.add("scripted");

for (const form of document.querySelectorAll("form[data-auto]")) {
  form.addEventListener("change", () => form.requestSubmit());
  // Fields that say nothing do not belong into the address.
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && (field.value === "" || field.value === "auto")) field.disabled = true;
  });
}
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form[data-auto] :disabled")) field.disabled = false;
});

const svgNames = "http://www.w3.org/2000/svg";

function draw(name, attributes, parent, text) {
  const node = document.createElementNS(svgNames, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

// number shows a value with about four digits, as the tables do.
function number(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e12 || size < 1e-4) return value.toExponential(2);
  if (size >= 1000) return value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, "\u2009").replace("-", "−");
  const digits = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return String(Number(value.toFixed(digits))).replace("-", "−");
}

// stepsOf gives round values that divide a range into about so many parts, none smaller than the finest.
function stepsOf(least, greatest, parts, finest) {
  const rough = Math.max((greatest - least) / parts, finest);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const steps = [];
  for (let i = Math.ceil(least / step - 1e-9); i * step <= greatest + step * 1e-9; i++) steps.push(i * step);
  return steps;
}

const second = 1000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;
const spans = [second, 2 * second, 5 * second, 10 * second, 30 * second, minute, 2 * minute, 5 * minute, 10 * minute, 30 * minute,
  hour, 3 * hour, 6 * hour, 12 * hour, day, 2 * day, 7 * day, 14 * day];
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (n) => String(n).padStart(2, "0");

// moments gives round times that divide a range into about so many parts, with what to write beside them.
function moments(from, to, parts) {
  const rough = (to - from) / parts;
  const span = spans.find((s) => s >= rough);
  const list = [];
  if (span) {
    const monday = 4 * day;
    const start = span >= 7 * day ? monday : 0;
    for (let t = Math.ceil((from - start) / span) * span + start; t <= to; t += span) list.push([t, momentText(new Date(t), span, list.length)]);
    return list;
  }
  const every = [1, 3, 6, 12, 24, 60, 120].find((n) => n * 30 * day >= rough) || 240;
  const first = new Date(from);
  for (let m = first.getUTCFullYear() * 12 + Math.ceil((first.getUTCMonth() + 1) / every) * every; ; m += every) {
    const t = Date.UTC(Math.floor(m / 12), m % 12);
    if (t > to) return list;
    if (t >= from) list.push([t, every >= 12 ? String(Math.floor(m / 12)) : `${months[m % 12]} ${Math.floor(m / 12)}`]);
  }
}

function momentText(t, span, index) {
  const clock = `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}` + (span < minute ? `:${two(t.getUTCSeconds())}` : "");
  const date = `${t.getUTCDate()} ${months[t.getUTCMonth()]}`;
  if (span >= day) return t.getUTCMonth() === 0 && t.getUTCDate() <= span / day ? `${date} ${t.getUTCFullYear()}` : date;
  return index === 0 || clock.startsWith("00:00") ? `${date} ${clock}` : clock;
}

// elapsed gives round times since the first point.
function elapsed(from, to, parts) {
  const span = spans.find((s) => s >= (to - from) / parts) || day;
  const list = [];
  for (let t = 0; t <= to - from; t += span) list.push([from + t, `${Math.floor(t / minute)}:${two((t % minute) / second)}`]);
  return list;
}

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.points = [...document.getElementById(figure.dataset.table).tBodies[0].rows].map((row) => {
      const value = (name) => (row.dataset[name] === undefined ? undefined : Number(row.dataset[name]));
      const link = row.querySelector("a");
      return {
        t: value("t"), mean: value("mean"), median: value("median"), p95: value("p95"), p99: value("p99"), count: value("count"),
        when: row.dataset.when, commit: row.dataset.commit || "", href: link ? link.href : "",
      };
    });
    if (this.points.length === 0) return;
    this.sums = this.points.some((p) => p.count > 1);
    this.unit = figure.dataset.unit ? " " + figure.dataset.unit : "";
    this.svg = draw("svg", { tabindex: 0, role: "group", "aria-roledescription": "chart", "aria-label": this.describe() });
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.spoken = document.createElement("p");
    this.spoken.className = "unseen";
    this.spoken.setAttribute("aria-live", "polite");
    figure.append(this.svg, this.tip, this.spoken);
    this.listen();
    new ResizeObserver(() => this.paint()).observe(figure);
    this.paint();
  }

  describe() {
    const walk = "Walk along it with the arrow keys" + (this.points[0].href ? ", and open a point with Enter." : ".");
    return `${this.figure.dataset.label}: ${this.points.length} points from ${this.points[0].when} to ${this.points.at(-1).when}. ${walk}`;
  }

  paint() {
    const width = Math.floor(this.figure.clientWidth);
    if (width === 0 || width === this.width) return;
    this.width = width;
    const low = this.figure.classList.contains("low");
    this.height = Math.round(low ? Math.min(240, Math.max(170, width * 0.24)) : Math.min(430, Math.max(250, width * 0.42)));
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    this.scale();
    this.axes();
    this.commits();
    this.marks();
    this.cross = draw("line", { class: "cross", y1: this.top, y2: this.bottom, visibility: "hidden" }, this.svg);
    this.spot = draw("circle", { class: "spot", r: 5.5, visibility: "hidden" }, this.svg);
    this.select(-1);
  }

  scale() {
    const shown = this.points.flatMap((p) => (this.sums ? [p.mean, p.p95, p.p99] : [p.mean]));
    let least = Math.min(...shown), greatest = Math.max(...shown);
    const counts = this.figure.dataset.counts !== undefined; // things that can be counted: their axis has whole numbers
    if (counts) greatest = Math.max(1, greatest);
    if (counts && greatest - least < 2) least = Math.max(0, Math.floor(greatest) - 2);
    if (least === greatest) {
      const room = Math.abs(least) * 0.1 || 1;
      least -= room;
      greatest += room;
    }
    if (least >= 0 && least < greatest * 0.4) least = 0;
    const room = (greatest - least) * 0.06;
    if (least !== 0) least -= room;
    greatest += room;
    this.ticks = stepsOf(least, greatest, this.height < 260 ? 4 : 6, counts ? 1 : 0);
    const texts = this.ticks.map(number);
    this.left = Math.max(...texts.map((text) => text.length)) * 7.2 + 12;
    this.right = this.width - 12;
    this.cuts = this.points.filter((p, i) => p.commit && (i === 0 || p.commit !== this.points[i - 1].commit));
    if (this.cuts.length < 2 || this.cuts.length > 16) this.cuts = [];
    this.top = this.cuts.length ? 28 : 10;
    this.bottom = this.height - 28;
    const from = this.points[0].t, to = this.points.at(-1).t;
    this.y = (value) => this.bottom - ((value - least) / (greatest - least)) * (this.bottom - this.top);
    this.x = (t) => (to === from ? (this.left + this.right) / 2 : this.left + 8 + ((t - from) / (to - from)) * (this.right - this.left - 16));
  }

  axes() {
    for (const tick of this.ticks) {
      const y = Math.round(this.y(tick)) + 0.5;
      draw("line", { class: "grid", x1: this.left, x2: this.right, y1: y, y2: y }, this.svg);
      draw("text", { class: "tick", x: this.left - 8, y: y + 4, "text-anchor": "end" }, this.svg, number(tick));
    }
    const from = this.points[0].t, to = this.points.at(-1).t;
    const parts = Math.max(3, Math.floor((this.right - this.left) / 120));
    const times = to === from ? [[from, this.points[0].when]] : (this.figure.dataset.axis === "elapsed" ? elapsed : moments)(from, to, parts);
    for (const [t, text] of times) {
      const x = this.x(t), half = text.length * 3.4;
      const anchor = x - half < this.left ? "start" : x + half > this.right ? "end" : "middle";
      draw("line", { class: "grid", x1: x, x2: x, y1: this.bottom, y2: this.bottom + 5 }, this.svg);
      draw("text", { class: "tick", x, y: this.bottom + 20, "text-anchor": anchor }, this.svg, text);
    }
  }

  // commits marks where another commit begins to be measured.
  commits() {
    const room = 74, newest = this.cuts.at(-1);
    const left = newest && this.x(newest.t) + room > this.width; // the newest has its name in any case
    let free = 0;
    for (const p of this.cuts) {
      const x = Math.round(this.x(p.t)) + 0.5;
      draw("line", { class: "cut", x1: x, x2: x, y1: 16, y2: this.bottom }, this.svg);
      const end = p === newest && left;
      if (p !== newest && (x < free || x + room > this.x(newest.t) - (left ? room : 0))) continue;
      draw("text", { class: "tick commit", x: end ? x - 4 : x + 4, y: 14, "text-anchor": end ? "end" : "start" }, this.svg, p.commit.slice(0, 8));
      free = x + room;
    }
  }

  marks() {
    const line = (name) => this.points.map((p) => `${this.x(p.t).toFixed(1)},${this.y(p[name]).toFixed(1)}`);
    const band = (upper, lower, style) => draw("polygon", { class: style, points: [...line(upper), ...line(lower).reverse()].join(" ") }, this.svg);
    if (this.sums) {
      band("p99", "p95", "outer-band");
      band("p95", "mean", "inner-band");
    }
    draw("polyline", { class: "mean", points: line("mean").join(" ") }, this.svg);
    if ((this.right - this.left) / this.points.length < 9) return;
    for (const p of this.points) draw("circle", { class: "dot", cx: this.x(p.t), cy: this.y(p.mean), r: 3.2 }, this.svg);
  }

  listen() {
    const nearest = (event) => {
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      let best = 0;
      this.points.forEach((p, i) => {
        if (Math.abs(this.x(p.t) - x) < Math.abs(this.x(this.points[best].t) - x)) best = i;
      });
      return best;
    };
    this.svg.addEventListener("pointermove", (event) => this.select(nearest(event)));
    this.svg.addEventListener("pointerleave", () => this.select(-1));
    this.svg.addEventListener("blur", () => this.select(-1));
    this.svg.addEventListener("click", (event) => this.open(nearest(event)));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const last = this.points.length - 1;
    const to = { ArrowRight: Math.min(last, this.chosen + 1), ArrowLeft: this.chosen < 0 ? last : Math.max(0, this.chosen - 1), Home: 0, End: last }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.select(to, true);
    } else if (event.key === "Enter" && this.chosen >= 0) {
      this.open(this.chosen);
    } else if (event.key === "Escape") {
      this.select(-1);
    }
  }

  open(index) {
    const href = this.points[index].href;
    if (href) location.assign(href);
  }

  // select shows a point's numbers; -1 shows none.
  select(index, aloud) {
    this.chosen = index;
    const visible = index >= 0 ? "visible" : "hidden";
    this.cross.setAttribute("visibility", visible);
    this.spot.setAttribute("visibility", visible);
    this.tip.hidden = index < 0;
    if (index < 0) return;
    const p = this.points[index], x = this.x(p.t), y = this.y(p.mean);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.spot.setAttribute("cx", x);
    this.spot.setAttribute("cy", y);
    const rows = p.count > 1 ? [["mean", p.mean], ["median", p.median], ["p95", p.p95], ["p99", p.p99]] : [["value", p.mean]];
    this.fillTip(p, rows);
    const box = this.svg.getBoundingClientRect(), outer = this.figure.getBoundingClientRect();
    const left = x + 16 + this.tip.offsetWidth > this.width ? x - 16 - this.tip.offsetWidth : x + 16;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${box.top - outer.top + Math.min(Math.max(0, y - 30), this.bottom - this.tip.offsetHeight)}px`;
    if (aloud) this.spoken.textContent = `${p.when}: ${rows.map(([name, value]) => `${name} ${number(value)}${this.unit}`).join(", ")}`;
  }

  fillTip(p, rows) {
    const add = (name, text, parent) => {
      const node = document.createElement(name);
      node.textContent = text;
      parent.append(node);
      return node;
    };
    this.tip.replaceChildren();
    add("b", p.when, this.tip);
    const list = add("dl", "", this.tip);
    for (const [name, value] of rows) {
      add("dt", name, list);
      add("dd", number(value) + this.unit, list);
    }
    if (p.count > 1) {
      add("dt", "samples", list);
      add("dd", number(p.count), list);
    }
    if (p.commit) {
      add("dt", "commit", list);
      add("dd", p.commit, list);
    }
    if (p.href) add("i", p.href.includes("/trend/") ? "click for its runs" : "click for the run", this.tip);
  }
}

// Regions with data-live are read again every so many seconds: the page is asked for as a whole, which costs its server
// little while nothing has happened, and what differs takes the old one's place. A region that comes without the mark is
// read no more.
class Live {
  constructor(region) {
    this.region = region;
    this.shown = region.innerHTML;
  }

  // replace puts the region's new content in, and keeps what the reader has opened and how far they have scrolled.
  replace(next) {
    if (!next.hasAttribute("data-live")) this.region.removeAttribute("data-live");
    if (next.innerHTML === this.shown) return;
    this.shown = next.innerHTML;
    const opened = new Map([...this.region.querySelectorAll("details[id]")].map((d) => [d.id, d.open]));
    const scrolled = new Map([...this.region.querySelectorAll("pre[id]")].map((p) => [p.id, atEnd(p) ? Infinity : p.scrollTop]));
    this.region.replaceChildren(...next.cloneNode(true).childNodes);
    for (const details of this.region.querySelectorAll("details[id]")) if (opened.has(details.id)) details.open = opened.get(details.id);
    for (const pre of this.region.querySelectorAll("pre[id]")) toEnd(pre, scrolled.get(pre.id));
    for (const figure of this.region.querySelectorAll("figure.chart")) new Chart(figure);
  }
}

const atEnd = (pre) => pre.dataset.tail !== undefined && pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;

function toEnd(pre, top = Infinity) {
  if (pre.dataset.tail !== undefined || top !== Infinity) pre.scrollTop = Math.min(top, pre.scrollHeight);
}

const lives = [...document.querySelectorAll("[data-live]")].map((region) => new Live(region)); // before charts are drawn into them
for (const figure of document.querySelectorAll("figure.chart")) new Chart(figure);
for (const pre of document.querySelectorAll("pre[data-tail]")) toEnd(pre);

async function refresh() {
  const due = lives.filter((live) => live.region.hasAttribute("data-live"));
  if (due.length === 0) return;
  const seconds = Math.min(...due.map((live) => Number(live.region.dataset.live)));
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const live of due) {
          const next = page.getElementById(live.region.id);
          if (next) live.replace(next);
        }
      }
    } catch {
      // The server is away: the next round asks again.
    }
  }
  refresh();
}
refresh();
