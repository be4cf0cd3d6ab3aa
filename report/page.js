
(function () {
"use strict";
// Passages: what each model expected at the token that is pointed at. Reading needs none of this.
function el(name, text, className) {
  var e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}
function visible(text) {
  return text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "→")
    .replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd"); // as html.c does
}
function percent(q) {
  if (q === null || q === undefined) return el("td", "–", "none");
  return el("td", q > 0 && q < 0.0005 ? "<0.1" : (100 * q).toFixed(1));
}
function heading(text) {
  var th = el("th", text);
  th.scope = "row";
  return th;
}
function passage(root, number) {
  var data = JSON.parse(root.querySelector("script").textContent);
  var box = root.querySelector(".tokens"), view = root.querySelector(".inspector");
  var tokens = Array.prototype.slice.call(box.querySelectorAll(".t"));
  var head = view.querySelector("thead"), m = data.models.length, now = -1, held = false;

  function credit(weights, label) {
    var c = data.models.map(function (_, i) { return label && label[i + 2] > 0 ? weights[i] * label[i + 2] : 0; });
    var sum = c.reduce(function (a, b) { return a + b; }, 0);
    if (!(sum > 0)) {
      c = weights;
      sum = weights.reduce(function (a, b) { return a + b; }, 0);
    }
    return c.map(function (v) { return sum > 0 ? v / sum : 0; });
  }
  function show(p) {
    if (p < 0 || p >= tokens.length) return;
    if (now >= 0) tokens[now].classList.remove("on");
    now = p;
    tokens[p].classList.add("on");
    view.dataset.token = p;
    var weights = data.weights[p], rows = data.candidates[p] || [], label = data.label[p];
    var at = el("p", undefined, "at");
    at.append(el("code", visible(tokens[p].classList.contains("t") ? text(p) : "")));
    if (!weights) {
      at.append(" nothing is fused here");
      view.replaceChildren(at);
      return;
    }
    var table = el("table"), body = el("tbody"), foot = el("tfoot");
    if (head) table.append(head.cloneNode(true));
    rows.forEach(function (c, k) {
      var tr = el("tr", undefined, k === label ? "label" : ""), th = heading();
      th.append(el("code", visible(c[0])));
      if (k === label) th.append(" ", el("small", "the text"));
      tr.append(th);
      for (var i = 1; i <= m + 1; i++) tr.append(percent(c[i]));
      body.append(tr);
    });
    [["weight", weights], ["credit", credit(weights, rows[label])]].forEach(function (line) {
      var tr = el("tr");
      tr.append(heading(line[0]), el("td"));
      line[1].forEach(function (v) { tr.append(percent(v)); });
      foot.append(tr);
    });
    table.append(body, foot);
    view.replaceChildren(at, table);
  }
  function text(p) { // what the token says, without the marks that make its white space visible
    var copy = tokens[p].cloneNode(true);
    copy.querySelectorAll("i").forEach(function (i) { i.remove(); });
    return copy.textContent;
  }
  function from(event) { return tokens.indexOf(event.target.closest(".t")); }

  tokens.forEach(function (t) { t.removeAttribute("title"); });
  box.tabIndex = 0;
  box.addEventListener("pointerover", function (e) { if (!held && e.pointerType === "mouse") show(from(e)); });
  box.addEventListener("click", function (e) {
    var p = from(e);
    if (p < 0) return;
    held = !(held && p === now);
    show(p);
  });
  box.addEventListener("keydown", function (e) {
    var to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tokens.length - 1 }[e.key];
    if (e.key === "Escape") held = false;
    if (to === undefined || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    held = true;
    show(Math.max(0, Math.min(tokens.length - 1, to)));
    tokens[now].scrollIntoView({ block: "nearest" });
  });
  now = Number(view.dataset.token);
  if (tokens[now]) tokens[now].classList.add("on");
  // A link to a token: #passage-0-17
  var link = /^#passage-(\d+)-(\d+)$/.exec(location.hash);
  if (link && Number(link[1]) === number) {
    held = true;
    show(Number(link[2]));
    root.scrollIntoView();
  }
}
document.documentElement.classList.add("live");
document.querySelectorAll(".passage").forEach(passage);
})();
