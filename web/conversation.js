// SPDX-License-Identifier: MIT
"use strict";
/* The page of `qwerky serve`: a chat with one model, or with a teacher and its student side by side.

   What it asks of the server (OpenAI's protocol; whatever is marked ? may be missing, then the page shows less):
     GET v1/models → {data: [{id, qwerky?: {constant_state?, state_bytes?, kv_cache_bytes_per_token?, context?}}]}
       constant_state            true: linear attention, state_bytes at any length; false: the state grows
       kv_cache_bytes_per_token  what softmax attention of this shape keeps for each token, all layers together
       context                   tokens that a sequence may hold; 0: any number
     POST v1/chat/completions {model, messages, stream: true, stream_options: {include_usage: true}, seed} and those of
     kSettings that are set
       → server-sent events: {choices: [{delta: {content?, reasoning_content?}, finish_reason}]} or {error: {message}};
       at the end, in any event before [DONE],
       usage?: {prompt_tokens, completion_tokens, prompt_tokens_details?: {cached_tokens}}
       timings?: {first_token_ms, prompt_ms, tokens_per_second, state_bytes}
     Errors: {error: {message}} with a 4xx or 5xx status. 401: the page asks for a key. 503 from v1/models: asked again
     every second.

   Addresses are relative, so it works under any prefix. Nothing a model or a file says becomes HTML: all is built from
   text nodes. There is one style element, one script element and no attribute of either kind, so this policy is enough:
   default-src 'none'; script-src 'sha256-…'; style-src 'sha256-…'; connect-src 'self'; img-src data: */

// ---- Small things

const $ = (id) => document.getElementById(id);

/** An element: el("div.answer.live", {properties}, children…). Children are nodes or text; null is left out. */
function el(what, properties = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = Object.assign(document.createElement(tag), properties);
  if (classes.length) node.className = classes.join(" ");
  node.append(...children.filter((child) => child !== null));
  return node;
}

function svg(tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const count = (value) => Math.round(value).toLocaleString("en");
const short = (value) => (value >= 100 ? count(value) : String(Number(value.toPrecision(value < 10 ? 2 : 3))));
const duration = (ms) => (ms < 1000 ? `${ms < 10 ? short(ms) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; ++unit) value /= 1024;
  return `${value >= 1000 ? count(value) : Number(value.toPrecision(3))} ${units[unit]}`;
}

const announce = (text) => { $("status").textContent = text; };

// This tab's storage; a browser that refuses it costs the memory of a reload only.
function stored(name) {
  try { return sessionStorage.getItem(`qwerky.${name}`); } catch { return null; }
}
function store(name, text) {
  try { sessionStorage.setItem(`qwerky.${name}`, text); } catch { /* refused or full */ }
}

// ---- What there is

let models = [];         // as the server lists them
let pair = null;         // the only two: [teacher, student]
let turns = [];          // {user, answers: [answer], chosen}: what the conversation goes on from is answers[chosen]
let stopper = null;      // AbortController of the answers under way
let draft = null;        // while the last message is edited: what the composer held before
let apiKey = stored("key");

const sizesOf = (model) => model?.qwerky ?? {};

/** "student" for constant state, "teacher" for what it is compared with; null where the server does not tell. */
function roleOf(model) {
  const isConstant = sizesOf(model).constant_state;
  if (isConstant === true) return "student";
  return isConstant === false && models.some((other) => sizesOf(other).constant_state) ? "teacher" : null;
}
const isLive = (answer) => answer.state === "waiting" || answer.state === "writing";

function newAnswer(model, role, seed) {
  return {
    model, role, seed, text: "", thought: "",
    state: "waiting",                       // → writing → done | stopped | failed
    finish: null, error: "", usage: null, timings: null,
    sentAt: performance.now(), firstAt: null, lastAt: null, pieces: 0,
    firstMs: null, rate: null,              // as seen from here: ms to the first token, tokens/s after it
  };
}

/** The fields of an answer that outlive the page. */
function keptOf({ model, role, seed, text, thought, state, finish, error, usage, timings, firstMs, rate }) {
  return { model, role, seed, text, thought, state, finish, error, usage, timings, firstMs, rate };
}

function conversation() {
  return {
    format: "qwerky-conversation", version: 1, system: $("system").value, settings: settings(),
    turns: turns.map(({ user, answers, chosen }) => ({ user, chosen, answers: answers.map(keptOf) })),
  };
}

/** Takes over a conversation from a file or the storage; says what is wrong with it by an Error. */
function adopt(value) {
  const expect = (ok, what) => { if (!ok) throw new Error(`Not a conversation of this page: expected ${what}.`); };
  const text = (t) => (typeof t === "string" ? t : "");
  const number = (n) => (isNumber(n) ? n : null);
  const object = (o) => (o && typeof o === "object" ? o : null);
  const oneOf = (list, item, otherwise) => (list.includes(item) ? item : otherwise);
  expect(value?.format === "qwerky-conversation" && value.version === 1, '"format": "qwerky-conversation", "version": 1');
  expect(Array.isArray(value.turns), "a list of turns");
  const answerOf = (a, i) => {
    expect(typeof a?.model === "string" && typeof a.text === "string", `a model and a text in the answers of turn ${i + 1}`);
    return {
      ...newAnswer(a.model, oneOf(["teacher", "student"], a.role, null), number(a.seed)),
      text: a.text, thought: text(a.thought), error: text(a.error), finish: text(a.finish),
      state: oneOf(["done", "failed"], a.state, "stopped"), usage: object(a.usage), timings: object(a.timings),
      firstMs: number(a.firstMs), rate: number(a.rate),
    };
  };
  turns = value.turns.map((turn, i) => {
    expect(typeof turn?.user === "string", `a user text in turn ${i + 1}`);
    expect([1, 2].includes(turn.answers?.length), `one or two answers in turn ${i + 1}`);
    const answers = Array.from(turn.answers, (answer) => answerOf(answer, i));
    return { user: turn.user, answers, chosen: turn.chosen === 0 ? 0 : answers.length - 1 };
  });
  $("system").value = text(value.system);
  setSettings(object(value.settings) ?? {});
}

const save = () => store("conversation", JSON.stringify(conversation()));

// ---- The server

/** What an answer with an error status says, in the server's own words. */
async function said(response) {
  const body = await response.text().catch(() => "");
  let message = body.trim().slice(0, 2000);
  try {
    const error = JSON.parse(body).error;
    message = typeof error === "string" ? error : error.message ?? message;
  } catch { /* not JSON: the text itself */ }
  const wait = response.headers.get("Retry-After");
  return (message || `${response.status} ${response.statusText}`) + (wait ? `\nTry again in ${wait} s.` : "");
}

/** fetch with the key; asks for one as long as the server wants one. */
async function request(path, init = {}) {
  for (;;) {
    const key = apiKey;
    const headers = { ...init.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    const response = await fetch(path, { ...init, headers }).catch((error) => {
      throw error.name === "AbortError" ? error : new Error(`The server cannot be reached (${error.message}).`);
    });
    if (response.status !== 401) return response;
    const words = await said(response);
    if (apiKey === key) await askKey(words, key !== null);  // else another request asked meanwhile
  }
}

let keyAsked = null;  // one dialog, however many requests wait for it
function askKey(words, wasGiven) {
  keyAsked ??= new Promise((resolve, reject) => {
    $("keyError").textContent = wasGiven ? words : "";
    $("key").value = "";
    $("keyForm").onsubmit = (event) => {
      event.preventDefault();
      apiKey = $("key").value;
      store("key", apiKey);
      $("keyDialog").close("given");
    };
    $("cancelKey").onclick = () => $("keyDialog").close("");
    $("keyDialog").onclose = () => {
      $("key").value = "";
      keyAsked = null;
      // After a click on Cancel Chromium gives the focus back without a caret, and keys would do nothing.
      $("message").setSelectionRange($("message").value.length, $("message").value.length);
      if ($("keyDialog").returnValue === "given") resolve();
      else reject(new Error(words));
    };
    $("keyDialog").returnValue = "";
    $("keyDialog").showModal();
  });
  return keyAsked;
}

/** The data of each server-sent event. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      const data = lines.map((line) => line.slice(5).trim()).join("\n");
      if (data) yield data;
    }
  }
}

async function loadModels() {
  try {
    const response = await request("v1/models");
    if (!response.ok) {
      $("about").textContent = await said(response);
      if (response.status === 503) setTimeout(loadModels, 1000);
      return;
    }
    models = (await response.json()).data ?? [];
  } catch (error) {
    $("about").textContent = error.message;
    return;
  }
  // The server lists what it compares with second; here the teacher is on the left.
  pair = models.length !== 2 ? null : roleOf(models[0]) === "teacher" ? models : [models[1], models[0]];
  const options = models.map((model) => el("option", { value: model.id }, model.id));
  if (pair) options.unshift(el("option", { value: "" }, "Side by side"));
  $("model").replaceChildren(...options);
  $("model").disabled = options.length < 2;
  const before = stored("model");
  if (before !== null && options.some((option) => option.value === before)) $("model").value = before;
  drawAbout();
  drawMemory();
}

/** Models that answer next: one, or the pair. */
function selectedModels() {
  const id = $("model").value;
  return id === "" && pair ? pair : models.filter((model) => model.id === id).slice(0, 1);
}

// ---- Settings

// [title, [field of the request, label, step, what it does]…]; the first group is always open.
const kSettings = [
  ["Sampling",
    ["temperature", "Temperature", .05, "0: always the likeliest token"],
    ["top_p", "Top-p", .01, "the likeliest tokens that hold this much probability together"],
    ["top_k", "Top-k", 1, "this many of the likeliest tokens; 0: no limit"],
    ["min_p", "Min-p", .01, "least probability, as a share of the likeliest token's"],
    ["typical_p", "Typical", .01, "locally typical sampling; 1: off"],
    ["max_tokens", "Max tokens", 1, "an answer's length at most"],
    ["seed", "Seed", 1, "the same seed and settings give the same answer"]],
  ["Penalties",
    ["presence_penalty", "Presence", .05, "subtracted from the logits of tokens seen"],
    ["frequency_penalty", "Frequency", .05, "subtracted for every time a token was seen"],
    ["repetition_penalty", "Repetition", .01, "divides the logits of tokens seen; 1: off"],
    ["penalty_window", "Window", 1, "tokens looked back on; 0: all that were written"]],
  ["DRY: against repeated passages",
    ["dry_multiplier", "Multiplier", .05, "0: off"],
    ["dry_base", "Base", .05, "the penalty grows by this factor with each repeated token"],
    ["dry_allowed_length", "Allowed length", 1, "repeated tokens that cost nothing"]],
  ["XTC: leaves out the likeliest",
    ["xtc_probability", "Probability", .05, "how often it acts; 0: never"],
    ["xtc_threshold", "Threshold", .01, "tokens above it may be left out"]],
  ["Mirostat",
    ["mirostat", "Version", 1, "0: off; 2: mirostat 2"],
    ["mirostat_tau", "Tau", .1, "surprise aimed at, in bits"],
    ["mirostat_eta", "Eta", .01, "how fast it adapts"]],
];

function buildSettings() {
  const input = (name, step) =>
    el("input", { id: `set-${name}`, type: "number", step, inputMode: "decimal", placeholder: "default" });
  kSettings.forEach(([title, ...fields], i) => {
    const labels = fields.map(([name, label, step, help]) => el("label", { title: help }, label, input(name, step)));
    const grid = el("div.fields", {}, ...labels);
    $("settings").append(i === 0 ? grid : el("details", {}, el("summary", {}, title), grid));
  });
}

const settingInputs = () => [...$("settings").querySelectorAll("input")];

/** The fields that are set, as they go into a request. */
function settings() {
  const set = settingInputs().filter((input) => input.value !== "");
  return Object.fromEntries(set.map((input) => [input.id.slice(4), input.valueAsNumber]));
}

function setSettings(values) {
  for (const input of settingInputs()) {
    const value = values[input.id.slice(4)];
    input.value = isNumber(value) ? value : "";
    if (value !== undefined && input.closest("details")) input.closest("details").open = true;
  }
}
