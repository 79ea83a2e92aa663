"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const { classes, mode } = content;
const at = id => document.getElementById(id);
const KEYS = "123456789abcdefghijklmnopqrstuvwxyz";
const QUESTION = { "one-class": "Which class is it?", "one-positive": "Name one class that is there", "full": "What is there, what is not?" };
const WORDS = { "1": "present", "0": "absent", "": "unknown" };

// A page of its own in each tab, the same one when it is loaded again.
const client = sessionStorage.getItem("swath-page") || crypto.randomUUID?.() || String(Math.random()).slice(2);
sessionStorage.setItem("swath-page", client);
// The token is in the cookie now; it need not stay in the address, in bookmarks and in the history.
if (location.search) history.replaceState(null, "", "/");

let user = localStorage.getItem("swath-user") || content.user;
let view = null; // what the server said last
let scene = null; // the scene that is shown
let marks = {}; // full labels: what is marked in it so far
let shown_at = null; // when its picture appeared
let shown_before = 0; // milliseconds it was looked at before the page was hidden
let busy = false;
let turn = 0; // counts what was sent, so that an older state does not replace a newer one
let suggesting = localStorage.getItem("swath-suggest") === "yes";
let were_shown = null; // the suggestions that were on the screen for this scene
const pictures = new Map();

// --- Talking to the server -------------------------------------------------------------------------------------------

class Refused extends Error {}

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await fetch(path, { ...options, cache: "no-store" });
  if (reply.ok) return reply.json();
  const text = await reply.text();
  let detail = text;
  try { detail = JSON.parse(text).detail; } catch { /* plain words */ }
  if (typeof detail !== "string") detail = "The server does not take this answer.";
  throw new Refused(detail);
}

// What changes something is sent until it has arrived, with the same id, so that it counts once.
async function insist(path, body) {
  for (;;) {
    try {
      const answer = await call(path, body);
      say("");
      return answer;
    } catch (error) {
      if (error instanceof Refused) { say(error.message); return null; }
      say("The server does not answer. What you said is kept here and sent again; leave this page open.");
      await new Promise(done => setTimeout(done, 1500));
    }
  }
}

async function act(path, body) {
  if (busy) return;
  busy = true;
  turn++;
  document.body.dataset.busy = "";
  try {
    const answer = await insist(path, { client, user, ...body });
    if (answer) await show(answer);
    else if (scene) render_marks();
  } finally {
    busy = false;
    delete document.body.dataset.busy;
  }
}

async function refresh() {
  const begun = turn;
  try {
    const state = await call(`/api/state?${new URLSearchParams({ client, user })}`);
    if (begun !== turn) return;
    say("");
    await show(state);
  } catch (error) {
    say(error instanceof Refused ? error.message : "The server does not answer. It may have been stopped; start it again with the same command.");
  }
}

function say(problem) {
  const lines = [problem, ...(view?.messages || [])].filter(Boolean);
  at("banner").hidden = !lines.length;
  if (at("banner").textContent !== lines.join("\n")) at("banner").textContent = lines.join("\n");
}

// --- Pictures --------------------------------------------------------------------------------------------------------

function picture(kind, position) {
  const address = `/${kind}/${position}?v=${content.version}`;
  if (!pictures.has(address)) {
    const image = new Image();
    image.draggable = false;
    image.src = address;
    pictures.set(address, { image, ready: image.decode().then(() => "", () => unreadable(address)) });
    if (pictures.size > 40) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(address);
}

async function unreadable(address) {
  try { await call(address); } catch (error) { pictures.delete(address); return error.message || "The server does not answer."; }
  return "This scene cannot be shown.";
}

// --- Showing ---------------------------------------------------------------------------------------------------------

async function show(state) {
  view = state;
  for (const coming of view.scenes.slice(1)) {
    picture("scene", coming.position);
    if (coming.around) picture("around", coming.position);
  }
  const { number, size, done } = view.round;
  at("bar").max = Math.max(1, size);
  at("bar").value = done;
  const round = content.budget ? `Round ${number}: ` : "";
  at("count").textContent = `${round}${done.toLocaleString("en")} of ${size.toLocaleString("en")}`;
  at("who").textContent = user;
  at("undo").disabled = !view.undo;
  at("suggest").hidden = !view.suggesting;
  say("");
  const next = view.scenes[0] || null;
  document.body.dataset.phase = view.phase;
  show_between();
  if (next && next.name === scene?.name) {
    scene = next;
    render_suggestions();
    show_around();
    return;
  }
  scene = next;
  marks = {};
  were_shown = null;
  shown_at = null;
  shown_before = 0;
  if (!scene) return;
  if (mode === "full" && scene.before) marks = { ...scene.before.labels };
  const current = scene, { image, ready } = picture("scene", scene.position);
  const problem = await ready;
  if (current !== scene) return;
  image.alt = "The scene to label";
  if (problem) {
    const words = document.createElement("p");
    words.textContent = `${problem}\n\nSay “Cannot tell” to go on.`;
    at("frame").replaceChildren(words);
  } else at("frame").replaceChildren(image);
  at("name").textContent = scene.name;
  at("name").title = scene.name;
  at("told").textContent = `Scene ${view.round.done + 1} of ${view.round.size}`;
  if (at("find").value) { at("find").value = ""; filter(); }
  render_marks();
  render_suggestions();
  show_around();
  shown_at = document.hidden ? null : performance.now();
  document.body.dataset.shown = scene.name;
}

async function show_around() {
  const current = scene;
  if (!scene?.around) { at("around").hidden = true; return; }
  const { image, ready } = picture("around", scene.position);
  const problem = await ready;
  if (current !== scene) return;
  at("around").hidden = Boolean(problem);
  at("ground").src = image.src;
}

function show_between() {
  const { phase, round, rounds } = view, over = phase !== "labelling";
  document.querySelector("main").classList.toggle("between", over);
  at("between").hidden = !over;
  for (const id of ["unclear", "absent", "next"]) at(id).hidden = over || (id !== "unclear" && mode !== "full");
  if (!over) return;
  const title = at("between-title"), text = at("between-text"), step = rounds?.step || "idle", bar = at("training");
  const offer = phase === "full" && (step === "idle" || step === "failed");
  at("train").hidden = at("skip").hidden = !offer;
  bar.hidden = !(phase === "full" && (step === "training" || step === "choosing"));
  if (phase === "finished") {
    title.textContent = "All scenes are labelled";
    text.textContent = `${view.labelled.toLocaleString("en")} answers are in the table ${content.table}. You can close this page and stop the server with Ctrl-C.`;
  } else if (phase === "waiting") {
    title.textContent = "Almost done";
    text.textContent = `The last scenes of this round are open on other pages. This one goes on by itself.`;
  } else if (step === "training") {
    title.textContent = "Training";
    text.textContent = rounds.epoch ? `Epoch ${rounds.epoch} of ${rounds.epochs}, loss ${rounds.loss.toFixed(3)}` : "Preparing the scenes …";
    if (rounds.epoch) { bar.max = rounds.epochs; bar.value = rounds.epoch; } else bar.removeAttribute("value");
  } else if (step === "choosing") {
    title.textContent = "Choosing the next scenes";
    text.textContent = "This page goes on by itself.";
    bar.removeAttribute("value");
  } else {
    title.textContent = step === "failed" ? "The training failed" : `Round ${round.number} is done`;
    text.textContent = step === "failed"
      ? `${rounds.message}\n\nNo answer is lost.`
      : `${round.size.toLocaleString("en")} scenes have answers. A model that is trained on all answers so far can suggest classes, and helps to choose what to ask next.`;
    at("train").textContent = step === "failed" ? "Try again" : rounds?.begun ? "Go on with the training" : "Train, then go on";
    if (document.activeElement === document.body) at("train").focus();
  }
}

function render_marks() {
  const before = mode === "full" ? null : scene?.before;
  classes.forEach((name, number) => {
    const button = at("classes").children[number];
    button.classList.remove("given");
    button.classList.toggle("before", Boolean(before && before.labels[name] === 1));
    if (mode !== "full") return;
    const state = String(marks[name] ?? "");
    button.dataset.state = state;
    button.querySelector(".mark").textContent = { "1": "✓ present", "0": "✗ absent", "": "" }[state];
    button.setAttribute("aria-label", `${name}: ${WORDS[state]}`);
  });
  at("unclear").classList.toggle("chief", Boolean(scene?.before?.unclear));
  if (mode === "full") at("next").disabled = !Object.keys(marks).length;
}

function render_suggestions() {
  const list = suggesting && view.suggesting ? scene?.suggestions : null, chance = new Map(list || []);
  at("suggest").setAttribute("aria-pressed", String(suggesting));
  at("suggest").querySelector("span").textContent = suggesting ? "Hide suggestions" : "Suggestions";
  // Where all classes are in sight, their own numbers say it.
  at("suggested").hidden = !(suggesting && view.suggesting) || Boolean(list && at("search").hidden);
  at("suggested").textContent = !list ? "The model has not looked at this scene yet."
    : `The model believes: ${list.slice(0, 3).map(([name, value]) => `${name} ${percent(value)}`).join(", ")}`;
  classes.forEach((name, number) => {
    const button = at("classes").children[number], value = chance.get(name);
    button.querySelector(".chance").textContent = value === undefined ? "" : percent(value);
    button.style.setProperty("--chance", value === undefined ? "0" : `${100 * value}%`);
  });
  // What was seen once has been seen, even if it is hidden again.
  if (list) were_shown = list;
}

const percent = value => `${Math.round(100 * value)} %`;

// --- Answering -------------------------------------------------------------------------------------------------------

function submit(labels, unclear) {
  if (busy || !scene || view.phase !== "labelling" || document.body.dataset.shown !== scene.name) return;
  const seconds = (shown_before + (shown_at === null ? 0 : performance.now() - shown_at)) / 1000;
  const id = crypto.randomUUID?.() || `${client}-${Date.now()}-${Math.random()}`.slice(0, 64);
  act("/api/answer", { id, scene: scene.name, labels, unclear, seconds, suggested: were_shown });
}

function choose(number) {
  if (busy || !scene || view.phase !== "labelling") return;
  const name = classes[number];
  if (mode !== "full") {
    at("classes").children[number].classList.add("given");
    submit({ [name]: 1 }, false);
    return;
  }
  const state = marks[name];
  if (state === undefined) marks[name] = 1;
  else if (state === 1) marks[name] = 0;
  else delete marks[name];
  render_marks();
}

function rest_absent() {
  if (mode !== "full" || !scene || busy) return;
  for (const name of classes) marks[name] ??= 0;
  render_marks();
}

function save_marks() {
  if (mode === "full" && Object.keys(marks).length) submit(marks, false);
}

function undo() {
  if (view?.undo) act("/api/undo", { id: view.undo });
}

function toggle_suggestions() {
  if (!view?.suggesting) return;
  suggesting = !suggesting;
  localStorage.setItem("swath-suggest", suggesting ? "yes" : "no");
  render_suggestions();
}

function filter() {
  const wanted = at("find").value.trim().toLowerCase();
  let found = 0;
  classes.forEach((name, number) => {
    const fits = name.toLowerCase().includes(wanted);
    at("classes").children[number].hidden = !fits;
    found += fits;
  });
  at("none").hidden = found > 0;
}

// --- Keys and buttons ------------------------------------------------------------------------------------------------

document.addEventListener("keydown", event => {
  if (event.target === at("find")) { search_key(event); return; }
  if (document.querySelector("dialog[open]") || event.altKey || event.metaKey) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey) { if (key === "z") { event.preventDefault(); undo(); } return; }
  // A button that has the focus does what it says.
  if (event.target.closest?.("button") && (key === "enter" || key === " ")) return;
  const acts = { "backspace": undo, "0": () => submit({}, true), "-": rest_absent, "enter": save_marks, ".": toggle_suggestions,
    "?": open_help, "/": () => at("search").hidden || at("find").focus() };
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
  const number = KEYS.indexOf(digit || key);
  if (acts[key]) { event.preventDefault(); if (!event.repeat) acts[key](); }
  else if (key.length === 1 && number >= 0 && number < classes.length) { event.preventDefault(); if (!event.repeat) choose(number); }
});

function search_key(event) {
  if (event.key === "Escape") { at("find").value = ""; filter(); at("find").blur(); }
  if (event.key !== "Enter") return;
  event.preventDefault();
  const first = [...at("classes").children].findIndex(button => !button.hidden);
  if (first < 0 || !at("find").value.trim()) return;
  at("find").value = "";
  filter();
  at("find").blur();
  choose(first);
}

function open_help() {
  const rows = [["1 – 9, a – z", mode === "full" ? "class: present, absent, unknown" : "class, and next"], ["0", "cannot tell, and next"],
    ...(mode === "full" ? [["-", "all that is not marked is absent"], ["Enter", "save, and next"]] : []),
    ["Backspace, Ctrl+Z", "take your last answer back"], ["/", "find a class by its name"], [".", "show or hide what the model suggests"], ["?", "this page"]];
  at("keys").replaceChildren(...rows.flatMap(([keys, words]) => {
    const left = document.createElement("dt"), right = document.createElement("dd");
    left.append(...keys.split(", ").flatMap((text, place) => { const cap = document.createElement("kbd"); cap.textContent = text; return place ? [" ", cap] : [cap]; }));
    right.textContent = words;
    return [left, right];
  }));
  at("save").textContent = `Write ${content.table} now`;
  at("saved").textContent = "";
  at("help").showModal();
  show_figures();
}

async function show_figures() {
  const people = Object.entries(view?.users || {});
  const tables = [table("Answers", ["Person", "Scenes"], people.map(([name, count]) => [name, count.toLocaleString("en")]))];
  try {
    const found = await call("/api/agreement");
    const chance = value => value === null ? "–" : value.toFixed(2);
    if (found) {
      tables.push(table("Agreement on scenes that two people labelled", ["People", "Scenes", "Same", ...(mode === "one-class" ? ["Cohen's κ"] : [])],
        found.pairs.map(pair => [pair.users.join(" and "), pair.scenes, percent(pair.share), ...(mode === "one-class" ? [chance(pair.kappa)] : [])])));
      tables.push(table(mode === "full" ? "By class, of the scenes in which both spoke of it" : "By class, of the scenes that either put there",
        ["Class", "Compared", "Same"], found.classes.map(entry => [entry.name, entry.compared, percent(entry.share)])));
    }
    at("agreement").hidden = !found;
    if (found) at("agreement").textContent = `agreement ${percent(found.share)} on ${found.scenes}`;
  } catch { /* it is tried again */ }
  at("figures").replaceChildren(...tables.filter(Boolean));
}

function table(title, heads, rows) {
  if (!rows.length) return null;
  const made = document.createElement("table");
  made.createCaption().textContent = title;
  const head = made.createTHead().insertRow();
  for (const text of heads) { const cell = document.createElement("th"); cell.scope = "col"; cell.textContent = text; head.append(cell); }
  const body = made.createTBody();
  for (const values of rows) {
    const row = body.insertRow();
    values.forEach((value, place) => { const cell = document.createElement(place ? "td" : "th"); cell.textContent = value; row.append(cell); });
  }
  return made;
}

function build() {
  at("data").textContent = content.data;
  at("data").title = content.data;
  at("question").textContent = QUESTION[mode];
  at("search").hidden = classes.length <= 15;
  classes.forEach((name, number) => {
    const button = document.createElement("button"), label = document.createElement("span"), mark = document.createElement("span"), chance = document.createElement("span");
    button.className = "class";
    label.className = "label"; mark.className = "mark"; chance.className = "chance";
    label.textContent = name;
    if (KEYS[number]) {
      const cap = document.createElement("kbd");
      cap.textContent = KEYS[number];
      button.setAttribute("aria-keyshortcuts", KEYS[number]);
      button.append(cap);
    }
    button.append(label, mark, chance, document.createElement("i"));
    button.addEventListener("click", () => choose(number));
    at("classes").append(button);
  });
  const clicks = { undo, unclear: () => submit({}, true), absent: rest_absent, next: save_marks, suggest: toggle_suggestions, more: open_help,
    train: () => act("/api/round", { train: true }), skip: () => act("/api/round", { train: false }), who: ask_name, save: save_table,
    "keep-name": () => at("person").close() };
  for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
  // After a click the keys are for answering again, not for the button that was clicked.
  document.addEventListener("click", event => { if (event.detail > 0) event.target.closest?.("button")?.blur(); });
  at("find").addEventListener("input", filter);
  at("person").addEventListener("close", () => { if (at("person").returnValue === "ok") use_name(at("user").value); });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && shown_at !== null) { shown_before += performance.now() - shown_at; shown_at = null; }
    if (!document.hidden) { if (scene && shown_at === null) shown_at = performance.now(); if (!busy) refresh(); }
  });
}

function ask_name() {
  at("user").value = user;
  at("person").returnValue = "";
  at("person").showModal();
  at("user").select();
}

async function use_name(name) {
  name = name.trim();
  if (!name || name === user) return;
  const before = user;
  turn++;
  user = name;
  scene = null;
  try {
    await show(await call(`/api/state?${new URLSearchParams({ client, user })}`));
    localStorage.setItem("swath-user", user);
  } catch (error) {
    user = before;
    await refresh();
    say(error.message);
  }
}

async function save_table() {
  try { at("saved").textContent = `Written: ${(await call("/api/save", {})).table}`; } catch (error) { at("saved").textContent = error.message; }
}

// Speaking now and then holds this page's scenes, and shows what others and the training did.
async function keep_up() {
  let turns = 0;
  for (;;) {
    await new Promise(done => setTimeout(done, 1000));
    const waiting = view && view.phase !== "labelling";
    const late = suggesting && view?.suggesting && scene && !scene.suggestions;
    if (!busy && (waiting || late || ++turns % 15 === 0)) await refresh();
    if (turns % 15 === 0 && Object.keys(view?.users || {}).length > 1) await show_figures();
  }
}

build();
refresh().then(() => { document.body.dataset.ready = ""; keep_up(); });
