// SPDX-License-Identifier: MIT
// ---- The conversation, drawn

const views = new Map();  // answer → its nodes that change

/** Where the two answers of a turn first differ: an offset, or -1 while they agree. The end of one that was cut short is
    no difference. */
function firstDifference({ answers }) {
  if (answers.length !== 2) return -1;
  const [a, b] = answers, length = Math.min(a.text.length, b.text.length);
  let i = 0;
  while (i < length && a.text[i] === b.text[i]) ++i;
  if (i < length) return i > 0 && /[\ud800-\udbff]/.test(a.text[i - 1]) ? i - 1 : i;
  if (a.text.length === b.text.length) return -1;
  return (a.text.length === i ? a : b).finish === "stop" ? i : -1;
}

function drawConversation() {
  views.clear();
  $("log").replaceChildren(...turns.map((turn, i) => turnNode(turn, i === turns.length - 1)));
  $("empty").hidden = turns.length > 0;
  document.body.classList.toggle("wide", turns.some((turn) => turn.answers.length === 2));
  turns.forEach(drawTurn);
  drawControls();
  drawMemory();
}

function turnNode(turn, isLast) {
  const asked = el("div.asked", {}, el("h2.unseen", {}, "You"), el("div", {}, turn.user));
  if (isLast) asked.append(button("", "Edit", startEdit));
  const answers = el("div.answers", {}, ...turn.answers.map((answer, i) => answerNode(turn, answer, i, isLast)));
  answers.classList.toggle("pair", turn.answers.length === 2);
  return el("article.turn", {}, asked, answers, el("p.difference"));
}

const button = (what, label, onclick) => el(`button.quiet.idle${what}`, { type: "button", onclick }, label);

function answerNode(turn, answer, index, isLast) {
  const isPair = turn.answers.length === 2;
  const name = { teacher: "Teacher", student: "Student" }[answer.role];
  const who = el("div.who", {}, el(`span.dot.${answer.role ?? "none"}`), name ? el("b", {}, name) : null,
    el("span.name", { title: answer.model }, answer.model));
  if (isPair) {
    const radio = el("input", {
      type: "radio", name: `turn${turns.indexOf(turn)}`, checked: turn.chosen === index, disabled: !isLast,
      onchange: () => { turn.chosen = index; save(); },
    });
    who.append(el("label", {}, radio, "continue from this"));
  }
  const view = { text: el("div.text"), thought: el("div"), figures: el("span.figures"), failed: el("p.failed") };
  view.details = el("details.thought", {}, el("summary", {}, "Thinking"), view.thought);
  const foot = el("div.foot", {}, view.figures);
  if (isLast && index === turn.answers.length - 1) foot.append(button("", isPair ? "Retry both" : "Retry", retry));
  if (navigator.clipboard) foot.append(button(".copy", "Copy", () => copy(answer)));
  view.root = el("section.answer", {}, el("h2.unseen", {}, `${name ?? "Answer"} ${answer.model}`), who,
    view.details, view.text, view.failed, foot);
  views.set(answer, view);
  return view.root;
}

function drawTurn(turn) {
  const difference = firstDifference(turn);
  for (const answer of turn.answers) {
    const view = views.get(answer);
    putMarkdown(view.text, answer.text, difference);
    view.details.hidden = answer.thought === "";
    view.thought.textContent = answer.thought;
    view.failed.hidden = answer.error === "";
    view.failed.textContent = answer.error;
    view.root.classList.toggle("live", isLive(answer));
    view.root.classList.toggle("wordless", answer.text === "");
    view.root.setAttribute("aria-busy", isLive(answer));
    view.figures.replaceChildren(...figures(answer).map((text) => el("span", {}, text)));
  }
  views.get(turn.answers[0]).root.closest(".turn").lastChild.textContent = differenceText(turn, difference);
}

function differenceText({ answers }, difference) {
  if (difference === 0) return "They differ from the first word on, which is marked in both.";
  if (difference > 0) {
    const words = answers[0].text.slice(0, difference).split(/\s+/).filter(Boolean).length;
    return `The same for ${count(difference)} characters (${count(words)} words); ` +
      "the first difference is marked in both.";
  }
  if (answers.length < 2 || answers.some((a) => a.text === "")) return "";
  return answers.every((a) => a.finish === "stop") ? "Both answers are the same." : "The same as far as both go.";
}

/** The line under an answer. */
function figures(answer) {
  if (answer.state === "waiting") return [`reading, ${duration(performance.now() - answer.sentAt)}`];
  const { usage, timings } = answer, out = [];
  const rate = isNumber(timings?.tokens_per_second) ? timings.tokens_per_second : answer.rate;
  if (isNumber(rate) && rate > 0) out.push(`${short(rate)} tokens/s`);
  const inServer = isNumber(timings?.first_token_ms) ? ` (server ${duration(timings.first_token_ms)})` : "";
  if (isNumber(answer.firstMs)) out.push(`first token ${duration(answer.firstMs)}${inServer}`);
  if (isNumber(usage?.prompt_tokens)) {
    const reused = usage.prompt_tokens_details?.cached_tokens;
    const read = usage.prompt_tokens - (isNumber(reused) ? reused : 0);
    const speed = timings?.prompt_ms > 0 && read > 0 ? ` at ${short(1000 * read / timings.prompt_ms)}/s` : "";
    out.push(`${count(read)} read${speed}${isNumber(reused) ? `, ${count(reused)} reused` : ""}`);
  }
  const written = isNumber(usage?.completion_tokens) ? usage.completion_tokens : answer.pieces;
  if (written > 0) out.push(`${count(written)} written`);
  if (isNumber(timings?.state_bytes)) out.push(`state ${bytes(timings.state_bytes)}`);
  if (answer.state === "stopped") out.push("stopped");
  if (answer.finish === "length") out.push("cut at max tokens");
  return out;
}

function drawControls() {
  const busy = stopper !== null;
  $("send").textContent = busy ? "Stop" : "Send";
  $("send").classList.toggle("primary", !busy);
  $("editing").hidden = draft === null;
  for (const button of document.querySelectorAll(".idle")) button.hidden = busy;
}

function drawAbout() {
  const about = (model) => {
    const { constant_state: isConstant, state_bytes: state, kv_cache_bytes_per_token: perToken } = sizesOf(model);
    const size = isConstant && isNumber(state) ? `: state ${bytes(state)} at any length`
      : isConstant === false && isNumber(perToken) ? `: ${bytes(perToken)} more for each token` : "";
    return el("div", {}, model.id + size);
  };
  $("about").replaceChildren(...selectedModels().map(about));
  if (models.length === 0) $("about").textContent = "The server lists no model.";
}

let frame = 0;
/** Draws what streams, at most once a frame. */
function drawSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (!stopper || !turns.length) return;
    following(() => drawTurn(turns.at(-1)));
    drawMemory();
  });
}

/** The end of the text stays in view, unless the reader has scrolled away from it. */
function following(change) {
  const box = $("scroller"), atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 48;
  change();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

// ---- Memory

/** Tokens of the conversation now: as the server counted, and while it writes what came since. */
function tokensNow() {
  let tokens = 0;
  for (const { answers } of turns) {
    const before = tokens;
    for (const { usage, pieces } of answers) {
      const isCounted = isNumber(usage?.prompt_tokens) && isNumber(usage.completion_tokens);
      tokens = Math.max(tokens, isCounted ? usage.prompt_tokens + usage.completion_tokens : before + pieces);
    }
  }
  return tokens;
}

function drawMemory() {
  const student = sizesOf(pair?.[1] ?? selectedModels()[0]), teacher = pair ? sizesOf(pair[0]) : student;
  const bytesOf = (size) => (isNumber(size) ? size : 0);  // 0: not told
  const state = student.constant_state ? bytesOf(student.state_bytes) : 0;
  const perToken = bytesOf(teacher.kv_cache_bytes_per_token ?? student.kv_cache_bytes_per_token);
  const limit = Math.min(...selectedModels().map((model) => sizesOf(model).context).filter((tokens) => tokens > 0));
  const tokens = tokensNow(), cache = perToken * tokens, equal = state && perToken ? Math.ceil(state / perToken) : 0;

  const row = (role, name, size, hint) =>
    [el("dt", {}, el(`span.dot.${role}`), name), el("dd", {}, bytes(size)), el("dd.hint", {}, hint)];
  const read = `${count(tokens)} tokens${limit < Infinity ? ` (at most ${count(limit)})` : ""}`;
  $("sizes").replaceChildren(
    ...(state ? row("student", "State", state, "the same at any length") : []),
    ...(perToken ? row("teacher", "KV cache by now", cache, `${read} of ${bytes(perToken)} each`) : []));
  $("memoryLine").textContent =
    [state ? `State ${bytes(state)}` : "", cache ? `a KV cache would need ${bytes(cache)} by now` : ""].filter(Boolean).join("; ");
  const ratio = state && cache > state ? `, ${short(cache / state)} times the state now` : "";
  const isTold = state > 0 || perToken > 0;
  $("memoryNote").textContent = equal ? `The cache is larger from token ${count(equal)} on${ratio}.`
    : models.length && !isTold ? "The server does not tell the sizes of its models' states." : "";
  $("chart").toggleAttribute("hidden", !isTold);
  if (isTold) drawChart(state, perToken, tokens, equal);
}

/** Bytes over tokens: drawn through up to now, dotted ahead. A size of 0 leaves its line out. */
function drawChart(state, perToken, tokens, equal) {
  const left = 52, right = 294, top = 10, bottom = 126;  // of the plot, in the units of the viewBox
  const last = 2 ** Math.ceil(Math.log2(Math.max(64, 1.25 * tokens, 2 * equal)));
  const most = 1.08 * Math.max(state, perToken * last), step = 2 ** Math.ceil(Math.log2(most / 4));
  const x = (t) => left + (right - left) * t / last, y = (b) => bottom - (bottom - top) * b / most;
  const label = (x, y, anchor, text) => svg("text", { x, y, "text-anchor": anchor }, text);
  const path = (name, d) => svg("path", { class: name, d });
  const nodes = [
    label(left, bottom + 16, "start", "0"),
    label(x(last / 2), bottom + 16, "middle", count(last / 2)),
    label(right, bottom + 16, "end", `${count(last)} tokens`),
  ];
  for (let b = 0; b <= most; b += step)
    nodes.push(path("grid", `M${left} ${y(b)}H${right}`), label(left - 6, y(b) + 3.5, "end", bytes(b)));
  const line = (name, at) => {
    const now = `${x(tokens)} ${y(at(tokens))}`;
    nodes.push(path(`${name} ahead`, `M${now}L${right} ${y(at(last))}`), path(name, `M${left} ${y(at(0))}L${now}`),
      svg("circle", { class: name, cx: x(tokens), cy: y(at(tokens)), r: 3.5 }));
  };
  if (perToken) line("kv", (t) => perToken * t);
  if (state) line("state", () => state);
  $("chart").replaceChildren(...nodes);
  const told = [state ? `state ${bytes(state)}` : "", perToken ? `KV cache ${bytes(perToken * tokens)}` : ""];
  $("chart").setAttribute("aria-label", `At ${count(tokens)} tokens: ${told.filter(Boolean).join(", ")}`);
}

// ---- Asking and answering

/** What a model is sent: turns that failed without a word are left out, with their question. */
function messages() {
  const system = $("system").value.trim(), out = system ? [{ role: "system", content: system }] : [];
  turns.forEach(({ user, answers, chosen }, i) => {
    const isLast = i === turns.length - 1;
    if (!isLast && answers[chosen].text === "") return;
    out.push({ role: "user", content: user });
    if (!isLast) out.push({ role: "assistant", content: answers[chosen].text });
  });
  return out;
}

async function answerLastTurn() {
  const chosenModels = selectedModels();
  const turn = turns.at(-1), mine = stopper = new AbortController();
  const options = { ...settings() };
  options.seed ??= crypto.getRandomValues(new Uint32Array(1))[0];
  turn.answers = chosenModels.map((model) => newAnswer(model.id, roleOf(model), options.seed));
  turn.chosen = turn.answers.length - 1;
  save();
  drawConversation();
  $("scroller").scrollTop = $("scroller").scrollHeight;
  announce(turn.answers.length === 2 ? "Both models answer" : "The model answers");
  const body = { messages: messages(), stream: true, stream_options: { include_usage: true }, ...options };
  const clock = setInterval(drawSoon, 100);  // the time a prompt has been read for
  await Promise.all(turn.answers.map((answer) => receive(answer, body, mine.signal)));
  clearInterval(clock);
  if (stopper !== mine) return;  // a new chat began meanwhile
  stopper = null;
  following(() => { drawTurn(turn); drawControls(); });
  drawMemory();
  save();
  announce(turn.answers.map(({ role, text, error }) => `${role ?? "Answer"}: ${text} ${error}`).join("\n"));
}

/** Asks one model and fills in its answer. Never throws: what went wrong is part of the answer. */
async function receive(answer, body, signal) {
  try {
    const response = await request("v1/chat/completions", {
      method: "POST", signal, headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model: answer.model, ...body }),
    });
    if (!response.ok) throw new Error(await said(response));
    for await (const data of events(response)) {
      if (data === "[DONE]") break;
      take(answer, JSON.parse(data));
      drawSoon();
    }
    if (answer.finish === null) throw new Error("The connection ended before the answer did.");
    answer.state = "done";
  } catch (error) {
    answer.state = signal.aborted ? "stopped" : "failed";
    if (!signal.aborted) answer.error = error.message;
  }
}

function take(answer, event) {
  if (event.error) throw new Error(event.error.message ?? String(event.error));
  const choice = event.choices?.[0], delta = choice?.delta ?? {};
  const piece = delta.content ?? "", thought = delta.reasoning_content ?? "";
  if (piece || thought) {
    answer.lastAt = performance.now();
    answer.firstAt ??= answer.lastAt;
    answer.firstMs = answer.firstAt - answer.sentAt;
    answer.state = "writing";
    answer.text += piece;
    answer.thought += thought;
    ++answer.pieces;
    const seconds = (answer.lastAt - answer.firstAt) / 1000;
    if (seconds > 0) answer.rate = (answer.pieces - 1) / seconds;
  }
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  if (event.usage) answer.usage = event.usage;
  if (event.timings) answer.timings = event.timings;
}

function send() {
  const text = $("message").value;
  if (stopper || text.trim() === "") return;
  if (!models.length) return loadModels();  // it failed, or no key was given
  if (draft !== null) turns.pop();
  setMessage("");
  turns.push({ user: text, answers: [], chosen: 0 });
  answerLastTurn();
}

function stop() {
  stopper?.abort();
}

function retry() {
  if (!stopper && models.length) answerLastTurn();
  $("message").focus();
}

function startEdit() {
  setMessage(turns.at(-1).user, draft ?? $("message").value);
  $("message").focus();
}

/** Puts a text into the composer; with a draft to come back to, it is the last message, edited. */
function setMessage(text, before = null) {
  draft = before;
  $("message").value = text;
  fitMessage();
  drawControls();
}

function newChat() {
  stop();
  stopper = null;
  turns = [];
  setMessage("");
  drawConversation();
  save();
  announce("New chat");
  $("message").focus();
}

async function copy(answer) {
  try {
    await navigator.clipboard.writeText(answer.text);
    announce("Copied");
  } catch (error) {
    announce(error.message);
  }
}

// ---- Files

function exportConversation() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(conversation(), null, 1)], { type: "application/json" }));
  el("a", { href: url, download: "conversation.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function importConversation() {
  const file = $("file").files[0];
  if (!file) return;
  $("fileError").textContent = "";
  try {
    if (file.size > 2 ** 25) throw new Error(`Not a conversation of this page: ${bytes(file.size)}, at most 32 MiB.`);
    const value = JSON.parse(await file.text());
    stop();
    stopper = null;
    adopt(value);
    setMessage("");
    drawConversation();
    save();
    announce("Conversation imported");
  } catch (error) {
    $("fileError").textContent = error.message;
  }
  $("file").value = "";
}

// ---- Panel, keyboard, start

const narrow = matchMedia("(max-width: 60rem)");  // where the panel covers the page

function showPanel(open) {
  $("panel").hidden = !open;
  $("main").inert = open && narrow.matches;
  $("panelButton").setAttribute("aria-expanded", open);
}

function fitMessage() {
  const box = $("message");
  box.style.height = "";
  box.style.height = `${box.scrollHeight + 2}px`;
}

$("form").onsubmit = (event) => {
  event.preventDefault();
  if (stopper) stop(); else send();
};
const touch = matchMedia("(pointer: coarse)");  // without a Shift key Enter begins a line, and the button sends
$("message").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch.matches) return;
  event.preventDefault();
  send();
};
$("message").oninput = fitMessage;
document.onkeydown = (event) => {
  if (event.key !== "Escape" || $("keyDialog").open) return;
  if (!$("panel").hidden && narrow.matches) $("closePanel").click();
  else if (stopper) stop();
  else if (draft !== null) setMessage(draft);
};
$("cancelEdit").onclick = () => {
  setMessage(draft);
  $("message").focus();
};
$("newChat").onclick = newChat;
$("panelButton").onclick = () => {
  showPanel($("panel").hidden);
  if (narrow.matches) $("closePanel").focus();
};
$("closePanel").onclick = () => {
  showPanel(false);
  $("panelButton").focus();
};
narrow.onchange = () => showPanel(!narrow.matches);
$("model").onchange = () => {
  store("model", $("model").value);
  drawAbout();
  drawMemory();
};
$("panel").onchange = save;
$("resetSettings").onclick = () => {
  setSettings({});
  save();
};
$("export").onclick = exportConversation;
$("import").onclick = () => $("file").click();
$("file").onchange = importConversation;

buildSettings();
showPanel(!narrow.matches);
try {
  adopt(JSON.parse(stored("conversation")));
} catch { /* none yet */ }
drawConversation();
loadModels();
